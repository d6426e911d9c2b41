import json
from pathlib import Path

import numpy as np
import pytest

from configs.settings import Settings, load_settings
from features.schema import Table
from training.data.errors import DataError
from training.data.leakage import category_auc, number_auc, refusal, suspect_features, suspects
from training.home_credit.generator import Generator
from training.prepare import prepare

pytestmark = pytest.mark.slow

RANDOM = np.random.default_rng(0)
DEFAULTED = (RANDOM.random(2000) < 0.1).astype(np.int8)
NOISE = RANDOM.normal(size=2000)


def ignore(_: str) -> None:
    pass


def masked(missing: np.ndarray) -> np.ndarray:
    return np.where(missing, np.nan, NOISE)


@pytest.mark.parametrize(
    ("values", "auc"),
    [
        (DEFAULTED.astype(float), 1.0),
        (-3.0 * DEFAULTED, 1.0),
        (masked(DEFAULTED == 1), 1.0),  # filled in only where it was repaid
        (masked(DEFAULTED == 0), 1.0),
        (np.where(NOISE > 1.5, np.nan, DEFAULTED), 0.97),
        (np.ones(2000), 0.5),
        (np.full(2000, np.nan), 0.5),
        (NOISE, 0.5),
    ],
)
def test_the_auc_of_a_number_counts_both_directions_and_what_is_missing(values: np.ndarray, auc: float) -> None:
    assert number_auc(values, DEFAULTED) == pytest.approx(auc, abs=0.04)


def test_the_auc_of_a_number_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import roc_auc_score

    values = np.round(NOISE + DEFAULTED, 1)
    assert number_auc(values, DEFAULTED) == pytest.approx(roc_auc_score(DEFAULTED, values))
    assert number_auc(-values, DEFAULTED) == pytest.approx(roc_auc_score(DEFAULTED, values))


def test_the_auc_of_categories_is_judged_on_other_rows() -> None:
    paid = np.where(DEFAULTED == 1, 7, np.arange(2000) % 5)
    assert category_auc(paid, DEFAULTED) == pytest.approx(1)
    assert category_auc(np.where(DEFAULTED == 1, -1, 0), DEFAULTED) == pytest.approx(1)
    assert category_auc(np.arange(2000), DEFAULTED) < 0.6  # a name of one's own tells nothing of others
    assert category_auc(np.arange(2000) % 40, DEFAULTED) < 0.6


def test_a_refusal_names_the_columns_and_how_to_allow_them() -> None:
    assert refusal({}, []) is None
    assert refusal({"A": 0.99}, ["A"]) is None
    said = refusal({"A": 0.99, "B": 1.0}, ["C", "A"])
    assert said is not None
    assert said.startswith("a column gives the outcome away: B (ROC-AUC 1.000); the limit is 0.95.")
    assert said.endswith('CREDIT_TRAINING__ALLOWED_COLUMNS=\'["C", "A", "B"]\'')


@pytest.mark.parametrize(
    ("column", "of"),
    [
        ("AMT_GOODS_PRICE", lambda target: 40_000 + target * 1000.0),
        ("OBS_30_CNT_SOCIAL_CIRCLE", lambda target: np.where(target == 1, np.nan, 2.0)),
        ("NAME_INCOME_TYPE", lambda target: np.where(target == 1, "Working", "Pensioner")),
    ],
)
def test_a_run_stops_at_the_target_among_the_columns_unless_it_is_allowed(
    column: str, of: object, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = next(Generator.from_file().draw(400, seed=3))
    frame[column] = of(frame["TARGET"].to_numpy())  # type: ignore[operator]
    frame.to_parquet(tmp_path / "application_train.parquet")
    for _ in range(2):  # the second time from the cache
        with pytest.raises(DataError, match=rf"gives? the outcome away: .*{column} \(ROC-AUC (1\.0|0\.9)") as caught:
            prepare(tmp_path, settings, ignore)
    allowed = str(caught.value).rpartition("=")[2].strip("'")
    assert column in json.loads(allowed)
    monkeypatch.setenv("CREDIT_TRAINING__ALLOWED_COLUMNS", allowed)
    assert len(prepare(tmp_path, load_settings(), ignore).defaulted) == 400


def test_no_column_of_ordinary_applications_is_suspect() -> None:
    generator = Generator.from_file()
    frame = next(generator.draw(2000, seed=4))
    assert suspects(frame, generator.table, frame["TARGET"].to_numpy(dtype=np.int8)) == {}


@pytest.mark.parametrize("defaults", [9, 10, 390, 391])
def test_a_column_is_judged_by_ten_of_each_outcome_or_more(defaults: int, table: Table) -> None:
    frame = next(Generator.from_file().draw(400, seed=3))
    target = (np.arange(400) < defaults).astype(np.int8)
    frame["AMT_GOODS_PRICE"] = target * 1000.0
    judged = 10 <= defaults <= 390
    assert ("AMT_GOODS_PRICE" in suspects(frame, table, target)) == judged
    assert ("x" in suspect_features(frame[["AMT_GOODS_PRICE"]].to_numpy(), ["x"], [], target)) == judged
