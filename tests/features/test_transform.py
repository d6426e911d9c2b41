import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.schema import Table
from features.transform import UNSEEN, Applications, FeatureError, FeatureTransform
from training.generator import Generator

DOMAIN = ("DEBT_TO_INCOME_RATIO", "EMPLOYMENT_YEARS", "INCOME_PER_PERSON", "AGE_YEARS", "CREDIT_UTILIZATION")


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return next(Generator.from_file().draw(2000, seed=5))


@pytest.fixture(scope="module")
def features(frame: pd.DataFrame) -> FeatureTransform:
    return FeatureTransform().fit(Applications.from_columns(frame))


def one(**values: Any) -> Applications:
    return Applications.from_columns({name: [value] for name, value in values.items()})


def value(features: FeatureTransform, name: str, **values: Any) -> float:
    return float(features.transform(one(**values)).matrix[0, features.names.index(name)])


def slice_of(applications: Applications, rows: slice) -> Applications:
    return Applications(applications.table, applications.numeric[rows], [values[rows] for values in applications.categorical])


def test_features_are_unique_and_fit_the_contract(features: FeatureTransform) -> None:
    assert len(set(features.names)) == len(features.names) <= 189
    assert features.names[:120] == tuple(column.name for column in features.table.columns)
    assert set(DOMAIN) <= set(features.names)
    assert all(feature.unit and feature.source for feature in features.features)


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
def test_formulas(features: FeatureTransform, name: str, values: dict[str, Any], expected: float) -> None:
    np.testing.assert_equal(value(features, name, **values), expected)


def test_a_row_has_the_same_bits_alone_and_in_every_batch(features: FeatureTransform, frame: pd.DataFrame) -> None:
    applications = Applications.from_columns(frame)
    whole = features.transform(applications).matrix
    for size in (1, 2, 7, 64, 999):
        parts = [features.transform(slice_of(applications, slice(i, i + size))).matrix for i in range(0, len(frame), size)]
        assert np.concatenate(parts).tobytes() == whole.tobytes()


@given(
    st.lists(
        st.tuples(
            *[st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False))] * 4, st.sampled_from(["M", "F", "XNA", "new", None])
        ),
        min_size=1,
        max_size=20,
    )
)
def test_any_values_give_the_same_bits_alone_and_together(rows: list[tuple[Any, ...]]) -> None:
    features = FeatureTransform()
    features.categories_ = {column.name: column.categories for column in features.table.categorical}
    names = ("AMT_INCOME_TOTAL", "AMT_ANNUITY", "DAYS_EMPLOYED", "EXT_SOURCE_1", "CODE_GENDER")
    together = features.transform(
        Applications.from_columns({n: list(v) for n, v in zip(names, zip(*rows, strict=True), strict=True)})
    ).matrix
    alone = [features.transform(one(**dict(zip(names, row, strict=True)))).matrix for row in rows]
    assert np.concatenate(alone).tobytes() == together.tobytes()


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


def test_all_missing_is_a_row_of_nan(features: FeatureTransform) -> None:
    matrix = features.transform(one(AMT_CREDIT=None)).matrix
    assert np.isnan(matrix).all()


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


def test_state_survives_json(features: FeatureTransform, frame: pd.DataFrame, table: Table) -> None:
    restored = FeatureTransform.from_json(features.to_json(), table)
    applications = Applications.from_columns(frame)
    assert restored.transform(applications).matrix.tobytes() == features.transform(applications).matrix.tobytes()
    assert restored.describe() == features.describe()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "format 2; expected 1"),
        ({"features": ["A"]}, "other features.*train again"),
    ],
)
def test_a_foreign_state_is_refused(features: FeatureTransform, change: dict[str, Any], said: str) -> None:
    with pytest.raises(FeatureError, match=said):
        FeatureTransform.from_json(json.dumps(json.loads(features.to_json()) | change))


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_an_unreadable_state_is_refused(text: str) -> None:
    with pytest.raises(FeatureError, match="not readable"):
        FeatureTransform.from_json(text)
