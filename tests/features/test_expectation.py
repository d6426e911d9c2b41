import numpy as np
import pytest

from features.expectation import Expectation, cross_fitted
from features.history import Matrix

ROWS = 3000
pytestmark = pytest.mark.model


def inputs(rows: int = ROWS) -> Matrix:
    random = np.random.default_rng(3)
    given = random.normal(size=(rows, 4))
    given[:, 3] = random.integers(0, 5, rows)
    given[random.random((rows, 4)) < 0.1] = np.nan
    return given


@pytest.fixture(scope="module")
def given() -> Matrix:
    return inputs()


@pytest.fixture(scope="module")
def wanted(given: Matrix) -> Matrix:
    """The first follows two inputs and is half unknown, the second a category, the third nothing."""
    random = np.random.default_rng(4)
    known = np.nan_to_num(given)
    columns = np.column_stack([5 + 2 * known[:, 0] - known[:, 1], 10.0 * (known[:, 3] == 2), random.normal(size=len(given))])
    columns[random.random(len(given)) < 0.5, 0] = np.nan
    return columns


@pytest.fixture(scope="module")
def expectation(given: Matrix, wanted: Matrix) -> Expectation:
    return Expectation.fit(given, wanted, [3])


def explained(wanted: Matrix, expected: Matrix) -> Matrix:
    """The coefficient of determination of each column."""
    share: Matrix = 1 - np.nanvar(wanted - expected, axis=0) / np.nanvar(wanted, axis=0)
    return share


def test_what_follows_from_the_inputs_is_expected(expectation: Expectation, given: Matrix, wanted: Matrix) -> None:
    first, second, third = explained(wanted, expectation.expect(given))
    assert first > 0.7
    assert second > 0.7
    assert third < 0.2


def test_a_row_has_the_same_bits_alone_and_in_every_batch(expectation: Expectation, given: Matrix) -> None:
    whole = expectation.expect(given)
    for size in (1, 7, 64, 2999):
        parts = [expectation.expect(given[start : start + size]) for start in range(0, 300 if size == 1 else ROWS, size)]
        assert np.concatenate(parts).tobytes() == whole[: 300 if size == 1 else ROWS].tobytes()


def test_what_was_learned_survives_as_text(expectation: Expectation, given: Matrix) -> None:
    assert Expectation(**expectation.to_dict()).expect(given).tobytes() == expectation.expect(given).tobytes()


def test_learning_again_gives_the_same(expectation: Expectation, given: Matrix, wanted: Matrix) -> None:
    assert Expectation.fit(given, wanted, [3]).to_dict() == expectation.to_dict()


def test_an_unknown_value_of_one_column_changes_nothing_for_another(expectation: Expectation, given: Matrix, wanted: Matrix) -> None:
    less = wanted.copy()
    less[::2, 2] = np.nan
    found = Expectation.fit(given, less, [3]).expect(given)
    assert found[:, :2].tobytes() == expectation.expect(given)[:, :2].tobytes()


@pytest.mark.parametrize("rows", [1, 2, 599])
def test_too_few_rows_to_divide_give_the_mean(wanted: Matrix, rows: int) -> None:
    wanted = wanted[:rows].copy()
    wanted[0, 0] = 7.0
    wanted[:, 2] = np.nan
    expected = Expectation.fit(inputs(rows), wanted, [3]).expect(inputs(5))
    assert expected.tolist() == [[pytest.approx(np.nanmean(wanted[:, 0])), pytest.approx(wanted[:, 1].mean()), 0.0]] * 5


def test_inputs_that_tell_nothing_give_the_mean(wanted: Matrix) -> None:
    expected = Expectation.fit(np.full((ROWS, 4), np.nan), wanted, [3]).expect(inputs(2))
    np.testing.assert_allclose(expected, [np.nanmean(wanted, axis=0)] * 2)


def test_extreme_and_missing_inputs_are_expected_something(expectation: Expectation) -> None:
    given = np.array([[np.nan] * 4, [1e308, -1e308, 0.0, 99.0], [0.0, 0.0, 0.0, -1.0]])
    assert np.isfinite(expectation.expect(given)).all()


def test_no_rows_give_no_rows(expectation: Expectation) -> None:
    assert expectation.expect(np.empty((0, 4))).shape == (0, 3)


def test_what_is_cross_fitted_does_not_know_its_own_row(given: Matrix, wanted: Matrix, expectation: Expectation) -> None:
    (found,) = cross_fitted(given, wanted, [3], [given])
    own, others = explained(wanted, expectation.expect(given)), explained(wanted, found)
    assert others[2] < own[2]  # of what follows from nothing, only the own values were learned
    assert others[2] == pytest.approx(0.0, abs=0.03)
    assert (others[:2] > 0.7).all()


def test_one_row_cannot_be_cross_fitted_but_is_expected_something() -> None:
    (found,) = cross_fitted(inputs(1), np.array([[3.0, np.nan]]), [3], [inputs(1)])
    assert found.tolist() == [[0.0, 0.0]]
