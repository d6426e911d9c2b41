from typing import Any

import numpy as np
import pytest

from configs.settings import RetrainingSettings
from monitoring.drift import Measurement
from monitoring.retraining import reasons

LIMITS = RetrainingSettings(drifted_features=0.1, max_roc_auc_loss=0.02, max_observed_to_expected=1.25, max_age_days=365)


def drift(pd: float, *features: float) -> Measurement:
    psi = np.array([*features, pd])
    return Measurement(1000, psi, np.zeros(len(psi)), np.zeros(len(psi)))


def figure(value: float | None, width: float = 0.01) -> dict[str, float | None]:
    return {"value": value, "low": value and value - width, "high": value and value + width}


def row(
    estimated: float, realised: float | None = None, expected: float | None = None, ratio: float | None = 1.0, defaulted: int = 20
) -> dict[str, Any]:
    return {
        "outcomes": {"count": 40, "defaulted": defaulted},
        "estimated": {"roc_auc": figure(estimated)},
        "realised": {"of": "the approved", "roc_auc": figure(realised), "observed_to_expected": figure(ratio)} if expected else None,
        "expected": {"roc_auc": figure(expected)} if expected else None,
    }


def judged(measured: Measurement | None = None, performance: dict[str, Any] | None = None, age: float = 0) -> list[str]:
    return [reason.split(":")[0] for reason in reasons(LIMITS, measured, performance, 0.76, age)]


@pytest.mark.parametrize(
    ("measured", "performance", "age"),
    [
        (None, None, 365),
        (drift(0.2499, *[0.9], *[0.0] * 10), row(0.76), 1),
        (None, row(0.76, 0.66, 0.67), 1),
        (None, row(0.76, 0.645, 0.67), 1),
        (None, row(0.76, None, 0.67, None, 0), 1),
        (None, row(0.76, 0.0, 0.67, 1.0, 19), 1),
        (None, row(0.76, 0.0, 0.67, 1.0, 21), 1),
        (None, row(0.76, 0.67, 0.67, 1.255), 1),
    ],
    ids=[
        "nothing known",
        "one feature of eleven",
        "as expected of the approved",
        "within the interval",
        "one class",
        "few defaults",
        "few repaid",
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
