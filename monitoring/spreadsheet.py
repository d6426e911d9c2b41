"""Protects CSV files against formula injection: a spreadsheet runs a client's text if it begins like a formula."""

from typing import TypeVar

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001 - some programs accept the full-width forms too
MARK = "'"

Value = TypeVar("Value")


def shield(value: Value) -> Value | str:
    """A value to write to a CSV file. Text that begins like a formula, or with an apostrophe, gets an apostrophe in front."""
    return f"{MARK}{value}" if isinstance(value, str) and value.startswith((*FORMULA, MARK)) else value


def unshield(text: str) -> str:
    """The reverse of `shield`; text without its apostrophe stays unchanged."""
    return text[1:] if text.startswith(MARK) and text[1:].startswith((*FORMULA, MARK)) else text
