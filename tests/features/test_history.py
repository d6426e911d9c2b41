import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import features.history as module
from features.aggregates import AGGREGATES
from features.expressions import EXPRESSIONS, WINDOWS
from features.history import UNSEEN, Aggregate, Aggregator, History, Rows, codes_of, repeats
from features.schema import Table, history_tables

TABLES = {table.name: table for table in history_tables()}
POOL = Aggregator(AGGREGATES, TABLES.values(), EXPRESSIONS, WINDOWS)


def rows_of(table: Table, clients: list[list[dict[str, Any]]]) -> Rows:
    """Rows of clients 0, 1, …, each a mapping; what is left out is not known."""
    flat = [(number, row) for number, rows in enumerate(clients) for row in rows]
    values = np.empty((len(table.columns), len(flat)))
    for place, column in enumerate(table.columns):
        if column.type == "category":
            values[place] = [codes_of(column).get(row.get(column.name), UNSEEN) for _, row in flat]
        else:
            values[place] = [row.get(column.name, np.nan) for _, row in flat]
    return Rows.from_coded(table, np.array([number for number, _ in flat], dtype=np.intp), values)


def history_of(clients: list[dict[str, list[dict[str, Any]]]]) -> History:
    """The history of clients, by table; a table that a client has not was not looked up."""
    rows = {name: rows_of(table, [client.get(name, []) for client in clients]) for name, table in TABLES.items()}
    return History(len(clients), rows, {name: np.array([name in client for client in clients]) for name in TABLES})


def value(name: str, table: str, rows: list[dict[str, Any]]) -> float:
    places = {aggregate.name: place for place, aggregate in enumerate(AGGREGATES)}
    return float(POOL.compute(history_of([{table: rows}]))[0, places[name]])


def drawn(rng: np.random.Generator, table: Table, count: int) -> list[dict[str, Any]]:
    """Rows of values that a sum rounds, some of them missing, extreme or unseen."""
    rows = []
    for _ in range(count):
        row: dict[str, Any] = {}
        for column in table.columns:
            if rng.random() < 0.15:
                continue
            if column.type == "category":
                row[column.name] = rng.choice([*column.categories, *column.unknown, "unheard of"])
            elif column.type == "integer":
                assert column.min is not None
                row[column.name] = float(rng.integers(max(int(column.min), -3000), 5))
            else:
                row[column.name] = float(rng.choice([rng.lognormal(8, 3), -rng.lognormal(2), 0.0, -0.0]))
        row[str(table.loan)] = float(rng.integers(1, 4))
        rows.append(row)
    return rows


def drawn_clients(seed: int, count: int, most: int = 30) -> list[dict[str, list[dict[str, Any]]]]:
    rng = np.random.default_rng(seed)
    return [
        {name: drawn(rng, table, int(rng.integers(0, most))) for name, table in TABLES.items() if rng.random() < 0.8} for _ in range(count)
    ]


@pytest.mark.parametrize(
    ("name", "table", "rows", "expected"),
    [
        ("BUREAU_LOANS", "bureau", [{"AMT_CREDIT_SUM": 1.0}, {}], 2),
        ("BUREAU_LOANS", "bureau", [], 0),
        ("BUREAU_LOANS_12M", "bureau", [{"DAYS_CREDIT": -365.0}, {"DAYS_CREDIT": -366.0}, {}], 1),
        ("BUREAU_ACTIVE_SHARE", "bureau", [{"CREDIT_ACTIVE": "Active"}, {"CREDIT_ACTIVE": "Closed"}, {"CREDIT_ACTIVE": "?"}, {}], 0.25),
        ("BUREAU_ACTIVE_SHARE", "bureau", [], np.nan),
        ("BUREAU_CREDIT_SUM", "bureau", [{"AMT_CREDIT_SUM": 1.0}, {"AMT_CREDIT_SUM": 2.0}, {}], 3),
        ("BUREAU_CREDIT_SUM", "bureau", [{}], np.nan),
        ("BUREAU_CREDIT_SUM", "bureau", [], 0),
        ("BUREAU_CREDIT_SUM_ACTIVE", "bureau", [{"AMT_CREDIT_SUM": 1.0, "CREDIT_ACTIVE": "Closed"}], 0),
        ("BUREAU_CREDIT_MEAN", "bureau", [{"AMT_CREDIT_SUM": 1.0}, {"AMT_CREDIT_SUM": 2.0}, {}], 1.5),
        ("BUREAU_CREDIT_MEAN", "bureau", [{}], np.nan),
        ("BUREAU_CREDIT_MEAN", "bureau", [], np.nan),
        ("BUREAU_DAYS_LATEST", "bureau", [{"DAYS_CREDIT": -9.0}, {"DAYS_CREDIT": -7.0}, {}], -7),
        ("BUREAU_DAYS_FIRST", "bureau", [{"DAYS_CREDIT": -9.0}, {"DAYS_CREDIT": -7.0}, {}], -9),
        ("BUREAU_DAYS_LATEST", "bureau", [{}], np.nan),
        ("BUREAU_DEBT_SHARE_MEAN", "bureau", [{"AMT_CREDIT_SUM_DEBT": 1.0, "AMT_CREDIT_SUM": 0.0}], np.nan),
        ("BALANCE_LEVEL_MAX", "bureau_balance", [{"STATUS": "C"}, {"STATUS": "3"}, {"STATUS": "X"}], 3),
        ("BALANCE_LATE_SHARE", "bureau_balance", [{"STATUS": "C"}, {"STATUS": "3"}, {"STATUS": "X"}], 0.5),
        ("BALANCE_LOANS", "bureau_balance", [{"SK_ID_BUREAU": 1.0}, {"SK_ID_BUREAU": 2.0}, {"SK_ID_BUREAU": 1.0, "STATUS": "0"}, {}], 3),
        ("PREVIOUS_FIRST_DRAWING_MAX", "previous_application", [{"DAYS_FIRST_DRAWING": 365243.0}], np.nan),
        ("PREVIOUS_REFUSED_12M", "previous_application", [{"NAME_CONTRACT_STATUS": "Refused", "DAYS_DECISION": -10.0}], 1),
        (
            "POS_LATE_SHARE_12M",
            "POS_CASH_balance",
            [{"SK_DPD": 4.0, "MONTHS_BALANCE": -12.0}, {"SK_DPD": 0.0, "MONTHS_BALANCE": -1.0}],
            0.5,
        ),
        ("INSTALMENT_LATE_COUNT", "installments_payments", [{"DAYS_INSTALMENT": -9.0, "DAYS_ENTRY_PAYMENT": -5.0}, {}], 1),
        ("INSTALMENT_DAYS_LATE_MAX", "installments_payments", [{"DAYS_INSTALMENT": -9.0, "DAYS_ENTRY_PAYMENT": -15.0}], 0),
        ("CARD_USED_MEAN", "credit_card_balance", [{"AMT_BALANCE": 50.0, "AMT_CREDIT_LIMIT_ACTUAL": 100.0}, {"AMT_BALANCE": 5.0}], 0.5),
    ],
)
def test_aggregates(name: str, table: str, rows: list[dict[str, Any]], expected: float) -> None:
    np.testing.assert_equal(value(name, table, rows), expected)


def test_an_empty_history_is_not_one_that_was_not_looked_up() -> None:
    empty, unknown = POOL.compute(history_of([{name: [] for name in TABLES}, {}]))
    assert np.isnan(unknown).all()
    for aggregate, found in zip(AGGREGATES, empty, strict=True):
        assert found == 0 if aggregate.reduce in ("count", "loans", "sum") else np.isnan(found), aggregate.name


def test_no_clients_and_no_tables_give_no_values() -> None:
    assert POOL.compute(history_of([])).shape == (0, len(AGGREGATES))
    assert np.isnan(POOL.compute(History(2, {}, {}))).all()


@pytest.mark.slow
def test_a_client_has_the_same_bits_alone_in_any_batch_in_any_order_and_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    clients = drawn_clients(seed=1, count=60)
    whole = POOL.compute(history_of(clients))
    rng = np.random.default_rng(2)
    for size in (1, 7, 59):
        parts = []
        for start in range(0, len(clients), size):
            shuffled = [
                {name: [rows[place] for place in rng.permutation(len(rows))] for name, rows in client.items()}
                for client in clients[start : start + size]
            ]
            parts.append(POOL.compute(history_of(shuffled)))
        assert np.concatenate(parts).tobytes() == whole.tobytes()
    for block in (1, 40, 500):
        monkeypatch.setattr(module, "BLOCK", block)
        assert POOL.compute(history_of(clients)).tobytes() == whole.tobytes()


@pytest.mark.slow
@settings(max_examples=50)
@given(
    st.lists(
        st.lists(
            st.tuples(st.none() | st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["Active", "Closed", "?", None])),
            max_size=6,
        ),
        min_size=1,
        max_size=4,
    ),
    st.randoms(use_true_random=False),
)
def test_any_amounts_in_any_order_give_the_same_bits(clients: list[list[tuple[float | None, str | None]]], random: Any) -> None:
    def as_history(clients: list[list[tuple[float | None, str | None]]]) -> History:
        return history_of([{"bureau": [{"AMT_CREDIT_SUM": amount, "CREDIT_ACTIVE": state} for amount, state in rows]} for rows in clients])

    whole = POOL.compute(as_history(clients))
    for number, rows in enumerate(clients):
        shuffled = random.sample(rows, len(rows))
        assert POOL.compute(as_history([shuffled])).tobytes() == whole[number : number + 1].tobytes()


def test_rows_of_clients_need_not_stand_together() -> None:
    clients = drawn_clients(seed=3, count=5)
    history = history_of(clients)
    rng = np.random.default_rng(4)
    mixed = {}
    for name, rows in history.rows.items():
        order = rng.permutation(len(rows.client))
        mixed[name] = Rows(rows.table, rows.client[order], rows.values[:, order])
    assert POOL.compute(History(5, mixed, history.given)).tobytes() == POOL.compute(history).tobytes()


def test_one_more_closed_and_paid_loan_moves_counts_and_breaks_nothing() -> None:
    paid = {
        "SK_ID_BUREAU": 99.0, "CREDIT_ACTIVE": "Closed", "DAYS_CREDIT": -900.0, "DAYS_ENDDATE_FACT": -300.0, "AMT_CREDIT_SUM": 1000.0,
        "AMT_CREDIT_SUM_DEBT": 0.0, "AMT_CREDIT_SUM_OVERDUE": 0.0, "CREDIT_DAY_OVERDUE": 0.0, "CREDIT_TYPE": "Consumer credit",
    }  # fmt: skip
    names = [aggregate.name for aggregate in AGGREGATES]
    for client in drawn_clients(seed=5, count=20):
        rows = client.get("bureau", [])
        before, after = POOL.compute(history_of([{**client, "bureau": rows}, {**client, "bureau": [*rows, paid]}]))
        assert after[names.index("BUREAU_LOANS")] == before[names.index("BUREAU_LOANS")] + 1
        assert after[names.index("BUREAU_LOANS_ACTIVE")] == before[names.index("BUREAU_LOANS_ACTIVE")]
        assert not np.isinf(after).any()


def test_only_rows_alike_in_every_column_are_repeats() -> None:
    part = {"SK_ID_PREV": 1.0, "NUM_INSTALMENT_VERSION": 1.0, "NUM_INSTALMENT_NUMBER": 1.0, "AMT_PAYMENT": 5.0}
    rows = rows_of(TABLES["installments_payments"], [[part, {**part, "AMT_PAYMENT": 6.0}, part], [part]])
    again, first = repeats(rows.table, rows.values, rows.client)
    assert (again.tolist(), first.tolist()) == ([2], [0])
    none = rows_of(TABLES["bureau"], [])
    assert repeats(none.table, none.values, none.client)[0].tolist() == []


def test_values_that_mean_not_known_and_unseen_categories_are_told_apart() -> None:
    rows = rows_of(
        TABLES["previous_application"], [[{"NAME_CONTRACT_TYPE": kind, "SELLERPLACE_AREA": -1.0} for kind in ("XNA", "new", None)]]
    )
    names = [column.name for column in rows.table.columns]
    np.testing.assert_equal(rows.values[names.index("NAME_CONTRACT_TYPE")], [np.nan, UNSEEN, np.nan])
    assert np.isnan(rows.values[names.index("SELLERPLACE_AREA")]).all()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"value": "AMT_CREDITS"}, "A: bureau has no column or expression 'AMT_CREDITS'"),
        ({"where": ("CREDIT_ACTIVE", "Open")}, r"A: bureau has no category column 'CREDIT_ACTIVE' with the values \('Open',\)"),
        ({"where": ("DAYS_CREDIT", "1")}, "A: bureau has no category column 'DAYS_CREDIT'"),
    ],
)
def test_an_aggregate_of_what_the_table_has_not_is_refused(fields: dict[str, Any], said: str) -> None:
    aggregate = Aggregate(
        **{"name": "A", "table": "bureau", "reduce": "sum", "value": "AMT_CREDIT_SUM", "unit": "u", "text": "t", **fields}
    )
    with pytest.raises(ValueError, match=said):
        Aggregator([aggregate], TABLES.values(), EXPRESSIONS, WINDOWS)


def test_every_aggregate_has_its_own_name_definition_unit_and_text() -> None:
    definitions = [aggregate.source(EXPRESSIONS[aggregate.table]) for aggregate in AGGREGATES]
    for names in ([aggregate.name for aggregate in AGGREGATES], definitions, [aggregate.text for aggregate in AGGREGATES]):
        assert len(set(names)) == len(names), [name for name, same in itertools.groupby(sorted(names)) if len(list(same)) > 1]
    assert all(aggregate.unit for aggregate in AGGREGATES)
