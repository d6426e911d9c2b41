"""The shipper: moves the lines of the decision log into the store while requests are served."""

import logging
import os
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from monitoring.decision_log.layout import START, Position, log_id, remove_old
from monitoring.decision_log.reader import end_of_log, holds, read_lines, unread
from monitoring.metrics import Metrics
from monitoring.private_files import open_private
from monitoring.service_log import LOGGER
from monitoring.store.database import Store, StoreError, reading, writing
from monitoring.store.insertion import insert_lines
from monitoring.store.positions import forget_position, keep_lost, read_position, write_position

logger = logging.getLogger(LOGGER)

BLOCK_BYTES = 500_000  # of one transaction, some hundred lines: it takes a core from the requests for 10 ms
IDLE_SECONDS = 1.0
QUIET_SECONDS = 0.5  # without a decision, after which it need not spare the requests; a lone client asks more often
LEAST_SHARE, MOST_SHARE = 0.01, 0.5  # of a core, taken from the requests; it grows with the age of the oldest unshipped decision
LONGEST_REST = 5.0  # after any step; the first one is long, since it makes the tables
HURRY_SECONDS = 240.0  # age at which it takes MOST_SHARE, a minute before the alert
LONGEST_PAUSE = 30.0
RETENTION_SECONDS = 3600.0
REFUSED = "refused.jsonl"


class Shipper:
    """Ships one log, in a thread of its own or step by step.

    One transaction stores lines and the position after them, and leaves decisions that are in the store already as they are. So no decision
    is missed or doubled, wherever the shipper stops and starts, even if the database goes back to an older state. Lines that the database
    refuses go to `refused.jsonl`, and shipping continues. While decisions are made the shipper takes a hundredth of a core, rising to half a
    core when it is four minutes behind. It does not rest if no decision came for half a second, or while a caller waits for it.
    After a failure it pauses, longer each time, up to 30 seconds.

    Parameters
    ----------
    folder : of the log.
    store : to ship to.
    retention_days : age from which rotated files are removed, if they are shipped.
    metrics : show lag, lines and errors.
    until : the end of the lines on record, a file's number and an offset in it; None for the end of the log.
    clock : returns seconds from any origin. Tests replace it.
    wait : waits for a condition, at most the given number of seconds. Tests replace it.
    """

    def __init__(
        self,
        folder: Path,
        store: Store,
        retention_days: float,
        metrics: Metrics,
        until: Callable[[], tuple[int, int] | None] = lambda: None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Condition, float], object] = threading.Condition.wait,
    ) -> None:
        self._folder = folder
        self._store = store
        self._retention = timedelta(days=retention_days)
        self._metrics = metrics.store
        self._until = until
        self._clock = clock
        self._wait = wait
        self._log: str | None = None
        self._position: Position | None = None
        self._end = end_of_log(folder)
        self._grown = -QUIET_SECONDS
        self._failures = 0
        self._cleaned = False
        self._clean_by = self._clock() + RETENTION_SECONDS
        self._awaited = 0
        self._stopping = False
        self._stop_by = 0.0
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self.run, name="shipper", daemon=True)
        self._metrics.shipping(self.lag)

    def start(self) -> None:
        """Begin to ship in a thread."""
        self._thread.start()

    def run(self) -> None:
        """Ship until `stop` ends it."""
        while True:
            pause = rest = 0.0
            last = self._stopping  # the step that begins now sees everything appended before `stop`
            try:
                begun = time.thread_time()  # of the processor: waiting for the database costs the requests nothing
                if not self.ship():
                    pause = IDLE_SECONDS
                else:
                    worked = time.thread_time() - begun
                    rest = rest_after(worked, self.lag()[0]) if self._is_busy() else 0.0
                self._note_failures(0)
            except Exception as error:  # the thread must go on
                self._note_failures(self._failures + 1)
                self._metrics.shipping_failed()
                self._store.close()  # the next connection checks the tables again
                pause = min(LONGEST_PAUSE, 2.0 ** min(self._failures - 1, 10)) * random.uniform(0.5, 1)  # noqa: S311
                expected = isinstance(error, StoreError | OSError)
                logger.error("the decision log was not shipped: %s", error, exc_info=not expected, extra={"pause": round(pause, 1)})
            with self._changed:
                if self._stopping and ((last and pause) or self._clock() > self._stop_by):
                    return
                if not self._stopping and (pause or (rest and not self._awaited)):
                    self._wait(self._changed, pause or rest)

    def stop(self, seconds: float) -> None:
        """Ship the rest of the log, for at most `seconds`, and end the thread."""
        with self._changed:
            self._stopping, self._stop_by = True, self._clock() + seconds
            self._changed.notify_all()
        self._thread.join(seconds + IDLE_SECONDS)

    def ship(self) -> int:
        """Ship one block; returns the number of its lines, 0 if none is left.

        Raises
        ------
        StoreError
            The store cannot be used now.
        """
        self._log = self._log or log_id(self._folder)
        if self._log is None:
            return 0
        with reading(
            self._store.engine
        ) as connection:  # read it each time: the database may have been restored, or another shipper may have run
            position = read_position(connection, self._log)
        if self._position and position[:2] < self._position[:2]:
            self._store.note_older(f"the log up to byte {self._position.offset} of file {self._position.sequence}")
            self._position = None
        lost = not holds(self._folder, position)
        lines, after = read_lines(self._folder, position, BLOCK_BYTES, self._until())
        if lines or lost:
            with writing(
                self._store.engine, may_be_lost=True
            ) as connection:  # the log still holds the lines, and the old position leads to them
                refused = insert_lines(connection, lines)
                self._set_aside(refused)
                if lost:  # else `verify-log` would accept a rewritten log
                    keep_lost(connection, self._log, position)
                write_position(connection, self._log, after)
            self._metrics.shipped(lines.count(b"\n") - len(refused), len(refused))
        with self._changed:
            self._position = after
            self._changed.notify_all()
        if self._clock() > self._clean_by or not (lines or self._cleaned):
            self.remove_old()
        return lines.count(b"\n")

    def catch_up(self, seconds: float) -> bool:
        """Wait until the store has everything that is in the log now; False if the time runs out or the store fails."""
        goal = self._until() or end_of_log(self._folder)
        with self._changed:
            self._awaited += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._failures or self._is_at(goal), seconds)
            self._awaited -= 1
            return self._is_at(goal)

    def lag(self) -> tuple[float, int]:
        """The age in seconds of the oldest unshipped decision, and the unshipped bytes; until the store is reached, of the whole log."""
        size, since = unread(self._folder, self._position or START)
        return (max(0.0, (datetime.now(UTC) - since).total_seconds()) if since else 0.0), size

    def remove_old(self) -> None:
        """Remove the files that are shipped and old enough. `ship` calls it once nothing is left to ship, then every hour."""
        self._cleaned, self._clean_by = True, self._clock() + RETENTION_SECONDS
        self._log = self._log or log_id(self._folder)
        if self._log is None:
            return
        with writing(self._store.engine) as connection:  # a commit that is synced, and all earlier ones with it
            shipped = read_position(connection, self._log)
            forget_position(connection, self._log)  # SQLite writes and syncs nothing if nothing changes
            write_position(connection, self._log, shipped)
        if not holds(self._folder, shipped):  # the position belongs to another copy of this log
            return
        for name in remove_old(self._folder, datetime.now(UTC) - self._retention, shipped):
            logger.info("%s was removed: it is shipped and older than log.retention_days", name)

    def _is_busy(self) -> bool:
        """Whether a decision was made in the last QUIET_SECONDS."""
        before, self._end = self._end, end_of_log(self._folder)
        if self._end != before:
            self._grown = self._clock()
        return self._clock() - self._grown < QUIET_SECONDS

    def _is_at(self, goal: tuple[int, int]) -> bool:
        return goal == (1, 0) or (self._position is not None and self._position[:2] >= goal)

    def _note_failures(self, count: int) -> None:
        with self._changed:
            self._failures = count
            self._changed.notify_all()

    def _set_aside(self, refused: list[bytes]) -> None:
        if refused:
            file = open_private(self._folder / REFUSED, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            with os.fdopen(file, "wb") as output:
                output.writelines(refused)
                output.flush()
                os.fsync(output.fileno())


def rest_after(worked: float, lag: float) -> float:
    """Seconds to rest after `worked` seconds of work; `lag` is the age of the oldest unshipped decision in seconds."""
    share = LEAST_SHARE + (MOST_SHARE - LEAST_SHARE) * min(1.0, lag / HURRY_SECONDS)
    return min(LONGEST_REST, worked * (1 / share - 1))
