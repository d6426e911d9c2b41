import asyncio
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families
from records import Clock, make_records, stored, wait_for, write_log
from running import Postgres
from sqlalchemy import Connection, Engine, select

from monitoring.decision_log.layout import log_id
from monitoring.decision_log.sink import LogError
from monitoring.decision_log.verify import verify
from monitoring.decision_log.writer import DecisionLog
from monitoring.metrics import Metrics
from monitoring.store import database
from monitoring.store import shipper as module
from monitoring.store.database import Store, StoreError, reading, writing
from monitoring.store.positions import known_positions, read_position, write_position
from monitoring.store.shipper import Shipper
from monitoring.store.tables import decisions, records

pytestmark = pytest.mark.slow

Wait = Callable[[Callable[[], object]], None]


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    return tmp_path / "logs"


def make(logs: Path, store: Store, metrics: Metrics | None = None, retention_days: float = 1) -> Shipper:
    return Shipper(logs, store, retention_days, metrics or Metrics())


def ids(logs: Path) -> list[str]:
    lines = [line for path in logs.glob("predictions*.jsonl") for line in path.read_bytes().rstrip(b"\t").splitlines()]
    return sorted(msgspec.json.decode(line)["prediction_id"] for line in lines)


def value(metrics: Metrics, name: str) -> float:
    families = text_string_to_metric_families(metrics.exposition().decode())
    return next(sample.value for family in families for sample in family.samples if sample.name == name)


def test_there_may_be_no_log_yet(logs: Path, store: Store) -> None:
    shipper = make(logs, store)
    assert shipper.ship() == 0
    assert shipper.lag() == (0.0, 0)
    write_log(logs, make_records(3))
    assert shipper.ship() == 3


def test_every_line_is_shipped_once_and_the_lag_is_told(logs: Path, store: Store) -> None:
    write_log(logs, make_records(120), max_bytes=5000)
    metrics = Metrics()
    shipper = make(logs, store, metrics)
    counts = [shipper.ship()]
    assert value(metrics, "credit_shipper_lag_bytes") > 0
    assert value(metrics, "credit_shipper_lag_seconds") > 1000
    while counts[-1]:
        counts.append(shipper.ship())
    assert sum(counts) == 120
    assert stored(store) == ids(logs)
    assert (value(metrics, "credit_shipper_lag_bytes"), value(metrics, "credit_shipper_lag_seconds")) == (0, 0)
    assert value(metrics, "credit_shipper_lines_total") == 120


def test_another_shipper_goes_on_where_the_first_stopped(logs: Path, store: Store) -> None:
    write_log(logs, make_records(50), max_bytes=5000)
    assert make(logs, store).ship()
    rest = make(logs, store)
    first = 50 - sum(iter(rest.ship, 0))
    assert 0 < first < 50
    assert stored(store) == ids(logs)


def test_two_shippers_of_one_log_double_nothing(logs: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 1500)
    write_log(logs, make_records(300), max_bytes=20_000)
    shippers = [make(logs, store) for _ in range(3)]
    threads = [threading.Thread(target=lambda one=one: sum(iter(one.ship, 0))) for one in shippers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stored(store) == ids(logs)


def test_lines_that_are_refused_are_set_aside(logs: Path, store: Store) -> None:
    write_log(logs, make_records(5))
    with (logs / "predictions.jsonl").open("ab") as file:
        file.write(b"garbage\n")
    metrics = Metrics()
    shipper = make(logs, store, metrics)
    assert shipper.ship() == 6
    assert shipper.ship() == 0
    assert (logs / "refused.jsonl").read_bytes() == b"garbage\n"
    assert (value(metrics, "credit_shipper_lines_total"), value(metrics, "credit_shipper_refused_total")) == (5, 1)
    assert len(stored(store)) == 5


def test_what_is_set_aside_is_on_the_disk_before_it_counts_as_shipped(logs: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    write_log(logs, [])
    (logs / "predictions.jsonl").write_bytes(b"garbage\n")
    synced: list[bytes] = []

    def sync(file: int) -> None:
        if os.path.samestat(os.fstat(file), (logs / "refused.jsonl").stat()):
            synced.append((logs / "refused.jsonl").read_bytes())

    monkeypatch.setattr(os, "fsync", sync)
    make(logs, store).ship()
    assert synced == [b"garbage\n"]


def problems(logs: Path, store: Store) -> list[str]:
    with reading(store.engine) as connection:
        return verify(logs, known_positions(connection, log_id(logs) or "")).problems


@pytest.mark.parametrize("forged", [False, True])
def test_a_log_that_was_cut_or_written_anew_stays_found_after_it_was_shipped(logs: Path, store: Store, forged: bool) -> None:
    given = make_records(9)
    write_log(logs, given)
    sum(iter(make(logs, store).ship, 0))
    assert problems(logs, store) == []
    path = logs / "predictions.jsonl"
    if forged:
        path.unlink()
        write_log(logs, [*given[:3], *make_records(1), *given[4:]])
    else:
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-2]))
    for _ in range(2):
        sum(iter(make(logs, store).ship, 0))
        (problem,) = problems(logs, store)
        assert "does not hold the last line that the store had" in problem
    write_log(logs, make_records(5))
    sum(iter(make(logs, store).ship, 0))
    assert len(problems(logs, store)) == 1
    assert set(ids(logs)) <= set(stored(store))


def test_an_older_copy_of_a_log_that_outgrew_the_position_is_shipped_whole_and_kept_until_then(logs: Path, store: Store) -> None:
    write_log(logs, make_records(10), max_bytes=1500, batch=2)
    shutil.copytree(logs, logs.with_name("older"))
    write_log(logs, make_records(20), max_bytes=1500, batch=2)
    sum(iter(make(logs, store).ship, 0))
    shutil.rmtree(logs)
    logs.with_name("older").rename(logs)
    write_log(logs, make_records(60), max_bytes=1500, batch=2)
    for path in logs.glob("predictions-*.jsonl"):
        os.utime(path, (0, 0))
    shipper = make(logs, store)
    with reading(store.engine) as connection:
        assert read_position(connection, log_id(logs) or "").sequence < len(list(logs.glob("*.jsonl")))
    all_of_them = ids(logs)
    shipper.remove_old()
    assert ids(logs) == all_of_them
    sum(iter(shipper.ship, 0))
    assert set(all_of_them) <= set(stored(store))


def test_a_database_that_is_made_anew_gets_its_tables_and_what_is_in_the_log(logs: Path, tmp_path: Path, wait_until: Wait) -> None:
    store, metrics = Store(f"sqlite:///{tmp_path}/store.db"), Metrics()
    shipper = make(logs, store, metrics)
    shipper.start()
    write_log(logs, make_records(3))
    wait_until(lambda: len(stored(store)) == 3)
    with writing(store.engine) as connection:
        for table in ("records", "outcomes", "decisions", "shipping", "answers", "alembic_version"):
            connection.exec_driver_sql(f"DROP TABLE {table}")
    write_log(logs, make_records(2))
    wait_until(lambda: value(metrics, "credit_shipper_errors_total") > 0)
    wait_until(lambda: value(metrics, "credit_shipper_lines_total") == 3 + 5)
    shipper.stop(60)
    assert stored(store) == ids(logs)
    store.close()


def test_after_a_cut_of_the_log_what_follows_is_shipped(logs: Path, store: Store) -> None:
    write_log(logs, make_records(5))
    shipper = make(logs, store)
    shipper.ship()
    path = logs / "predictions.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    write_log(logs, make_records(4))
    while shipper.ship():
        pass
    assert set(ids(logs)) < set(stored(store))
    assert len(stored(store)) == 9


def test_old_files_are_removed_once_they_are_shipped_and_that_cannot_be_lost(
    logs: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed: list[tuple[bool, int]] = []

    @contextmanager
    def writing(engine: Engine, *, may_be_lost: bool = False) -> Iterator[Connection]:
        with database.writing(engine, may_be_lost=may_be_lost) as connection:
            yield connection
        committed.append((may_be_lost, len(list(logs.glob("predictions-*.jsonl")))))

    monkeypatch.setattr(module, "writing", writing)
    write_log(logs, make_records(60), max_bytes=5000, batch=3)
    files = len(list(logs.glob("predictions-*.jsonl")))
    assert files > 2
    shipper = make(logs, store, retention_days=1e-9)
    while shipper.ship():
        pass
    assert committed[0] == (True, files)
    assert committed[-1] == (False, files)  # the last commit before the removal
    assert len(list(logs.glob("predictions-*.jsonl"))) == 1
    assert len(stored(store)) == 60


def test_the_position_is_written_anew_before_files_are_removed(logs: Path, tmp_path: Path) -> None:
    """What may be lost is on the disk then: SQLite syncs what changes, and only that."""
    write_log(logs, make_records(5))
    store = Store(f"sqlite:///{tmp_path / 'store.db'}")
    shipper = make(logs, store)
    sum(iter(shipper.ship, 0))
    before = (tmp_path / "store.db-wal").stat().st_size
    shipper.remove_old()
    assert (tmp_path / "store.db-wal").stat().st_size > before
    store.close()


def test_the_thread_ships_catches_up_and_ends_with_nothing_left(logs: Path, store: Store) -> None:
    shipper = make(logs, store)
    shipper.start()
    assert shipper.catch_up(60)

    async def write() -> None:
        log = DecisionLog(logs, durability="flush", max_bytes=10_000)
        for _ in range(5):
            log.append(make_records(10))
            assert await asyncio.to_thread(shipper.catch_up, 60)
            assert stored(store) == ids(logs)
        log.append(make_records(10))
        log.close()

    asyncio.run(write())
    shipper.stop(60)
    assert stored(store) == ids(logs)
    assert len(stored(store)) == 60


@pytest.mark.parametrize("deciding", [False, True])
def test_only_beside_new_decisions_does_it_rest(logs: Path, store: Store, monkeypatch: pytest.MonkeyPatch, deciding: bool) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(module, "rest_after", lambda worked, lag: 3600.0)
    write_log(logs, make_records(60))
    waits: list[tuple[int, float]] = []

    def wait(condition: threading.Condition, seconds: float) -> None:
        waits.append((len(blocks), seconds))
        condition.wait(seconds)

    shipper = Shipper(logs, store, 1, Metrics(), wait=wait)
    ship = shipper.ship
    blocks: list[int] = []

    def ship_beside_decisions() -> int:
        if deciding and not blocks:
            write_log(logs, make_records(1))
        blocks.append(ship())
        return blocks[-1]

    monkeypatch.setattr(shipper, "ship", ship_beside_decisions)
    shipper.start()
    wait_for(lambda: waits)
    if deciding:
        assert waits == [(1, 3600.0)], "it rests after the first block"
    else:
        assert waits[0] == (len(blocks), module.IDLE_SECONDS), "it rests once nothing is left"
        assert len(blocks) > 10
        assert stored(store) == ids(logs)
    shipper.stop(60)
    assert stored(store) == ids(logs)


def test_a_store_that_is_away_is_tried_again_and_nothing_is_lost(logs: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.05)
    away = True
    insert = module.insert_lines

    def fail_while_away(*arguments: object) -> list[bytes]:
        if away:
            raise StoreError("away")
        return insert(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "insert_lines", fail_while_away)
    write_log(logs, make_records(10))
    metrics = Metrics()
    shipper = make(logs, store, metrics)
    shipper.start()
    wait_for(lambda: value(metrics, "credit_shipper_errors_total") > 2)
    assert not shipper.catch_up(60), "it does not wait for what fails"
    assert value(metrics, "credit_shipper_lag_bytes") > 0
    away = False
    wait_for(lambda: value(metrics, "credit_shipper_lines_total") == 10)
    shipper.stop(60)
    assert stored(store) == ids(logs)


def test_a_store_that_is_away_at_the_end_does_not_hold_it_up(logs: Path) -> None:
    write_log(logs, make_records(1))
    shipper = make(logs, Store("postgresql+psycopg://a@127.0.0.1:1/x"))
    shipper.start()
    wait_for(lambda: not shipper.catch_up(60))
    assert shipper.lag()[1] == (logs / "predictions.jsonl").stat().st_size
    start = time.monotonic()
    shipper.stop(300)
    assert time.monotonic() - start < 100


def test_postgresql_stopped_and_back_gets_every_decision_once(logs: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.2)
    store = Store(postgres.new_database())
    write_log(logs, make_records(20))
    metrics = Metrics()
    shipper = make(logs, store, metrics)
    shipper.start()
    assert shipper.catch_up(60)
    postgres.stop()
    try:
        write_log(logs, make_records(20))
        wait_for(lambda: value(metrics, "credit_shipper_errors_total") > 0)
    finally:
        postgres.start()
    wait_for(lambda: value(metrics, "credit_shipper_lines_total") == 40)
    shipper.stop(60)
    assert stored(store) == ids(logs)
    store.close()


@pytest.mark.parametrize(("lag", "share"), [(0.0, 0.01), (120.0, 0.255), (240.0, 0.5), (1e9, 0.5)])
def test_shipping_takes_more_of_a_core_the_further_it_is_behind(lag: float, share: float) -> None:
    rest = module.rest_after(0.02, lag)
    assert 0.02 / (0.02 + rest) == pytest.approx(share)


def test_after_a_long_step_it_rests_no_longer_than_some_seconds() -> None:
    assert module.rest_after(3.0, 0.0) == module.LONGEST_REST


def test_where_the_database_is_an_older_one_again_it_goes_on_from_there(logs: Path, store: Store) -> None:
    shipper = make(logs, store)
    write_log(logs, make_records(10))
    shipper.ship()
    with database.reading(store.engine) as connection:
        before = read_position(connection, (logs / "predictions.lock").read_text().strip())
    write_log(logs, make_records(10))
    shipper.ship()
    assert len(stored(store)) == 20
    with database.writing(store.engine) as connection:  # what a restored backup or a replica that was behind looks like
        lost = select(decisions.c.prediction_id).order_by(decisions.c.prediction_id.desc()).limit(10)
        gone = list(connection.execute(lost).scalars())
        connection.execute(records.delete().where(records.c.prediction_id.in_(gone)))
        connection.execute(decisions.delete().where(decisions.c.prediction_id.in_(gone)))
        write_position(connection, (logs / "predictions.lock").read_text().strip(), before)
    while shipper.ship():  # without a new decision
        pass
    assert stored(store) == ids(logs)
    assert len(stored(store)) == 20
    assert shipper.lag() == (0.0, 0)


def test_old_files_are_removed_under_steady_traffic_too(logs: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETENTION_SECONDS", 0.0)
    write_log(logs, make_records(60), max_bytes=2000, batch=3)
    shipper = make(logs, store, retention_days=1e-9)
    files = len(list(logs.glob("predictions-*.jsonl")))
    monkeypatch.setattr(module, "BLOCK_BYTES", 2000)
    while len(stored(store)) < 50:
        assert shipper.ship()
    assert len(list(logs.glob("predictions-*.jsonl"))) < files


def test_what_is_not_synced_yet_is_not_shipped(logs: Path, store: Store) -> None:
    syncs, clock = threading.Event(), Clock()
    failing = False

    def sync(_: int) -> None:
        clock.now += 1  # so the next one runs in the thread
        if failing:
            assert syncs.wait(60)
            raise OSError("the disk is gone")

    async def scenario() -> None:
        nonlocal failing
        log = DecisionLog(logs, durability="fsync", max_bytes=10**6, sync=sync, clock=clock)
        shipper = Shipper(logs, store, 1, Metrics(), lambda: log.synced)
        await log.append(make_records(3))  # type: ignore[misc]
        assert shipper.ship() == 3
        failing = True
        future = log.append(make_records(3))
        assert future
        assert shipper.ship() == 0
        syncs.set()
        with pytest.raises(LogError):
            await future
        assert shipper.ship() == 0
        log.close()

    asyncio.run(scenario())
    assert stored(store) == ids(logs)
    assert len(stored(store)) == 3


def test_what_waits_for_its_sync_holds_up_nobody_who_asks_for_all_on_record(logs: Path, store: Store) -> None:
    release, clock = threading.Event(), Clock()
    release.set()

    def sync(_: int) -> None:
        clock.now += 1  # so the next one runs in the thread
        assert release.wait(60)

    async def scenario() -> None:
        log = DecisionLog(logs, durability="fsync", max_bytes=10**6, sync=sync, clock=clock)
        shipper = Shipper(logs, store, 1, Metrics(), lambda: log.synced)
        shipper.start()
        await log.append(make_records(3))  # type: ignore[misc]
        release.clear()
        future = log.append(make_records(2))
        assert future
        assert await asyncio.to_thread(shipper.catch_up, 60)
        assert not future.done()
        assert len(stored(store)) == 3
        release.set()
        await future
        log.close()
        shipper.stop(60)

    asyncio.run(scenario())
    assert stored(store) == ids(logs)
