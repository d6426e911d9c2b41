"""One connection, from accept to close: its size limits, its timeouts, and how its answers are sent.

A client must send a head, then a body, then read its answer. Each has a size limit and a timeout here, before a task, a call of the app
or room in work is spent on it. The class overrides callbacks of uvicorn's protocol, because the layers above see a request only once its
head is complete, and cannot close a connection. `HOOKS` of serving.uvicorn.guard lists the overridden methods.
"""

import math
from typing import Any

import httptools

from serving.errors import ServiceError
from serving.uvicorn.door import BODY_BYTES, READ_ON, UNREAD, Door, whole_answer
from serving.uvicorn.limits import MOST_FIELDS, MOST_HEAD, MOST_IN_PIPELINE, check_head, check_host, check_trailer, memory, too_long

_UVICORN: Any = object  # serving.uvicorn.guard adds uvicorn's protocol, which the parent process does not import

_STOPPING = ServiceError(503, "the service is stopping; try again", retry_after=1)


class Connection(_UVICORN):  # type: ignore[misc]
    """Overrides callbacks of uvicorn's protocol to enforce the limits. It has more than 12 methods because uvicorn has that many callbacks."""

    door: Door
    parser: Any
    transport: Any
    flow: Any
    pipeline: Any
    server_state: Any
    cycle: Any
    scope: Any
    headers: Any
    due = math.inf  # when the client is late, unless a request of its is in work
    room = MOST_HEAD  # bytes outside a body that may still arrive
    surplus = 0  # bytes of a body that arrived after its answer
    long = False  # whether the current data may hold a head that is too long
    in_message = in_body = False
    timed = 0  # whose timeout is running: 1 the head's, 2 the body's
    counted = False  # whether the door counts bytes that it holds
    trailers = 0
    host: bytes | None = None
    coding: bytes | None = None  # the value of Transfer-Encoding
    at_work: Any = None  # the cycle (uvicorn's request with its answer) that the app is working on
    held: Any = None  # a cycle whose body is still arriving, and the app to call afterwards
    wanted: int | None = None  # most bytes of its body to wait for; None before the gate was asked
    refusal: bytes | None = None
    last: bytes | None = None  # the final answer, after which the connection closes
    url = b""

    def connection_made(self, transport: Any) -> None:
        """Start the timeout of the first head."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(UNREAD)
        self.due = self.door.now() + self.door.limits.head_seconds
        self.door.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Release what the connection held."""
        self.door.leave(self)
        self.held = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, within the limits."""
        if self.last is not None:
            return
        self.room -= len(data)
        self.long = len(data) > MOST_HEAD
        try:
            self._feed(data)
            if self.room < 0:
                raise too_long(self.url if not self.headers else b"")
            if self.in_message:
                self._wait()
        except (httptools.HttpParserError, ServiceError) as error:
            cause = error if isinstance(error, ServiceError) else error.__context__
            self.end(cause if isinstance(cause, ServiceError) else ServiceError(400, f"the request is not valid HTTP: {error}"))
            return
        if self.in_message or self.pipeline or self.counted:
            self._count()
            self.door.make_room()

    def _wait(self) -> None:
        """Start the timeout of the head or body that is arriving, and keep reading."""
        self.room = min(self.room, MOST_HEAD)
        stage = 1 + self.in_body
        if self.timed != stage:
            self.timed = stage
            self.due = self.door.now() + (self.door.limits.body_seconds if self.in_body else self.door.limits.head_seconds)
        if self.held is not None:
            self.flow.resume_reading()  # uvicorn pauses until the app reads
            self._look_at_held()

    def _count(self) -> None:
        """Report the bytes of requests that are not in work."""
        waiting = [cycle for cycle, _ in (*self.pipeline, *filter(None, [self.held]))]
        head = 0
        if self.in_message:  # while a body arrives, the parser may hold this much of a trailer
            head = MOST_HEAD - self.room if self.in_body else memory(len(self.headers), MOST_HEAD - self.room)
        self.counted = bool(head or waiting)
        self.door.hold(self, head, waiting)

    def _feed(self, data: bytes) -> None:
        """Parse data. A request with Upgrade is parsed again without that field, or the parser would not read its body."""
        rest: Any = data
        while rest:
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as upgrade:  # the parser stopped at the end of a head
                rest = memoryview(rest)[upgrade.args[0] :]
                fields = [b"%b: %b\r\n" % field for field in self.headers if field[0] != b"upgrade"]
                line = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
                self.parser = httptools.HttpRequestParser(self)  # after `Connection: close`, the old one accepts no more data
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn sets it
                self.parser.feed_data(line + b"".join(fields) + b"\r\n")

    def on_message_begin(self) -> None:
        """Start a request."""
        super().on_message_begin()
        self.in_message, self.in_body, self.timed, self.trailers, self.surplus = True, False, 0, 0, 0
        self.host = self.coding = None

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header field, as uvicorn does; check a trailer field and drop it. uvicorn's method is not called, to save time."""
        if self.in_body:
            self.trailers += 1
            check_trailer(name, self.trailers)
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        elif name == b"host":
            check_host(value, self.host)
            self.host = value
        elif name == b"transfer-encoding":
            self.coding = value.strip().lower()
        self.headers.append((name, value))
        if len(self.headers) > MOST_FIELDS:
            raise ServiceError(431, f"the request has more than {MOST_FIELDS} header fields")

    def on_headers_complete(self) -> None:
        """Check a head; refuse the request at once if there is no room."""
        parser, version = self.parser, self.parser.get_http_version()
        long = self.long or self.room < 0
        check_head(version, self, self.headers if long else ())
        self.in_body = True
        if parser.should_upgrade():
            if parser.get_method() == b"CONNECT":
                raise ServiceError(400, "CONNECT is for proxies")
            return
        if len(self.pipeline) >= MOST_IN_PIPELINE:
            raise ServiceError(400, f"more than {MOST_IN_PIPELINE} pipelined requests are waiting")
        free = self.at_work is None and not self.pipeline and not self.door.draining
        if free and version == "1.1" and parser.should_keep_alive() and not self.expect_100_continue:
            self.refusal = self.door.gate.refusal(parser.get_method(), self.url)
        if self.refusal is None:
            super().on_headers_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """Hold a request until its body is complete, else call the app. uvicorn calls this when it is the request's turn."""
        if cycle.more_body:
            self.held, self.wanted = (cycle, app), None
        else:
            self._start(cycle, app)

    def _look_at_held(self) -> None:
        """Call the app early if it will answer without the body; otherwise let the client send the body."""
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
            cycle.keep_alive = False  # the client may or may not send the body after the answer
        elif cycle.scope["method"] == "POST":
            cycle.waiting_for_100_continue = False
        if self.door.draining:
            self.close_after(cycle)
        super()._start_asgi_task(cycle, app)

    def close_after(self, cycle: Any) -> None:
        """Let the answer of the request in work, if any, say that the connection closes, unless pipelined requests wait behind it."""
        if cycle is not None and not self.pipeline and not cycle.response_started:
            cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Keep a part of a body, or drop it if the request is answered already."""
        self.room += 2 * len(body)  # the framing of chunks may be as long as the body itself
        if self.refusal is not None or self.cycle.response_complete:
            self.surplus += len(body)
            if self.surplus > READ_ON * self.door.limits.max_body_bytes:
                raise ServiceError(413, "the request was refused, but its body goes on; the connection is closed")
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Call the app with a complete request, or send its refusal."""
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
        elif self.at_work is None:  # the answer was sent before the body was complete
            self._rest()

    def on_response_complete(self) -> None:
        """Continue with the next pipelined request, or wait for the client."""
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
        """Wait for the client, and free the answered request now, while it is still in the processor's cache."""
        limits = self.door.limits
        self.due = self.door.now() + (limits.body_seconds if self.in_message or self._is_unread() else limits.idle_seconds)
        if not self.in_message:
            self.cycle = self.scope = self.headers = None
            self.url = b""

    def _is_unread(self) -> bool:
        return bool(self.flow.write_paused or self.transport.is_closing())

    def pause_writing(self) -> None:
        """Start the timeout of a client that does not read its answer."""
        super().pause_writing()
        self.due = self.door.now() + self.door.limits.body_seconds
        self.door.unread(self, self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Stop the timeout of a client that reads again."""
        super().resume_writing()
        self.door.unread(self, 0)
        if self.at_work is None:
            self._rest()

    def expire(self) -> None:
        """Close a connection whose time is over, unless the service itself is still working on a request."""
        if self._is_unread():
            self.transport.abort()
        elif self.at_work is None and self.in_message:
            self.end(_STOPPING if self.door.draining else ServiceError(408, "the request did not arrive in time"))
        elif self.at_work is None:
            self._leave()

    def end(self, error: ServiceError) -> None:
        """Stop reading; close after the pending answers. The last one is the error, unless the current request has its answer already."""
        cycle = self.cycle
        begun = cycle is not None and cycle.scope is self.scope
        if begun and (cycle is self.at_work or cycle.response_complete):
            self.last = b""
        else:
            self.last = whole_answer(error, ("Connection", "close"))
            self.door.gate.ended(error.status)
        if begun and self.pipeline and self.pipeline[0][0] is cycle:
            self.pipeline.popleft()
        if not begun:
            self.scope = self.headers = None
        self.held = self.refusal = self.parser = None
        self.in_message = False
        self._count()
        if self.at_work is None:
            self._leave()

    def give_way(self, error: ServiceError) -> None:
        """Free the memory of the requests that are not in work: end with the error, and leave those in the pipeline unanswered."""
        self.pipeline.clear()
        self.end(error)

    def _leave(self) -> None:
        if self.last:
            self.transport.write(self.last)
        self.last = b""
        self.transport.close()
        self._rest()
