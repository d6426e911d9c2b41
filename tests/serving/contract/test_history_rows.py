import json
import random
from typing import Any

import numpy as np
import pytest

from features.history import repeats
from features.schema import history_tables
from serving.contract.documents import MOST_VALUES
from serving.contract.history_rows import HistoryReader, join_histories
from serving.errors import MOST_ERRORS, Errors

TABLES = {table.name: table for table in history_tables()}
READER = HistoryReader(tuple(TABLES.values()))
LOAN = {"SK_ID_BUREAU": 1, "AMT_CREDIT_SUM": 5, "CREDIT_ACTIVE": "Active"}


def read(history: Any) -> tuple[dict[str, Any], dict[str, str], dict[str, str]]:
    """Tables, errors and notes by pointer."""
    errors = Errors()
    notes: list[dict[str, str]] = []
    found = READER.read(history, "/history", errors, notes)
    return found, {error.pointer: error.detail for error in errors}, {note["pointer"]: note["detail"] for note in notes}


def test_rows_become_columns() -> None:
    found, errors, notes = read({"bureau": [LOAN, {"SK_ID_CURR": 7, "AMT_CREDIT_SUM": None, "DAYS_CREDIT": -3.0}], "POS_CASH_balance": []})
    names = [column.name for column in TABLES["bureau"].columns]
    bureau = found["bureau"]
    assert (errors, notes) == ({}, {})
    np.testing.assert_equal(bureau[names.index("AMT_CREDIT_SUM")], [5, np.nan])
    np.testing.assert_equal(bureau[names.index("DAYS_CREDIT")], [np.nan, -3])
    np.testing.assert_equal(bureau[names.index("CREDIT_ACTIVE")], [0, np.nan])
    assert found["POS_CASH_balance"].shape == (len(TABLES["POS_CASH_balance"].columns), 0)


@pytest.mark.parametrize(
    ("history", "pointer", "said"),
    [
        (3, "/history", "expected an object of tables, got a number"),
        ({"bureaus": []}, "/history/bureaus", "no such table; expected bureau, bureau_balance, previous_application"),
        ({"bureau": {}}, "/history/bureau", "expected an array of rows, got an object"),
        ({"bureau": [LOAN, 3]}, "/history/bureau/1", "expected an object of named fields, got a number"),
        ({"bureau": [LOAN, {"AMT_CREDIT_SUM": "1"}]}, "/history/bureau/1/AMT_CREDIT_SUM", "expected a number or null, got text"),
        ({"bureau": [{"AMT_CREDIT_SUM": True}]}, "/history/bureau/0/AMT_CREDIT_SUM", "expected a number or null, got a boolean"),
        ({"bureau": [{"AMT_CREDIT_SUM": float("nan")}]}, "/history/bureau/0/AMT_CREDIT_SUM", "expected a finite number"),
        ({"bureau": [{"AMT_CREDIT_SUM": float("inf")}]}, "/history/bureau/0/AMT_CREDIT_SUM", "expected a finite number"),
        ({"bureau": [{"AMT_CREDIT_SUM": 10**400}]}, "/history/bureau/0/AMT_CREDIT_SUM", "expected a number within the range"),
        ({"bureau": [{"DAYS_CREDIT": -1.5}]}, "/history/bureau/0/DAYS_CREDIT", "expected a whole number or null, got -1.5"),
        ({"bureau": [{"CREDIT_ACTIVE": 1}]}, "/history/bureau/0/CREDIT_ACTIVE", "expected text or null, got a number"),
        ({"bureau": [{"CREDIT_ACTIVE": "\ud800"}]}, "/history/bureau/0/CREDIT_ACTIVE", "expected valid Unicode text"),
        ({"bureau": [{"a/b": 1}]}, "/history/bureau/0/a~1b", "no such field; the fields are those of GET /docs.json"),
        ({"bureau": [LOAN, {}, dict(LOAN)]}, "/history/bureau/2", "is the same as row 0 in every field; expected each row once"),
        ({"bureau": [{}, {"AMT_ANNUITY": None}]}, "/history/bureau/1", "is the same as row 0 in every field; expected each row once"),
        (
            {"bureau_balance": [{"SK_ID_BUREAU": 1}]},
            "/history/bureau_balance",
            "expected the table bureau in the same history, to look up the loans",
        ),
        (
            {"bureau": [LOAN], "bureau_balance": [{"SK_ID_BUREAU": 1}, {"SK_ID_BUREAU": 2}]},
            "/history/bureau_balance/1/SK_ID_BUREAU",
            "expected a value of SK_ID_BUREAU that occurs in bureau",
        ),
        (
            {"bureau": [{}], "bureau_balance": [{}]},
            "/history/bureau_balance/0/SK_ID_BUREAU",
            "expected a value of SK_ID_BUREAU that occurs in bureau",
        ),
    ],
)
def test_what_is_wrong_is_named(history: Any, pointer: str, said: str) -> None:
    _, errors, _ = read(history)
    assert list(errors) == [pointer]
    assert errors[pointer].startswith(said)


def test_every_bad_value_is_named_up_to_a_limit() -> None:
    _, errors, _ = read({"bureau": [{"AMT_CREDIT_SUM": "x", "NOPE": 1}], "bureau_balance": 3})
    assert set(errors) == {"/history/bureau/0/AMT_CREDIT_SUM", "/history/bureau/0/NOPE", "/history/bureau_balance"}
    _, errors, _ = read({"bureau": [{"AMT_CREDIT_SUM": "x"}] * 500})
    assert len(errors) == MOST_ERRORS
    _, errors, _ = read({name: [{"NOPE": 1}] * 60 for name in TABLES})
    assert len(errors) == MOST_ERRORS
    _, errors, _ = read({"bureau": [LOAN] * 500})
    assert len(errors) == MOST_ERRORS


def test_whatever_is_sent_is_read_or_named() -> None:
    rng = random.Random(0)
    names = [column.name for table in TABLES.values() for column in table.columns] + ["", "a/b", "\x00"]
    values = [None, True, "x", "", 1, -1.5, 0.0, -0.0, 10**400, 1e308, -365243, float("nan"), [], {}, [1], {"a": 1}, "\ud800", "é" * 300]

    def row() -> Any:
        return rng.choice([*values, *[{rng.choice(names): rng.choice(values) for _ in range(rng.randrange(6))}] * 40])

    for _ in range(3000):
        history = {rng.choice([*TABLES, "other"]): rng.choice([row(), [row() for _ in range(rng.randrange(5))]]) for _ in range(3)}
        found, errors, notes = read(history)
        assert all(pointer.startswith("/history") for pointer in (*errors, *notes))
        json.dumps([errors, notes]).encode()
        if not errors:
            assert join_histories(tuple(TABLES.values()), [found, None]).clients == 2


def test_part_payments_of_an_instalment_are_no_repeats() -> None:
    part = {"SK_ID_PREV": 1, "NUM_INSTALMENT_VERSION": 1, "NUM_INSTALMENT_NUMBER": 1, "AMT_INSTALMENT": 10.0, "AMT_PAYMENT": 4.0}
    found, errors, _ = read({"installments_payments": [part, {**part, "AMT_PAYMENT": 6.0}]})
    assert errors == {}
    values = found["installments_payments"]
    assert not len(repeats(TABLES["installments_payments"], values, np.zeros(2, dtype=np.intp))[0])


def test_ids_of_loans_that_a_float_does_not_keep_are_refused() -> None:
    big = 1787654321098765401
    _, errors, _ = read({"bureau": [{"SK_ID_BUREAU": 1}, {"SK_ID_BUREAU": big}], "bureau_balance": [{"SK_ID_BUREAU": -big}]})
    assert errors == dict.fromkeys(
        ("/history/bureau/1/SK_ID_BUREAU", "/history/bureau_balance/0/SK_ID_BUREAU"),
        "expected a whole number of at most 9007199254740991, the largest that a float holds exactly",
    )
    assert read({"bureau": [{"SK_ID_BUREAU": 2**53 - 1}]})[1] == {}


def test_implausible_and_unseen_values_are_noted_once_a_column() -> None:
    rows = [{"AMT_CREDIT_SUM": 1e300}, {"AMT_CREDIT_SUM": 2e300}, {"CREDIT_TYPE": "Z" * 100}]
    _, errors, notes = read({"bureau": rows, "previous_application": [{"DAYS_FIRST_DUE": 365243, "NAME_CONTRACT_TYPE": "XNA"}]})
    assert errors == {}
    assert notes == {
        "/history/bureau/0/AMT_CREDIT_SUM": "AMT_CREDIT_SUM is 1e+300; expected 0 to 600000000 (2 rows in all)",
        "/history/bureau/2/CREDIT_TYPE": f"CREDIT_TYPE '{'Z' * 60}…' is not in the schema; it counts for no category",
    }


def test_a_batch_keeps_apart_who_was_looked_up() -> None:
    histories = [read(history)[0] for history in ({"bureau": [LOAN, {}]}, {}, {"bureau": []})]
    joined = join_histories(tuple(TABLES.values()), [*histories, None])
    assert joined.clients == 4
    assert joined.given["bureau"].tolist() == [True, False, True, False]
    assert joined.rows["bureau"].client.tolist() == [0, 0]
    assert list(joined.rows) == ["bureau"]
    assert join_histories(tuple(TABLES.values()), [None, {}]).rows == {}


def test_what_the_schema_shows_as_examples_is_valid() -> None:
    history = json.loads(json.dumps({table.name: list(table.examples) for table in TABLES.values()}))
    _, errors, notes = read(history)
    assert (errors, notes) == ({}, {})


def test_absent_values_of_rows_count_too() -> None:
    most = MOST_VALUES // len(TABLES["bureau"].columns)
    loans = [{"SK_ID_BUREAU": place} for place in range(most + 1)]
    assert read({"bureau": loans[:-1]})[1] == {}
    assert list(read({"bureau": loans})[1]) == ["/history/bureau"]
    half = loans[: most // 2 + 1]
    assert list(read({"bureau": half, "previous_application": [{}] * most})[1]) == ["/history/previous_application"]
