"""From raw applications and their history to the float matrix that the model reads; the one path for training and serving."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from configs.errors import UserError
from configs.settings import CONFIGS
from features.absence import Absence, Odd
from features.aggregates import AGGREGATES, EXPRESSIONS, WINDOWS
from features.application import DIFFERENCES, EXPECTED, EXTERNAL, RATIOS, SIMPLE, Derived
from features.expectation import Expectation, cross_fitted
from features.history import UNSEEN, Aggregate, Aggregator, History, Mask, Matrix, Positions
from features.schema import Column, Table, history_tables, load_schema, read_yaml

STATE_FORMAT = 4
CHOSEN = CONFIGS / "features.yaml"


class FeatureError(UserError):
    """The raw columns or a stored state do not fit; the message names what and what was expected."""


class Feature(NamedTuple):
    """One column of the matrix: its name, its unit, the raw column, formula or aggregate it comes from."""

    name: str
    unit: str
    source: str


@cache
def feature_pool() -> dict[str, Feature]:
    """Every feature that can be computed, by name: raw columns, derived ones, aggregates of the history, ratios, changes."""
    raw = [(c.name, "code" if c.type == "category" else c.unit, c.name) for c in load_schema()["application"].columns]
    simple = [(derived.name, derived.unit, derived.formula) for derived in SIMPLE]
    aggregates = [(item.name, item.unit, item.source(EXPRESSIONS[item.table])) for item in AGGREGATES]
    ratios = [(name, "ratio", f"{above} / {below}") for name, (above, below) in RATIOS.items()]
    expected = [(name, "score", f"{score} as the rest of the application leads one to expect") for name, score in EXPECTED.items()]
    differences = [(name, "difference", f"{one} - {other}") for name, (one, other) in DIFFERENCES.items()]
    return {fields[0]: Feature(*fields) for fields in (*raw, *simple, *aggregates, *ratios, *expected, *differences)}


@cache
def history_features() -> frozenset[str]:
    """The features of the pool that need the history."""
    aggregates = {aggregate.name for aggregate in AGGREGATES}
    return frozenset(aggregates | {name for name, pair in {**RATIOS, **DIFFERENCES}.items() if aggregates & set(pair)})


@cache
def explaining_features() -> tuple[str, ...]:
    """The features of the application that the external scores are expected by: all that hold none of these."""
    derived = {feature.name for feature in SIMPLE if set(feature.columns) & set(EXTERNAL)}
    holding = history_features() | derived | set(EXTERNAL) | set(EXPECTED) | set(DIFFERENCES)
    return tuple(name for name in feature_pool() if name not in holding)


@cache
def chosen_features() -> tuple[str, ...]:
    """The names of the features of new models, in order, from configs/features.yaml."""
    return tuple(entry["name"] for entry in read_yaml(CHOSEN)["features"])


class Unseen(NamedTuple):
    """A category value that the fitted transform does not know."""

    row: int
    column: str
    value: str


class Transformed(NamedTuple):
    """Matrix of shape (rows, features), float64, NaN where not known; the unseen categories in it; the fields absent as in no row of training, if any."""

    matrix: Matrix
    unseen: list[Unseen]
    odd: Odd | None


class Learned(NamedTuple):
    """Matrices of shape (rows, features): of the applications as they are, and with the hidden values not known."""

    matrix: Matrix
    lesson: Matrix


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

    def implausible(self) -> Mask:
        """Which numbers, shape (rows, numeric columns), are known and outside the plausible range of their column."""
        low, high = self.table.ranges
        outside: Mask = (self.numeric < low) | (self.numeric > high)
        if outside.any():
            for place, column in enumerate(self.table.numeric):
                for value in column.unknown:
                    outside[:, place] &= self.numeric[:, place] != value
        return outside

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
    """Learns from the training data, without their outcomes; maps raw applications and their history to the feature matrix.

    Each row is computed by itself, the application with elementwise operations, the history by the rule of
    features/history.py, so it has the same bits alone and in any batch. A category is its index in `categories_`, an
    unseen one is UNSEEN (-1), a missing one NaN.

    Parameters
    ----------
    names : the features to compute, of `feature_pool`; those of configs/features.yaml if None.

    Attributes
    ----------
    table : schema of the application.
    history : schemas of the history tables.
    categories_ : the known values of each category column, sorted.
    absence_ : what training tells of absent fields; None in a state of an earlier release.
    expectation_ : what the external scores are expected to be by the rest of the application; None where no feature needs it.
    """

    categories_: dict[str, tuple[str, ...]]
    absence_: Absence | None = None
    expectation_: Expectation | None = None

    def __init__(self, names: Sequence[str] | None = None) -> None:
        self.table = load_schema()["application"]
        self.history = history_tables()
        self.names = tuple(names if names is not None else chosen_features())
        unknown = [name for name in self.names if name not in feature_pool()]
        if unknown:
            raise FeatureError(f"no such features: {', '.join(unknown)}; expected names of columns, or of what is computed from them")
        self._differences = {name: pair for name, pair in DIFFERENCES.items() if name in self.names}
        needed = {*self.names, *chain.from_iterable(self._differences.values())}
        self._expected = tuple(EXPECTED) if needed & set(EXPECTED) else ()
        needed.update(explaining_features() if self._expected else ())
        self._ratios = {name: pair for name, pair in RATIOS.items() if name in needed}
        needed.update(chain.from_iterable(self._ratios.values()))
        aggregates: list[Aggregate] = [aggregate for aggregate in AGGREGATES if aggregate.name in needed]
        self._aggregator = Aggregator(aggregates, self.history, EXPRESSIONS, WINDOWS)

    def fit(self, applications: Applications) -> Self:
        """As `fit_transform`, without the matrix."""
        self.fit_transform(applications)
        return self

    def fit_transform(self, applications: Applications, history: History | None = None, hidden: Mask | None = None) -> Learned:
        """Learn the categories that occur, what absent fields mean and what the external scores are expected to be; compute the matrix that a model is to learn from.

        It is that of `transform`, but what is expected of a row is learned from other rows, as it will be for new applicants; scores that
        helped to learn what is expected of them lie too close to it. (`TargetEncoder.fit_transform` of scikit-learn differs in the same way.)

        Parameters
        ----------
        hidden : shape (rows, columns of the table), the values that count as not known in what is learned from, so that a model and the
            expectation learn what missing means of a field that is always there; none if None.

        Raises
        ------
        FeatureError
            There is no row, or the history is that of another number of clients.
        """
        if not len(applications):
            raise FeatureError("no application to learn from; expected at least one row")
        self.categories_ = {
            column.name: tuple(sorted({value for value in values if value is not None} - set(column.unknown)))
            for column, values in zip(self.table.categorical, applications.categorical, strict=True)
        }
        matrix, _ = self._computed(applications, self._history_of(applications, history))
        fields = matrix[:, : len(self.table.columns)]
        self.absence_ = Absence.fit(fields, self._categorical_positions.tolist())
        lesson = self._without(matrix, np.zeros(fields.shape, dtype=bool) if hidden is None else hidden)
        self._complete(matrix)
        expected: Matrix | None = None
        expected_in_lesson: Matrix | None = None
        if self._expected:
            codes = [position for position, name in enumerate(explaining_features()) if feature_pool()[name].unit == "code"]
            given, wanted = lesson.take(self._explaining, axis=1), matrix.take(self._positions(EXTERNAL), axis=1)
            self.expectation_ = Expectation.fit(given, wanted, codes)
            expected, expected_in_lesson = cross_fitted(given, wanted, codes, (matrix.take(self._explaining, axis=1), given))
        return Learned(self._finished(matrix, expected), self._finished(lesson, expected_in_lesson))

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        """The columns of the matrix, in order."""
        return tuple(feature_pool()[name] for name in self.names)

    def describe(self) -> list[dict[str, Any]]:
        """Name, unit and source of each feature in order; of a category also its values, the first of which has code 0."""
        return [
            {**feature._asdict(), **({"categories": list(self.categories_[feature.name])} if feature.unit == "code" else {})}
            for feature in self.features
        ]

    @cached_property
    def categorical_positions(self) -> tuple[int, ...]:
        """The positions of the category columns in the matrix."""
        return tuple(position for position, feature in enumerate(self.features) if feature.unit == "code")

    @cached_property
    def history_positions(self) -> tuple[int, ...]:
        """The positions of what needs the history in the matrix."""
        return tuple(position for position, name in enumerate(self.names) if name in history_features())

    def transform(self, applications: Applications, history: History | None = None) -> Transformed:
        """Compute the feature matrix; without a history that of no applicant is known.

        Raises
        ------
        FeatureError
            The history is that of another number of clients.
        """
        matrix, unseen = self._computed(applications, self._history_of(applications, history))
        odd = self._complete(matrix)
        expected = self.expectation_.expect(matrix.take(self._explaining, axis=1)) if self.expectation_ else None
        return Transformed(self._finished(matrix, expected), unseen, odd)

    def to_json(self) -> str:
        """The learned state, versioned."""
        state: dict[str, Any] = {
            "format": STATE_FORMAT,
            "features": [[feature.name, feature.source] for feature in self.features],
            "categories": self.categories_,
        }
        if self.absence_:
            state["absence"] = {"fields": [column.name for column in self.table.columns], **self.absence_.to_dict()}
        if self.expectation_:
            given = [[name, feature_pool()[name].source] for name in explaining_features()]
            state["expectation"] = {"given": given, **self.expectation_.to_dict()}
        return json.dumps(state, indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Restore a fitted transform; one of format 3 knows nothing of absent fields, one of format 2 expects nothing, one of format 1 has no history features and names no sources.

        Raises
        ------
        FeatureError
            The state is of another format, or was learned with features that this code computes otherwise or not at all.
        """
        try:
            state = json.loads(text)
            version, features, categories = state["format"], state["features"], state["categories"]
            expectation, absence = state.get("expectation"), state.get("absence")
        except (ValueError, KeyError, TypeError) as error:
            raise FeatureError(f"the feature state is not readable: {error!r}") from None
        if version not in range(1, STATE_FORMAT + 1):
            raise FeatureError(f"the feature state has format {version!r}; expected 1 to {STATE_FORMAT}")
        pool = feature_pool()
        sources = dict.fromkeys(features) if version == 1 else dict(features)
        given = dict(expectation.pop("given")) if expectation else {}
        differing = [
            name for name, source in [*sources.items(), *given.items()] if name not in pool or source not in (None, pool[name].source)
        ]
        if differing:
            raise FeatureError(f"the feature state was learned with other features than these: {differing}; train again")
        transform = cls(tuple(sources))
        if tuple(given) != (explaining_features() if transform._expected else ()):
            raise FeatureError("the feature state does not say what the external scores are expected by, as this release asks; train again")
        if absence and absence["fields"] != [column.name for column in transform.table.columns]:
            raise FeatureError("the feature state was learned with other fields than those of the schema; train again")
        transform.absence_ = Absence.from_dict(absence) if absence else None
        transform.categories_ = {name: tuple(values) for name, values in categories.items()}
        transform.expectation_ = Expectation(**expectation) if expectation else None
        return transform

    def _history_of(self, applications: Applications, history: History | None) -> History:
        rows = len(applications)
        history = History(rows, {}, {}) if history is None else history
        if history.clients != rows:
            raise FeatureError(f"the history of {history.clients} clients does not go with {rows} applications")
        return history

    def _finished(self, matrix: Matrix, expected: Matrix | None) -> Matrix:
        """The features, after what is expected and the differences have been put into their places."""
        start = matrix.shape[1] - len(self._differences)
        if expected is not None:
            matrix[:, start - len(self._expected) : start] = expected
        ones, others = self._minuends_and_subtrahends
        with np.errstate(all="ignore"):
            matrix[:, start:] = matrix.take(ones, axis=1) - matrix.take(others, axis=1)
        chosen: Matrix = matrix.take(self._chosen_positions, axis=1)
        return chosen

    def _computed(self, applications: Applications, history: History) -> tuple[Matrix, list[Unseen]]:
        """The raw columns and the aggregates, with the other places left empty; and the unseen categories."""
        matrix = np.empty((len(applications), len(self._place)))
        matrix[:, self._numeric_positions] = applications.numeric
        for position, value in self._unknown_numbers:
            column = matrix[:, position]
            column[column == value] = np.nan
        unseen = self._encode(applications, matrix)
        start = len(self.table.columns) + len(SIMPLE)
        matrix[:, start : start + len(self._aggregator.aggregates)] = self._aggregator.compute(history)
        return matrix, unseen

    def _complete(self, matrix: Matrix) -> Odd | None:
        """Settle the raw columns, where this transform can, and compute what follows from them."""
        odd = self.absence_.settle(matrix[:, : len(self.table.columns)]) if self.absence_ else None
        self._derive(matrix)
        return odd

    def _derive(self, matrix: Matrix) -> None:
        """Compute what follows from the raw columns and the aggregates in the matrix."""
        start = len(self.table.columns)
        with np.errstate(all="ignore"):
            for offset, (derived, positions) in enumerate(self._simple):
                matrix[:, start + offset] = derived.compute(matrix.take(positions, axis=1))
            start += len(SIMPLE) + len(self._aggregator.aggregates)
            above, below = self._numerators_and_denominators
            denominators = matrix.take(below, axis=1)
            denominators[denominators == 0] = np.nan
            matrix[:, start : start + len(above)] = matrix.take(above, axis=1) / denominators

    def _without(self, matrix: Matrix, hidden: Mask) -> Matrix:
        """A copy of what `_computed` gives, where these values are not known and no other stands in for them; with what follows."""
        lesson = matrix.copy()
        lesson[:, : len(self.table.columns)][hidden] = np.nan
        self._derive(lesson)
        return lesson

    def _encode(self, applications: Applications, matrix: Matrix) -> list[Unseen]:
        codes, given = self._codes, applications.categorical
        encoded = [known.get(value, UNSEEN) for known, values in zip(codes, given, strict=True) for value in values]
        table = np.array(encoded).reshape(len(codes), len(matrix))
        matrix[:, self._categorical_positions] = table.T
        if UNSEEN not in encoded:
            return []
        return [Unseen(row, self.table.categorical[at].name, str(given[at][row])) for at, row in np.argwhere(table == UNSEEN).tolist()]

    @cached_property
    def _codes(self) -> list[dict[str | None, float]]:
        """The code of each value of each category column of the table."""
        codes: list[dict[str | None, float]] = []
        for column in self.table.categorical:
            codes.append({value: float(code) for code, value in enumerate(self.categories_[column.name])})
            codes[-1].update(dict.fromkeys((None, *column.unknown), np.nan))
        return codes

    @cached_property
    def _place(self) -> dict[str, int]:
        """Where everything that is computed stands before the features are taken from it."""
        raw, simple = (column.name for column in self.table.columns), (derived.name for derived in SIMPLE)
        aggregates = (aggregate.name for aggregate in self._aggregator.aggregates)
        names = (*raw, *simple, *aggregates, *self._ratios, *self._expected, *self._differences)
        return {name: place for place, name in enumerate(names)}

    @cached_property
    def _chosen_positions(self) -> Positions:
        return self._positions(self.names)

    @cached_property
    def _numeric_positions(self) -> Positions:
        return self._positions(column.name for column in self.table.numeric)

    @cached_property
    def _categorical_positions(self) -> Positions:
        return self._positions(column.name for column in self.table.categorical)

    @cached_property
    def _unknown_numbers(self) -> list[tuple[int, Any]]:
        return [(self._place[column.name], value) for column in self.table.numeric for value in column.unknown]

    @cached_property
    def _simple(self) -> list[tuple[Derived, Positions]]:
        return [(derived, self._positions(derived.columns)) for derived in SIMPLE]

    @cached_property
    def _explaining(self) -> Positions:
        return self._positions(explaining_features())

    @cached_property
    def _numerators_and_denominators(self) -> tuple[Positions, Positions]:
        return self._operands(self._ratios)

    @cached_property
    def _minuends_and_subtrahends(self) -> tuple[Positions, Positions]:
        return self._operands(self._differences)

    def _operands(self, pairs: dict[str, tuple[str, str]]) -> tuple[Positions, Positions]:
        return self._positions(pair[0] for pair in pairs.values()), self._positions(pair[1] for pair in pairs.values())

    def _positions(self, names: Iterable[str]) -> Positions:
        return np.array([self._place[name] for name in names], dtype=np.intp)


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
