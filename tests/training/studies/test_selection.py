from pathlib import Path

import numpy as np
import pytest

from configs.settings import Settings
from features.application import DOMAIN
from features.pool import chosen_features, feature_pool
from features.schema import read_yaml
from features.transform import FeatureTransform
from training.home_credit.generator import generate
from training.prepare import Prepared
from training.studies import selection
from training.studies.selection import Gain, Selection, Trial, gains, select, write

QUICK = Trial(20, {"learning_rate": 0.3, "num_leaves": 8, "min_data_in_leaf": 20}, range(1))


def ignore(_: str) -> None:
    pass


@pytest.fixture
def prepared() -> Prepared:
    """Six features of 3,000 applicants: two the same, one that tells the outcome, one constant, and noise."""
    rng = np.random.default_rng(0)
    features = FeatureTransform(["EXT_SOURCE_1", "EXT_SOURCE_2", "EXT_SOURCE_3", "AMT_CREDIT", "BUREAU_LOANS", "POS_LOANS"])
    matrix = rng.normal(size=(3000, 6))
    matrix[:, 1] = matrix[:, 0] * 2 + 1
    matrix[:, 3] = 7.0
    matrix[1500:, 4:] = np.nan
    defaulted = (rng.random(3000) < 1 / (1 + np.exp(2 - 2 * matrix[:, 2]))).astype(np.int8)
    return Prepared(features, matrix, matrix, defaulted, "mark", generated=True)


@pytest.mark.model
def test_what_tells_the_outcome_gains_and_what_does_not_gains_nothing(prepared: Prepared) -> None:
    everyone, start = np.arange(3000), np.zeros(3000)
    names = prepared.features.names
    found, margin = gains(prepared, names, everyone, start, QUICK)
    assert max(found, key=lambda name: found[name].mean) == "EXT_SOURCE_3"
    assert found["EXT_SOURCE_3"].mean > 10_000
    assert found["AMT_CREDIT"] == Gain(0, 0)
    assert all(abs(found[name].mean) < 10_000 for name in names if name != "EXT_SOURCE_3")
    assert np.corrcoef(margin, prepared.matrix[:, 2])[0, 1] > 0.8
    assert gains(prepared, names, everyone, start, QUICK)[0] == found


@pytest.mark.model
def test_a_margin_that_is_known_already_leaves_no_gain(prepared: Prepared) -> None:
    everyone = np.arange(3000)
    known = 2 * prepared.matrix[:, 2] - 2
    before, _ = gains(prepared, ["EXT_SOURCE_3"], everyone, np.full(3000, -1.4), QUICK)
    after, _ = gains(prepared, ["EXT_SOURCE_3"], everyone, known, QUICK)
    assert after["EXT_SOURCE_3"].mean < before["EXT_SOURCE_3"].mean / 5


@pytest.mark.model
def test_only_some_applicants_can_be_judged(prepared: Prepared) -> None:
    start = np.full(3000, 0.5)
    _, margin = gains(prepared, ["BUREAU_LOANS", "POS_LOANS"], np.arange(1500), start, QUICK)
    assert (margin[1500:] == 0.5).all()
    assert (margin[:1500] != 0.5).any()


@pytest.mark.model
def test_189_are_chosen_without_near_duplicates_and_the_domain_stays(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "APPLICATION_TRIAL", QUICK)
    monkeypatch.setattr(selection, "HISTORY_TRIAL", QUICK)
    generate(tmp_path / "data", 2000, seed=3)
    chosen = select(tmp_path / "data", settings, ignore)
    assert len(set(chosen.names)) == len(chosen.names) == 189
    assert list(chosen.names) == [name for name in feature_pool() if name in chosen.names]
    assert set(DOMAIN) <= set(chosen.names)
    assert not {"DAYS_BIRTH", "DAYS_EMPLOYED"} & set(chosen.names)  # the domain features say the same
    assert select(tmp_path / "data", settings, ignore) == chosen
    write(chosen, tmp_path / "features.yaml")
    assert [entry["name"] for entry in read_yaml(tmp_path / "features.yaml")["features"]] == list(chosen.names)
    assert all(line.count("|") == 5 for line in chosen.table.splitlines())


def test_the_written_list_has_unit_and_source(tmp_path: Path) -> None:
    write(Selection(chosen_features()[:3], {}, ""), tmp_path / "features.yaml")
    entries = read_yaml(tmp_path / "features.yaml")["features"]
    assert [tuple(entry.values()) for entry in entries] == [tuple(feature_pool()[name]) for name in chosen_features()[:3]]
