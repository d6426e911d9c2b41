"""The file of a SQLite store, watched while it is open.

If the file is removed, replaced or cut, SQLite keeps writing to the old one and reports commits that are lost at the next start. So each
transaction compares the open file with the one at its path, before and after.
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
WAL = "-wal"  # suffix of the write-ahead log, which holds the latest commits


class FileGoneError(OSError):
    """The file of the store was replaced or damaged; the message says how and what to do."""


class SqliteFile:
    """The file of a store and its write-ahead log; the file is made if it is missing. After a cut the service must be restarted.

    Parameters
    ----------
    path : of the file; a symbolic link is refused.

    Raises
    ------
    OSError
        The file cannot be made, or is not a regular file.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._wal_path = path, path.with_name(path.name + WAL)
        make_private(path.parent)
        with suppress(FileExistsError):
            os.close(open_private(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))  # SQLite gives its -wal and -shm files the same mode
        self._file = _Pin(path)
        if not stat.S_ISREG(self._file.stat().st_mode):
            raise OSError(f"{path} is a symbolic link or not a regular file; expected the file of a store")
        self._wal: _Pin | None = None
        self._size = self._seen = 0
        self._cut = ""
        self._looking = threading.Lock()

    @property
    def fault(self) -> str:
        """Why nothing may be committed to the file; empty if all is well. This takes a few microseconds."""
        return self._cut or self._compare()

    @property
    def is_cut(self) -> bool:
        """Whether a part of the file is known to be missing."""
        return bool(self._cut)

    def compare(self) -> None:
        """Compare the open file with the one at its path.

        Raises
        ------
        FileGoneError
            They differ, or the open file was cut or made read-only.
        """
        if fault := self.fault:
            raise FileGoneError(fault)

    def check(self) -> None:
        """Compare while connected, and read the file if it was written since the last check; raises like `compare`."""
        self.compare()
        if fault := self._look():
            raise FileGoneError(fault)
        if self._wal is None:  # once connected: SQLite may first replace the log of a killed process
            with suppress(FileNotFoundError):
                self._wal = _Pin(self._wal_path)

    def release_wal(self) -> None:
        """Forget the write-ahead log: SQLite removes it with the last connection and makes another one for the next."""
        self._wal = None

    def _compare(self) -> str:
        name = self._path.name
        if not self._file.is_at_path():
            return f"{name} was moved, removed or replaced; put it back, or restart the service"
        wal = self._wal
        if wal and not wal.is_at_path():
            return f"{self._wal_path.name} was moved, removed or replaced; put it back, or restart the service"
        known, found = self._size, self._file.stat()  # in this order: another thread may raise _size between the two
        if found.st_size < known:
            self._cut = f"{name} was cut; put back a whole one and restart the service"
            return self._cut
        self._size = max(self._size, found.st_size)
        return "" if found.st_mode & ANY_WRITE else f"{name} may not be written; give it back the mode 0600"

    def _look(self) -> str:
        """Read the ends of each table as another process would, if the file was written since the last look.

        After a cut, a checkpoint makes the file as long as before with a hole in it, which its size does not show.
        """
        with self._looking:
            written = self._file.stat().st_mtime_ns
            if written != self._seen:
                try:
                    _read_ends(self._path)
                except sqlite3.DatabaseError as error:
                    if isinstance(error, sqlite3.OperationalError):  # locked or not to be opened now; the transaction itself will fail
                        return ""
                    self._cut = f"{self._path.name} was cut or overwritten ({error}); put back a whole one and restart the service"
                self._seen = written
        return self._cut


class _Pin:
    """A file held open, so that the system does not give its inode to another file."""

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
        The file is not a database, or a page on the way to a row is damaged.
    """
    with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)) as connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for order in ("ASC", "DESC"):
                connection.execute(f'SELECT * FROM "{table}" ORDER BY rowid {order} LIMIT 1').fetchall()  # noqa: S608
