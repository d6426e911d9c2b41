"""The files of a decision log and the positions in them.

A log is a folder with an active file, rotated files numbered from 1, and a lock file that holds the log's id. The active file's number is
one more than that of the last rotated file.
"""

import fcntl
import os
import re
import secrets
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from monitoring.decision_log.sink import LogError
from monitoring.private_files import make_private, open_private

ACTIVE = "predictions.jsonl"
LOCK = "predictions.lock"
ROTATED = re.compile(r"predictions-(\d{6,})\.jsonl")
LOG_ID = re.compile(r"[0-9a-f]{64}")


class Position(NamedTuple):
    """A point between two lines: the number of a file, the bytes before the point, and the chain of the line that ends there.

    Readers check that the line that ends there has this chain; a position without a chain, at the start of a file, is not checked.
    """

    sequence: int
    offset: int
    chain: str


START = Position(1, 0, "")


def log_id(folder: Path) -> str | None:
    """The id of the log in a folder; None if there is no log."""
    try:
        content = (folder / LOCK).read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return None
    return content if LOG_ID.fullmatch(content) else None


def rotated(folder: Path, sequence: int) -> Path:
    """The path of a rotated file."""
    return folder / f"predictions-{sequence:06d}.jsonl"


def rotated_sequences(folder: Path) -> list[int]:
    """The numbers of the rotated files, ascending."""
    names = (ROTATED.fullmatch(path.name) for path in folder.glob("predictions-*.jsonl"))
    return sorted(int(name[1]) for name in names if name)


def remove_old(folder: Path, before: datetime, shipped: Position) -> list[str]:
    """Remove the rotated files that were last written before a time and whose lines are all shipped; returns their names.

    The newest rotated file stays: the active file continues its number and its chain.
    """
    removed = []
    for sequence in rotated_sequences(folder)[:-1]:
        path = rotated(folder, sequence)
        if sequence < shipped.sequence and path.stat().st_mtime < before.timestamp():
            path.unlink()
            removed.append(path.name)
    return removed


def lock_log(folder: Path) -> int:
    """Lock a log for its one writer, and make the folder and the log's id if they are missing; returns the descriptor of the lock file.

    Raises
    ------
    LogError
        Another process writes the log.
    OSError
        The folder or the lock file cannot be written.
    """
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


def sync_folder(folder: Path) -> None:
    """Write the names of a folder's files to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
