"""Turns a calibrated PD into a decision, and finds the threshold that costs the business least."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from configs.errors import UserError
from configs.settings import DecisionSettings
from serving.thin import ThinRule

RiskLevel = Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"]
Values = NDArray[np.float64]
Numbers = float | Values
PARTS = 5  # each fifth of the applicants tests the threshold with the lowest cost on the other four
STEPS = 1000  # thresholds of a cost curve
CONVINCING = 2.0  # standard errors of the saving that a threshold must exceed to replace the theoretical one


@dataclass(frozen=True)
class Costs:
    """The cost of approving an applicant who defaults (false negative) and of declining one who repays (false positive).

    Any unit will do; the theoretical threshold depends only on their ratio.
    """

    false_negative: float
    false_positive: float

    @classmethod
    def of(cls, settings: DecisionSettings) -> Self:
        """The costs of the settings."""
        return cls(settings.false_negative_cost, settings.false_positive_cost)

    @property
    def theoretical_threshold(self) -> float:
        """The PD, in (0, 1), at which both errors have the same expected cost (Elkan 2001, equation 2)."""
        return self.false_positive / (self.false_positive + self.false_negative)


@dataclass(frozen=True)
class Decision:
    """The decision rule of a bundle: decline if PD >= threshold, and decline thin applications if `thin.action` is "decline".

    Bundles of earlier releases have no `thin`; then no application is thin.
    """

    threshold: float
    costs: Costs
    thin: ThinRule | None = None

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}; expected a value above 0 and up to 1")

    def is_thin(self, unknown: Numbers) -> Any:
        """Whether an application is thin. `unknown` is the share that serving.thin.unknown_share returns, in [0, 1], or an array of shares."""
        return unknown > (self.thin.limit if self.thin else np.inf)

    def declines(self, pd: Numbers, unknown: Numbers = 0.0) -> Any:
        """Whether to decline an applicant with this PD and this unknown share of the gain; for arrays, an array of booleans."""
        if self.thin and self.thin.action == "decline":
            return (pd >= self.threshold) | self.is_thin(unknown)
        return pd >= self.threshold

    def risk_level(self, pd: float) -> RiskLevel:
        """LOW below half the threshold, MEDIUM below the threshold, HIGH up to twice the threshold, CRITICAL above."""
        if pd >= self.threshold:
            return "HIGH" if pd <= 2 * self.threshold else "CRITICAL"
        return "LOW" if pd < self.threshold / 2 else "MEDIUM"

    @property
    def bands(self) -> list[dict[str, Any]]:
        """The risk levels with their limits on the PD. `below` and `above` exclude the limit; `from` and `to` include it."""
        low, middle, high = self.threshold / 2, self.threshold, 2 * self.threshold
        return [
            {"level": "LOW", "below": low},
            {"level": "MEDIUM", "from": low, "below": middle},
            {"level": "HIGH", "from": middle, "to": high},
            {"level": "CRITICAL", "above": high},
        ]

    def to_dict(self) -> dict[str, Any]:
        """The rule as the bundle stores it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        """Restore a stored rule."""
        thin = ThinRule(**state["thin"]) if state.get("thin") else None
        return cls(threshold=float(state["threshold"]), costs=Costs(**state["costs"]), thin=thin)


class CostCurve(NamedTuple):
    """Cost per client and approval rate at each threshold: three arrays of the same length."""

    threshold: Values
    cost: Values
    approval_rate: Values


def cost_per_client(defaulted: NDArray[Any], pd: Values, threshold: float, costs: Costs) -> float:
    """Mean business cost of declining where PD >= threshold.

    Parameters
    ----------
    defaulted : shape (rows,), 1 or True where the applicant defaulted.
    pd : shape (rows,), in [0, 1].
    """
    return float(_costs(np.asarray(defaulted, dtype=bool), pd, threshold, costs).mean())


def cost_curve(defaulted: NDArray[Any], pd: Values, costs: Costs, steps: int = STEPS) -> CostCurve:
    """Cost per client and approval rate at the thresholds 1/steps, 2/steps, … 1.

    Parameters
    ----------
    defaulted : shape (rows,), 1 or True where the applicant defaulted.
    pd : shape (rows,), in [0, 1].

    Raises
    ------
    ValueError
        There are no rows.
    """
    if not len(pd):
        raise ValueError("no score to choose a threshold from")
    bad, good = approved_counts(defaulted, pd, steps)
    declined_good = np.count_nonzero(np.asarray(defaulted) == 0) - good
    cost = (costs.false_negative * bad + costs.false_positive * declined_good) / len(pd)
    return CostCurve(np.arange(1, steps + 1) / steps, cost, (bad + good) / len(pd))


def approved_counts(defaulted: NDArray[Any], pd: Values, steps: int = STEPS) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """How many who default, and how many who repay, are approved at the thresholds 1/steps, 2/steps, … 1; arrays of shape (steps,)."""
    bad = np.asarray(defaulted, dtype=bool)
    grid = np.arange(1, steps + 1) / steps
    return np.searchsorted(np.sort(pd[bad]), grid, side="left"), np.searchsorted(np.sort(pd[~bad]), grid, side="left")


class Choice(NamedTuple):
    """A threshold and the reason for choosing it.

    Attributes
    ----------
    reason : "theoretical"; "floor" if the theoretical threshold approves too few; "curve" if the lowest cost on the curve is clearly lower.
    least : the threshold with the lowest cost on the curve, among those that approve enough.
    saving : cost per client that such a threshold saves, measured on applicants that were not used to choose it.
    standard_error : of the saving, computed from the differences per applicant.
    """

    threshold: float
    reason: Literal["theoretical", "floor", "curve"]
    least: float
    saving: float
    standard_error: float

    def __str__(self) -> str:
        """One sentence."""
        standing = {
            "theoretical": "the theoretical one",
            "floor": "the lowest that approves enough",
            "curve": "the minimum of the cost curve",
        }
        verdict = "more" if self.reason == "curve" else "not more"
        return (
            f"threshold {self.threshold:.3f}, {standing[self.reason]}: {self.least:.3f}, the minimum of the cost curve, saves "
            f"{self.saving:.4f} ± {self.standard_error:.4f} per client, {verdict} than twice the standard error"
        )


def choose_threshold(defaulted: NDArray[Any], pd: Values, costs: Costs, min_approval_rate: float = 0.0) -> Choice:
    """The theoretical threshold, unless the one with the lowest cost saves more than twice the paired standard error.

    The minimum of a cost curve is partly luck, so each fifth of the applicants tests the threshold that the others choose. If the
    theoretical threshold approves less than `min_approval_rate`, the lowest threshold that approves enough replaces it.

    Parameters
    ----------
    defaulted : shape (rows,), 1 or True where the applicant defaulted; both outcomes must occur.
    pd : shape (rows,), in [0, 1], calibrated, from a model that was not trained on the row.

    Raises
    ------
    ValueError
        All outcomes are the same.
    UserError
        No threshold approves enough applicants.
    """
    bad = np.asarray(defaulted, dtype=bool)
    if bad.all() or not bad.any():
        raise ValueError("all outcomes are the same; expected both to choose a threshold")
    curve = cost_curve(bad, pd, costs)
    most = float(curve.approval_rate.max())
    if most < min_approval_rate:
        raise UserError(
            f"no threshold approves {min_approval_rate:.1%} of the applicants (decision.min_approval_rate); "
            f"the highest approval rate of any threshold is {most:.1%}"
        )
    theoretical = costs.theoretical_threshold
    enough = np.mean(pd < theoretical) >= min_approval_rate
    standing = theoretical if enough else float(curve.threshold[np.argmax(curve.approval_rate >= min_approval_rate)])
    saved, part = np.zeros(len(pd)), np.arange(len(pd)) % PARTS
    for outside in (part == number for number in range(PARTS)):
        least = _least(cost_curve(bad[~outside], pd[~outside], costs), min_approval_rate)
        saved[outside] = _costs(bad[outside], pd[outside], standing, costs) - _costs(bad[outside], pd[outside], least, costs)
    saving, error = float(saved.mean()), float(saved.std(ddof=1) / np.sqrt(len(saved)))
    least = _least(curve, min_approval_rate)
    if saving > CONVINCING * error:
        return Choice(least, "curve", least, saving, error)
    return Choice(standing, "theoretical" if enough else "floor", least, saving, error)


def _least(curve: CostCurve, min_approval_rate: float) -> float:
    """The threshold with the lowest cost among those that approve enough; if none does, among those that approve most."""
    allowed = curve.approval_rate >= min(min_approval_rate, curve.approval_rate[-1])
    return float(curve.threshold[np.argmin(np.where(allowed, curve.cost, np.inf))])


def _costs(bad: NDArray[np.bool_], pd: Values, threshold: float, costs: Costs) -> Values:
    """The cost of each applicant, shape (rows,)."""
    declined = pd >= threshold
    return np.where(bad, costs.false_negative * ~declined, costs.false_positive * declined)
