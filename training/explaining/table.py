"""Makes the table of exact SHAP values of a model's trees.

The value of a set of features is a mean score over a background of other applicants: each lends the applicant the features outside the set
(interventional SHAP; Lundberg et al. 2020). Such a hybrid reaches a leaf if the applicant meets the leaf's conditions on the features of
the set, and the other one meets the rest. So the table needs only the share of the background that meets each subset of a leaf's
conditions. It keeps no row of the background.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import cache
from math import factorial
from typing import Any

import numpy as np

from features.history import Mask, Matrix
from serving.calibration import Calibration
from serving.reasons.contributions import ContributionTable, Values
from training.explaining.trees import Leaf, Tree

MOST_SPLITS = 12  # of a tree; each further split doubles its part of the table

Shares = Callable[[Tree, Leaf, Sequence[int]], Values]


class TooLargeError(Exception):
    """A tree has more splits than a table is made for."""


def contribution_table(trees: Sequence[Tree], features: int, calibration: Calibration, shares: Shares) -> ContributionTable:
    """The table of a model's contributions to the log-odds of its calibrated PDs.

    Parameters
    ----------
    features : number of features of the model.
    shares : of a tree, one of its leaves and the features of the leaf's conditions, the share of the background that meets the conditions
        on each subset of these features, shape (2^features,); bit j of the index stands for feature j.

    Raises
    ------
    TooLargeError
        A tree has more than MOST_SPLITS splits.
    """
    splits = max((len(tree.splits) for tree in trees), default=0)
    if splits > MOST_SPLITS:
        raise TooLargeError(f"a tree has {splits} splits; a table of contributions takes at most {MOST_SPLITS}")
    base, values = calibration.intercept, []
    for tree in trees:
        mean, lines = _lines(tree, shares)
        base += calibration.slope * mean
        values.append(calibration.slope * lines)
    width = np.array([len(tree.features) for tree in trees], dtype=np.int32)
    first = np.cumsum([0, *(lines.size for lines in values[:-1])])
    columns = [
        (number, feature, first[number] + column) for number, tree in enumerate(trees) for column, feature in enumerate(tree.features)
    ]
    number, feature, start = np.array(columns, dtype=np.int32).reshape(-1, 3).T
    return ContributionTable(
        base=np.array([base]),
        tree=number.copy(),
        feature=feature.copy(),
        start=start.copy(),
        width=width,
        values=np.concatenate([np.empty(0), *(lines.ravel() for lines in values)]),
        **_decisions(trees, features),
    )


def background_shares(background: Matrix) -> Shares:
    """The shares of the rows of a background, shape (rows, features)."""
    kept: dict[int, Mask] = {}

    def shares(tree: Tree, leaf: Leaf, features: Sequence[int]) -> Values:
        if id(tree) not in kept:
            kept.clear()
            kept[id(tree)] = tree.left(background)
        left = kept[id(tree)]
        met = [
            np.all([left[:, split] == side for split, side in leaf.path if tree.splits[split].feature == one], axis=0) for one in features
        ]
        pattern = sum((np.where(one, 1 << place, 0) for place, one in enumerate(met)), np.zeros(len(background), dtype=np.intp))
        counts = np.bincount(pattern, minlength=1 << len(features))
        return np.asarray(_contains(len(counts)).T.dot(counts) / len(background))

    return shares


def _lines(tree: Tree, shares: Shares) -> tuple[float, Values]:
    """The mean score of the background, and the SHAP values of each pattern, shape (2^splits, features of the tree)."""
    patterns = np.arange(1 << len(tree.splits))
    left = [patterns >> split & 1 == 1 for split in range(len(tree.splits))]
    mean, lines = 0.0, np.zeros((len(patterns), len(tree.features)))
    for leaf in tree.leaves:
        features = sorted({tree.splits[split].feature for split, _ in leaf.path})
        share = shares(tree, leaf, features)
        mean += leaf.value * float(share[-1])
        met = np.zeros(len(patterns), dtype=np.intp)
        for place, feature in enumerate(features):
            own = [left[split] == side for split, side in leaf.path if tree.splits[split].feature == feature]
            met |= np.logical_and.reduce(own).astype(np.intp) << place
        lines[:, [tree.features.index(feature) for feature in features]] += leaf.value * _shapley(share)[met]
    return mean, lines


def _shapley(share: Values) -> Values:
    """The Shapley values of reaching a leaf, shape (2^features, features), by which of its conditions the applicant meets.

    Parameters
    ----------
    share : shape (2^features,), the share of the background that meets the conditions on each subset of the features.
    """
    subset = np.arange(len(share))
    reached = np.where(
        _contains(len(share)), share[len(share) - 1 - subset], 0.0
    )  # indexed by the conditions that the applicant meets, and by the set
    found: Values = (reached[:, :, None] * _weights(len(share).bit_length() - 1)).sum(axis=1)
    return found


@cache
def _contains(size: int) -> Mask:
    """Whether each subset (row) contains each other (column), shape (size, size)."""
    subset = np.arange(size)
    return np.asarray(subset[:, None] & subset == subset)


@cache
def _weights(players: int) -> Values:
    """The weight of the value of each set in the Shapley value of each player, shape (2^players, players)."""
    weights = np.zeros((1 << players, players))
    for player, chosen in itertools.product(range(players), range(1 << players)):
        if not chosen >> player & 1:
            size = chosen.bit_count()
            weight = factorial(size) * factorial(players - size - 1) / factorial(players)
            weights[chosen, player] -= weight
            weights[chosen | 1 << player, player] += weight
    return weights


def _decisions(trees: Sequence[Tree], features: int) -> dict[str, Any]:
    """The arrays of the table that hold the decisions of the splits."""
    splits = max((len(tree.splits) for tree in trees), default=0) or 1
    source = np.zeros((splits, len(trees)), dtype=np.int32)
    threshold = np.full(source.shape, np.nan)
    category: list[tuple[int, int, int, int]] = []
    left: list[bool] = []
    for number, tree in enumerate(trees):
        for place, split in enumerate(tree.splits):
            if split.categories is not None:
                category.append((place * len(trees) + number, split.feature, len(left), len(split.categories)))
                left += [*split.categories.tolist(), False]
            else:
                copy = 2 if split.missing_left is None else 0 if split.missing_left else 1
                source[place, number], threshold[place, number] = copy * features + split.feature, split.threshold
    parts = np.array(category, dtype=np.int32).reshape(-1, 4).T
    names = ("category_place", "category_feature", "category_start", "category_size")
    return {
        "source": source,
        "threshold": threshold,
        **{name: part.copy() for name, part in zip(names, parts, strict=True)},
        "category_left": np.array(left, dtype=bool),
    }
