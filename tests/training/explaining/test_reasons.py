from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from small import small_training

from serving.reasons.concepts import Reasons
from training.explaining.reason_map import ReasonMapError
from training.explaining.reasons import FEWEST, OFFERS, make_reasons, near_threshold

PD = np.linspace(0.001, 0.2, 400)


def made(said: list[str]) -> Reasons:
    """The reasons of a small model of three features, judged on invented applicants."""
    bundle = small_training().bundle
    matrix = np.random.default_rng(1).integers(0, 5, (len(PD), 3)).astype(float)
    return make_reasons(bundle.model, bundle.features, bundle.calibration, said.append, matrix=matrix, pd=PD, threshold=0.1)


def test_the_baseline_is_who_was_approved_at_or_slightly_better_than_the_threshold() -> None:
    pd = np.concatenate([np.full(200, 0.0751), np.full(150, 0.0999), [0.0749, 0.1, 0.3]])
    assert near_threshold(pd, 0.1).tolist() == list(range(350))


def test_a_small_baseline_is_filled_with_the_approved_ones_nearest_to_the_threshold() -> None:
    near = near_threshold(PD, 0.1)
    assert len(near) == FEWEST
    assert PD[near].max() < 0.1
    assert set(np.flatnonzero((PD >= 0.075) & (PD < 0.1))) <= set(near.tolist())


def test_where_nobody_was_approved_the_baseline_is_who_came_nearest() -> None:
    pd = np.linspace(0.2, 0.9, 400)
    assert near_threshold(pd, 0.1).tolist() == list(range(FEWEST))


def test_the_reasons_of_a_model_say_whom_they_compare_with() -> None:
    said: list[str] = []
    reasons = made(said)
    assert reasons.table is not None
    assert (reasons.baseline.kind, reasons.baseline.applicants) == ("near_threshold", FEWEST)
    assert reasons.baseline.low < reasons.baseline.high <= 0.1
    assert reasons.describe()["baseline"] == reasons.baseline._asdict()
    assert said[-1].startswith(f"reasons: {len(reasons.concepts)} concepts, compared with {FEWEST} applicants")


def test_trees_that_are_too_large_for_a_table_are_compared_with_the_training_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.explaining.table.MOST_SPLITS", 1)
    said: list[str] = []
    reasons = made(said)
    assert reasons.table is None
    assert (reasons.baseline.kind, reasons.baseline.applicants) == ("training", len(PD))
    assert said[0].startswith("warning: a tree has ")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ladder": {"scales": ["AMT_GOODS_PRICE"], "shares": [1.0]}}, "no words for AMT_GOODS_PRICE in en, AMT_GOODS_PRICE in fr"),
        ({"margin": 2}, "margin 2.0"),
    ],
)
def test_offers_without_words_or_sense_stop_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], said: str
) -> None:
    file = tmp_path / "offers.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(OFFERS.read_text()) | change))
    monkeypatch.setattr("training.explaining.reasons.OFFERS", file)
    with pytest.raises(ReasonMapError, match=said):
        made([])
