"""Reads the named JSON values of a row, and describes those that are not valid."""

import math
from collections.abc import Callable
from typing import Any

from features.schema import Table
from serving.errors import Errors, Invalid

EXACT = 2**53 - 1  # above this, a float cannot distinguish neighbouring whole numbers


class Fields:
    """The fields of the rows of one table.

    Parameters
    ----------
    ignored : a field that is accepted but not used.
    refused : fields that are an error, each with the reason.
    """

    def __init__(self, table: Table, ignored: str, refused: dict[str, str] | None = None) -> None:
        self._places: dict[str, tuple[int, Callable[[Any], Any]]] = {
            **{
                column.name: (place, _read_id if column.unit == "id" else READERS[column.type])
                for place, column in enumerate(table.numeric)
            },
            **{column.name: (-1 - place, _read_category) for place, column in enumerate(table.categorical)},
        }
        self._sizes = (len(table.numeric), len(table.categorical))
        self._ignored, self._refused = ignored, refused or {}

    def read(self, document: Any, pointer: str, errors: Errors) -> tuple[list[float], list[str | None]]:
        """The numeric and the category values of a row, in the table's order; NaN and None where absent. Appends to `errors`."""
        numeric = [math.nan] * self._sizes[0]
        categorical: list[str | None] = [None] * self._sizes[1]
        if not isinstance(document, dict):
            errors.append(Invalid(pointer, f"expected an object of named fields, got {kind(document)}"))
            return numeric, categorical
        places = self._places
        for name, value in document.items():
            entry = places.get(name)
            if entry is None:
                if name != self._ignored:
                    detail = self._refused.get(name, "no such field; the fields are those of GET /docs.json")
                    errors.append(Invalid(f"{pointer}/{escape(name)}", detail))
                    if not errors.room:
                        break
                continue
            if value is None:
                continue
            place, reader = entry
            try:
                if place >= 0:
                    numeric[place] = reader(value)
                else:
                    categorical[-1 - place] = reader(value)
            except ValueError as error:
                errors.append(Invalid(f"{pointer}/{name}", str(error)))
                if not errors.room:
                    break
        return numeric, categorical


def read_number(value: Any) -> float:
    """A finite number as a float.

    Raises
    ------
    ValueError
        It is anything else. The message says what was expected.
    """
    if type(value) is float:
        if math.isfinite(value):
            return value
        raise ValueError("expected a finite number")
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise ValueError("expected a number within the range of a 64-bit float") from None
    raise ValueError(f"expected a number or null, got {kind(value)}")


def _read_integer(value: Any) -> float:
    number = read_number(value)
    if number % 1:
        raise ValueError(f"expected a whole number or null, got {number!r}")
    return number


def _read_id(value: Any) -> float:
    number = _read_integer(value)
    if abs(number) > EXACT:
        raise ValueError(f"expected a whole number of at most {EXACT}, the largest that a float holds exactly")
    return number


def _read_category(value: Any) -> str:
    if type(value) is str:
        if encodable(value):
            return value
        raise ValueError("expected valid Unicode text")
    raise ValueError(f"expected text or null, got {kind(value)}")


READERS: dict[str, Callable[[Any], Any]] = {"number": read_number, "integer": _read_integer}


def shown(value: str) -> str:
    """A client's text, quoted and shortened for a message."""
    return repr(value if len(value) <= 60 else f"{value[:60]}…")


def kind(value: Any) -> str:
    """The type of a JSON value, in words."""
    if isinstance(value, bool):
        return "a boolean"
    kinds = {str: "text", int: "a number", float: "a number", list: "an array", dict: "an object", type(None): "null"}
    return kinds[type(value)]


def escape(name: str) -> str:
    """A member name as a part of a JSON pointer: escaped, shortened, and always valid UTF-8."""
    safe = name[:100].encode("utf-8", "replace").decode()
    return safe.replace("~", "~0").replace("/", "~1")


def encodable(text: str) -> bool:
    """Whether text is valid Unicode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
