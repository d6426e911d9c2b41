"""The working matrix: everything that is computed, before the features are taken from it."""

from collections.abc import Iterable, Sequence
from itertools import accumulate, chain

import numpy as np

from features.aggregates import AGGREGATES
from features.application import DIFFERENCES, EXPECTED, RATIOS, SIMPLE
from features.applications import Applications
from features.expressions import EXPRESSIONS, WINDOWS
from features.history import Aggregator, History, Matrix, Positions
from features.pool import explaining_features
from features.schema import Table


class Columns:
    """Computes the columns that some features need, each row by itself with the same bits alone and in any batch.

    The order is: raw columns, simple features, aggregates, ratios, expected scores, differences.

    Parameters
    ----------
    names : the features.
    table, history : schemas of the application and of the history tables.

    Attributes
    ----------
    size : the number of columns.
    expected : the names of the expected scores; empty where no feature needs them.
    categorical, explaining : positions of the category columns, and of the features that explain the expected scores.
    """

    def __init__(self, names: Sequence[str], table: Table, history: Sequence[Table]) -> None:
        differences = {name: pair for name, pair in DIFFERENCES.items() if name in names}
        needed = {*names, *chain.from_iterable(differences.values())}
        self.expected = tuple(EXPECTED) if needed & set(EXPECTED) else ()
        needed.update(explaining_features(table) if self.expected else ())
        ratios = {name: pair for name, pair in RATIOS.items() if name in needed}
        needed.update(chain.from_iterable(ratios.values()))
        aggregates = [aggregate for aggregate in AGGREGATES if aggregate.name in needed]
        self._aggregator = Aggregator(aggregates, history, EXPRESSIONS, WINDOWS)
        raw, simple = (column.name for column in table.columns), (derived.name for derived in SIMPLE)
        columns = (*raw, *simple, *(aggregate.name for aggregate in aggregates), *ratios, *self.expected, *differences)
        self._position = {name: position for position, name in enumerate(columns)}
        self.size = len(columns)
        self._simple = len(table.columns)
        self._aggregates = self._simple + len(SIMPLE)
        self._ratios = self._aggregates + len(aggregates)
        self._differences = self.size - len(differences)
        self._chosen = self.positions(names)
        self._numeric = self.positions(column.name for column in table.numeric)
        self.categorical = self.positions(column.name for column in table.categorical)
        self.explaining = self.positions(explaining_features(table)) if self.expected else np.empty(0, dtype=np.intp)
        self._unknown = [(self._position[column.name], value) for column in table.numeric for value in column.unknown]
        # the operands of all simple features side by side: one call of numpy costs a lone row more than the copying
        self._operands = self.positions(chain.from_iterable(derived.columns for derived in SIMPLE))
        ends = list(accumulate(len(derived.columns) for derived in SIMPLE))
        self._parts = [(derived, slice(end - len(derived.columns), end)) for derived, end in zip(SIMPLE, ends, strict=True)]
        self._above, self._below = (self.positions(pair[side] for pair in ratios.values()) for side in (0, 1))
        self._minuends, self._subtrahends = (self.positions(pair[side] for pair in differences.values()) for side in (0, 1))

    def positions(self, names: Iterable[str]) -> Positions:
        """The positions of some columns."""
        return np.array([self._position[name] for name in names], dtype=np.intp)

    def fill(self, applications: Applications, codes: Matrix, history: History) -> Matrix:
        """A new matrix, shape (rows, size), with raw columns and aggregates; the rest is undefined.

        Parameters
        ----------
        codes : of the categories, shape (rows, category columns).
        """
        matrix = np.empty((len(applications), self.size))
        matrix[:, self._numeric] = applications.numeric
        for position, value in self._unknown:
            column = matrix[:, position]
            column[column == value] = np.nan
        matrix[:, self.categorical] = codes
        matrix[:, self._aggregates : self._ratios] = self._aggregator.compute(history)
        return matrix

    def derive(self, matrix: Matrix) -> None:
        """Compute simple features and ratios from the raw columns and aggregates, in place."""
        operands = matrix.take(self._operands, axis=1)
        with np.errstate(all="ignore"):
            for offset, (derived, part) in enumerate(self._parts, self._simple):
                matrix[:, offset] = derived.compute(operands[:, part])
            denominators = matrix.take(self._below, axis=1)
            denominators[denominators == 0] = np.nan
            matrix[:, self._ratios : self._ratios + len(self._above)] = matrix.take(self._above, axis=1) / denominators

    def finish(self, matrix: Matrix, expected: Matrix | None) -> Matrix:
        """Put in the expected scores, compute the differences, and take the features, shape (rows, features)."""
        start = self._differences
        if expected is not None:
            matrix[:, start - len(self.expected) : start] = expected
        with np.errstate(all="ignore"):
            matrix[:, start:] = matrix.take(self._minuends, axis=1) - matrix.take(self._subtrahends, axis=1)
        chosen: Matrix = matrix.take(self._chosen, axis=1)
        return chosen
