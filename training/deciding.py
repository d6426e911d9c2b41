"""Gives a model another decision rule without training: the same PDs, another threshold or other costs."""

from dataclasses import replace
from typing import Any

import numpy as np

from configs.errors import UserError
from serving.bundle import Bundle
from serving.decision import Costs


class DecidingError(UserError):
    """The rule cannot be given to the model; the message says why."""


def read_costs(text: str) -> Costs:
    """Costs from text such as "5:1": approving an applicant who defaults, and declining one who repays.

    Raises
    ------
    DecidingError
        The text is not two positive numbers with a colon between.
    """
    try:
        bad, good = (float(part) for part in text.split(":"))
    except ValueError:
        bad = good = 0.0
    if not (0 < bad < np.inf and 0 < good < np.inf):
        raise DecidingError(
            f"--costs is {text!r}; expected two positive numbers such as 5:1, the costs of approving an applicant who defaults "
            "and of declining one who repays"
        )
    return Costs(bad, good)


def decide(bundle: Bundle, costs: Costs | None, threshold: float | None) -> Bundle:
    """The bundle with another rule: other costs and the theoretical threshold that follows from them, or the given threshold.

    The metrics that depend on the rule come from the out-of-fold counts in the bundle, interpolated between two of their thresholds, so they
    have no intervals. The others stay.

    Raises
    ------
    DecidingError
        The rule is that of the bundle already, it approves or declines everybody, or an earlier release trained the model.
    """
    was = bundle.decision
    costs = costs or was.costs
    threshold = costs.theoretical_threshold if threshold is None else threshold
    if not 0 < threshold < 1:
        raise DecidingError(f"--threshold is {threshold}; expected a PD between 0 and 1")
    if (threshold, costs) == (was.threshold, was.costs):
        raise DecidingError(f"{bundle.version} has the threshold {threshold:.4f} and these costs already")
    metadata = bundle.metadata
    if "approved" not in metadata:
        raise DecidingError(
            f"an earlier release trained {bundle.version} and kept no counts by threshold; train again, with the costs as settings"
        )
    settings = metadata["settings"]
    rule = {"false_negative_cost": costs.false_negative, "false_positive_cost": costs.false_positive}
    return replace(
        bundle,
        decision=replace(was, threshold=threshold, costs=costs),
        metadata={
            **{name: value for name, value in metadata.items() if name != "thresholds"},
            "decided_from": bundle.version,
            "metrics": metadata["metrics"] | {name: {"value": value} for name, value in _metrics(metadata, threshold, costs).items()},
            "threshold": {"threshold": threshold, "reason": "theoretical" if threshold == costs.theoretical_threshold else "given"},
            "settings": {**settings, "decision": {**settings.get("decision", {}), **rule}},
        },
    )


def _metrics(metadata: dict[str, Any], threshold: float, costs: Costs) -> dict[str, float]:
    """The metrics that depend on the rule."""
    counts = metadata["approved"]
    grid = np.arange(len(counts["repaid"]) + 1) / len(counts["repaid"])
    bad, good = (float(np.interp(threshold, grid, [0, *counts[name]])) for name in ("defaulted", "repaid"))
    total = metadata["data"]["applications"]
    all_bad = round(total * metadata["data"]["default_rate"])
    declined_bad, declined_good = all_bad - bad, total - all_bad - good
    if not bad + good or not declined_bad + declined_good:
        raise DecidingError(
            f"the threshold {threshold:.4f} {'approves' if bad + good else 'declines'} every applicant of the training data"
        )
    return {
        "cost_per_client": (costs.false_negative * bad + costs.false_positive * declined_good) / total,
        "precision": declined_bad / (declined_bad + declined_good),
        "recall": declined_bad / all_bad,
        "approval_rate": (bad + good) / total,
    }
