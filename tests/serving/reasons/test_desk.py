import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from serving.errors import ServiceError
from serving.reasons.desk import MOST_AT_ONCE, Desk
from serving.runner import Committed


def commit(batch: list[int]) -> Committed[int]:
    return Committed(batch)


def desk(
    explain: Callable[[list[int]], list[int]], commit: Any = commit, waiting: int = 100, deadline: float = 60
) -> Desk[int, list[int], int]:
    return Desk(explain, commit, max_waiting=waiting, deadline=deadline)


def double(items: list[int]) -> list[int]:
    return [2 * item for item in items]


def test_results_come_in_order_and_a_long_call_takes_turns() -> None:
    batches: list[list[int]] = []

    def explain(items: list[int]) -> list[int]:
        batches.append(items)
        time.sleep(0.002)
        return double(items)

    async def calls() -> list[list[int | Exception]]:
        own = desk(explain)
        results = await asyncio.gather(own.run(range(3 * MOST_AT_ONCE)), own.run([-1]), own.run([-2, -3]))
        own.close()
        return results

    long, first, second = asyncio.run(calls())
    assert long == double(list(range(3 * MOST_AT_ONCE)))
    assert (first, second) == ([-2], [-4, -6])
    assert all(len(batch) <= MOST_AT_ONCE for batch in batches)
    assert next(place for place, batch in enumerate(batches) if -1 in batch) < 3


def test_the_loop_is_free_while_a_row_is_explained() -> None:
    begun, go = threading.Event(), threading.Event()

    def explain(items: list[int]) -> list[int]:
        assert threading.current_thread() is not threading.main_thread()
        begun.set()
        assert go.wait(30)
        return items

    async def call() -> list[int | Exception]:
        own = desk(explain)
        running = asyncio.create_task(own.run([1]))
        assert await asyncio.to_thread(begun.wait, 30)
        go.set()
        return await running

    assert asyncio.run(call()) == [1]


def test_only_the_row_that_cannot_be_explained_fails() -> None:
    def explain(items: list[int]) -> list[int]:
        if 3 in items:
            raise ZeroDivisionError
        return double(items)

    results = asyncio.run(desk(explain).run([1, 3, 5]))
    assert (results[0], results[2]) == (2, 10)
    assert isinstance(results[1], ZeroDivisionError)


def test_a_record_that_fails_refuses_the_calls() -> None:
    def unkept(batch: list[int]) -> Committed[int]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_exception(OSError("the disk is full"))
        return Committed(batch, future)

    def refused(batch: list[int]) -> Committed[int]:
        raise ServiceError(503, "the log is closed")

    for broken, said in ((unkept, "the disk is full"), (refused, "the log is closed")):
        with pytest.raises(ServiceError, match=said) as caught:
            asyncio.run(desk(double, broken).run([1]))
        assert caught.value.status == 503


@pytest.mark.parametrize(("options", "gone", "status"), [({"deadline": 0.0}, False, 504), ({}, True, 400)])
def test_rows_that_waited_too_long_or_whose_client_left_are_dropped(options: dict[str, float], gone: bool, status: int) -> None:
    def never(items: list[int]) -> list[int]:
        raise AssertionError

    with pytest.raises(ServiceError) as caught:
        asyncio.run(desk(never, **options).run([1], lambda: gone))
    assert caught.value.status == status


def test_a_full_queue_refuses_and_a_lone_call_of_any_size_does_not_wait() -> None:
    async def calls() -> list[Any]:
        own = desk(double, waiting=2)
        return await asyncio.gather(own.run([1] * 5), own.run([2]), own.run([3]), own.run([4, 5, 6]), return_exceptions=True)

    first, *others = asyncio.run(calls())
    assert first == [2] * 5
    assert all(isinstance(one, ServiceError) and one.status == 503 for one in others)
