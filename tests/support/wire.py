"""A server with the boundary around a small test app, and helpers that send and read bytes as a client."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http import auto

from configs.settings import load_settings
from monitoring.metrics import Metrics
from serving.http.boundary import Boundary, Endpoint
from serving.identity.key_ring import KeyRing

POST = b"POST /predict HTTP/1.1\r\nHost: service\r\nContent-Length: 2\r\n\r\n{}"

HEAD = b"POST /predict HTTP/1.1\r\nHost: service\r\n"
LIMITS = load_settings().service

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def long_post(size: int, path: bytes = b"/predict/batch") -> bytes:
    """The head of a POST with a body of this size."""
    return HEAD.replace(b"/predict", path) + b"Content-Length: %d\r\n\r\n" % size


class Clock:
    """A clock that stands still until a test sets `seconds`."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Wired:
    """A server whose app answers a POST with the request's body once `opened` is set.

    Parameters
    ----------
    short : whether the boundary calls POST routes directly, as it does without tracing.
    limits : changes to the settings of the service.
    """

    def __init__(self, *, short: bool = True, keys: KeyRing | None = None, **limits: Any) -> None:
        self.opened = asyncio.Event()
        self.calls = self.received = 0
        self.answer = b""
        self.called: Callable[[Request], object] = id
        self.clients: list[asyncio.StreamWriter] = []
        self.metrics, self.clock = Metrics(), Clock()
        self.limits = load_settings().service.model_copy(update=limits)
        routes = ("/predict", "/predict/batch")
        app = Starlette(routes=[Route(path, self.predict, methods=["POST"]) for path in routes])
        direct: dict[str, Endpoint] = dict.fromkeys(routes, self.predict) if short else {}
        self.boundary = Boundary(app, self.metrics, self.limits, keys, direct)

    async def predict(self, request: Request) -> Response:
        self.calls += 1
        self.called(request)
        body = await request.body()
        await self.opened.wait()
        return Response(self.answer or body)

    async def connect(self) -> Client:
        reader, writer = await asyncio.open_connection(*self.address)
        self.clients.append(writer)
        return reader, writer

    async def hold(self) -> Client:
        """Send a request and wait until it is in work."""
        reader, writer = await self.connect()
        before = self.boundary.in_flight
        writer.write(POST)
        await until(lambda: self.boundary.in_flight == before + 1)
        return reader, writer

    async def send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        """Write data, and wait until the server has read it or has closed the connection."""
        expected = self.received + len(data)
        writer.write(data)
        await until(lambda: self.received >= expected or writer.is_closing())

    def later(self, seconds: float) -> None:
        """Move the clock forward, and let the timer check the connections."""
        self.clock.seconds += seconds
        self.door.sweep()

    async def run(self, scenario: "Scenario") -> None:
        door = self.boundary.guard_connections(now=self.clock)
        assert door is not None
        self.door = door
        guarded: Any = auto.AutoHTTPProtocol

        class Counted(guarded):  # type: ignore[misc]
            def data_received(protocol, data: bytes) -> None:  # noqa: N805
                super().data_received(data)
                self.received += len(data)

        auto.AutoHTTPProtocol = Counted
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.address = listener.getsockname()
            server = uvicorn.Server(uvicorn.Config(self.boundary, lifespan="off", log_config=None))
            task = asyncio.create_task(server.serve(sockets=[listener]))
            await until(lambda: server.started)
            try:
                async with asyncio.timeout(20):
                    await scenario(self)
                    self.opened.set()
                    await until(lambda: not self.boundary.in_flight and not self.boundary.bytes_in_work)
            finally:
                self.opened.set()
                for writer in self.clients:
                    writer.close()
                await until(lambda: not door.connections and not door.bodies.total and not door.heads.total)
                server.should_exit = server.force_exit = True
                await task


Scenario = Callable[[Wired], Awaitable[None]]


def play(scenario: Scenario, **arguments: Any) -> None:
    """Run a scenario against a server, and restore uvicorn afterwards."""

    async def run() -> None:
        await Wired(**arguments).run(scenario)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auto, "AutoHTTPProtocol", auto.AutoHTTPProtocol)  # restored afterwards
        uvloop.run(run())


async def until(reached: Callable[[], object]) -> None:
    while not reached():  # noqa: ASYNC110 - a server's state has no event to wait for
        await asyncio.sleep(0.01)


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The status and the body of the next answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    (length,) = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    return int(head.split()[1]), await reader.readexactly(int(length))


async def answers(reader: asyncio.StreamReader) -> list[tuple[int, bytes]]:
    """All answers until the server closes the connection."""
    return await parsed(await reader.read())


async def parsed(received: bytes) -> list[tuple[int, bytes]]:
    """The answers in what was received."""
    reader = asyncio.StreamReader()
    reader.feed_data(received)
    reader.feed_eof()
    found = []
    while not reader.at_eof():
        found.append(await answer(reader))
    return found


async def flood(server: Wired, pieces: Iterable[bytes]) -> bytes:
    """Send until the server closes the connection; returns what it answered before."""

    def send() -> bytes:
        with socket.create_connection(server.address, timeout=10) as client:
            with contextlib.suppress(ConnectionError):
                for piece in pieces:
                    client.sendall(piece)
            received = b""
            with contextlib.suppress(ConnectionError):
                while data := client.recv(65_536):
                    received += data
            return received

    return await asyncio.to_thread(send)
