"""The sink of the durability `database`: a decision is committed to the store before it is answered."""

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from monitoring.database import Store, StoreError, writing
from monitoring.lines import START
from monitoring.log import PROBE_SECONDS, LogError
from monitoring.logs import LOGGER
from monitoring.store import forget_position, insert_lines, write_position

log = logging.getLogger(LOGGER)

MAX_WAITING_BYTES = 64_000_000
PROBE = "probe"


class _Job(NamedTuple):
    """The lines of a batch, and the future that waits for them; no future for a probe."""

    lines: bytes
    future: "asyncio.Future[None] | None"


class _RefusedError(Exception):
    """Among these lines is one that the database does not take."""


class StoreLog:
    """Commits decisions to the store, in one thread: what arrives during a transaction goes into the next one.

    It is not ready until the store was reached; after a failure a probe that writes is tried once a second.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._bytes = 0
        self._broken = "the store has not been reached yet"
        self._probed = time.monotonic()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._jobs.put(_Job(b"", None))
        self._thread = threading.Thread(target=self._run, name="store-log", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether the last transaction went well; after a failure, whether a probe did since."""
        if self._broken and time.monotonic() - self._probed >= PROBE_SECONDS:
            self._probed = time.monotonic()
            self._jobs.put(_Job(b"", None))
        return not self._broken

    def append(self, records: Sequence[bytes]) -> "asyncio.Future[None]":
        """Commit the decisions of a batch; see Sink."""
        if not self.ready:
            raise LogError(f"decisions cannot be put on record now ({self._broken})")
        if self._bytes > MAX_WAITING_BYTES:
            raise LogError("too many decisions wait for the store")
        future = asyncio.get_running_loop().create_future()
        lines = b"".join([record + b"\n" for record in records])
        self._bytes += len(lines)
        self._jobs.put(_Job(lines, future))
        return future

    def close(self) -> None:
        """Commit what waits, end the thread."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        ending = False
        while not ending:
            jobs = [self._jobs.get()]
            while not self._jobs.empty():
                jobs.append(self._jobs.get())
            ending = None in jobs
            waiting = [job for job in jobs if job is not None]
            if waiting:
                self._commit(waiting)

    def _commit(self, jobs: list[_Job]) -> None:
        """Store these together; where the store refuses a line, each job by itself."""
        broken = ""
        failed: LogError | None = None
        try:
            self._insert(jobs)
        except _RefusedError:
            if len(jobs) > 1:
                for job in jobs:
                    self._commit([job])
                return
            failed = LogError("the store refuses this decision")
        except Exception as error:  # whatever it is, the thread goes on
            broken = str(error)
            failed = LogError(f"decisions cannot be put on record now ({broken})")
            log.error("decisions cannot be committed: %s", broken, exc_info=not isinstance(error, StoreError))
        self._broken, self._probed = broken, time.monotonic()
        for job in jobs:
            if job.future is not None:
                with contextlib.suppress(RuntimeError):  # the loop is closed; nobody waits
                    job.future.get_loop().call_soon_threadsafe(self._end, job, failed)

    def _insert(self, jobs: list[_Job]) -> None:
        with writing(self._store.engine) as connection:
            if any(job.future is None for job in jobs):
                write_position(connection, PROBE, START)
                forget_position(connection, PROBE)
            if insert_lines(connection, b"".join(job.lines for job in jobs)):
                raise _RefusedError

    def _end(self, job: _Job, failed: LogError | None) -> None:
        self._bytes -= len(job.lines)
        if job.future is not None and not job.future.done():
            if failed:
                job.future.set_exception(failed)
            else:
                job.future.set_result(None)
