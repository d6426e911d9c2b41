import json
from typing import Any

import httpx
import pytest
from pages import FakeApi, page, shown
from streamlit.testing.v1 import AppTest

from monitoring.dashboard.form import Field, fields_of
from monitoring.dashboard.uploads import CALL_ROWS, Line, Problem, as_csv, calls, read_upload

COMMON = {"label": "A label", "min": None, "max": None, "categories": [], "group": "loan", "main": True, "display": "plain", "unit": None}
TYPES = {"AMOUNT": "number", "COUNT": "integer", "KIND": "category"}
FIELDS = [{**COMMON, "name": name, "type": kind} for name, kind in TYPES.items()]
SCHEMA = {"groups": [{"name": "loan", "label": "Loan"}], "tables": {"application": {"key": "KEY", "fields": FIELDS}}}


@pytest.fixture
def fields() -> list[Field]:
    return fields_of(SCHEMA)


def read(name: str, text: str | bytes, fields: list[Field]) -> tuple[list[Line], list[Problem]]:
    return read_upload(name, text if isinstance(text, bytes) else text.encode(), fields, "KEY")


def test_csv_becomes_applications_of_the_right_types(fields: list[Field]) -> None:
    text = '\ufeffKEY,AMOUNT,COUNT,KIND\r\n7,1.5,2,"Cash, or so"\r\n\r\n8,,3.0,\r\n'
    lines, problems = read("a.CSV", text, fields)
    assert not problems
    assert lines == [
        Line(2, {"application": {"AMOUNT": 1.5, "COUNT": 2, "KIND": "Cash, or so"}, "client_id": "7"}),
        Line(4, {"application": {"COUNT": 3}, "client_id": "8"}),
    ]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters_are_recognised(delimiter: str, fields: list[Field]) -> None:
    (line,), _ = read("a.csv", f"client_id{delimiter}AMOUNT\nx{delimiter}1\n", fields)
    assert line.body == {"application": {"AMOUNT": 1.0}, "client_id": "x"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("AMOUNT,COUNT\n1\n", Problem(2, "", "columns", "1 / 2")),
        ("AMOUNT\nmany\n", Problem(2, "AMOUNT", "not_number", "many")),
        ("AMOUNT\nnan\n", Problem(2, "AMOUNT", "not_number", "nan")),
        ("AMOUNT\n1e999\n", Problem(2, "AMOUNT", "not_number", "1e999")),
        ("COUNT\n1.5\n", Problem(2, "COUNT", "not_integer", "1.5")),
        ("AMOUNT,AMUNT\n1,1\n", Problem(1, "AMUNT", "unknown_column")),
        ("AMOUNT,AMOUNT\n1,1\n", Problem(1, "AMOUNT", "twice")),
        ("", Problem(1, "", "empty")),
        ("AMOUNT\n", Problem(1, "", "empty")),
        (b"AMOUNT\n1\n\xff\n", Problem(3, "", "not_utf8")),
    ],
)
def test_a_csv_line_that_cannot_be_read_is_named(text: str | bytes, problem: Problem, fields: list[Field]) -> None:
    lines, problems = read("a.csv", text, fields)
    assert (lines, problems) == ([], [problem])


def test_a_quote_that_is_not_closed_is_named(fields: list[Field]) -> None:
    _, (problem,) = read("a.csv", 'AMOUNT\n"1\n2\n', fields)
    assert problem.code == "not_csv"


def test_json_lines_are_bodies_or_applications(fields: list[Field]) -> None:
    documents = [{"application": {"AMOUNT": 1}, "history": {}}, {"AMOUNT": 1, "KEY": 7}, {"AMOUNT": 1, "client_id": "x"}]
    lines, problems = read("a.jsonl", "\n".join(map(json.dumps, documents)) + "\n\n", fields)
    assert not problems
    assert [line.body for line in lines] == [
        documents[0],
        {"application": {"AMOUNT": 1, "KEY": 7}, "client_id": "7"},
        {"application": {"AMOUNT": 1}, "client_id": "x"},
    ]


def test_a_json_line_that_cannot_be_read_is_named(fields: list[Field]) -> None:
    text = '{"AMOUNT": 1}\n{\n[1]\n{"application": {}, "other": 1}\n' + "[" * 100_000
    lines, problems = read("a.jsonl", text, fields)
    assert [line.number for line in lines] == [1]
    assert [(problem.number, problem.code) for problem in problems] == [
        (2, "not_json"),
        (3, "not_object"),
        (4, "unknown_member"),
        (5, "not_json"),
    ]


@pytest.mark.parametrize("count", [0, 1, CALL_ROWS, CALL_ROWS + 1, 3 * CALL_ROWS])
def test_calls_hold_every_line_once(count: int) -> None:
    lines = [Line(number, {"application": {"AMOUNT": number}}) for number in range(count)]
    parts = list(calls(lines))
    assert [line for part, _ in parts for line in part] == lines
    assert [item for _, body in parts for item in json.loads(body)["applications"]] == [line.body for line in lines]
    assert all(len(part) <= CALL_ROWS for part, _ in parts)


def test_a_download_holds_no_formula() -> None:
    assert as_csv(["a"], [["=1+1"], ["@x"], [-1], ["ok"]]) == "a\r\n'=1+1\r\n'@x\r\n-1\r\nok\r\n"


def answered(request: httpx.Request) -> httpx.Response:
    """Every application is scored but those whose AMOUNT is 13."""
    rows = []
    for index, item in enumerate(json.loads(request.content)["applications"]):
        client, amount = item.get("client_id"), item["application"]["AMOUNT"]
        if amount == 13:
            error = {"detail": "no", "errors": [{"pointer": "/application/AMOUNT", "detail": "unlucky"}]}
            rows.append({"index": index, "client_id": client, "error": error})
        else:
            rows.append(
                {
                    "client_id": client,
                    "prediction_id": f"p{amount}",
                    "decision": "APPROVE",
                    "probability": amount / 10_000,
                    "risk_level": "LOW",
                    "threshold": 0.09,
                    "model_version": "v",
                    "timestamp": "t",
                    "warnings": [],
                }
            )
    return httpx.Response(200, json={"predictions": rows, "count": len(rows)})


def uploaded(fake: FakeApi, text: str) -> AppTest:
    test = page("batch", fake, "analyst")
    test.file_uploader[0].set_value(("a.csv", text.encode(), "text/csv")).run()
    return test


def test_a_file_is_scored_and_each_bad_line_is_named() -> None:
    fake = FakeApi({"GET /schema": SCHEMA, "POST /predict/batch": answered})
    rows = [f"c{number},{number}" for number in range(1, 1201)]
    rows[99] = "c100,many"
    test = uploaded(fake, "client_id,AMOUNT\n" + "\n".join(rows) + "\n")
    assert not fake.bodies("/predict/batch")
    assert test.dataframe[0].value.to_dict("records") == [{"Line": 101, "Field": "AMOUNT", "Problem": "not a number: many"}]
    test.button[0].click().run()
    text = shown(test)
    assert sum(len(body["applications"]) for body in fake.bodies("/predict/batch")) == 1199
    assert "<dt>Scored</dt><dd>1,198</dd>" in text
    assert "<dt>Refused by the API</dt><dd>1</dd>" in text or "<dt>Refused</dt><dd>1</dd>" in text
    assert test.dataframe[1].value.to_dict("records") == [{"Line": 14, "Field": "/application/AMOUNT", "Problem": "unlucky"}]
    assert len(test.dataframe[2].value) == 1000


def test_what_was_scored_before_the_service_stopped_is_kept() -> None:
    states: list[Any] = [answered, 503]
    fake = FakeApi({"GET /schema": SCHEMA})
    fake.answers["POST /predict/batch"] = lambda request: (
        answer(request) if callable(answer := states.pop(0)) else httpx.Response(answer, json={})
    )
    test = uploaded(fake, "AMOUNT\n" + "20\n" * 700)
    test.button[0].click().run()
    assert "<dt>Scored</dt><dd>500</dd>" in shown(test)
    assert len(test.dataframe[0].value) == 200


def test_an_empty_file_says_so() -> None:
    test = uploaded(FakeApi({"GET /schema": SCHEMA}), "")
    assert test.dataframe[0].value["Problem"].tolist() == ["the file has no applications"]
    assert not test.button
