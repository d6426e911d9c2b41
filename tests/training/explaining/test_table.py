import itertools
from collections.abc import Sequence
from functools import cache
from math import factorial
from typing import Any

import lightgbm
import numpy as np
import pytest

from features.history import Matrix
from serving.calibration import Calibration
from serving.reasons.contributions import ContributionTable, Values
from training.explaining.table import MOST_SPLITS, Shares, TooLargeError, background_shares, contribution_table
from training.explaining.trees import Leaf, Tree, UnreadableTreeError, read_trees

IDENTITY = Calibration(1, 0)
FEATURES = 5  # the first a category, the last always known


@cache
def small_model(**options: Any) -> tuple[lightgbm.Booster, Matrix]:
    """A model of few features, of which one is a category and four may be missing; and the rows that it learned from."""
    random = np.random.default_rng(3)
    matrix = random.normal(size=(1500, FEATURES)).round(1)
    matrix[:, 0] = random.integers(0, 40, len(matrix))
    matrix[:, :4][random.random((len(matrix), 4)) < 0.15] = np.nan
    effect = np.nan_to_num(matrix[:, 0] % 7 - 3) + np.nan_to_num(matrix[:, 1] * matrix[:, 2], nan=1.5) + matrix[:, 4]
    target = random.random(len(matrix)) < 1 / (1 + np.exp(-effect))
    settings = {
        "objective": "binary",
        "num_leaves": 10,
        "max_depth": 4,
        "verbosity": -1,
        "num_threads": 1,
        "seed": 1,
        "max_cat_to_onehot": 1,
    }
    data = lightgbm.Dataset(matrix, target, categorical_feature=[0], free_raw_data=False)
    return lightgbm.train(settings | options, data, num_boost_round=12), matrix


def odd_rows(rows: int) -> Matrix:
    """Rows with missing values, unseen categories, and values at, beyond and far beyond those of training."""
    random = np.random.default_rng(4)
    matrix = random.normal(scale=2, size=(rows, FEATURES)).round(1)
    matrix[:, 0] = random.choice([-1, 0, 3, 12, 31, 32, 39, 40, 64, 1e9], rows)
    matrix[random.random(matrix.shape) < 0.2] = np.nan
    matrix[random.random(matrix.shape) < 0.02] = -1e300
    return matrix


def brute_force(booster: lightgbm.Booster, row: Values, background: Matrix) -> Values:
    """SHAP values by their definition: the mean score of hybrids, for every set of features."""
    hybrids = []
    for chosen in itertools.product([False, True], repeat=FEATURES):
        hybrid = background.copy()
        hybrid[:, chosen] = row[list(chosen)]
        hybrids.append(hybrid)
    scores = booster.predict(np.concatenate(hybrids), raw_score=True).reshape(len(hybrids), -1).mean(axis=1)
    value = dict(zip(itertools.product([False, True], repeat=FEATURES), scores, strict=True))
    found = np.zeros(FEATURES)
    for chosen, player in itertools.product(value, range(FEATURES)):
        if not chosen[player]:
            size = sum(chosen)
            joined = (*chosen[:player], True, *chosen[player + 1 :])
            found[player] += factorial(size) * factorial(FEATURES - size - 1) / factorial(FEATURES) * (value[joined] - value[chosen])
    return found


def path_shares(booster: lightgbm.Booster) -> Shares:
    """The shares with which `pred_contrib` weighs the sides of a split: of the training rows there."""
    counts: dict[tuple[int, str, int], int] = {}

    def count(number: int, node: dict[str, Any]) -> None:
        if "split_index" in node:
            counts[number, "split", node["split_index"]] = node["internal_count"]
            count(number, node["left_child"])
            count(number, node["right_child"])
        else:
            counts[number, "leaf", node["leaf_index"]] = node["leaf_count"]

    for tree in booster.dump_model()["tree_info"]:
        count(tree["tree_index"], tree["tree_structure"])
    trees = read_trees(booster.model_to_string())
    number_of = {repr(tree.leaves): number for number, tree in enumerate(trees)}

    def shares(tree: Tree, leaf: Leaf, features: Sequence[int]) -> Values:
        number, nodes = number_of[repr(tree.leaves)], [split for split, _ in leaf.path]
        rows = [*(counts[number, "split", node] for node in nodes), counts[number, "leaf", tree.leaves.index(leaf)]]
        ratio = dict.fromkeys(features, 1.0)
        for node, before, after in zip(nodes, rows, rows[1:], strict=False):
            ratio[tree.splits[node].feature] *= after / before
        size = range(len(features))
        return np.array([np.prod([ratio[features[j]] for j in size if subset >> j & 1]) for subset in range(1 << len(features))])

    return shares


def table_of(booster: lightgbm.Booster, shares: Shares, calibration: Calibration = IDENTITY) -> ContributionTable:
    return contribution_table(read_trees(booster.model_to_string()), FEATURES, calibration, shares)


def test_a_model_read_from_its_text_decides_as_lightgbm_does() -> None:
    for options in ({}, {"use_missing": False}):
        booster, matrix = small_model(**options)
        rows = np.concatenate([odd_rows(400), matrix[:100]])
        trees = read_trees(booster.model_to_string())
        assert any(split.categories is not None for tree in trees for split in tree.splits)
        score = np.zeros(len(rows))
        for tree in trees:
            left = tree.left(rows)
            score += sum(leaf.value * np.all([left[:, split] == side for split, side in leaf.path], axis=0) for leaf in tree.leaves)
        assert np.abs(score - booster.predict(rows, raw_score=True)).max() < 1e-12


def test_contributions_are_those_of_the_definition() -> None:
    booster, matrix = small_model()
    background, rows = matrix[:40], np.concatenate([odd_rows(150), matrix[500:550]])
    found = table_of(booster, background_shares(background)).contributions(rows)
    assert np.abs(found - [brute_force(booster, row, background) for row in rows]).max() < 1e-12


def test_with_the_shares_of_the_paths_they_are_those_of_pred_contrib() -> None:
    booster, matrix = small_model()
    rows = np.concatenate([odd_rows(200), matrix])
    table, expected = table_of(booster, path_shares(booster)), booster.predict(rows, pred_contrib=True)
    assert np.abs(table.contributions(rows) - expected[:, :-1]).max() < 1e-12
    assert table.base[0] == pytest.approx(expected[0, -1], abs=1e-12)


def test_base_and_contributions_sum_to_the_log_odds_of_the_calibrated_pd() -> None:
    booster, matrix = small_model()
    calibration, rows = Calibration(1.3, -0.4), odd_rows(300)
    table = table_of(booster, background_shares(matrix[:100]), calibration)
    pd = calibration.apply(booster.predict(rows, raw_score=True))
    assert np.abs(table.base[0] + table.contributions(rows).sum(axis=1) - np.log(pd / (1 - pd))).max() < 1e-9
    margins = booster.predict(matrix[:100], raw_score=True)
    assert table.base[0] == pytest.approx(calibration.slope * margins.mean() + calibration.intercept, abs=1e-12)


def test_contributions_have_the_same_bits_alone_in_a_batch_and_after_they_were_stored() -> None:
    booster, matrix = small_model()
    table, rows = table_of(booster, background_shares(matrix)), odd_rows(50)
    whole = table.contributions(rows)
    again = ContributionTable.from_bytes(table.to_bytes())
    assert again.to_bytes() == table.to_bytes()
    for number in range(len(rows)):
        assert again.contributions(rows[number : number + 1]).tobytes() == whole[number].tobytes()
    assert table.contributions(rows[:0]).shape == (0, FEATURES)


def test_a_tree_without_splits_adds_to_the_base_only() -> None:
    booster, matrix = small_model(min_gain_to_split=1e9)
    table = table_of(booster, background_shares(matrix))
    assert not table.contributions(odd_rows(3)).any()
    assert table.base[0] == pytest.approx(booster.predict(matrix[:1], raw_score=True)[0])


def test_trees_that_a_table_cannot_hold_are_named() -> None:
    booster, matrix = small_model(num_leaves=MOST_SPLITS + 2, max_depth=-1)
    with pytest.raises(TooLargeError, match="13 splits; a table of contributions takes at most 12"):
        table_of(booster, background_shares(matrix))
    booster, _ = small_model(zero_as_missing=True)
    with pytest.raises(UnreadableTreeError, match="zero as missing"):
        read_trees(booster.model_to_string())


def test_a_stored_table_with_other_arrays_is_refused() -> None:
    booster, matrix = small_model()
    data = table_of(booster, background_shares(matrix)).to_bytes()
    with pytest.raises(ValueError, match="expected"):
        ContributionTable.from_bytes(data.replace(b"base.npy", b"bass.npy"))
