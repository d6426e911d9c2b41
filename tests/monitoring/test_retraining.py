from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from configs.settings import DecisionSettings, RetrainingSettings
from monitoring.drift.psi import Measurement
from monitoring.performance.counts import Counts
from monitoring.performance.figures import Values
from monitoring.performance.summary import performance
from monitoring.retraining import reasons

LIMITS = RetrainingSettings(
    drifted_features=0.1,
    max_roc_auc_loss=0.02,
    max_observed_to_expected=1.25,
    outcome_days=180,
    judged_days=180,
    min_outcomes=0.9,
    max_age_days=365,
)
COSTS = DecisionSettings(false_negative_cost=10, false_positive_cost=1, min_approval_rate=0, thin_application="warn")


def drift(pd: float, *features: float) -> Measurement:
    psi = np.array([*features, pd])
    return Measurement(1000, psi, np.zeros(len(psi)), np.zeros(len(psi)))


def figure(value: float | None, width: float = 0.01) -> dict[str, float | None]:
    return {"value": value, "low": value and value - width, "high": value and value + width}


def row(
    estimated: float | None, realised: float | None = None, expected: float | None = None, ratio: float | None = 1.0, known: float = 0.9
) -> dict[str, Any]:
    return {
        "outcomes": {"count": 40, "defaulted": 20, "approved": known, "declined": 0.01},
        "estimated": {"roc_auc": figure(estimated)},
        "realised": {"of": "the approved", "roc_auc": figure(realised), "observed_to_expected": figure(ratio)} if expected else None,
        "expected": {"roc_auc": figure(expected)} if expected else None,
    }


def judged(measured: Measurement | None = None, performance: dict[str, Any] | None = None, age: float = 0) -> list[str]:
    return [reason.split(":")[0] for reason in reasons(LIMITS, measured, performance, performance, trained_roc_auc=0.76, age_days=age)]


@pytest.mark.parametrize(
    ("measured", "performance", "age"),
    [
        (None, None, 365),
        (drift(0.2499, *[0.9], *[0.0] * 10), row(0.76), 1),
        (None, row(0.76, 0.66, 0.67), 1),
        (None, row(0.76, 0.645, 0.67), 1),
        (None, row(0.76, None, 0.67, None), 1),
        (None, row(0.76, 0.0, 0.67, 30.0, 0.89), 1),
        (None, row(None), 1),
        (None, row(0.76, 0.67, 0.67, 1.255), 1),
    ],
    ids=[
        "nothing known",
        "one feature of eleven",
        "as expected of the approved",
        "within the interval",
        "one class",
        "few outcomes",
        "few decisions",
        "ratio near its limit",
    ],
)
def test_there_is_no_reason(measured: Measurement | None, performance: dict[str, Any] | None, age: float) -> None:
    assert judged(measured, performance, age) == []


@pytest.mark.parametrize(
    ("measured", "performance", "age", "word"),
    [
        (drift(0.25, 0, 0), None, 0, "drift"),
        (drift(0, 0.3, *[0.0] * 9), None, 0, "drift"),
        (None, row(0.72), 0, "performance"),
        (None, row(0.76, 0.63, 0.67), 0, "performance"),
        (None, row(0.76, 0.67, 0.67, 1.3), 0, "performance"),
        (None, row(0.76, 0.67, 0.67, 0.7), 0, "performance"),
        (None, None, 365.1, "age"),
    ],
    ids=["PD", "features", "estimate", "realised", "more defaults", "fewer defaults", "age"],
)
def test_each_limit_is_a_reason(measured: Measurement | None, performance: dict[str, Any] | None, age: float, word: str) -> None:
    assert judged(measured, performance, age) == [word]


def test_reasons_add_up() -> None:
    assert judged(drift(1, 1), row(0.6, 0.5, 0.6, 2), 400) == ["drift", "drift", "performance", "performance", "age"]


def test_of_decisions_that_are_too_young_only_the_estimate_is_judged() -> None:
    worse = row(0.76, 0.5, 0.67, 3)
    assert reasons(LIMITS, None, worse, None, trained_roc_auc=0.76, age_days=0) == []
    assert len(reasons(LIMITS, None, worse, worse, trained_roc_auc=0.76, age_days=0)) == 2


def judged_from(pds: Values, known: NDArray[np.bool_], defaulted: NDArray[np.bool_]) -> list[str]:
    """The reasons from decisions with these PDs, of which some have an outcome."""
    order = np.argsort(pds)
    pds, known, defaulted = pds[order], known[order], defaulted[order]
    table = (np.arange(len(pds)), pds >= 0.1, np.ones(len(pds)), pds, known * 1.0, known * pds, (known & defaulted) * 1.0)
    (every, _) = performance([Counts("2026-01", "v1", *table)], COSTS)
    return reasons(LIMITS, None, every, every, trained_roc_auc=0.76, age_days=0)


@pytest.mark.parametrize("known_repaid", [0, 0.02, 0.3, 0.6])
def test_defaults_that_are_known_before_the_loans_that_are_repaid_are_no_reason(known_repaid: float) -> None:
    rng = np.random.default_rng(1)
    pds = rng.beta(0.8, 8, 3000)
    defaulted = rng.random(3000) < pds
    assert judged_from(pds, defaulted | (rng.random(3000) < known_repaid), defaulted) == []
    assert judged_from(pds, np.ones(3000, dtype=bool), defaulted) == []
    assert len(judged_from(pds, np.ones(3000, dtype=bool), rng.random(3000) < 2 * pds)) == 1


@pytest.mark.parametrize("pds", [[0.05], [0.05] * 60, [0.05, 0.06, 0.07, 0.08] * 50])
def test_a_decision_or_a_few_and_again_are_no_reason(pds: list[float]) -> None:
    nothing = np.zeros(len(pds), dtype=bool)
    assert judged_from(np.array(pds), nothing, nothing) == []
