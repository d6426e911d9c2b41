import math

import numpy as np
import pytest

from monitoring.drift.psi import FALSE_ALARM, WARNING, Matrix, Reference, band, reference

NORMAL = np.random.default_rng(0).normal(size=(20_000, 3))


def psi(sample: Matrix, base: Matrix, categories: tuple[int, ...] = ()) -> list[float]:
    names = [str(position) for position in range(base.shape[1])]
    compiled = Reference(reference(base, names, categories), len(base))
    result: list[float] = compiled.measure(compiled.count(sample)).psi.tolist()
    return result


def column(*values: float) -> Matrix:
    return np.array(values, dtype=float).reshape(-1, 1)


def test_shares_of_deciles_and_missing_add_up_to_one() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(size=900), np.full(100, np.nan)])
    entry = reference(values.reshape(-1, 1), ["x"])["x"]
    assert len(entry["edges"]) == 9
    np.testing.assert_allclose(entry["shares"], 0.09, atol=0.002)
    assert entry["missing"] == 0.1
    assert sum(entry["shares"]) + entry["missing"] == pytest.approx(1)


def test_the_frozen_quantiles_hold_the_edges_and_no_extreme() -> None:
    entry = reference(NORMAL, ["a", "b", "c"])["a"]
    assert len(entry["quantiles"]) == 101
    assert set(entry["edges"]) < set(entry["quantiles"])
    assert NORMAL[:, 0].min() < entry["quantiles"][0] < entry["quantiles"][-1] < NORMAL[:, 0].max()


@pytest.mark.parametrize("values", [[np.nan, np.nan], [3.0, 3.0], [1.0]])
def test_degenerate_columns_have_bins_too(values: list[float]) -> None:
    entry = reference(np.array(values).reshape(-1, 1), ["x"])["x"]
    assert len(entry["shares"]) == len(entry["edges"]) + 1
    assert sum(entry["shares"]) + entry["missing"] == pytest.approx(1)


def test_a_category_column_has_a_share_for_each_code() -> None:
    entry = reference(np.array([[0.0], [0.0], [2.0], [np.nan]]), ["c"], categories=[0])["c"]
    assert entry == {"codes": [0.0, 2.0], "shares": [0.5, 0.25], "missing": 0.25}


def test_no_rows_give_no_reference_and_no_measurement() -> None:
    with pytest.raises(ValueError, match="no row"):
        reference(np.empty((0, 1)), ["x"])
    with pytest.raises(ValueError, match="no row"):
        psi(np.empty((0, 3)), NORMAL)


def test_the_sample_itself_has_a_psi_of_zero() -> None:
    matrix = NORMAL.copy()
    matrix[::3, 1] = np.nan
    matrix[:, 2] = np.arange(len(matrix)) % 7
    assert psi(matrix, matrix, (2,)) == pytest.approx([0, 0, 0], abs=1e-12)


def test_the_psi_follows_its_formula() -> None:
    base = column(*range(100), *[math.nan] * 100)
    sample = column(*range(0, 100, 2), *[math.nan] * 150)
    expected = np.array([10] * 10 + [100])
    actual = np.array([5] * 10 + [150])
    p, q = (expected + 0.5) / (200 + 5.5), (actual + 0.5) / (200 + 5.5)
    assert psi(sample, base)[0] == pytest.approx(float(np.sum((q - p) * np.log(q / p))))


def test_counts_of_parts_add_up() -> None:
    compiled = Reference(reference(NORMAL, ["a", "b", "c"]), len(NORMAL))
    whole = compiled.count(NORMAL)
    np.testing.assert_array_equal(compiled.count(NORMAL[:7]) + compiled.count(NORMAL[7:]), whole)
    assert whole.sum(axis=1).tolist() == [20_000] * 3


@pytest.mark.parametrize(
    ("sample", "base", "categories"),
    [
        (column(*[math.nan] * 1000), NORMAL[:, :1], ()),
        (NORMAL[:1000, :1], column(*[math.nan] * 1000), ()),
        (column(*[5.0] * 1000), column(*[3.0] * 1000), ()),
        (column(*[0.0] * 1000), column(*[1.0] * 1000), ()),
        (column(*[1.0] * 1000), column(*[0.0] * 1000), ()),
        (column(*[1.0] * 1000), column(*[0.0] * 990, *[1.0] * 9010), ()),
        (column(*[0.0] * 950, *[1.0] * 50), column(*[0.0] * 990, *[1.0] * 9010), ()),
        (column(*[1.0] * 320, *[2.0] * 680), column(*[0.0] * 800, *[1.0] * 2400, *[2.0] * 6800), ()),
        (column(*[-999.0] * 700, *[1.0] * 300), column(*[0.0] * 7000, *[1.0] * 2000, *[2.0] * 1000), ()),
        (column(*[0.0] * 800, *[0.01] * 200), column(*[0.0] * 8000, *[1.0] * 2000), ()),
        (column(*[1.0] * 300, *[1.5] * 300, *[3.0] * 400), column(*[1.0] * 3000, *[2.0] * 3000, *[3.0] * 4000), ()),
        (column(*[1e300] * 1000), NORMAL[:, :1], ()),
        (column(*[-math.inf] * 1000), NORMAL[:, :1], ()),
        (column(*[-1.0] * 100, *[0.0] * 900), column(*[0.0, 1.0] * 1000), (0,)),
        (column(*[math.nan] * 1000), column(*[0.0, 1.0] * 1000), (0,)),
        (column(*[-1.0] * 1000), column(*[math.nan] * 1000), (0,)),
    ],
    ids=[
        "all missing",
        "none missing",
        "another constant",
        "a lower one",
        "a higher one",
        "the rest gone",
        "the rest grown",
        "within the first decile",
        "a sentinel for the most frequent and least",
        "a flag of another scale",
        "between two values",
        "large",
        "minus infinity",
        "unseen code",
        "category missing",
        "only unseen",
    ],
)
def test_great_shifts_are_drift_and_finite(sample: Matrix, base: Matrix, categories: tuple[int, ...]) -> None:
    (value,) = psi(sample, base, categories)
    assert math.isfinite(value)
    assert band(value) == "drift"


def test_ten_percent_more_missing_or_unseen_are_noticed() -> None:
    base = column(*np.arange(10_000.0))
    assert band(psi(column(*np.arange(0.0, 10_000, 10), *[math.nan] * 110), base)[0]) != "stable"
    codes = column(*[0.0, 1.0] * 5000)
    assert band(psi(column(*[0.0, 1.0] * 450, *[-1.0] * 100), codes, (0,))[0]) == "drift"


def test_round_numbers_have_no_bin_of_their_own() -> None:
    base = column(*np.round(np.random.default_rng(0).lognormal(12, 0.5, 20_000), -4))
    assert np.unique(base, return_counts=True)[1].max() > 0.05 * len(base)
    assert band(psi(base * 1.01, base)[0]) == "stable"


def test_rare_codes_are_one_bin() -> None:
    base = column(*[0.0] * 9000, *np.repeat(np.arange(1.0, 21.0), 50))
    turned = column(*[0.0] * 9000, *np.repeat(np.arange(20.0, 0.0, -1), np.arange(1, 21)), *[20.0] * 790)
    assert psi(turned, base, (0,)) == pytest.approx([0], abs=1e-9)


def test_one_row_is_measured() -> None:
    assert all(math.isfinite(value) for value in psi(NORMAL[:1], NORMAL))


def test_a_matrix_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \(rows, 3\)"):
        psi(NORMAL[:, :2], NORMAL)


def test_unshifted_samples_of_the_minimum_size_hardly_ever_alarm() -> None:
    rng = np.random.default_rng(1)
    base, live = rng.normal(size=(2, 20_000, 60))
    base[:, :20], live[:, :20] = np.floor(3 * base[:, :20]), np.floor(3 * live[:, :20])
    compiled = Reference(reference(base, [str(position) for position in range(60)], range(10)), len(base))
    rows = int(compiled.minimum_rows)
    draws = [compiled.measure(compiled.count(live[rng.choice(len(live), rows)])).psi.max() for _ in range(200)]
    assert np.mean(np.array(draws) >= WARNING) <= 2 * FALSE_ALARM
    assert np.median(draws) > WARNING / 4  # the minimum is not far above what is needed


def test_a_reference_of_few_rows_can_measure_nothing() -> None:
    assert Reference(reference(NORMAL[:200], ["a", "b", "c"]), 200).minimum_rows == math.inf


@pytest.mark.parametrize(("value", "word"), [(0, "stable"), (0.0999, "stable"), (0.1, "warning"), (0.25, "drift"), (9, "drift")])
def test_bands(value: float, word: str) -> None:
    assert band(value) == word


def test_a_code_of_one_percent_and_a_value_of_a_fifth_have_bins_of_their_own() -> None:
    base = column(*[0.0] * 98, 1.0, 2.0)
    assert psi(column(*[0.0] * 98, 1.0, 1.0), base, (0,))[0] > 1e-6
    entry = reference(column(*[0.0] * 20, *range(1, 81)), ["x"])["x"]
    assert np.nextafter(0.0, -np.inf) in entry["edges"]


def test_fewer_missing_values_are_a_negative_shift() -> None:
    compiled = Reference(reference(column(*[1.0] * 50, *[math.nan] * 50), ["x"]), 100)
    assert compiled.measure(compiled.count(column(*[1.0] * 100))).missing_shift.tolist() == [-0.5]
