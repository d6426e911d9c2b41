"""Columns that give the outcome away: the target under another name, or facts known only after the decision."""

import json
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from features.history import Matrix
from features.schema import Table
from training.aliases import Labels, Values

MIN_OUTCOMES = 10  # defaults, and repaid loans; many columns separate fewer by chance
LIMIT = 0.95  # ROC-AUC of one column; the best of real applications has 0.66
PARTS = 5  # default rates of categories are judged on the part that they were not taken from
VARIABLE = "CREDIT_TRAINING__ALLOWED_COLUMNS"


def suspects(frame: pd.DataFrame, table: Table, defaulted: Labels) -> dict[str, float]:
    """The columns of a table whose ROC-AUC alone exceeds LIMIT, with that ROC-AUC; none if there are too few outcomes."""
    if _too_few(defaulted):
        return {}
    numbers = {column.name: number_auc(frame[column.name].to_numpy(dtype=float), defaulted) for column in table.numeric}
    texts = {column.name: category_auc(pd.factorize(frame[column.name])[0], defaulted) for column in table.categorical}
    return _above(numbers | texts)


def suspect_features(matrix: Matrix, names: Iterable[str], categorical: Iterable[int], defaulted: Labels) -> dict[str, float]:
    """The same for the features, which include the history."""
    if _too_few(defaulted):
        return {}
    codes = set(categorical)
    return _above(
        {
            name: category_auc(np.nan_to_num(values, nan=-1).astype(np.intp), defaulted)
            if position in codes
            else number_auc(values, defaulted)
            for position, (name, values) in enumerate(zip(names, matrix.T, strict=True))
        }
    )


def refusal(found: Mapping[str, float], allowed: Iterable[str]) -> str | None:
    """Why a run stops: a sentence that names the columns and what to do; None if all are allowed."""
    refused = {name: auc for name, auc in found.items() if name not in set(allowed)}
    if not refused:
        return None
    named = ", ".join(f"{name} (ROC-AUC {auc:.3f})" for name, auc in refused.items())
    setting = json.dumps([*allowed, *refused])
    return (
        f"{'a column gives' if len(refused) == 1 else 'columns give'} the outcome away: {named}; the limit is {LIMIT}. Remove what was not "
        f"known when the application was decided, or allow what was: {VARIABLE}='{setting}'"
    )


def number_auc(values: Values, defaulted: Labels) -> float:
    """ROC-AUC of a number, shape (rows,), in [0.5, 1]: the largest over both directions, with missing values (NaN) at either end."""
    bad, missing = defaulted == 1, np.isnan(values)
    wins = _wins(values[~missing], bad[~missing])
    missing_bad, missing_good = np.count_nonzero(missing & bad), np.count_nonzero(missing & ~bad)
    known_bad, known_good = np.count_nonzero(~missing & bad), np.count_nonzero(~missing & ~bad)
    tied = missing_bad * missing_good / 2
    pairs = np.count_nonzero(bad) * np.count_nonzero(~bad)
    low, high = (wins + tied + known_bad * missing_good) / pairs, (wins + tied + missing_bad * known_good) / pairs
    return float(max(low, 1 - low, high, 1 - high))


def category_auc(codes: NDArray[np.intp], defaulted: Labels) -> float:
    """ROC-AUC, in [0.5, 1], of the default rate of each category among other rows; codes of shape (rows,), -1 for missing."""
    codes = codes + 1
    rates, part = np.empty(len(codes)), np.arange(len(codes)) % PARTS
    for number in range(PARTS):
        outside = part == number
        rows = np.bincount(codes[~outside], minlength=codes.max() + 1)
        bad = np.bincount(codes[~outside], defaulted[~outside], minlength=codes.max() + 1)
        mean = defaulted[~outside].mean()
        rates[outside] = ((bad + mean) / (rows + 1))[codes[outside]]
    return number_auc(rates, defaulted)


def _too_few(defaulted: Labels) -> bool:
    defaults = int(np.count_nonzero(defaulted))
    return min(defaults, len(defaulted) - defaults) < MIN_OUTCOMES


def _wins(values: Values, bad: NDArray[np.bool_]) -> float:
    """The number of pairs of a default and a repaid loan in which the default has the greater value; ties count half."""
    count = np.count_nonzero(bad)
    return float(rankdata(values)[bad].sum() - count * (count + 1) / 2)


def _above(aucs: dict[str, float]) -> dict[str, float]:
    return {name: auc for name, auc in aucs.items() if auc > LIMIT}
