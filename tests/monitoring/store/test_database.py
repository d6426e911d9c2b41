import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from uuid import uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from msgspec import UNSET
from records import TIME, make_records
from running import ROOT
from sqlalchemy import Engine, func, inspect, select, text

from monitoring.decision_log.layout import START, Position
from monitoring.store import database
from monitoring.store.database import Store, StoreError, open_store, reading, upgrade, writing
from monitoring.store.insertion import insert_lines
from monitoring.store.positions import forget_position, read_position, write_position
from monitoring.store.queries import Outcome, add_outcomes, client_history, export, find_decision, newest_lines
from monitoring.store.tables import decisions, metadata, outcomes, records


@pytest.fixture
def engine(store_url: str) -> Iterator[Engine]:
    engine = open_store(store_url)
    yield engine
    engine.dispose()


def as_lines(given: Sequence[bytes]) -> bytes:
    return b"".join(record + b"\n" for record in given)


def insert(engine: Engine, lines: bytes) -> list[bytes]:
    with writing(engine) as connection:
        return insert_lines(connection, lines)


def count(engine: Engine) -> tuple[int, int]:
    with reading(engine) as connection:
        one, two = (connection.execute(select(func.count()).select_from(table)).scalar_one() for table in (decisions, records))
    return one, two


def test_the_migrations_make_the_tables_that_the_code_names(engine: Engine) -> None:
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert set(inspect(connection).get_table_names()) == {*metadata.tables, "alembic_version"}
    upgrade(engine)


def test_tables_of_a_newer_release_are_refused(engine: Engine, store_url: str) -> None:
    with writing(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match="belong to another release"):
        open_store(store_url)


@pytest.mark.slow
def test_processes_that_start_at_once_upgrade_once(store_url: str) -> None:
    code = f"from monitoring.store.database import open_store; open_store({store_url!r}).dispose()"
    processes = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [(process.communicate()[1], process.returncode) for process in processes] == [("", 0)] * 4


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://a:secret@127.0.0.1:1/x",
        "postgresql+psycopg://a@127.0.0.1:1/x?password=secret",
        "postgresql+psycopg://a@127.0.0.1:1/x?passfile=secret&options=-c%20secret",
        "postgresql+psycopg:///x?host=127.0.0.1&port=1&user=a&password=secret",
        "sqlite:////proc/nothing/store.db?password=secret",
    ],
)
def test_a_store_that_cannot_be_reached_is_an_error_without_its_password(url: str) -> None:
    with pytest.raises((StoreError, OSError)) as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


def test_a_store_is_opened_once_and_again_after_a_failure(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Store(store_url)
    with monkeypatch.context() as patch:
        patch.setattr(database, "open_store", lambda *_: (_ for _ in ()).throw(StoreError("down")))
        with pytest.raises(StoreError, match="down"):
            _ = held.engine
    engines: list[Engine] = []
    threads = [threading.Thread(target=lambda: engines.append(held.engine)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(engine) for engine in engines}) == 1
    held.close()


def test_lines_become_decisions_and_are_kept_verbatim(engine: Engine) -> None:
    (given,) = make_records(1, client_id='ü"\\,"features":', request_id="r", probability=0.1 + 0.2)
    lines = as_lines([given])
    assert insert(engine, lines) == []
    with reading(engine) as connection:
        found = find_decision(connection, given.prediction_id)
    assert found
    assert found.pop("line").encode() + b"\n" == lines
    assert found == {
        "prediction_id": given.prediction_id,
        "time": TIME,
        "client_id": 'ü"\\,"features":',
        "model_version": "v1",
        "probability": 0.1 + 0.2,
        "threshold": 0.3,
        "decision": "APPROVE",
        "risk_level": "LOW",
        "latency_ms": 1.5,
        "request_id": "r",
        "model_name": "credit_scoring",
        "sender": "loopback",
        "outcomes": [],
    }


def test_the_same_lines_again_change_nothing(engine: Engine) -> None:
    given = make_records(50)
    assert insert(engine, b"") == []
    assert insert(engine, as_lines(given[:30])) == []
    assert insert(engine, as_lines(given) + as_lines(given[:5])) == []
    assert count(engine) == (50, 50)


def test_two_that_insert_the_same_lines_at_once_double_nothing(engine: Engine) -> None:
    lines = as_lines(make_records(200))
    threads = [threading.Thread(target=insert, args=(engine, lines)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(engine) == (200, 200)


def test_a_line_that_is_refused_holds_up_nothing(engine: Engine) -> None:
    given = as_lines(make_records(9)).splitlines(keepends=True)
    bad = [b"garbage\n", b'{"format":1,"features":[]}\n', b'{"prediction_id":"\xff","features":[]}\n', b'{,"features":[]}\n']
    refused = insert(engine, b"".join([*bad[:2], *given[:4], bad[2], *given[4:], bad[3]]))
    assert refused == bad
    assert count(engine) == (9, 9)


def test_postgresql_refuses_a_line_with_u0000_and_takes_the_others(engine: Engine) -> None:
    good = make_records(3)
    refused = insert(engine, as_lines([*good, *make_records(1, client_id="a\0")]))
    assert len(refused) == (engine.dialect.name == "postgresql")


def test_a_transaction_that_fails_leaves_nothing(engine: Engine) -> None:
    def fail() -> None:
        with writing(engine) as connection:
            insert_lines(connection, as_lines(make_records(2)))
            write_position(connection, "log", Position(1, 5, "a"))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert count(engine) == (0, 0)
    with reading(engine) as connection:
        assert read_position(connection, "log") == START


def test_what_sqlite_commits_is_on_the_disk_unless_it_may_be_lost(tmp_path: Path) -> None:
    engine = open_store(f"sqlite:///{tmp_path}/store.db")

    def level(*, may_be_lost: bool) -> int:
        with writing(engine, may_be_lost=may_be_lost) as connection:
            return int(connection.execute(text("PRAGMA synchronous")).scalar_one())

    normal, full = 1, 2
    assert [level(may_be_lost=lost) for lost in (False, True, False)] == [full, normal, full]  # of one connection of the pool
    engine.dispose()


def test_a_position_is_replaced_and_forgotten(engine: Engine) -> None:
    for position in (Position(1, 5, "a"), Position(2, 2**40, "b")):
        with writing(engine) as connection:
            write_position(connection, "log", position)
        with reading(engine) as connection:
            assert read_position(connection, "log") == position
            assert read_position(connection, "other") == START
    with writing(engine) as connection:
        forget_position(connection, "log")
        assert read_position(connection, "log") == START


def add(engine: Engine, *given: Outcome) -> list[str]:
    with writing(engine) as connection:
        return [kept.status for kept in add_outcomes(connection, given, "test", TIME, "credit_scoring")]


def test_outcomes_are_stored_repeated_corrected_or_unknown(engine: Engine) -> None:
    first, second = make_records(2)
    insert(engine, as_lines([first, second]))
    later = TIME + timedelta(days=400)
    assert add(engine) == []
    assert add(engine, Outcome(first.prediction_id, None, False, later), Outcome(str(uuid4()), None, True, later)) == ["stored", "unknown"]
    assert add(engine, Outcome(first.prediction_id, None, False, later)) == ["repeated"]
    assert add(engine, *[Outcome(first.prediction_id, None, defaulted, later) for defaulted in (True, True, False)]) == [
        "corrected", "repeated", "corrected",
    ]  # fmt: skip
    with reading(engine) as connection:
        found = find_decision(connection, first.prediction_id)
        assert found
        assert [item["defaulted"] for item in found["outcomes"]] == [False, True, False]
        assert found["outcomes"][0]["observed_at"] == later
        (row,) = client_history(connection, "c0", 10, "credit_scoring")
        assert (row["defaulted"], row["observed_at"]) == (False, later)
        (other,) = client_history(connection, "c1", 10, "credit_scoring")
        assert (other["defaulted"], other["observed_at"]) == (None, None)


def test_an_outcome_of_a_client_is_that_of_the_latest_decision_before(engine: Engine) -> None:
    given = make_records(3, client_id="same")
    insert(engine, as_lines(given))
    with writing(engine) as connection:
        kept = add_outcomes(
            connection,
            [Outcome(None, "same", True, TIME + timedelta(seconds=second)) for second in (0, 1, 2, 100)],
            "test",
            TIME,
            "credit_scoring",
        )
    assert [item.status for item in kept] == ["unknown", "stored", "stored", "stored"]
    assert [item.prediction_id for item in kept[1:]] == [record.prediction_id for record in given]


def test_outcomes_and_histories_of_a_client_are_those_of_one_model(engine: Engine) -> None:
    """Two lenders may share a store, and both may call a client "1"; a record of format 2 names no model and may be of any."""
    (ours,) = make_records(1, client_id="1", model_name="credit_scoring")
    (theirs,) = make_records(1, client_id="1", model_name="other", timestamp=(TIME + timedelta(seconds=1)).isoformat())
    (old,) = make_records(1, client_id="2", format=2, model_name=UNSET, by=UNSET)
    assert b"model_name" not in old
    assert insert(engine, as_lines([ours, theirs, old])) == []
    outcome = Outcome(None, "1", True, TIME + timedelta(days=1))
    with writing(engine) as connection:
        for name, record in (("credit_scoring", ours), ("other", theirs)):
            assert [row["prediction_id"] for row in client_history(connection, "1", 9, name)] == [record.prediction_id]
            assert [kept.prediction_id for kept in add_outcomes(connection, [outcome], "test", TIME, name)] == [record.prediction_id]
        assert [kept.status for kept in add_outcomes(connection, [outcome], "test", TIME, "nobody")] == ["unknown"]
        for name in ("credit_scoring", "other"):
            (found,) = client_history(connection, "2", 9, name)
            assert (found["prediction_id"], found["model_name"], found["sender"]) == (old.prediction_id, None, None)
    with reading(engine) as connection:
        found_ours = find_decision(connection, ours.prediction_id)
    assert found_ours
    assert (found_ours["model_name"], found_ours["sender"]) == ("credit_scoring", "loopback")


def test_a_store_of_the_first_release_gets_the_columns_and_keeps_its_decisions(engine: Engine) -> None:
    with writing(engine) as connection:
        for name in ("model_name", "sender"):
            connection.execute(text(f"ALTER TABLE decisions DROP COLUMN {name}"))
        connection.execute(text("DROP TABLE answers"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
        columns = "prediction_id, time, client_id, model_version, probability, threshold, decision, risk_level, latency_ms"
        old = text(f"INSERT INTO decisions ({columns}) VALUES (:id, :time, 'c', 'v', 0.1, 0.2, 'APPROVE', 'LOW', 1)")  # noqa: S608
        connection.execute(old, {"id": str(uuid4()), "time": TIME.isoformat(timespec="milliseconds")})
    upgrade(engine)
    with reading(engine) as connection:
        (row,) = client_history(connection, "c", 9, "credit_scoring")
    assert (row["model_name"], row["sender"]) == (None, None)


def test_the_same_outcomes_at_once_are_stored_once(engine: Engine) -> None:
    given = make_records(30)
    insert(engine, as_lines(given))
    sent = [Outcome(record.prediction_id, None, True, TIME) for record in given]
    threads = [threading.Thread(target=add, args=(engine, *sent)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with reading(engine) as connection:
        assert connection.execute(select(func.count()).select_from(outcomes)).scalar_one() == 30


@pytest.mark.slow
def test_ten_thousand_outcomes_fit_in_a_call(engine: Engine) -> None:
    given = make_records(100)
    insert(engine, as_lines(given))
    sent = [Outcome(given[row % 100].prediction_id, None, row % 200 < 100, TIME) for row in range(10_000)]
    statuses = add(engine, *sent)
    assert statuses[:100] == ["stored"] * 100
    assert statuses[100:] == ["corrected"] * 9900


def test_a_time_without_zone_is_refused(engine: Engine) -> None:
    with reading(engine) as connection, pytest.raises(Exception, match="has no zone"):
        connection.execute(select(decisions).where(decisions.c.time == datetime(2026, 1, 1))).all()


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_the_first_and_the_last_times_are_read_wherever_the_server_is(store_url: str, zone: str) -> None:
    engine = open_store(store_url)
    if engine.dialect.name == "postgresql":
        with writing(engine) as connection:
            connection.execute(text(f"ALTER DATABASE {engine.url.database} SET timezone = '{zone}'"))
        engine.dispose()
    (given,) = make_records(1)
    insert(engine, as_lines([given]))
    times = [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, tzinfo=UTC)]
    add(engine, *(Outcome(given.prediction_id, None, bool(row), time) for row, time in enumerate(times)))
    with reading(engine) as connection:
        found = find_decision(connection, given.prediction_id)
        assert found
        assert [outcome["observed_at"] for outcome in found["outcomes"]] == times[::-1]
    engine.dispose()


def test_a_history_is_the_clients_own_newest_first(engine: Engine) -> None:
    insert(engine, as_lines(make_records(20, client_id="a") + make_records(3, client_id="b")))
    with reading(engine) as connection:
        rows = client_history(connection, "a", 5, "credit_scoring")
        assert [row["time"] for row in rows] == [TIME + timedelta(seconds=second) for second in range(19, 14, -1)]
        assert client_history(connection, "nobody", 5, "credit_scoring") == []
        assert find_decision(connection, str(uuid4())) is None


def test_an_export_is_of_its_range_in_order(engine: Engine) -> None:
    given = make_records(1200)
    insert(engine, as_lines(given[::-1]))
    add(engine, Outcome(given[3].prediction_id, None, True, TIME))
    since, until = TIME + timedelta(seconds=2), (TIME + timedelta(seconds=1150)).astimezone(timezone(timedelta(hours=5)))
    with reading(engine) as connection:
        rows = list(export(connection, since, until))
        assert [row["prediction_id"] for row in rows] == [record.prediction_id for record in given[2:1150]]
        assert [row["defaulted"] for row in rows[:3]] == [None, True, None]
        assert len(list(export(connection, None, None))) == 1200


def test_the_newest_lines_of_a_model_are_among_the_newest_of_all(engine: Engine) -> None:
    given = [*make_records(6), *make_records(3, model_version="v2", timestamp=(TIME + timedelta(seconds=2.5)).isoformat())]
    insert(engine, as_lines(given))
    end = TIME + timedelta(seconds=5)
    with reading(engine) as connection:
        found = [newest_lines(connection, "v1", rows, end) for rows in (0, 1, 2, 6, 100)]
        assert [[line.encode() for line in lines] for lines in found] == [[], [given[4]], given[3:5], given[2:5][-3:], given[:5]]
        assert newest_lines(connection, "v2", 2, end) == newest_lines(connection, "v1", 9, TIME) == []


def test_the_file_of_the_store_is_its_owners(tmp_path: Path) -> None:
    engine = open_store(f"sqlite:///{tmp_path / 'new' / 'store.db'}")
    assert (tmp_path / "new" / "store.db").stat().st_mode & 0o777 == 0o600
    engine.dispose()
    with sqlite3.connect(tmp_path / "new" / "store.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_times_are_kept_in_utc(engine: Engine) -> None:
    (given,) = make_records(1)
    insert(engine, as_lines([given]))
    observed = datetime(2026, 6, 1, 12, 0, 0, 5000, timezone(timedelta(hours=2)))
    add(engine, Outcome(given.prediction_id, None, True, observed))
    with reading(engine) as connection:
        found = find_decision(connection, given.prediction_id)
    assert found
    assert found["outcomes"][0]["observed_at"] == observed
    assert found["outcomes"][0]["observed_at"].tzinfo is UTC
