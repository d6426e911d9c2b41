"""From rows to the matrix and its warnings."""

from typing import Any

import msgspec
import numpy as np
import pytest
from parsed import Contract, body

from features.history import UNSEEN
from serving.bundle import Bundle


def test_unseen_and_implausible_values_are_scored_with_a_warning(contract: Contract) -> None:
    row = contract.parse_one(body({"application": {"CODE_GENDER": "Z" * 100, "DAYS_BIRTH": -90000, "AMT_CREDIT": 1e300}}))
    matrix = contract.matrix([row])
    assert matrix[0, contract.features.names.index("CODE_GENDER")] == UNSEEN
    assert {(w["code"], w["pointer"]) for w in contract.warnings(row)[0]} == {
        ("absent", "/application"),
        ("unseen_category", "/application/CODE_GENDER"),
        ("implausible", "/application/DAYS_BIRTH"),
        ("implausible", "/application/AMT_CREDIT"),
    }


def test_values_by_which_the_source_says_not_known_are_not_known(contract: Contract) -> None:
    row = contract.parse_one(body({"application": {"CODE_GENDER": "XNA", "DAYS_EMPLOYED": 365243, "ORGANIZATION_TYPE": "XNA"}}))
    ((warning,),) = contract.warnings(row)
    assert warning["code"] == "absent"
    assert "CODE_GENDER" in warning["detail"]
    assert not {"DAYS_EMPLOYED", "ORGANIZATION_TYPE"} & set(warning["detail"].replace(",", " ").split())


def complete(contract: Contract) -> dict[str, Any]:
    """An application with every field that training always had."""
    absence = contract.features.absence_
    assert absence is not None
    columns = [contract.features.table.columns[place] for place in absence.always]
    known = contract.features.categories_
    return {column.name: known[column.name][0] if column.type == "category" else column.max for column in columns}


@pytest.mark.parametrize("field", ["AMT_CREDIT", "NAME_INCOME_TYPE", "FLAG_MOBIL"])
def test_a_field_is_named_that_is_absent_though_training_always_had_it(contract: Contract, field: str) -> None:
    whole = contract.parse_one(body({"application": complete(contract)}))
    without = contract.parse_one(body({"application": complete(contract) | {field: None}}))
    none, (warning,) = contract.warnings(whole, without)
    assert none == []
    assert (warning["code"], warning["pointer"]) == ("absent", "/application")
    assert warning["detail"].startswith(f"{field}: missing, but never missing")


def test_a_field_that_comes_without_its_group_is_named_and_left_aside(contract: Contract) -> None:
    alone = contract.parse_one(body({"application": complete(contract) | {"APARTMENTS_AVG": 0.9}}))
    most = contract.parse_one(body({"application": complete(contract) | {"APARTMENTS_AVG": 0.9, "APARTMENTS_MODE": 0.9}}))
    matrix = contract.matrix([alone, most])
    place = contract.features.names.index("APARTMENTS_AVG")
    np.testing.assert_equal(matrix[:, place], [np.nan, 0.9])
    assert [(found[0]["code"], found[0]["detail"].split(":")[0]) for found in contract.warnings(alone, most)] == [
        ("lone", "APARTMENTS_AVG"),
        ("absent", "APARTMENTS_MEDI"),
    ]


def test_a_null_in_a_vector_is_named_where_training_always_had_the_field(contract: Contract) -> None:
    vector = contract.matrix([contract.parse_one(body({"application": complete(contract)}))])[0]
    vector[contract.features.names.index("AMT_CREDIT")] = np.nan
    row = contract.parse_one(body({"features": [None if np.isnan(value) else value for value in vector.tolist()]}))
    ((warning,),) = contract.warnings(row)
    assert (warning["code"], warning["detail"].split(":")[0]) == ("absent", "AMT_CREDIT")


def test_history_becomes_features(contract: Contract) -> None:
    names = contract.features.names
    place = names.index("BUREAU_DEBT_SHARE_MEAN_ACTIVE")
    loan = {"AMT_CREDIT_SUM": 200, "AMT_CREDIT_SUM_DEBT": 50, "CREDIT_ACTIVE": "Active"}
    bodies = [{"history": {"bureau": [loan]}}, {"history": {"bureau": []}}, {"history": {"bureau": None}}, {"history": {}}, {}]
    rows = [contract.parse_one(body({"application": {}, **part})) for part in bodies]
    matrix = contract.matrix(rows)
    np.testing.assert_equal(matrix[:, place], [0.25, np.nan, np.nan, np.nan, np.nan])
    for row, alone in zip(rows, matrix, strict=True):
        assert contract.matrix([row])[0].tobytes() == alone.tobytes()
    assert [[warning["code"] for warning in found] for found in contract.warnings(*rows)] == [["absent"]] * 5


def test_a_vector_equals_the_named_application_it_came_from(contract: Contract, bundle: Bundle) -> None:
    named = contract.parse_example()
    matrix = contract.matrix([named])
    features = [None if np.isnan(value) else value for value in matrix[0].tolist()]
    row = contract.parse_one(body({"features": features}))
    both = contract.matrix([named, row])
    assert both[0].tobytes() == both[1].tobytes() == matrix[0].tobytes()


def test_reading_the_input_changes_no_row(contract: Contract) -> None:
    vector: list[Any] = [None] * len(contract.features.names)
    vector[contract.features.names.index("CODE_GENDER")] = 7
    rows = [contract.parse_example(), contract.parse_one(body({"features": vector})), contract.parse_one(body({"application": {}}))]
    before = msgspec.json.encode([[row.pointer, row.notes, row.sent, row.vector.tolist() if row.vector is not None else 0] for row in rows])
    first, again = contract.inputs.read(rows), contract.inputs.read(rows)
    after = msgspec.json.encode([[row.pointer, row.notes, row.sent, row.vector.tolist() if row.vector is not None else 0] for row in rows])
    assert before == after
    assert first.warnings == again.warnings
    assert first.matrix.tobytes() == again.matrix.tobytes()
    assert [sent is None for sent in first.sent] == [True, True, True]  # a code that no category has is not kept as it was sent
