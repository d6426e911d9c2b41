"""The contribution of each feature to the log-odds of a PD: exact SHAP values, looked up in a table.

A tree with `w` splits has at most 2^w patterns of decisions. Training computes the SHAP values of every pattern of every tree
(training.explaining.table), so serving only takes the decisions of a row, looks up one line per tree and adds the lines.
"""

import io
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from features.history import Matrix

Values = NDArray[np.float64]
Whole = NDArray[np.int32]
ROWS_AT_ONCE = 16  # so that the decisions of the rows stay in the processor's cache


@dataclass(frozen=True, eq=False)
class ContributionTable:
    """SHAP values by tree and pattern of decisions.

    A split sends a row to the left if its value is at most the threshold. Each row is written three times in a line: with NaN as the lowest
    value, as the highest, and as zero. `source` points into the copy where this comparison also decides about a missing value.

    Attributes
    ----------
    base : shape (1,), the log-odds without any contribution.
    source : shape (splits, trees), the column among the three copies. Trees are padded to the same number of splits.
    threshold : shape (splits, trees), NaN for a category split and for padding, whose decision is 0.
    category_place : shape (category splits,), the place of each in the flattened `source`.
    category_feature, category_start, category_size : for each, its feature, and the part of `category_left` that is its own.
    category_left : whether a category goes left, for all category splits one after another. The last value of each part is False, for
        categories beyond it and missing ones.
    tree, feature, start : shape (columns,), for each column of each tree the number of the tree, the feature, and the place of its first value.
    width : shape (trees,), the number of columns of each tree.
    values : log-odds; those of a tree stand together, a line for each pattern.
    """

    base: Values
    source: Whole
    threshold: Values
    category_place: Whole
    category_feature: Whole
    category_start: Whole
    category_size: Whole
    category_left: NDArray[np.bool_]
    tree: Whole
    feature: Whole
    start: Whole
    width: Whole
    values: Values

    def contributions(self, matrix: Matrix) -> Matrix:
        """The contribution of each feature in log-odds, shape (rows, features), of a matrix of the same shape, NaN where not known.

        `base` plus the contributions of a row is the log-odds of its PD. A row has the same bits alone and in any batch.
        """
        if not len(matrix):
            return np.empty(matrix.shape)
        parts = [self._some(matrix[first : first + ROWS_AT_ONCE]) for first in range(0, len(matrix), ROWS_AT_ONCE)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def points(self, matrix: Matrix) -> tuple[Matrix, Values]:
        """The contributions, and `base` for each row, shape (rows,)."""
        return self.contributions(matrix), np.repeat(self.base, len(matrix))

    def _some(self, matrix: Matrix) -> Matrix:
        rows, features = matrix.shape
        line = self._line(matrix)
        place = self.start + line.take(self.tree, axis=1) * self._columns_of_tree
        target = self.feature + np.arange(rows, dtype=np.int32)[:, None] * features
        sums = np.bincount(target.ravel(), self.values.take(place.ravel()), rows * features)
        return np.asarray(sums, dtype=np.float64).reshape(rows, features)

    def _line(self, matrix: Matrix) -> Whole:
        """The pattern of the decisions of each row in each tree, shape (rows, trees): bit j is set if split j sends the row left."""
        missing = np.isnan(matrix)
        threefold = np.concatenate([np.where(missing, filled, matrix) for filled in (-np.inf, np.inf, 0.0)], axis=1)
        left = threefold.take(self.source.ravel(), axis=1) <= self.threshold.ravel()
        if len(self.category_place):
            code = matrix.take(self.category_feature, axis=1)
            known = (code >= 0) & (code < self.category_size)
            inside = np.where(known, code, self.category_size).astype(np.int32)
            left[:, self.category_place] = self.category_left.take(self.category_start + inside)
        splits, trees = self.source.shape
        bits = left.reshape(len(matrix), splits, trees)
        line = bits[:, 0].astype(np.int32)
        for split in range(1, splits):
            line += bits[:, split].astype(np.int32) << split
        return line

    @cached_property
    def _columns_of_tree(self) -> Whole:
        return self.width.take(self.tree)

    def to_bytes(self) -> bytes:
        """The table as an `.npz` file without pickle."""
        file = io.BytesIO()
        np.savez(file, **self._arrays())
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a stored table.

        Raises
        ------
        ValueError
            The file is not such a table.
        """
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            if set(file) != {field.name for field in fields(cls)}:
                raise ValueError(f"the table of contributions holds {sorted(file)}; expected {sorted(field.name for field in fields(cls))}")
            return cls(**{name: file[name] for name in file})

    def _arrays(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}
