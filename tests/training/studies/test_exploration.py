from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from training.data.errors import DataError
from training.home_credit.generator import generate
from training.studies import exploration
from training.studies.exploration import binned, explore, information_value, stability

pytestmark = pytest.mark.slow


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots of a few columns only: drawing takes most of the time."""
    monkeypatch.setattr(exploration, "SHOWN", 3)


@pytest.mark.usefixtures("few")
def test_the_report_is_one_page_without_other_files(tmp_path: Path) -> None:
    generate(tmp_path, 1200, seed=3, history=False)
    page = explore(tmp_path)
    for part in ("Target", "Missing values", "Distributions by outcome", "Correlations", "Outliers", "Stability between train and test"):
        assert f"<h2>{part}</h2>" in page
    assert "generated data" in page
    assert page.count("data:image/png;base64,") == 2
    assert 'src="http' not in page
    assert "<script" not in page
    (tmp_path / "application_test.parquet").unlink()
    assert "Stability" not in explore(tmp_path)


@pytest.mark.usefixtures("few")
def test_odd_columns_do_not_break_it(tmp_path: Path) -> None:
    generate(tmp_path, 200, seed=3, history=False)
    path = tmp_path / "application_train.parquet"
    frame = pd.read_parquet(path)
    frame.assign(AMT_CREDIT=np.nan, AMT_ANNUITY=5.0, NAME_HOUSING_TYPE="<b>new</b>", OCCUPATION_TYPE=None).to_parquet(path)
    page = explore(tmp_path)
    assert "<b>new</b>" not in page


def test_without_the_tables_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no application_train\.parquet"):
        explore(tmp_path)


def test_information_value_is_nothing_without_and_much_with_separation() -> None:
    target = pd.Series(np.arange(2000) % 2)
    noise = pd.Series(np.random.default_rng(0).standard_normal(2000))
    assert information_value(noise, target) < 0.05
    assert information_value(target * 1.0, target) > 3
    assert information_value(pd.Series(np.where(target == 1, np.nan, 1.0)), target) > 3
    assert information_value(pd.Series(np.where(target == 1, "a", "b")), target) > 3


def test_stability_sees_shifts_new_categories_and_missing_values() -> None:
    values = pd.Series(np.random.default_rng(0).standard_normal(5000))
    assert stability(values, values) == 0
    assert stability(values, values + 1) > 0.25
    assert stability(values, values.mask(values.index % 3 == 0)) > 0.25
    texts = pd.Series(["a", "b"] * 500)
    assert stability(texts, pd.Series(["a", "c"] * 500)) > 0.25


def test_bins_of_nothing_and_of_one_value() -> None:
    assert set(binned(pd.Series([np.nan, np.nan]))) == {"missing"}
    assert binned(pd.Series([4.0, 4.0])).nunique() == 1
    assert binned(pd.Series(["x", None])).tolist() == ["x", "missing"]
