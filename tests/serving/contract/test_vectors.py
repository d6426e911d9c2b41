"""Requests by feature vector."""

from typing import Any

import numpy as np
import pytest
from parsed import Contract, body, errors_of

from features.history import UNSEEN


@pytest.mark.parametrize(("space", "kept"), [("", True), (" ", True), ("\n", False), ("\r", False), ("\t", False)])
def test_a_vector_is_kept_as_sent_unless_it_would_break_a_line_of_the_log(contract: Contract, space: str, kept: bool) -> None:
    values = [0] * len(contract.features.names)
    row = contract.parse_one(f'{{"features": [{f",{space}".join(map(str, values))}]}}'.encode())
    assert (row.sent is not None) == kept
    assert row.vector is not None
    assert row.vector.tolist() == values


@pytest.mark.parametrize("number", ["1", "-0.0", "-0", "5e-324", "1e-400", "0.1", "9007199254740993", "1" + "0" * 300, " 2\n", "null"])
def test_a_vector_read_at_a_glance_is_the_vector_read_value_by_value(contract: Contract, number: str) -> None:
    numbers = ",".join(["null"] * (len(contract.features.names) - 1) + [number])
    glance = contract.parse_one(f'{{"client_id": "a", "features": [{numbers}]}}'.encode())
    by_value = contract.parse_one(f'{{"client_id": "a", "features": [{numbers}], "application": null}}'.encode())
    first, second = contract.parse_batch(f'{{"features": [[{numbers}], [{numbers}]], "client_ids": ["a", null]}}'.encode())
    (of_bad_batch, _) = contract.parse_batch(f'{{"features": [[{numbers}], []]}}'.encode())
    rows = [glance, by_value, first, second, of_bad_batch]
    assert [row.client_id for row in rows] == ["a", "a", "a", None, None]
    assert len({row.vector.tobytes() for row in rows if row.vector is not None}) == 1
    assert all(row.vector is not None and row.vector.dtype == np.float64 for row in rows)
    assert not any(row.errors for row in rows)


@pytest.mark.parametrize("number", ["1e400", "1" + "0" * 400, "true", '"1"', "NaN"])
def test_a_vector_with_a_bad_number_names_it(contract: Contract, number: str) -> None:
    numbers = ",".join(["null"] * (len(contract.features.names) - 1) + [number])
    place = len(contract.features.names) - 1
    assert list(errors_of(contract, f'{{"features": [{numbers}]}}'.encode())) == [f"/features/{place}"]


def test_a_vector_with_a_bad_client_id_names_it(contract: Contract) -> None:
    vector = [None] * len(contract.features.names)
    assert list(errors_of(contract, body({"features": vector, "client_id": ""}))) == ["/client_id"]
    rows = list(contract.parse_batch(body({"features": [vector, vector], "client_ids": ["", "b"]})))
    assert [[error.pointer for error in row.errors] for row in rows] == [["/client_ids/0"], []]


def test_a_full_batch_of_vectors_is_read_at_a_glance_and_a_longer_text_is_not(contract: Contract) -> None:
    vector = [0] * len(contract.features.names)
    full = {"features": [vector] * 5, "client_ids": ["a"] * 5}
    assert all(row.sent is not None for row in contract.parse_batch(body(full)))
    with_commas = list(contract.parse_batch(body(full | {"client_ids": ["a,,,,,"] * 5})))
    assert [(row.client_id, row.sent, row.errors) for row in with_commas] == [("a,,,,,", None, [])] * 5


def test_category_codes_of_a_vector_are_checked(contract: Contract) -> None:
    features: list[Any] = [None] * len(contract.features.names)
    place = contract.features.names.index("CODE_GENDER")
    features[place] = 0.5
    assert errors_of(contract, body({"features": features})) == {
        f"/features/{place}": "expected the whole-number code of a category, as GET /model lists it"
    }
    features[place] = 7
    row = contract.parse_one(body({"features": features}))
    assert contract.matrix([row])[0, place] == UNSEEN
    assert [(w["code"], w["pointer"]) for w in contract.warnings(row)[0]] == [
        ("unseen_category", f"/features/{place}"),
        ("absent", "/features"),
    ]


def test_vectors_of_a_batch_carry_their_client_ids(contract: Contract) -> None:
    vector = [None] * len(contract.features.names)
    rows = list(contract.parse_batch(body({"features": [vector, vector[:-1]], "client_ids": ["a", None]})))
    assert [row.client_id for row in rows] == ["a", None]
    assert [error.pointer for error in rows[1].errors] == ["/features/1"]
