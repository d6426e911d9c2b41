"""Syncs of the active file: one at a time, each for everybody who waits."""

import asyncio
import errno
import logging
import queue
import threading
from collections.abc import Callable
from contextlib import suppress

from monitoring.decision_log.file import ActiveFile
from monitoring.decision_log.health import Health, cause, refusal
from monitoring.decision_log.layout import Position
from monitoring.service_log import LOGGER

logger = logging.getLogger(LOGGER)

QUICK_SECONDS = 0.001  # a sync that takes less costs less than handing it to a thread and coming back
LONGEST_SYNC_SECONDS = 5.0  # after which everybody who waits is refused

_NO_ANSWER = OSError(errno.ETIMEDOUT, "the disk does not answer")


class Syncer:
    """Syncs the active file for the batches that wait.

    If the last sync was quick, the next one runs in the event loop, in its next turn, when the batch has been counted. Otherwise it runs
    in a thread, and the sync after it covers what is appended meanwhile. If a sync in the thread takes longer than LONGEST_SYNC_SECONDS,
    everybody who waits is refused, though their decisions may come on record yet.

    Parameters
    ----------
    file, health : the file to sync, and where a failed sync is noted.
    sync, clock : writes a file to the disk; seconds that only grow.

    Raises
    ------
    OSError
        The file cannot be synced.
    """

    def __init__(self, file: ActiveFile, health: Health, sync: Callable[[int], None], clock: Callable[[], float]) -> None:
        self._file = file
        self._health = health
        self._sync = sync
        self._clock = clock
        self._seconds = 0.0  # that the last sync took
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._syncing: list[asyncio.Future[None]] = []
        self._jobs: queue.SimpleQueue[tuple[asyncio.AbstractEventLoop, int, Position] | None] = queue.SimpleQueue()
        if error := self._try_sync(file.descriptor):
            raise error
        self._thread = threading.Thread(target=self._run, name="decision-log", daemon=True)
        self._thread.start()

    @property
    def is_syncing(self) -> bool:
        """Whether a sync runs in the thread."""
        return bool(self._syncing)

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits for a sync."""
        return not self._syncing and not self._waiting

    def wait(self) -> "asyncio.Future[None]":
        """A future that is done when everything appended so far is on the disk, or fails with LogError."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._waiting.append(future)
        if self._seconds >= QUICK_SECONDS or self._file.is_full:  # a full file at once: the next batch can rotate it if nobody waits
            self._begin()
        elif len(self._waiting) == 1:
            loop.call_soon(self._begin)
        return future

    def close(self) -> bool:
        """Sync everything appended, and end the thread; False if the disk does not answer. The event loop settles the futures afterwards."""
        self._jobs.put(None)
        self._thread.join(LONGEST_SYNC_SECONDS)
        answers = not self._thread.is_alive()
        waiting, self._syncing, self._waiting = self._syncing + self._waiting, [], []
        error = self._try_sync(self._file.descriptor) if answers else _NO_ANSWER
        if answers:
            self._note(self._file.position, error)
        for future in waiting:
            with suppress(RuntimeError):  # the loop is closed; nobody waits
                future.get_loop().call_soon_threadsafe(_settle, [future], error)
        self._closed = True
        return answers

    def _begin(self) -> None:
        """Sync for those who wait, unless a sync is running."""
        if self._closed or self._syncing or not self._waiting:
            return
        self._syncing, self._waiting = self._waiting, []
        position = self._file.position
        if self._seconds < QUICK_SECONDS or self._file.is_full:
            self._end(position, self._try_sync(self._file.descriptor))
        else:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(LONGEST_SYNC_SECONDS, self._give_up)
            self._jobs.put((loop, self._file.descriptor, position))

    def _run(self) -> None:
        while job := self._jobs.get():
            loop, descriptor, position = job
            error = self._try_sync(descriptor)
            try:
                loop.call_soon_threadsafe(self._end, position, error)
            except RuntimeError:  # the loop is closed; nobody waits
                return

    def _try_sync(self, descriptor: int) -> OSError | None:
        begin = self._clock()
        try:
            self._sync(descriptor)
        except OSError as error:
            return error
        self._seconds = self._clock() - begin
        return None

    def _end(self, position: Position, error: OSError | None) -> None:
        if self._timer:
            self._timer.cancel()
        if self._closed:  # `close` has synced once more
            return
        done, self._syncing = self._syncing, []
        if error:
            done, self._waiting = done + self._waiting, []
        self._note(position, error)
        _settle(done, error)
        self._begin()

    def _give_up(self) -> None:
        """Refuse everybody who waits. The lines stay in the file: cutting them off would wait for the disk too."""
        if not self._closed:
            self._health.fault = cause(_NO_ANSWER)
            logger.error("the decision log cannot be written: the disk has not answered for %g seconds", LONGEST_SYNC_SECONDS)
            waiting, self._waiting = self._waiting, []
            _settle(self._syncing + waiting, _NO_ANSWER)

    def _note(self, position: Position, error: OSError | None) -> None:
        if error:  # the kernel may have dropped any page that was not synced
            self._health.fail(error, self._file.synced)
        else:
            self._file.synced = position


def _settle(futures: "list[asyncio.Future[None]]", error: OSError | None) -> None:
    for future in futures:
        if not future.done():
            if error:
                future.set_exception(refusal(cause(error)))
            else:
                future.set_result(None)
