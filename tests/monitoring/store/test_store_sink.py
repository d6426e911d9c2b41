import asyncio
import threading
import time

import pytest
from records import make_records, stored, wait_for
from running import Postgres
from sqlalchemy import text

from monitoring.decision_log.sink import LogError
from monitoring.store import store_sink
from monitoring.store.database import Store, writing
from monitoring.store.store_sink import StoreSink
from monitoring.store.tables import metadata


def ready(log: StoreSink) -> StoreSink:
    wait_for(lambda: log.ready)
    return log


def test_committed_decisions_are_in_the_store_when_their_future_is_done(store: Store) -> None:
    batches = [make_records(7) for _ in range(30)]

    async def scenario() -> None:
        log = ready(StoreSink(store))
        await log.append(batches[0])
        assert len(stored(store)) == 7
        await asyncio.gather(*(log.append(batch) for batch in batches[1:]))
        await log.append([])
        log.close()

    asyncio.run(scenario())
    assert stored(store) == sorted(record.prediction_id for batch in batches for record in batch)


def test_close_commits_what_waits(store: Store) -> None:
    async def scenario() -> None:
        log = ready(StoreSink(store))
        futures = [log.append(make_records(2)) for _ in range(10)]
        log.close()
        await asyncio.gather(*futures)

    asyncio.run(scenario())
    assert len(stored(store)) == 20


def test_a_refused_decision_fails_alone(store: Store) -> None:
    async def scenario() -> None:
        log = ready(StoreSink(store))
        bad = make_records(2, timestamp=None)
        results = await asyncio.gather(*(log.append(batch) for batch in (make_records(2), bad, make_records(2))), return_exceptions=True)
        assert [type(result) for result in results] == [type(None), LogError, type(None)]
        assert log.ready
        log.close()

    asyncio.run(scenario())
    assert len(stored(store)) == 4


def test_without_the_database_it_is_not_ready_and_refuses(postgres: Postgres) -> None:
    store = Store(postgres.new_database())
    given = make_records(3)

    async def scenario() -> None:
        log = ready(StoreSink(store))
        await log.append(given[:1])
        postgres.stop()
        try:
            with pytest.raises(LogError, match="cannot be put on record now") as caught:
                await log.append(given[1:2])
            assert str(postgres.folder) not in str(caught.value), "the address is the operator's"
            assert not log.ready
            with pytest.raises(LogError, match="cannot be put on record now"):
                log.append(given[1:2])
        finally:
            postgres.start()
        ready(log)
        await log.append(given[2:])
        log.close()

    asyncio.run(scenario())
    assert stored(store) == sorted([given[0].prediction_id, given[2].prediction_id])
    store.close()


def test_a_database_that_does_not_answer_fails_what_waits_for_it(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(postgres.new_database())
    given = make_records(3)

    async def scenario() -> None:
        log = ready(StoreSink(store))
        await log.append(given[:1])
        with postgres.stopped(), monkeypatch.context() as patch:
            patch.setattr(store_sink, "COMMIT_SECONDS", 0.5)
            waiting = [log.append(given[1:2]), log.append(given[1:2])]
            for future in waiting:
                with pytest.raises(LogError, match="cannot be put on record now"):
                    await future
            assert not log.ready
            with pytest.raises(LogError, match="cannot be put on record now"):
                log.append(given[1:2])
            log_of_its_own = StoreSink(store)
            begun = time.monotonic()
            log_of_its_own.close()
            assert time.monotonic() - begun < 60
        ready(log)
        await log.append(given[2:])
        log.close()

    asyncio.run(scenario())
    assert {given[0].prediction_id, given[2].prediction_id} <= set(stored(store))
    assert len(stored(store)) == len({*stored(store)})
    wait_for(lambda: not any(thread.name == "store-sink" for thread in threading.enumerate()))  # one may connect only now
    store.close()


def test_tables_that_are_gone_are_made_anew(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_sink, "PROBE_SECONDS", 0)

    async def scenario() -> None:
        log = ready(StoreSink(store))
        await log.append(make_records(3))
        with writing(store.engine) as connection:
            metadata.drop_all(connection)
            connection.execute(text("DROP TABLE alembic_version"))
        with pytest.raises(LogError):
            await log.append(make_records(1))
        await asyncio.to_thread(wait_for, lambda: log.ready)
        await log.append(make_records(2))
        log.close()

    asyncio.run(scenario())
    assert len(stored(store)) == 2


def test_what_waits_for_the_database_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_sink, "MAX_WAITING_BYTES", 1000)

    async def scenario() -> None:
        log = ready(StoreSink(store))
        future = log.append(make_records(10))
        with pytest.raises(LogError, match="too many decisions wait"):
            log.append(make_records(1))
        await future
        await log.append(make_records(1))
        log.close()

    asyncio.run(scenario())
