"""How a CSV file is written: its columns, its separator, its decimal sign; and where in it a row stands."""

import csv
import io
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

from training.data.signatures import PARQUET, ZIP, what_is
from training.data.source import DataError, Source, reading

SAMPLE = 1 << 18  # bytes of the file by which the decimal sign is recognised
SEPARATORS = (",", ";", "\t", "|")
NAMES = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
SHOWN = 5
MOST_SHOWN = 40  # characters of one value in an error

_COMMA = re.compile(r"\s*[-+]?(\d+),(\d+)\s*")
_POINT = re.compile(r"\s*[-+]?\d*\.\d+\s*")


class Dialect(NamedTuple):
    """How a file is written: the names in its first line, what separates values, and the decimal sign."""

    header: tuple[str, ...]
    separator: str
    decimal: str

    def __str__(self) -> str:
        told = [f"separated by {NAMES[self.separator]}"] if self.separator in NAMES else []
        return ", ".join([*told, *(["decimal comma"] if self.decimal == "," else [])])


class Quotes:
    """A binary file that counts the quotation marks that were read from it."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.marks, self.closed = 0, False

    def read(self, size: int = -1) -> bytes:
        """Read some bytes."""
        content: bytes = self._file.read(size)
        self.marks += content.count(b'"')
        return content

    def close(self) -> None:
        """Read no more."""
        self.closed = True


def dialect_of(source: Source, wanted: Collection[str], numbers: Collection[str]) -> Dialect:
    """Recognise how a CSV file is written.

    The decimal sign is a comma where the numbers of the first rows have commas and no points, and some comma cannot stand between
    thousands.

    Parameters
    ----------
    wanted : the columns that it must have.
    numbers : those of them that hold numbers.

    Raises
    ------
    DataError
        It is something else than CSV in UTF-8, lacks columns or has one twice, or a comma may be the decimal sign or not.
    """
    head = source.head(SAMPLE)
    what = what_is(head) or ("is Parquet; let its name end in .parquet" if head.startswith(PARQUET) else None)
    what = what or ("is a zip archive or an Excel workbook; expected CSV" if head.startswith(ZIP) else None)
    if what:
        raise DataError(f"{source} {what}")
    text = head.decode("utf-8-sig", "replace")
    headers = {separator: _first(text, separator) for separator in SEPARATORS}
    separator = max(SEPARATORS, key=lambda one: len(set(headers[one]).intersection(wanted)))
    header = headers[separator]
    if len(header) == 1 and set(_first(header[0], ",")).intersection(wanted) - {header[0]}:
        raise DataError(f"{source}: {WRAPPED.format('its first line')}")
    check_columns(source, header, wanted)
    plain = Dialect(tuple(header), separator, ".")
    return plain._replace(decimal=_decimal(source, plain, text, numbers))


def check_columns(source: Source, given: Sequence[str], wanted: Collection[str]) -> None:
    """Refuse a file without some columns, or with two of a name.

    Raises
    ------
    DataError
        Columns are missing or there twice; it names them.
    """
    twice = [name for name in wanted if given.count(name) > 1]
    if twice:
        raise DataError(f"{source} has more than one column {', '.join(twice[:SHOWN])}")
    missing = [name for name in wanted if name not in given]
    if not missing:
        return
    more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    hint = ""
    if {name.lower() for name in missing} <= {name.strip().lower() for name in given}:
        hint = "; it has them in another letter case or with spaces around them"
    elif len(missing) == len(wanted):
        hint = "; it has none of the expected ones: is its first line the names of the columns?"
    raise DataError(f"{source} lacks columns: {', '.join(missing[:SHOWN])}{more}{hint}")


def rows_of(source: Source, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file with the line that each begins on, blank lines left out; slow: to find what is wrong and where.

    Bytes that are not UTF-8 are surrogates.

    Raises
    ------
    DataError
        A quoted field does not end.
    """
    with reading(source), source.open() as file:
        rows = csv.reader(io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline=""), delimiter=dialect.separator, strict=True)
        begin, header = 1, True
        try:
            for row in rows:
                if not _is_blank(row):
                    if not header:
                        yield begin, row
                    header = False
                begin = rows.line_num + 1
        except csv.Error as error:
            if any(word in str(error) for word in ("unexpected end", "field larger")):
                raise DataError(f"{source}, line {begin}: a quoted field does not end; is there a single quote mark in it?") from None
            raise DataError(f"{source}, line {begin}: cannot be read as CSV: {error}") from None


def line_of(source: Source, dialect: Dialect, row: int) -> int:
    """The line on which a row begins, both counted from 1 and 0; 0 if there is no such row."""
    for place, (line, _) in enumerate(rows_of(source, dialect)):
        if place == row:
            return line
    return 0


def explain(source: Source, dialect: Dialect, wanted: Collection[str]) -> DataError:
    """What is wrong with the form of a CSV file, and in which line."""
    places = {name: dialect.header.index(name) for name in wanted}
    expected = len(dialect.header)
    try:
        for line, row in rows_of(source, dialect):
            if len(row) == 1 < expected and dialect.separator in row[0]:
                return DataError(f"{source}, line {line}: {WRAPPED.format('the row')}")
            if len(row) != expected:
                return DataError(f"{source}, line {line}: expected {expected} values, as many as there are columns, got {len(row)}")
            for name, place in places.items():
                if any("\udc80" <= letter <= "\udcff" for letter in row[place]):
                    return DataError(f"{source}, line {line}: {name} is not text in UTF-8; save the file in UTF-8")
    except DataError as error:
        return error
    return DataError(f"{source} cannot be read as CSV")


def shown(value: str) -> str:
    """One value for an error; not a longer text, which may be a whole row."""
    return repr(value) if len(value) <= MOST_SHOWN and not set(value) & {*SEPARATORS, "\n", "\r"} else f"{len(value)} characters of text"


def _is_blank(row: list[str]) -> bool:
    """Whether nothing stands on a line."""
    return not row or (len(row) == 1 and not row[0].strip())


WRAPPED = "{} is one quoted field, as spreadsheets write it when they have not split the file into columns; export the table again"


def _first(text: str, separator: str) -> list[str]:
    """The first line that is not blank."""
    try:
        return next((row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if not _is_blank(row)), [])
    except csv.Error:
        return []


def _decimal(source: Source, dialect: Dialect, text: str, numbers: Collection[str]) -> str:
    text = text[: max(text.rfind("\n"), text.rfind("\r")) + 1]  # the last line may be cut
    places = {dialect.header.index(name): name for name in numbers}
    decimals, ambiguous, points = False, None, False
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=dialect.separator)
    try:
        for row in rows:
            if len(row) != len(dialect.header):
                continue
            for place, name in places.items():
                value = row[place]
                if "," in value and (comma := _COMMA.fullmatch(value)):
                    if len(comma[2]) == 3 and comma[1].lstrip("0"):
                        ambiguous = ambiguous or f"{source}, line {rows.line_num}: {name}"
                    else:
                        decimals = True
                elif "." in value and _POINT.fullmatch(value):
                    points = True
    except csv.Error:  # is told when the rows are read
        return "."
    if ambiguous and not decimals and not points:
        raise DataError(f"{ambiguous} has a comma that may be the decimal sign or stand between thousands; write a decimal point")
    return "," if decimals and not points else "."
