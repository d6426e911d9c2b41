"""Reading the decision log while it is written and rotated."""

import logging
import os
import re
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from monitoring.decision_log.layout import ACTIVE, Position, rotated, rotated_sequences
from monitoring.decision_log.record import END, END_BYTES, NO_LINE, line_time, whole_lines
from monitoring.service_log import LOGGER

logger = logging.getLogger(LOGGER)

_ID = re.compile(rb'\{"prediction_id":"([0-9a-f-]{36})"[^\n]*\n')


def read_lines(folder: Path, position: Position, max_bytes: int, until: tuple[int, int] | None = None) -> tuple[bytes, Position]:
    """Read whole lines after a position, about `max_bytes` of them; returns them and the position after them.

    The log may be written and rotated meanwhile: a line that is not complete yet is left for later. If the log does not hold the position
    any more, reading starts over with the oldest file.

    Parameters
    ----------
    until : the number of a file and the end of a line in it; nothing behind it is read.
    """
    while True:
        opened = _open(folder, position.sequence)
        if opened is None:
            numbers = _sequences(folder)
            if position.sequence in numbers:  # not there yet, or just being rotated
                return b"", position
            oldest = next((number for number in numbers if number > position.sequence), numbers[0])
            logger.warning("file %d of the decision log is missing; reading continues with file %d", position.sequence, oldest)
            position = Position(oldest, 0, "")
            continue
        file, complete = opened
        with file:
            if not _holds(file, position):
                oldest = _sequences(folder)[0]
                logger.warning("file %d of the decision log was cut or replaced; reading starts over at file %d", position.sequence, oldest)
                position = Position(oldest, 0, "")
                continue
            file.seek(position.offset)
            lines = file.read(max_bytes)
            lines += b"" if lines.endswith(b"\n") else file.readline()
        if until and position.sequence >= until[0]:
            lines = lines[: max(0, until[1] - position.offset)] if position.sequence == until[0] else b""
            complete = False
        if not complete:
            lines = whole_lines(lines)
        if lines or not complete:
            return lines, _after(position, lines)
        position = Position(position.sequence + 1, 0, "")


def holds(folder: Path, position: Position) -> bool:
    """Whether the log holds the line that ends at a position."""
    if not position.chain:
        return True
    opened = _open(folder, position.sequence)
    if opened is None:
        return False
    with opened[0] as file:
        return _holds(file, position)


def end_of_log(folder: Path) -> tuple[int, int]:
    """The number of the active file and the end of its lines."""
    sequence = _sequences(folder)[-1]
    return sequence, _file_size(folder, sequence)


def sync_to_end(folder: Path) -> tuple[int, int]:
    """Sync the active file, even if another process writes it; returns its number and the end of the lines that are on the disk."""
    sequence, size = end_of_log(folder)
    if opened := _open(folder, sequence):
        with opened[0] as file:
            os.fdatasync(file.fileno())
    return sequence, size


def unread(folder: Path, position: Position) -> tuple[int, datetime | None]:
    """The bytes of the log after a position, and the time of the first decision there; 0 and None at the end."""
    sizes = {number: _file_size(folder, number) for number in _sequences(folder) if number >= position.sequence}
    waiting = max(0, sum(sizes.values()) - (position.offset if position.sequence in sizes else 0))
    if not waiting:
        return 0, None
    lines, _ = read_lines(folder, position, 1)
    return waiting, line_time(lines)


def find_line(folder: Path, prediction_id: str) -> bytes | None:
    """The line of a prediction, searched from the oldest file on; None if there is none."""
    mark = b'"prediction_id":"%b"' % prediction_id.encode()
    for _, file in open_files(folder):
        for line in file:
            if mark in line and whole_lines(line):
                return line
    return None


def newest_ids(folder: Path, seconds: float) -> tuple[set[str], datetime | None]:
    """The ids of at least those decisions of a log that are at most `seconds` older than its last one, and the time from which on they are
    complete; None if that is the beginning of the log.
    """
    ids: set[str] = set()
    since = None
    for sequence in reversed(_sequences(folder)):
        opened = _open(folder, sequence)
        if opened is None:
            continue
        first = last = b""
        with opened[0] as file:
            for line in file:
                if found := _ID.match(line):
                    ids.add(found[1].decode())
                    first, last = first or line, line
        since = since or ((time - timedelta(seconds=seconds)) if (time := line_time(last)) else None)
        if since and (begun := line_time(first)) and begun < since:
            return ids, since
    return ids, None


def open_files(folder: Path) -> Iterator[tuple[int, BinaryIO]]:
    """The number and the content of each file, ascending; each is closed before the next one."""
    for sequence in _sequences(folder):
        opened = _open(folder, sequence)
        if opened:
            with opened[0] as file:
                yield sequence, file


def _open(folder: Path, sequence: int) -> tuple[BinaryIO, bool] | None:
    """Open a file; returns it and whether it is complete. The active file may be rotated at any moment, so its rotated name is tried last."""
    path, active = rotated(folder, sequence), None
    if not path.exists() and sequence == _sequences(folder)[-1]:
        with suppress(FileNotFoundError):
            active = (folder / ACTIVE).open("rb")
    try:
        complete = path.open("rb")
    except FileNotFoundError:
        return (active, False) if active else None
    if active:
        active.close()
    return complete, True


def _holds(file: BinaryIO, position: Position) -> bool:
    if not position.chain:
        return True
    file.seek(max(0, position.offset - END_BYTES))
    end = END.search(file.read(min(END_BYTES, position.offset)))
    return end is not None and end[2].decode() == position.chain


def _after(position: Position, lines: bytes) -> Position:
    if not lines:
        return position
    end = END.search(lines, max(0, len(lines) - END_BYTES))
    return Position(position.sequence, position.offset + len(lines), end[2].decode() if end else "")


def _sequences(folder: Path) -> list[int]:
    """The numbers of the files, ascending; the last is that of the active file."""
    numbers = rotated_sequences(folder)
    return [*numbers, max(numbers, default=0) + 1]


def _file_size(folder: Path, sequence: int) -> int:
    """The bytes of a file without the room at its end. Lines hold no byte of the room, so bisection finds its start."""
    opened = _open(folder, sequence)
    if opened is None:
        return 0
    with opened[0] as file:
        descriptor = file.fileno()
        size = os.fstat(descriptor).st_size

        def is_room(offset: int) -> bool:
            return os.pread(descriptor, 1, offset) in NO_LINE

        return bisect_left(range(size), True, key=is_room) if size and is_room(size - 1) else size
