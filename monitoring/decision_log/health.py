"""Whether a log can be written, and what happens when it cannot."""

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path

from monitoring.decision_log.file import ActiveFile
from monitoring.decision_log.layout import ACTIVE, LOCK, Position, rotated
from monitoring.decision_log.sink import PROBE_SECONDS, LogError
from monitoring.private_files import open_private
from monitoring.service_log import LOGGER

logger = logging.getLogger(LOGGER)

PROBE = "predictions.probe"
PROBE_BYTES = 1 << 20  # that the disk must take again before decisions are recorded again


class Health:
    """Notes failures of the active file, and checks once a second whether it can be written and is still the file at its path.

    Parameters
    ----------
    folder, file, lock : of the log, its active file, and the descriptor of its lock.
    sync, clock : writes a file to the disk; seconds that only grow.

    Attributes
    ----------
    fault : why the log cannot be written, without its path since clients read it; empty if it can.
    """

    def __init__(self, folder: Path, file: ActiveFile, lock: int, sync: Callable[[int], None], clock: Callable[[], float]) -> None:
        self._folder = folder
        self._file = file
        self._lock = lock
        self._sync = sync
        self._clock = clock
        self._checked = clock()
        self.fault = ""

    def check(self) -> bool:
        """Whether the log can be written. It looks at the files once a second, and after a failure tries to write."""
        if self._clock() - self._checked >= PROBE_SECONDS:
            self._checked = self._clock()
            try:
                self._check_files()
                if self.fault:
                    self._file.cut()
                    self._probe()
                    logger.warning("the decision log can be written again")
                self.fault = ""
            except OSError as error:
                if not self.fault:
                    logger.error("the decision log cannot be written: %s", error)
                self.fault = cause(error)
        return not self.fault

    def fail(self, error: OSError, position: Position) -> None:
        """Note a failed write or sync, and cut off everything behind a position of the active file: nobody was answered for it."""
        self._file.go_back(position)
        self.fault, self._checked = cause(error), self._clock()
        logger.error("the decision log cannot be written: %s", error)
        try:
            self._file.cut()
        except OSError as second:  # `check` tries again
            logger.error("the decision log cannot be cut: %s", second)

    def _check_files(self) -> None:
        """Check whether a file was moved, removed or truncated, since lines appended to it would be lost."""
        file = self._file
        for descriptor, name in ((file.descriptor, ACTIVE), (self._lock, LOCK)):
            try:
                same = os.path.samestat(os.fstat(descriptor), (self._folder / name).stat())
            except FileNotFoundError:
                same = False
            if not same:
                raise OSError(errno.ESTALE, f"{name} was moved, removed or replaced; put it back, or restart the service")
        size, first = os.fstat(file.descriptor).st_size, os.pread(file.descriptor, 1, 0)
        if file.size and (size < file.size or first == b"\0"):  # a write after a cut leaves a hole
            raise OSError(errno.ESTALE, f"{ACTIVE} was cut; restart the service")
        last = rotated(self._folder, file.sequence - 1)  # retention keeps it: the active file continues its number
        if file.sequence > 1 and not last.exists():
            raise OSError(errno.ESTALE, f"{last.name} was moved or removed; put it back")

    def _probe(self) -> None:
        """Write and sync PROBE_BYTES in the log's folder.

        Raises
        ------
        OSError
            The disk does not take them.
        """
        path = self._folder / PROBE
        probe = open_private(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            if os.write(probe, bytes(PROBE_BYTES)) < PROBE_BYTES:
                raise OSError("the disk is full")
            self._sync(probe)
        finally:
            os.close(probe)
            path.unlink()


def cause(error: OSError) -> str:
    """An error without its path, which clients must not see."""
    return error.strerror or str(error)


def refusal(fault: str) -> LogError:
    """The error of a decision that cannot be recorded."""
    return LogError(f"decisions cannot be put on record now ({fault})")
