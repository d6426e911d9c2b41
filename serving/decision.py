"""From a calibrated PD to a decision at the threshold that costs the business least."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from configs.settings import DecisionSettings
from serving.thin import ThinRule

RiskLevel = Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"]
Values = NDArray[np.float64]
Numbers = float | Values


@dataclass(frozen=True)
class Costs:
    """Cost of approving an applicant who defaults (false negative) and of declining one who would not."""

    false_negative: float
    false_positive: float

    @classmethod
    def of(cls, settings: DecisionSettings) -> Self:
        """Those of the settings."""
        return cls(settings.false_negative_cost, settings.false_positive_cost)

    @property
    def theoretical_threshold(self) -> float:
        """The PD at which both errors cost the same in expectation (Elkan 2001, equation 2)."""
        return self.false_positive / (self.false_positive + self.false_negative)


@dataclass(frozen=True)
class Decision:
    """The decision rule that travels with the model: decline where PD >= threshold, and thin applications where `thin` says so.

    Without `thin`, as in models of earlier releases, no application is thin.
    """

    threshold: float
    costs: Costs
    thin: ThinRule | None = None

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}; expected a value above 0 and up to 1")

    def is_thin(self, unknown: Numbers) -> Any:
        """Whether too little is known of an applicant, or of each: `unknown` is a share, or shares, of serving.thin.unknown_share."""
        return unknown > (self.thin.limit if self.thin else np.inf)

    def declines(self, pd: Numbers, unknown: Numbers = 0.0) -> Any:
        """Whether an applicant with this PD and this share of the gain not known is declined, or each of many."""
        if self.thin and self.thin.action == "decline":
            return (pd >= self.threshold) | self.is_thin(unknown)
        return pd >= self.threshold

    def risk_level(self, pd: float) -> RiskLevel:
        """LOW below half the threshold, MEDIUM up to it, HIGH up to twice it, CRITICAL above."""
        if pd >= self.threshold:
            return "HIGH" if pd <= 2 * self.threshold else "CRITICAL"
        return "LOW" if pd < self.threshold / 2 else "MEDIUM"

    @property
    def bands(self) -> list[dict[str, Any]]:
        """The risk levels with their limits on the PD."""
        low, middle, high = self.threshold / 2, self.threshold, 2 * self.threshold
        return [
            {"level": "LOW", "below": low},
            {"level": "MEDIUM", "from": low, "below": middle},
            {"level": "HIGH", "from": middle, "to": high},
            {"level": "CRITICAL", "above": high},
        ]

    def to_dict(self) -> dict[str, Any]:
        """The rule as it is stored."""
        return asdict(self)

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        """Restore a stored rule."""
        thin = ThinRule(**state["thin"]) if state.get("thin") else None
        return cls(threshold=float(state["threshold"]), costs=Costs(**state["costs"]), thin=thin)


class CostCurve(NamedTuple):
    """Cost per client and approval rate at each threshold; three arrays of one length."""

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
    declined = pd >= threshold
    bad = np.asarray(defaulted, dtype=bool)
    return float(costs.false_negative * np.mean(bad & ~declined) + costs.false_positive * np.mean(~bad & declined))


def cost_curve(defaulted: NDArray[Any], pd: Values, costs: Costs, steps: int = 1000) -> CostCurve:
    """The cost at thresholds 1/steps, 2/steps, ... 1.

    Raises
    ------
    ValueError
        There is no row.
    """
    if not len(pd):
        raise ValueError("no score to choose a threshold from")
    bad = np.asarray(defaulted, dtype=bool)
    grid = np.arange(1, steps + 1) / steps
    approved_bad = np.searchsorted(np.sort(pd[bad]), grid, side="left")
    approved_good = np.searchsorted(np.sort(pd[~bad]), grid, side="left")
    declined_good = np.count_nonzero(~bad) - approved_good
    cost = (costs.false_negative * approved_bad + costs.false_positive * declined_good) / len(pd)
    return CostCurve(grid, cost, (approved_bad + approved_good) / len(pd))


def choose_threshold(curve: CostCurve, min_approval_rate: float = 0.0) -> float:
    """The threshold of least cost among those that approve at least `min_approval_rate` of the applicants.

    Raises
    ------
    ValueError
        No threshold approves that many.
    """
    allowed = curve.approval_rate >= min_approval_rate
    if not allowed.any():
        raise ValueError(
            f"no threshold approves {min_approval_rate:.1%} of the applicants; "
            f"the most that one approves is {curve.approval_rate.max():.1%}"
        )
    return float(curve.threshold[np.argmin(np.where(allowed, curve.cost, np.inf))])
