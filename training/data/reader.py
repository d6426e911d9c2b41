"""The one reader of tables: from a CSV or Parquet file to keys, numbers and categories, part by part."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serving.contract.fields import EXACT
from training.data.conversion import as_categories, as_numbers, as_text_ids, as_whole, first_unfit
from training.data.csv_table import CsvTable
from training.data.errors import DataError, reading
from training.data.fields import Field, Part, Texts
from training.data.parquet_table import ParquetTable
from training.data.source import Source


class TableReader:
    """Reads some columns of a file.

    Attributes
    ----------
    rows : how many were read so far.

    Raises
    ------
    DataError
        The file is not a table with these columns.
    """

    def __init__(self, source: Source, fields: Sequence[Field]) -> None:
        self.source, self.fields, self.rows = source, fields, 0
        self._file: CsvTable | ParquetTable = ParquetTable(source, fields) if source.is_parquet else CsvTable(source, fields)

    def __str__(self) -> str:
        blank = f" and {self._file.blank} blank ones at the end" if isinstance(self._file, CsvTable) and self._file.blank else ""
        return f"{self.source}: {self.source.size()}{self._file.description}, {self.rows:,} rows{blank}"

    def locate(self, row: int) -> str:
        """Name the file and the place of a row in it, for an error; rows count from 0."""
        return self._file.locate(row)

    def parts(self, rows: int, row_groups: Sequence[int] | None = None) -> Iterator[Part]:
        """Read the file in parts of about `rows` rows.

        Parameters
        ----------
        row_groups : adjoining row groups of a Parquet file; None for all.

        Raises
        ------
        DataError
            The file is damaged, a value is not of its column's kind, or a key is missing. The message names line and column.
        """
        with reading(self.source):
            self.rows = self._file.first_row(row_groups)
            for batch in self._file.batches(rows, row_groups):
                part = self._part(batch)
                self.rows += len(batch)
                yield part

    def _part(self, batch: pa.RecordBatch) -> Part:
        part = Part(np.arange(self.rows, self.rows + len(batch)), {}, {}, {}, {})
        for field, array in zip(self.fields, batch.columns, strict=True):
            spelled = 0
            if field.kind == "category":
                codes, values, spelled = self._converted(array, field, partial(as_categories, column=field.column))
                part.texts[field.name] = Texts(codes, values)
            elif field.kind == "number":
                whole = field.column is None or field.column.type == "integer"  # the target has no column
                convert = partial(as_numbers, whole=whole, decimal=self._file.decimal, is_text=self._file.is_text)
                part.numbers[field.name], spelled = self._converted(array, field, convert)
            else:
                self._add_ids(array, field, part)
            if spelled:
                part.spelled[field.name] = spelled
        return part

    def _add_ids(self, array: pa.Array, field: Field, part: Part) -> None:
        ids = self._converted(array, field, as_text_ids if field.kind == "text key" else as_whole)
        if field.kind != "id":
            if ids.null_count:
                missing = int(np.flatnonzero(ids.is_null().to_numpy(zero_copy_only=False))[0])
                raise DataError(f"{self.locate(self.rows + missing)}: {field.name} is missing; expected a value in each row")
            part.keys[field.name] = ids.to_numpy(zero_copy_only=False)
        if field.kind == "id" or field.column:
            known = ids.fill_null(0).to_numpy()
            beyond = np.flatnonzero((known > EXACT) | (known < -EXACT))
            if len(beyond):
                where = self.locate(self.rows + int(beyond[0]))
                raise DataError(f"{where}: {field.name}: expected an id of at most {EXACT}, got {known[beyond[0]]}")
            part.numbers[field.name] = ids.cast(pa.float64()).to_numpy(zero_copy_only=False)

    def _converted(self, array: pa.Array, field: Field, convert: Callable[[pa.Array], Any]) -> Any:
        try:
            return convert(array)
        except (pa.ArrowInvalid, ValueError):
            row, value = first_unfit(array, convert)
            expected = _EXPECTED.get(field.kind, "a whole number that is kept exactly")
            raise DataError(f"{self.locate(self.rows + row)}: {field.name}: expected {expected}, got {value}") from None


def read_ids(source: Source, *keys: Field) -> tuple[NDArray[Any], ...]:
    """Read some key columns of a file whole.

    Raises
    ------
    DataError
        The file cannot be read, or a key is missing or not an id.
    """
    reader = TableReader(source, keys)
    parts = [part.keys for part in reader.parts(1_000_000)]
    empty = [np.empty(0, dtype=object if key.kind == "text key" else np.int64) for key in keys]
    return tuple(np.concatenate([none, *(part[key.name] for part in parts)]) for key, none in zip(keys, empty, strict=True))


_EXPECTED = {"number": "a number", "category": "text in UTF-8", "text key": "text in UTF-8"}
