"""The list of routes, what each requires of a request, and the GET routes that BentoML lacks."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Scope

from configs.settings import ServiceSettings
from monitoring.metrics import Metrics
from serving.bundle import Bundle
from serving.contract.ids import now
from serving.http.body import JSON
from serving.openapi import DOCS_PAGE, openapi

if TYPE_CHECKING:
    from serving.recording import Status  # imports the database libraries, which the parent process does not need

SINGLE_ROUTES = ("/predict", "/explain")  # take one applicant
API_ROUTES = (*SINGLE_ROUTES, "/predict/batch", "/outcomes")
GET_ROUTES = ("/", "/docs", "/docs.json", "/health", "/metrics", "/model")  # each has its endpoint in get_app
PROBE_ROUTES = ("/livez", "/readyz", "/healthz", "/schema.json")
KNOWN_ROUTES = frozenset((*API_ROUTES, *GET_ROUTES, *PROBE_ROUTES))
OPEN_ROUTES = frozenset(("/", "/docs", "/docs.json", "/health", *PROBE_ROUTES))


def is_open(path: str) -> bool:
    """Whether a path needs no key. Such paths are probes and documentation, and reveal nothing about applicants."""
    return path in OPEN_ROUTES or path.startswith("/static_content/")


def takes_place(scope: Scope) -> bool:
    """Whether a request counts against the limit of requests in work."""
    return scope["path"] in API_ROUTES and scope["method"] == "POST"


def body_limit(path: str, limits: ServiceSettings) -> int:
    """The most bytes of a request body for this path."""
    return limits.max_single_bytes if path in SINGLE_ROUTES else limits.max_body_bytes


def json_response(content: object) -> Response:
    """A 200 with this content."""
    return Response(msgspec.json.encode(content), media_type=JSON)


def one_response(answer: object) -> Response:
    """A 200 with the answer for one row; raises it if it is an exception."""
    if isinstance(answer, Exception):
        raise answer
    return json_response(answer)


def publish(app: Starlette, name: str, bundle: Bundle, status: "Callable[[], Status]", max_rows: int) -> None:
    """Give the GET routes what they answer about a model. A status is asked for whenever `/health` is."""
    described = {"model_name": name, "model_version": bundle.version, "trained_on": bundle.trained_on}
    app.state.status = status
    app.state.health = {"model_loaded": True, **described}
    app.state.model = {"name": name, **bundle.describe()}
    app.state.openapi = openapi(bundle.features, max_rows, bundle.version)


def get_app(metrics: Metrics) -> Starlette:
    """The app with the GET routes; `publish` gives it their answers."""

    async def index(request: Request) -> Response:
        return RedirectResponse("docs")  # relative, to keep a prefix that a proxy removed

    async def docs(request: Request) -> Response:
        return HTMLResponse(DOCS_PAGE)

    async def docs_json(request: Request) -> Response:
        return json_response(request.app.state.openapi)

    async def health(request: Request) -> Response:
        return json_response({**request.app.state.status()._asdict(), **request.app.state.health, "timestamp": now()})

    async def exposition(request: Request) -> Response:
        return Response(metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def model(request: Request) -> Response:
        return json_response(request.app.state.model)

    endpoints = {"/": index, "/docs": docs, "/docs.json": docs_json, "/health": health, "/metrics": exposition, "/model": model}
    return Starlette(routes=[Route(path, endpoints[path]) for path in GET_ROUTES])
