import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from serving.decision import Costs
from training.evaluation import (
    bootstrap_intervals,
    calibration_table,
    expected_calibration_error,
    fit_calibration,
    kolmogorov_smirnov,
    metrics,
)

COSTS = Costs(10, 1)


@pytest.fixture(scope="module")
def scored() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    pd = random.beta(1, 11, 50_000)
    return (random.random(len(pd)) < pd).astype(np.int8), pd


def test_calibrated_pds_have_a_small_ece_and_others_a_large_one(scored: tuple[np.ndarray, np.ndarray]) -> None:
    y, pd = scored
    assert expected_calibration_error(y, pd) < 0.005
    assert expected_calibration_error(y, pd / 2) == pytest.approx(y.mean() / 2, abs=0.01)


def test_calibration_recovers_a_known_distortion(scored: tuple[np.ndarray, np.ndarray]) -> None:
    y, pd = scored
    margin = (np.log(pd / (1 - pd)) + 1) * 2
    calibration = fit_calibration(margin, y)
    assert calibration.slope == pytest.approx(0.5, abs=0.02)
    assert calibration.intercept == pytest.approx(-1, abs=0.08)


def test_bins_of_the_calibration_table_have_equal_mass(scored: tuple[np.ndarray, np.ndarray]) -> None:
    table = calibration_table(*scored)
    assert len(table) == 10
    assert sum(row["share"] for row in table) == pytest.approx(1)
    assert [row["pd"] for row in table] == sorted(row["pd"] for row in table)
    assert len(calibration_table(np.array([0, 1], dtype=np.int8), np.array([0.1, 0.2]))) == 2


def test_kolmogorov_smirnov_at_its_limits() -> None:
    y = np.array([0, 0, 1, 1], dtype=np.int8)
    assert kolmogorov_smirnov(y, np.array([0.1, 0.2, 0.3, 0.4])) == 1
    assert kolmogorov_smirnov(y, np.array([0.5, 0.5, 0.5, 0.5])) == 0


def test_metrics_of_a_small_case() -> None:
    y, pd = np.array([0, 0, 1, 1], dtype=np.int8), np.array([0.01, 0.2, 0.05, 0.5])
    result = metrics(y, pd, 0.1, COSTS)
    assert result["roc_auc"] == roc_auc_score(y, pd) == 0.75
    assert result["gini"] == 0.5
    assert (result["precision"], result["recall"], result["approval_rate"]) == (0.5, 0.5, 0.5)
    assert result["cost_per_client"] == 11 / 4


def test_precision_of_nobody_declined_is_not_known() -> None:
    assert np.isnan(metrics(np.array([0, 1], dtype=np.int8), np.array([0.1, 0.2]), 0.9, COSTS)["precision"])


def test_intervals_hold_the_value_and_repeat(scored: tuple[np.ndarray, np.ndarray]) -> None:
    y, pd = scored[0][:3000], scored[1][:3000]

    def compute(rows: np.ndarray) -> dict[str, float]:
        return {"auc": float(roc_auc_score(y[rows], pd[rows]))}

    first = bootstrap_intervals(compute, y, samples=50, seed=1)
    assert first["auc"]["low"] < first["auc"]["value"] < first["auc"]["high"]
    assert first == bootstrap_intervals(compute, y, samples=50, seed=1)
