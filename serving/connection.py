"""One connection, from accept to close: what its client may send, by when it has to come, and how its answers leave.

A client owes a head, then a body, then the reading of its answer. Each has a limit and a clock here, before there is a task, a call of the
app or a place in work for it. This is uvicorn's protocol with its callbacks overridden, since nothing above it sees a request before its
head is complete, and nothing above it can end a connection. `HOOKS` names all that is overridden; `guard` says so where uvicorn has changed.
"""

import logging
import math
import time
from collections.abc import Callable
from typing import Any

import httptools

from monitoring.service_log import LOGGER
from serving.door import BODY_BYTES, Door, Gate, whole_answer
from serving.errors import ServiceError
from serving.listen import Whole

log = logging.getLogger(LOGGER)
_UVICORN: Any = object  # its protocol is imported where there are connections, of no use to the parent process

MOST_HEAD = 65_536  # bytes of a request that are not of its body
MOST_FIELDS = 100  # header fields of a request, and trailer fields
MOST_URL = 8_192  # bytes; RFC 9110, section 4.1, asks for 8,000 at least
READ_ON = 4  # times the largest body is read and dropped after its refusal: many clients read the answer only once they have sent all
MOST_IN_PIPELINE = 100  # requests that wait behind the one in work
HOOKS = (
    "connection_made",
    "connection_lost",
    "data_received",
    "on_message_begin",
    "on_header",
    "on_headers_complete",
    "on_body",
    "on_message_complete",
    "on_response_complete",
    "pause_writing",
    "resume_writing",
    "_start_asgi_task",
)


class _Connection(_UVICORN):  # type: ignore[misc]
    """What makes a protocol of uvicorn keep its client to the limits."""

    door: Door
    parser: Any
    transport: Any
    flow: Any
    pipeline: Any
    server_state: Any
    cycle: Any
    scope: Any
    headers: Any
    due = math.inf  # when the client is late, while nothing of its is in work
    room = MOST_HEAD  # bytes that may come and are of no body
    surplus = 0  # bytes of a body that came after its answer
    long = False  # whether the bytes at hand may be a head that is too long
    in_message = in_body = False
    timed = 0  # whose clock was started: 1 the head's, 2 the body's
    trailers = 0
    coding: bytes | None = None  # the value of Transfer-Encoding
    at_work: Any = None  # the cycle that the app was called with
    held: Any = None  # the cycle whose body is awaited, and the app to call then
    wanted: int | None = None  # bytes of its body; None until asked
    refusal: bytes | None = None
    last: bytes | None = None  # the answer after which the connection ends
    url = b""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.due = self.door.now() + self.door.limits.head_seconds
        self.door.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.door.leave(self)
        self.held = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.last is not None:
            return
        self.room -= len(data)
        self.long = len(data) > MOST_HEAD
        try:
            self._feed(data)
            if self.room < 0:
                raise _too_long(self.url if not self.headers else b"")
            if self.in_message:
                self._wait()
        except (httptools.HttpParserError, ServiceError) as error:
            cause = error if isinstance(error, ServiceError) else error.__context__
            self.end(cause if isinstance(cause, ServiceError) else ServiceError(400, f"the request is not valid HTTP: {error}"))
            return
        if self.held is not None or self.pipeline or self in self.door.unfinished:
            self._count()
            self.door.make_room()

    def _wait(self) -> None:
        """Start the clock of what the client has begun to send, and let it go on."""
        self.room = min(self.room, MOST_HEAD)
        stage = 1 + self.in_body
        if self.timed != stage:
            self.timed = stage
            self.due = self.door.now() + (self.door.limits.body_seconds if self.in_body else self.door.limits.head_seconds)
        if self.held is not None:
            self.flow.resume_reading()  # uvicorn would wait for the app to read
            self._look_at_held()

    def _count(self) -> None:
        """Count the bytes of bodies whose requests are not in work."""
        waiting = [*self.pipeline, *([self.held] if self.held is not None else [])]
        self.door.hold(self, sum(len(cycle.body) for cycle, _ in waiting))

    def _feed(self, data: bytes) -> None:
        """Parse; a request that asks for another protocol is parsed once more without that, so that its body is its body."""
        rest: Any = data
        while rest:
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as upgrade:  # the parser stopped at the end of a head
                rest = memoryview(rest)[upgrade.args[0] :]
                fields = [b"%b: %b\r\n" % field for field in self.headers if field[0] != b"upgrade"]
                line = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
                self.parser = httptools.HttpRequestParser(self)  # the old one takes nothing more where the head says close
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
                self.parser.feed_data(line + b"".join(fields) + b"\r\n")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.in_message, self.in_body, self.timed, self.trailers, self.surplus, self.coding = True, False, 0, 0, 0, None

    def on_header(self, name: bytes, value: bytes) -> None:  # uvicorn's, once a field, without a call of it
        if self.in_body:
            self._check_trailer(name)
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        elif name == b"transfer-encoding":
            self.coding = value.strip().lower()
        self.headers.append((name, value))
        if len(self.headers) > MOST_FIELDS:
            raise ServiceError(431, f"the request has more than {MOST_FIELDS} header fields")

    def _check_trailer(self, name: bytes) -> None:
        """Drop a trailer field: it must not pass for a part of the head."""
        self.trailers += 1
        if self.trailers > MOST_FIELDS:
            raise ServiceError(431, f"the request has more than {MOST_FIELDS} trailer fields")
        if name.lower() == b"connection":  # the parser would heed it
            raise ServiceError(400, "Connection stands in the trailer")

    def _check_head(self, version: str) -> None:
        """Refuse a head that another server might read in another way, and one that is too long.

        Raises
        ------
        ServiceError
            400, 414 or 431.
        """
        if version not in ("1.0", "1.1"):
            raise ServiceError(400, f"expected a request of HTTP/1.0 or HTTP/1.1, got one of HTTP/{version}")
        if self.coding is not None and (self.coding != b"chunked" or version == "1.0"):
            raise ServiceError(400, "Transfer-Encoding is not chunked, or not of HTTP/1.1")
        if len(self.url) > MOST_URL:
            raise _too_long(self.url)
        if (self.long or self.room < 0) and len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MOST_HEAD:
            raise _too_long(b"")

    def on_headers_complete(self) -> None:
        parser, version = self.parser, self.parser.get_http_version()
        self._check_head(version)
        self.in_body = True
        if parser.should_upgrade():
            if parser.get_method() == b"CONNECT":
                raise ServiceError(400, "CONNECT is for proxies")
            return
        if len(self.pipeline) >= MOST_IN_PIPELINE:
            raise ServiceError(400, f"more than {MOST_IN_PIPELINE} requests wait for the answer to one")
        free = self.at_work is None and not self.pipeline
        if free and version == "1.1" and parser.should_keep_alive() and not self.expect_100_continue:
            self.refusal = self.door.gate.refusal(parser.get_method(), self.url)
        if self.refusal is None:
            super().on_headers_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """What uvicorn calls once it is a request's turn; its body may be on its way."""
        if cycle.more_body:
            self.held, self.wanted = (cycle, app), None
        else:
            self._start(cycle, app)

    def _look_at_held(self) -> None:
        """Call the app before the body is there, where it will answer without; else let the client send it."""
        cycle, app = self.held
        if self.wanted is None:
            self.wanted = self.door.gate.expects(cycle.scope)
        if not self.wanted or len(cycle.body) > self.wanted:
            self._start(cycle, app)
        elif cycle.waiting_for_100_continue:
            cycle.waiting_for_100_continue = False
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _start(self, cycle: Any, app: Any) -> None:
        self.held, self.at_work = None, cycle
        cycle.scope[BODY_BYTES] = len(cycle.body)
        self.door.gate.admit(cycle.scope)
        if cycle.waiting_for_100_continue and cycle.more_body:
            cycle.keep_alive = False  # whether the body follows the answer is the client's choice
        elif cycle.scope["method"] == "POST":
            cycle.waiting_for_100_continue = False
            cycle.transport = Whole(cycle.transport)
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        self.room += 2 * len(body)  # what frames a body may be as long as the body
        if self.refusal is not None or self.cycle.response_complete:  # nobody reads it
            self.surplus += len(body)
            if self.surplus > READ_ON * self.door.limits.max_body_bytes:
                raise ServiceError(413, "the body of a request that was refused does not end")
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self.in_message, self.room = False, MOST_HEAD
        if self.refusal is not None:
            self.transport.write(self.refusal)
            self.refusal = None
            self.on_response_complete()
            return
        super().on_message_complete()
        if self.held is not None:
            self._start(*self.held)
        elif self.at_work is None:  # the answer was there before
            self._rest()

    def on_response_complete(self) -> None:
        self.at_work = None
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()
            if self.pipeline:
                self._start_asgi_task(*self.pipeline.pop())
                if self.held is not None:
                    self._look_at_held()
                self._count()
            elif self.last is not None:
                self._leave()
        if self.at_work is None:
            self._rest()

    def _rest(self) -> None:
        """Wait for the client, and drop what was answered: freed at the next request, it would have left the processor's cache."""
        limits = self.door.limits
        self.due = self.door.now() + (limits.body_seconds if self.in_message or self._is_unread() else limits.idle_seconds)
        if not self.in_message:
            self.cycle = self.scope = self.headers = None
            self.url = b""

    def _is_unread(self) -> bool:
        return bool(self.flow.write_paused or self.transport.is_closing())

    def pause_writing(self) -> None:
        super().pause_writing()
        self.due = self.door.now() + self.door.limits.body_seconds

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.at_work is None:
            self._rest()

    def expire(self) -> None:
        """End the connection, unless the service is the one that is late."""
        if self._is_unread():
            self.transport.abort()
        elif self.at_work is None and self.in_message:
            self.end(ServiceError(408, "the request did not come within its time"))
        elif self.at_work is None:
            self._leave()

    def end(self, error: ServiceError) -> None:
        """Read nothing more; close after the answers that are owed, the error as the last where the present request has no other."""
        cycle = self.cycle
        begun = cycle is not None and cycle.scope is self.scope
        if begun and (cycle is self.at_work or cycle.response_complete):
            self.last = b""
        else:
            self.last = whole_answer(error, ("Connection", "close"))
            self.door.gate.ended(error.status)
        if begun and self.pipeline and self.pipeline[0][0] is cycle:
            self.pipeline.popleft()
        self.held = self.refusal = None
        self.door.hold(self, 0)
        if self.at_work is None:
            self._leave()

    def _leave(self) -> None:
        if self.last:
            self.transport.write(self.last)
        self.last = b""
        self.transport.close()
        self._rest()


def guard(gate: Gate, now: Callable[[], float] = time.monotonic) -> Door | None:
    """Let uvicorn's connections keep the gate's limits; None, and a warning, where its protocol is not the one that this is written for.

    A request for which there is no room is refused before there is a task, a scope and a call of the app for it. That keeps answers coming:
    everything that has arrived is read in one turn of the loop, and an answer takes three. At three times capacity 2,530 requests a second
    were answered with it, 187 without. Requests in a pipeline, those that close their connection and those that ask before they send a body
    are left to the app.
    """
    from uvicorn.protocols.http import auto  # of no use to the parent process

    base: Any = auto.AutoHTTPProtocol
    if base.__name__ != "HttpToolsProtocol" or not all(hasattr(base, hook) for hook in HOOKS):
        log.warning(
            "connections have no limits, no clocks and no refusal under overload: uvicorn's HTTP protocol is not the one expected; "
            "install uvicorn and httptools in the versions of configs/requirements",
            extra={"protocol": base.__name__},
        )
        return None
    door = Door(gate, now)
    auto.AutoHTTPProtocol = type("GuardedProtocol", (_Connection, base), {"door": door})
    return door


def _too_long(url: bytes) -> ServiceError:
    if len(url) > MOST_URL:
        return ServiceError(414, f"the URL is longer than {MOST_URL} bytes")
    return ServiceError(431, f"what surrounds the body of the request is longer than {MOST_HEAD} bytes")
