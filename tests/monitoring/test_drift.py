import numpy as np
import pytest

from monitoring.drift import reference


def test_shares_of_deciles_and_missing_add_up_to_one() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(size=900), np.full(100, np.nan)])
    entry = reference(values.reshape(-1, 1), ["x"])["x"]
    assert len(entry["edges"]) == 9
    np.testing.assert_allclose(entry["shares"], 0.09, atol=0.002)
    assert entry["missing"] == 0.1
    assert sum(entry["shares"]) + entry["missing"] == pytest.approx(1)


@pytest.mark.parametrize("values", [[np.nan, np.nan], [3.0, 3.0], [1.0]])
def test_degenerate_columns_have_bins_too(values: list[float]) -> None:
    entry = reference(np.array(values).reshape(-1, 1), ["x"])["x"]
    assert len(entry["shares"]) == len(entry["edges"]) + 1
    assert sum(entry["shares"]) + entry["missing"] == pytest.approx(1)


def test_a_category_column_has_a_share_for_each_code() -> None:
    entry = reference(np.array([[0.0], [0.0], [2.0], [np.nan]]), ["c"], categories=[0])["c"]
    assert entry == {"codes": [0.0, 2.0], "shares": [0.5, 0.25], "missing": 0.25}


def test_no_rows_give_no_reference() -> None:
    with pytest.raises(ValueError, match="no row"):
        reference(np.empty((0, 1)), ["x"])
