"""What a service that was told to end does for the clients it has and for those that still come."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop
from wire import LIMITS, POST, Wired, answers, long_post, play, until

from serving.uvicorn.drain import drain_first

GET = b"GET /%b HTTP/1.1\r\nHost: service\r\n\r\n"


async def ended(reader: asyncio.StreamReader) -> list[tuple[int, bool]]:
    """The status of each answer until the connection closes, and whether it says so."""
    received = (await reader.read()).lower()
    heads = [part.partition(b"\r\n\r\n")[0] for part in received.split(b"http/1.1 ")[1:]]
    return [(int(head[:3]), b"\r\nconnection: close" in head) for head in heads]


@pytest.mark.parametrize("short", [True, False], ids=["short path", "full path"])
@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (POST, [(200, True)]),
        (POST.replace(b"/predict", b"/nowhere"), [(404, True)]),
        (GET % b"nowhere", [(404, True)]),
        (long_post(LIMITS.max_body_bytes + 1), [(413, True)]),
        (b"nonsense\r\n\r\n", [(400, True)]),
        (POST.replace(b"Host", b"Expect: 100-continue\r\nHost"), [(200, True)]),
    ],
    ids=["post", "post to nowhere", "get", "too large", "not HTTP", "expect"],
)
def test_each_answer_while_draining_is_the_last_of_its_connection(sent: bytes, expected: list[tuple[int, bool]], short: bool) -> None:
    async def scenario(server: Wired) -> None:
        server.opened.set()
        old = await server.connect()
        await until(lambda: server.door.connections)
        server.door.drain()
        for reader, writer in (old, await server.connect()):
            writer.write(sent)
            assert await ended(reader) == expected

    play(scenario, short=short)


def test_requests_that_were_in_work_or_on_their_way_when_it_began_to_drain_are_answered() -> None:
    async def scenario(server: Wired) -> None:
        in_work, _ = await server.hold()
        arriving, writer = await server.connect()
        await server.send(writer, POST[:-1])
        server.door.drain()
        writer.write(POST[-1:])
        server.opened.set()
        assert await ended(in_work) == await ended(arriving) == [(200, True)]

    play(scenario)


def test_pipelined_requests_are_all_answered_and_the_last_answer_says_that_it_is() -> None:
    async def scenario(server: Wired) -> None:
        reader, writer = await server.hold()
        await server.send(writer, POST + POST)
        server.door.drain()
        server.opened.set()
        assert await ended(reader) == [(200, False), (200, False), (200, True)]

    play(scenario)


def test_what_there_is_no_room_for_is_told_to_come_again_elsewhere() -> None:
    async def scenario(server: Wired) -> None:
        reader, writer = await server.connect()
        await server.hold()
        server.door.drain()
        writer.write(POST)
        assert await ended(reader) == [(503, True)]

    play(scenario, max_in_flight=1)


def test_it_is_not_ready_while_draining_and_answers_other_probes() -> None:
    async def scenario(server: Wired) -> None:
        async def status(path: bytes) -> int:
            reader, writer = await server.connect()
            writer.write(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") % path)
            return (await answers(reader))[0][0]

        assert [await status(path) for path in (b"readyz", b"livez")] == [404, 404]  # this app has no probes
        server.door.drain()
        assert [await status(path) for path in (b"readyz", b"livez")] == [503, 404]

    play(scenario)


def test_an_idle_connection_stays_open_while_draining() -> None:
    async def scenario(server: Wired) -> None:
        server.opened.set()
        reader, writer = await server.connect()
        await until(lambda: server.door.connections)
        server.door.drain()
        server.later(0.9 * LIMITS.head_seconds)
        writer.write(POST)
        assert await ended(reader) == [(200, True)]

    play(scenario)


@pytest.mark.parametrize("sent", [POST[:10], POST[:-1]], ids=["head", "body"])
def test_a_request_that_is_incomplete_at_the_end_has_the_deadline_to_arrive(sent: bytes) -> None:
    async def scenario(server: Wired) -> None:
        clients = [await server.connect() for _ in range(2)]
        for _, writer in clients:
            await server.send(writer, sent)
        server.door.drain()
        server.door.refuse_late()
        (in_time, writer), (late, _) = clients
        server.later(0.9 * LIMITS.deadline_seconds)
        await server.send(writer, POST[len(sent) :])
        server.opened.set()
        assert await ended(in_time) == [(200, True)]
        server.later(0.2 * LIMITS.deadline_seconds)
        assert await ended(late) == [(503, True)]

    play(scenario, head_seconds=100.0, body_seconds=100.0)


class Door:
    """A door that notes what was asked of it."""

    def __init__(self, said: list[object]) -> None:
        self.said = said

    def drain(self) -> None:
        self.said.append("drain")

    def refuse_late(self) -> None:
        self.said.append("refuse late")


@pytest.fixture
def said() -> Iterator[list[object]]:
    """What a door and the handlers of a server notice."""
    said: list[object] = []
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda number, _: said.append(number)) for number in numbers]
    yield said
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize(
    ("seconds", "sent", "expected"),
    [
        (0.05, [signal.SIGTERM], ["drain", "stop listening", "refuse late", signal.SIGTERM]),
        (0.05, [signal.SIGTERM, signal.SIGTERM], ["drain", "stop listening", "refuse late", signal.SIGTERM]),
        (60, [signal.SIGINT], ["drain", "refuse late", signal.SIGTERM]),
        (60, [signal.SIGINT, signal.SIGTERM], ["drain", "refuse late", signal.SIGTERM]),
        (60, [signal.SIGINT, signal.SIGINT], ["drain", "refuse late", signal.SIGTERM, signal.SIGINT]),
        (60, [signal.SIGTERM, signal.SIGINT], ["drain", "drain", "refuse late", signal.SIGTERM]),
        (0, [signal.SIGTERM], ["drain", "refuse late", signal.SIGTERM]),
    ],
    ids=["TERM", "TERM to all processes", "INT", "INT, then TERM of the parent", "INT twice", "INT while draining", "no time"],
)
def test_sigterm_drains_before_the_server_ends_and_sigint_does_not_wait(
    said: list[object], run: Callable[..., Any], seconds: float, sent: list[int], expected: list[object]
) -> None:
    async def scenario() -> None:
        drain_first(asyncio.get_running_loop(), Door(said), seconds, lambda: said.append("stop listening"))  # type: ignore[arg-type]
        for number in sent:
            signal.raise_signal(number)
            await asyncio.sleep(0.01)
        await until(lambda: said[-1:] == expected[-1:])

    run(scenario())
    assert said == expected


def test_where_the_server_handles_no_signals_nothing_is_changed() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:

        async def scenario() -> None:
            arguments: Any = asyncio.get_running_loop(), Door([]), 1, print
            drain_first(*arguments)
            await asyncio.to_thread(drain_first, *arguments)

        asyncio.run(scenario())
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
