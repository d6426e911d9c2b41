"""What a batch's results wait for: their record."""

import asyncio

import pytest
from batches import Recorder, as_it_is, make

from monitoring.metrics import Metrics
from serving.errors import ServiceError
from serving.runner import Committed, Runner


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
