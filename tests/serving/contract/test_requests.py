"""From the bytes of a request to rows."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from parsed import Contract, body, errors_of

from serving.bundle import Bundle
from serving.contract.documents import MAX_EXPLAINED, MAX_SEARCHED, MOST_BATCH_VALUES, MOST_VALUES, NOT_JSON, STEP
from serving.contract.frames import MOST_BYTES
from serving.contract.prediction import predictions, row_error
from serving.contract.requests import RequestParser
from serving.contract.rows import Row
from serving.errors import MOST_ERRORS, MOST_OF_CALL, ServiceError, invalid


def test_a_named_application_becomes_a_row(contract: Contract) -> None:
    row = contract.parse_one(
        body({"client_id": "c1", "application": {"EXT_SOURCE_1": 0.5, "CODE_GENDER": "F", "SK_ID_CURR": 7, "EXT_SOURCE_2": None}})
    )
    assert (row.client_id, row.pointer, row.errors) == ("c1", "/application", [])
    matrix = contract.matrix([row])
    assert matrix[0, contract.features.names.index("EXT_SOURCE_1")] == 0.5
    assert np.isnan(matrix[0, contract.features.names.index("EXT_SOURCE_2")])


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("AMT_CREDIT", "5", "expected a number or null, got text"),
        ("AMT_CREDIT", True, "expected a number or null, got a boolean"),
        ("AMT_CREDIT", [5], "expected a number or null, got an array"),
        ("AMT_CREDIT", {}, "expected a number or null, got an object"),
        ("AMT_CREDIT", 10**400, "expected a number within the range of a 64-bit float"),
        ("CNT_CHILDREN", 1.5, "expected a whole number or null, got 1.5"),
        ("CODE_GENDER", 1, "expected text or null, got a number"),
        ("AMT_CREDITS", 5, "no such field; the fields are those of GET /docs.json"),
        ("TARGET", 0, "is the outcome; it cannot be part of an application"),
    ],
)
def test_a_bad_value_is_named_by_its_pointer(contract: Contract, name: str, value: Any, said: str) -> None:
    assert errors_of(contract, body({"application": {name: value}})) == {f"/application/{name}": said}


def test_every_bad_value_is_named(contract: Contract) -> None:
    errors = errors_of(contract, body({"application": {"AMT_CREDIT": "x", "NOPE": 1}, "client_id": 3, "extra": 1}))
    assert set(errors) == {"/application/AMT_CREDIT", "/application/NOPE", "/client_id", "/extra"}


@pytest.mark.parametrize(
    ("text", "pointer", "said"),
    [
        (b'{"application": {"AMT_CREDIT": NaN}}', "/application/AMT_CREDIT", "expected a finite number"),
        (b'{"application": {"AMT_CREDIT": -Infinity}}', "/application/AMT_CREDIT", "expected a finite number"),
        (b'{"application": {"AMT_CREDIT": 1e999}}', "/application/AMT_CREDIT", "expected a finite number"),
        (rb'{"application": {"CODE_GENDER": "\ud800"}}', "/application/CODE_GENDER", "expected valid Unicode text"),
        (rb'{"application": {"\ud800": 1}}', "/application/?", "no such field; the fields are those of GET /docs.json"),
        (
            rb'{"client_id": "a\u0000", "application": {}}',
            "/client_id",
            "expected text of 1 to 200 characters without U+0000, or null, got text",
        ),
        (
            rb'{"client_id": "\ud800", "application": {}}',
            "/client_id",
            "expected text of 1 to 200 characters without U+0000, or null, got text",
        ),
        (b'{"application": {"a/b~c": 1}}', "/application/a~1b~0c", "no such field; the fields are those of GET /docs.json"),
        (b'{"application": []}', "/application", "expected an object of named fields, got an array"),
        (b'{"features": {}}', "/features", "expected an array of 189 numbers, got an object"),
        (b'{"features": [1]}', "/features", "expected 189 numbers in the order of GET /model, got 1"),
        (b"{}", "", "expected exactly one of application, features"),
        (b'{"application": {}, "features": []}', "", "expected exactly one of application, features"),
        (b"[]", "", "expected an object, got an array"),
        (b'"x"', "", "expected an object, got text"),
        (b'{"application": {}, "history": []}', "/history", "expected an object of tables, got an array"),
    ],
)
def test_what_is_wrong_is_named(contract: Contract, text: bytes, pointer: str, said: str) -> None:
    assert errors_of(contract, text) == {pointer: said}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"nonsense",
        b"\xff\xfe",
        b'{"application": {}',
        b"[" * 20_000,
        b'{"a":' * 20_000,
        b'{"application": {}, "x": "\xc3\x28"}',
    ],
    ids=["empty", "open", "word", "bytes", "truncated", "deep arrays", "deep objects", "bad utf-8"],
)
def test_what_is_no_json_is_a_400(contract: Contract, text: bytes) -> None:
    with pytest.raises(ServiceError, match=NOT_JSON) as caught:
        contract.parse_one(text)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("text", "pointers"),
    [
        (b'{"application": {"AMT_CREDIT": 1, "AMT_CREDIT": 2}}', ["/application/AMT_CREDIT"]),
        (rb'{"application": {"AMT_CREDIT": 1, "AMT\u005fCREDIT": 2}}', ["/application/AMT_CREDIT"]),
        (b'{"application": {"ORGANIZATION_TYPE": "Trade: type 7", "AMT_CREDIT": 1, "AMT_CREDIT" : 1}}', ["/application/AMT_CREDIT"]),
        (rb'{"client_id": "\u003a", "application": {"AMT_CREDIT": 1, "AMT_CREDIT": 2}}', ["/application/AMT_CREDIT"]),
        (b'{"application": {"SK_ID_CURR": 1e999, "AMT_CREDIT": 1, "AMT_CREDIT": "x"}}', ["/application/AMT_CREDIT"]),
        (b'{"application": {"SK_ID_CURR": {"a": 1, "a": 2}}}', ["/application/SK_ID_CURR/a"]),
        (b'{"application": {"SK_ID_CURR": 123456789012345678901234567890}, "client_id": "a", "client_id": "b"}', ["/client_id"]),
        (b'{"application": {"AMT_CREDIT": 1}, "application": {"AMT_CREDIT": 1}}', ["/application"]),
        (b'{"application": {}, "history": {"bureau": [{}, {"DAYS_CREDIT": -1, "DAYS_CREDIT": -2}]}}', ["/history/bureau/1/DAYS_CREDIT"]),
        (b'{"application": {}, "history": {"bureau": [], "bureau": []}}', ["/history/bureau"]),
        (b'{"features": [VECTOR], "features": [VECTOR]}', ["/features"]),
        (b'{"features": [VECTOR], "client_id": "a:b", "client_id": "a:b"}', ["/client_id"]),
        (rb'{"features": [VECTOR], "features": [VECTOR], "client_id": "\u003A"}', ["/features"]),
    ],
)
def test_a_member_that_is_given_twice_is_refused(contract: Contract, text: bytes, pointers: list[str]) -> None:
    vector = b",".join([b"null"] * len(contract.features.names))
    assert list(errors_of(contract, text.replace(b"VECTOR", vector))) == pointers


@pytest.mark.parametrize("client_id", ["null", '"a"', '"a:b"', r'"\u003a"', r'"\":"'])
def test_colons_that_part_no_member_are_none(contract: Contract, client_id: str) -> None:
    vector = [None] * len(contract.features.names)
    for rest in ({"features": vector}, {"application": {"ORGANIZATION_TYPE": "Trade: type 7", "SK_ID_CURR": 2**70}}):
        row = contract.parse_one(f'{{"client_id": {client_id}, {json.dumps(rest)[1:]}'.encode())
        assert row.client_id == json.loads(client_id)
    (row, _) = contract.parse_batch(
        f'{{"features": {[vector, vector]}, "client_ids": [{client_id}, ":"]}}'.replace("None", "null").encode()
    )
    assert row.client_id == json.loads(client_id)


def test_a_member_that_a_row_of_a_batch_gives_twice_spoils_only_that_row(contract: Contract) -> None:
    twice = b'{"client_id": "a", "application": {"AMT_CREDIT": 1, "AMT_CREDIT": 2}}'
    rows = list(contract.parse_batch(b'{"applications": [{"application": {}}, %b]}' % twice))
    assert [[error.pointer for error in row.errors] for row in rows] == [[], ["/applications/1/application/AMT_CREDIT"]]
    assert rows[1].client_id == "a"


@pytest.mark.parametrize("name", ["applications", "features", "client_ids"])
def test_a_member_that_the_frame_of_a_batch_gives_twice_is_refused(contract: Contract, name: str) -> None:
    value = [None] * len(contract.features.names)
    content = json.dumps({"features": [value], "client_ids": [":"]} if name != "applications" else {name: [{"application": {}}]})
    content = content.replace(f'"{name}"', f'"{name}": [], "{name}"')
    for text, pointer in ((content, f"/{name}"), (content + " " * MAX_SEARCHED, f"/{name}")):
        with pytest.raises(ServiceError) as caught:
            list(contract.parse_batch(text.encode()))
        assert [(caught.value.status, error.pointer) for error in caught.value.errors] == [(422, pointer)]


def test_history_beside_a_vector_is_an_error(contract: Contract) -> None:
    vector = [None] * len(contract.features.names)
    assert errors_of(contract, body({"features": vector, "history": {}})) == {
        "/history": "expected history with an application only; a vector already contains it"
    }


@pytest.mark.parametrize("rest", [[], ["x"], [None] * 3, [[[], "]"], {"a": ","}]])
def test_items_are_counted_and_refused_before_they_are_decoded(contract: Contract, rest: list[Any]) -> None:
    with pytest.raises(ServiceError, match=f"/applications has {6 + len(rest)} rows") as caught:
        list(contract.parse_batch(body({"applications": [1, "]", {}, [","], '"', "\\", *rest]})))
    assert caught.value.status == 413


def test_an_item_that_is_too_large_spoils_only_itself_and_a_client_id_its_row(contract: Contract) -> None:
    large = "x" * MOST_BYTES
    (one, two) = contract.parse_batch(body({"applications": [large, {"application": {}}]}))
    assert [error.pointer for error in one.errors] == ["/applications/0"]
    assert not two.errors
    (row,) = contract.parse_batch(body({"features": [[]], "client_ids": [large]}))
    assert [error.pointer for error in row.errors] == ["/client_ids/0"]
    with pytest.raises(ServiceError) as caught:
        list(contract.parse_batch(body({"applications": [large]})[:-4] + b"]}"))
    assert caught.value.status == 400


def test_a_batch_is_parsed_in_short_steps(contract: Contract) -> None:
    """However long a text is, no step of it handles more than a part."""
    text = b'{"applications": [%b]}' % b",".join([b'"%b"' % (b"a" * 14)] * 300_000)
    steps = RequestParser.parse_batch(contract, text)
    assert [next(steps) for _ in range(len(text) // STEP + 2)] == [None] * (len(text) // STEP + 2)
    with pytest.raises(ServiceError, match="has 300000 rows"):
        list(steps)


def test_a_bad_row_of_a_batch_spoils_only_itself(contract: Contract, caplog: pytest.LogCaptureFixture) -> None:
    rows = list(
        contract.parse_batch(body({"applications": [{"application": {}}, {"application": {"AMT_CREDIT": "x"}, "client_id": "b"}, 3]}))
    )
    assert [bool(row.errors) for row in rows] == [False, True, True]
    answer = row_error(1, rows[1], invalid(rows[1].errors))
    assert (answer["index"], answer["client_id"], answer["error"]["status"]) == (1, "b", 422)
    assert answer["error"]["errors"][0]["pointer"] == "/applications/1/application/AMT_CREDIT"
    assert row_error(2, rows[2], invalid(rows[2].errors))["error"]["errors"][0]["pointer"] == "/applications/2"
    assert not caplog.records
    assert row_error(0, rows[0], KeyError("secret"))["error"]["detail"] == "the row could not be scored"
    assert "KeyError: 'secret'" in caplog.text


@pytest.mark.parametrize("form", ["values", "unknown members", "unknown fields", "history", "vectors", "category codes"])
def test_a_batch_full_of_bad_values_names_some_of_each_row(bundle: Bundle, form: str) -> None:
    contract = Contract(bundle, max_rows=1000)
    names = [column.name for column in bundle.features.table.columns]
    row, least = {
        "values": ({"application": {name: [] for name in names}}, MOST_ERRORS),
        "unknown members": ({"application": {}, **{f"u{number}": 1 for number in range(500)}}, MOST_ERRORS),
        "unknown fields": ({"application": {f"u{number}": 1 for number in range(500)}}, MOST_ERRORS),
        "history": ({"application": {}, "history": {"bureau": [{"NOPE": 1}] * 300, "bureau_balance": 3}}, MOST_ERRORS),
        "vectors": (["x"] * len(contract.features.names), MOST_ERRORS),
        "category codes": ([0.5] * len(contract.features.names), 10),
    }[form]
    name = "features" if isinstance(row, list) else "applications"
    rows = list(contract.parse_batch(body({name: [row] * 1000})))
    told = [len(row.errors) for row in rows]
    assert least <= told[0] <= MOST_ERRORS
    assert told == [told[0]] * (full := -(-MOST_OF_CALL // told[0])) + [1] * (1000 - full)
    assert rows[-1].errors[0].pointer.startswith(f"/{name}/999")


@pytest.mark.parametrize(
    ("content", "status", "pointer"),
    [
        ({}, 422, ""),
        ({"applications": [], "features": []}, 422, ""),
        ({"applications": 3}, 422, "/applications"),
        ({"applications": [], "client_ids": []}, 422, "/client_ids"),
        ({"features": [[1]], "client_ids": []}, 422, "/client_ids"),
        ({"applications": [], "x": 1}, 422, "/x"),
        ({"applications": [{}] * 6}, 413, None),
    ],
)
def test_a_bad_frame_of_a_batch_is_an_error(contract: Contract, content: Any, status: int, pointer: str | None) -> None:
    with pytest.raises(ServiceError) as caught:
        list(contract.parse_batch(body(content)))
    assert caught.value.status == status
    assert [error.pointer for error in caught.value.errors] == ([] if pointer is None else [pointer])


@pytest.mark.parametrize("value", ["NaN", "1e999", '"\\ud800"', "Infinity"])
@pytest.mark.parametrize("place", [0, 3])
def test_what_is_no_json_is_named_wherever_it_stands_in_a_batch(contract: Contract, value: str, place: int) -> None:
    rows = ['{"application": {"AMT_CREDIT": 1}}'] * 4
    rows[place] = f'{{"application": {{"AMT_CREDIT": {value}}}}}'
    with pytest.raises(ServiceError) as caught:
        list(contract.parse_batch(f'{{"applications": [{",".join(rows)}]}}'.encode()))
    assert [error.pointer for error in caught.value.errors] == [f"/applications/{place}/application/AMT_CREDIT"]


@pytest.mark.parametrize(
    "content", [b'{"applications": [{"client_id": "\xff"}]}', b'{"applications": "\xff"}', b"\xff", b"", b"[", b'{"applications": [{]}']
)
def test_a_batch_that_is_no_json_is_400(contract: Contract, content: bytes) -> None:
    for text in (content, content + b" " * MAX_EXPLAINED):
        with pytest.raises(ServiceError) as caught:
            list(contract.parse_batch(text))
        assert (caught.value.status, caught.value.errors) == (400, [])


@pytest.mark.parametrize("content", [b"[1]", b"null", b'"x"'])
def test_a_batch_that_is_no_object_is_said_so(contract: Contract, content: bytes) -> None:
    with pytest.raises(ServiceError, match="expected an object"):
        list(contract.parse_batch(content))


def test_an_empty_batch_is_a_batch(contract: Contract) -> None:
    assert list(contract.parse_batch(b'{"applications": []}')) == []
    assert contract.matrix([]).shape == (0, len(contract.features.names))


def test_a_prediction_has_the_members_of_the_contract(bundle: Bundle) -> None:
    (answer,) = predictions([Row("", "c")], [bundle.decision.threshold], [[]], decision=bundle.decision, model_version="v")
    assert list(msgspec.to_builtins(answer)) == [
        "prediction_id", "client_id", "prediction", "decision", "probability", "risk_level", "threshold", "model_version", "timestamp", "warnings",
    ]  # fmt: skip
    assert (answer.prediction, answer.decision, answer.risk_level) == (1, "DECLINE", "HIGH")


def test_what_would_hold_up_others_is_refused_before_it_is_decoded(contract: Contract) -> None:
    application = b'{"application": {"AMT_CREDIT": [%b]}}'
    most, more = (application % b",".join([b"1"] * count) for count in (MOST_VALUES - 2, MOST_VALUES - 1))
    assert list(errors_of(contract, most)) == ["/application/AMT_CREDIT"]
    assert list(errors_of(contract, more)) == [""]
    rows = list(contract.parse_batch(b'{"applications": [{"application": {}}, %b, %b]}' % (most, more)))
    assert [[error.pointer for error in row.errors] for row in rows] == [
        [],
        ["/applications/1/application/AMT_CREDIT"],
        ["/applications/2"],
    ]
    with pytest.raises(ServiceError, match="the body: holds more than 1,000,000 values"):
        list(contract.parse_batch(b'{"features": [%b]}' % b",".join([b"1"] * MOST_BATCH_VALUES)))
