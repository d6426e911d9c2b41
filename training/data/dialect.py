"""The dialect of a CSV file (columns, separator, decimal sign), and the line on which a row begins."""

import csv
import io
import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from training.data.errors import DataError, reading
from training.data.header import check_columns
from training.data.signatures import check_csv
from training.data.source import Source

SAMPLE = 1 << 18  # bytes read to recognise the dialect
SEPARATORS = (",", ";", "\t", "|")
NAMES = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
MAX_SHOWN = 40  # characters of one value in a message

_COMMA = re.compile(r"\s*[-+]?(\d+),(\d+)\s*")
_POINT = re.compile(r"\s*[-+]?\d*\.\d+\s*")


class Dialect(NamedTuple):
    """The column names in the first line, the separator, and the decimal sign."""

    header: tuple[str, ...]
    separator: str
    decimal: str

    def __str__(self) -> str:
        separator = [f"separated by {NAMES[self.separator]}"] if self.separator in NAMES else []
        return ", ".join([*separator, *(["decimal comma"] if self.decimal == "," else [])])


def dialect_of(source: Source, wanted: Collection[str], numbers: Collection[str]) -> Dialect:
    """Recognise the dialect of a CSV file.

    The comma is the decimal sign if the numbers in the first rows have commas but no points, and one comma stands where a
    thousands separator cannot, as in 1,5.

    Parameters
    ----------
    wanted : the columns that the file must have.
    numbers : those of them that hold numbers.

    Raises
    ------
    DataError
        The file is not CSV in UTF-8, a column is missing or appears twice, or the meaning of a comma is ambiguous.
    """
    head = source.head(SAMPLE)
    check_csv(source, head)
    text = head.decode("utf-8-sig", "replace")
    headers = {separator: _first(text, separator) for separator in SEPARATORS}
    separator = max(SEPARATORS, key=lambda one: len(set(headers[one]).intersection(wanted)))
    header = headers[separator]
    if len(header) == 1 and set(_first(header[0], ",")).intersection(wanted) - {header[0]}:
        raise DataError(f"{source}: {WRAPPED.format('its first line')}")
    if len(header) == 1 and len(set(re.findall(r"\w+", header[0])).intersection(wanted)) > 1:
        raise DataError(
            f"{source}: its first line is not separated by commas, semicolons, tabs or vertical bars; export the table with commas"
        )
    check_columns(source, header, wanted)
    plain = Dialect(tuple(header), separator, ".")
    return plain._replace(decimal=_decimal(source, plain, text, numbers))


def rows_of(source: Source, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file and the line on which each begins, without blank lines. Slow; it serves to locate an error.

    Bytes that are not UTF-8 become surrogates.

    Raises
    ------
    DataError
        A quoted field does not end, or a row cannot be read as CSV.
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
    """The line, counted from 1, on which a row, counted from 0, begins; 0 if there is no such row."""
    for number, (line, _) in enumerate(rows_of(source, dialect)):
        if number == row:
            return line
    return 0


def explain(source: Source, dialect: Dialect, wanted: Collection[str]) -> DataError:
    """Find the first line that breaks the form of a CSV file, and say how."""
    positions = {name: dialect.header.index(name) for name in wanted}
    expected = len(dialect.header)
    try:
        for line, row in rows_of(source, dialect):
            if len(row) == 1 < expected and dialect.separator in row[0]:
                return DataError(f"{source}, line {line}: {WRAPPED.format('the row')}")
            if len(row) != expected:
                return DataError(f"{source}, line {line}: expected {expected} values, as many as there are columns, got {len(row)}")
            for name, position in positions.items():
                if any("\udc80" <= letter <= "\udcff" for letter in row[position]):
                    return DataError(f"{source}, line {line}: {name} is not text in UTF-8; save the file in UTF-8")
    except DataError as error:
        return error
    return DataError(f"{source} cannot be read as CSV")


def shown(value: str) -> str:
    """A value quoted for a message. If it is long or holds a separator or line break, it may be a whole row: then only its length."""
    return repr(value) if len(value) <= MAX_SHOWN and not set(value) & {*SEPARATORS, "\n", "\r"} else f"{len(value)} characters of text"


def _is_blank(row: list[str]) -> bool:
    """Whether a line holds nothing but blanks."""
    return not row or (len(row) == 1 and not row[0].strip())


WRAPPED = "{} is one quoted field, as spreadsheets write it when they have not split the file into columns; export the table again"


def _first(text: str, separator: str) -> list[str]:
    """The values of the first line that is not blank."""
    try:
        return next((row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if not _is_blank(row)), [])
    except csv.Error:
        return []


def _decimal(source: Source, dialect: Dialect, text: str, numbers: Collection[str]) -> str:
    text = text[: max(text.rfind("\n"), text.rfind("\r")) + 1]  # the sample may end within a line
    positions = {dialect.header.index(name): name for name in numbers}
    decimals, ambiguous, points = False, None, False
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=dialect.separator)
    try:
        for row in rows:
            if len(row) != len(dialect.header):
                continue
            for position, name in positions.items():
                value = row[position]
                if "," in value and (comma := _COMMA.fullmatch(value)):
                    if len(comma[2]) == 3 and comma[1].lstrip("0"):
                        ambiguous = ambiguous or f"{source}, line {rows.line_num}: {name}"
                    else:
                        decimals = True
                elif "." in value and _POINT.fullmatch(value):
                    points = True
    except csv.Error:  # the reader reports it
        return "."
    if ambiguous and not decimals and not points:
        raise DataError(f"{ambiguous} has a comma that may be the decimal sign or stand between thousands; write a decimal point")
    return "," if decimals and not points else "."
