"""The figures of a performance report and their intervals, from applicants counted by PD.

The estimate before outcomes are in is confidence-based: if the PDs are calibrated, an applicant with PD p defaults with probability p, so
p and 1 - p are the expected counts of defaulted and repaid.
"""

import numpy as np
from numpy.typing import NDArray

from configs.settings import DecisionSettings

Values = NDArray[np.float64]

ECE_BINS = 10
SAMPLES = 200  # resamples behind an interval
CELLS = 500  # of about equal mass, for resampling: 20 weeks of 6,000 steps take 1.0 s (11.5 s with all steps) and give the same intervals
INTERVAL = (0.025, 0.975)
Z = 1.959964  # quantile of the normal distribution that 2.5 % lie above
LEAST = 20  # defaulted and repaid each, from which on the areas are given, and the bootstrap is used
AREAS = ("roc_auc", "pr_auc")


def figures(
    pd: Values, declined: NDArray[np.bool_], defaulted: Values, repaid: Values, costs: DecisionSettings, *, expected: bool = False
) -> dict[str, Values]:
    """The figures of applicants counted in cells.

    Parameters
    ----------
    pd, declined : of each cell, shape (cells,), PDs ascending.
    defaulted, repaid : applicants, shape (..., cells).
    expected : whether the counts are expectations, sums of the PDs of applicants who default independently of each other. The PR-AUC then
        counts an applicant's own default as certain at its rank, and the others by their PDs.

    Returns
    -------
    Each figure by its name, shape (...), NaN if the counts do not determine it.
    """
    people = defaulted + repaid
    total, bad, good = people.sum(axis=-1), defaulted.sum(axis=-1), repaid.sum(axis=-1)
    bad_declined, good_declined = defaulted[..., declined].sum(axis=-1), repaid[..., declined].sum(axis=-1)
    refused = bad_declined + good_declined
    below = np.cumsum(repaid, axis=-1) - repaid / 2
    from_top = np.maximum(np.cumsum(people[..., ::-1], axis=-1), 1e-300)
    own = (repaid / np.maximum(people, 1e-300))[..., ::-1] if expected else 0.0
    precision_from = (np.cumsum(defaulted[..., ::-1], axis=-1) + own) / from_top
    chances = people * pd
    gaps = np.add.reduceat(defaulted - chances, _equal_mass(people), axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "roc_auc": np.sum(defaulted * below, axis=-1) / (bad * good),
            "pr_auc": np.sum(defaulted[..., ::-1] * precision_from, axis=-1) / bad,
            "precision": bad_declined / refused,
            "recall": np.where(refused > 0, bad_declined / bad, np.nan),
            "ece": np.sum(np.abs(gaps), axis=-1) / total,
            "observed_to_expected": bad / chances.sum(axis=-1),
            "default_rate": bad / total,
            "default_rate_of_approved": (bad - bad_declined) / (total - refused),
            "cost_per_client": (costs.false_negative_cost * (bad - bad_declined) + costs.false_positive_cost * good_declined) / total,
            "approval_rate": 1 - refused / total,
        }


def figures_with_intervals(
    pd: Values, declined: NDArray[np.bool_], defaulted: Values, repaid: Values, costs: DecisionSettings, *, expected: bool = False
) -> dict[str, dict[str, float | None]]:
    """The `figures`, each with `value` and its 95 % interval, `low` and `high`; None if not determined. AREAS need LEAST applicants of each kind.

    The interval of a share is Wilson's (1927, Journal of the American Statistical Association 22, 209-212), that of `observed_to_expected` Byar's
    of a Poisson count (Breslow and Day 1987, Statistical Methods in Cancer Research II, equation 2.13). The areas and the cost have
    intervals by a Poisson bootstrap of the counts, from LEAST defaulted and repaid on: resamples of fewer vary too little. The ECE has
    none: each resample adds its own error, so resampled values lie above it.
    """
    random = np.random.default_rng(0)
    values = figures(pd, declined, defaulted, repaid, costs, expected=expected)
    people = defaulted + repaid
    bad, total, refused = float(defaulted.sum()), float(people.sum()), float(people[declined].sum())
    of = {"default_rate": total, "default_rate_of_approved": total - refused, "precision": refused, "recall": bad, "approval_rate": total}
    moves: dict[str, Values] = {}
    if min(bad, total - bad) >= LEAST:
        coarse = _coarse(pd, declined, defaulted, repaid)
        resampled = [random.poisson(counts, (SAMPLES, len(counts))).astype(np.float64) for counts in coarse[2:]]
        middle = figures(*coarse, costs, expected=expected)
        moves = {name: draw - middle[name] for name, draw in figures(*coarse[:2], resampled[0], resampled[1], costs).items()}
    result: dict[str, dict[str, float | None]] = {}
    for name, value in (values | ({} if moves else dict.fromkeys(AREAS, np.array(np.nan)))).items():
        low, high = np.nan, np.nan
        if name in of:
            low, high = _wilson(float(value), of[name])
        elif name == "observed_to_expected":
            low, high = np.array(_byar(bad)) / float((people * pd).sum())
        elif name != "ece" and moves:
            low, high = value + np.nanquantile(moves[name], INTERVAL)
        ends = (("value", value), ("low", low), ("high", high))
        result[name] = {key: float(item) if np.isfinite(item) and np.isfinite(value) else None for key, item in ends}
    return result


def _coarse(pd: Values, declined: NDArray[np.bool_], defaulted: Values, repaid: Values) -> tuple[Values, NDArray[np.bool_], Values, Values]:
    """Merge the cells to about CELLS of equal mass, each of one decision."""
    people = defaulted + repaid
    mass = np.cumsum(people) - people / 2
    group = np.floor(mass / people.sum() * CELLS) * 2 + declined
    first = np.flatnonzero(np.diff(group, prepend=-1.0))
    whole, bad = np.add.reduceat(people, first), np.add.reduceat(defaulted, first)
    chances = np.add.reduceat(people * pd, first)
    return np.divide(chances, whole, out=np.zeros(len(whole)), where=whole > 0), declined[first], bad, whole - bad


def _wilson(share: float, count: float) -> tuple[float, float]:
    """The 95 % interval of a probability, from the share observed among `count`."""
    if not count:
        return np.nan, np.nan
    middle, scale = share + Z**2 / (2 * count), 1 + Z**2 / count
    width = Z * (share * (1 - share) / count + Z**2 / (4 * count**2)) ** 0.5
    return max(0.0, (middle - width) / scale), min(1.0, (middle + width) / scale)


def _byar(count: float) -> tuple[float, float]:
    """The 95 % interval of the mean of a Poisson variable, from one observation of it."""
    more = count + 1
    low = count * (1 - 1 / (9 * count) - Z / (3 * count**0.5)) ** 3 if count else 0.0
    return max(0.0, low), more * (1 - 1 / (9 * more) + Z / (3 * more**0.5)) ** 3


def _equal_mass(people: Values) -> NDArray[np.intp]:
    """The first cell of each of ECE_BINS bins of about equal mass; resamples share the bins of their mean."""
    mass = np.cumsum(people.reshape(-1, people.shape[-1]).mean(axis=0))
    first = np.searchsorted(mass, mass[-1] * np.arange(1, ECE_BINS) / ECE_BINS, side="right")
    return np.unique(np.append(0, np.minimum(first, len(mass) - 1)))
