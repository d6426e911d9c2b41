from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from configs.errors import UserError
from configs.settings import Settings
from features.application import EXPECTED
from features.applications import Applications
from features.pool import chosen_features
from serving.scorer import Scorer
from training import constraints
from training.home_credit.generator import Generator, generate
from training.prepare import prepare
from training.train import train


def say(_: str) -> None:
    pass


def test_constraints_are_in_the_order_of_the_features() -> None:
    assert constraints.constraints(["AMT_CREDIT", "EXT_SOURCE_2", "REGION_RATING_CLIENT"]) == [0, -1, 1]
    assert constraints.constraints([]) == []


def test_all_that_is_constrained_is_among_the_features_of_new_models() -> None:
    assert set(constraints.directions()) <= set(chosen_features())


def test_what_is_computed_from_a_falling_feature_falls_too() -> None:
    external = {name for name in chosen_features() if name.startswith("EXT_SOURCE") and name not in EXPECTED}
    assert {name for name, sign in constraints.directions().items() if sign < 0} == external


RULE = {"direction": "rising", "reason": "plain", "features": ["AMT_CREDIT"]}


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ([{**RULE, "direction": "up"}], "none of rising, falling"),
        ([{**RULE, "reason": ""}], "without a reason"),
        ([{**RULE, "features": ["AMT_CREDITS"]}], "names AMT_CREDITS; expected features"),
        ([RULE, RULE], "names AMT_CREDIT; expected features that can be computed, each once"),
    ],
)
def test_a_wrong_rule_is_named(rules: list[dict[str, Any]], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "monotone.yaml"
    file.write_text(yaml.safe_dump({"rules": rules}))
    monkeypatch.setattr(constraints, "RULES", file)
    with pytest.raises(UserError, match=said):
        constraints.directions.__wrapped__()


@pytest.mark.model
def test_a_constrained_model_never_raises_the_pd_with_an_external_score(settings: Settings, tmp_path: Path) -> None:
    generate(tmp_path / "data", 3000, seed=3)
    frame = next(Generator.from_file().draw(300, seed=4))
    scores = np.linspace(0.01, 0.9, 30)

    def rises(monotone: bool) -> float:
        options = settings.model_copy(update={"training": settings.training.model_copy(update={"monotone": monotone})})
        scorer = Scorer(train(prepare(tmp_path / "data", options, say), options, say).bundle)
        pds = np.array([scorer.score(Applications.from_columns(frame.assign(EXT_SOURCE_3=score))) for score in scores])
        return float(np.mean(np.diff(pds, axis=0) > 0))

    assert rises(monotone=True) == 0
    assert rises(monotone=False) > 0
