"""The decision log as it is written: a line a decision, appended before its answer leaves."""

import asyncio
import ctypes
import errno
import fcntl
import hashlib
import logging
import os
import queue
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, Protocol

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from configs.errors import UserError
from monitoring.files import make_private, open_private
from monitoring.lines import ACTIVE, LOCK, ROOM, log_id, rotated, rotated_sequences
from monitoring.logs import LOGGER
from monitoring.recovery import recover

log = logging.getLogger(LOGGER)

PROBE = "predictions.probe"
PROBE_BYTES = 1 << 20  # what must fit on the disk again before decisions are made again
PROBE_SECONDS = 1.0
ROOM_BYTES = 1 << 18  # written at once ahead of the lines: more makes the sync after it longer, and the others no shorter
AT_ONCE = 0.001  # seconds: handing a sync that is quicker over to a thread, and coming back, costs more than what is done meanwhile
MOST_SECONDS = 5.0  # that a sync may take; what waits for it is then refused
SYNC_FILE_RANGE_WRITE = 2  # of linux/fs.h

_End = tuple[int, int, bytes]  # the number of a file, the bytes before a place between two of its lines, the chain there
_SHA256 = hashlib.sha256()  # copied for each line, since a new one makes OpenSSL look up the algorithm


class LogError(UserError):
    """A decision cannot be put on record now, so it must not be answered; the message says why."""


class Sink(Protocol):
    """Where decisions go on record before they are answered."""

    @property
    def ready(self) -> bool:
        """Whether decisions can be recorded now; where not, this looks again, at most once a second."""

    def append(self, records: Sequence[bytes]) -> "asyncio.Future[None] | None":
        """Put the decisions of a batch on record, in the event loop.

        Parameters
        ----------
        records : the JSON object of each, a `monitoring.lines.Record` in one line.

        Returns
        -------
        None where they are on record now, else a future that is done when they are, or fails with LogError.

        Raises
        ------
        LogError
            They cannot be recorded; none of them is.
        """

    def close(self) -> None:
        """Finish what was begun."""


class NoLog:
    """The sink of the durability `off`: nothing is recorded."""

    ready = True

    def append(self, records: Sequence[bytes]) -> None:
        """Forget the decisions."""

    def close(self) -> None:
        """Nothing to finish."""


def feature_json(values: NDArray[np.float64]) -> msgspec.Raw:
    """The JSON array of a row of features, shape (features,), NaN as null, for `Record.features`."""
    return msgspec.Raw(orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY))


class DecisionLog:
    """The writer of a log; one at a time, held by a lock. It lives in one event loop.

    With `fsync` the active file ends in room for more lines, a quarter of a megabyte of it written at once; see monitoring.lines. A sync
    that has no new size of the file to write takes half as long. Without a sync room only costs: a lone line takes 3.2 us within it and
    1.8 where it makes the file longer.

    Parameters
    ----------
    folder : of the log, made where it is missing; its files are readable by their owner only.
    durability : `flush`: a decision is on record when the operating system has it, so it survives the process;
        `fsync`: when the disk has it, so it survives a loss of power. A quick disk begins at once and is waited for in the next turn of the
        loop, when the batch has been counted; where the last sync took long, the next one runs in a thread, one at a time, and what is
        appended meanwhile is covered by the one after. Where that one takes more than MOST_SECONDS everybody who waits is refused, though
        their decisions may come on record yet, and so are others until it ends.
    max_bytes : a file that has reached this size is rotated before the next batch, with `fsync` once no sync is in work.
    sync, clock : how a file is synced, and seconds that only grow; for tests.

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
        sync: Callable[[int], None] = os.fdatasync,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._fsync = durability == "fsync"
        self._max_bytes = max_bytes
        self._sync = sync
        self._clock = clock
        self._broken = ""
        self._looked = self._clock()
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._syncing: list[asyncio.Future[None]] = []
        self._jobs: queue.SimpleQueue[tuple[asyncio.AbstractEventLoop, int, _End] | None] = queue.SimpleQueue()
        try:
            self._lock = _lock(folder)
            numbers = rotated_sequences(folder)
            self._sequence = max(numbers, default=0) + 1
            before = recover(rotated(folder, numbers[-1]))[1] if numbers else b""
            self._size, chain = recover(folder / ACTIVE)
            self._chain = chain or before or (log_id(folder) or "").encode()
            self._end = self._size
            self._file = open_private(folder / ACTIVE, os.O_RDWR | os.O_CREAT)
            self._seconds = 0.0
            if self._fsync:
                self._time_sync(self._file)
                _sync_folder(folder)
        except OSError as error:
            raise _not_opened(folder, error) from None
        self._synced = (self._sequence, self._size, self._chain)
        self._thread = threading.Thread(target=self._sync_all, name="decision-log", daemon=True)
        if self._fsync:
            self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether the last write and sync went well, to the files that are in the folder; after a failure, whether a probe does. It looks once a second."""
        if self._broken and self._syncing:  # the disk does not answer, and a probe would wait for it too
            return False
        if self._clock() - self._looked >= PROBE_SECONDS:
            self._looked = self._clock()
            try:
                self._check_files()
                if self._broken:
                    self._cut()
                    self._probe()
                    log.warning("the decision log can be written again")
                self._broken = ""
            except OSError as error:
                if not self._broken:
                    log.error("the decision log cannot be written: %s", error)
                self._broken = _cause(error)
        return not self._broken

    @property
    def synced(self) -> tuple[int, int]:
        """Up to where the lines are on record: the number of the active file and a size of it."""
        return self._synced[:2] if self._fsync else (self._sequence, self._size)

    def append(self, records: Sequence[bytes]) -> "asyncio.Future[None] | None":
        """Append a line for each decision in one write; see Sink."""
        if not self.ready:
            raise self._error()
        chain = self._chain
        try:
            if self._size >= self._max_bytes and not self._syncing and not self._waiting:
                self._rotate()
            lines = self._chained(records)
            self._write(lines)
        except OSError as error:
            self._fail(error, self._size, chain)
            raise self._error() from None
        self._size += len(lines)
        if not self._fsync or not records:
            return None
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._waiting.append(future)
        # where the file is full at once, so that the next batch finds nothing to wait for and can rotate
        if self._seconds >= AT_ONCE or self._size >= self._max_bytes:
            self._sync_waiting()
        else:
            _begin_writing(self._file, self._size - len(lines), len(lines))
            if len(self._waiting) == 1:
                loop.call_soon(self._sync_waiting)
        return future

    def close(self) -> None:
        """Sync what was appended, close the file, release the lock; futures are done in a turn of the loop after this.

        It waits for a disk that does not answer MOST_SECONDS long.
        """
        answers = True
        if self._fsync:
            self._jobs.put(None)
            self._thread.join(MOST_SECONDS)
            answers = not self._thread.is_alive()
            waiting, self._syncing, self._waiting = self._syncing + self._waiting, [], []
            error = self._try_sync(self._file) if answers else _NO_ANSWER
            if answers:
                self._note_sync((self._sequence, self._size, self._chain), error)
            for future in waiting:
                with suppress(RuntimeError):  # the loop is closed; nobody waits
                    future.get_loop().call_soon_threadsafe(self._settle, [future], error)
        self._closed = True
        if answers:
            with suppress(OSError):  # what is left behind the lines, the next start takes away
                self._cut()
        os.close(self._file)
        os.close(self._lock)

    def _chained(self, records: Sequence[bytes]) -> bytes:
        parts: list[bytes] = []
        chain = self._chain
        for record in records:
            line = record[:-1]
            if not self._size and not parts:
                line += b',"previous":"%b"' % chain
            digest = _SHA256.copy()
            digest.update(chain)
            digest.update(line)
            chain = digest.hexdigest().encode()
            parts += (line, b',"chain":"', chain, b'"}\n')
        self._chain = chain
        return b"".join(parts)

    def _write(self, lines: bytes) -> None:
        while self._fsync and self._size + len(lines) > self._end:
            self._end += os.pwrite(self._file, ROOM * ROOM_BYTES, self._end)
        written = 0
        while written < len(lines):
            written += os.pwrite(self._file, lines[written:], self._size + written)

    def _cut(self) -> None:
        """Take away what stands behind the lines."""
        os.ftruncate(self._file, self._size)
        self._end = self._size

    def _rotate(self) -> None:
        active, name = self._folder / ACTIVE, rotated(self._folder, self._sequence)
        self._cut()
        if self._fsync:
            self._sync(self._file)
        active.rename(name)
        try:
            file = open_private(active, os.O_RDWR | os.O_CREAT)
        except OSError:
            name.rename(active)
            raise
        os.close(self._file)
        self._file, self._size, self._end = file, 0, 0
        self._sequence += 1
        self._synced = (self._sequence, 0, self._chain)
        if self._fsync:
            _sync_folder(self._folder)

    def _sync_waiting(self) -> None:
        """Begin the next sync, unless there is nothing to sync or one in work."""
        if self._closed or self._syncing or not self._waiting:
            return
        self._syncing, self._waiting = self._waiting, []
        end = (self._sequence, self._size, self._chain)
        if self._seconds < AT_ONCE or self._size >= self._max_bytes:
            self._end_sync(end, self._try_sync(self._file))
        else:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(MOST_SECONDS, self._give_up)
            self._jobs.put((loop, self._file, end))

    def _sync_all(self) -> None:
        while job := self._jobs.get():
            loop, file, end = job
            error = self._try_sync(file)
            try:
                loop.call_soon_threadsafe(self._end_sync, end, error)
            except RuntimeError:  # the loop is closed; nobody waits
                return

    def _time_sync(self, file: int) -> None:
        begin = self._clock()
        self._sync(file)
        self._seconds = self._clock() - begin

    def _try_sync(self, file: int) -> OSError | None:
        try:
            self._time_sync(file)
        except OSError as error:
            return error
        return None

    def _end_sync(self, end: _End, error: OSError | None) -> None:
        if self._timer:
            self._timer.cancel()
        if self._closed:  # and synced once more
            return
        done, self._syncing = self._syncing, []
        if error:
            done, self._waiting = done + self._waiting, []
        self._note_sync(end, error)
        self._settle(done, error)
        self._sync_waiting()

    def _give_up(self) -> None:
        """Refuse everybody who waits for a sync that does not end; what it was asked to sync stays, since to cut it would wait too."""
        if not self._closed:
            self._broken = _cause(_NO_ANSWER)
            log.error("the decision log cannot be written: the disk has not answered for %g seconds", MOST_SECONDS)
            waiting, self._waiting = self._waiting, []
            self._settle(self._syncing + waiting, _NO_ANSWER)

    def _note_sync(self, end: _End, error: OSError | None) -> None:
        if error:  # after it the kernel may have dropped any page that was not synced
            self._fail(error, *self._synced[1:])
        else:
            self._synced = end

    def _settle(self, done: "list[asyncio.Future[None]]", error: OSError | None) -> None:
        for future in done:
            if not future.done():
                if error:
                    future.set_exception(self._error())
                else:
                    future.set_result(None)

    def _fail(self, error: OSError, size: int, chain: bytes) -> None:
        """Leave nothing in the file that was not acknowledged."""
        self._size, self._chain = size, chain
        self._broken, self._looked = _cause(error), self._clock()
        log.error("the decision log cannot be written: %s", error)
        try:
            self._cut()
        except OSError as second:  # tried again before the log is ready
            log.error("the decision log cannot be cut: %s", second)

    def _check_files(self) -> None:
        """Somebody may have moved or removed what is written; what would be appended to it then is lost to everybody."""
        for descriptor, name in ((self._file, ACTIVE), (self._lock, LOCK)):
            try:
                same = os.path.samestat(os.fstat(descriptor), (self._folder / name).stat())
            except FileNotFoundError:
                same = False
            if not same:
                raise OSError(errno.ESTALE, f"{name} was moved, removed or written anew; put it back, or start the service again")
        size, first = os.fstat(self._file).st_size, os.pread(self._file, 1, 0)
        if self._size and (size < self._size or first == b"\0"):  # what is written after a cut leaves a hole
            raise OSError(errno.ESTALE, f"{ACTIVE} was cut; start the service again")
        last = rotated(self._folder, self._sequence - 1)  # it tells the next one's number, so that retention leaves it
        if self._sequence > 1 and not last.exists():
            raise OSError(errno.ESTALE, f"{last.name} was moved or removed; put it back")

    def _probe(self) -> None:
        path = self._folder / PROBE
        file = open_private(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            if os.write(file, bytes(PROBE_BYTES)) < PROBE_BYTES:
                raise OSError("the disk is full")
            self._sync(file)
        finally:
            os.close(file)
            path.unlink()

    def _error(self) -> LogError:
        return LogError(f"decisions cannot be put on record now ({self._broken})")


def _find_sync_file_range() -> Callable[[int, int, int, int], int] | None:
    function = getattr(ctypes.PyDLL(None), "sync_file_range", None)  # Linux has it
    if function is not None:
        function.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return function


_sync_file_range = _find_sync_file_range()
_NO_ANSWER = OSError(errno.ETIMEDOUT, "the disk does not answer")


def _begin_writing(file: int, place: int, size: int) -> None:
    """Have the system begin to write a part of a file to the disk; the sync after it waits, and tells of errors."""
    if _sync_file_range:
        _sync_file_range(file, place, size, SYNC_FILE_RANGE_WRITE)


def _cause(error: OSError) -> str:
    """What a client may know of an error: not where the log is."""
    return error.strerror or str(error)


def check_writable(folder: Path) -> None:
    """Look whether a log can be written by this process, and its files too; makes its folder.

    Raises
    ------
    LogError
        Another process writes it, or the folder or a file cannot be written.
    """
    try:
        os.close(_lock(folder))
        if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, "no file can be made there", str(folder))
        for path in (folder / ACTIVE, *(rotated(folder, number) for number in rotated_sequences(folder)[-1:])):
            if path.exists():
                os.close(open_private(path, os.O_RDWR))
    except OSError as error:
        raise _not_opened(folder, error) from None


def _not_opened(folder: Path, error: OSError) -> LogError:
    return LogError(f"the decision log in {folder} cannot be opened: {error}")


def _lock(folder: Path) -> int:
    make_private(folder)
    lock = open_private(folder / LOCK, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise LogError(f"the decision log in {folder} is being written by another process; expected one a folder") from None
    if log_id(folder) is None:
        os.ftruncate(lock, 0)
        os.pwrite(lock, secrets.token_hex(32).encode() + b"\n", 0)
        os.fsync(lock)
    return lock


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
