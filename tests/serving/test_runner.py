import asyncio
from collections.abc import Iterator

import pytest
from batches import Recorder, as_it_is, make

from monitoring.metrics import Metrics
from serving.errors import ServiceError
from serving.runner import TURN_SECONDS, Committed, Runner, Turns


def test_calls_that_arrive_together_are_scored_together() -> None:
    score = Recorder()

    async def scenario() -> list[list[int | Exception]]:
        runner = make(score)
        return await asyncio.gather(*(runner.run([number]) for number in range(5)))

    assert asyncio.run(scenario()) == [[0], [2], [4], [6], [8]]
    assert score.batches == [[0, 1, 2, 3, 4]]


def test_a_lone_call_waits_for_nobody() -> None:
    score = Recorder()

    async def scenario() -> None:
        runner = make(score)
        for number in range(3):
            assert await asyncio.wait_for(runner.run([number]), 60) == [2 * number]
        assert runner.waiting == 0

    asyncio.run(scenario())
    assert score.batches == [[0], [1], [2]]


def test_no_batch_is_larger_than_its_limit_and_order_is_kept() -> None:
    score = Recorder()

    async def scenario() -> None:
        results = await asyncio.gather(*(make_runner.run(list(range(n))) for n in (0, 1, 7, 20, 33)))
        assert results == [[2 * item for item in range(n)] for n in (0, 1, 7, 20, 33)]

    make_runner = make(score, size=8)
    asyncio.run(scenario())
    assert max(len(batch) for batch in score.batches) <= 8
    assert sum(len(batch) for batch in score.batches) == 61


def test_many_calls_fill_a_batch_and_one_call_at_most_a_quarter() -> None:
    score = Recorder()

    async def scenario() -> None:
        runner = make(score, size=8)
        await runner.run(list(range(6)))
        await asyncio.gather(*(runner.run([number]) for number in range(11)))

    asyncio.run(scenario())
    assert [len(batch) for batch in score.batches] == [2, 2, 2, 8, 3]


def test_calls_that_come_with_the_next_look_at_the_sockets_join_the_batch() -> None:
    score = Recorder()

    async def scenario() -> None:
        runner = make(score, size=8)
        first = asyncio.create_task(runner.run([1]))
        await asyncio.sleep(0)
        second = asyncio.create_task(runner.run([2]))
        assert await asyncio.gather(first, second) == [[2], [4]]
        assert [len(batch) for batch in score.batches] == [2]

    asyncio.run(scenario())


def test_one_turn_scores_every_single_call_even_if_that_takes_several_batches() -> None:
    score = Recorder()

    async def scenario() -> None:
        runner = make(score, size=8)
        calls = [asyncio.create_task(runner.run([number])) for number in range(20)]
        for _ in range(3):
            await asyncio.sleep(0)
        assert [len(batch) for batch in score.batches] == [8, 8, 4]
        assert await asyncio.gather(*calls) == [[2 * number] for number in range(20)]

    asyncio.run(scenario())


def test_a_large_call_takes_turns_with_single_ones() -> None:
    score = Recorder()

    async def scenario() -> None:
        runner = make(score, size=8)
        large = asyncio.create_task(runner.run(list(range(1000))))
        await asyncio.sleep(0)
        await runner.run([5000])
        assert not large.done()
        assert len(score.batches) <= 2
        assert len(await large) == 1000

    asyncio.run(scenario())


def test_an_item_that_fails_spoils_only_itself() -> None:
    async def scenario() -> None:
        runner = make(Recorder(), size=64)
        results = await asyncio.gather(*(runner.run([number if number != 13 else -1]) for number in range(64)))
        for number, (result,) in enumerate(results):
            if number == 13:
                assert isinstance(result, ValueError)
            else:
                assert result == 2 * number

    asyncio.run(scenario())


def test_a_full_queue_refuses_and_says_when_to_try_again() -> None:
    async def scenario() -> None:
        runner = make(Recorder(), waiting=10)
        first, last = asyncio.create_task(runner.run(list(range(9)))), asyncio.create_task(runner.run([9]))
        await asyncio.sleep(0)
        with pytest.raises(ServiceError, match="the queue is full") as caught:
            await runner.run([1])
        assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "1"})
        assert len(await first) == 9
        assert await last == [18]
        assert await runner.run([1]) == [2]

    asyncio.run(scenario())


def test_an_empty_queue_takes_a_call_of_any_size() -> None:
    async def scenario() -> None:
        assert len(await make(Recorder(), waiting=10).run(list(range(50)))) == 50

    asyncio.run(scenario())


def test_a_call_past_its_deadline_fails_and_its_rows_are_dropped() -> None:
    score = Recorder()

    async def scenario() -> None:
        runner = make(score, size=1, deadline=-1)
        with pytest.raises(ServiceError, match="not scored within") as caught:
            await runner.run([1, 2, 3])
        assert caught.value.status == 504
        assert runner.waiting == 0

    asyncio.run(scenario())
    assert score.batches == []


def test_a_cancelled_call_is_dropped_and_harms_nobody() -> None:
    score = Recorder()

    async def scenario() -> None:
        runner = make(score, size=4)
        gone = asyncio.create_task(runner.run(list(range(100, 200))))
        stays = asyncio.create_task(runner.run([1, 2, 3, 4, 5]))
        await asyncio.sleep(0)
        gone.cancel()
        assert await stays == [2, 4, 6, 8, 10]
        assert runner.waiting == 0
        assert await runner.run([7]) == [14]

    asyncio.run(scenario())
    assert sum(item >= 100 for batch in score.batches for item in batch) <= 4


def test_batches_are_measured() -> None:
    metrics = Metrics()

    async def scenario() -> None:
        runner: Runner[int, Committed[int], int] = Runner(
            Recorder(), as_it_is, max_batch_size=4, max_waiting=100, deadline=1, metrics=metrics
        )
        await asyncio.gather(runner.run([1, 2, 3]), runner.run([4]))

    asyncio.run(scenario())
    text = metrics.exposition().decode()
    assert "credit_batch_rows_sum 4.0" in text
    assert "credit_waiting_seconds_count 2.0" in text
    assert "credit_queue_rows 0.0" in text


@pytest.mark.parametrize("requests", [1, 8])
def test_items_that_take_long_let_others_in_between(requests: int) -> None:
    seen: list[int] = []
    now = 0.0

    def slow() -> Iterator[int]:
        nonlocal now
        for number in range(20):
            now += 0.1 * TURN_SECONDS + 1e-6
            yield None
            now += 0.1 * TURN_SECONDS
            yield number

    async def look() -> None:
        while True:
            seen.append(1)
            await asyncio.sleep(0)

    async def scenario() -> None:
        turns = Turns(lambda: now)
        other = asyncio.create_task(look())
        assert await asyncio.gather(*(turns.all(slow()) for _ in range(requests))) == [list(range(20))] * requests
        other.cancel()

    asyncio.run(scenario())
    assert len(seen) >= 4 * requests  # once after every five of the twenty: a turn of the loop is one request's, however many there are


def test_rows_whose_client_left_are_not_scored() -> None:
    score = Recorder()

    async def scenario() -> None:
        runner = make(score, size=4)
        left = False
        calls = [asyncio.create_task(runner.run(list(range(100)), lambda: left)), asyncio.create_task(runner.run([7]))]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        left = True
        gone, stayed = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(gone, ServiceError)
        assert stayed == [14]
        assert runner.waiting == 0

    asyncio.run(scenario())
    assert sum(len(batch) for batch in score.batches) < 10


@pytest.mark.parametrize("bad", [0, -1], ids=["together", "alone, after one of them failed"])
def test_what_was_scored_is_committed_once_whatever_happens_then(bad: int) -> None:
    committed: list[int] = []

    def score(items: list[int]) -> list[int]:
        if min(items) < 0:
            raise ValueError("negative")
        return items

    def commit(items: list[int]) -> Committed[int]:
        committed.extend(items)
        raise ArithmeticError("no such bucket")

    async def scenario() -> list[list[int | Exception]]:
        runner: Runner[int, list[int], int] = Runner(score, commit, max_batch_size=8, max_waiting=100, deadline=10, metrics=Metrics())
        async with asyncio.timeout(10):
            return await asyncio.gather(*(runner.run([number]) for number in (1, 2, bad)))

    answers = asyncio.run(scenario())
    assert [[type(result) for result in answer] for answer in answers[:2]] == [[ArithmeticError], [ArithmeticError]]
    assert sorted(committed) == ([1, 2] if bad else [0, 1, 2])
