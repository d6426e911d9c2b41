"""The active file of a log: chained lines, room behind them, rotation."""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from monitoring.decision_log.layout import ACTIVE, Position, log_id, rotated, rotated_sequences, sync_folder
from monitoring.decision_log.record import CHAIN, ROOM
from monitoring.decision_log.recovery import recover
from monitoring.private_files import open_private

ROOM_BYTES = 1 << 18  # written at once; with more, the next sync takes longer and the later ones no less

_SHA256 = hashlib.sha256()  # copied for each line: a new one makes OpenSSL look up the algorithm


class ActiveFile:
    """The file that lines are appended to.

    If it is synced, it ends in room for more lines: a sync takes half as long if it need not write a new size of the file. Without syncs
    room only costs: writing one line takes 3.2 us into room and 1.8 us at the end of the file.

    Parameters
    ----------
    folder : of the log.
    max_bytes : size from which the file is full.
    sync : writes a file to the disk; None if the log is not synced.

    Attributes
    ----------
    descriptor : of the open file.
    sequence, size : its number; its bytes without the room.
    synced : the position up to which the lines are on the disk; the syncs set it.

    Raises
    ------
    OSError
        It cannot be opened, or not be brought back to its last whole line.
    """

    def __init__(self, folder: Path, max_bytes: int, sync: Callable[[int], None] | None) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._sync = sync
        numbers = rotated_sequences(folder)
        self.sequence = max(numbers, default=0) + 1
        before = recover(rotated(folder, numbers[-1]))[1] if numbers else b""
        self.size, chain = recover(folder / ACTIVE)
        self._chain = chain or before or (log_id(folder) or "").encode()
        self._end = self.size  # of the room
        self.descriptor = open_private(folder / ACTIVE, os.O_RDWR | os.O_CREAT)
        self.synced = self.position

    @property
    def position(self) -> Position:
        """The end of the last line; at the start of the file with the chain of the line before it."""
        return Position(self.sequence, self.size, self._chain.decode())

    @property
    def is_full(self) -> bool:
        """Whether it is to be rotated before the next batch."""
        return self.size >= self._max_bytes

    def append(self, records: Sequence[bytes]) -> None:
        """Write a line for each record.

        Raises
        ------
        OSError
            The file cannot be written. It may end in half a line then; `cut` removes that.
        """
        parts: list[bytes] = []
        chain = self._chain
        for record in records:
            line = record[:-1]
            if not self.size and not parts:
                line += b',"previous":"%b"' % chain
            digest = _SHA256.copy()
            digest.update(chain)
            digest.update(line)
            chain = digest.hexdigest().encode()
            parts += (line, CHAIN, chain, b'"}\n')
        lines = b"".join(parts)
        while self._sync and self.size + len(lines) > self._end:
            self._end += os.pwrite(self.descriptor, ROOM * ROOM_BYTES, self._end)
        written = 0
        while written < len(lines):
            written += os.pwrite(self.descriptor, lines[written:], self.size + written)
        self.size, self._chain = self.size + len(lines), chain

    def go_back(self, position: Position) -> None:
        """Continue from an earlier position of this file; `cut` removes what stands behind it."""
        self.size, self._chain = position.offset, position.chain.encode()

    def cut(self) -> None:
        """Remove everything behind the lines."""
        os.ftruncate(self.descriptor, self.size)
        self._end = self.size

    def rotate(self) -> None:
        """Give the file its number as its name, and begin a new one.

        Raises
        ------
        OSError
            A file cannot be synced, renamed or made.
        """
        active, name = self._folder / ACTIVE, rotated(self._folder, self.sequence)
        self.cut()
        if self._sync:
            self._sync(self.descriptor)
        active.rename(name)
        try:
            descriptor = open_private(active, os.O_RDWR | os.O_CREAT)
        except OSError:
            name.rename(active)
            raise
        os.close(self.descriptor)
        self.descriptor, self.sequence, self.size, self._end = descriptor, self.sequence + 1, 0, 0
        self.synced = self.position
        if self._sync:
            sync_folder(self._folder)
