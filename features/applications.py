"""Raw applications, column by column."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from configs.errors import UserError
from features.history import Mask, Matrix
from features.schema import Column, Table, load_schema


class FeatureError(UserError):
    """Raw columns or a stored state do not fit. The message names them and what was expected."""


@dataclass(frozen=True)
class Applications:
    """Raw applications by column.

    Attributes
    ----------
    table : their schema.
    numeric : float64 of shape (rows, numeric columns of the table, in its order), NaN where not known.
    categorical : for each category column of the table, in its order, one str or None (not known) per row.
    """

    table: Table
    numeric: Matrix
    categorical: Sequence[Sequence[str | None]]

    def __len__(self) -> int:
        return len(self.numeric)

    def implausible(self) -> Mask:
        """Which numbers are known and lie outside the plausible range of their column, shape (rows, numeric columns)."""
        low, high = self.table.ranges
        outside: Mask = (self.numeric < low) | (self.numeric > high)
        if np.count_nonzero(outside):
            for position, column in enumerate(self.table.numeric):
                for value in column.unknown:
                    outside[:, position] &= self.numeric[:, position] != value
        return outside

    @classmethod
    def from_columns(cls, columns: Any, table: Table | None = None) -> Self:
        """Take arrays by column name, such as a frame. A column of the schema that is missing is not known in any row.

        Other columns, such as key and target, are ignored. Missing values are None or NaN.

        Raises
        ------
        FeatureError
            A column has another type than in the schema, or the columns differ in length.
        """
        table = load_schema()["application"] if table is None else table
        given = {column.name: np.asarray(columns[column.name]) for column in table.columns if column.name in columns}
        lengths = {len(values) for values in given.values()}
        if len(lengths) != 1:
            raise FeatureError(f"the columns have {sorted(lengths)} rows; expected the same number in each, of one column at least")
        rows = lengths.pop()
        numeric = np.full((rows, len(table.numeric)), np.nan)
        for position, column in enumerate(table.numeric):
            if column.name in given:
                numeric[:, position] = _as_float(column, given[column.name])
        categorical = [_as_text(column, given[column.name]) if column.name in given else [None] * rows for column in table.categorical]
        return cls(table, numeric, categorical)

    @classmethod
    def from_rows(cls, table: Table, rows: Sequence[tuple[list[float], list[str | None]]]) -> Self:
        """Take rows of (numbers, categories), each in the order of the table."""
        numeric = np.array([row[0] for row in rows], dtype=np.float64).reshape(len(rows), len(table.numeric))
        categorical = list(zip(*(row[1] for row in rows), strict=True)) or [()] * len(table.categorical)
        return cls(table, numeric, categorical)


def _as_float(column: Column, values: NDArray[Any]) -> Matrix:
    if values.dtype.kind == "O":
        values = np.array([np.nan if value is None else value for value in values.tolist()])
    if values.dtype.kind not in "iuf":
        raise FeatureError(f"column {column.name} holds {values.dtype} values; expected numbers")
    return values.astype(np.float64)


def _as_text(column: Column, values: NDArray[Any]) -> list[str | None]:
    result = [None if value is None or (isinstance(value, float) and math.isnan(value)) else value for value in values.tolist()]
    wrong = next((value for value in result if value is not None and not isinstance(value, str)), None)
    if wrong is not None:
        raise FeatureError(f"column {column.name} holds {wrong!r}; expected text")
    return result
