"""The queue of rows to explain. A thread of its own explains them, so that scoring need not wait."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic

from serving.errors import ServiceError
from serving.runner import Batch, Committed, Item, Result

MOST_AT_ONCE = 16  # rows explained at once; a call of more takes turns with the others


@dataclass(slots=True, eq=False)
class _Share(Generic[Item, Result]):
    """Some rows of a call."""

    items: Sequence[Item]
    done: "asyncio.Future[Sequence[Result | Exception]]"
    since: float
    gone: Callable[[], bool]


class Desk(Generic[Item, Batch, Result]):
    """Explains rows in a thread, and commits them in the event loop. Its `run` is that of serving.runner.Runner.

    Parameters
    ----------
    explain : scores and explains items, without side effects; it runs in the thread. If it raises, it is called again for each item alone.
    commit : takes the result of `explain`, as the runner's.
    max_waiting : most rows in the queue; a call beyond it is refused with 503.
    deadline : seconds that rows may wait; then their call fails with 504.
    """

    def __init__(
        self,
        explain: Callable[[list[Item]], Batch],
        commit: Callable[[Batch], Committed[Result]],
        *,
        max_waiting: int,
        deadline: float,
    ) -> None:
        self._explain, self._commit = explain, commit
        self._max_waiting, self._deadline = max_waiting, deadline
        self._shares: deque[_Share[Item, Result]] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="explain")

    async def run(self, items: Sequence[Item], gone: Callable[[], bool] = lambda: False) -> list[Result | Exception]:
        """Explain these items; returns a result or an exception per item, in order.

        Raises
        ------
        ServiceError
            503 if the queue is full or the decisions cannot be recorded, 504 if the deadline has passed, 400 if the client has left.
        """
        waiting = sum(len(share.items) for share in self._shares)
        if waiting and waiting + len(items) > self._max_waiting:
            raise ServiceError(503, "the queue of explanations is full; try again", retry_after=1)
        results: list[Result | Exception] = []
        for first in range(0, len(items), MOST_AT_ONCE):
            loop = asyncio.get_running_loop()
            share: _Share[Item, Result] = _Share(items[first : first + MOST_AT_ONCE], loop.create_future(), time.perf_counter(), gone)
            self._shares.append(share)
            if self._worker is None:
                self._worker = loop.create_task(self._work())
            results += await share.done
        return results

    def close(self) -> None:
        """End the thread when it has explained what it has begun."""
        self._thread.shutdown()

    async def _work(self) -> None:
        """Explain until nothing waits."""
        while self._shares:
            taken: list[_Share[Item, Result]] = []
            while self._shares and sum(len(share.items) for share in taken) + len(self._shares[0].items) <= MOST_AT_ONCE:
                share = self._shares.popleft()
                if error := self._dropped(share):
                    share.done.set_exception(error)
                elif not share.done.done():
                    taken.append(share)
            try:
                results = await self._results([item for share in taken for item in share.items])
            except ServiceError as error:
                for share in taken:
                    if not share.done.done():
                        share.done.set_exception(error)
                continue
            for share in taken:
                own, results = results[: len(share.items)], results[len(share.items) :]
                if not share.done.done():
                    share.done.set_result(own)
        self._worker = None

    async def _results(self, items: list[Item]) -> list[Result | Exception]:
        """Explain and commit items together, or each alone if one of them fails."""
        if not items:
            return []
        try:
            batch = await asyncio.get_running_loop().run_in_executor(self._thread, self._explain, items)
            committed = self._commit(batch)
            if committed.recorded is not None:
                await _recorded(committed.recorded)
            return list(committed.results)
        except ServiceError:
            raise
        except Exception as error:
            if len(items) == 1:
                return [error]
        return [result for item in items for result in await self._results([item])]

    def _dropped(self, share: _Share[Item, Result]) -> ServiceError | None:
        if share.done.done():
            return None
        if time.perf_counter() - share.since > self._deadline:
            return ServiceError(504, f"the request was not explained within {self._deadline:g} seconds")
        return ServiceError(400, "the client left before the answer") if share.gone() else None


async def _recorded(kept: "asyncio.Future[None]") -> None:
    try:
        await kept
    except Exception as error:
        raise ServiceError(503, str(error), retry_after=1) from None
