import asyncio
import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from records import TIME, Made, make_records, stored, write_log

from configs.settings import Settings
from monitoring.decision_log.sink import LogError
from monitoring.decision_log.writer import check_writable
from monitoring.metrics import Metrics
from serving.errors import ServiceError
from serving.recording import Recording, Status

pytestmark = pytest.mark.slow


def with_durability(settings: Settings, durability: str) -> Settings:
    return settings.model_copy(update={"log": settings.log.model_copy(update={"durability": durability})})


async def with_four_shipped(settings: Settings, wait_until: Callable[[Callable[[], object]], None]) -> Recording:
    """What records, after it has shipped the decisions that it found in the log."""
    await asyncio.to_thread(write_log, settings.log_folder, make_records(4))
    recording = Recording(settings, Metrics())
    await asyncio.to_thread(wait_until, lambda: len(stored(recording.store)) == 4)
    return recording


@pytest.mark.parametrize("durability", ["flush", "fsync", "database", "off"])
def test_what_another_durability_left_in_the_log_is_shipped(
    settings: Settings, durability: str, wait_until: Callable[[Callable[[], object]], None]
) -> None:
    async def scenario() -> None:
        recording = await with_four_shipped(with_durability(settings, durability), wait_until)
        recording.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("durability", ["flush", "database"])
def test_what_was_scored_before_is_read_from_the_store(
    settings: Settings, durability: str, wait_until: Callable[[Callable[[], object]], None]
) -> None:
    async def scenario() -> None:
        recording = await with_four_shipped(with_durability(settings, durability), wait_until)
        expected = [[row + 0.1, np.nan, -0.0, 1e-300, 0.1] for row in range(4)]
        np.testing.assert_array_equal(recording.scored_before(TIME + timedelta(hours=1), "v1", 3), expected[1:])
        np.testing.assert_array_equal(recording.scored_before(TIME + timedelta(seconds=2), "v1", 3), expected[:2])
        assert not len(recording.scored_before(TIME + timedelta(hours=1), "v2", 3))
        recording.close()

    asyncio.run(scenario())


def test_without_a_record_nothing_was_scored_before(settings: Settings) -> None:
    recording = Recording(with_durability(settings, "off"), Metrics())
    assert not len(recording.scored_before(TIME, "v1", 3))
    recording.close()
    assert not (settings.home / "store.db").exists()


@pytest.mark.parametrize("durability", ["database", "off"])
def test_without_a_log_none_is_made_and_nothing_ships(settings: Settings, durability: str) -> None:
    recording = Recording(with_durability(settings, durability), Metrics())
    assert recording.shipper is None
    recording.close()
    assert not settings.log_folder.exists()


def test_what_cannot_be_recorded_is_a_503_that_tells_no_place(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = Recording(settings, Metrics())

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device", str(settings.log_folder))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(ServiceError, match="No space left on device") as caught:
        recording.record(lambda: make_records(1))
    assert (caught.value.status, str(settings.log_folder) in str(caught.value)) == (503, False)
    recording.close()


@pytest.mark.parametrize("name", ["predictions.jsonl", "predictions-000001.jsonl"])
def test_a_file_of_the_log_that_cannot_be_written_is_told_before_the_service_starts(tmp_path: Path, name: str) -> None:
    check_writable(tmp_path)
    (tmp_path / name).mkdir()
    with pytest.raises(LogError, match=f"cannot be opened: .*{name}"):
        check_writable(tmp_path)


def outcome(record: Made) -> bytes:
    return json.dumps({"outcomes": [{"prediction_id": record.prediction_id, "defaulted": True}]}).encode()


@pytest.mark.parametrize("durability", ["flush", "fsync", "database", "off"])
def test_a_store_that_is_gone_is_not_ready_and_takes_no_outcome_until_it_is_back(
    settings: Settings, durability: str, wait_until: Callable[[Callable[[], object]], None]
) -> None:
    path, metrics, records = settings.home / "store.db", Metrics(), make_records(3)

    def shown() -> tuple[float | None, Status, bool]:
        return metrics.registry.get_sample_value("credit_store_ready"), recording.status, recording.ready

    async def decide(record: Made) -> None:
        if future := recording.record(lambda: [record]):
            await future

    async def send(record: Made) -> str:
        return str((await recording.desk.take(outcome(record)))["outcomes"][0]["status"])

    async def scenario() -> None:
        await asyncio.to_thread(wait_until, lambda: recording.ready)
        await decide(records[0])
        assert await send(records[0]) == ("unknown" if durability == "off" else "stored")
        assert shown() == (1, ("ok", None), True)
        path.rename(path.with_name("away"))
        assert shown() == (0, ("no_store", "the store cannot be used, so outcomes get a 503 until it can"), False)
        with pytest.raises(ServiceError, match=r"the store cannot be used now|behind the decision log") as caught:
            await send(records[0])
        assert caught.value.status == 503
        if durability == "database":
            with pytest.raises((LogError, ServiceError), match="the store cannot be used"):
                await decide(records[1])
        else:
            await decide(records[1])
        assert not recording.ready
        path.with_name("away").rename(path)
        await asyncio.to_thread(wait_until, lambda: recording.ready)
        assert shown() == (1, ("ok", None), True)
        await decide(records[2])
        if durability != "off":
            await asyncio.to_thread(wait_until, lambda: records[2].prediction_id in stored(recording.store))
            assert await send(records[2]) == "stored"
            kept = {record.prediction_id for record in (records if durability != "database" else [records[0], records[2]])}
            assert set(stored(recording.store)) == kept
        recording.close()

    async def start() -> Recording:
        return Recording(with_durability(settings, durability), metrics)

    recording = asyncio.run(start())
    asyncio.run(scenario())
