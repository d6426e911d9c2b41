"""Metrics of calibrated PDs, with bootstrap intervals."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score, roc_curve

from serving.calibration import Calibration
from serving.decision import Costs, cost_per_client
from training.aliases import Labels, Values
from training.data.errors import DataError

ECE_BINS = 10


def fit_calibration(margins: Values, defaulted: Labels) -> Calibration:
    """Calibrate out-of-fold margins by maximum-likelihood logistic regression (Platt 1999).

    Raises
    ------
    DataError
        Higher margins do not mean more defaults.
    """
    slope = 0.0
    if np.ptp(margins):
        model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10).fit(margins.reshape(-1, 1), defaulted)
        slope = float(model.coef_[0, 0])
    if slope <= 0:
        raise DataError(
            "the model does not rank defaults above repaid loans among applications that it did not see: "
            "the columns say nothing about the outcome, or there is too little to learn from"
        )
    return Calibration(slope, float(model.intercept_[0]))


def calibration_table(defaulted: Labels, pd: Values, bins: int = ECE_BINS) -> list[dict[str, float]]:
    """Mean PD, default rate and share of applicants in bins of equal mass, in order of PD."""
    groups = np.array_split(np.argsort(pd, kind="stable"), min(bins, len(pd)))
    return [
        {"pd": float(pd[group].mean()), "default_rate": float(defaulted[group].mean()), "share": len(group) / len(pd)} for group in groups
    ]


def expected_calibration_error(defaulted: Labels, pd: Values, bins: int = ECE_BINS) -> float:
    """Mean absolute gap between PD and default rate over bins of equal mass (Naeini et al. 2015)."""
    return sum(row["share"] * abs(row["pd"] - row["default_rate"]) for row in calibration_table(defaulted, pd, bins))


def kolmogorov_smirnov(defaulted: Labels, pd: Values) -> float:
    """Largest distance between the cumulative PD distributions of the two outcomes, in [0, 1]."""
    false_positive, true_positive, _ = roc_curve(defaulted, pd)
    return float(np.max(true_positive - false_positive))


def _share(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float:
    count = np.count_nonzero(whole)
    return float(np.count_nonzero(part & whole) / count) if count else float("nan")


def metrics(defaulted: Labels, pd: Values, threshold: float, costs: Costs) -> dict[str, float]:
    """All metrics of scored applicants, among whom both outcomes occur.

    Parameters
    ----------
    pd : shape (rows,), in [0, 1].
    threshold : applicants at or above it are declined.
    """
    declined, bad = pd >= threshold, defaulted == 1
    auc = float(roc_auc_score(defaulted, pd))
    return {
        "roc_auc": auc,
        "gini": 2 * auc - 1,
        "pr_auc": float(average_precision_score(defaulted, pd)),
        "ks": kolmogorov_smirnov(defaulted, pd),
        "brier": float(brier_score_loss(defaulted, pd)),
        "ece": expected_calibration_error(defaulted, pd),
        "cost_per_client": cost_per_client(defaulted, pd, threshold, costs),
        "precision": _share(bad, declined),
        "recall": _share(declined, bad),
        "approval_rate": float(np.mean(~declined)),
    }


def bootstrap_intervals(
    compute: Callable[[NDArray[np.intp]], dict[str, float]], defaulted: Labels, samples: int, seed: int
) -> dict[str, dict[str, float]]:
    """Each metric with its 95 % percentile bootstrap interval; resamples keep the number of defaults.

    Parameters
    ----------
    compute : gives the metrics of the rows at some positions.
    """
    random = np.random.default_rng(seed)
    bad, good = np.flatnonzero(defaulted == 1), np.flatnonzero(defaulted == 0)
    draws = [compute(np.concatenate([random.choice(group, len(group)) for group in (bad, good)])) for _ in range(samples)]
    result: dict[str, Any] = {}
    for name, value in compute(np.arange(len(defaulted))).items():
        low, high = np.quantile([draw[name] for draw in draws], [0.025, 0.975])
        result[name] = {"value": value, "low": float(low), "high": float(high)}
    return result
