"""The outermost ASGI app: the steps that each request takes, in order, before its endpoint is called."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from configs.settings import ServiceSettings
from monitoring.metrics import Metrics
from monitoring.service_log import LOGGER, REQUEST_ID
from serving.errors import ServiceError
from serving.exposure import guard_servers, needs_key
from serving.http.body import BODY_LIMIT
from serving.http.exchange import GONE, IDEMPOTENCY_KEY, Exchange, announced
from serving.http.routes import API_ROUTES, READY_ROUTE, ROUTE_SCOPES, body_limit, is_open, required_scope, route_of, takes_place
from serving.identity.key_ring import KeyRing
from serving.identity.principal import LOOPBACK, OPEN, SENDER, Principal
from serving.uvicorn.accept import accept_many
from serving.uvicorn.door import BODY_BYTES, Door, Gate, whole_answer
from serving.uvicorn.drain import drain_first
from serving.uvicorn.guard import guard

logger = logging.getLogger(LOGGER)

OTHER_ROUTE = "other"
ADMITTED = "credit_scoring.admitted"  # in the scope of an admitted request: the bytes that count as in work for it
Endpoint = Callable[[Request], Awaitable[Response]]


class Boundary:
    """Gives every request an id, admits it, checks its key and the size of its body, counts it, and answers errors as problem details.

    Errors that BentoML or Starlette answer themselves (404, 405, a failed probe) become problem details too. The class has more than
    12 methods because it is also the gate that decides for the connections (serving.uvicorn.door.Gate).

    Parameters
    ----------
    app : the app inside the boundary.
    keys : None if authentication is switched off.
    direct : endpoints of POST routes, by path, to call without the app's middleware and router.
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
        self.door: Door | None = None
        self.steps = (self._admit, self._identify, self._authorise, self._limit)  # each raises a ServiceError to refuse the request
        self._warned = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                self._prepare(asyncio.get_running_loop())
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        if BODY_BYTES not in scope:
            self._warn()
        exchange = Exchange(scope, receive, send, body_limit(scope["path"], self.limits))
        token, gone, sender = REQUEST_ID.set(exchange.request_id), GONE.set(exchange.gone), SENDER.set(OPEN)
        try:
            for step in self.steps:
                step(exchange)
            await self._dispatch(exchange)
        except ServiceError as error:
            if not exchange.status:
                await exchange.send_problem(error)
        except Exception:
            logger.exception("request failed", extra={"path": scope["path"]})
            if not exchange.status:
                await exchange.send_problem(ServiceError(500, "the request failed; the service's log has the cause under this request_id"))
        finally:
            if ADMITTED in scope:
                self.in_flight -= 1
                self.bytes_in_work -= scope[ADMITTED]
            self._note(scope["method"], scope["path"], exchange.status or 500, time.perf_counter() - start)
            SENDER.reset(sender)
            GONE.reset(gone)
            REQUEST_ID.reset(token)

    def _prepare(self, loop: asyncio.AbstractEventLoop) -> None:
        """Change how the server listens and how it ends, before it listens."""
        guard_servers(loop, self.keys)
        stop_listening = accept_many(loop)
        if self.door is not None:
            drain_first(loop, self.door, self.limits.drain_seconds, stop_listening)

    def _admit(self, exchange: Exchange) -> None:
        """Give the request its place, unless the connection did."""
        if ADMITTED not in exchange.scope and not self.admit(exchange.scope):
            raise _no_room()

    def _identify(self, exchange: Exchange) -> None:
        """Find out who sent the request. This refuses a key that was revoked while the body arrived."""
        exchange.sender = self._sender(exchange.scope, exchange.headers)
        SENDER.set(exchange.sender)

    def _authorise(self, exchange: Exchange) -> None:
        """Refuse a sender without the scope of the route."""
        _check_scope(exchange.sender, exchange.scope["path"])

    def _limit(self, exchange: Exchange) -> None:
        """Refuse a body that is too large before it is read."""
        if takes_place(exchange.scope) and max(announced(exchange.headers), exchange.scope.get(BODY_BYTES, 0)) > exchange.limit:
            raise exchange.too_large()

    async def _dispatch(self, exchange: Exchange) -> None:
        """Call the endpoint of a direct route, else the app."""
        scope = exchange.scope
        path = scope["path"]
        scope[BODY_LIMIT] = exchange.limit
        if b"idempotency-key" in exchange.headers:
            IDEMPOTENCY_KEY.set(exchange.headers[b"idempotency-key"])  # this task serves no other request
        if path in self.direct and scope["method"] == "POST":
            response = await self.direct[path](Request(scope, exchange.receive))
            await response(scope, exchange.receive, exchange.send)
        elif path == READY_ROUTE and self.door is not None and self.door.draining:
            raise ServiceError(503, "the service is stopping")
        elif (route := path.rstrip("/")) != path and route in ROUTE_SCOPES:  # a redirect would lose the prefix that a proxy removed
            raise ServiceError(404, f"there is no route {route}/; the route is {route}")
        else:
            await self.app(scope, exchange.receive, exchange.send)

    def _sender(self, scope: Scope, headers: Mapping[bytes, bytes]) -> Principal:
        """The sender of a request; raises a ServiceError if the request needs a key and has no valid one."""
        if self.keys is None:
            return OPEN
        if not needs_key(self.keys, scope.get("server")):
            return LOOPBACK
        if is_open(scope["path"]):
            return OPEN
        return self.keys.check(headers.get(b"authorization"), headers.get(b"x-api-key"))

    def _warn(self) -> None:
        """Warn, once, that the server does not limit its connections."""
        if not self._warned:
            self._warned = True
            logger.warning(
                "this server is not the uvicorn of `bentoml serve`, so its connections have no size limits, timeouts or early refusal"
            )

    def guard_connections(self, gate: Gate | None = None, now: Callable[[], float] = time.monotonic) -> Door | None:
        """Apply the limits to the connections of uvicorn servers that start after this call; None if that is not possible.

        Parameters
        ----------
        gate : the boundary together with the apps around it; by default the boundary.
        """
        door = self.door = guard(gate or self, now)
        self.metrics.guarded(lambda: door is not None and bool(door.connections))
        return door

    def expects(self, scope: Scope) -> int:
        """The largest body to wait for before calling the app; 0 if the app will answer without a body. See Gate."""
        headers, most = dict(scope["headers"]), body_limit(scope["path"], self.limits)
        if not takes_place(scope) or announced(headers) > most:
            return 0
        try:
            _check_scope(self._sender(scope, headers), scope["path"])
        except ServiceError:
            return 0
        return most

    def admit(self, scope: Scope) -> bool:
        """Admit a request if there is room. A request to an API route takes room until it is answered; others take none.

        The last eighth of `max_bytes_in_work` is reserved for bodies of at most `max_single_bytes`.
        """
        if not takes_place(scope):
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
        """The complete answer that refuses a request for lack of room; None if there is room. See Gate."""
        if self.in_flight < self.limits.max_in_flight or method != b"POST":
            return None
        path = url.partition(b"?")[0].decode("ascii", "replace")
        if path not in API_ROUTES:
            return None
        self._note("POST", path, 503, 0.0)
        return _REFUSAL

    def ended(self, status: int) -> None:
        """Count an answer that a connection sent by itself. See Gate."""
        self._note("", "", status, 0.0)

    def _note(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count an answered request, and log it if the access log is on."""
        self.metrics.request(route_of(path) or OTHER_ROUTE, status, seconds)
        if self.limits.access_log:
            logger.info("request", extra={"method": method, "path": path, "status": status, "seconds": seconds})


def _check_scope(sender: Principal, path: str) -> None:
    """Raise a ServiceError 403 if the sender lacks the scope of the route."""
    scope = required_scope(path)
    if scope is not None and scope not in sender.scopes:
        raise ServiceError(403, f"the key {sender.id} lacks the scope {scope}; it has {', '.join(sorted(sender.scopes)) or 'none'}")


def _no_room() -> ServiceError:
    return ServiceError(503, "too many requests are in work; try again", retry_after=1)


_REFUSAL = whole_answer(_no_room())  # encoded once: under overload, most of the time goes into refusals
