import asyncio
from collections.abc import Iterator

import pytest

from monitoring.metrics import Metrics
from serving.errors import ServiceError
from serving.runner import TURN_SECONDS, Committed, Runner, Turns


class Recorder:
    """Doubles numbers, remembers the batches, and fails at negative ones."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __call__(self, items: list[int]) -> Committed[int]:
        self.batches.append(list(items))
        if any(item < 0 for item in items):
            raise ValueError("negative")
        return Committed([2 * item for item in items])


def as_it_is(committed: Committed[int]) -> Committed[int]:
    """What commits nothing."""
    return committed


def make(score: Recorder, size: int = 8, waiting: int = 10_000, deadline: float = 10) -> Runner[int, Committed[int], int]:
    return Runner(score, as_it_is, max_batch_size=size, max_waiting=waiting, deadline=deadline, metrics=Metrics())


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


class Keeper(Recorder):
    """A Recorder whose results are on record when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[asyncio.Future[None]] = []

    def __call__(self, items: list[int]) -> Committed[int]:
        scored = super().__call__(items)
        self.records.append(asyncio.get_running_loop().create_future())
        return Committed(scored.results, self.records[-1])


async def scored(score: Keeper, batches: int) -> None:
    for _ in range(20):
        if len(score.records) == batches:
            return
        await asyncio.sleep(0)
    raise AssertionError(f"{len(score.records)} batches were scored")


def test_results_leave_when_they_are_on_record_and_the_next_batch_is_scored_meanwhile() -> None:
    score = Keeper()

    async def scenario() -> None:
        runner = make(score, size=8)
        first = asyncio.create_task(runner.run([1]))
        await scored(score, 1)
        second = asyncio.create_task(runner.run([2, 3]))
        await scored(score, 2)
        assert not first.done()
        score.records[0].set_result(None)
        assert await first == [2]
        assert not second.done()
        score.records[1].set_result(None)
        assert await second == [4, 6]

    asyncio.run(scenario())


def test_fewer_than_wait_for_their_record_wait_for_it_too_and_for_those_it_answers() -> None:
    score = Keeper()

    async def scenario() -> None:
        runner = make(score, size=8)

        async def client(number: int) -> None:
            await runner.run([number])
            await runner.run([10 + number])

        pair = [asyncio.create_task(client(number)) for number in (1, 2)]
        await scored(score, 1)
        late = asyncio.create_task(runner.run([3]))
        for _ in range(10):
            await asyncio.sleep(0)
        assert score.batches == [[1, 2]]
        score.records[0].set_result(None)
        await scored(score, 2)
        assert sorted(score.batches[1]) == [3, 11, 12]
        score.records[1].set_result(None)
        await asyncio.gather(*pair, late)
        assert runner.waiting == 0

    asyncio.run(scenario())


def test_as_many_as_wait_for_their_record_wait_for_it_too_and_one_more_does_not() -> None:
    score = Keeper()

    async def scenario() -> None:
        runner = make(score, size=16)
        first = asyncio.create_task(runner.run([1, 2]))
        await scored(score, 1)
        second = asyncio.create_task(runner.run([3, 4]))
        for _ in range(10):
            await asyncio.sleep(0)
        assert score.batches == [[1, 2]]
        third = asyncio.create_task(runner.run([5]))
        await scored(score, 2)
        assert score.batches == [[1, 2], [3, 4, 5]]
        for record in score.records:
            record.set_result(None)
        await asyncio.gather(first, second, third)

    asyncio.run(scenario())


def test_rows_that_wait_for_the_record_of_others_are_shown_as_waiting() -> None:
    score, metrics = Keeper(), Metrics()

    async def scenario() -> None:
        runner: Runner[int, Committed[int], int] = Runner(score, as_it_is, max_batch_size=8, max_waiting=100, deadline=10, metrics=metrics)
        first = asyncio.create_task(runner.run([1, 2]))
        await scored(score, 1)
        second = asyncio.create_task(runner.run([3]))
        await asyncio.sleep(0)
        assert metrics.registry.get_sample_value("credit_queue_rows") == 1
        score.records[0].set_result(None)
        await scored(score, 2)
        score.records[1].set_result(None)
        await asyncio.gather(first, second)
        assert metrics.registry.get_sample_value("credit_queue_rows") == 0

    asyncio.run(scenario())


def test_those_who_waited_for_a_record_are_served_when_it_fails() -> None:
    score = Keeper()

    async def scenario() -> None:
        runner = make(score, size=8)
        first = asyncio.create_task(runner.run([1, 2]))
        await scored(score, 1)
        second = asyncio.create_task(runner.run([3]))
        await asyncio.sleep(0)
        score.records[0].set_exception(OSError("the disk is full"))
        with pytest.raises(ServiceError, match="the disk is full"):
            await first
        await scored(score, 2)
        score.records[1].set_result(None)
        assert await second == [6]

    asyncio.run(scenario())


def test_a_large_call_is_answered_in_order_whatever_the_order_of_its_records() -> None:
    score = Keeper()

    async def scenario() -> None:
        large = asyncio.create_task(make(score, size=8).run(list(range(6))))
        await scored(score, 3)
        for record in reversed(score.records):
            assert not large.done()
            record.set_result(None)
            await asyncio.sleep(0)
        assert await large == [0, 2, 4, 6, 8, 10]

    asyncio.run(scenario())


def test_a_call_whose_decisions_cannot_be_recorded_is_refused() -> None:
    async def by_future() -> None:
        score = Keeper()
        call = asyncio.create_task(make(score, size=8).run([1, 2, 3, 4, 5]))
        await scored(score, 1)
        score.records[0].set_exception(OSError("the disk is full"))
        with pytest.raises(ServiceError, match="the disk is full") as caught:
            await call
        assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "1"})

    async def at_once() -> None:
        def refuse(scored: Committed[int]) -> Committed[int]:
            batches.append([result // 2 for result in scored.results if isinstance(result, int)])
            raise ServiceError(503, "no record", retry_after=1)

        batches: list[list[int]] = []
        runner: Runner[int, Committed[int], int] = Runner(
            Recorder(), refuse, max_batch_size=8, max_waiting=100, deadline=10, metrics=Metrics()
        )
        with pytest.raises(ServiceError, match="no record"):
            await runner.run([1, 2, 3, 4])
        for _ in range(2):
            await asyncio.sleep(0)
        assert batches == [[1, 2]]
        assert runner.waiting == 0

    asyncio.run(by_future())
    asyncio.run(at_once())
