from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from configs.settings import Settings
from features.transform import FeatureTransform
from training.data.errors import DataError
from training.data.sufficiency import check_enough, check_history
from training.evaluation import fit_calibration
from training.home_credit.generator import Generator, generate
from training.prepare import Prepared
from training.studies import fidelity
from training.studies.selection import select
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


@pytest.mark.parametrize(
    ("applicants", "defaults", "said"),
    [
        (0, 0, None),
        (1000, 50, None),
        (1000, 49, "among the 1,000 applicants whose history is known: 49 defaults, but 50 are needed: 10 in each of 5 folds; leave"),
        (1, 1, "1 defaults, but 50 are needed: 10 in each of 5 folds; 0 repaid loans, but 50 are needed"),
    ],
)
def test_too_little_history_is_told_with_what_is_needed(applicants: int, defaults: int, said: str | None) -> None:
    if said is None:
        check_history(outcomes(applicants, defaults), 5)
    else:
        with pytest.raises(DataError, match=said):
            check_history(outcomes(applicants, defaults), 5)


def test_features_are_selected_and_data_compared_only_where_there_is_enough(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = next(Generator.from_file().draw(100, seed=3))
    frame.to_parquet(tmp_path / "application_train.parquet")
    monkeypatch.setattr(fidelity, "generate", lambda *_, **__: pytest.fail("something was generated"))
    for run in (
        lambda: select(tmp_path, settings, lambda _: None),
        lambda: fidelity.compare(tmp_path, tmp_path, settings, 0, lambda _: None),
    ):
        with pytest.raises(DataError, match="too little to learn from: 100 applications"):
            run()
    with pytest.raises(DataError, match="no labelled applicant has a known history"):
        fidelity.compare_gain(tmp_path, settings, 0, lambda _: None)


@pytest.mark.slow
def test_a_history_table_without_rows_is_not_compared(tmp_path: Path) -> None:
    generate(tmp_path, 20, seed=1)
    empty = pd.read_parquet(tmp_path / "bureau_balance.parquet")[:0]
    empty.to_parquet(tmp_path / "bureau_balance.parquet")
    with pytest.raises(DataError, match=f"^{tmp_path}: bureau_balance has no rows to compare; give more applications"):
        fidelity.compare_history(tmp_path, 20, 0, lambda _: None)
