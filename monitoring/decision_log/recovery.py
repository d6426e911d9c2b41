"""Recovery after a crash: a file of the decision log is cut back to the end of its last whole line."""

import logging
import mmap
import os
import re
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from monitoring.decision_log.record import END, END_BYTES, NO_LINE
from monitoring.private_files import open_private
from monitoring.service_log import LOGGER

logger = logging.getLogger(LOGGER)

NO_LINES = re.compile(b"[%b]+" % NO_LINE)


def recover(path: Path) -> tuple[int, bytes]:
    """Remove the reserved space of a file, and move anything else after its last whole line to a `.partial` file next to it.

    Returns
    -------
    The size of the file and the chain of its last line; 0 and empty if it has no line.

    Raises
    ------
    OSError
        The file cannot be written, or the other one not made.
    """
    if not path.exists() or not path.stat().st_size:
        return 0, b""
    with os.fdopen(open_private(path, os.O_RDWR), "r+b") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            end, chain = _last_line(content)
            tail = content[end:].rstrip(NO_LINE)
        if tail:
            partial = path.with_name(f"predictions-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}.partial")
            with os.fdopen(open_private(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as aside:
                aside.write(tail)
                aside.flush()
                os.fsync(aside.fileno())
            logger.warning("%s ended in %d bytes that are not a whole line; they were moved to %s", path, len(tail), partial.name)
        file.truncate(end)
    return end, chain


def _last_line(content: mmap.mmap) -> tuple[int, bytes]:
    end = content.rfind(b"\n", 0, _gap(content)) + 1
    while end:
        start = content.rfind(b"\n", 0, end - 1) + 1
        line = content[start:end]
        match = END.search(line, max(0, len(line) - END_BYTES))
        if match and _is_json(line):
            return end, match[2]
        end = start
    return 0, b""


def _gap(content: mmap.mmap) -> int:
    """The start of the first reserved space that reaches the end of a page; without any, the size of the file.

    A loss of power can keep a later page and lose an earlier one, so lines after such space were never synced. The log itself leaves no
    space that ends within a page; `verify` reports it.
    """
    end = 0
    while True:
        starts = [content.find(bytes([byte]), end) for byte in NO_LINE]  # ten times as fast as a search by NO_LINES
        gap = NO_LINES.match(content, min((start for start in starts if start >= 0), default=len(content)))
        if gap is None:
            return len(content)
        end = gap.end()
        if end % mmap.PAGESIZE == 0 or end == len(content):
            return gap.start()


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True
