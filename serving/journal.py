"""The journal of a model: which versions were made and promoted, when, by whom and why.

It is a file of JSON lines beside the entries of the model store. Each change writes the whole file anew and renames it, so a killed
process leaves the journal either before or after the change. The champion is the version that the last promotion names.
"""

import os
import pwd
import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from serving.bundle import BundleError
from serving.whole_files import whole_file

Action = Literal["adopt", "train", "decide", "promote", "rollback"]
MOST_REASON = 1000  # characters


class JournalError(BundleError):
    """The journal cannot be read, so it does not say what to serve; or a reason cannot be written into it."""


class Event(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A line of the journal.

    Attributes
    ----------
    action : "train" and "decide" made the version; "promote" and "rollback" made it the champion; "adopt" says that it was served already
        when the journal began.
    before : of "promote" and "rollback", the champion before; of "decide", the version whose decision rule was replaced.
    """

    time: datetime
    action: Action
    version: str
    by: str
    reason: str = ""
    before: str | None = None
    format: Literal[1] = 1


def journal_path(store: Path, name: str) -> Path:
    """The journal of a model. It outlives the folder of the entries, which BentoML removes with the last of them."""
    return store / f"{name}.journal.jsonl"


def read_journal(path: Path) -> list[Event] | None:
    """The events, oldest first; None if there is no journal, as in stores of earlier releases.

    Raises
    ------
    JournalError
        A line cannot be read.
    """
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return None
    events = []
    for number, line in enumerate(lines, 1):
        try:
            events.append(msgspec.json.decode(line, type=Event))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise JournalError(f"{path}, line {number} cannot be read: {error}; restore the line or the file from a copy") from None
    return events


def add_events(path: Path, events: Sequence[Event]) -> None:
    """Append events. Hold the lock of the store.

    Raises
    ------
    OSError
        The file cannot be written; it is as before.
    """
    before = path.read_bytes() if path.is_file() else b""
    with whole_file(path) as file:
        file.write_bytes(before + b"".join(msgspec.json.encode(event) + b"\n" for event in events))


def new_event(action: Action, version: str, reason: str = "", before: str | None = None) -> Event:
    """An event of now, by the user of this process."""
    return Event(datetime.now(UTC).replace(microsecond=0), action, version, _person(), reason, before)


def checked_reason(reason: str) -> str:
    """A reason without blanks at its ends.

    Raises
    ------
    JournalError
        It is empty, too long, or holds a character that cannot be printed.
    """
    reason = reason.strip()
    if not reason or len(reason) > MOST_REASON or not reason.isprintable():
        raise JournalError(f"--reason is {reason[:40]!r}; expected a line of text of 1 to {MOST_REASON} characters")
    return reason


def champions(events: Sequence[Event]) -> list[str]:
    """The champion and those that a rollback would return to; the champion is the last. Empty if no version was promoted."""
    stack: list[str] = []
    for event in events:
        if event.action == "rollback":
            del stack[-1:]
        elif event.action in ("adopt", "promote"):
            stack.append(event.version)
    return stack


def _person() -> str:
    """The user and the machine."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # containers run users that have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
