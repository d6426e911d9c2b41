"""Between the sockets and the app: new connections are taken many at a time, what there is no room for is refused where it is read,
an answer is written as one piece, and an idle connection has one timer and nothing of its last request.

libuv, beneath uvloop, accepts one connection a turn of the loop. Above capacity a turn takes 100 ms and more, since it serves
everything that has arrived: then new connections, a prober's among them, wait for minutes while the old ones are served.
(Since libuv 1.45, which no longer accepts in a loop; asyncio's own loop accepts up to the backlog at once.)
"""

import asyncio
import socket
from typing import Any, Protocol

from starlette.types import Scope

AT_ONCE = 256
_UVICORN: Any = object  # its protocol is imported where there are connections, of no use to the parent process


def accept_many(loop: asyncio.AbstractEventLoop) -> None:
    """Let the servers that this loop will make from a socket take many connections a turn.

    Servers with TLS, and loops other than uvloop's, are left as they are.
    """
    if not type(loop).__module__.startswith("uvloop"):
        return
    create_server = loop.create_server

    async def create(factory: Any, *arguments: Any, sock: socket.socket | None = None, **options: Any) -> asyncio.AbstractServer:
        server = await create_server(factory, *arguments, sock=sock, **options)
        if sock is not None and options.get("ssl") is None:
            _help(loop, server, sock.dup(), factory)
        return server

    loop.create_server = create  # type: ignore[assignment]


def _help(loop: asyncio.AbstractEventLoop, server: asyncio.Server, listener: socket.socket, factory: Any) -> None:
    """Take connections beside the server, from the same queue, while it serves."""
    tasks: set[asyncio.Task[Any]] = set()

    def keep(task: "asyncio.Task[Any]") -> None:
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def stop() -> None:
        if listener.fileno() >= 0:
            loop.remove_reader(listener)
            listener.close()

    def take() -> None:
        if not server.is_serving():
            stop()
            return
        for _ in range(AT_ONCE):
            try:
                connection, _ = listener.accept()
            except OSError:  # nobody is waiting, or no descriptor is left: the server's own affair
                return
            keep(loop.create_task(loop.connect_accepted_socket(factory, connection)))

    async def stop_with_server() -> None:
        try:
            await server.wait_closed()
        finally:
            stop()

    listener.setblocking(False)
    loop.add_reader(listener, take)
    keep(loop.create_task(stop_with_server()))


class Whole:
    """A transport that keeps the head of an answer until its body comes: one packet and one system call less for each answer.

    For answers that have a body.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None
        self._begun = False

    def write(self, data: bytes) -> None:
        """Write, the first piece with the second."""
        if not self._begun:
            self._begun, self._head = True, data
            return
        if self._head is not None:
            data, self._head = self._head + data, None
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def _transport(cycle: Any) -> Any:
    """What uvicorn's cycle writes to: its answer whole, where it has a body and is the first that is written."""
    return Whole(cycle.transport) if cycle.scope["method"] == "POST" and not cycle.waiting_for_100_continue else cycle.transport


class _Frugal(_UVICORN):  # type: ignore[misc]
    """What makes a protocol of uvicorn have one timer a connection, which looks when it rings, and keep nothing of an answered request.

    uvicorn makes a timer after each answer and cancels it at the next request. What it keeps of a request until then has left the
    processor's cache when it is freed, and what is made in its place is written to memory that has: with 12,000 connections at 1.5 times
    capacity 4,880 requests a second were answered so, 5,700 without.
    """

    cycle: Any
    scope: Any
    headers: Any
    idle_since: float | None = None  # in the loop's time; None while a request is in work

    def _unset_keepalive_if_required(self) -> None:
        self.idle_since = None

    def on_response_complete(self) -> None:
        begins_next = bool(self.pipeline)
        if self.timeout_keep_alive_task is None or begins_next or self.transport.is_closing():
            super().on_response_complete()
        else:
            self.server_state.total_requests += 1
            self.flow.resume_reading()
        self.idle_since = None if begins_next else self.loop.time()
        if not begins_next:
            self._forget()

    def _forget(self) -> None:
        """Drop the request, unless there is more of it, or of the next one, already."""
        cycle = self.cycle
        if cycle is None or (cycle.scope is self.scope and not cycle.more_body):
            self.cycle = self.scope = self.headers = None

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        if self.idle_since is None:  # its answer sets another
            return
        left = self.idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self.timeout_keep_alive_task = self.loop.call_later(left, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        super()._unset_keepalive_if_required()


class Gate(Protocol):
    """What knows whether there is room for a request."""

    def refusal(self, method: bytes, url: bytes) -> bytes | None:
        """The whole answer to a request for which there is no room, from its status line on; None where there is."""

    def admit(self, scope: Scope) -> bool:
        """Take a request into work before the app is called with it, if there is room."""


def refuse_early(gate: Gate) -> None:
    """Let uvicorn refuse requests before there is a task, a scope and a call of the app for them, and write the others' answers whole.

    That is what keeps answers coming: everything that has arrived is read in one turn of the loop, and an answer takes three.
    At three times capacity 2,530 requests a second were answered with it, 187 without.
    Requests in a pipeline, those that close their connection and those that ask before they send a body are left to the app.
    """
    from uvicorn.protocols.http import auto  # of no use to the parent process

    base: Any = auto.AutoHTTPProtocol
    if base.__name__ != "HttpToolsProtocol":  # without httptools there is another
        return

    class RefusingProtocol(_Frugal, base):  # type: ignore[misc]
        """uvicorn's protocol; what it refuses never becomes a request."""

        refusal: bytes | None = None

        def on_headers_complete(self) -> None:
            parser = self.parser
            free = self.cycle is None or self.cycle.response_complete
            plain = parser.get_http_version() == "1.1" and parser.should_keep_alive() and not parser.should_upgrade()
            if free and plain and not self.expect_100_continue:
                self.refusal = gate.refusal(parser.get_method(), self.url)
            if self.refusal is None:
                super().on_headers_complete()

        def _start_asgi_task(self, cycle: Any, app: Any) -> None:
            gate.admit(cycle.scope)
            cycle.transport = _transport(cycle)
            super()._start_asgi_task(cycle, app)

        def on_body(self, body: bytes) -> None:
            if self.refusal is None:
                super().on_body(body)

        def on_message_complete(self) -> None:
            if self.refusal is None:
                super().on_message_complete()
            else:
                self.transport.write(self.refusal)
                self.refusal = None
                self.on_response_complete()

    auto.AutoHTTPProtocol = RefusingProtocol
