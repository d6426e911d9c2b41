"""Reading the columns of a table from its file in parts: the one reader of CSV and Parquet, of ids, numbers and categories."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from features.schema import Column, Table
from serving.fields import EXACT
from training.data.conversion import CATEGORY, as_categories, as_numbers, as_text_ids, as_whole, first_unfit
from training.data.dialect import Dialect, Quotes, check_columns, dialect_of, explain, line_of, rows_of
from training.data.signatures import PARQUET, what_is
from training.data.source import DataError, Source, reading

BYTES_OF_VALUE = 5  # in CSV, with its separator, to read about as many rows at once as asked for
LEAST_BLOCK = 1 << 14  # bytes, more than any row has

Kind = Literal["key", "text key", "id", "number", "category"]


class Field(NamedTuple):
    """A column to read: a key is there in every row; an id is a whole number that a float keeps exactly, or missing.

    A key that is one of the columns of the table too is both.
    """

    name: str
    kind: Kind
    column: Column | None = None


class Texts(NamedTuple):
    """A category column: for each row the place of its text among `values`, or -1 where it is missing."""

    codes: NDArray[np.intp]
    values: list[str]

    def rows(self) -> list[str | None]:
        """One text or None a row."""
        found: list[str | None] = np.array([*self.values, None], dtype=object)[self.codes].tolist()
        return found


class Part(NamedTuple):
    """Some rows of a table.

    Attributes
    ----------
    rows : their numbers in the file, from 0.
    keys : by name, of each key: int64, or texts as objects.
    numbers : by name: float64, NaN where missing.
    texts : by name.
    spelled : how many values of a column say by a word that they are missing.
    """

    rows: NDArray[np.intp]
    keys: dict[str, NDArray[Any]]
    numbers: dict[str, NDArray[np.float64]]
    texts: dict[str, Texts]
    spelled: dict[str, int]

    def take(self, own: NDArray[np.intp]) -> "Part":
        """Some of the rows."""
        return Part(
            self.rows[own],
            {name: values[own] for name, values in self.keys.items()},
            {name: values[own] for name, values in self.numbers.items()},
            {name: Texts(text.codes[own], text.values) for name, text in self.texts.items()},
            self.spelled,
        )


def fields_of(table: Table, *, with_target: bool = False) -> list[Field]:
    """The key, the target if it is asked for, and the columns of a table."""
    kinds: dict[str, Kind] = {
        column.name: "id" if column.unit == "id" else "category" if column.type == "category" else "number" for column in table.columns
    }
    columns = [Field(column.name, kinds[column.name], column) for column in table.columns if column.name != table.key]
    target = [Field(table.target, "number")] if with_target and table.target else []
    key = key_of(table)._replace(column=next((column for column in table.columns if column.name == table.key), None))
    return [key, *target, *columns]


def key_of(table: Table) -> Field:
    """The key of a table."""
    return Field(table.key, "text key" if table.key_type == "text" else "key")


class TableReader:
    """Reads some columns of a file.

    Attributes
    ----------
    rows : those read so far.
    blank : those at the end of a CSV file in which all these columns are blank; they are left out.

    Raises
    ------
    DataError
        The file is not a table with these columns.
    """

    def __init__(self, source: Source, fields: Sequence[Field]) -> None:
        self.source, self.fields = source, fields
        self.rows = self.blank = 0
        self._names = [field.name for field in fields]
        self._dialect: Dialect | None = None
        if source.is_parquet:
            _check_parquet(source, fields)
        else:
            self._dialect = dialect_of(source, self._names, [field.name for field in fields if field.kind == "number"])

    def __str__(self) -> str:
        told = f", {self._dialect}" if self._dialect and str(self._dialect) else ""
        return f"{self.source}: {self.source.size()}{told}, {self.rows:,} rows{f' and {self.blank} blank ones at the end' if self.blank else ''}"

    def place(self, row: int) -> str:
        """The file and where in it a row stands, for an error."""
        if self._dialect is None:
            return f"{self.source}, row {row + 1}"
        return f"{self.source}, line {line_of(self.source, self._dialect, row)}"

    def parts(self, rows: int, row_groups: Sequence[int] | None = None) -> Iterator[Part]:
        """Read the file in parts of about so many rows.

        Parameters
        ----------
        row_groups : of a Parquet file, those to read, adjoining; None for all.

        Raises
        ------
        DataError
            The file is damaged, a value is not of the column's kind, or a key is missing; the message names line and column.
        """
        with reading(self.source):
            for batch in (
                self._parquet(rows, row_groups) if self._dialect is None else self._without_blank_end(self._csv(rows, self._dialect))
            ):
                part = self._part(batch)
                self.rows += len(batch)
                yield part

    def _parquet(self, rows: int, row_groups: Sequence[int] | None) -> Iterator[pa.RecordBatch]:
        with self.source.open() as file:
            parquet = pa.parquet.ParquetFile(file, page_checksum_verification=True)
            if row_groups:
                self.rows = sum(parquet.metadata.row_group(group).num_rows for group in range(row_groups[0]))
            for batch in parquet.iter_batches(rows, columns=self._names, row_groups=row_groups):
                yield batch.select(self._names)

    def _csv(self, rows: int, dialect: Dialect) -> Iterator[pa.RecordBatch]:
        done = 0
        try:
            for batch in self._stream(rows, dialect, {"number": pa.float64()}):
                yield batch
                done += len(batch)
        except pa.ArrowInvalid:  # some value is not a number, or some row not a row: from there on all is read as text and looked at
            try:
                for batch in self._stream(rows, dialect, {}):
                    rest = batch.slice(min(done, len(batch)))
                    done -= len(batch) - len(rest)
                    yield rest
            except pa.ArrowInvalid:
                raise explain(self.source, dialect, self._names) from None

    def _stream(self, rows: int, dialect: Dialect, types: dict[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
        types = {"category": CATEGORY} | types
        convert = pa.csv.ConvertOptions(
            column_types={field.name: types.get(field.kind, pa.string()) for field in self.fields},
            include_columns=self._names,
            strings_can_be_null=True,
            null_values=[""],
            decimal_point=dialect.decimal,
        )
        parse = pa.csv.ParseOptions(
            delimiter=dialect.separator,
            newlines_in_values=True,
            invalid_row_handler=lambda row: "error" if row.text.strip() else "skip",
        )
        block = max(LEAST_BLOCK, rows * BYTES_OF_VALUE * len(dialect.header))
        with self.source.open() as opened:
            file = Quotes(opened)
            yield from pa.csv.open_csv(
                pa.PythonFile(file, "r"), pa.csv.ReadOptions(block_size=block), parse_options=parse, convert_options=convert
            )
        if file.marks % 2:  # pyarrow ends a quoted field where the file ends
            for _ in rows_of(self.source, dialect):
                pass

    def _without_blank_end(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            known = len(batch)
            if known and not batch.column(0)[-1].is_valid:
                there = np.logical_or.reduce([column.is_valid().to_numpy(zero_copy_only=False) for column in batch.columns])
                known = int(np.flatnonzero(there)[-1]) + 1 if there.any() else 0
            if known and self.blank:
                raise DataError(f"{self.place(self.rows)}: the row is blank; expected blank rows at the end of the file only")
            self.blank += len(batch) - known
            if known:
                yield batch.slice(0, known)

    def _part(self, batch: pa.RecordBatch) -> Part:
        part = Part(np.arange(self.rows, self.rows + len(batch)), {}, {}, {}, {})
        for field, array in zip(self.fields, batch.columns, strict=True):
            if field.kind == "category":
                codes, values, spelled = self._converted(array, field, partial(as_categories, column=field.column))
                part.texts[field.name] = Texts(codes, values)
            elif field.kind == "number":
                whole = field.column is not None and field.column.type == "integer"
                point = self._dialect.decimal if self._dialect else "."
                numbers, spelled = self._converted(array, field, partial(as_numbers, whole=whole, decimal=point))
                if self._dialect and pa.types.is_floating(array.type):  # the rest are written as nan
                    spelled = int(np.count_nonzero(np.isnan(numbers))) - int(array.null_count)
                part.numbers[field.name] = numbers
            else:
                spelled = 0
                self._identify(array, field, part)
            if spelled:
                part.spelled[field.name] = spelled
        return part

    def _identify(self, array: pa.Array, field: Field, part: Part) -> None:
        ids = self._converted(array, field, as_text_ids if field.kind == "text key" else as_whole)
        if field.kind != "id":
            if ids.null_count:
                missing = int(np.flatnonzero(ids.is_null().to_numpy(zero_copy_only=False))[0])
                raise DataError(f"{self.place(self.rows + missing)}: {field.name} is missing; expected a value in each row")
            part.keys[field.name] = ids.to_numpy(zero_copy_only=False)
        if field.kind == "id" or field.column:
            known = ids.fill_null(0).to_numpy()
            beyond = np.flatnonzero((known > EXACT) | (known < -EXACT))
            if len(beyond):
                raise DataError(
                    f"{self.place(self.rows + int(beyond[0]))}: {field.name}: expected an id of at most {EXACT}, got {known[beyond[0]]}"
                )
            part.numbers[field.name] = ids.cast(pa.float64()).to_numpy(zero_copy_only=False)

    def _converted(self, array: pa.Array, field: Field, convert: Callable[[pa.Array], Any]) -> Any:
        try:
            return convert(array)
        except (pa.ArrowInvalid, ValueError):
            place, told = first_unfit(array, convert)
            expected = _EXPECTED_ONE.get(field.kind, "a whole number that is kept exactly")
            raise DataError(f"{self.place(self.rows + place)}: {field.name}: expected {expected}, got {told}") from None


def read_ids(source: Source, *keys: Field) -> tuple[NDArray[Any], ...]:
    """Some key columns of a file, whole.

    Raises
    ------
    DataError
        The file cannot be read, or a key is missing or no id.
    """
    reader = TableReader(source, keys)
    parts = [part.keys for part in reader.parts(1_000_000)]
    empty = [np.empty(0, dtype=object if key.kind == "text key" else np.int64) for key in keys]
    return tuple(np.concatenate([none, *(part[key.name] for part in parts)]) for key, none in zip(keys, empty, strict=True))


def _check_parquet(source: Source, fields: Sequence[Field]) -> None:
    head = source.head(512)
    if not head.startswith(PARQUET):
        raise DataError(f"{source} {what_is(head) or 'is not Parquet; let the name of a CSV file end in .csv'}")
    with reading(source), source.open() as file:
        schema = pa.parquet.read_schema(file)
    check_columns(source, schema.names, [field.name for field in fields])
    problems = []
    for field in fields:
        kind = schema.field(schema.names.index(field.name)).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        fits = any(of(kind) for of in _TYPES[field.kind])
        if not fits:
            problems.append(f"  {field.name}: expected {_EXPECTED[field.kind]}, got {kind}")
    if problems:
        raise DataError(f"{source} has columns of the wrong type:\n" + "\n".join(problems))


_is = pa.types
_TEXTS = (_is.is_string, _is.is_large_string, _is.is_string_view, _is.is_binary, _is.is_large_binary, _is.is_binary_view, _is.is_null)
_WHOLE = (_is.is_integer, _is.is_floating, _is.is_decimal, _is.is_null)
_TYPES: dict[Kind, tuple[Callable[[Any], bool], ...]] = {
    "key": _WHOLE,
    "id": _WHOLE,
    "number": (*_WHOLE, _is.is_boolean),
    "category": _TEXTS,
    "text key": (*_TEXTS, _is.is_integer),
}
_EXPECTED = {"key": "whole numbers", "id": "whole numbers", "number": "numbers", "category": "text", "text key": "text"}
_EXPECTED_ONE = {"number": "a number", "category": "text in UTF-8", "text key": "text in UTF-8"}
