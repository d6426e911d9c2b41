"""The decision log as it is read: the format of its lines, its files and positions, and their verification.

A log is a folder with an active file and rotated ones, numbered from 1; the active file's number is one more than the
last rotated one's. A line is a JSON object that ends with its `chain`: the SHA-256 sum of the chain of the line before
(64 hexadecimal digits) and of this line's bytes up to the member `chain`. The first line of a file names the chain
before it as `previous`; that of the very first line is the id of the log, which stands in the lock file. While the active file
is written with `fsync` it ends in tabs: room that was written ahead. A line holds none, since JSON escapes them, and to text tools they are nothing.
"""

import hashlib
import logging
import os
import re
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import msgspec

from monitoring.service_log import LOGGER

log = logging.getLogger(LOGGER)

ACTIVE = "predictions.jsonl"
LOCK = "predictions.lock"
ROTATED = re.compile(r"predictions-(\d{6,})\.jsonl")
LOG_ID = re.compile(r"[0-9a-f]{64}")
END = re.compile(rb'(?:,"previous":"([0-9a-f]{64})")?,"chain":"([0-9a-f]{64})"\}\n\Z')
END_BYTES = 200  # longer than what END matches
ROOM = b"\t"
NO_LINE = ROOM + b"\0"  # what may stand behind the lines; zeros are what a loss of power leaves of pages that were not synced
SETTLE_TRIES, SETTLE_SECONDS = 50, 0.01
NO_LINES = re.compile(b"[%b]+" % NO_LINE)


class Record(msgspec.Struct):
    """One decision as a line tells it: the members of the answer, byte for byte as it was sent, and what a replay needs beside them.

    `features` is the JSON array of the model's features in their order, null where not known, with the numbers as the client
    wrote them or in the shortest form: either reads back as the bits that were scored. `raw` are the raw fields that the settings name.
    """

    prediction_id: str
    client_id: str | None
    prediction: int
    decision: str
    probability: float
    risk_level: str
    threshold: float
    model_version: str
    timestamp: str
    warnings: list[dict[str, str]]
    format: Literal[2]
    latency_ms: float
    request_id: str | None
    features: msgspec.Raw
    raw: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class _Scored(msgspec.Struct):
    features: list[float | None]
    probability: float


class Position(NamedTuple):
    """A place between two lines: the file's number, the bytes before it, the chain of the line that ends there.

    Without a chain (at the start of a file) the place is taken as it is; with one it must be there.
    """

    sequence: int
    offset: int
    chain: str


START = Position(1, 0, "")
_SCORED = msgspec.json.Decoder(_Scored)


def log_id(folder: Path) -> str | None:
    """The id of a log; None where there is none."""
    try:
        content = (folder / LOCK).read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return None
    return content if LOG_ID.fullmatch(content) else None


def rotated(folder: Path, sequence: int) -> Path:
    """The name of a rotated file."""
    return folder / f"predictions-{sequence:06d}.jsonl"


def rotated_sequences(folder: Path) -> list[int]:
    """The numbers of the rotated files, ascending."""
    names = (ROTATED.fullmatch(path.name) for path in folder.glob("predictions-*.jsonl"))
    return sorted(int(name[1]) for name in names if name)


def read_lines(folder: Path, position: Position, max_bytes: int, until: tuple[int, int] | None = None) -> tuple[bytes, Position]:
    """The whole lines after a position, about `max_bytes` of them, and the position after these.

    It may be called while the log is written and rotated: a line that is not complete yet is left for later. Where the
    position is not one of the log any more, reading starts over with the oldest file.

    Parameters
    ----------
    until : the number of a file and the end of a line in it, behind which nothing is read.
    """
    while True:
        opened = _open(folder, position.sequence)
        if opened is None:
            numbers = _sequences(folder)
            if position.sequence in numbers:  # not there yet, or just being rotated
                return b"", position
            oldest = next((number for number in numbers if number > position.sequence), numbers[0])
            log.warning("file %d of the decision log is not there; reading goes on with file %d", position.sequence, oldest)
            position = Position(oldest, 0, "")
            continue
        file, complete = opened
        with file:
            if not _holds(file, position):
                oldest = _sequences(folder)[0]
                log.warning(
                    "file %d of the decision log was cut or written anew; reading starts over with file %d", position.sequence, oldest
                )
                position = Position(oldest, 0, "")
                continue
            file.seek(position.offset)
            lines = file.read(max_bytes)
            lines += b"" if lines.endswith(b"\n") else file.readline()
        if until and position.sequence >= until[0]:
            lines = lines[: max(0, until[1] - position.offset)] if position.sequence == until[0] else b""
            complete = False
        if not complete:
            lines = _complete(lines)
        if lines or not complete:
            return lines, _after(position, lines)
        position = Position(position.sequence + 1, 0, "")


def holds(folder: Path, position: Position) -> bool:
    """Whether the line that ends at a position is in the log."""
    if not position.chain:
        return True
    opened = _open(folder, position.sequence)
    if opened is None:
        return False
    with opened[0] as file:
        return _holds(file, position)


def end_of_log(folder: Path) -> tuple[int, int]:
    """The number of the active file and its size."""
    sequence = _sequences(folder)[-1]
    return sequence, _file_size(folder, sequence)


def sync_to_end(folder: Path) -> tuple[int, int]:
    """Sync the active file, whoever writes it; its number, and the size up to which its lines are on record then."""
    sequence, size = end_of_log(folder)
    if opened := _open(folder, sequence):
        with opened[0] as file:
            os.fdatasync(file.fileno())
    return sequence, size


def unread(folder: Path, position: Position) -> tuple[int, datetime | None]:
    """The bytes of the log after a position, and the time of the first decision there."""
    sizes = {number: _file_size(folder, number) for number in _sequences(folder) if number >= position.sequence}
    waiting = max(0, sum(sizes.values()) - (position.offset if position.sequence in sizes else 0))
    if not waiting:
        return 0, None
    lines, _ = read_lines(folder, position, 1)
    return waiting, line_time(lines)


def scored(line: str | bytes) -> list[float | None]:
    """The features of a line, null as None, and last its PD.

    Raises
    ------
    msgspec.MsgspecError
        It is no line of a decision.
    """
    found = _SCORED.decode(line)
    return [*found.features, found.probability]


def line_time(line: bytes) -> datetime | None:
    """The time of a line; None where it is no line."""
    try:
        return datetime.fromisoformat(msgspec.json.decode(line)["timestamp"])
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        return None


def find_line(folder: Path, prediction_id: str) -> bytes | None:
    """The line of a prediction, searched from the oldest file to the active one; None where there is none."""
    mark = b'"prediction_id":"%b"' % prediction_id.encode()
    for _, file in _files(folder):
        for line in file:
            if mark in line and _complete(line):
                return line
    return None


def remove_old(folder: Path, before: datetime, shipped: Position) -> list[str]:
    """Remove rotated files last written before a time, of which every line is shipped; returns their names.

    The newest rotated file stays: its number and chain are those that the active one continues.
    """
    removed = []
    for sequence in rotated_sequences(folder)[:-1]:
        path = rotated(folder, sequence)
        if sequence < shipped.sequence and path.stat().st_mtime < before.timestamp():
            path.unlink()
            removed.append(path.name)
    return removed


@dataclass
class Verification:
    """What a walk through a log found; `problems` name file and line."""

    files: int = 0
    lines: int = 0
    head: str = ""
    problems: list[str] = field(default_factory=list)


def verify(folder: Path, shipped: Sequence[Position] = (), pause: Callable[[float], object] = time.sleep) -> Verification:
    """Walk through every line and check the chain.

    An edited line does not match its own chain; where lines were removed, inserted or moved, the next one does not
    match. The end can be cut, or all of it written anew, without a trace in the log itself: it is compared with `shipped`, the last
    lines that the store had. Files removed by retention are no problem, one missing between two others is.
    """
    result = Verification()
    last = 0
    known = [position for position in shipped if position.chain]
    places = {(position.sequence, position.offset) for position in known}
    found: set[Position] = set()
    for sequence, file in _files(folder):
        if last and sequence != last + 1:
            result.problems.append(f"file {last + 1} of the log is missing before {Path(file.name).name}")
        if not last and sequence == 1:
            result.head = log_id(folder) or ""
        last = sequence
        result.files += 1
        for offset in _verify_lines(file, result, pause):
            if (sequence, offset) in places:
                found.add(Position(sequence, offset, result.head))
    for position in known:
        if position not in found:
            where = f"up to byte {position.offset} of file {position.sequence}"
            result.problems.append(f"the log does not hold a line that the store had as its last, {where}: it was cut or written anew")
    return result


def _verify_lines(file: BinaryIO, result: Verification, pause: Callable[[float], object]) -> Iterator[int]:
    """Add a file to the result; yields where each sound line ends."""
    name, offset = Path(file.name).name, 0
    for number, line in enumerate(_settled(file, pause), 1):
        offset += len(line)
        end = END.search(line, max(0, len(line) - END_BYTES))
        place = f"{name} line {number}"
        if end is None:
            if line.endswith(b"\n") or name != ACTIVE:  # else it is being written, or the next start sets it aside
                result.problems.append(f"{place} is no line of the log")
            continue
        if number == 1:
            result.problems += _first_line_problems(place, end, result.head)
            result.head = (end[1] or b"").decode()
        chain = hashlib.sha256(result.head.encode() + line[: end.start(2) - len(b',"chain":"')]).hexdigest()
        result.head = end[2].decode()
        if chain != result.head:
            result.problems.append(f"{place} does not match its chain: it was edited, or lines before it removed, inserted or moved")
        result.lines += 1
        yield offset


def _settled(file: BinaryIO, pause: Callable[[float], object]) -> Iterator[bytes]:
    """The lines. One that is just being written may show its later bytes before the earlier ones: it is read again, for a while."""
    tries = SETTLE_TRIES
    while True:
        place = file.tell()
        line = file.readline()
        if not line:
            return
        if tries and line.endswith(b"\n") and not _complete(line):
            tries -= 1
            pause(SETTLE_SECONDS)
            file.seek(0, os.SEEK_END)  # so that nothing is left of what was read ahead
            file.seek(place)
        else:
            yield line


def _complete(lines: bytes) -> bytes:
    """The whole lines before the first byte of room: what stands before it is written, behind it an append may be half visible."""
    room = lines.find(ROOM)
    return lines[: lines.rfind(b"\n", 0, room if room >= 0 else len(lines)) + 1]


def _first_line_problems(place: str, end: re.Match[bytes], head: str) -> list[str]:
    if end[1] is None:
        return [f"{place} does not name the chain before it: lines before it were removed"]
    if head and end[1].decode() != head:
        return [f"{place} does not continue the file before it: lines between them were removed"]
    return []


def _open(folder: Path, sequence: int) -> tuple[BinaryIO, bool] | None:
    """A file and whether it is complete. The active one may be rotated at any moment: the rotated name, looked at last, tells."""
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


def _files(folder: Path) -> Iterator[tuple[int, BinaryIO]]:
    for sequence in _sequences(folder):
        opened = _open(folder, sequence)
        if opened:
            with opened[0] as file:
                yield sequence, file


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
    """The numbers of the files, ascending; the last is the active one's."""
    numbers = rotated_sequences(folder)
    return [*numbers, max(numbers, default=0) + 1]


def _file_size(folder: Path, sequence: int) -> int:
    """The bytes of a file up to the room at its end, found by halving: no byte of a line is one of the room's."""
    opened = _open(folder, sequence)
    if opened is None:
        return 0
    with opened[0] as file:
        descriptor = file.fileno()
        size = os.fstat(descriptor).st_size

        def is_room(place: int) -> bool:
            return os.pread(descriptor, 1, place) in NO_LINE

        return bisect_left(range(size), True, key=is_room) if size and is_room(size - 1) else size
