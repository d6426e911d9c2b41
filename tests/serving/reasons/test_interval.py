from functools import cache

import lightgbm
import numpy as np
import pytest
from scipy import stats

from features.history import Matrix
from serving.bundle import Bundle
from serving.calibration import Calibration
from serving.reasons.interval import LEVEL, STUDENT, Jackknife, packed, unpacked


@cache
def folds() -> tuple[list[lightgbm.Booster], Matrix]:
    random = np.random.default_rng(1)
    matrix = random.normal(size=(600, 3))
    target = random.random(600) < 1 / (1 + np.exp(-matrix[:, 0]))
    options = {"objective": "binary", "num_leaves": 4, "verbosity": -1, "num_threads": 1}
    part = np.arange(600) % 5
    boosters = [lightgbm.train(options, lightgbm.Dataset(matrix[part != one], target[part != one]), num_boost_round=5) for one in range(5)]
    return boosters, matrix


def jackknife(slope: float = 1.0) -> Jackknife:
    return Jackknife([booster.model_to_string() for booster in folds()[0]], Calibration(slope, 0.3))


def test_the_standard_error_is_the_jackknifes_on_calibrated_log_odds() -> None:
    boosters, matrix = folds()
    margins = np.stack([booster.predict(matrix, raw_score=True) for booster in boosters])
    expected = 2 * np.sqrt(0.8 * ((margins - margins.mean(axis=0)) ** 2).sum(axis=0))
    found = jackknife(2.0).standard_errors(matrix)
    assert np.allclose(found, expected, rtol=1e-12)
    assert jackknife(2.0).standard_errors(matrix[7:8]).tobytes() == found[7:8].tobytes()


def test_an_interval_is_symmetric_in_log_odds_and_borderline_within_one_standard_error() -> None:
    found = jackknife().judge(0.1, 0.25, 0.12)
    odds = [np.log(one / (1 - one)) for one in (found.interval.low, 0.1, found.interval.high)]
    assert odds[2] - odds[1] == pytest.approx(odds[1] - odds[0]) == pytest.approx(stats.t.ppf(0.975, 4) * np.sqrt(2) * 0.25, rel=1e-4)
    assert found.borderline
    assert not jackknife().judge(0.1, 0.25, 0.2).borderline
    assert found.interval.level == 0.95


def test_the_quantiles_are_students() -> None:
    assert np.allclose(STUDENT, stats.t.ppf((1 + LEVEL) / 2, np.arange(1, 20)), atol=5e-5)


def test_a_pd_at_the_ends_has_no_width() -> None:
    for end in (0.0, 1.0):
        found = jackknife().judge(end, 0.3, 0.1)
        assert (found.interval.low, found.interval.high, found.borderline) == (end, end, False)
    assert not jackknife().judge(0.9, 0.3, 1.0).borderline


def test_the_models_keep_their_bytes_and_one_is_too_few() -> None:
    models = ["tree\né", "tree"]
    assert unpacked(packed(models)) == models
    assert packed(models) == packed(models)
    with pytest.raises(ValueError, match="from 1 models; expected two or more"):
        Jackknife(models[:1], Calibration(1, 0))


def test_a_trained_bundle_holds_a_model_for_each_fold(bundle: Bundle) -> None:
    assert bundle.reasons is not None
    assert len(bundle.reasons.folds) == bundle.metadata["settings"]["training"]["folds"]
