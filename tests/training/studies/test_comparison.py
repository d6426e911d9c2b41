import numpy as np
import pytest

from configs.settings import Settings
from training.fitting import folds_of
from training.prepare import Prepared
from training.studies import comparison
from training.studies.comparison import WeightOfEvidence, compare, comparison_plot, comparison_table, judge, paired

pytestmark = pytest.mark.slow


def ignore(_: str) -> None:
    pass


def test_a_weight_is_the_log_odds_of_the_bin_less_those_of_all() -> None:
    matrix = np.array([[0.0], [1.0], [np.nan]]).repeat(1000, axis=0)
    defaulted = np.concatenate([np.arange(1000) < bad for bad in (50, 200, 100)]).astype(np.int8)
    weights = WeightOfEvidence([0]).fit(matrix, defaulted)
    low, high, missing = weights.transform(np.array([[0.0], [1.0], [np.nan]]))[:, 0]
    rate = defaulted.mean()
    assert low < missing < high
    assert high == pytest.approx(np.log((200 + 20 * rate) / (820 - 20 * rate)) - np.log(rate / (1 - rate)))
    assert weights.transform(np.array([[7.0]]))[0, 0] == 0


def test_a_feature_that_is_never_known_has_no_weight() -> None:
    matrix, defaulted = np.full((40, 2), np.nan), np.arange(40) % 4 == 0
    assert np.allclose(WeightOfEvidence([1]).fit(matrix, defaulted.astype(np.int8)).transform(matrix), 0)


def test_numbers_fall_into_bins_of_equal_mass() -> None:
    values = np.arange(1000.0).reshape(-1, 1)
    weights = WeightOfEvidence([]).fit(values, (values[:, 0] < 200).astype(np.int8))
    transformed = weights.transform(values)[:, 0]
    assert len(np.unique(transformed)) <= 10
    assert transformed[0] > 2
    assert transformed[-1] < 0


@pytest.mark.model
def test_models_are_judged_on_the_same_folds_and_one_table_and_plot_tell_it(
    prepared: Prepared, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "TREES", 20)
    said: list[str] = []
    results = compare(prepared, settings, said.append)
    assert [result.name for result in results] == ["dummy", *comparison.MODELS]
    assert len(said) == 3
    dummy, *others = results
    assert np.allclose(dummy.auc, 0.5)
    assert all(result.auc.mean() > 0.6 and len(result.cost) == settings.training.folds for result in others)
    lines = comparison_table(results).splitlines()
    assert len(lines) == 6
    assert all(line.count("|") == 8 for line in lines)
    assert "±" in lines[2].split("|")[5]
    assert len(comparison_plot(results).axes) == 2


def test_differences_are_taken_fold_by_fold() -> None:
    assert paired(np.array([0.7, 0.8]), np.array([0.6, 0.7])) == pytest.approx((0.1, 0))
    assert paired(np.array([0.7, 0.8]), np.array([0.7, 0.6])) == pytest.approx((0.1, 0.1))


def test_a_perfect_model_costs_nothing(prepared: Prepared, settings: Settings) -> None:
    y = prepared.defaulted
    perfect = judge("perfect", np.where(y == 1, 0.99, 0.01), y, folds_of(prepared, settings), settings, 0.0)
    assert perfect.auc.tolist() == [1] * 5
    assert perfect.cost.tolist() == [0] * 5
