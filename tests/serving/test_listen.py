import asyncio
import contextlib
import gc
import socket
import time
from collections.abc import Awaitable, Callable
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
from serving import listen
from serving.http import Boundary
from serving.listen import Whole, accept_many, refuse_early

POST = b"POST /predict HTTP/1.1\r\nHost: service\r\nContent-Length: 2\r\n\r\n{}"

KEEP_ALIVE = 1  # second


class Greeter(asyncio.Protocol):
    def connection_made(self, transport: asyncio.WriteTransport) -> None:  # type: ignore[override]
        transport.write(b"hello")
        transport.close()


async def crowd(loop: asyncio.AbstractEventLoop, turns: int) -> tuple[int, asyncio.Server, socket.socket]:
    """How many of 50 clients that came while the loop was busy are greeted within this many turns of it."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)
    server = await loop.create_server(Greeter, sock=listener)
    clients = [socket.create_connection(listener.getsockname()) for _ in range(50)]
    time.sleep(0.05)  # noqa: ASYNC251 the loop is busy
    for _ in range(turns):
        await asyncio.sleep(0)
    greeted = 0
    for client in clients:
        client.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            greeted += client.recv(10) == b"hello"
        client.close()
    return greeted, server, listener


def test_connections_that_came_together_are_taken_together() -> None:
    async def scenario() -> int:
        loop = asyncio.get_running_loop()
        accept_many(loop)
        greeted, server, listener = await crowd(loop, turns=8)
        server.close()
        listener.close()
        await server.wait_closed()
        return greeted

    assert uvloop.run(scenario()) == 50


def test_a_closed_server_takes_no_more_connections() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        accept_many(loop)
        _, server, listener = await crowd(loop, turns=8)
        address = listener.getsockname()
        server.close()
        listener.close()
        await server.wait_closed()
        late = socket.create_connection(address)
        for _ in range(5):
            await asyncio.sleep(0)
        late.settimeout(1)
        with contextlib.suppress(ConnectionResetError):
            assert late.recv(10) == b""
        late.close()

    uvloop.run(scenario())


def test_loops_that_take_many_by_themselves_are_left_alone() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        before = loop.create_server
        accept_many(loop)
        assert loop.create_server == before

    asyncio.run(scenario())


class Crowded:
    """A server with room for one request to /predict, and that is taken."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.calls = 0
        self.clients: list[asyncio.StreamWriter] = []
        limits = load_settings().service.model_copy(update={"max_in_flight": 1})
        self.metrics = Metrics()
        self.boundary = Boundary(Starlette(routes=[Route("/predict", self.predict, methods=["POST"])]), self.metrics, limits)

    async def predict(self, request: Request) -> Response:
        self.calls += 1
        body = await request.body()
        await self.opened.wait()
        return Response(body)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*self.address)
        self.clients.append(writer)
        return reader, writer

    async def hold(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Take the only place."""
        reader, writer = await self.connect()
        writer.write(POST)
        await until(lambda: self.boundary.in_flight == 1)
        return reader, writer

    async def run(self, scenario: "Scenario") -> None:
        refuse_early(self.boundary)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.address = listener.getsockname()
            server = uvicorn.Server(uvicorn.Config(self.boundary, lifespan="off", log_config=None, timeout_keep_alive=KEEP_ALIVE))
            task = asyncio.create_task(server.serve(sockets=[listener]))
            await until(lambda: server.started)
            try:
                async with asyncio.timeout(20):
                    await scenario(self)
                    await until(lambda: not self.boundary.in_flight)
            finally:
                for writer in self.clients:
                    writer.close()
                server.should_exit = server.force_exit = True
                await task


def connections() -> list[Any]:
    """The protocols of the server's connections."""
    return [item for item in gc.get_objects() if isinstance(item, auto.AutoHTTPProtocol) and item.transport]  # type: ignore[misc]


async def until(reached: Callable[[], bool]) -> None:
    while not reached():  # noqa: ASYNC110 it is the state of a server
        await asyncio.sleep(0.01)


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The status and the body of the next answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    (length,) = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    return int(head.split()[1]), await reader.readexactly(int(length))


Scenario = Callable[[Crowded], Awaitable[None]]
Play = Callable[[Scenario], None]


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> Play:
    monkeypatch.setattr(auto, "AutoHTTPProtocol", auto.AutoHTTPProtocol)  # put back afterwards

    async def play(scenario: Scenario) -> None:
        await Crowded().run(scenario)

    return lambda scenario: uvloop.run(play(scenario))


def test_what_there_is_no_room_for_is_refused_without_the_app_and_its_connection_serves_on(
    crowded: Play,
) -> None:
    async def scenario(server: Crowded) -> None:
        first, _ = await server.hold()
        reader, writer = await server.connect()
        for _ in range(3):
            writer.write(POST[:-1])  # the body in two parts
            await asyncio.sleep(0.02)
            writer.write(POST[-1:])
            status, body = await answer(reader)
            assert (status, b"too many requests are in work" in body) == (503, True)
        assert server.calls == 1
        shown = server.metrics.exposition()
        assert b'credit_requests_total{route="/predict",status="503"} 3.0' in shown
        assert b'credit_request_duration_seconds_count{route="/predict"' not in shown  # what is refused at once has no latency
        writer.write(b"GET /health HTTP/1.1\r\nHost: service\r\n\r\n")
        assert (await answer(reader))[0] == 404  # a probe is not refused; here there is none
        server.opened.set()
        assert await answer(first) == (200, b"{}")
        writer.write(POST)
        assert await answer(reader) == (200, b"{}")

    crowded(scenario)


def test_an_idle_connection_is_closed_after_its_time_and_not_before(crowded: Play) -> None:
    async def scenario(server: Crowded) -> None:
        server.opened.set()
        reader, writer = await server.connect()
        begin = time.monotonic()
        while time.monotonic() - begin < 1.7 * KEEP_ALIVE:  # the timer of the first answer rings meanwhile
            writer.write(POST)
            assert (await answer(reader))[0] == 200
            await asyncio.sleep(0.3 * KEEP_ALIVE)
        idle = time.monotonic()
        assert await reader.read() == b""
        assert 0.5 * KEEP_ALIVE < time.monotonic() - idle < 1.5 * KEEP_ALIVE

    crowded(scenario)


def test_a_connection_is_not_idle_while_its_request_is_in_work(crowded: Play) -> None:
    async def scenario(server: Crowded) -> None:
        server.opened.set()
        reader, writer = await server.connect()
        writer.write(POST)
        assert (await answer(reader))[0] == 200
        server.opened.clear()
        writer.write(POST * 2)  # the second waits in the pipeline
        await asyncio.sleep(1.5 * KEEP_ALIVE)
        server.opened.set()
        assert [(await answer(reader))[0] for _ in range(2)] == [200, 200]
        assert await reader.read() == b""  # idle at last

    crowded(scenario)


def test_a_lost_connection_leaves_no_timer(crowded: Play) -> None:
    async def scenario(server: Crowded) -> None:
        server.opened.set()
        reader, writer = await server.connect()
        writer.write(POST)
        await answer(reader)
        (protocol,) = connections()
        timer = protocol.timeout_keep_alive_task
        assert not timer.cancelled()
        writer.close()
        await until(timer.cancelled)

    crowded(scenario)


def test_a_connection_keeps_nothing_of_a_request_that_was_answered_or_refused(crowded: Play) -> None:
    async def scenario(server: Crowded) -> None:
        first, _ = await server.hold()
        (answered,) = connections()
        reader, writer = await server.connect()
        writer.write(POST)
        assert (await answer(reader))[0] == 503
        (refused,) = [connection for connection in connections() if connection is not answered]
        assert (answered.cycle is None, answered.scope["path"]) == (False, "/predict")
        server.opened.set()
        assert (await answer(first))[0] == 200
        for connection in (answered, refused):
            assert (connection.cycle, connection.scope, connection.headers) == (None, None, None)

    crowded(scenario)


def test_the_begin_of_the_next_request_outlasts_the_answer_to_the_one_before(crowded: Play) -> None:
    async def scenario(server: Crowded) -> None:
        reader, writer = await server.hold()
        writer.write(POST[:30])
        await asyncio.sleep(0.05)
        server.opened.set()
        assert (await answer(reader))[0] == 200
        writer.write(POST[30:])
        assert await answer(reader) == (200, b"{}")

    crowded(scenario)


def test_the_rest_of_a_body_may_come_after_its_answer(crowded: Play) -> None:
    async def scenario(server: Crowded) -> None:
        server.opened.set()
        reader, writer = await server.connect()
        writer.write(POST.replace(b"/predict", b"/predicted")[:-1])
        assert (await answer(reader))[0] == 404
        writer.write(POST[-1:])
        await asyncio.sleep(0.05)
        writer.write(POST)
        assert await answer(reader) == (200, b"{}")

    crowded(scenario)


def test_an_answer_leaves_as_one_piece(crowded: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []

    class Watched:
        def __init__(self, transport: Any) -> None:
            self.transport = transport

        def write(self, data: bytes) -> None:
            written.append(data)
            self.transport.write(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.transport, name)

    monkeypatch.setattr(listen, "Whole", lambda transport: Whole(Watched(transport)))  # type: ignore[arg-type]

    async def scenario(server: Crowded) -> None:
        server.opened.set()
        reader, writer = await server.connect()
        for _ in range(2):
            writer.write(POST)
            assert await answer(reader) == (200, b"{}")
        assert [(piece.startswith(b"HTTP/1.1 200 OK"), piece.endswith(b"{}")) for piece in written] == [(True, True)] * 2

    crowded(scenario)


@pytest.mark.parametrize("method", [b"HEAD", b"GET"])
def test_an_answer_without_a_body_leaves_too(crowded: Play, method: bytes) -> None:
    async def scenario(server: Crowded) -> None:
        reader, writer = await server.connect()
        writer.write(method + b" /predict HTTP/1.1\r\nHost: service\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 405")

    crowded(scenario)


def test_requests_in_a_pipeline_take_turns(crowded: Play) -> None:
    async def scenario(server: Crowded) -> None:
        reader, writer = await server.connect()
        writer.write(3 * POST)
        await asyncio.sleep(0.05)
        server.opened.set()
        assert [(await answer(reader))[0] for _ in range(3)] == [200, 200, 200]

    crowded(scenario)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (POST.replace(b"1.1", b"1.0"), 503),
        (POST.replace(b"Host", b"Connection: close\r\nHost"), 503),
        (POST.replace(b"Host", b"Expect: 100-continue\r\nHost"), 503),
        (POST.replace(b"/predict", b"/%70redict?x=1"), 503),
        (POST.replace(b"/predict", b"/predict/batch?x=1"), 503),
        (POST.replace(b"/predict", b"http://[/predict"), 400),
        (POST.replace(b"Length: 2", b"Length: 2x"), 400),
        (POST.replace(b"/predict", b"/predicted"), 404),
    ],
)
def test_odd_requests_take_no_place_for_good(crowded: Play, request_bytes: bytes, status: int) -> None:
    async def scenario(server: Crowded) -> None:
        await server.hold()
        reader, writer = await server.connect()
        writer.write(request_bytes)
        assert (await answer(reader))[0] == status
        assert (server.boundary.in_flight, server.calls) == (1, 1)
        server.opened.set()

    crowded(scenario)


def test_an_upgrade_takes_no_place_for_good(crowded: Play) -> None:
    async def scenario(server: Crowded) -> None:
        server.opened.set()
        _, writer = await server.connect()
        writer.write(POST.replace(b"Host", b"Connection: upgrade\r\nUpgrade: websocket\r\nHost"))
        await asyncio.sleep(0.05)
        writer.close()

    crowded(scenario)


def test_a_client_that_leaves_in_the_middle_of_its_body_gives_its_place_back(
    crowded: Play,
) -> None:
    async def scenario(server: Crowded) -> None:
        _, writer = await server.connect()
        writer.write(POST[:-1])
        await until(lambda: server.boundary.in_flight == 1)
        writer.close()
        await until(lambda: not server.boundary.in_flight)
        server.opened.set()
        reader, writer = await server.connect()
        writer.write(POST)
        assert (await answer(reader))[0] == 200

    crowded(scenario)
