"""The rule that says when to train a model again, from drift, performance and age."""

from collections.abc import Mapping
from typing import Any

from configs.settings import RetrainingSettings
from monitoring.drift.psi import DRIFT, Measurement
from monitoring.performance.summary import OF_APPROVED

Row = Mapping[str, Any]


def reasons(
    limits: RetrainingSettings, drift: Measurement | None, every: Row | None, older: Row | None, *, trained_roc_auc: float, age_days: float
) -> list[str]:
    """Why the model should be trained again; empty if it should not.

    Parameters
    ----------
    drift : of the last decisions, features first and the PD last; None if they are too few.
    every : row (see monitoring.performance.summary.row) of the model's decisions of the last `outcome_days` + `judged_days`; None if none.
    older : row of those among them that are older than `outcome_days`.
    trained_roc_auc : measured out of fold by the training run.
    age_days : days since the model was saved.
    """
    return [*_drift(limits, drift), *_performance(limits, every, older, trained_roc_auc), *_age(limits, age_days)]


def known_share(row: Row | None) -> float:
    """The share of a row's decisions whose outcome is known; of the approved only, if only they are judged."""
    if row is None or row["realised"] is None:
        return 0.0
    of = ("approved",) if row["realised"]["of"] == OF_APPROVED else ("approved", "declined")
    return float(min(row["outcomes"][name] for name in of if row["outcomes"][name] is not None))


def _drift(limits: RetrainingSettings, drift: Measurement | None) -> list[str]:
    found = []
    if drift is not None:
        if drift.psi[-1] >= DRIFT:
            found.append(f"drift: the PSI of the PD is {drift.psi[-1]:.2f}, at least {DRIFT}")
        share = float((drift.psi[:-1] >= DRIFT).mean())
        if share >= limits.drifted_features:
            found.append(f"drift: {share:.1%} of the features have a PSI of at least {DRIFT}; the limit is {limits.drifted_features:.1%}")
    return found


def _performance(limits: RetrainingSettings, every: Row | None, older: Row | None, trained_roc_auc: float) -> list[str]:
    """Training measured all applicants, but only some have outcomes. So the ROC-AUC judged here is the
    estimate for all applicants, corrected by the difference between realised and expected ROC-AUC of those with outcomes.

    Outcomes count once nearly all are known: defaults are known before repayments, so the first outcomes are the worst. A ROC-AUC without an
    interval comes from too few decisions and is not judged.
    """
    if every is None:
        return []
    found = []
    estimated = every["estimated"]
    best = estimated["roc_auc"]["high"]
    realised, expected = (older["realised"], older["expected"]) if older and known_share(older) >= limits.min_outcomes else ({}, {})
    if best is not None and realised and None not in (realised["roc_auc"]["high"], expected["roc_auc"]["value"]):
        best = estimated["roc_auc"]["value"] + realised["roc_auc"]["high"] - expected["roc_auc"]["value"]
    if best is not None and trained_roc_auc - best > limits.max_roc_auc_loss:
        found.append(
            f"performance: the ROC-AUC of all applicants is {best:.3f} at the favourable end of its interval, {trained_roc_auc:.3f} at training; "
            f"the limit of the loss is {limits.max_roc_auc_loss}"
        )
    ratio = realised.get("observed_to_expected")
    limit = limits.max_observed_to_expected
    if ratio and ratio["value"] is not None and (ratio["low"] > limit or ratio["high"] < 1 / limit):
        found.append(
            f"performance: defaults are {ratio['value']:.2f} times those expected of {realised['of']} "
            f"({ratio['low']:.2f} to {ratio['high']:.2f}); the limits are {1 / limit:.2f} and {limit:.2f}"
        )
    return found


def _age(limits: RetrainingSettings, age_days: float) -> list[str]:
    return [f"age: {age_days:.0f} days; the limit is {limits.max_age_days}"] if age_days > limits.max_age_days else []
