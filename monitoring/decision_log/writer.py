"""The writer of the decision log: appends a line for each decision before its answer leaves."""

import asyncio
import errno
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from monitoring.decision_log.file import ActiveFile
from monitoring.decision_log.health import Health, refusal
from monitoring.decision_log.layout import ACTIVE, lock_log, rotated, rotated_sequences, sync_folder
from monitoring.decision_log.sink import LogError
from monitoring.decision_log.sync import Syncer
from monitoring.private_files import open_private


class DecisionLog:
    """The sink that writes a log; a lock admits one writer at a time. It lives in one event loop.

    Parameters
    ----------
    folder : of the log, made if it is missing; only its owner can read its files.
    durability : `flush`: a decision is on record when the operating system has it, so it survives the process;
        `fsync`: a decision is on record when the disk has it, so it survives a loss of power; see Syncer.
    max_bytes : a file that has reached this size is rotated before the next batch, with `fsync` once nobody waits for a sync.
    unlogged : called with the log locked and whole; the records that belong into it before any other.
    sync, clock : writes a file to the disk; seconds that only grow. Tests replace them.

    Raises
    ------
    LogError
        Another process writes this log, or the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        durability: Literal["flush", "fsync"],
        max_bytes: int,
        unlogged: Callable[[], Sequence[bytes]] = tuple,
        sync: Callable[[int], None] = os.fdatasync,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        try:
            self._lock = lock_log(folder)
            self._file = ActiveFile(folder, max_bytes, sync if durability == "fsync" else None)
            self._file.append(unlogged())
            self._health = Health(folder, self._file, self._lock, sync, clock)
            self._syncer = Syncer(self._file, self._health, sync, clock) if durability == "fsync" else None
            if self._syncer:
                sync_folder(folder)
            self._file.synced = self._file.position
        except OSError as error:
            raise _not_opened(folder, error) from None

    @property
    def ready(self) -> bool:
        """Whether the last write and sync went well and the files are still in the folder; checked once a second."""
        health = self._health
        if health.fault and self._syncer and self._syncer.is_syncing:  # a probe would wait for the disk too
            return False
        return health.check()

    @property
    def synced(self) -> tuple[int, int]:
        """The end of the lines on record: the number of the active file and an offset in it."""
        return (self._file.synced if self._syncer else self._file.position)[:2]

    def append(self, records: Sequence[bytes]) -> "asyncio.Future[None] | None":
        """Append a line for each decision, in one write; see Sink."""
        if not self.ready:
            raise refusal(self._health.fault)
        file, syncer = self._file, self._syncer
        try:
            if file.is_full and (syncer is None or syncer.is_idle):
                file.rotate()
            file.append(records)
        except OSError as error:
            self._health.fail(error, file.position)
            raise refusal(self._health.fault) from None
        return syncer.wait() if syncer and records else None

    def close(self) -> None:
        """Sync what was appended, close the file, release the lock. It waits up to LONGEST_SYNC_SECONDS for the disk."""
        if self._syncer is None or self._syncer.close():
            with suppress(OSError):  # the next start removes what stands behind the lines
                self._file.cut()
        os.close(self._file.descriptor)
        os.close(self._lock)


def check_writable(folder: Path) -> None:
    """Check that this process can write a log and its files; makes the folder if it is missing.

    Raises
    ------
    LogError
        Another process writes the log, or the folder or a file cannot be written.
    """
    try:
        os.close(lock_log(folder))
        if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, "no file can be made there", str(folder))
        for path in (folder / ACTIVE, *(rotated(folder, number) for number in rotated_sequences(folder)[-1:])):
            if path.exists():
                os.close(open_private(path, os.O_RDWR))
    except OSError as error:
        raise _not_opened(folder, error) from None


def _not_opened(folder: Path, error: OSError) -> LogError:
    return LogError(f"the decision log in {folder} cannot be opened: {error}")
