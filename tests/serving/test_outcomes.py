import asyncio
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from records import make_records, write_log
from running import Postgres

from monitoring.metrics import Metrics
from monitoring.store.database import Store
from monitoring.store.queries import Outcome
from monitoring.store.shipper import Shipper
from serving import outcome_desk
from serving.contract.documents import MOST_BATCH_VALUES, MOST_VALUES
from serving.errors import MOST_ERRORS, ServiceError
from serving.outcome_desk import OutcomeDesk
from serving.outcomes import EXPORTED, parse_outcomes, read_csv, read_json_lines

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ID = "01a2048f-65ec-7468-814c-b56ecd0b1a45"


def parse(*items: Any) -> list[Any]:
    return list(parse_outcomes(json.dumps({"outcomes": items}).encode(), NOW))


def test_a_member_that_is_given_twice_spoils_its_outcome_or_the_frame() -> None:
    good = '{"client_id": "c", "defaulted": true, "observed_at": "2026-01-01T00:00:00Z"}'
    bad = good.replace("true", 'true, "defaulted": false')
    first, second = parse_outcomes(f'{{"outcomes": [{good}, {bad}]}}'.encode(), NOW)
    assert isinstance(first, Outcome)
    assert [error.pointer for error in second] == ["/outcomes/1/defaulted"]  # type: ignore[union-attr]
    with pytest.raises(ServiceError, match="/outcomes: is given 2 times; expected once"):
        parse_outcomes(f'{{"outcomes": [], "outcomes": [{good}]}}'.encode(), NOW)


def test_outcomes_are_read() -> None:
    early = "2026-02-01T12:00:00+02:00"
    assert parse() == []
    assert parse(
        {"prediction_id": ID.upper(), "defaulted": True},
        {"client_id": "c", "defaulted": False, "observed_at": early},
        {"client_id": "c", "prediction_id": None, "defaulted": False, "observed_at": "2026-03-01T00:04:59Z"},
    ) == [
        Outcome(ID, None, True, NOW),
        Outcome(None, "c", False, datetime.fromisoformat(early)),
        Outcome(None, "c", False, NOW + timedelta(minutes=4, seconds=59)),
    ]


@pytest.mark.parametrize(
    ("item", "pointer", "said"),
    [
        (3, "", "expected an object, got a number"),
        ({"defaulted": True}, "", "expected exactly one of prediction_id, client_id"),
        ({"defaulted": True, "client_id": "c", "prediction_id": ID}, "", "expected exactly one of prediction_id, client_id"),
        ({"client_id": "c"}, "/defaulted", "expected true or false, got null"),
        ({"client_id": "c", "defaulted": 1}, "/defaulted", "expected true or false, got a number"),
        ({"client_id": "c", "defaulted": "true"}, "/defaulted", "expected true or false, got text"),
        ({"client_id": "", "defaulted": True}, "/client_id", "expected text of 1 to 200 characters"),
        ({"client_id": "a\0", "defaulted": True}, "/client_id", "expected text of 1 to 200 characters"),
        ({"prediction_id": "x", "defaulted": True}, "/prediction_id", "expected the prediction_id of an answer"),
        ({"prediction_id": ID.replace("-", ""), "defaulted": True}, "/prediction_id", "expected the prediction_id"),
        ({"prediction_id": 5, "defaulted": True}, "/prediction_id", "expected the prediction_id"),
        ({"client_id": "c", "defaulted": True, "observed_at": "2026-01-01T00:00:00"}, "/observed_at", "expected a time with its zone"),
        ({"client_id": "c", "defaulted": True, "observed_at": "2026-01-01"}, "/observed_at", "expected a time with its zone"),
        ({"client_id": "c", "defaulted": True, "observed_at": "soon"}, "/observed_at", "expected a time in ISO 8601, got text"),
        ({"client_id": "c", "defaulted": True, "observed_at": 5}, "/observed_at", "expected a time in ISO 8601, got a number"),
        ({"client_id": "c", "defaulted": True, "observed_at": "0001-01-01T00:00:00+14:00"}, "/observed_at", "ISO 8601"),
        ({"client_id": "c", "defaulted": True, "observed_at": "2026-03-01T00:06:00Z"}, "/observed_at", "not in the future"),
        ({"client_id": "c", "defaulted": True, "when": 1}, "/when", "no such member"),
    ],
)
def test_a_bad_outcome_spoils_only_itself_and_is_named(item: Any, pointer: str, said: str) -> None:
    good, (error, *_), other = parse({"client_id": "c", "defaulted": True}, item, {"client_id": "d", "defaulted": True})
    assert isinstance(good, Outcome)
    assert isinstance(other, Outcome)
    assert error.pointer == f"/outcomes/1{pointer}"
    assert said in error.detail


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b'{"outcomes": [NaN]}', 400),
        (b"[" * 100_000, 400),
        (b"\xff", 400),
        (b"[]", 422),
        (b"null", 422),
        (b"{}", 422),
        (b'{"outcomes": {}}', 422),
        (b'{"outcomes": [], "more": 1}', 422),
        (b'{"outcomes": [' + b"1," * 10_000 + b"1]}", 413),
    ],
)
def test_a_bad_frame_is_refused(body: bytes, status: int) -> None:
    with pytest.raises(ServiceError) as caught:
        parse_outcomes(body, NOW)
    assert caught.value.status == status


def test_csv_lines_are_read_with_their_numbers() -> None:
    text = f"prediction_id,client_id,defaulted,observed_at\n{ID},,1,2026-01-01T00:00:00Z\n,c,FALSE,\n,,1,\n,c,2,\n,c\n,c,1,,5\n\n,c,true,\n"
    rows = list(read_csv(io.StringIO(text), NOW))
    assert rows[:2] == [(2, Outcome(ID, None, True, datetime(2026, 1, 1, tzinfo=UTC))), (3, Outcome(None, "c", False, NOW))]
    assert [number for number, one in rows if isinstance(one, list)] == [4, 5, 6, 7]
    assert rows[-1] == (9, Outcome(None, "c", True, NOW))


@pytest.mark.parametrize(
    "text", ["", "defaulted\n1\n", "client_id\nc\n", "client_id,defaulted,more\nc,1,2\n", "client_id,defaulted,defaulted\nc,1,0\n"]
)
def test_a_csv_file_of_something_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected prediction_id or client_id, defaulted, and perhaps observed_at"):
        list(read_csv(io.StringIO(text), NOW))


def test_an_outcome_of_a_decision_that_is_in_the_log_only_is_stored(tmp_path: Path, store_url: str) -> None:
    store = Store(store_url)
    shipper = Shipper(tmp_path / "logs", store, 1, Metrics())
    shipper.start()
    given = make_records(2)
    write_log(tmp_path / "logs", given)
    metrics = Metrics()
    desk = OutcomeDesk(store, shipper, metrics, "credit_scoring")
    body = {
        "outcomes": [
            {"prediction_id": given[0].prediction_id, "defaulted": False},
            {"client_id": "c1", "defaulted": True},
            {"client_id": "nobody", "defaulted": True},
            {"client_id": "c0", "defaulted": True},
            {},
        ]
    }
    answer = asyncio.run(desk.take(json.dumps(body).encode()))
    shipper.stop(20)
    store.close()
    assert answer["outcomes"][:4] == [
        {"index": 0, "status": "stored", "prediction_id": given[0].prediction_id},
        {"index": 1, "status": "stored", "prediction_id": given[1].prediction_id},
        {"index": 2, "status": "unknown", "client_id": "nobody"},
        {"index": 3, "status": "corrected", "prediction_id": given[0].prediction_id},
    ]
    assert answer["outcomes"][4]["error"]["errors"][0]["pointer"] == "/outcomes/4"
    assert answer["counts"] == {"stored": 2, "repeated": 0, "corrected": 1, "unknown": 1, "invalid": 1}
    assert 'credit_outcomes_total{status="stored"} 2.0' in metrics.exposition().decode()


def test_a_store_that_does_not_answer_is_a_503(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(postgres.new_database())
    desk = OutcomeDesk(store, None, Metrics(), "credit_scoring")
    body = b'{"outcomes": [{"client_id": "nobody", "defaulted": true}]}'

    async def scenario() -> None:
        assert (await desk.take(body))["counts"]["unknown"] == 1
        monkeypatch.setattr(outcome_desk, "MOST_SECONDS", 0.5)
        with postgres.stopped(), pytest.raises(ServiceError) as caught:
            await desk.take(body)
        assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "5"})

    asyncio.run(scenario())
    store.close()


def test_errors_are_named_up_to_a_hundred_of_one_object() -> None:
    item = {f"f{number}": 0 for number in range(20_000)}
    (errors,) = parse_outcomes(json.dumps({"outcomes": [item]}).encode(), NOW)
    assert isinstance(errors, list)
    assert len(errors) == MOST_ERRORS
    with pytest.raises(ServiceError) as caught:
        parse_outcomes(json.dumps(dict.fromkeys(list(item)[:5000], 0)).encode(), NOW)
    assert len(caught.value.errors) == MOST_ERRORS
    items = {"outcomes": [{f"f{number}": 0 for number in range(200)}] * 1000}
    told = [len(errors) for errors in parse_outcomes(json.dumps(items).encode(), NOW) if isinstance(errors, list)]
    assert told == [MOST_ERRORS] * 10 + [1] * 990


def test_without_the_store_it_answers_503(tmp_path: Path) -> None:
    desk = OutcomeDesk(Store("postgresql+psycopg://a@127.0.0.1:1/x"), None, Metrics(), "credit_scoring")
    with pytest.raises(ServiceError) as caught:
        asyncio.run(desk.take(b'{"outcomes": [{"client_id": "c", "defaulted": true}]}'))
    assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "5"})
    assert asyncio.run(desk.take(b'{"outcomes": [{}]}'))["counts"]["invalid"] == 1


@pytest.mark.parametrize(
    ("text", "defaulted"),
    [("1.0", True), ("0.0", False), ('"1,0"', True), ('"0,0"', False), ("True", True), (" false", False), ("1", True), ("0", False)],
)
def test_outcomes_are_read_as_tables_and_spreadsheets_write_them(text: str, defaulted: bool) -> None:
    assert list(read_csv(io.StringIO(f"client_id,defaulted\nc,{text}\n"), NOW)) == [(2, Outcome(None, "c", defaulted, NOW))]


def test_a_quote_mark_that_is_not_closed_is_told_with_the_line_of_its_row() -> None:
    rows = list(read_csv(io.StringIO('client_id,defaulted\na,1\n"b,0\nc,1\n', newline=""), NOW))
    assert [number for number, _ in rows] == [2, 3]
    assert isinstance(rows[1][1], list)
    with pytest.raises(ValueError, match=r"line \d+ cannot be read as CSV: field larger .*; is there a single quote mark before it"):
        list(read_csv(io.StringIO('client_id,defaulted\n"b,0\n' + "c,1\n" * 40_000, newline=""), NOW))


@pytest.mark.parametrize("text", ["2", "2.0", "0.5", "yes", ""])
def test_what_is_no_outcome_is_an_error(text: str) -> None:
    ((_, errors),) = read_csv(io.StringIO(f"client_id,defaulted\nc,{text}\n"), NOW)
    assert isinstance(errors, list)
    assert errors[0].pointer == "/defaulted"


def test_a_header_that_is_none_is_told_without_the_values_of_a_person() -> None:
    with pytest.raises(ValueError, match="line 1 is not a header of outcomes; expected") as caught:
        list(read_csv(io.StringIO("100001,1.0\n100002,0.0\n"), NOW))
    assert "100001" not in str(caught.value)
    with pytest.raises(ValueError, match="line 1 has unknown columns: default; expected"):
        list(read_csv(io.StringIO("client_id,default\nc,1\n"), NOW))


def test_what_would_hold_up_others_is_refused_before_it_is_decoded() -> None:
    good = {"client_id": "c", "defaulted": True}
    first, second = parse(good, good | {"observed_at": [0] * MOST_VALUES})
    assert isinstance(first, Outcome)
    assert [error.pointer for error in second] == ["/outcomes/1"]
    with pytest.raises(ServiceError, match="the body: holds more than 1,000,000 values"):
        parse(*[0] * MOST_BATCH_VALUES)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_csv_file_of_another_separator_is_read_and_its_blank_rows_are_left_out(separator: str) -> None:
    text = separator.join(["client_id", "defaulted", "observed_at"]) + "\r\n"
    text += separator.join(["a,b", "1", ""]) + "\r\n" + 2 * f"{2 * separator}\r\n" + separator.join(["c", "0", ""])
    assert list(read_csv(io.StringIO(text, newline=""), NOW)) == [
        (2, Outcome(None, "a,b", True, NOW)),
        (5, Outcome(None, "c", False, NOW)),
    ]


def test_json_lines_are_read_with_their_numbers() -> None:
    early = "2026-02-01T12:00:00+00:00"
    record = {"prediction_id": ID, "client_id": "c", "features": [1, None]}
    row = {"prediction_id": ID, **dict.fromkeys(EXPORTED, "x"), "client_id": "c", "observed_at": None}
    lines = [
        {**record, "outcome": None},
        {**record, "outcome": {"defaulted": None}},
        {**record, "outcome": {"defaulted": True, "observed_at": early}},
        {**record, "outcome": {"defaulted": False}},
        {**row, "defaulted": None},
        {**row, "defaulted": True},
        {"client_id": "c", "defaulted": False, "observed_at": early},
    ]
    text = "\n\n".join(map(json.dumps, lines)) + "\r\n"
    assert list(read_json_lines(io.StringIO(text), NOW)) == [
        (1, None),
        (3, None),
        (5, Outcome(ID, None, True, datetime.fromisoformat(early))),
        (7, Outcome(ID, None, False, NOW)),
        (9, None),
        (11, Outcome(ID, None, True, NOW)),
        (13, Outcome(None, "c", False, datetime.fromisoformat(early))),
    ]


@pytest.mark.parametrize(
    ("line", "pointer", "said"),
    [
        ("prediction_id,defaulted", "", "not valid UTF-8 JSON: "),
        ('{"client_id": "c", "defaulted": NaN}', "", "not valid UTF-8 JSON: "),
        ("[1]", "", "expected an object, got an array"),
        ('"\ud800"', "", "not valid UTF-8 JSON: "),
        ('{"client_id": "c", "defaulted": 2}', "/defaulted", "expected true or false, got a number"),
        ('{"client_id": "c", "defaulted": true, "defaulted": false}', "/defaulted", "is given 2 times"),
        (f'{{"prediction_id": "{ID}", "outcome": true}}', "/outcome", "expected an object, got a boolean"),
        (f'{{"prediction_id": "{ID}", "outcome": {{"defaulted": "yes"}}}}', "/defaulted", "expected true or false, got text"),
        ('{"prediction_id": 1, "outcome": {"defaulted": true}}', "/prediction_id", "expected the prediction_id of an answer"),
        (f'{{"prediction_id": "{ID}", "outcome": {{"defaulted": true, "default": 1}}}}', "/default", "no such member"),
    ],
)
def test_a_bad_json_line_spoils_only_itself_and_is_named(line: str, pointer: str, said: str) -> None:
    good = '{"client_id": "c", "defaulted": true}'
    first, (number, errors), last = read_json_lines(io.StringIO(f"{good}\n{line}\n{good}\n"), NOW)
    assert first == (1, Outcome(None, "c", True, NOW))
    assert last == (3, Outcome(None, "c", True, NOW))
    assert number == 2
    assert isinstance(errors, list)
    assert errors[0].pointer == pointer
    assert said in errors[0].detail
