"""The ASGI app around everything else: the steps that each request takes, in order, before its endpoint is called."""

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
from serving.http.exchange import GONE, PRINCIPAL, Exchange, Principal, announced
from serving.http.routes import API_ROUTES, KNOWN_ROUTES, body_limit, is_open, takes_place
from serving.keys import KeyRing
from serving.uvicorn.accept import accept_many
from serving.uvicorn.door import BODY_BYTES, Door, Gate, whole_answer
from serving.uvicorn.guard import guard

logger = logging.getLogger(LOGGER)

OTHER_ROUTE = "other"
ADMITTED = "credit_scoring.admitted"  # in the scope of a request that has its place: the bytes that are counted for it
Endpoint = Callable[[Request], Awaitable[Response]]


class Boundary:
    """Around every request: its id, its metrics, its place in work, its key, the limit of its body, and problem details.

    What BentoML or Starlette answer by themselves (404, 405, a failed probe) becomes a problem too. It is also the gate that
    connections ask (serving.uvicorn.door.Gate), which is why it has more methods than steps.

    Parameters
    ----------
    app : the app within.
    keys : None where authentication is switched off.
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
        self.steps = (self._admit, self._authenticate, self._limit)  # each lets the exchange pass or raises a ServiceError
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
        if BODY_BYTES not in scope:
            self._warn()
        exchange = Exchange(scope, receive, send, body_limit(scope["path"], self.limits))
        token, gone = REQUEST_ID.set(exchange.request_id), GONE.set(exchange.gone)
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
                await exchange.send_problem(ServiceError(500, "the request failed; the log names the cause under its id"))
        finally:
            if ADMITTED in scope:
                self.in_flight -= 1
                self.bytes_in_work -= scope[ADMITTED]
            self._note(scope["method"], scope["path"], exchange.status or 500, time.perf_counter() - start)
            GONE.reset(gone)
            REQUEST_ID.reset(token)

    def _admit(self, exchange: Exchange) -> None:
        """Give the request its place, unless the connection did."""
        if ADMITTED not in exchange.scope and not self.admit(exchange.scope):
            raise _no_room()

    def _authenticate(self, exchange: Exchange) -> None:
        """Know who sends the request. A key that was revoked while the body came is refused."""
        exchange.scope[PRINCIPAL] = self._principal(exchange.scope, exchange.headers)

    def _limit(self, exchange: Exchange) -> None:
        """Refuse a body that is too large before it is read."""
        if takes_place(exchange.scope) and max(announced(exchange.headers), exchange.scope.get(BODY_BYTES, 0)) > exchange.limit:
            raise exchange.too_large()

    async def _dispatch(self, exchange: Exchange) -> None:
        """Call the endpoint of a direct route, else the app."""
        scope = exchange.scope
        path = scope["path"]
        scope[BODY_LIMIT] = exchange.limit
        if path in self.direct and scope["method"] == "POST":
            response = await self.direct[path](Request(scope, exchange.receive))
            await response(scope, exchange.receive, exchange.send)
        elif (route := path.rstrip("/")) != path and route in KNOWN_ROUTES:  # a redirect would lose the prefix that a proxy took off
            raise ServiceError(404, f"there is no route {route}/; the route is {route}")
        else:
            await self.app(scope, exchange.receive, exchange.send)

    def _principal(self, scope: Scope, headers: Mapping[bytes, bytes]) -> Principal:
        """Who sends a request; raises a ServiceError where nobody may without a key."""
        if self.keys is None or not needs_key(self.keys, scope.get("server")) or is_open(scope["path"]):
            return Principal(None)
        return Principal(self.keys.check(headers.get(b"authorization"), headers.get(b"x-api-key")))

    def _warn(self) -> None:
        """Say, once, that requests come from a server that guards nothing."""
        if not self._warned:
            self._warned = True
            logger.warning(
                "this server is not the uvicorn of `bentoml serve`: its connections have no limits, no clocks and no early refusal"
            )

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
        """How large a body has to be there before the app is called, 0 where it answers without one; see Gate."""
        headers, most = dict(scope["headers"]), body_limit(scope["path"], self.limits)
        if not takes_place(scope) or announced(headers) > most:
            return 0
        try:
            self._principal(scope, headers)
        except ServiceError:
            return 0
        return most

    def admit(self, scope: Scope) -> bool:
        """Take a request into work, if there is room; only those to API routes take any, until they are answered.

        The last eighth of the bytes in work is for bodies as small as a single applicant's.
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
        """The whole answer to a request for which there is no room, None where there is; see Gate."""
        if self.in_flight < self.limits.max_in_flight or method != b"POST":
            return None
        path = url.partition(b"?")[0].decode("ascii", "replace")
        if path not in API_ROUTES:
            return None
        self._note("POST", path, 503, 0.0)
        return _REFUSAL

    def ended(self, status: int) -> None:
        """Count the answer to a request that never became one; see Gate."""
        self._note("", "", status, 0.0)

    def _note(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count an answered request, and log it where the access log is on."""
        self.metrics.request(path if path in KNOWN_ROUTES else OTHER_ROUTE, status, seconds)
        if self.limits.access_log:
            logger.info("request", extra={"method": method, "path": path, "status": status, "seconds": seconds})


def _no_room() -> ServiceError:
    return ServiceError(503, "too many requests are in work; try again", retry_after=1)


_REFUSAL = whole_answer(_no_room())  # made once: above capacity most of the time goes into refusing
