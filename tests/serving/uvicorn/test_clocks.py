"""By when a client has to act, and what becomes of one that is late."""

import itertools

import pytest
from wire import HEAD, LIMITS, POST, Wired, answer, answers, long_post, play, until

pytestmark = pytest.mark.slow


def test_an_idle_connection_is_closed_after_its_time_and_not_before() -> None:
    async def scenario(server: Wired) -> None:
        server.opened.set()
        reader, writer = await server.connect()
        for _ in range(3):
            writer.write(POST)
            assert (await answer(reader))[0] == 200
            server.later(0.9 * LIMITS.idle_seconds)
        server.later(0.2 * LIMITS.idle_seconds)
        assert await answers(reader) == []

    play(scenario)


def test_a_connection_is_not_idle_while_its_requests_are_in_work() -> None:
    async def scenario(server: Wired) -> None:
        reader, writer = await server.hold()
        writer.write(POST)  # waits in the pipeline
        server.later(1000)
        server.opened.set()
        assert [(await answer(reader))[0] for _ in range(2)] == [200, 200]
        server.later(1.1 * LIMITS.idle_seconds)
        assert await answers(reader) == []

    play(scenario)


def test_a_client_that_says_nothing_is_left_without_a_word() -> None:
    async def scenario(server: Wired) -> None:
        reader, _ = await server.connect()
        await until(lambda: server.door.connections)
        server.later(0.9 * LIMITS.head_seconds)
        assert len(server.door.connections) == 1
        server.later(0.2 * LIMITS.head_seconds)
        assert await answers(reader) == []

    play(scenario)


@pytest.mark.parametrize(
    ("sent", "seconds"), [(HEAD, LIMITS.head_seconds), (long_post(1000) + b"{", LIMITS.body_seconds)], ids=["head", "body"]
)
def test_a_request_that_does_not_come_in_its_time_is_answered_408(sent: bytes, seconds: float) -> None:
    async def scenario(server: Wired) -> None:
        reader, writer = await server.connect()
        for place in range(0, len(sent), 20):  # that it sends now and then does not help
            await server.send(writer, sent[place : place + 20])
        server.later(0.9 * seconds)
        await server.send(writer, b"X-Late: ")
        assert len(server.door.connections) == 1
        server.later(0.2 * seconds)
        ((status, body),) = await answers(reader)
        assert (status, b"did not arrive in time" in body, server.calls) == (408, True, 0)
        assert b'credit_requests_total{route="other",status="408"} 1.0' in server.metrics.exposition()

    play(scenario)


def test_a_slow_client_that_keeps_to_the_clock_gets_its_answer() -> None:
    async def scenario(server: Wired) -> None:
        server.opened.set()
        reader, writer = await server.connect()
        sent = long_post(1000) + 1000 * b"x"
        places = [0, 20, 60, len(sent) - 900, len(sent) - 500, len(sent) - 1, len(sent)]
        for place, (begin, end) in enumerate(itertools.pairwise(places)):
            await server.send(writer, sent[begin:end])
            server.later(0.4 * LIMITS.head_seconds if place < 2 else 0.3 * LIMITS.body_seconds if place < 5 else 0)
        assert await answer(reader) == (200, 1000 * b"x")

    play(scenario)


def test_a_client_that_does_not_read_its_answers_holds_no_place() -> None:
    async def scenario(server: Wired) -> None:
        server.opened.set()
        server.answer = 8_000_000 * b"x"  # more than the sockets take
        _, writer = await server.connect()
        writer.write(2 * POST)
        await until(lambda: server.calls == 2)
        assert server.boundary.in_flight == 1  # the second answer waits for the reading of the first
        server.later(0.9 * LIMITS.body_seconds)
        assert len(server.door.connections) == 1
        server.later(0.2 * LIMITS.body_seconds)
        await until(lambda: not server.door.connections)
        await until(lambda: not server.boundary.in_flight)

    play(scenario)


def test_the_begin_of_the_next_request_outlasts_the_answer_to_the_one_before() -> None:
    async def scenario(server: Wired) -> None:
        reader, writer = await server.hold()
        await server.send(writer, POST[:30])
        server.opened.set()
        assert (await answer(reader))[0] == 200
        writer.write(POST[30:])
        assert await answer(reader) == (200, b"{}")

    play(scenario)


def test_the_rest_of_a_body_may_come_after_its_answer() -> None:
    async def scenario(server: Wired) -> None:
        server.opened.set()
        reader, writer = await server.connect()
        writer.write(POST.replace(b"/predict", b"/predicted")[:-1])
        assert (await answer(reader))[0] == 404
        await server.send(writer, POST[-1:])
        writer.write(POST)
        assert await answer(reader) == (200, b"{}")
        server.later(1.1 * LIMITS.idle_seconds)
        assert await answers(reader) == []

    play(scenario)
