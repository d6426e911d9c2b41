"""Text from clients in a CSV file: a spreadsheet takes what begins like a formula for one, and runs it."""

from typing import TypeVar

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001 - as some programs read the wide forms too
MARK = "'"

Value = TypeVar("Value")


def shield(value: Value) -> Value | str:
    """A value as it is written: text that begins like a formula, or with an apostrophe, gets an apostrophe before it."""
    return f"{MARK}{value}" if isinstance(value, str) and value.startswith((*FORMULA, MARK)) else value


def unshield(text: str) -> str:
    """What `shield` was given; other text as it is."""
    return text[1:] if text.startswith(MARK) and text[1:].startswith((*FORMULA, MARK)) else text
