"""What a client may send and by when, and what its connection costs the others."""

import asyncio
import contextlib
import itertools
import logging
import socket
import weakref
from collections.abc import Iterable

import pytest
from starlette.requests import Request
from uvicorn.protocols.http import auto
from wire import HEAD, LIMITS, POST, Wired, answer, answers, flood, long_post, parsed, play, until

from monitoring.metrics import Metrics
from monitoring.service_log import LOGGER
from serving.errors import ServiceError
from serving.http.boundary import Boundary
from serving.uvicorn import door
from serving.uvicorn.limits import MOST_FIELDS, MOST_HEAD, MOST_IN_PIPELINE, MOST_URL


def test_what_there_is_no_room_for_is_refused_without_the_app_and_its_connection_serves_on() -> None:
    async def scenario(server: Wired) -> None:
        first, _ = await server.hold()
        reader, writer = await server.connect()
        for _ in range(3):
            await server.send(writer, POST[:-1])  # the body in two parts
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

    play(scenario, max_in_flight=1)


def test_unfinished_bodies_take_no_place() -> None:
    async def scenario(server: Wired) -> None:
        server.opened.set()
        slow = [await server.connect() for _ in range(5)]
        for _, writer in slow:
            writer.write(POST[:-1])
        await until(lambda: server.door.bodies.total == 5)
        assert (server.boundary.in_flight, server.calls) == (0, 0)
        for _ in range(2):
            reader, writer = await server.connect()
            writer.write(POST)
            assert await answer(reader) == (200, b"{}")
        for reader, writer in slow:
            writer.write(POST[-1:])
            assert await answer(reader) == (200, b"{}")

    play(scenario, max_in_flight=1)


def test_a_connection_that_is_closed_by_its_client_is_forgotten() -> None:
    async def scenario(server: Wired) -> None:
        server.opened.set()
        reader, writer = await server.connect()
        writer.write(POST)
        await answer(reader)
        writer.write(POST[:-1])
        await until(lambda: server.door.bodies.total == 1)
        writer.close()
        await until(lambda: not server.door.connections and not server.door.bodies.total)

    play(scenario)


def test_a_connection_keeps_nothing_of_a_request_that_was_answered() -> None:
    class Mark:
        pass

    async def scenario(server: Wired) -> None:
        marks: list[weakref.ref[Mark]] = []

        def mark(request: Request) -> None:
            request.scope["mark"] = mark = Mark()
            marks.append(weakref.ref(mark))

        server.called = mark
        reader, _ = await server.hold()
        assert marks[0]() is not None
        server.opened.set()
        assert (await answer(reader))[0] == 200
        await until(lambda: marks[0]() is None)
        assert len(server.door.connections) == 1

    play(scenario)


@pytest.mark.parametrize("method", [b"HEAD", b"GET"])
def test_an_answer_without_a_body_leaves_too(method: bytes) -> None:
    async def scenario(server: Wired) -> None:
        reader, writer = await server.connect()
        writer.write(method + b" /predict HTTP/1.1\r\nHost: service\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 405")

    play(scenario)


def test_requests_in_a_pipeline_take_turns() -> None:
    async def scenario(server: Wired) -> None:
        reader, writer = await server.hold()
        writer.write(2 * POST + POST[:-1])  # the last body in two parts
        server.opened.set()
        assert [(await answer(reader))[0] for _ in range(3)] == [200, 200, 200]
        writer.write(POST[-1:])
        assert await answer(reader) == (200, b"{}")

    play(scenario)


def test_a_pipeline_has_an_end() -> None:
    async def scenario(server: Wired) -> None:
        reader, writer = await server.hold()
        await server.send(writer, 2 * MOST_IN_PIPELINE * POST)
        server.opened.set()
        assert [status for status, _ in await answers(reader)] == [200] * (1 + MOST_IN_PIPELINE) + [400]

    play(scenario)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (POST.replace(b"1.1", b"1.0"), 503),
        (POST.replace(b"Host", b"Connection: close\r\nHost"), 503),
        (POST.replace(b"/predict", b"/%70redict?x=1"), 503),
        (POST.replace(b"/predict", b"/predict/batch?x=1"), 503),
        (POST.replace(b"/predict", b"http://[/predict"), 400),
        (POST.replace(b"Length: 2", b"Length: 2x"), 400),
        (POST.replace(b"/predict", b"/predicted"), 404),
    ],
)
def test_odd_requests_take_no_place_for_good(request_bytes: bytes, status: int) -> None:
    async def scenario(server: Wired) -> None:
        await server.hold()
        reader, writer = await server.connect()
        writer.write(request_bytes)
        assert (await answer(reader))[0] == status
        assert (server.boundary.in_flight, server.calls) == (1, 1)

    play(scenario, max_in_flight=1)


ENDLESS: dict[str, tuple[bytes, Iterable[bytes], int]] = {
    "fields": (HEAD, (b"X-%d: y\r\n" % number for number in itertools.count()), 431),
    "a field": (HEAD + b"X: ", itertools.repeat(10_000 * b"y"), 431),
    "the name of a field": (HEAD, itertools.repeat(10_000 * b"y"), 431),
    "the URL": (b"POST /", itertools.repeat(10_000 * b"y"), 414),
    "empty lines": (b"", itertools.repeat(5_000 * b"\r\n"), 431),
    "trailer fields": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", itertools.repeat(b"X: y\r\n"), 431),
    "a trailer field": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX: ", itertools.repeat(10_000 * b"y"), 431),
    "a chunk's extension": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2;", itertools.repeat(10_000 * b"y"), 431),
    "chunks of one byte": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", itertools.repeat(1000 * b"1\r\n{\r\n"), 431),
    "a body in chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", itertools.repeat(b"2710\r\n" + 10_000 * b"{" + b"\r\n"), 413),
    "a body without a route": (long_post(10**12, b"/nowhere"), itertools.repeat(10_000 * b"{"), 404),
}


def test_what_is_endless_ends() -> None:
    async def scenario(server: Wired) -> None:
        found = {name: await parsed(await flood(server, itertools.chain([begin], pieces))) for name, (begin, pieces, _) in ENDLESS.items()}
        assert {name: [status for status, _ in told] for name, told in found.items()} == {
            name: [told] for name, (*_, told) in ENDLESS.items()
        }

    play(scenario, max_single_bytes=100_000, max_body_bytes=500_000)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (HEAD + b"X: " + MOST_HEAD * b"y" + b"\r\n", 431),
        (HEAD + MOST_FIELDS * b"X: y\r\n", 431),
        (HEAD + (MOST_FIELDS - 2) * b"X: y\r\n", 200),
        (HEAD + b"X: " + (MOST_HEAD - 100) * b"y" + b"\r\n", 200),
        (HEAD.replace(b"/predict", b"/predict?" + MOST_URL * b"y"), 414),
        (HEAD.replace(b"/predict", b"/predict?" + (MOST_URL - 9) * b"y"), 200),
    ],
)
def test_a_head_has_a_limit_however_it_arrives(head: bytes, status: int) -> None:
    async def scenario(server: Wired) -> None:
        server.opened.set()
        for step in (1_000_000, 4_000):
            reader, writer = await server.connect()
            sent = head + b"Content-Length: 2\r\n\r\n{}"
            for place in range(0, len(sent), step):
                await server.send(writer, sent[place : place + step])
            assert (await answer(reader))[0] == status

    play(scenario)


def test_bodies_hold_no_more_bytes_than_allowed_and_the_oldest_gives_way() -> None:
    async def scenario(server: Wired) -> None:
        server.opened.set()
        held = 0
        slow = []
        for _ in range(10):
            reader, writer = await server.connect()
            writer.write(long_post(200_000) + 100_000 * b"x")
            slow.append(reader)
            held = min(held + 100_000, 500_000)
            await until(lambda: server.door.bodies.total == held)
        for reader in slow[:5]:
            ((status, body),) = await answers(reader)
            assert (status, b"too many bytes" in body) == (503, True)
        reader, writer = await server.connect()  # who sends without a pause finishes
        writer.write(long_post(300_000) + 300_000 * b"x")
        assert (await answer(reader))[0] == 200

    play(scenario, max_bytes_in_work=500_000)


UNFINISHED: dict[str, tuple[bytes, bytes]] = {
    "long fields": (HEAD, b"X: " + 5_000 * b"y"),
    "many fields": (HEAD, 40 * b"X: y\r\n"),
    "long URLs": (b"", b"GET /" + 5_000 * b"y"),
    "many heads": (b"", b"G"),
    "trailers": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", b"X: " + 5_000 * b"y"),
    "trailers of what was answered": (b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: " + 5_000 * b"y"),
}


@pytest.mark.parametrize(("begin", "piece"), UNFINISHED.values(), ids=UNFINISHED)
def test_heads_hold_no_more_memory_than_allowed_and_the_oldest_gives_way(
    begin: bytes, piece: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "MOST_HEADS", most := 40_000)

    async def scenario(server: Wired) -> None:
        server.opened.set()
        reader, writer = await server.connect()
        hostile = []
        for number in range(20):
            if number % 3 == 0:  # a client whose head comes in two parts is answered all the time
                await server.send(writer, POST[:40])
            hostile.append(await server.connect())
            await server.send(hostile[-1][1], begin + piece)
            assert 0 < server.door.heads.total <= most
            if number % 3 == 0:
                writer.write(POST[40:])
                assert await answer(reader) == (200, b"{}")
        assert len(server.door.connections) < 20
        told = await answers(hostile[0][0])
        assert told[-1][0] in (503, 404)
        if told[-1][0] == 503:
            assert b"too many requests are incomplete; try again" in told[-1][1]

    play(scenario)


def test_a_pipeline_holds_no_more_memory_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "MOST_HEADS", 100_000)
    waiting = POST.replace(b"Host", 50 * b"X: y\r\n" + b"Host")

    async def scenario(server: Wired) -> None:
        for count, statuses in ((5, 6 * [200]), (10, [200, 503])):
            server.opened.clear()
            calls = server.calls
            reader, writer = await server.hold()
            await server.send(writer, count * waiting)
            assert (server.door.heads.total > 50_000) == (count == 5)
            server.opened.set()
            assert [(await answer(reader))[0] for _ in statuses] == statuses
            assert server.calls == calls + statuses.count(200)
        assert await answers(reader) == []

    play(scenario)


def rest(sock: socket.socket) -> int:
    """The number of bytes that still arrive."""
    count = 0
    with sock, contextlib.suppress(ConnectionError, TimeoutError):
        sock.settimeout(1)
        while data := sock.recv(1_000_000):
            count += len(data)
    return count


def test_unread_answers_hold_no_more_bytes_than_allowed_and_the_oldest_gives_way() -> None:
    async def scenario(server: Wired) -> None:
        server.opened.set()
        server.answer = 20_000_000 * b"x"  # the sockets take some of it
        clients = []
        for number in range(5):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(server.address)
            sock.sendall(POST)
            clients.append(sock)
            await until(lambda wanted=number + 1: server.calls == wanted and not server.boundary.in_flight)  # type: ignore[misc]
            assert 0 < server.door.answers.total <= 45_000_000
            reader, writer = await server.connect()  # a client that reads gets its answer all the time
            writer.write(POST.replace(b"/predict", b"/none"))
            assert (await answer(reader))[0] == 404
        assert [await asyncio.to_thread(rest, sock) > 20_000_000 for sock in clients] == [False, False, False, True, True]
        assert server.door.answers.total == 0

    play(scenario, max_bytes_in_work=45_000_000)


def test_an_answer_over_the_limit_of_unread_ones_arrives_if_it_is_alone() -> None:
    async def scenario(server: Wired) -> None:
        server.opened.set()
        server.answer = 10_000_000 * b"x"
        reader, writer = await server.connect()
        writer.write(POST)
        assert len((await answer(reader))[1]) == 10_000_000

    play(scenario, max_bytes_in_work=1_000_000)


def test_bodies_in_work_leave_room_for_small_ones() -> None:
    async def scenario(server: Wired) -> None:
        large = []
        for _ in range(2):
            reader, writer = await server.connect()
            writer.write(long_post(400_000) + 400_000 * b"x")
            large.append(reader)
            await until(lambda: server.boundary.bytes_in_work == 400_000)
        assert (await answer(large[1]))[0] == 503
        await server.hold()
        assert (server.boundary.in_flight, server.boundary.bytes_in_work) == (2, 400_002)
        server.opened.set()
        assert (await answer(large[0]))[0] == 200

    play(scenario, max_bytes_in_work=500_000, max_single_bytes=1000)


@pytest.mark.parametrize(("path", "most"), [(b"/predict", 1000), (b"/predict/batch", 5000)])
def test_each_route_has_its_limit_of_a_body_and_says_so_before_the_body_comes(path: bytes, most: int) -> None:
    async def scenario(server: Wired) -> None:
        server.opened.set()
        reader, writer = await server.connect()
        writer.write(long_post(most, path) + most * b"x")
        assert (await answer(reader))[0] == 200
        writer.write(long_post(most + 1, path))
        assert (await answer(reader))[0] == 413
        assert server.door.bodies.total == 0

    play(scenario, max_single_bytes=1000, max_body_bytes=5000)


class NoKeys:
    required = True

    def check(self, authorization: bytes | None, api_key: bytes | None) -> str:
        raise ServiceError(401, "expected a key")


def test_a_body_without_a_key_is_not_kept() -> None:
    async def scenario(server: Wired) -> None:
        reader, writer = await server.connect()
        writer.write(long_post(100_000) + 50_000 * b"x")
        assert (await answer(reader))[0] == 401
        assert (server.door.bodies.total, server.boundary.in_flight, server.calls) == (0, 0, 0)

    play(scenario, keys=NoKeys())


def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_nothing() -> None:
    async def scenario(server: Wired) -> None:
        _, writer = await server.connect()
        writer.write(POST[:-1])
        await until(lambda: server.door.bodies.total)
        writer.close()
        await until(lambda: not server.door.bodies.total)
        server.opened.set()
        reader, writer = await server.connect()
        writer.write(POST)
        assert (await answer(reader))[0] == 200

    play(scenario, max_in_flight=1)


def test_the_limits_do_not_vanish_in_silence(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    class H11Protocol:
        pass

    boundary = Boundary(None, Metrics(), LIMITS)  # type: ignore[arg-type]
    monkeypatch.setattr(auto, "AutoHTTPProtocol", H11Protocol)
    with caplog.at_level(logging.WARNING, LOGGER):
        assert boundary.guard_connections() is None
    assert [record.protocol for record in caplog.records if "no size limits" in record.message] == ["H11Protocol"]  # type: ignore[attr-defined]
    assert b"credit_connections_guarded 0.0" in boundary.metrics.exposition()


def test_the_limits_show_in_the_metrics() -> None:
    async def scenario(server: Wired) -> None:
        assert b"credit_connections_guarded 0.0" in server.metrics.exposition()
        await server.connect()
        await until(lambda: b"credit_connections_guarded 1.0" in server.metrics.exposition())

    play(scenario)
