"""A PostgreSQL that is an older copy of itself: restored from a backup, a replica that was behind, its tables dropped."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from records import Made, make_records, stored, wait_for, write_log
from running import Postgres
from sqlalchemy import make_url, text

from monitoring.metrics import Metrics
from monitoring.store import store_sink
from monitoring.store.database import Store, StoreError, reading, writing
from monitoring.store.shipper import Shipper
from monitoring.store.store_sink import StoreSink
from monitoring.store.tables import metadata
from serving.errors import ServiceError
from serving.outcome_desk import OutcomeDesk


class Database:
    """A database that can be backed up and restored as its operator would, whoever is connected."""

    def __init__(self, server: Postgres) -> None:
        self._server, self.url = server, server.new_database()
        self._name = str(make_url(self.url).database)

    def back_up(self) -> None:
        self._run("CREATE DATABASE", f"backup_{self._name}", "TEMPLATE", self._name)

    def restore(self) -> None:
        """Put the backup in its place; connections to it end, as at a failover."""
        self._run("DROP DATABASE", self._name, "WITH (FORCE)")
        self._run("ALTER DATABASE", f"backup_{self._name}", "RENAME TO", self._name)

    def _run(self, *words: str) -> None:
        self._server.run("psql", "-h", str(self._server.folder), "-U", "credit", "-d", "postgres", "-c", " ".join(words))


@pytest.fixture
def database(postgres: Postgres) -> Database:
    return Database(postgres)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def store(database: Database, metrics: Metrics) -> Iterator[Store]:
    store = Store(database.url, metrics.store.went_back)
    yield store
    store.close()


def went_back(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("credit_store_went_back_total")


def drop_tables(store: Store) -> None:
    with writing(store.engine) as connection:
        metadata.drop_all(connection)
        connection.execute(text("DROP TABLE alembic_version"))


def ship_all(shipper: Shipper, store: Store) -> None:
    """As the thread of the shipper does: a failure closes the connections, and it tries again."""
    while True:
        try:
            while shipper.ship():
                pass
            return
        except StoreError:
            store.close()


def ids(records: Sequence[Made]) -> list[str]:
    return sorted(record.prediction_id for record in records)


@pytest.mark.parametrize("event", ["restored", "dropped"])
def test_the_shipper_brings_an_older_store_what_it_lacks_and_tells(
    tmp_path: Path, database: Database, store: Store, metrics: Metrics, caplog: pytest.LogCaptureFixture, event: str
) -> None:
    records = make_records(30)
    shipper = Shipper(tmp_path, store, 1, metrics)
    write_log(tmp_path, records[:10])
    ship_all(shipper, store)
    store.close()
    database.back_up()
    write_log(tmp_path, records[10:20])
    ship_all(shipper, store)
    assert (len(stored(store)), went_back(metrics)) == (20, 0)
    if event == "restored":
        database.restore()
    else:
        drop_tables(store)
    write_log(tmp_path, records[20:])
    ship_all(shipper, store)
    assert stored(store) == ids(records)
    assert went_back(metrics) == 1
    assert "the store is an older copy of itself: it lacks the log up to byte" in caplog.text
    ship_all(shipper, store)
    assert went_back(metrics) == 1


@pytest.mark.parametrize("event", ["restored", "dropped"])
def test_decisions_that_were_committed_to_what_is_no_more_are_told(
    monkeypatch: pytest.MonkeyPatch, database: Database, store: Store, metrics: Metrics, caplog: pytest.LogCaptureFixture, event: str
) -> None:
    monkeypatch.setattr(store_sink, "PROBE_SECONDS", 0)
    records = make_records(4)

    async def append(log: StoreSink, record: bytes) -> None:
        """As a client that sends again what was refused."""
        for _ in range(2):
            await asyncio.to_thread(wait_for, lambda: log.ready)
            try:
                return await log.append([record])
            except store_sink.LogError:
                pass
        raise AssertionError("refused twice")

    async def scenario() -> None:
        log = StoreSink(store)
        await append(log, records[0])
        store.close()
        await asyncio.to_thread(database.back_up)
        await append(log, records[1])
        if event == "restored":
            await asyncio.to_thread(database.restore)
        else:
            drop_tables(store)
        await append(log, records[2])
        await append(log, records[3])
        log.close()

    asyncio.run(scenario())
    assert stored(store) == ids(records[:1] * (event == "restored") + records[2:])
    assert went_back(metrics) == 1
    assert f"decision {records[1].prediction_id}, which it had committed" in caplog.text


@pytest.mark.parametrize("event", ["restored", "dropped"])
def test_outcomes_that_were_stored_in_what_is_no_more_are_told_and_can_be_sent_again(
    tmp_path: Path, database: Database, store: Store, metrics: Metrics, caplog: pytest.LogCaptureFixture, event: str
) -> None:
    records = make_records(3)
    shipper = Shipper(tmp_path, store, 1, metrics)
    desk = OutcomeDesk(store, None, Metrics(), "credit_scoring")

    def send(record: Made) -> str:
        """As a client that sends again what was refused."""
        body = json.dumps({"outcomes": [{"prediction_id": record.prediction_id, "defaulted": True}]}).encode()
        for _ in range(2):
            try:
                return str(asyncio.run(desk.take(body))["outcomes"][0]["status"])
            except ServiceError:
                store.close()
        raise AssertionError("refused twice")

    write_log(tmp_path, records)
    ship_all(shipper, store)
    assert send(records[0]) == "stored"
    store.close()
    database.back_up()
    assert send(records[1]) == "stored"
    before = went_back(metrics)
    if event == "restored":
        database.restore()
    else:
        drop_tables(store)
        ship_all(shipper, store)
    assert send(records[2]) == "stored"
    assert (went_back(metrics) or 0) > (before or 0)
    assert "outcome 2, which it had committed" in caplog.text
    told = went_back(metrics)
    assert [send(record) for record in records] == ["repeated" if event == "restored" else "stored", "stored", "repeated"]
    assert went_back(metrics) == told
    with reading(store.engine) as connection:
        assert connection.execute(text("SELECT count(*) FROM outcomes")).scalar() == 3
