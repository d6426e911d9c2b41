"""A row of a performance report: the figures of one period and model version, realised and estimated."""

from collections.abc import Iterable
from typing import Any

from configs.settings import DecisionSettings
from monitoring.performance.counts import Counts, merge
from monitoring.performance.figures import figures_with_intervals

COMPARABLE = (
    0.9  # least ratio of the share of the declined with an outcome to that of the approved; below it, the declined are not representative
)
CALIBRATION = ("ece", "observed_to_expected")  # an estimate assumes calibrated PDs, so it says nothing of these
OF_ALL, OF_APPROVED, OF_OUTCOMES = "all decisions", "the approved", "all with outcomes"


def performance(counts: Iterable[Counts], costs: DecisionSettings) -> list[dict[str, Any]]:
    """A `row` for each period and model version, then one for each model version over all periods."""
    parts = list(counts)
    versions: dict[str, list[Counts]] = {}
    for part in parts:
        versions.setdefault(part.model_version, []).append(part)
    return [row(part, costs) for part in [*parts, *(merge(group) for group in versions.values())]]


def row(counts: Counts, costs: DecisionSettings) -> dict[str, Any]:
    """The row of some decisions, ready for JSON.

    Returns
    -------
    `period` (its first day, or "all"), `model_version`, `decisions`; `outcomes` (their number, how many defaulted, and the shares of the
    approved and of the declined that have one; None if nobody was); and the figures with their intervals: `estimated` of all decisions,
    `realised` of those whose outcome is known, `expected`, the estimate for just these. The last two are None without outcomes.

    `of` names the people behind a figure: outcomes of the declined count only if about the same share of them is known as of the approved.
    A figure that these applicants do not determine is None. Precision and recall, for example, need outcomes of declined applicants.
    """
    declined = counts.declined
    known = {name: float(counts.outcomes[mask].sum()) for name, mask in (("approved", ~declined), ("declined", declined))}
    total = {name: float(counts.decisions[mask].sum()) for name, mask in (("approved", ~declined), ("declined", declined))}
    estimated = figures_with_intervals(
        counts.pd / counts.decisions, declined, counts.pd, counts.decisions - counts.pd, costs, expected=True
    )
    realised = expected = None
    shares = {name: known[name] / total[name] if total[name] else None for name in known}
    given = [share for share in shares.values() if share is not None]
    alike = min(given) >= COMPARABLE * max(given)
    some = (counts.outcomes > 0) & (alike | ~declined)
    if some.any():
        people, pds, bad = counts.outcomes[some], counts.outcomes_pd[some], counts.defaulted[some]
        of = {"of": OF_OUTCOMES if alike and known["declined"] else OF_APPROVED}
        realised = of | _without(figures_with_intervals(pds / people, declined[some], bad, people - bad, costs), "approval_rate")
        of_these = figures_with_intervals(pds / people, declined[some], pds, people - pds, costs, expected=True)
        expected = of | _without(of_these, "approval_rate", *CALIBRATION)
    return {
        "period": counts.period,
        "model_version": counts.model_version,
        "decisions": int(counts.decisions.sum()),
        "outcomes": {
            "count": int(counts.outcomes.sum()),
            "defaulted": int(counts.defaulted.sum()),
            **shares,
        },
        "estimated": {"of": OF_ALL} | _without(estimated, *CALIBRATION),
        "realised": realised,
        "expected": expected,
    }


def _without(figures: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in figures.items() if name not in names}
