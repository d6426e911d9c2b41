"""A CSV file as a stream of record batches."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from training.data.conversion import CATEGORY
from training.data.dialect import dialect_of, explain, line_of, rows_of
from training.data.errors import DataError
from training.data.fields import Field
from training.data.source import Source

BYTES_PER_VALUE = 5  # with its separator; it turns a number of rows into a size of block
MIN_BLOCK = 1 << 14  # bytes; more than any row has


class CsvTable:
    """The wanted columns of a CSV file.

    Rows at the end in which all these columns are blank are left out and counted in `blank`.

    Raises
    ------
    DataError
        The file is not CSV in UTF-8, or a column is missing or appears twice.
    """

    is_text = True

    def __init__(self, source: Source, fields: Sequence[Field]) -> None:
        self.source, self.blank = source, 0
        self._fields, self._names = fields, [field.name for field in fields]
        self._dialect = dialect_of(source, self._names, [field.name for field in fields if field.kind == "number"])
        self.decimal = self._dialect.decimal

    @property
    def description(self) -> str:
        """The separator and decimal sign, if they are unusual."""
        return f", {self._dialect}" if str(self._dialect) else ""

    def locate(self, row: int) -> str:
        """Name the file and the line of a row for an error; rows count from 0."""
        return f"{self.source}, line {line_of(self.source, self._dialect, row)}"

    def first_row(self, _row_groups: Sequence[int] | None) -> int:
        """A CSV file is read from its first row."""
        return 0

    def batches(self, rows: int, _row_groups: Sequence[int] | None) -> Iterator[pa.RecordBatch]:
        """Batches of about `rows` rows, with the columns in the order of the fields."""
        done = 0
        for batch in self._parsed(rows):
            known = len(batch)
            if known and not batch.column(0)[-1].is_valid:
                filled = np.logical_or.reduce([column.is_valid().to_numpy(zero_copy_only=False) for column in batch.columns])
                known = int(np.flatnonzero(filled)[-1]) + 1 if filled.any() else 0
            if known and self.blank:
                raise DataError(f"{self.locate(done)}: the row is blank; expected blank rows at the end of the file only")
            self.blank += len(batch) - known
            done += known
            if known:
                yield batch.slice(0, known)

    def _parsed(self, rows: int) -> Iterator[pa.RecordBatch]:
        """Numbers as numbers; from the first value or row that does not parse, numbers as text, so that it can be named."""
        done = 0
        try:
            for batch in self._stream(rows, {"number": pa.float64()}):
                yield batch
                done += len(batch)
        except pa.ArrowInvalid:
            try:
                for batch in self._stream(rows, {}):
                    rest = batch.slice(min(done, len(batch)))
                    done -= len(batch) - len(rest)
                    yield rest
            except pa.ArrowInvalid:
                raise explain(self.source, self._dialect, self._names) from None

    def _stream(self, rows: int, types: dict[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
        types = {"category": CATEGORY} | types
        convert = pa.csv.ConvertOptions(
            column_types={field.name: types.get(field.kind, pa.string()) for field in self._fields},
            include_columns=self._names,
            strings_can_be_null=True,
            null_values=[""],
            decimal_point=self.decimal,
        )
        parse = pa.csv.ParseOptions(
            delimiter=self._dialect.separator,
            newlines_in_values=True,
            invalid_row_handler=lambda row: "error" if row.text.strip() else "skip",
        )
        block = pa.csv.ReadOptions(block_size=max(MIN_BLOCK, rows * BYTES_PER_VALUE * len(self._dialect.header)))
        with self.source.open() as opened:
            file = _CountQuotes(opened)
            yield from pa.csv.open_csv(pa.PythonFile(file, "r"), block, parse_options=parse, convert_options=convert)
        if file.marks % 2:  # pyarrow closes an open quote at the end of the file; the slow reader raises
            for _ in rows_of(self.source, self._dialect):
                pass


class _CountQuotes:
    """A binary file that counts the quotation marks read from it."""

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
