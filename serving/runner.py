"""Batching by backpressure: score what is waiting; meanwhile the next batch gathers."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from monitoring.metrics import Metrics
from serving.errors import ServiceError

LEAST_SHARES = 4  # a batch is divided by the number of waiting calls, at least by this
NEXT = 1  # turns of the loop
LOOK = 2  # until the sockets have been read once more
TURN_SECONDS = 0.005
RETURN = 3  # until answers have been written and what came back was read

_PENDING = RuntimeError("not scored yet")
Item = TypeVar("Item")
Result = TypeVar("Result")
Batch = TypeVar("Batch")


@dataclass(slots=True, eq=False)
class Committed(Generic[Result]):
    """The results of a batch, and what they wait for before they may leave: nothing, or their record.

    `error` is the answer to every call in the batch instead.
    """

    results: Sequence[Result | Exception]
    recorded: "asyncio.Future[Any] | None" = None
    error: ServiceError | None = None


@dataclass(slots=True, eq=False)
class _Call(Generic[Item, Result]):
    """The rows of one request: those before `taken` have been scored, and `open` have no result that may leave yet."""

    items: Sequence[Item]
    done: "asyncio.Future[list[Result | Exception]]"
    since: float
    gone: Callable[[], bool]
    results: list[Result | Exception]
    open: int
    taken: int = 0


class Runner(Generic[Item, Batch, Result]):
    """Scores rows of concurrent calls together, in the event loop, without a timer.

    A call puts its rows into the queue. The first one asks the loop to score after everything that is ready now has
    run and the sockets have been read once more: clients that were answered together come back one after the other, and
    that look, of some microseconds, makes one batch of them. What arrives while it is being scored waits in the sockets
    and forms the next. A lone request waits for nobody, and the batch grows with the load by itself.

    While results wait for their record, calls are scored only when more rows wait than those; fewer wait for the record and for
    the clients it answers, who mostly come back at once. Otherwise the clients fall apart into groups with small batches and a sync
    each: on a disk that syncs in 4 ms, 886 requests a second at 8 connections with this rule and 640 without it, 3,300 and 3,220 at 64.

    Every call takes turns: a turn gives each waiting call an equal share of a batch, and none more than a quarter, so a call
    of 1,000 rows holds up others only for a quarter of a batch, while many calls are scored at once.

    Parameters
    ----------
    score : from items to what is committed; changes nothing. After an exception it is called again for each item alone, so
        that an item spoils only itself.
    commit : from what `score` gave to one result for each item, in order, and perhaps a future for when they are on record:
        they leave when it is done. It is called once for everything that was scored. An exception that it raises is the
        result of all.
    max_batch_size : most rows scored at once; between two batches the loop serves other events.
    max_waiting : most rows in the queue; a call beyond it is refused with 503.
    deadline : seconds that a call may wait; its rows are then dropped and it fails with 504.
    metrics : where rows a batch, queue depth, waiting and scoring time are recorded.
    """

    def __init__(
        self,
        score: Callable[[list[Item]], Batch],
        commit: Callable[[Batch], Committed[Result]],
        *,
        max_batch_size: int,
        max_waiting: int,
        deadline: float,
        metrics: Metrics,
    ) -> None:
        self.score, self._commit = score, commit
        self._max_batch_size = max_batch_size
        self._max_waiting = max_waiting
        self._deadline = deadline
        self._metrics = metrics
        self._calls: deque[_Call[Item, Result]] = deque()
        self._waiting = 0
        self._unrecorded = 0
        self._scheduled = False
        metrics.queue(lambda: self.waiting)

    @property
    def waiting(self) -> int:
        """Rows in the queue."""
        return self._waiting

    async def run(self, items: Sequence[Item], gone: Callable[[], bool] = lambda: False) -> list[Result | Exception]:
        """Score these items with whatever else is waiting; a result or an exception for each, in order.

        Parameters
        ----------
        gone : whether nobody waits for the results any more; then the rows not yet scored are dropped.

        Raises
        ------
        ServiceError
            503 where the queue is full, 504 where the deadline passed first, 400 where nobody waits any more.
        """
        if not items:
            return []
        if self._waiting and self._waiting + len(items) > self._max_waiting:
            raise ServiceError(503, "the queue is full; try again", retry_after=1)
        loop = asyncio.get_running_loop()
        call: _Call[Item, Result] = _Call(items, loop.create_future(), time.perf_counter(), gone, [_PENDING] * len(items), len(items))
        self._calls.append(call)
        self._waiting += len(items)
        if self._waiting > self._unrecorded:
            self._schedule(loop, LOOK)
        return await call.done

    def _schedule(self, loop: asyncio.AbstractEventLoop, turns: int) -> None:
        """Ask for a turn of this runner after so many of the loop, unless one is coming already."""
        if not self._scheduled:
            self._scheduled = True
            _after(loop, turns, self._turn)

    def _turn(self) -> None:
        """Give every waiting call its share; ask for another turn while rows are left.

        A call that asks for one row gets it in the very next turn, however many others do. Above capacity a turn of the loop is long, since
        all that arrives has to be read and refused in it: answers must not take several.
        """
        calls = len(self._calls)
        share = max(1, self._max_batch_size // max(LEAST_SHARES, calls))
        while calls > 0:
            now = time.perf_counter()
            seen, batch, shares = self._gather(calls, share, now)
            calls -= seen
            if not batch:
                break
            committed = self._committed(batch)
            ended = time.perf_counter()
            self._metrics.batch(len(batch), [now - call.since for call, first, _ in shares if not first], ended - now)
            if committed.recorded is None or committed.recorded.done():
                _deliver(shares, committed)
            else:
                self._unrecorded += len(batch)
                committed.recorded.add_done_callback(partial(self._recorded, shares, committed, len(batch)))
        self._scheduled = False
        if self._calls:
            self._schedule(asyncio.get_running_loop(), NEXT)

    def _recorded(self, shares: "_Shares[Item, Result]", committed: Committed[Result], rows: int, _: object) -> None:
        """Let results leave; then give those who waited for that their turn, with whoever has come back until then."""
        self._unrecorded -= rows
        _deliver(shares, committed)
        if self._calls:
            self._schedule(asyncio.get_running_loop(), RETURN)

    def _gather(self, calls: int, share: int, now: float) -> tuple[int, list[Item], "_Shares[Item, Result]"]:
        """The next batch: a share for each of the first calls; those with rows left go to the end. Also how many calls were seen."""
        batch: list[Item] = []
        shares: _Shares[Item, Result] = []
        for seen in range(calls):
            call = self._calls[0]
            left = len(call.items) - call.taken
            if dropped := self._dropped(call, now):
                self._calls.popleft()
                self._waiting -= left
                if not call.done.done():
                    call.done.set_exception(dropped)
                continue
            rows = min(left, share)
            if len(batch) + rows > self._max_batch_size:
                return seen, batch, shares
            self._calls.popleft()
            batch += call.items[call.taken : call.taken + rows]
            shares.append((call, call.taken, rows))
            call.taken += rows
            self._waiting -= rows
            if call.taken < len(call.items):
                self._calls.append(call)
        return calls, batch, shares

    def _dropped(self, call: _Call[Item, Result], now: float) -> ServiceError | None:
        if now - call.since > self._deadline:
            return ServiceError(504, f"the request was not scored within {self._deadline:g} seconds")
        if call.done.done() or call.gone():
            return ServiceError(400, "the client left before the answer")
        return None

    def _committed(self, batch: list[Item]) -> Committed[Result]:
        """Score a batch and commit it; where scoring fails, do so with each of its items alone."""
        try:
            scoring = self.score(batch)
        except Exception as error:
            if len(batch) == 1:
                return Committed([error])
        else:
            try:
                return self._commit(scoring)
            except ServiceError as error:
                return Committed([], error=error)
            except Exception as error:
                return Committed([error] * len(batch))
        alone = [self._committed([item]) for item in batch]
        waiting = [each.recorded for each in alone if each.recorded is not None]
        results = [result for each in alone for result in each.results]
        refused = next((each.error for each in alone if each.error), None)
        return Committed(results, asyncio.gather(*waiting) if waiting else None, refused)


class Turns:
    """Makes items that take long, for many requests: a turn of the loop belongs to one of them, for TURN_SECONDS of the clock.

    Sixty-four requests that each took their time in every turn would hold up all others sixty-four times as long.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._turn = asyncio.Lock()

    async def all(self, items: Iterable[Item | None]) -> list[Item]:
        """The items of one request; a None is none, only a step on the way to one."""
        made: list[Item] = []
        rest = iter(items)
        while True:
            async with self._turn:
                begun = self._clock()
                for item in rest:
                    if item is not None:
                        made.append(item)
                    if self._clock() - begun > TURN_SECONDS:
                        break
                else:
                    return made
                await asyncio.sleep(0)


def _after(loop: asyncio.AbstractEventLoop, turns: int, callback: Callable[[], object]) -> None:
    """Call back in the turn of the loop that many turns from now."""
    loop.call_soon(callback) if turns <= 1 else loop.call_soon(_after, loop, turns - 1, callback)


def _deliver(shares: "_Shares[Item, Result]", committed: Committed[Result]) -> None:
    """Hand the results of a batch to its calls; a call whose last one came is done."""
    error = committed.error
    if committed.recorded is not None and (cause := committed.recorded.exception()):
        error = ServiceError(503, str(cause), retry_after=1)
    start = 0
    for call, first, rows in shares:
        call.results[first : first + rows] = committed.results[start : start + rows]
        start += rows
        call.open -= rows
        if not call.done.done():
            if error:
                call.done.set_exception(error)
            elif not call.open:
                call.done.set_result(call.results)


_Shares = list[tuple[_Call[Item, Result], int, int]]  # calls, the place of their first row of the batch among their own, and how many
