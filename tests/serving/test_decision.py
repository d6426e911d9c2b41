from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from configs.errors import UserError
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


def drawn(rows: int, seed: int, distortion: float = 1.0) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Outcomes, and PDs that are `distortion` times what they should be."""
    random = np.random.default_rng(seed)
    pd = random.beta(1, 11, rows)
    return random.random(rows) < pd, np.minimum(pd * distortion, 1)


@pytest.mark.parametrize("seed", range(5))
def test_the_noise_of_a_cost_curve_does_not_move_the_theoretical_threshold(seed: int) -> None:
    defaulted, pd = drawn(5000, seed)
    choice = choose_threshold(defaulted, pd, COSTS)
    assert (choice.threshold, choice.reason) == (COSTS.theoretical_threshold, "theoretical")
    assert choice.least != choice.threshold
    assert cost_per_client(defaulted, pd, choice.least, COSTS) <= cost_per_client(defaulted, pd, choice.threshold, COSTS)
    assert choice.saving <= 2 * choice.standard_error
    assert str(choice).startswith("threshold 0.091, the theoretical one: ")
    assert str(choice).endswith("per client, not more than twice the standard error")


def test_a_threshold_that_clearly_costs_less_is_taken() -> None:
    defaulted, pd = drawn(20_000, 1, distortion=3)
    choice = choose_threshold(defaulted, pd, COSTS)
    assert choice.reason == "curve"
    assert choice.threshold == choice.least == pytest.approx(3 / 11, abs=0.05)
    assert choice.saving > 2 * choice.standard_error
    assert "the minimum of the cost curve" in str(choice)


def test_the_saving_and_its_standard_error_come_from_the_differences_applicant_by_applicant() -> None:
    defaulted = np.array(([1] * 5 + [0] * 95) * 5)
    pd = np.array(([0.5] * 5 + [0.1] * 2 + [0.01] * 93) * 5)  # above 0.1 ten good applicants more are approved
    choice = choose_threshold(defaulted, pd, COSTS)
    assert choice.saving == pytest.approx(10 / 500)
    assert choice.standard_error == pytest.approx(np.array([1.0] * 10 + [0.0] * 490).std(ddof=1) / np.sqrt(500))
    assert (choice.reason, choice.threshold) == ("curve", pytest.approx(0.101))


def test_a_saving_within_twice_its_standard_error_is_left() -> None:
    defaulted, pd = np.array([1] * 5 + [0] * 95), np.array([0.5] * 5 + [0.1] * 3 + [0.01] * 92)
    choice = choose_threshold(defaulted, pd, COSTS)
    assert (choice.reason, choice.saving) == ("theoretical", pytest.approx(0.03))
    assert 1.5 < choice.saving / choice.standard_error < 2


def test_a_floor_for_the_approval_rate_raises_the_threshold() -> None:
    defaulted, pd = drawn(20_000, 2)
    choice = choose_threshold(defaulted, pd, COSTS, 0.9)
    assert choice.reason == "floor"
    assert choice.threshold > COSTS.theoretical_threshold
    assert np.mean(pd < choice.threshold) >= 0.9 > np.mean(pd < choice.threshold - 0.001)


def test_a_floor_that_the_theoretical_threshold_meets_changes_nothing_and_binds_the_least_of_the_curve() -> None:
    defaulted, pd = drawn(20_000, 2, distortion=1 / 3)
    assert choose_threshold(defaulted, pd, COSTS).threshold < COSTS.theoretical_threshold / 2
    floored = choose_threshold(defaulted, pd, COSTS, 0.9)
    assert np.mean(pd < floored.threshold) >= 0.9
    assert choose_threshold(*drawn(20_000, 2), COSTS, 0.3) == choose_threshold(*drawn(20_000, 2), COSTS)


def test_a_floor_that_no_threshold_meets_is_an_error() -> None:
    with pytest.raises(UserError, match=r"no threshold approves 50\.0% .* the highest approval rate of any threshold is 0\.0%"):
        choose_threshold(np.array([0, 1]), np.array([1.0, 1.0]), COSTS, 0.5)


@pytest.mark.parametrize("outcome", [0, 1])
def test_outcomes_that_are_all_the_same_are_refused(outcome: int) -> None:
    with pytest.raises(ValueError, match="all outcomes are the same"):
        choose_threshold(np.full(9, outcome), np.linspace(0.1, 0.9, 9), COSTS)


def test_no_scores_give_no_threshold() -> None:
    with pytest.raises(ValueError, match="no score"):
        cost_curve(np.array([]), np.array([]), COSTS)
