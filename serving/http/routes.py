"""The list of routes, what each requires of a request, and the GET routes that BentoML lacks."""

import re
from collections.abc import Awaitable, Callable

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Scope

from configs.settings import ServiceSettings
from monitoring.metrics import Metrics
from monitoring.service_log import REQUEST_ID
from serving.contract.ids import now
from serving.errors import PROBLEM_TYPE, ServiceError
from serving.http.body import JSON
from serving.http.pages import DOCS_PAGE
from serving.identity import principal

SINGLE_ROUTES: dict[str, principal.Scope] = {"/predict": "predict", "/explain": "explain", "/simulate": "read"}  # take one applicant
API_ROUTES: dict[str, principal.Scope] = {**SINGLE_ROUTES, "/predict/batch": "predict", "/outcomes": "outcomes"}
GET_ROUTES: dict[str, principal.Scope | None] = {  # each has its endpoint in get_app
    "/": None,
    "/docs": None,
    "/docs.json": None,
    "/health": None,
    "/metrics": "metrics",
    "/model": "read",
    "/schema": "read",
}
READY_ROUTE = "/readyz"
PROBE_ROUTES: dict[str, principal.Scope | None] = dict.fromkeys(("/livez", READY_ROUTE, "/healthz", "/schema.json"))
RECORD_ROUTES: dict[str, principal.Scope | None] = {  # answered by serving.record_desk.RecordDesk
    "/decisions": "read",
    "/decisions/{prediction_id}": "read",
    "/decisions/{prediction_id}/reasons": "explain",
    "/decisions/{prediction_id}/replay": "read",
    "/clients/{client_id}/decisions": "read",
}
ROUTE_SCOPES: dict[str, principal.Scope | None] = {**API_ROUTES, **GET_ROUTES, **PROBE_ROUTES, **RECORD_ROUTES}  # None: open to everybody
_PATTERNS = [
    (re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(route))), route) for route in ROUTE_SCOPES if "{" in route
]  # fmt: skip


def route_of(path: str) -> str | None:
    """The declared route of a path; None if there is none."""
    if path in ROUTE_SCOPES:
        return path
    return next((route for pattern, route in _PATTERNS if pattern.fullmatch(path)), None)


def is_open(path: str) -> bool:
    """Whether a path needs no key. Such paths are probes and documentation, and reveal nothing about applicants."""
    route = route_of(path)
    return (route is not None and ROUTE_SCOPES[route] is None) or path.startswith("/static_content/")


def required_scope(path: str) -> principal.Scope | None:
    """The scope that a path requires of the sender; None if it is open, or there is no such route."""
    route = route_of(path)
    return ROUTE_SCOPES[route] if route else None


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


def problem_response(error: ServiceError) -> Response:
    """The answer that tells of an error."""
    return Response(error.to_bytes(REQUEST_ID.get()), error.status, error.headers, media_type=PROBLEM_TYPE)


async def schema(request: Request) -> Response:
    """The raw fields, described for a form."""
    try:
        return json_response(request.app.state.fields.answer(request.query_params.multi_items()))
    except ServiceError as error:
        return problem_response(error)


def get_app(metrics: Metrics) -> Starlette:
    """The app with the routes that BentoML lacks; `serving.http.publishing` gives it their answers."""

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

    def on_record(route: str) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            try:
                return json_response(await request.app.state.record.answer(route, request.path_params, request.query_params.multi_items()))
            except ServiceError as error:
                return problem_response(error)

        return endpoint

    endpoints = {
        "/": index,
        "/docs": docs,
        "/docs.json": docs_json,
        "/health": health,
        "/metrics": exposition,
        "/model": model,
        "/schema": schema,
    }
    return Starlette(
        routes=[
            *(Route(path, endpoints[path]) for path in GET_ROUTES),
            *(Route(path, on_record(path), methods=["POST" if path.endswith("/replay") else "GET"]) for path in RECORD_ROUTES),
        ]
    )
