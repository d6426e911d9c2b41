"""The file of a SQLite store, watched while it is open.

SQLite goes on writing to a file that was removed, replaced or cut, and says that it committed. Nobody can read that again after the next
start, so a transaction compares what it writes to with what is at the path, before and after.
"""

import os
import sqlite3
import stat
import threading
import weakref
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

from monitoring.private_files import make_private, open_private

PIN = getattr(os, "O_PATH", os.O_RDONLY) | os.O_NOFOLLOW | os.O_CLOEXEC  # opens nothing to read: closing it leaves SQLite's locks alone
ANY_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
LOG = "-wal"  # what SQLite adds to the name, for the log of what it has committed last


class FileGoneError(OSError):
    """The file of the store is not the one that was opened, or not whole; the message says why and what helps."""


class StoreFile:
    """The file of a store and its log, made where they are missing; once `check` has failed for a cut, only a new start helps.

    Parameters
    ----------
    path : of the file; a symbolic link is refused.

    Raises
    ------
    OSError
        It cannot be made, or is no regular file.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._log_path = path, path.with_name(path.name + LOG)
        make_private(path.parent)
        with suppress(FileExistsError):
            os.close(open_private(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))  # what SQLite puts beside it gets the same mode
        self._file = _Pin(path)
        if not stat.S_ISREG(self._file.stat().st_mode):
            raise OSError(f"{path} is a symbolic link or no regular file; expected the file of a store")
        self._log: _Pin | None = None
        self._size = self._seen = 0
        self._cut = ""
        self._looking = threading.Lock()

    @property
    def fault(self) -> str:
        """Why nothing may be committed to it now; empty where all is well. It costs a few microseconds."""
        return self._cut or self._compare()

    @property
    def is_cut(self) -> bool:
        """Whether it was seen that a part of it is missing."""
        return bool(self._cut)

    def compare(self) -> None:
        """Compare the file that is open with the one at its path.

        Raises
        ------
        FileGoneError
            They are not the same, or what is open was cut, or may not be written.
        """
        if fault := self.fault:
            raise FileGoneError(fault)

    def check(self) -> None:
        """Compare them while connected, and read the file where it was written since the last time; see compare."""
        self.compare()
        if fault := self._look():
            raise FileGoneError(fault)
        if self._log is None:  # not sooner: what a killed process left there SQLite may replace when it connects
            with suppress(FileNotFoundError):
                self._log = _Pin(self._log_path)

    def release_log(self) -> None:
        """Let go of the log: SQLite removes it after the last connection, and makes another one for the next."""
        self._log = None

    def _compare(self) -> str:
        name = self._path.name
        if not self._file.is_at_path():
            return f"{name} was moved, removed or replaced; put it back, or start the service again"
        log = self._log
        if log and not log.is_at_path():
            return f"{self._log_path.name} was moved, removed or replaced; put it back, or start the service again"
        known, found = self._size, self._file.stat()  # in this order: another thread may note a longer one between them
        if found.st_size < known:
            self._cut = f"{name} was cut; put back a whole one and start the service again"
            return self._cut
        self._size = max(self._size, found.st_size)
        return "" if found.st_mode & ANY_WRITE else f"{name} may not be written; give it back the mode 0600"

    def _look(self) -> str:
        """Read the ends of each table as another process would, where the file was written since: by a checkpoint, or by somebody after a cut.

        A checkpoint that follows a cut makes the file as long as before, with nothing in between.
        """
        with self._looking:
            written = self._file.stat().st_mtime_ns
            if written != self._seen:
                try:
                    _read_ends(self._path)
                except sqlite3.DatabaseError as error:
                    if isinstance(error, sqlite3.OperationalError):  # it is locked or cannot be opened now: the transaction itself tells
                        return ""
                    self._cut = f"{self._path.name} was cut or overwritten ({error}); put back a whole one and start the service again"
                self._seen = written
        return self._cut


class _Pin:
    """A file held open, so that its number is not given to another one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, PIN)
        weakref.finalize(self, os.close, self._file)

    def stat(self) -> os.stat_result:
        return os.fstat(self._file)

    def is_at_path(self) -> bool:
        try:
            return os.path.samestat(self.stat(), self._path.stat(follow_symlinks=False))
        except OSError:
            return False


def _read_ends(path: Path) -> None:
    """Read the first and the last row of each table.

    Raises
    ------
    sqlite3.DatabaseError
        It is no database, or a page that leads there is none.
    """
    with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)) as connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for order in ("ASC", "DESC"):
                connection.execute(f'SELECT * FROM "{table}" ORDER BY rowid {order} LIMIT 1').fetchall()  # noqa: S608
