"""The columns that are read from a table, and the rows as they come."""

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.schema import Column, Table
from training.aliases import Positions, Values

Kind = Literal["key", "text key", "id", "number", "category"]


class Field(NamedTuple):
    """A column to read.

    A key is present in every row. An id is a whole number small enough for a float to keep exactly, or missing. `column` is its
    definition in the schema, if it has one: a key that is also a column of the table is read as both.
    """

    name: str
    kind: Kind
    column: Column | None = None


class Texts(NamedTuple):
    """A category column: for each row the position of its text in `values`, or -1 where it is missing."""

    codes: Positions
    values: list[str]

    def rows(self) -> list[str | None]:
        """One text or None for each row."""
        found: list[str | None] = np.array([*self.values, None], dtype=object)[self.codes].tolist()
        return found


class Part(NamedTuple):
    """Some rows of a table.

    Attributes
    ----------
    rows : their numbers in the file, from 0.
    keys : each key by name: int64, or text as objects.
    numbers : each number and id by name: float64, NaN where missing.
    texts : each category by name.
    spelled : by column, how many values spell out that they are missing, such as "NA".
    """

    rows: Positions
    keys: dict[str, NDArray[Any]]
    numbers: dict[str, Values]
    texts: dict[str, Texts]
    spelled: dict[str, int]

    def take(self, chosen: Positions) -> "Part":
        """The rows at these positions."""
        return Part(
            self.rows[chosen],
            {name: values[chosen] for name, values in self.keys.items()},
            {name: values[chosen] for name, values in self.numbers.items()},
            {name: Texts(text.codes[chosen], text.values) for name, text in self.texts.items()},
            self.spelled,
        )


def fields_of(table: Table, *, with_target: bool = False) -> list[Field]:
    """The key, the target if asked for, and the columns of a table."""
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
