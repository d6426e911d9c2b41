"""From raw applications to the float matrix that the model reads; the one path for training and serving."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from features.application import RATIOS, SIMPLE, Derived
from features.schema import Column, Table, load_schema

STATE_FORMAT = 1
UNSEEN = -1.0

Matrix = NDArray[np.float64]
Positions = NDArray[np.intp]


class FeatureError(ValueError):
    """The raw columns or a stored state do not fit; the message names what and what was expected."""


class Feature(NamedTuple):
    """One column of the matrix: its name, its unit, the raw column or formula it comes from."""

    name: str
    unit: str
    source: str


class Unseen(NamedTuple):
    """A category value that the fitted transform does not know."""

    row: int
    column: str
    value: str


class Transformed(NamedTuple):
    """Matrix of shape (rows, features), float64, NaN where not known; and the unseen categories in it."""

    matrix: Matrix
    unseen: list[Unseen]


@dataclass(frozen=True)
class Applications:
    """Raw applications by column.

    Attributes
    ----------
    table : their schema.
    numeric : float64 of shape (rows, numeric columns of the table, in its order), NaN where not known.
    categorical : for each category column of the table, in its order, one str or None (not known) a row.
    """

    table: Table
    numeric: Matrix
    categorical: Sequence[Sequence[str | None]]

    def __len__(self) -> int:
        return len(self.numeric)

    @classmethod
    def from_columns(cls, columns: Any, table: Table | None = None) -> Self:
        """Take a mapping of arrays, or a frame, by column name; a column of the schema that is absent is not known in any row.

        Other columns (the key, the target) are left aside. Missing is None or NaN.

        Raises
        ------
        FeatureError
            A column holds another type than the schema says, or the columns differ in length.
        """
        table = table or load_schema()["application"]
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
        """Take rows of (numeric values, category values), each in the order of the table."""
        numeric = np.array([row[0] for row in rows], dtype=np.float64).reshape(len(rows), len(table.numeric))
        categorical = list(zip(*(row[1] for row in rows), strict=True)) or [()] * len(table.categorical)
        return cls(table, numeric, categorical)


class FeatureTransform:
    """Learns the categories of the training data; maps raw applications to the feature matrix.

    Each row is computed by itself with elementwise operations, so it has the same bits alone and in any batch.
    A category is its index in `categories_`, an unseen one is UNSEEN (-1), a missing one NaN.

    Attributes
    ----------
    categories_ : the known values of each category column, sorted.
    """

    categories_: dict[str, tuple[str, ...]]

    def __init__(self, table: Table | None = None) -> None:
        self.table = table or load_schema()["application"]

    def fit(self, applications: Applications) -> Self:
        """Learn the categories that occur.

        Raises
        ------
        FeatureError
            There is no row.
        """
        if not len(applications):
            raise FeatureError("no application to learn from; expected at least one row")
        self.categories_ = {
            column.name: tuple(sorted({value for value in values if value is not None} - set(column.unknown)))
            for column, values in zip(self.table.categorical, applications.categorical, strict=True)
        }
        return self

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        """The columns of the matrix, in order."""
        raw = [Feature(column.name, "code" if column.type == "category" else column.unit, column.name) for column in self.table.columns]
        simple = [Feature(derived.name, derived.unit, derived.formula) for derived in SIMPLE]
        ratios = [Feature(name, "ratio", f"{above} / {below}") for name, (above, below) in RATIOS.items()]
        return (*raw, *simple, *ratios)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the features, in order."""
        return tuple(feature.name for feature in self.features)

    def describe(self) -> list[dict[str, Any]]:
        """Name, unit and source of each feature in order; of a category also its values, the first of which has code 0."""
        return [
            {**feature._asdict(), **({"categories": list(self.categories_[feature.name])} if feature.unit == "code" else {})}
            for feature in self.features
        ]

    @cached_property
    def categorical_positions(self) -> tuple[int, ...]:
        """The positions of the category columns in the matrix."""
        return tuple(self._position[column.name] for column in self.table.categorical)

    def transform(self, applications: Applications) -> Transformed:
        """Compute the feature matrix."""
        rows = len(applications)
        matrix = np.empty((rows, len(self.features)))
        matrix[:, self._numeric_positions] = applications.numeric
        for position, value in self._unknown_numbers:
            column = matrix[:, position]
            column[column == value] = np.nan
        unseen = self._encode(applications, matrix)
        start = len(self.table.columns)

        with np.errstate(all="ignore"):
            for offset, (derived, positions) in enumerate(self._simple):
                matrix[:, start + offset] = derived.compute(matrix.take(positions, axis=1))
            above, below = self._ratio_positions
            denominators = matrix.take(below, axis=1)
            denominators[denominators == 0] = np.nan
            matrix[:, start + len(SIMPLE) :] = matrix.take(above, axis=1) / denominators
        return Transformed(matrix, unseen)

    def to_json(self) -> str:
        """The learned state, versioned."""
        state = {"format": STATE_FORMAT, "features": self.names, "categories": self.categories_}
        return json.dumps(state, indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, table: Table | None = None) -> Self:
        """Restore a fitted transform.

        Raises
        ------
        FeatureError
            The state is of another format, or was learned with other features than this code computes.
        """
        transform = cls(table)
        try:
            state = json.loads(text)
            version, names, categories = state["format"], state["features"], state["categories"]
        except (ValueError, KeyError, TypeError) as error:
            raise FeatureError(f"the feature state is not readable: {error!r}") from None
        if version != STATE_FORMAT:
            raise FeatureError(f"the feature state has format {version!r}; expected {STATE_FORMAT}")
        if tuple(names) != transform.names:
            differing = sorted(set(names) ^ set(transform.names)) or "their order"
            raise FeatureError(f"the feature state was learned with other features than these: {differing}; train again")
        transform.categories_ = {name: tuple(values) for name, values in categories.items()}
        return transform

    def _encode(self, applications: Applications, matrix: Matrix) -> list[Unseen]:
        unseen = []
        for column, position, values in zip(self.table.categorical, self.categorical_positions, applications.categorical, strict=True):
            codes = self._codes[column.name]
            encoded = [codes.get(value, UNSEEN) for value in values]
            matrix[:, position] = encoded
            if UNSEEN in encoded:
                unseen += [Unseen(row, column.name, str(values[row])) for row, code in enumerate(encoded) if code == UNSEEN]
        return unseen

    @cached_property
    def _codes(self) -> dict[str, dict[str | None, float]]:
        codes: dict[str, dict[str | None, float]] = {}
        for column in self.table.categorical:
            codes[column.name] = {value: float(code) for code, value in enumerate(self.categories_[column.name])}
            codes[column.name].update(dict.fromkeys((None, *column.unknown), np.nan))
        return codes

    @cached_property
    def _position(self) -> dict[str, int]:
        return {name: position for position, name in enumerate(self.names)}

    @cached_property
    def _numeric_positions(self) -> Positions:
        return self._positions(column.name for column in self.table.numeric)

    @cached_property
    def _unknown_numbers(self) -> list[tuple[int, Any]]:
        return [(self._position[column.name], value) for column in self.table.numeric for value in column.unknown]

    @cached_property
    def _simple(self) -> list[tuple[Derived, Positions]]:
        return [(derived, self._positions(derived.columns)) for derived in SIMPLE]

    @cached_property
    def _ratio_positions(self) -> tuple[Positions, Positions]:
        above, below = zip(*RATIOS.values(), strict=True)
        return self._positions(above), self._positions(below)

    def _positions(self, names: Iterable[str]) -> Positions:
        return np.array([self._position[name] for name in names], dtype=np.intp)


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
