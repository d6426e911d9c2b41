"""Chooses the features of new models from the pool by their gain out of fold, without near-duplicates."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import lightgbm
import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.model_selection import StratifiedKFold

from configs.settings import Settings
from features.aggregates import AGGREGATES
from features.application import DOMAIN
from features.history import Matrix
from features.pool import chosen_features, feature_pool, history_features
from training.aliases import Say, Values
from training.data.errors import DataError
from training.data.sufficiency import check_enough, check_history
from training.prepare import Prepared, prepare

SEATS = 189  # features of a model
APPLICATION_SEATS = 100  # with the best 80, 100, 120 and all 150 the real applications gave ROC-AUC 0.7643, 0.7643, 0.7637 and 0.7645
KEPT = (*DOMAIN, "AMT_INCOME_TOTAL", "AMT_CREDIT", "AMT_ANNUITY")  # a lender asks first for the drift of income and loan
ALIKE = 0.99  # rank correlation at which one of two features is dropped
SAMPLE = 8_000  # rows on which features are compared with each other
FOLDS = 5
HEADER = """# The features of new models, in order; `credit-scoring select-features` writes this list. Unit and source follow from
# features/application.py and features/aggregates.py; a test fails where they disagree.
"""


class Gain(NamedTuple):
    """The gain of a feature: the rise of the out-of-fold log loss when its values are shuffled, in millionths, and its standard error."""

    mean: float
    error: float


@dataclass(frozen=True)
class Trial:
    """How gain is measured: the number of trees, the parameters of the boosting, and a seed for each split into folds."""

    trees: int
    parameters: dict[str, Any]
    seeds: range


APPLICATION_TRIAL = Trial(
    250,
    {"learning_rate": 0.09, "max_depth": 4, "num_leaves": 10, "feature_fraction": 0.15, "min_data_in_leaf": 300, "lambda_l2": 50},
    range(2),
)
HISTORY_TRIAL = Trial(
    80,
    {"learning_rate": 0.05, "max_depth": 3, "num_leaves": 6, "feature_fraction": 0.15, "min_data_in_leaf": 100, "lambda_l2": 50},
    range(10),
)


@dataclass(frozen=True)
class Selection:
    """The chosen names in the order of the pool, the gain of each judged feature, and a Markdown table of both."""

    names: tuple[str, ...]
    gains: dict[str, Gain]
    table: str


def select(folder: Path, settings: Settings, say: Say) -> Selection:
    """Choose SEATS features from the pool.

    Features of the application are judged on all applicants. Features of the history are judged on the applicants with history, by
    what they add to the out-of-fold margin of the application alone. Features that are constant in the folder cannot be judged and keep
    their seats.

    Raises
    ------
    DataError
        The tables cannot be used, hold too little to learn from, or too few features of the pool differ between applicants.
    """
    prepared = prepare(folder, settings, say, tuple(feature_pool()))
    names = prepared.features.names
    of_history = history_features()
    positions = {name: position for position, name in enumerate(names)}
    everyone = np.arange(len(prepared.defaulted))
    known = np.flatnonzero(prepared.with_history)
    check_enough(prepared.defaulted, settings.training)
    check_history(prepared.defaulted[known], FOLDS)
    rate = float(prepared.defaulted.mean())
    prior = np.full(len(everyone), np.log(rate / (1 - rate)))

    say(f"judging the application's features on {len(everyone):,} applicants")
    application = [name for name in names if name not in of_history]
    judged, margin = gains(prepared, application, everyone, prior, APPLICATION_TRIAL)
    order = [*KEPT, *(name for name in _ranked(judged) if name not in KEPT)]
    first = _different(prepared, order, everyone)[:APPLICATION_SEATS]

    say(f"judging the history's features on {len(known):,} applicants")
    history = [name for name in names if name in of_history]
    constant = [name for name in history if _constant(prepared.matrix[known, positions[name]])]
    varied = [name for name in history if name not in constant]
    added, _ = gains(prepared, varied, known, margin, HISTORY_TRIAL) if varied else ({}, margin)
    varied = _different(prepared, _ranked(added), known)
    kept = [name for name in constant if name in chosen_features()]
    second = [*kept, *varied][: SEATS - len(first)]
    if len(first) + len(second) < SEATS:
        raise DataError(f"{folder}: only {len(first) + len(second)} features of the pool differ between applicants; expected {SEATS}")
    chosen = {*first, *second}
    found = judged | added
    return Selection(tuple(name for name in names if name in chosen), found, _table(found, chosen, of_history))


def write(selection: Selection, path: Path) -> None:
    """Write the chosen features with their units and sources."""
    entries = [feature_pool()[name]._asdict() for name in selection.names]
    lines = "".join(f"  - {json.dumps(entry, ensure_ascii=False)}\n" for entry in entries)
    path.write_text(f"{HEADER}features:\n{lines}", encoding="utf-8")


def gains(prepared: Prepared, names: Sequence[str], rows: NDArray[np.intp], offset: Values, trial: Trial) -> tuple[dict[str, Gain], Values]:
    """Measure the gain of features on top of a margin.

    Parameters
    ----------
    rows : the applicants on whom they are judged.
    offset : shape (all applicants,), the margin in log-odds from which the models start.

    Returns
    -------
    The gain of each name, and the out-of-fold margins, shape (all applicants,), averaged over the splits; `offset` for other applicants.
    """
    positions = np.array([prepared.features.names.index(name) for name in names])
    matrix, defaulted, start = prepared.matrix[np.ix_(rows, positions)], prepared.defaulted[rows], offset[rows]
    categories = [column for column, position in enumerate(positions) if position in prepared.features.categorical_positions]
    fixed = {"objective": "binary", "deterministic": True, "force_col_wise": True, "verbosity": -1}
    rises: list[Values] = []
    total = np.zeros(len(rows))
    for seed in trial.seeds:
        random = np.random.default_rng(seed)
        for inside, outside in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(matrix, defaulted):
            data = lightgbm.Dataset(matrix[inside], defaulted[inside], init_score=start[inside], categorical_feature=categories)
            booster = lightgbm.train({**trial.parameters, **fixed, "seed": seed}, data, num_boost_round=trial.trees)
            block = matrix[outside]

            def loss(block: Matrix, outside: NDArray[np.intp] = outside, booster: lightgbm.Booster = booster) -> tuple[float, Values]:
                margin = start[outside] + np.asarray(booster.predict(block, raw_score=True))
                return float(np.mean(np.logaddexp(0, margin) - defaulted[outside] * margin)), margin

            base, margin = loss(block)
            total[outside] += margin
            rise = np.zeros(len(positions))
            for column in np.flatnonzero(booster.feature_importance("split")):
                kept = block[:, column].copy()
                block[:, column] = random.permutation(kept)
                rise[column] = (loss(block)[0] - base) * 1e6
                block[:, column] = kept
            rises.append(rise)
    margins = offset.copy()
    margins[rows] = total / len(trial.seeds)
    mean, error = np.mean(rises, axis=0), np.std(rises, axis=0) / np.sqrt(len(rises))
    return {name: Gain(float(mean[column]), float(error[column])) for column, name in enumerate(names)}, margins


def _ranked(found: dict[str, Gain]) -> list[str]:
    """The names in order of gain; those that no tree used come last."""
    return sorted(found, key=lambda name: (found[name] == Gain(0, 0), -found[name].mean))


def _different(prepared: Prepared, names: Sequence[str], rows: NDArray[np.intp]) -> list[str]:
    """The names in order, without constant features and near-duplicates of an earlier one."""
    sample = rows[:: max(1, len(rows) // SAMPLE)]
    kept: list[str] = []
    scores = np.empty((0, len(sample)))
    for name in names:
        values = prepared.matrix[sample, prepared.features.names.index(name)]
        if _constant(values):
            continue
        known = ~np.isnan(values)
        ranks = rankdata(values[known])
        score = known - known.mean() if _constant(values[known]) else np.zeros(len(values))
        score[known] += ranks - ranks.mean()
        score /= np.linalg.norm(score)
        if not len(scores) or np.abs(scores @ score).max() < ALIKE:
            kept.append(name)
            scores = np.vstack([scores, score])
    return kept


def _constant(values: Values) -> bool:
    return len(np.unique(values)) < 2


def _table(found: dict[str, Gain], chosen: set[str], of_history: frozenset[str]) -> str:
    """A Markdown table with a line for each source of features."""
    tables = {aggregate.name: aggregate.table for aggregate in AGGREGATES}
    groups: dict[str, list[str]] = {}
    for name in feature_pool():
        groups.setdefault(tables.get(name, "history and application" if name in of_history else "application"), []).append(name)
    lines = ["| source | pool | chosen | gain of the best, with its standard error |", "|---|---|---|---|"]
    for group, names in groups.items():
        best = sorted((name for name in names if name in found), key=lambda name: -found[name].mean)[:3]
        best_gains = ", ".join(f"{name} {found[name].mean:.0f} ± {found[name].error:.0f}" for name in best)
        lines.append(f"| {group} | {len(names)} | {len(chosen & set(names))} | {best_gains or 'not judged by these data'} |")
    return "\n".join(lines)
