"""A Parquet file as a stream of record batches."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from training.data.errors import DataError, reading
from training.data.fields import Field, Kind
from training.data.header import check_columns
from training.data.signatures import HEAD, check_parquet
from training.data.source import Source


class ParquetTable:
    """The wanted columns of a Parquet file.

    Raises
    ------
    DataError
        A column is missing, appears twice, or has another type.
    """

    description = ""
    decimal = "."
    is_text = False

    def __init__(self, source: Source, fields: Sequence[Field]) -> None:
        self.source = source
        self._names = [field.name for field in fields]
        check_parquet(source, source.head(HEAD))
        with reading(source), source.open() as file:
            schema = pa.parquet.read_schema(file)
        check_columns(source, schema.names, self._names)
        problems = []
        for field in fields:
            found = schema.field(schema.names.index(field.name)).type
            found = found.value_type if pa.types.is_dictionary(found) else found
            if not any(fits(found) for fits in _TYPES[field.kind]):
                problems.append(f"  {field.name}: expected {_EXPECTED[field.kind]}, got {found}")
        if problems:
            raise DataError(f"{source} has columns of the wrong type:\n" + "\n".join(problems))

    def locate(self, row: int) -> str:
        """Name the file and a row for an error; rows count from 0 here and from 1 in the message."""
        return f"{self.source}, row {row + 1}"

    def first_row(self, row_groups: Sequence[int] | None) -> int:
        """The number of the first row of these row groups, from 0."""
        if not row_groups:
            return 0
        with self.source.open() as file:
            metadata = pa.parquet.read_metadata(file)
        return sum(metadata.row_group(group).num_rows for group in range(row_groups[0]))

    def batches(self, rows: int, row_groups: Sequence[int] | None) -> Iterator[pa.RecordBatch]:
        """Batches of at most `rows` rows, with the columns in the order of the fields."""
        with self.source.open() as file:
            parquet = pa.parquet.ParquetFile(file, page_checksum_verification=True)
            for batch in parquet.iter_batches(rows, columns=self._names, row_groups=row_groups):
                yield batch.select(self._names)


def count_row_groups(source: Source) -> int:
    """The number of row groups of a Parquet file.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    with reading(source), source.open() as file:
        return int(pa.parquet.read_metadata(file).num_row_groups)


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
