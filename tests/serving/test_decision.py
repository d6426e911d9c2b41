from typing import Any

import numpy as np
import pytest

from serving.decision import Costs, Decision, choose_threshold, cost_curve, cost_per_client
from serving.thin import ThinRule

COSTS = Costs(10, 1)


@pytest.mark.parametrize(
    ("pd", "level", "declined"),
    [
        (0.0, "LOW", False),
        (0.0499, "LOW", False),
        (0.05, "MEDIUM", False),
        (0.0999, "MEDIUM", False),
        (0.1, "HIGH", True),
        (0.2, "HIGH", True),
        (0.2001, "CRITICAL", True),
        (1.0, "CRITICAL", True),
    ],
)
def test_bands_lie_around_the_threshold(pd: float, level: str, declined: bool) -> None:
    decision = Decision(0.1, COSTS)
    assert decision.risk_level(pd) == level
    assert decision.declines(pd) is declined


@pytest.mark.parametrize("threshold", [0, -0.1, 1.1, float("nan")])
def test_an_impossible_threshold_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold is"):
        Decision(threshold, COSTS)


def test_a_decision_survives_its_dictionary() -> None:
    for decision in (Decision(0.09, COSTS), Decision(0.09, COSTS, ThinRule(0.7, "decline"))):
        assert Decision.from_dict(decision.to_dict()) == decision


def test_a_thin_application_is_declined_only_where_the_rule_says_so() -> None:
    warn, decline = (Decision(0.1, COSTS, ThinRule(0.8, action)) for action in ("warn", "decline"))
    pds, shares = np.array([0.05, 0.05, 0.2, 0.2]), np.array([0.8, 0.81, 0.8, 0.81])
    for decision, declined in (
        (warn, [False, False, True, True]),
        (decline, [False, True, True, True]),
        (Decision(0.1, COSTS), [False, False, True, True]),
    ):
        assert decision.declines(pds, shares).tolist() == declined
        assert [decision.declines(pd, share) for pd, share in zip(pds.tolist(), shares.tolist(), strict=True)] == declined
        assert decision.is_thin(shares).tolist() == ([False, True] * 2 if decision.thin else [False] * 4)


@pytest.mark.parametrize(
    "rule", [{"limit": 0.5, "action": "refer"}, {"limit": 1.5, "action": "warn"}, {"limit": float("nan"), "action": "warn"}]
)
def test_an_impossible_rule_for_thin_applications_is_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected warn or decline, and a limit from 0 to 1"):
        Decision.from_dict({**Decision(0.1, COSTS).to_dict(), "thin": rule})


def test_a_decision_of_an_earlier_release_knows_no_thin_application() -> None:
    state = Decision(0.09, COSTS).to_dict()
    state.pop("thin")
    assert not Decision.from_dict(state).is_thin(1.1)


def test_theoretical_threshold() -> None:
    assert COSTS.theoretical_threshold == pytest.approx(1 / 11)


def test_cost_counts_both_errors() -> None:
    defaulted, pd = np.array([1, 1, 0, 0]), np.array([0.05, 0.5, 0.05, 0.5])
    assert cost_per_client(defaulted, pd, 0.1, COSTS) == (10 + 1) / 4


def test_curve_agrees_with_the_cost_at_each_threshold() -> None:
    random = np.random.default_rng(0)
    pd = np.round(random.random(500), 2)
    defaulted = (random.random(500) < pd).astype(int)
    curve = cost_curve(defaulted, pd, COSTS, steps=50)
    expected = [cost_per_client(defaulted, pd, threshold, COSTS) for threshold in curve.threshold]
    np.testing.assert_allclose(curve.cost, expected)
    np.testing.assert_allclose(curve.approval_rate, [np.mean(pd < threshold) for threshold in curve.threshold])


def test_the_chosen_threshold_is_near_the_theoretical_one_for_calibrated_pds() -> None:
    random = np.random.default_rng(1)
    pd = random.beta(1, 11, 200_000)
    curve = cost_curve(random.random(len(pd)) < pd, pd, COSTS)
    assert choose_threshold(curve) == pytest.approx(1 / 11, abs=0.02)


def test_a_floor_for_the_approval_rate_raises_the_threshold() -> None:
    random = np.random.default_rng(2)
    pd = random.beta(1, 11, 20_000)
    curve = cost_curve(random.random(len(pd)) < pd, pd, COSTS)
    floored = choose_threshold(curve, 0.9)
    assert floored > choose_threshold(curve)
    assert np.mean(pd < floored) >= 0.9


def test_a_floor_that_no_threshold_meets_is_an_error() -> None:
    curve = cost_curve(np.array([1]), np.array([1.0]), COSTS)
    with pytest.raises(ValueError, match=r"no threshold approves 50\.0% .* the most that one approves is 0\.0%"):
        choose_threshold(curve, 0.5)


def test_no_scores_give_no_threshold() -> None:
    with pytest.raises(ValueError, match="no score"):
        cost_curve(np.array([]), np.array([]), COSTS)
