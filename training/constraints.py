"""Features that may move the PD in one direction only, from configs/monotone.yaml."""

from collections.abc import Sequence
from functools import cache

from configs.errors import UserError
from configs.settings import CONFIGS
from features.pool import feature_pool
from features.schema import read_yaml

RULES = CONFIGS / "monotone.yaml"
SIGNS = {"rising": 1, "falling": -1}


@cache
def directions() -> dict[str, int]:
    """1 for a feature with which the PD may only rise, -1 for one with which it may only fall, by name.

    Raises
    ------
    UserError
        The file names a feature that cannot be computed or names one twice, or gives no reason or another direction.
    """
    found: dict[str, int] = {}
    for rule in read_yaml(RULES)["rules"]:
        if rule.get("direction") not in SIGNS or not rule.get("reason"):
            raise UserError(f"{RULES} has a rule without a reason, or with a direction that is none of {', '.join(SIGNS)}: {rule}")
        for name in rule["features"]:
            if name not in feature_pool() or name in found:
                raise UserError(f"{RULES} names {name}; expected features that can be computed, each once")
            found[name] = SIGNS[rule["direction"]]
    return found


def constraints(names: Sequence[str]) -> list[int]:
    """The direction of each feature in order, as LightGBM expects it; 0 for none."""
    return [directions().get(name, 0) for name in names]
