"""The trees of a LightGBM model, read from its text."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from features.history import Mask, Matrix

CATEGORY, DEFAULT_LEFT = 1, 2  # bits of a decision type; LightGBM, include/LightGBM/tree.h
MISSING = ("none", "zero", "nan")  # what the two bits above them mean


class UnreadableTreeError(Exception):
    """A tree has splits that this module does not know."""


@dataclass(frozen=True, eq=False)
class Split:
    """A decision of a tree: which rows go left.

    Attributes
    ----------
    threshold : rows with at most this value go left; NaN for a category.
    missing_left : whether a missing value goes left; None if it counts as zero.
    categories : shape (categories,), which ones go left; None for a number. Others and missing ones go right.
    """

    feature: int
    threshold: float
    missing_left: bool | None
    categories: Mask | None = None

    def left(self, matrix: Matrix) -> Mask:
        """Which rows go left, shape (rows,), of a matrix, shape (rows, features)."""
        values = matrix[:, self.feature]
        if self.categories is not None:
            known = (values >= 0) & (values < len(self.categories))
            return known & self.categories[np.where(known, values, 0).astype(np.intp)]
        filled = 0.0 if self.missing_left is None else -np.inf if self.missing_left else np.inf
        return np.where(np.isnan(values), filled, values) <= self.threshold


class Leaf(NamedTuple):
    """A leaf: its value, and the splits on the way to it, each with the side taken."""

    value: float
    path: tuple[tuple[int, bool], ...]


@dataclass(frozen=True, eq=False)
class Tree:
    """The splits of a tree, and its leaves, both in LightGBM's order."""

    splits: list[Split]
    leaves: list[Leaf]

    @cached_property
    def features(self) -> list[int]:
        """The features of the splits, sorted."""
        return sorted({split.feature for split in self.splits})

    def left(self, matrix: Matrix) -> Mask:
        """Which rows each split sends left, wherever it stands in the tree, shape (rows, splits)."""
        return np.stack([split.left(matrix) for split in self.splits], axis=1) if self.splits else np.empty((len(matrix), 0), dtype=bool)


def read_trees(model: str) -> list[Tree]:
    """The trees of a model's text.

    Raises
    ------
    UnreadableTreeError
        A tree treats zero as missing, or is linear.
    """
    parts = model.split("\nend of trees", 1)[0].split("\nTree=")[1:]
    return [_read_tree(dict(line.split("=", 1) for line in part.splitlines()[1:] if "=" in line)) for part in parts]


def _read_tree(lines: dict[str, str]) -> Tree:
    if lines.get("is_linear", "0") != "0":
        raise UnreadableTreeError("a tree is linear")
    values = [float(value) for value in lines["leaf_value"].split()]
    numbers = {
        name: [int(number) for number in lines.get(name, "").split()]
        for name in ("split_feature", "decision_type", "left_child", "right_child")
    }
    if len(values) == 1:
        return Tree([], [Leaf(values[0], ())])
    thresholds = [float(value) for value in lines["threshold"].split()]
    bounds, words = ([int(value) for value in lines.get(name, "").split()] for name in ("cat_boundaries", "cat_threshold"))
    splits = []
    for feature, threshold, decision in zip(numbers["split_feature"], thresholds, numbers["decision_type"], strict=True):
        if decision & CATEGORY:
            set_of = words[bounds[int(threshold)] : bounds[int(threshold) + 1]]
            left = np.array([word >> bit & 1 for word in set_of for bit in range(32)], dtype=bool)
            splits.append(Split(feature, np.nan, False, left))
            continue
        missing = MISSING[decision >> 2 & 3]
        if missing == "zero":
            raise UnreadableTreeError("a tree treats zero as missing")
        most = np.finfo(np.float64).max  # an infinite threshold would send NaN left, whichever infinity stands for it
        splits.append(Split(feature, float(np.clip(threshold, -most, most)), bool(decision & DEFAULT_LEFT) if missing == "nan" else None))
    leaves: list[Leaf | None] = [None] * len(values)
    waiting: list[tuple[int, tuple[tuple[int, bool], ...]]] = [(0, ())]
    while waiting:
        node, path = waiting.pop()
        if node < 0:
            leaves[~node] = Leaf(values[~node], path)
            continue
        waiting += [(numbers["left_child"][node], (*path, (node, True))), (numbers["right_child"][node], (*path, (node, False)))]
    return Tree(splits, [leaf for leaf in leaves if leaf])
