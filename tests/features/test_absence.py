import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.absence import Absence
from features.history import Matrix

NAN = np.nan


@pytest.fixture(scope="module")
def absence() -> Absence:
    """Training always had 0 and 1, a category; 2, 3 and 4 came together; 5 came by itself, 6 never."""
    known = np.arange(40.0).reshape(-1, 1) * [1, 0, 1, 1, 1, 1, 1]
    known[:9, 1] = 2.0
    known[::2, 2:5] = known[::3, 5] = known[:, 6] = NAN
    return Absence.fit(known, [1])


def settled(absence: Absence, *row: float) -> tuple[list[float], list[int], list[int]]:
    fields = np.array([row])
    odd = absence.settle(fields)
    missed, lone = (np.flatnonzero(places).tolist() for places in odd or ([], []))
    return fields[0].tolist(), missed, lone


def test_what_training_saw_is_learned(absence: Absence) -> None:
    assert absence.always == [0, 1]
    assert absence.together == [[2, 3, 4]]
    assert absence.typical[:3] == [20.0, 0.0, 21.0]
    assert np.isnan(absence.typical[6])


@pytest.mark.parametrize(
    ("row", "becomes", "missed", "lone"),
    [
        ((1, 1, 1, 1, 1, 1, NAN), (1, 1, 1, 1, 1, 1, NAN), [], []),
        ((1, 1, NAN, NAN, NAN, NAN, NAN), (1, 1, NAN, NAN, NAN, NAN, NAN), [], []),
        ((NAN, NAN, NAN, NAN, NAN, NAN, NAN), (20, 0, NAN, NAN, NAN, NAN, NAN), [0, 1], []),
        ((1, 1, 1, NAN, 1, NAN, NAN), (1, 1, 1, 21, 1, NAN, NAN), [3], []),
        ((1, 1, NAN, 1, NAN, NAN, NAN), (1, 1, NAN, NAN, NAN, NAN, NAN), [], [3]),
    ],
)
def test_each_row_gets_the_nearest_pattern_that_training_saw(
    absence: Absence, row: tuple[float, ...], becomes: tuple[float, ...], missed: list[int], lone: list[int]
) -> None:
    found = settled(absence, *row)
    np.testing.assert_equal(found[0], becomes)
    assert found[1:] == (missed, lone)


def test_what_was_learned_survives_json(absence: Absence) -> None:
    again = Absence.from_dict(json.loads(json.dumps(absence.to_dict(), allow_nan=False)))
    fields: Matrix = np.where(np.random.default_rng(1).random((50, 7)) < 0.5, NAN, 1.0)
    other = fields.copy()
    absence.settle(fields)
    again.settle(other)
    assert fields.tobytes() == other.tobytes()


def test_a_field_that_a_few_lacked_counts_as_always_there() -> None:
    known = np.ones((3000, 2))
    known[0, 0] = known[:9, 1] = NAN
    assert Absence.fit(known, []).always == [0]


@given(st.lists(st.lists(st.booleans(), min_size=7, max_size=7), max_size=4))
def test_a_pattern_is_odd_where_a_field_that_is_always_there_is_absent_or_a_group_is_divided(
    absence: Absence, patterns: list[list[bool]]
) -> None:
    missing = np.array(patterns, dtype=bool).reshape(-1, 7)
    groups = missing[:, [2, 3, 4]]
    expected = missing[:, :2].any() or (groups.any(axis=1) & ~groups.all(axis=1)).any()
    fields = np.where(missing, NAN, 1.0)
    before = fields.tobytes()
    odd = absence.settle(fields)
    assert (odd is not None) == expected
    assert expected or fields.tobytes() == before
