"""Columns that tell the outcome by themselves: the target under another name, or what was known only after the decision."""

import json
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from features.history import Matrix
from features.schema import Table
from training.aliases import Labels, Values

LIMIT = 0.95  # ROC-AUC of one column; the best of real applications has 0.66
PARTS = 5  # in which the default rates of categories are judged on rows that they were not taken from
VARIABLE = "CREDIT_TRAINING__ALLOWED_COLUMNS"


def suspects(frame: pd.DataFrame, table: Table, defaulted: Labels) -> dict[str, float]:
    """The columns of a table with a lone ROC-AUC above the limit, each with it."""
    numbers = {column.name: number_auc(frame[column.name].to_numpy(dtype=float), defaulted) for column in table.numeric}
    texts = {column.name: category_auc(pd.factorize(frame[column.name])[0], defaulted) for column in table.categorical}
    return _above(numbers | texts)


def suspect_features(matrix: Matrix, names: Iterable[str], categorical: Iterable[int], defaulted: Labels) -> dict[str, float]:
    """The same for the features, which hold the history too."""
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
    """Why a run stops, in a sentence that names the columns and what to do; None where all are allowed."""
    refused = {name: auc for name, auc in found.items() if name not in set(allowed)}
    if not refused:
        return None
    named = ", ".join(f"{name} (ROC-AUC {auc:.3f})" for name, auc in refused.items())
    setting = json.dumps([*allowed, *refused])
    return (
        f"{'a column tells' if len(refused) == 1 else 'columns tell'} the outcome alone: {named}; the limit is {LIMIT}. Leave out what was not "
        f"known when the application was decided, or allow what was: {VARIABLE}='{setting}'"
    )


def number_auc(values: Values, defaulted: Labels) -> float:
    """ROC-AUC of a number, the better of both directions, missing values at the better end; values of shape (rows,), NaN for missing."""
    bad, missing = defaulted == 1, np.isnan(values)
    wins = _wins(values[~missing], bad[~missing])
    missing_bad, missing_good = np.count_nonzero(missing & bad), np.count_nonzero(missing & ~bad)
    known_bad, known_good = np.count_nonzero(~missing & bad), np.count_nonzero(~missing & ~bad)
    tied = missing_bad * missing_good / 2
    pairs = np.count_nonzero(bad) * np.count_nonzero(~bad)
    low, high = (wins + tied + known_bad * missing_good) / pairs, (wins + tied + missing_bad * known_good) / pairs
    return float(max(low, 1 - low, high, 1 - high))


def category_auc(codes: NDArray[np.intp], defaulted: Labels) -> float:
    """ROC-AUC of the default rate of each category among the other rows; codes of shape (rows,), -1 for missing."""
    codes = codes + 1
    rates, part = np.empty(len(codes)), np.arange(len(codes)) % PARTS
    for number in range(PARTS):
        outside = part == number
        rows = np.bincount(codes[~outside], minlength=codes.max() + 1)
        bad = np.bincount(codes[~outside], defaulted[~outside], minlength=codes.max() + 1)
        mean = defaulted[~outside].mean()
        rates[outside] = ((bad + mean) / (rows + 1))[codes[outside]]
    return number_auc(rates, defaulted)


def _wins(values: Values, bad: NDArray[np.bool_]) -> float:
    """Pairs of a default and a repaid loan in which the default has the greater value; ties count half."""
    count = np.count_nonzero(bad)
    return float(rankdata(values)[bad].sum() - count * (count + 1) / 2)


def _above(aucs: dict[str, float]) -> dict[str, float]:
    return {name: auc for name, auc in aucs.items() if auc > LIMIT}
