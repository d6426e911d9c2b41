"""Fits the profile of the generator on real applications. Every aggregate is over at least 50 people."""

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, ndtri
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression

from features.schema import Table
from training.aliases import Values
from training.data.errors import DataError
from training.home_credit.generator import BLOCK, INCOME_TYPE, OCCUPATION, RATIOS, RETIRED, Generator

FEWEST = 50  # people that each number of the profile describes, at least
QUANTILES = 101
MAX_VALUES = 60  # a numeric column with more distinct values is continuous
BINS = 8
SAME_PATTERN = 0.995
# ROC-AUC of the true PDs of generated applications. With this value a model trained on 45,000 of them has the same cross-validated
# ROC-AUC as one trained on as many real applications.
BAYES_AUC = 0.786


def fit_profile(frame: pd.DataFrame, table: Table) -> dict[str, Any]:
    """Fit the profile of labelled applications: marginals, missing values, correlations, and the scorecard of default.

    Raises
    ------
    DataError
        There are too few rows, or too few with a known value in some column, for aggregates of 50 people.
    """
    if len(frame) < 20 * FEWEST:
        raise DataError(f"{len(frame)} applications; expected at least {20 * FEWEST}, so that no aggregate describes a few people")
    target = frame[table.target].to_numpy()
    _check_known(frame, table)
    unknown = {column.name: column.unknown for column in table.columns}
    no_employer = _values(frame, RETIRED, unknown[RETIRED]).isna()
    frame = frame.assign(**{INCOME_TYPE: frame[INCOME_TYPE].mask(no_employer)})  # the generator sets it for them
    ordinals, entries = {}, []
    for column in table.columns:
        ordinals[column.name], entry = marginal(_values(frame, column.name, column.unknown), target, column.type == "category")
        entries.append({"name": column.name, **entry})
    groups = missing_groups(ordinals)
    retired = np.isnan(ordinals[RETIRED])
    patterns, shares = {}, {}
    for name, members in groups.items():
        patterns[name] = np.isnan(ordinals[name]).astype(float)
        if name == OCCUPATION:
            patterns[name][retired] = np.nan  # no employer implies it; the copula draws the rest
        shares[name] = float(np.nanmean(patterns[name]))
        for entry in entries:
            if entry["name"] in members:
                entry["missing"] = name
    correlation = _correlation({**ordinals, **{f"missing {name}": -values for name, values in patterns.items()}})
    intercept = _scorecard(entries, ordinals, target)
    profile: dict[str, Any] = {
        "applications": len(frame),
        "variables": entries,
        "missing": [{"name": name, "share": round(share, 4)} for name, share in shares.items()],
        "correlation": correlation[np.tril_indices(len(correlation), -1)].round(3).tolist(),
        "intercept": intercept,
    }
    _calibrate(profile, table, float(target.mean()))
    return profile


def _check_known(frame: pd.DataFrame, table: Table) -> None:
    """Refuse columns without a value that FEWEST people share, and continuous ones without FEWEST people on each side of the median."""
    found: dict[str, float] = {}
    for column in table.columns:
        counts = _values(frame, column.name, column.unknown).value_counts()
        few = column.type == "category" or len(counts) <= MAX_VALUES
        have = int(counts.max() if few else counts.sum()) if len(counts) else 0
        if have < (FEWEST if few else 2 * FEWEST):
            found[column.name] = have / (1 if few else 2)
    if not found:
        return
    name, gives = min(found.items(), key=lambda item: item[1])
    more = f" (and {len(found) - 1} more columns)" if len(found) > 1 else ""
    if not gives:
        raise DataError(f"{name} is missing in all {len(frame):,} applications{more}; expected values that {FEWEST} people have")
    raise DataError(
        f"{len(frame):,} applications are too few, since no aggregate may describe fewer than {FEWEST} people: {name} gives {gives:g}{more}; "
        f"about {math.ceil(len(frame) * FEWEST / gives):,} such applications are needed"
    )


def _values(frame: pd.DataFrame, name: str, unknown: tuple[Any, ...]) -> pd.Series:
    if name in RATIOS:
        above, below = RATIOS[name]
        return frame[above] / frame[below].where(frame[below] != 0)
    return frame[name].where(~frame[name].isin(unknown))


def marginal(values: pd.Series, target: NDArray[Any], category: bool) -> tuple[Values, dict[str, Any]]:
    """The ordinal of each row, NaN where missing, and the entry of the profile."""
    known = values.notna().to_numpy()
    counts = values[known].value_counts()
    ordinal = np.full(len(values), np.nan)
    if category or len(counts) <= MAX_VALUES:
        kept = counts[counts >= FEWEST].index
        order = sorted(kept, key=lambda value: (target[(values == value).to_numpy()].mean() if category else value, str(value)))
        if not category:
            nearest = np.abs(values[known].to_numpy()[:, None] - np.array(order, dtype=float)[None, :]).argmin(axis=1)
            ordinal[known] = nearest
        else:
            places = {value: place for place, value in enumerate(order)}
            commonest = places.get(counts.index[0], np.nan)  # replaces the values too rare to be listed
            ordinal[known] = [places.get(value, commonest) for value in values[known]]
        shares = np.bincount(ordinal[~np.isnan(ordinal)].astype(int), minlength=len(order)).astype(float)
        return ordinal, {"values": [_plain(value) for value in order], "shares": rounded(shares / shares.sum())}
    ordinal[known] = values[known].to_numpy(dtype=float)
    # at least FEWEST people lie beyond the outermost quantiles, so that no person's extreme value is disclosed
    outer = min(FEWEST / int(known.sum()), 0.5)
    levels = np.clip(np.linspace(0, 1, QUANTILES), outer, 1 - outer)
    return ordinal, {"quantiles": rounded(np.quantile(ordinal[known], levels))}


def missing_groups(ordinals: dict[str, Values]) -> dict[str, list[str]]:
    """Groups of columns that are missing together, by the name of the first."""
    groups: dict[str, list[str]] = {}
    for name in sorted(ordinals, key=lambda name: name != RETIRED):  # so that its group gets this name
        pattern = np.isnan(ordinals[name])
        if np.count_nonzero(pattern) < FEWEST:
            continue
        for first, members in groups.items():
            other = np.isnan(ordinals[first])
            if np.count_nonzero(pattern & other) >= SAME_PATTERN * np.count_nonzero(pattern | other):
                members.append(name)
                break
        else:
            groups[name] = [name]
    return groups


def _correlation(ordinals: dict[str, Values]) -> Values:
    """Correlations of the normal variables behind the columns, from normal scores of their ranks, pair by pair.

    The scores of a column with few values have a variance below 1. Dividing by it undoes the attenuation (the polyserial estimate of
    Olsson, Drasgow and Dorans 1982, and its product for two such columns).
    """
    scores = np.zeros((len(next(iter(ordinals.values()))), len(ordinals)))
    known = np.zeros(scores.shape, dtype=np.float32)
    for place, values in enumerate(ordinals.values()):
        there = ~np.isnan(values)
        score: Values = np.asarray(ndtri((rankdata(values[there]) - 0.5) / max(1, int(there.sum()))))
        score = score - score.sum() / max(1, len(score))
        scores[there, place], known[:, place] = score, there
    pairs = np.maximum(known.T @ known, 1)
    product = scores.T @ scores / pairs
    variance = np.array([np.mean(scores[known[:, place] > 0, place] ** 2) for place in range(scores.shape[1])])
    attenuation = np.outer(variance, variance)
    correlation = np.where(attenuation > 0.01, product / np.maximum(attenuation, 1e-9), 0.0)
    correlation[pairs < 20 * FEWEST] = 0
    correlation = np.clip(correlation, -0.99, 0.99)
    np.fill_diagonal(correlation, 1)
    return correlation


def _scorecard(entries: list[dict[str, Any]], ordinals: dict[str, Values], target: NDArray[Any]) -> float:
    """Set the points of each bin of each variable by penalised logistic regression; returns the intercept."""
    blocks, slots = [], []
    for entry in entries:
        values = ordinals[entry["name"]]
        known = ~np.isnan(values)
        edges = np.unique(np.quantile(values[known], np.arange(1, BINS) / BINS)) if known.any() else np.array([])
        if "values" in entry:
            edges = np.arange(len(entry["values"]) - 1) + 0.5
        place = np.where(known, np.searchsorted(edges, values, side="left"), len(edges) + 1)
        counts = np.bincount(place, minlength=len(edges) + 2)
        block = (place[:, None] == np.arange(len(edges) + 2)) * (counts >= FEWEST)
        entry["edges"] = rounded(edges)
        blocks.append(block.astype(np.float32))
        slots.append(len(edges) + 2)
    model = LogisticRegression(C=0.03, max_iter=300).fit(np.hstack(blocks), target)
    points = np.split(model.coef_[0], np.cumsum(slots)[:-1])
    for entry, own in zip(entries, points, strict=True):
        entry.setdefault("missing", None)
        entry["points"], entry["missing_points"] = own[:-1].round(4).tolist(), round(float(own[-1]), 4)
    return float(model.intercept_[0])


def _calibrate(profile: dict[str, Any], table: Table, default_rate: float) -> None:
    """Scale the points and shift the intercept until generated applications have the real default rate and BAYES_AUC."""
    for _ in range(6):
        generator = Generator(profile, table)
        logit = np.concatenate([generator.logit(0, index) for index in range(100_000 // BLOCK)])
        pd = expit(logit)
        # the expected ROC-AUC if outcomes follow these PDs: each applicant counts as both outcomes, weighted by the PD
        order = np.argsort(logit)
        bad, good = pd[order], 1 - pd[order]
        auc = float((bad * (np.cumsum(good) - good / 2)).sum() / (bad.sum() * good.sum()))
        scale = ndtri(BAYES_AUC) / ndtri(auc)
        for entry in profile["variables"]:
            entry["points"] = [round(point * scale, 4) for point in entry["points"]]
            entry["missing_points"] = round(entry["missing_points"] * scale, 4)
        centre = float(logit.mean())
        profile["intercept"] = (profile["intercept"] - centre) * scale + centre
        scaled = (logit - centre) * scale + centre
        profile["intercept"] += _shift(scaled, default_rate)
        profile["intercept"] = round(profile["intercept"], 4)


def _shift(logit: Values, mean_pd: float) -> float:
    """The number to add to all log-odds to obtain this mean PD."""
    return float(brentq(lambda shift: expit(logit + shift).mean() - mean_pd, -10, 10))


def rounded(values: Values) -> list[float]:
    """The values with five significant digits."""
    return [float(f"{value:.5g}") for value in values]


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else float(value)
