"""Verification of the decision log: every line against its chain, and the whole against the store."""

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from monitoring.decision_log.layout import ACTIVE, Position, log_id
from monitoring.decision_log.reader import open_files
from monitoring.decision_log.record import CHAIN, END, END_BYTES, whole_lines

SETTLE_TRIES, SETTLE_SECONDS = 50, 0.01


@dataclass
class Verification:
    """The result of a walk through a log: files and lines read, the chain of the last line, and `problems` that name file and line."""

    files: int = 0
    lines: int = 0
    head: str = ""
    problems: list[str] = field(default_factory=list)


def verify(folder: Path, shipped: Sequence[Position] = (), pause: Callable[[float], object] = time.sleep) -> Verification:
    """Walk through every line and check the chain.

    An edited line does not match its own chain; if lines were removed, inserted or moved, the next line does not match. The log itself does
    not show that its end was cut, or that it was rewritten as a whole: this is compared with `shipped`, the positions that the store has
    reached. Files removed by retention are no problem, but a file missing between two others is.
    """
    result = Verification()
    last = 0
    known = [position for position in shipped if position.chain]
    ends = {(position.sequence, position.offset) for position in known}
    found: set[Position] = set()
    for sequence, file in open_files(folder):
        if last and sequence != last + 1:
            result.problems.append(f"file {last + 1} of the log is missing before {Path(file.name).name}")
        if not last and sequence == 1:
            result.head = log_id(folder) or ""
        last = sequence
        result.files += 1
        for offset in _verify_lines(file, result, pause):
            if (sequence, offset) in ends:
                found.add(Position(sequence, offset, result.head))
    for position in known:
        if position not in found:
            where = f"up to byte {position.offset} of file {position.sequence}"
            result.problems.append(f"the log does not hold the last line that the store had, {where}: the log was cut or rewritten")
    return result


def _verify_lines(file: BinaryIO, result: Verification, pause: Callable[[float], object]) -> Iterator[int]:
    """Add a file to the result; yields the offset where each line of the format ends."""
    name, offset = Path(file.name).name, 0
    for number, line in enumerate(_settled(file, pause), 1):
        offset += len(line)
        end = END.search(line, max(0, len(line) - END_BYTES))
        where = f"{name} line {number}"
        if end is None:
            if line.endswith(b"\n") or name != ACTIVE:  # else it is being written, or the next start sets it aside
                result.problems.append(f"{where} is not a line of the log")
            continue
        if number == 1:
            result.problems += _first_line_problems(where, end, result.head)
            result.head = (end[1] or b"").decode()
        chain = hashlib.sha256(result.head.encode() + line[: end.start(2) - len(CHAIN)]).hexdigest()
        result.head = end[2].decode()
        if chain != result.head:
            result.problems.append(f"{where} does not match its chain: it was edited, or lines before it were removed, inserted or moved")
        result.lines += 1
        yield offset


def _settled(file: BinaryIO, pause: Callable[[float], object]) -> Iterator[bytes]:
    """The lines of a file. The later bytes of an append may become visible before the earlier ones, so such a line is read again for a while."""
    tries = SETTLE_TRIES
    while True:
        offset = file.tell()
        line = file.readline()
        if not line:
            return
        if tries and line.endswith(b"\n") and not whole_lines(line):
            tries -= 1
            pause(SETTLE_SECONDS)
            file.seek(0, os.SEEK_END)  # drops what was read ahead
            file.seek(offset)
        else:
            yield line


def _first_line_problems(where: str, end: re.Match[bytes], head: str) -> list[str]:
    if end[1] is None:
        return [f"{where} does not name the chain before it: lines before it were removed"]
    if head and end[1].decode() != head:
        return [f"{where} does not continue the file before it: lines between them were removed"]
    return []
