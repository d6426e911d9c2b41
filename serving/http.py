"""HTTP around the contract: raw bodies in, bytes out, the GET routes, and one ASGI middleware around all of it."""

import asyncio
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, cast

import msgspec
from _bentoml_sdk import Service  # what bentoml.service makes; its parameter service_class takes a subclass
from bentoml._internal.configuration.containers import BentoMLContainer
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from configs.settings import ServiceSettings, Settings
from monitoring.metrics import Metrics
from monitoring.service_log import LOGGER, REQUEST_ID
from serving.body import BODY_LIMIT, JSON
from serving.connection import guard
from serving.contract import now
from serving.cors import cross_origin
from serving.door import BODY_BYTES, Door, Gate, whole_answer
from serving.errors import PROBLEM_TYPE, ServiceError
from serving.exposure import guard_servers, needs_key
from serving.keys import KeyRing
from serving.listen import accept_many
from serving.openapi import DOCS_PAGE
from serving.startup import check_worker

log = logging.getLogger(LOGGER)
_GONE: ContextVar[Callable[[], bool]] = ContextVar("client_gone", default=lambda: False)

SINGLE_ROUTE = "/predict"  # takes one applicant
API_ROUTES = (SINGLE_ROUTE, "/predict/batch", "/outcomes")
GET_ROUTES = ("/", "/docs", "/docs.json", "/health", "/metrics", "/model")
PROBE_ROUTES = ("/livez", "/readyz", "/healthz", "/schema.json")
KNOWN_ROUTES = frozenset((*API_ROUTES, *GET_ROUTES, *PROBE_ROUTES))
OPEN_ROUTES = frozenset(("/", "/docs", "/docs.json", "/health", *PROBE_ROUTES))
OTHER_ROUTE = "other"
ADMITTED = "credit_scoring.admitted"  # in the scope of a request that has its place: the bytes that are counted for it
Endpoint = Callable[[Request], Awaitable[Response]]
REQUEST_ID_PATTERN = re.compile(rb"[A-Za-z0-9._-]{1,64}")


def json_response(content: Any) -> Response:
    """A 200 with this content."""
    return Response(msgspec.json.encode(content), media_type=JSON)


class Boundary:
    """Around every request: its id, its metrics, the limits of its body and of requests in work, and problem details.

    What BentoML or Starlette answer by themselves (404, 405, a failed probe) becomes a problem too.

    Parameters
    ----------
    app : the app within.
    direct : endpoints of POST routes, by path, that are called without the app's middleware and router.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        limits: ServiceSettings,
        keys: KeyRing | None = None,
        direct: Mapping[str, Endpoint] | None = None,
    ) -> None:
        self.app = app
        self.metrics = metrics
        self.limits = limits
        self.keys = keys
        self.direct = direct or {}
        self.in_flight = 0
        self.bytes_in_work = 0
        self._warned = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":  # the server listens after it
                guard_servers(asyncio.get_running_loop(), self.keys)
                accept_many(asyncio.get_running_loop())
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        path = scope["path"]
        if BODY_BYTES not in scope:
            self._warn()
        headers = dict(scope["headers"])
        request_id = _request_id(headers.get(b"x-request-id"))
        token = REQUEST_ID.set(request_id)
        exchange = _Exchange(receive, send, request_id, self._most(path))
        gone = _GONE.set(exchange.gone)
        try:
            self._let_in(scope, headers, exchange)
            await self._dispatch(scope, exchange)
        except ServiceError as error:
            if not exchange.status:
                await exchange.send_problem(error)
        except Exception:
            log.exception("request failed", extra={"path": path})
            if not exchange.status:
                await exchange.send_problem(ServiceError(500, "the request failed; the log names the cause under its id"))
        finally:
            if ADMITTED in scope:
                self.in_flight -= 1
                self.bytes_in_work -= scope[ADMITTED]
            self._note(scope["method"], path, exchange.status or 500, time.perf_counter() - start)
            _GONE.reset(gone)
            REQUEST_ID.reset(token)

    def _let_in(self, scope: Scope, headers: Mapping[bytes, bytes], exchange: "_Exchange") -> None:
        """Give the request its place.

        Raises
        ------
        ServiceError
            503 where there is none, 401 without a key, 413 for too large a body.
        """
        if ADMITTED not in scope and not self.admit(scope):
            raise _no_room()
        self._check_key(scope, headers)
        if _takes_place(scope) and max(_announced(headers), scope.get(BODY_BYTES, 0)) > exchange.limit:
            raise exchange.too_large()

    async def _dispatch(self, scope: Scope, exchange: "_Exchange") -> None:
        """Call the endpoint of a direct route, else the app."""
        path = scope["path"]
        scope[BODY_LIMIT] = exchange.limit
        if path in self.direct and scope["method"] == "POST":
            response = await self.direct[path](Request(scope, exchange.receive))
            await response(scope, exchange.receive, exchange.send)
        elif (route := path.rstrip("/")) != path and route in KNOWN_ROUTES:  # a redirect would lose the prefix that a proxy took off
            raise ServiceError(404, f"there is no route {route}/; the route is {route}")
        else:
            await self.app(scope, exchange.receive, exchange.send)

    def _check_key(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        if self.keys is not None and needs_key(self.keys, scope.get("server")) and not is_open(scope["path"]):
            self.keys.check(headers.get(b"authorization"), headers.get(b"x-api-key"))

    def _warn(self) -> None:
        """Say, once, that requests come from a server that guards nothing."""
        if not self._warned:
            self._warned = True
            log.warning("this server is not the uvicorn of `bentoml serve`: its connections have no limits, no clocks and no early refusal")

    def guard_connections(self, gate: Gate | None = None, now: Callable[[], float] = time.monotonic) -> Door | None:
        """Let the connections of uvicorn servers that start after this keep the limits; None where they cannot.

        Parameters
        ----------
        gate : the boundary with what is around it.
        """
        door = guard(gate or self, now)
        self.metrics.guarded(lambda: door is not None and bool(door.connections))
        return door

    def expects(self, scope: Scope) -> int:
        """How large a body has to be there before the app is called, 0 where it answers without one; see serving.door.Gate."""
        path, headers = scope["path"], dict(scope["headers"])
        if not _takes_place(scope) or _announced(headers) > self._most(path):
            return 0
        try:
            self._check_key(scope, headers)
        except ServiceError:
            return 0
        return self._most(path)

    def admit(self, scope: Scope) -> bool:
        """Take a request into work, if there is room; only those to API routes take any, until they are answered.

        The last eighth of the bytes in work is for bodies as small as a single applicant's.
        """
        if not _takes_place(scope):
            return True
        size = scope.get(BODY_BYTES, 0)
        most = self.limits.max_bytes_in_work * (8 if size <= self.limits.max_single_bytes else 7) // 8
        if self.in_flight >= self.limits.max_in_flight or self.bytes_in_work + size > most:
            return False
        self.in_flight += 1
        self.bytes_in_work += size
        scope[ADMITTED] = size
        return True

    def refusal(self, method: bytes, url: bytes) -> bytes | None:
        """The whole answer to a request for which there is no room, None where there is; see serving.door.Gate."""
        if self.in_flight < self.limits.max_in_flight or method != b"POST":
            return None
        path = url.partition(b"?")[0].decode("ascii", "replace")
        if path not in API_ROUTES:
            return None
        self._note("POST", path, 503, 0.0)
        return _REFUSAL

    def ended(self, status: int) -> None:
        """Count the answer to a request that never became one; see serving.door.Gate."""
        self._note("", "", status, 0.0)

    def _most(self, path: str) -> int:
        """Most bytes of a body to this path."""
        return self.limits.max_single_bytes if path == SINGLE_ROUTE else self.limits.max_body_bytes

    def _note(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count an answered request, and log it where the access log is on."""
        self.metrics.request(path if path in KNOWN_ROUTES else OTHER_ROUTE, status, seconds)
        if self.limits.access_log:
            log.info("request", extra={"method": method, "path": path, "status": status, "seconds": seconds})


class _Exchange:
    """One request and its answer, passing through."""

    def __init__(self, receive: Receive, send: Send, request_id: str, limit: int) -> None:
        self._receive, self._send = receive, send
        self._request_id = request_id
        self.limit, self._size = limit, 0
        self._replaced = False
        self.status = 0

    async def receive(self) -> Message:
        """Pass a part of the body on, up to the limit."""
        message = await self._receive()
        self._size += len(message.get("body", b""))
        if self._size > self.limit:
            raise self.too_large()
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

    def gone(self) -> bool:
        """Whether the client is known to have left.

        ASGI tells it by a message that only a task of its own could wait for beside the work; uvicorn's `receive` belongs to
        an object that knows it at once. With another server nobody is known to have left.
        """
        return bool(getattr(getattr(self._receive, "__self__", None), "disconnected", False))

    def too_large(self) -> ServiceError:
        """The answer to a body beyond the limit."""
        return ServiceError(413, f"the body is larger than {self.limit} bytes")


def _no_room() -> ServiceError:
    return ServiceError(503, "too many requests are in work; try again", retry_after=1)


_REFUSAL = whole_answer(_no_room())  # made once: above capacity most of the time goes into refusing
_DETAILS = {
    404: "there is no such route; GET /docs lists them",
    405: "the route does not take this method; the header Allow lists those it takes",
    503: "the service is not ready",
}


def is_open(path: str) -> bool:
    """Whether a path is answered without a key: probes and documents, which tell nothing of any applicant."""
    return path in OPEN_ROUTES or path.startswith("/static_content/")


def _takes_place(scope: Scope) -> bool:
    return scope["path"] in API_ROUTES and scope["method"] == "POST"


def _announced(headers: Mapping[bytes, bytes]) -> int:
    """The length of the body as its head tells it, 0 where that tells nothing."""
    length = headers.get(b"content-length", b"")
    return int(length) if length.isdigit() else 0


def _request_id(given: bytes | None) -> str:
    if given and REQUEST_ID_PATTERN.fullmatch(given):
        return given.decode()
    return os.urandom(8).hex()


def get_app(metrics: Metrics) -> Starlette:
    """The GET routes that BentoML has not; the service sets `state.status`, `state.health`, `state.model` and `state.openapi` at start."""

    async def index(request: Request) -> Response:
        return RedirectResponse("docs")  # relative, so that a prefix that a proxy took off is kept

    async def docs(request: Request) -> Response:
        return HTMLResponse(DOCS_PAGE)

    async def docs_json(request: Request) -> Response:
        return json_response(request.app.state.openapi)

    async def health(request: Request) -> Response:
        return json_response({"status": request.app.state.status(), **request.app.state.health, "timestamp": now()})

    async def exposition(request: Request) -> Response:
        return Response(metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def model(request: Request) -> Response:
        return json_response(request.app.state.model)

    return Starlette(
        routes=[
            Route(path, endpoint) for path, endpoint in zip(GET_ROUTES, (index, docs, docs_json, health, exposition, model), strict=True)
        ]
    )


def client_gone() -> Callable[[], bool]:
    """What tells whether the client of the present request has left."""
    return _GONE.get()


def lean_service(metrics: Metrics, keys: KeyRing | None, settings: Settings) -> type[Service[Any]]:
    """A class of BentoML services within the boundary, with the shortest way from there to an API method.

    What BentoML has between the two costs as much as parsing, scoring and answering together: a timeout with a task and
    a timer for each request (the runner's deadline does its work), a span whose URL is built even when nothing is traced, a
    request context, seven routes tried in turn, checks of the method's signature, headers by dependency injection. With
    `service.tracing` its middleware is kept.
    """

    class LeanService(Service[Any]):
        """A BentoML service whose app is made of less."""

        def to_asgi(self, is_main: bool = True) -> ASGIApp:
            """The app that the worker serves."""
            from _bentoml_impl.server.app import ServiceAppFactory

            check_worker(keys)

            class Factory(ServiceAppFactory):
                """BentoML's app, but an API method takes the body and gives the response."""

                @property
                def middlewares(self) -> list[Middleware]:
                    return [item for item in super().middlewares if getattr(item.cls, "__name__", "") != "TimeoutMiddleware"]

                async def api_endpoint_wrapper(self, name: str, request: Request) -> Response:
                    api = self.service.apis[name]
                    try:
                        body = await api.input_spec.from_http_request(request, None)
                        # as an attribute of the instance it would be wrapped anew, with a look at its signature, for every request
                        response: Response = await api.func(self._service_instance, body)
                    except ServiceError as error:  # the router would make a 500 of it
                        response = Response(error.to_bytes(REQUEST_ID.get()), error.status, error.headers, media_type=PROBLEM_TYPE)
                    return response

            self.inject_config()
            app = Factory(self, is_main=is_main, enable_access_control=False)()  # which is around the boundary
            routes = {} if settings.service.tracing else {route.path: route.endpoint for route in app.routes if route.path in API_ROUTES}
            boundary = Boundary(app, metrics, settings.service, keys, routes)
            whole = cross_origin(boundary, BentoMLContainer.http.cors.get())
            boundary.guard_connections(cast(Any, whole))
            return whole

    return LeanService
