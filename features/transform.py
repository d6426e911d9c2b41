"""From raw applications and their history to the feature matrix: the one path of training and serving."""

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np

from features.absence import Absence, Odd
from features.application import EXTERNAL
from features.applications import Applications, FeatureError
from features.columns import Columns
from features.expectation import Expectation, cross_fitted
from features.history import UNSEEN, History, Mask, Matrix
from features.pool import Feature, chosen_features, explaining_features, feature_pool, fields_of, history_features
from features.schema import Schema, history_tables, load_schema

STATE_FORMAT = 4


class Unseen(NamedTuple):
    """A category value that the fitted transform does not know."""

    row: int
    column: str
    value: str


class Transformed(NamedTuple):
    """The result of `FeatureTransform.transform`.

    Attributes
    ----------
    matrix : shape (rows, features), float64, NaN where not known.
    unseen : categories that training did not see.
    odd : fields absent or present in a pattern that training never saw; None if there are none.
    """

    matrix: Matrix
    unseen: list[Unseen]
    odd: Odd | None


class Learned(NamedTuple):
    """Two matrices, shape (rows, features): of the applications as they are, and with the hidden values missing."""

    matrix: Matrix
    lesson: Matrix


class FeatureTransform:
    """Learns from applications, without their outcomes, and maps applications and their history to the feature matrix.

    A row has the same bits alone and in any batch: elementwise operations compute the application, and the rule of
    features/history.py the history. A category is its index in `categories_`, UNSEEN (-1) if it is not listed, NaN if missing.

    Parameters
    ----------
    names : the features to compute, of `feature_pool`; those of configs/features.yaml if None.
    schema : of the raw data; that of configs/schema.yaml if None.

    Attributes
    ----------
    schema : of the raw data.
    table : schema of the application.
    history : schemas of the history tables.
    categories_ : the known values of each category column, sorted.
    absence_ : the patterns of absent fields in training; None in a state of an earlier release.
    expectation_ : the model that predicts the external scores from the rest of the application; None where no feature needs it.
    """

    categories_: dict[str, tuple[str, ...]]
    absence_: Absence | None = None
    expectation_: Expectation | None = None

    def __init__(self, names: Sequence[str] | None = None, schema: Schema | None = None) -> None:
        self.schema = load_schema() if schema is None else schema
        self.table = self.schema["application"]
        self.history = history_tables(self.schema)
        self.names = tuple(names if names is not None else chosen_features())
        self._pool = feature_pool(self.table)
        unknown = [name for name in self.names if name not in self._pool]
        if unknown:
            raise FeatureError(f"no such features: {', '.join(unknown)}; expected names of columns or of features that can be computed")
        self._columns = Columns(self.names, self.table, self.history)

    def fit(self, applications: Applications) -> Self:
        """As `fit_transform`, without the matrix."""
        self.fit_transform(applications)
        return self

    def fit_transform(self, applications: Applications, history: History | None = None, hidden: Mask | None = None) -> Learned:
        """Learn from the applications and compute the matrices that a model learns from and is judged by.

        Both differ from the result of `transform` in the expected scores: those of a row are predicted by models that learned from other
        rows, as they will be for new applicants. (`TargetEncoder.fit_transform` of scikit-learn does the same.)

        Parameters
        ----------
        hidden : shape (rows, columns of the table), values to treat as missing in training, so that the model learns what a missing value means
            that a field is missing which is always known here. None hides nothing.

        Raises
        ------
        FeatureError
            There are no rows, or the history has another number of clients.
        """
        if not len(applications):
            raise FeatureError("no application to learn from; expected at least one row")
        self.categories_ = {
            column.name: tuple(sorted({value for value in values if value is not None} - set(column.unknown)))
            for column, values in zip(self.table.categorical, applications.categorical, strict=True)
        }
        matrix, _ = self._filled(applications, history)
        fields = matrix[:, : len(self.table.columns)]
        self.absence_ = Absence.fit(fields, self._columns.categorical.tolist())
        lesson = matrix.copy()  # in it, no typical value replaces a hidden one
        if hidden is not None:
            lesson[:, : len(self.table.columns)][hidden] = np.nan
        self._columns.derive(lesson)
        self._complete(matrix)
        expected: Matrix | None = None
        expected_in_lesson: Matrix | None = None
        if self._columns.expected:
            codes = [position for position, name in enumerate(explaining_features(self.table)) if self._pool[name].unit == "code"]
            given, wanted = lesson.take(self._columns.explaining, axis=1), matrix.take(self._columns.positions(EXTERNAL), axis=1)
            self.expectation_ = Expectation.fit(given, wanted, codes)
            expected, expected_in_lesson = cross_fitted(given, wanted, codes, (matrix.take(self._columns.explaining, axis=1), given))
        return Learned(self._columns.finish(matrix, expected), self._columns.finish(lesson, expected_in_lesson))

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        """The columns of the matrix, in order."""
        return tuple(self._pool[name] for name in self.names)

    def describe(self) -> list[dict[str, Any]]:
        """Name, unit and source of each feature in order, and for a category its values in order of their code, from 0."""
        return [
            {**feature._asdict(), **({"categories": list(self.categories_[feature.name])} if feature.unit == "code" else {})}
            for feature in self.features
        ]

    @cached_property
    def categorical_positions(self) -> tuple[int, ...]:
        """The positions of the category features."""
        return tuple(position for position, feature in enumerate(self.features) if feature.unit == "code")

    @cached_property
    def history_positions(self) -> tuple[int, ...]:
        """The positions of the features that need the history."""
        return tuple(position for position, name in enumerate(self.names) if name in history_features())

    def assumed(self, missed: Mask) -> Mask:
        """Which features, shape (rows, features), are or contain the typical value of an absent field.

        Parameters
        ----------
        missed : shape (rows, columns of the table), which fields are absent; see `Odd`.
        """
        return np.asarray(missed @ self._computed_from)

    def transform(self, applications: Applications, history: History | None = None) -> Transformed:
        """Compute the feature matrix. Without `history`, nobody's history is known.

        Raises
        ------
        FeatureError
            The history is that of another number of clients.
        """
        matrix, unseen = self._filled(applications, history)
        odd = self._complete(matrix)
        expected = self.expectation_.expect(matrix.take(self._columns.explaining, axis=1)) if self.expectation_ else None
        return Transformed(self._columns.finish(matrix, expected), unseen, odd)

    def to_json(self) -> str:
        """The learned state with its format version."""
        state: dict[str, Any] = {
            "format": STATE_FORMAT,
            "features": [[feature.name, feature.source] for feature in self.features],
            "categories": self.categories_,
        }
        if self.absence_:
            state["absence"] = {"fields": [column.name for column in self.table.columns], **self.absence_.to_dict()}
        if self.expectation_:
            given = [[name, self._pool[name].source] for name in explaining_features(self.table)]
            state["expectation"] = {"given": given, **self.expectation_.to_dict()}
        return json.dumps(state, indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, schema: Schema | None = None) -> Self:
        """Restore a fitted transform.

        Format 3 lacks `absence_`; format 2 also lacks `expectation_`; format 1 also lacks history features and the sources.

        Raises
        ------
        FeatureError
            The state has another format, or was learned with features that this release computes differently or not at all.
        """
        try:
            state = json.loads(text)
            version, features, categories = state["format"], state["features"], state["categories"]
            expectation, absence = state.get("expectation"), state.get("absence")
        except (ValueError, KeyError, TypeError) as error:
            raise FeatureError(f"the feature state is not readable: {error!r}") from None
        if version not in range(1, STATE_FORMAT + 1):
            raise FeatureError(f"the feature state has format {version!r}; expected 1 to {STATE_FORMAT}")
        pool = feature_pool((load_schema() if schema is None else schema)["application"])
        sources = dict.fromkeys(features) if version == 1 else dict(features)
        given = dict(expectation.pop("given")) if expectation else {}
        differing = [
            name for name, source in [*sources.items(), *given.items()] if name not in pool or source not in (None, pool[name].source)
        ]
        if differing:
            raise FeatureError(f"the feature state was learned with other features than these: {differing}; train again")
        transform = cls(tuple(sources), schema)
        if tuple(given) != (explaining_features(transform.table) if transform._columns.expected else ()):
            raise FeatureError("the feature state predicts the external scores from other features than this release; train again")
        if absence and absence["fields"] != [column.name for column in transform.table.columns]:
            raise FeatureError("the feature state was learned with other fields than the schema lists; train again")
        transform.absence_ = Absence.from_dict(absence) if absence else None
        transform.categories_ = {name: tuple(values) for name, values in categories.items()}
        transform.expectation_ = Expectation(**expectation) if expectation else None
        return transform

    def _filled(self, applications: Applications, history: History | None) -> tuple[Matrix, list[Unseen]]:
        """The working matrix with raw columns and aggregates; and the unseen categories."""
        rows, given = len(applications), applications.categorical
        history = History(rows, {}, {}) if history is None else history
        if history.clients != rows:
            raise FeatureError(f"the history of {history.clients} clients does not fit {rows} applications")
        encoded = [known.get(value, UNSEEN) for known, values in zip(self._codes, given, strict=True) for value in values]
        codes = np.array(encoded).reshape(len(given), rows)
        matrix = self._columns.fill(applications, codes.T, history)
        if UNSEEN not in encoded:
            return matrix, []
        found = np.argwhere(codes == UNSEEN).tolist()
        return matrix, [Unseen(row, self.table.categorical[column].name, str(given[column][row])) for column, row in found]

    def _complete(self, matrix: Matrix) -> Odd | None:
        """Give absent fields the nearest pattern of training, if it is known, and derive the rest of the working matrix."""
        odd = self.absence_.settle(matrix[:, : len(self.table.columns)]) if self.absence_ else None
        self._columns.derive(matrix)
        return odd

    @cached_property
    def _computed_from(self) -> Mask:
        """Whether a feature is computed from a field, shape (columns of the table, features)."""
        return np.array([[column.name in fields_of(name) for name in self.names] for column in self.table.columns])

    @cached_property
    def _codes(self) -> list[dict[str | None, float]]:
        """The code of each value of each category column of the table."""
        codes: list[dict[str | None, float]] = []
        for column in self.table.categorical:
            codes.append({value: float(code) for code, value in enumerate(self.categories_[column.name])})
            codes[-1].update(dict.fromkeys((None, *column.unknown), np.nan))
        return codes
