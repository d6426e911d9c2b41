"""The sink of the durability `database`: a decision is committed to the store before it is answered."""

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection

from monitoring.decision_log.layout import START
from monitoring.decision_log.sink import PROBE_SECONDS, LogError
from monitoring.service_log import LOGGER
from monitoring.store.database import ANSWER_SECONDS, Store, StoreError, writing
from monitoring.store.insertion import insert_lines
from monitoring.store.positions import forget_position, write_position
from monitoring.store.queries import has_decision

logger = logging.getLogger(LOGGER)

MAX_WAITING_BYTES = 64_000_000
COMMIT_SECONDS = 2.0 * ANSWER_SECONDS  # limit of a commit: a stopped server, or one whose disk hangs, never ends a statement
PROBE = "probe"  # key of the row that a probe writes
FOUND = "found the last"  # key of a note on a connection


class _Job(NamedTuple):
    """The lines of a batch and the future that waits for them; a probe has no future."""

    lines: bytes
    future: "asyncio.Future[None] | None"


class _RefusedError(Exception):
    """The database refuses one of these lines."""


class StoreSink:
    """Commits decisions to the store in one thread; batches that arrive during a transaction share the next one.

    It is ready once a probe has written to the store; after a failure it probes again, at most once a second.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._last = b""  # line that was committed
        self._bytes = 0
        self._broken = True  # until the store was reached
        self._probed = time.monotonic()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._jobs.put(_Job(b"", None))
        self._thread = threading.Thread(target=self._run, name="store-sink", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether the last transaction or probe went well."""
        if self._broken and time.monotonic() - self._probed >= PROBE_SECONDS:
            self._probed = time.monotonic()
            self._jobs.put(_Job(b"", None))
        return not self._broken

    def append(self, records: Sequence[bytes]) -> "asyncio.Future[None]":
        """Commit the decisions of a batch; see Sink."""
        if not self.ready:
            raise _unusable()
        if self._bytes > MAX_WAITING_BYTES:
            raise LogError("too many decisions wait for the store")
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        lines = b"".join([record + b"\n" for record in records])
        self._bytes += len(lines)
        timer = loop.call_later(COMMIT_SECONDS, self._give_up, future)
        future.add_done_callback(partial(self._forget, timer, len(lines)))
        self._jobs.put(_Job(lines, future))
        return future

    def close(self) -> None:
        """Commit the batches that wait and end the thread; gives up after COMMIT_SECONDS."""
        self._jobs.put(None)
        self._thread.join(COMMIT_SECONDS)

    def _give_up(self, future: "asyncio.Future[None]") -> None:
        """Fail a batch that has waited too long; it may be committed yet."""
        if not future.done():
            self._broken, self._probed = True, time.monotonic()
            logger.error("the store has not committed decisions within %g seconds", COMMIT_SECONDS)
            future.set_exception(_unusable())

    def _forget(self, timer: asyncio.TimerHandle, size: int, _: object) -> None:
        timer.cancel()
        self._bytes -= size

    def _run(self) -> None:
        ending = False
        while not ending:
            jobs = [self._jobs.get()]
            while not self._jobs.empty():
                jobs.append(self._jobs.get())
            ending = None in jobs
            waiting = [job for job in jobs if job is not None and not (job.future and job.future.done())]
            if waiting:
                self._commit(waiting)

    def _commit(self, jobs: list[_Job]) -> None:
        """Commit jobs together; if the store refuses a line, commit each job on its own."""
        broken = False
        failed: LogError | None = None
        try:
            self._insert(jobs)
        except _RefusedError:
            if len(jobs) > 1:
                for job in jobs:
                    self._commit([job])
                return
            failed = LogError("the store refuses this decision")
        except Exception as error:  # the thread must go on
            broken = True
            failed = _unusable()
            logger.error("decisions cannot be committed: %s", error, exc_info=not isinstance(error, StoreError))
            self._store.close()  # the next connection checks the tables again
        self._broken, self._probed = broken, time.monotonic()
        for job in jobs:
            if job.future is not None:
                with contextlib.suppress(RuntimeError):  # the loop is closed; nobody waits
                    job.future.get_loop().call_soon_threadsafe(_settle, job.future, failed)

    def _insert(self, jobs: list[_Job]) -> None:
        lines = b"".join(job.lines for job in jobs)
        with writing(self._store.engine) as connection:
            self._find_last(connection)
            if any(job.future is None for job in jobs):
                write_position(connection, PROBE, START)
                forget_position(connection, PROBE)
            if insert_lines(connection, lines):
                raise _RefusedError
        self._last = lines.splitlines()[-1] if lines else self._last

    def _find_last(self, connection: Connection) -> None:
        """On a new connection, look for the decision that was committed last."""
        if FOUND not in connection.info and self._last:
            last = msgspec.json.decode(self._last)["prediction_id"]
            if not has_decision(connection, last):
                self._store.note_older(f"decision {last}")
        connection.info[FOUND] = True


def _settle(future: "asyncio.Future[None]", failed: LogError | None) -> None:
    if not future.done():
        if failed:
            future.set_exception(failed)
        else:
            future.set_result(None)


def _unusable() -> LogError:
    """The error that clients see; the log has the cause with the store's address."""
    return LogError("decisions cannot be put on record now (the store cannot be used)")
