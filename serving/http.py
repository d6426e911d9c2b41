"""HTTP around the contract: raw bodies in, bytes out, the GET routes, and one ASGI middleware around all of it."""

import logging
import os
import re
import time
from typing import Any

import msgspec
from _bentoml_sdk import Service  # what bentoml.service makes; its parameter service_class takes a subclass
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from configs.settings import ServiceSettings, Settings
from monitoring.logs import LOGGER, REQUEST_ID
from monitoring.metrics import Metrics
from serving.contract import now
from serving.errors import PROBLEM_TYPE, ServiceError
from serving.keys import KeyRing, required_keys
from serving.openapi import DOCS_PAGE
from serving.specs import JSON

log = logging.getLogger(LOGGER)

API_ROUTES = ("/predict", "/predict/batch", "/outcomes")
GET_ROUTES = ("/", "/docs", "/docs.json", "/health", "/metrics", "/model")
PROBE_ROUTES = ("/livez", "/readyz", "/healthz", "/schema.json")
KNOWN_ROUTES = frozenset((*API_ROUTES, *GET_ROUTES, *PROBE_ROUTES))
OPEN_ROUTES = frozenset(("/", "/docs", "/docs.json", "/health", *PROBE_ROUTES))
OTHER_ROUTE = "other"
REQUEST_ID_PATTERN = re.compile(rb"[A-Za-z0-9._-]{1,64}")


def content(body: bytes | ServiceError) -> bytes:
    """The bytes of a body.

    Raises
    ------
    ServiceError
        The error met while reading it.
    """
    if isinstance(body, ServiceError):
        raise body
    return body


def json_response(content: Any) -> Response:
    """A 200 with this content."""
    return Response(msgspec.json.encode(content), media_type=JSON)


def problem_response(error: ServiceError) -> Response:
    """The answer for an error."""
    return Response(error.to_bytes(REQUEST_ID.get() or ""), error.status, error.headers, media_type=PROBLEM_TYPE)


class Boundary:
    """Around every request: its id, its metrics, the limits of its body and of requests in work, and problem details.

    What BentoML or Starlette answer by themselves (404, 405, a failed probe) becomes a problem too.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, limits: ServiceSettings, keys: KeyRing | None = None) -> None:
        self.app = app
        self.metrics = metrics
        self.limits = limits
        self.keys = keys
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        headers = dict(scope["headers"])
        request_id = _request_id(headers.get(b"x-request-id"))
        token = REQUEST_ID.set(request_id)
        exchange = _Exchange(receive, send, request_id, self.limits.max_body_bytes, headers.get(b"content-length"))
        self.in_flight += 1
        try:
            if self.in_flight > self.limits.max_in_flight and scope["path"] in API_ROUTES:
                await exchange.send_problem(ServiceError(503, "too many requests are in work; try again", retry_after=1))
            else:
                if self.keys is not None and not is_open(scope["path"]):
                    self.keys.check(headers.get(b"authorization"), headers.get(b"x-api-key"))
                await self.app(scope, exchange.receive, exchange.send)
        except ServiceError as error:
            await exchange.send_problem(error)
        except Exception:
            log.exception("request failed", extra={"path": scope["path"]})
            if not exchange.status:
                await exchange.send_problem(ServiceError(500, "the request failed; the log names the cause under its id"))
        finally:
            self.in_flight -= 1
            route = scope["path"] if scope["path"] in KNOWN_ROUTES else OTHER_ROUTE
            self.metrics.request(route, exchange.status or 500, time.perf_counter() - start)
            REQUEST_ID.reset(token)


class _Exchange:
    """One request and its answer, passing through."""

    def __init__(self, receive: Receive, send: Send, request_id: str, limit: int, announced: bytes | None) -> None:
        self._receive, self._send = receive, send
        self._request_id = request_id
        self._limit, self._size = limit, 0
        self._announced = int(announced) if announced and announced.isdigit() else 0
        self._replaced = False
        self.status = 0

    async def receive(self) -> Message:
        """Pass a part of the body on, up to the limit."""
        if self._announced > self._limit:
            raise self._too_large()
        message = await self._receive()
        self._size += len(message.get("body", b""))
        if self._size > self._limit:
            raise self._too_large()
        return message

    async def send(self, message: Message) -> None:
        """Pass a part of the answer on, an error as problem details."""
        if message["type"] == "http.response.start":
            headers = message.get("headers", [])
            self.status = message["status"]
            if self.status >= 400 and (b"content-type", PROBLEM_TYPE.encode()) not in headers:
                self._replaced = True
                kept = [(name, value) for name, value in headers if name in (b"allow", b"retry-after")]
                await self.send_problem(ServiceError(self.status, _DETAILS.get(self.status, "the request failed")), *kept)
                return
            message["headers"] = [*headers, (b"x-request-id", self._request_id.encode())]
        elif self._replaced:
            return
        await self._send(message)

    async def send_problem(self, error: ServiceError, *headers: tuple[bytes, bytes]) -> None:
        """Answer with problem details."""
        self.status = error.status
        body = error.to_bytes(self._request_id)
        own = [
            (b"content-type", PROBLEM_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"x-request-id", self._request_id.encode()),
            *((name.lower().encode(), value.encode()) for name, value in error.headers.items()),
        ]
        await self._send({"type": "http.response.start", "status": self.status, "headers": [*headers, *own]})
        await self._send({"type": "http.response.body", "body": body})

    def _too_large(self) -> ServiceError:
        return ServiceError(413, f"the body is larger than {self._limit} bytes")


_DETAILS = {
    404: "there is no such route; GET /docs lists them",
    405: "the route does not take this method; the header Allow lists those it takes",
    503: "the service is not ready",
}


def is_open(path: str) -> bool:
    """Whether a path is answered without a key: probes and documents, which tell nothing of any applicant."""
    return path in OPEN_ROUTES or path.startswith("/static_content/")


def _request_id(given: bytes | None) -> str:
    if given and REQUEST_ID_PATTERN.fullmatch(given):
        return given.decode()
    return os.urandom(8).hex()


def get_app(metrics: Metrics) -> Starlette:
    """The GET routes that BentoML has not; the service sets `state.health`, `state.model` and `state.openapi` at start."""

    async def index(request: Request) -> Response:
        return RedirectResponse("/docs")

    async def docs(request: Request) -> Response:
        return HTMLResponse(DOCS_PAGE)

    async def docs_json(request: Request) -> Response:
        return json_response(request.app.state.openapi)

    async def health(request: Request) -> Response:
        return json_response({**request.app.state.health, "timestamp": now()})

    async def exposition(request: Request) -> Response:
        return Response(metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def model(request: Request) -> Response:
        return json_response(request.app.state.model)

    return Starlette(
        routes=[
            Route(path, endpoint) for path, endpoint in zip(GET_ROUTES, (index, docs, docs_json, health, exposition, model), strict=True)
        ]
    )


def lean_service(metrics: Metrics, settings: Settings) -> type[Service[Any]]:
    """A class of BentoML services within the boundary and without the middleware they can do without.

    BentoML's timeout makes a task and a timer for every request, and the timers live on for the whole timeout: at 2,000
    requests a second and 60 seconds they cost a third of the throughput and raise the p99 from 5 to 28 ms; the
    runner's deadline does its work. Its tracing builds the URL of every request even when nothing is traced.
    """
    unused = {"TimeoutMiddleware"} if settings.service.tracing else {"TimeoutMiddleware", "OpenTelemetryMiddleware"}

    class LeanService(Service[Any]):
        """A BentoML service whose app is made of less."""

        def to_asgi(self, is_main: bool = True) -> ASGIApp:
            """The app that the worker serves."""
            app: Starlette = super().to_asgi(is_main)
            app.user_middleware = [item for item in app.user_middleware if getattr(item.cls, "__name__", "") not in unused]
            return Boundary(app, metrics, settings.service, required_keys(settings))

    return LeanService
