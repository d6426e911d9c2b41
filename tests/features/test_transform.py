import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.settings import CONFIGS
from features.application import EXPECTED, EXTERNAL, SIMPLE
from features.applications import Applications, FeatureError
from features.history import UNSEEN, History, Rows
from features.pool import chosen_features, explaining_features, feature_pool, history_features
from features.schema import Table, history_tables, read_yaml
from features.transform import FeatureTransform
from training.home_credit.generator import Generator

DOMAIN = ("DEBT_TO_INCOME_RATIO", "EMPLOYMENT_YEARS", "INCOME_PER_PERSON", "AGE_YEARS", "CREDIT_UTILIZATION")


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return next(Generator.from_file().draw(2000, seed=5))


@pytest.fixture(scope="module")
def features(frame: pd.DataFrame) -> FeatureTransform:
    """Every feature of the pool."""
    return FeatureTransform(tuple(feature_pool())).fit(Applications.from_columns(frame))


@pytest.fixture(scope="module")
def unsettled(features: FeatureTransform) -> FeatureTransform:
    """The same as an earlier release learned it: it knows nothing of absent fields."""
    state = json.loads(features.to_json())
    del state["absence"]
    return FeatureTransform.from_json(json.dumps(state | {"format": 3}))


def one(**values: Any) -> Applications:
    return Applications.from_columns({name: [value] for name, value in values.items()})


def value(features: FeatureTransform, name: str, **values: Any) -> float:
    return float(features.transform(one(**values)).matrix[0, features.names.index(name)])


def bureau_of(clients: int) -> History:
    """An active loan at another lender for each client but the first."""
    table = history_tables()[0]
    values = np.full((len(table.columns), clients - 1), np.nan)
    names = [column.name for column in table.columns]
    values[names.index("CREDIT_ACTIVE")] = table.columns[names.index("CREDIT_ACTIVE")].categories.index("Active")
    values[names.index("AMT_CREDIT_SUM_DEBT")] = 1000.0
    return History(clients, {table.name: Rows(table, np.arange(1, clients), values)}, {table.name: np.ones(clients, dtype=bool)})


def slice_of(applications: Applications, rows: slice) -> Applications:
    return Applications(applications.table, applications.numeric[rows], [values[rows] for values in applications.categorical])


def test_the_chosen_features_are_189_of_the_pool_and_told_truly() -> None:
    names = chosen_features()
    assert len(set(names)) == len(names) == 189
    assert set(DOMAIN) <= set(names)
    told = read_yaml(CONFIGS / "features.yaml")["features"]
    assert [(entry["name"], entry["unit"], entry["source"]) for entry in told] == [tuple(feature_pool()[name]) for name in names]
    assert all(feature.unit and feature.source for feature in feature_pool().values())


def test_names_that_are_not_in_the_pool_are_refused() -> None:
    with pytest.raises(FeatureError, match="no such features: NOPE, AMT; expected"):
        FeatureTransform(["AGE_YEARS", "NOPE", "AMT"])


def test_chosen_features_equal_those_of_the_pool(features: FeatureTransform, frame: pd.DataFrame) -> None:
    names = ("INSTALMENT_LATE_CHANGE_6M", "BUREAU_DEBT_TO_INCOME", "AGE_YEARS", "CODE_GENDER", "AMT_CREDIT", "BUREAU_LOANS")
    history = bureau_of(len(frame))
    few = FeatureTransform(names).fit(Applications.from_columns(frame))
    places = [features.names.index(name) for name in names]
    whole = features.transform(Applications.from_columns(frame), history).matrix
    assert few.transform(Applications.from_columns(frame), history).matrix.tobytes() == whole[:, places].tobytes()
    assert few.categorical_positions == (3,)


def test_history_goes_with_its_application(features: FeatureTransform, frame: pd.DataFrame) -> None:
    applications = Applications.from_columns(frame)
    matrix = features.transform(applications, bureau_of(len(frame))).matrix
    place = {name: place for place, name in enumerate(features.names)}
    assert matrix[:3, place["BUREAU_LOANS"]].tolist() == [0, 1, 1]
    np.testing.assert_equal(
        matrix[:, place["BUREAU_DEBT_TO_INCOME"]], matrix[:, place["BUREAU_DEBT_SUM_ACTIVE"]] / frame["AMT_INCOME_TOTAL"]
    )
    assert np.isnan(matrix[:, place["POS_LOANS"]]).all()
    without = features.transform(applications).matrix
    assert np.isnan(without[:, place["BUREAU_LOANS"]]).all()
    with pytest.raises(FeatureError, match="the history of 3 clients does not fit 2000 applications"):
        features.transform(applications, bureau_of(3))


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("DEBT_TO_INCOME_RATIO", {"AMT_ANNUITY": 25.0, "AMT_INCOME_TOTAL": 100.0}, 0.25),
        ("DEBT_TO_INCOME_RATIO", {"AMT_ANNUITY": 25.0, "AMT_INCOME_TOTAL": 0.0}, np.nan),
        ("DEBT_TO_INCOME_RATIO", {"AMT_ANNUITY": 25.0}, np.nan),
        ("CREDIT_UTILIZATION", {"AMT_CREDIT": 450.0, "AMT_GOODS_PRICE": 400.0}, 1.125),
        ("INCOME_PER_PERSON", {"AMT_INCOME_TOTAL": 90.0, "CNT_FAM_MEMBERS": 3.0}, 30.0),
        ("AGE_YEARS", {"DAYS_BIRTH": -36525.0}, 100.0),
        ("EMPLOYMENT_YEARS", {"DAYS_EMPLOYED": -730.5}, 2.0),
        ("EMPLOYMENT_YEARS", {"DAYS_EMPLOYED": 365243.0}, np.nan),
        ("DAYS_EMPLOYED", {"DAYS_EMPLOYED": 365243.0}, np.nan),
        ("EXT_SOURCE_MEAN", {"EXT_SOURCE_1": 0.25, "EXT_SOURCE_3": 0.75}, 0.5),
        ("EXT_SOURCE_MEAN", {"AMT_CREDIT": 1.0}, np.nan),
        ("EXT_SOURCE_WEIGHTED_MEAN", {"EXT_SOURCE_1": 0.25, "EXT_SOURCE_2": 0.5, "EXT_SOURCE_3": 0.75}, 5 / 9),
        ("EXT_SOURCE_MIN", {"EXT_SOURCE_2": 0.5, "EXT_SOURCE_3": 0.25}, 0.25),
        ("EXT_SOURCE_MAX", {"EXT_SOURCE_2": 0.5, "EXT_SOURCE_3": 0.25}, 0.5),
        ("DOCUMENT_COUNT", {"FLAG_DOCUMENT_2": 1.0, "FLAG_DOCUMENT_21": 1.0, "FLAG_DOCUMENT_5": 0.0}, 2.0),
        ("DOCUMENT_COUNT", {"AMT_CREDIT": 1.0}, np.nan),
        ("CODE_GENDER", {"CODE_GENDER": "XNA"}, np.nan),
        ("CODE_GENDER", {"CODE_GENDER": None}, np.nan),
        ("CODE_GENDER", {"CODE_GENDER": "M"}, 1.0),
        ("CODE_GENDER", {"CODE_GENDER": "?"}, UNSEEN),
    ],
)
def test_formulas(unsettled: FeatureTransform, name: str, values: dict[str, Any], expected: float) -> None:
    np.testing.assert_equal(value(unsettled, name, **values), expected)


def test_external_scores_stand_beside_what_the_rest_leads_one_to_expect(features: FeatureTransform, frame: pd.DataFrame) -> None:
    applications = Applications.from_columns(frame)
    matrix = features.transform(applications).matrix
    for name in EXTERNAL:
        given, expected, residual = (matrix[:, features.names.index(f"{name}{suffix}")] for suffix in ("", "_EXPECTED", "_RESIDUAL"))
        np.testing.assert_equal(residual, given - expected)
        known = ~np.isnan(given)
        assert np.var(residual[known]) < np.var(given[known])
        assert not np.isnan(expected).any()
    changed = features.transform(Applications.from_columns(frame.assign(**dict.fromkeys(EXTERNAL, 0.5)))).matrix
    places = [features.names.index(name) for name in EXPECTED]
    assert changed[:, places].tobytes() == matrix[:, places].tobytes()


@pytest.mark.slow
def test_the_matrix_to_learn_from_expects_of_a_row_what_other_rows_teach(features: FeatureTransform, frame: pd.DataFrame) -> None:
    applications, history = Applications.from_columns(frame), bureau_of(len(frame))
    again = FeatureTransform(features.names)
    learned, _ = again.fit_transform(applications, history)
    assert again.to_json() == features.to_json()
    differing = np.flatnonzero(((learned != features.transform(applications, history).matrix) & ~np.isnan(learned)).any(axis=0))
    assert {features.names[place] for place in differing} == {
        f"{name}{suffix}" for name in EXTERNAL for suffix in ("_EXPECTED", "_RESIDUAL")
    }


def test_a_transform_that_expects_nothing_learns_from_its_own_matrix(frame: pd.DataFrame) -> None:
    applications, history = Applications.from_columns(frame), bureau_of(len(frame))
    features = FeatureTransform(["AMT_CREDIT", "CODE_GENDER", "BUREAU_LOANS"])
    learned = features.fit_transform(applications, history)
    assert features.expectation_ is None
    assert learned.matrix.tobytes() == features.transform(applications, history).matrix.tobytes()
    with pytest.raises(FeatureError, match="the history of 3 clients does not fit 2000 applications"):
        features.fit_transform(applications, bureau_of(3))
    with pytest.raises(FeatureError, match="at least one row"):
        FeatureTransform().fit_transform(Applications.from_rows(features.table, []))


def test_what_scores_are_expected_by_holds_none_of_them_and_no_history() -> None:
    given = explaining_features()
    assert not any("EXT_SOURCE" in feature_pool()[name].source for name in given)
    assert not history_features() & set(given)
    assert {"DAYS_BIRTH", "ANNUITY_TO_CREDIT", "DOCUMENT_COUNT", "CODE_GENDER"} <= set(given)


@pytest.mark.slow
def test_a_row_has_the_same_bits_alone_and_in_every_batch(features: FeatureTransform, frame: pd.DataFrame) -> None:
    applications = Applications.from_columns(frame)
    whole = features.transform(applications).matrix
    for size in (1, 2, 7, 64, 999):
        parts = [features.transform(slice_of(applications, slice(i, i + size))).matrix for i in range(0, len(frame), size)]
        assert np.concatenate(parts).tobytes() == whole.tobytes()


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(
            *[st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False))] * 4, st.sampled_from(["M", "F", "XNA", "new", None])
        ),
        min_size=1,
        max_size=20,
    )
)
def test_any_values_give_the_same_bits_alone_and_together(features: FeatureTransform, rows: list[tuple[Any, ...]]) -> None:
    names = ("AMT_INCOME_TOTAL", "AMT_ANNUITY", "DAYS_EMPLOYED", "EXT_SOURCE_1", "CODE_GENDER")
    together = features.transform(
        Applications.from_columns({n: list(v) for n, v in zip(names, zip(*rows, strict=True), strict=True)})
    ).matrix
    alone = [features.transform(one(**dict(zip(names, row, strict=True)))).matrix for row in rows]
    assert np.concatenate(alone).tobytes() == together.tobytes()


def test_a_simple_feature_is_what_its_formula_gives_of_its_own_columns(unsettled: FeatureTransform, frame: pd.DataFrame) -> None:
    columns = {
        column.name: frame[column.name].to_numpy(dtype=np.float64).copy() for column in unsettled.table.numeric if column.name in frame
    }
    hidden = np.random.default_rng(2).random((len(columns), len(frame))) < 0.3
    for values, absent in zip(columns.values(), hidden, strict=True):
        values[absent] = np.nan
    matrix = unsettled.transform(Applications.from_columns(columns)).matrix
    for derived in SIMPLE:
        block = matrix[:, [unsettled.names.index(name) for name in derived.columns]]
        with np.errstate(all="ignore"):
            expected = derived.compute(np.ascontiguousarray(block))
        assert matrix[:, unsettled.names.index(derived.name)].tobytes() == expected.tobytes(), derived.name


def test_dict_frame_and_rows_agree(features: FeatureTransform, frame: pd.DataFrame) -> None:
    table = features.table
    by_frame = features.transform(Applications.from_columns(frame)).matrix
    by_dict = features.transform(Applications.from_columns({name: frame[name].to_numpy() for name in frame})).matrix
    numeric, categorical = [c.name for c in table.numeric], [c.name for c in table.categorical]
    text = frame[categorical].astype(object).where(frame[categorical].notna(), None)
    rows = list(zip(frame[numeric].to_numpy(dtype=float).tolist(), text.to_numpy().tolist(), strict=True))
    by_rows = features.transform(Applications.from_rows(table, rows)).matrix
    assert by_frame.tobytes() == by_dict.tobytes() == by_rows.tobytes()


def test_no_rows_give_no_rows(features: FeatureTransform) -> None:
    assert features.transform(Applications.from_rows(features.table, [])).matrix.shape == (0, len(features.names))
    with pytest.raises(FeatureError, match="at least one row"):
        FeatureTransform().fit(Applications.from_rows(features.table, []))


def test_all_missing_is_a_row_of_nan_but_for_what_one_expects(unsettled: FeatureTransform) -> None:
    matrix = unsettled.transform(one(AMT_CREDIT=None)).matrix[0]
    assert {name for name, number in zip(unsettled.names, matrix.tolist(), strict=True) if not np.isnan(number)} == set(EXPECTED)


def test_a_field_that_training_always_had_is_scored_as_its_typical_value(features: FeatureTransform, frame: pd.DataFrame) -> None:
    column = next(place for place, column in enumerate(features.table.columns) if column.name == "AMT_CREDIT")
    without = features.transform(Applications.from_columns(frame.assign(AMT_CREDIT=np.nan)))
    median = frame["AMT_CREDIT"].sort_values().iloc[len(frame) // 2]
    assert without.matrix.tobytes() == features.transform(Applications.from_columns(frame.assign(AMT_CREDIT=median))).matrix.tobytes()
    assert without.odd
    assert without.odd.missed[:, column].all()
    assert not without.odd.lone[:, column].any()


def test_hidden_values_are_not_known_in_what_is_learned_from_with_all_that_follows(frame: pd.DataFrame) -> None:
    features = FeatureTransform(["AMT_CREDIT", "CREDIT_TO_INCOME", "AMT_INCOME_TOTAL", "BUREAU_LOANS"])
    columns = [column.name for column in features.table.columns]
    hidden = np.zeros((len(frame), len(columns)), dtype=bool)
    hidden[5, columns.index("AMT_CREDIT")] = True
    learned, lesson = features.fit_transform(Applications.from_columns(frame), bureau_of(len(frame)), hidden)
    assert np.isnan(lesson[5]).tolist() == [True, True, False, False]
    assert not np.isnan(learned).any()
    np.testing.assert_equal(np.delete(lesson, 5, axis=0), np.delete(learned, 5, axis=0))


def test_unseen_categories_are_reported_with_their_row(features: FeatureTransform) -> None:
    applications = Applications.from_columns({"OCCUPATION_TYPE": ["Managers", "Astronaut", None]})
    unseen = features.transform(applications).unseen
    assert unseen == [(1, "OCCUPATION_TYPE", "Astronaut")]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"AMT_CREDIT": ["a"]}, "column AMT_CREDIT holds .*; expected numbers"),
        ({"AMT_CREDIT": [True]}, "column AMT_CREDIT holds bool values"),
        ({"OCCUPATION_TYPE": [3]}, "column OCCUPATION_TYPE holds 3; expected text"),
        ({"AMT_CREDIT": [1.0], "AMT_ANNUITY": [1.0, 2.0]}, r"\[1, 2\] rows"),
        ({}, "one column at least"),
    ],
)
def test_wrong_columns_are_named(columns: dict[str, Any], said: str) -> None:
    with pytest.raises(FeatureError, match=said):
        Applications.from_columns(columns)


def test_state_survives_json(features: FeatureTransform, frame: pd.DataFrame) -> None:
    restored = FeatureTransform.from_json(features.to_json())
    applications = Applications.from_columns(frame)
    assert restored.transform(applications).matrix.tobytes() == features.transform(applications).matrix.tobytes()
    assert restored.describe() == features.describe()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 5}, "format 5; expected 1 to 4"),
        ({"absence": {"fields": ["AMT_CREDIT"]}}, "other fields than the schema lists; train again"),
        ({"expectation": None}, "predicts the external scores from other features"),
        ({"expectation": {"given": [["AMT_CREDIT", "AMT_CREDIT"]]}}, "predicts the external scores from other features"),
        ({"expectation": {"given": [["AGE_YEARS", "A"]]}}, r"other features than these: \['AGE_YEARS'\]; train again"),
        ({"features": [["A", "A"]]}, r"other features than these: \['A'\]; train again"),
        ({"features": [["AGE_YEARS", "DAYS_BIRTH / 365"]]}, r"other features than these: \['AGE_YEARS'\]; train again"),
    ],
)
def test_a_foreign_state_is_refused(features: FeatureTransform, change: dict[str, Any], said: str) -> None:
    with pytest.raises(FeatureError, match=said):
        FeatureTransform.from_json(json.dumps(json.loads(features.to_json()) | change))


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_an_unreadable_state_is_refused(text: str) -> None:
    with pytest.raises(FeatureError, match="not readable"):
        FeatureTransform.from_json(text)


def test_a_state_of_the_second_format_still_loads(frame: pd.DataFrame) -> None:
    applications = Applications.from_columns(frame)
    features = FeatureTransform(["AMT_CREDIT", "BUREAU_LOANS", "CARD_ATM_SHARE"]).fit(applications)
    state = json.loads(features.to_json())
    assert "expectation" not in state
    restored = FeatureTransform.from_json(json.dumps(state | {"format": 2}))
    assert restored.transform(applications).matrix.tobytes() == features.transform(applications).matrix.tobytes()


def test_a_state_of_the_first_format_still_loads(features: FeatureTransform, frame: pd.DataFrame) -> None:
    names = ["AMT_CREDIT", "CODE_GENDER", "DEBT_TO_INCOME_RATIO"]
    state = {"format": 1, "features": names, "categories": {name: list(values) for name, values in features.categories_.items()}}
    restored = FeatureTransform.from_json(json.dumps(state))
    assert restored.names == tuple(names)
    assert restored.transform(Applications.from_columns(frame)).matrix[:, 0].tolist() == frame["AMT_CREDIT"].tolist()


def test_what_needs_the_history_is_known() -> None:
    names = history_features()
    assert names <= set(feature_pool())
    assert {"BUREAU_LOANS", "BUREAU_DEBT_TO_INCOME", "CARD_USED_CHANGE_6M"} <= names
    assert not {"AMT_CREDIT", "AGE_YEARS", "DEBT_TO_INCOME_RATIO"} & names
    transform = FeatureTransform(["AMT_CREDIT", "BUREAU_LOANS", "AGE_YEARS", "CARD_USED_CHANGE_6M"])
    assert transform.history_positions == (1, 3)


def test_values_that_say_not_known_are_not_implausible(table: Table) -> None:
    names = [column.name for column in table.numeric]
    values = np.full((2, len(names)), np.nan)
    values[:, names.index("DAYS_EMPLOYED")] = [365243, 365244]
    assert Applications(table, values, [[None, None]] * len(table.categorical)).implausible().sum(axis=1).tolist() == [0, 1]
