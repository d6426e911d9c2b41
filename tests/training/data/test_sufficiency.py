import numpy as np
import pytest

from configs.settings import Settings
from features.transform import FeatureTransform
from training.data.errors import DataError
from training.data.sufficiency import check_enough
from training.evaluation import fit_calibration
from training.prepare import Prepared
from training.train import train


def outcomes(applications: int, defaults: int) -> np.ndarray:
    return (np.arange(applications) < defaults).astype(np.int8)


@pytest.mark.parametrize(("applications", "defaults"), [(750, 50), (750, 700), (10_000, 50)])
def test_enough_is_enough(applications: int, defaults: int, settings: Settings) -> None:
    check_enough(outcomes(applications, defaults), settings.training)


@pytest.mark.parametrize(
    ("applications", "defaults", "said"),
    [
        (749, 60, ["749 applications, but 750 are needed: two leaves of 300 (training.lightgbm.min_data_in_leaf) on 4 of 5 folds"]),
        (5000, 49, ["49 defaults, but 50 are needed: 10 in each of 5 folds (training.folds)"]),
        (5000, 4951, ["49 repaid loans, but 50 are needed"]),
        (59, 4, ["59 applications, but 750 are needed", "4 defaults, but 50 are needed"]),
    ],
)
def test_too_little_is_told_with_what_is_needed_before_anything_is_fitted(
    applications: int, defaults: int, said: list[str], settings: Settings
) -> None:
    matrix = np.zeros((applications, 1))
    prepared = Prepared(FeatureTransform(["AMT_CREDIT"]), matrix, matrix, outcomes(applications, defaults), "0", generated=True)

    def fit(*_: object) -> None:
        pytest.fail("something was fitted")

    with pytest.raises(DataError, match="too little to learn from: ") as caught:
        train(prepared, settings, lambda _: None, fit)  # type: ignore[arg-type]
    assert all(part in str(caught.value) for part in said)


@pytest.mark.parametrize("margins", [np.zeros(100), -np.sin(np.arange(100.0) ** 2) - np.arange(100) / 50])
def test_a_model_that_ranks_nothing_is_told_in_a_sentence(margins: np.ndarray) -> None:
    with pytest.raises(DataError, match="does not rank defaults above repaid loans"):
        fit_calibration(margins, (np.arange(100) > 80).astype(np.int8))
