import asyncio
import os
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest
from records import Clock, log_lines, make_records, open_log, write_log

from monitoring.decision_log.file import ROOM_BYTES
from monitoring.decision_log.layout import START, rotated, rotated_sequences
from monitoring.decision_log.reader import end_of_log, find_line, read_lines, unread
from monitoring.decision_log.record import Record, feature_json
from monitoring.decision_log.sink import LogError, NoLog, Sink
from monitoring.decision_log.sync import QUICK_SECONDS
from monitoring.decision_log.verify import verify
from monitoring.decision_log.writer import DecisionLog, check_writable


def test_a_line_tells_the_decision_and_reads_back_as_the_same_bits(tmp_path: Path) -> None:
    values = np.array([0.1, np.nan, -0.0, 5e-324, 1.7976931348623157e308, 1 / 3])
    (record,) = make_records(1, client_id="é漢\n", features=feature_json(values), raw={"AMOUNT": 5.0, "KIND": None})
    write_log(tmp_path, [record])
    (line,) = log_lines(tmp_path)
    document = msgspec.json.decode(line)
    assert list(document) == [
        "prediction_id", "client_id", "prediction", "decision", "probability", "risk_level", "threshold", "model_version", "timestamp",
        "warnings", "format", "model_name", "latency_ms", "request_id", "by", "features", "raw", "previous", "chain",
    ]  # fmt: skip
    read = msgspec.json.decode(line, type=Record)
    features = np.array(msgspec.json.decode(read.features, type=list[float | None]), dtype=np.float64)
    assert features.tobytes() == values.tobytes()
    assert (read.client_id, read.probability, document["format"], document["raw"]) == ("é漢\n", 0.1, 3, {"AMOUNT": 5.0, "KIND": None})


@pytest.mark.parametrize("durability", ["flush", "fsync"])
def test_what_the_last_process_did_not_log_is_on_the_disk_before_it_counts_as_synced(tmp_path: Path, durability: str) -> None:
    write_log(tmp_path, make_records(2))
    on_disk = []
    log = DecisionLog(
        tmp_path,
        durability=durability,  # type: ignore[arg-type]
        max_bytes=10**9,
        unlogged=lambda: make_records(3),
        sync=lambda descriptor: on_disk.append(len(log_lines(tmp_path))),
        clock=Clock(),
    )
    assert on_disk == ([5] if durability == "fsync" else [])
    assert log.synced == end_of_log(tmp_path)
    log.close()
    assert verify(tmp_path).problems == []


def test_a_record_of_another_format_is_not_read() -> None:
    with pytest.raises(msgspec.ValidationError, match="Invalid enum value 4"):
        msgspec.json.decode(make_records(1)[0].replace(b'"format":3', b'"format":4'), type=Record)


@pytest.mark.parametrize(("values", "text"), [([], b"[]"), ([np.nan], b"[null]"), ([1.0, -0.0], b"[1.0,-0.0]")])
def test_features_are_an_array_with_null_for_what_is_not_known(values: list[float], text: bytes) -> None:
    assert bytes(feature_json(np.array(values))) == text


@pytest.mark.parametrize("durability", ["flush", "fsync"])
def test_what_is_acknowledged_is_in_the_file_in_order(tmp_path: Path, durability: str) -> None:
    records = make_records(100)

    async def scenario() -> None:
        log = open_log(tmp_path, durability)
        assert log.append([]) is None
        waiting = [log.append(records[start : start + 7]) for start in range(0, 100, 7)]
        assert all(future is None for future in waiting) == (durability == "flush")
        await asyncio.gather(*(future for future in waiting if future))
        assert [msgspec.json.decode(line)["prediction_id"] for line in log_lines(tmp_path)] == [record.prediction_id for record in records]
        assert [b'"previous"' in line for line in log_lines(tmp_path)] == [True] + [False] * 99
        log.close()

    asyncio.run(scenario())
    result = verify(tmp_path)
    assert (result.lines, result.problems) == (100, [])


def test_syncs_run_one_at_a_time_and_cover_what_came_meanwhile(tmp_path: Path) -> None:
    syncs: list[int] = []
    running, clock = 0, Clock()

    def sync(file: int) -> None:
        nonlocal running
        running += 1
        assert running == 1
        syncs.append(os.fstat(file).st_size)
        clock.now += 1
        running -= 1

    async def scenario() -> None:
        log = open_log(tmp_path, "fsync", sync=sync, clock=clock)
        opened = len(syncs)
        futures = [log.append(make_records(1)) for _ in range(20)]
        sizes = [(tmp_path / "predictions.jsonl").stat().st_size]
        await asyncio.gather(*(future for future in futures if future))
        assert len(syncs) - opened == 2  # the first batch, then all others together
        assert syncs[-1] == sizes[0]
        log.close()

    asyncio.run(scenario())


def test_a_quick_disk_is_waited_for_and_a_slow_one_is_not(tmp_path: Path) -> None:
    seconds, clock, release = 0.0, Clock(), threading.Event()
    release.set()

    def sync(_: int) -> None:
        clock.now += seconds
        assert release.wait(60)

    async def scenario() -> None:
        nonlocal seconds
        log = open_log(tmp_path, "fsync", sync=sync, clock=clock)
        quick = log.append(make_records(1))
        await asyncio.sleep(0)
        assert quick
        assert quick.done()
        seconds = QUICK_SECONDS
        slow = [log.append(make_records(1))]
        await asyncio.sleep(0)
        release.clear()
        slow.append(log.append(make_records(1)))
        await asyncio.sleep(0)
        assert [future.done() for future in slow if future] == [True, False]  # the first one showed it
        release.set()
        await asyncio.gather(*(future for future in slow if future))
        log.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("max_bytes", [10**6, 1000])
def test_batches_of_one_turn_share_a_sync_unless_a_file_is_full(tmp_path: Path, max_bytes: int) -> None:
    synced = []

    def sync(file: int) -> None:
        synced.append(file)

    async def scenario() -> None:
        log = open_log(tmp_path, "fsync", max_bytes=max_bytes, sync=sync)
        synced.clear()
        futures = [log.append(make_records(2)) for _ in range(6)]
        await asyncio.gather(*(future for future in futures if future))
        assert (len(synced) == 1) == (max_bytes == 10**6)
        log.close()

    asyncio.run(scenario())
    result = verify(tmp_path)
    assert (result.lines, result.problems, result.files > 1) == (12, [], max_bytes == 1000)


@pytest.mark.parametrize("durability", ["flush", "fsync"])
def test_the_active_file_ends_in_room_that_nobody_takes_for_lines(tmp_path: Path, durability: str) -> None:
    async def scenario() -> None:
        log = open_log(tmp_path, durability)
        for _ in range(40):
            if future := log.append(make_records(30)):
                await future
        content = (tmp_path / "predictions.jsonl").read_bytes()
        written = content.rstrip(b"\t")
        if durability == "fsync":
            assert ROOM_BYTES <= len(content) <= len(written) + ROOM_BYTES
        else:  # where nothing is synced, room gains nothing
            assert content == written
        assert end_of_log(tmp_path) == (1, len(written))
        result = verify(tmp_path)
        assert (result.lines, result.problems) == (1200, [])
        found, position = read_lines(tmp_path, START, len(content))
        assert found == written
        assert unread(tmp_path, position) == (0, None)
        assert find_line(tmp_path, "none") is None
        log.close()
        assert (tmp_path / "predictions.jsonl").read_bytes() == written

    asyncio.run(scenario())


@pytest.mark.parametrize("durability", ["flush", "fsync"])
def test_a_rotated_file_has_no_room(tmp_path: Path, durability: str) -> None:
    async def scenario() -> None:
        log = open_log(tmp_path, durability, max_bytes=2000)
        for _ in range(10):
            if future := log.append(make_records(3)):
                await future
        kept.extend(rotated(tmp_path, number).read_bytes() for number in rotated_sequences(tmp_path))
        log.close()

    kept: list[bytes] = []
    asyncio.run(scenario())
    assert not any(b"\t" in content for content in kept)
    result = verify(tmp_path)
    assert (result.files > 3, result.lines, result.problems) == (True, 30, [])


def test_off_lets_every_answer_leave_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log: Sink = NoLog()
    assert log.append(make_records(2)) is None
    log.close()
    assert (log.ready, list(tmp_path.iterdir())) == (True, [])


def test_a_second_writer_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    first = open_log(tmp_path)
    with pytest.raises(LogError, match="is being written by another process; expected one a folder"):
        open_log(tmp_path)
    first.close()
    open_log(tmp_path).close()


def test_a_folder_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LogError, match="cannot be opened"):
        open_log(tmp_path / "file" / "logs")


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    write_log(tmp_path, make_records(30), max_bytes=2000)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize("durability", ["flush", "fsync"])
def test_files_are_rotated_by_size_and_the_chain_goes_on(tmp_path: Path, durability: str) -> None:
    async def scenario() -> None:
        log = open_log(tmp_path, durability, max_bytes=3000)
        for number, record in enumerate(make_records(60)):
            future = log.append([record])
            if future and number % 2:
                await future
        log.close()

    asyncio.run(scenario())
    write_log(tmp_path, make_records(10), max_bytes=3000)
    result = verify(tmp_path)
    assert result.files > 5
    assert (result.lines, result.problems) == (70, [])
    assert rotated(tmp_path, 1).stat().st_size < 4000


def test_the_chain_goes_on_after_a_crash_between_the_two_steps_of_a_rotation(tmp_path: Path) -> None:
    write_log(tmp_path, make_records(3))
    (tmp_path / "predictions.jsonl").rename(rotated(tmp_path, 1))
    write_log(tmp_path, make_records(2))
    result = verify(tmp_path)
    assert (result.files, result.lines, result.problems) == (2, 5, [])


@pytest.mark.parametrize("durability", ["flush", "fsync"])
def test_a_file_that_has_reached_its_size_is_rotated_before_the_next_batch(tmp_path: Path, durability: str) -> None:
    for room in (1, 0):
        write_log(tmp_path / str(room), make_records(3))
        size = (tmp_path / str(room) / "predictions.jsonl").stat().st_size

        async def scenario(folder: Path, most: int) -> None:
            log = open_log(folder, durability, max_bytes=most)
            if future := log.append(make_records(1)):
                await future
            log.close()

        asyncio.run(scenario(tmp_path / str(room), size + room))
        assert rotated_sequences(tmp_path / str(room)) == [1] * (1 - room)


def test_a_file_and_its_new_name_are_on_the_disk_before_the_next_one_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[int, int]] = []
    folders: list[list[str]] = []

    def sync(file: int) -> None:
        synced.append((os.fstat(file).st_ino, os.fstat(file).st_size))

    def sync_folder(_: int) -> None:
        folders.append(sorted(path.name for path in tmp_path.iterdir()))

    write_log(tmp_path, [])
    monkeypatch.setattr(os, "fsync", sync_folder)

    async def scenario() -> None:
        log = open_log(tmp_path, "fsync", max_bytes=1000, sync=sync)
        assert folders == [["predictions.jsonl", "predictions.lock"]], "the names are on the disk before the first decision"
        for _ in range(2):
            await log.append(make_records(3))  # type: ignore[misc]
        log.close()

    asyncio.run(scenario())
    whole = rotated(tmp_path, 1).stat()
    assert [size for inode, size in synced if inode == whole.st_ino][-1] == whole.st_size, "synced once its room was cut"
    assert folders[-1] == ["predictions-000001.jsonl", "predictions.jsonl", "predictions.lock"]


def test_whether_a_log_can_be_written_is_seen_before_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LogError, match=r"the decision log in .*/file/logs cannot be opened: .*Not a directory"):
        check_writable(tmp_path / "file" / "logs")

    async def scenario() -> None:
        log = DecisionLog(tmp_path, durability="flush", max_bytes=10**6)
        with pytest.raises(LogError, match="is being written by another process"):
            check_writable(tmp_path)
        log.close()
        check_writable(tmp_path)

    asyncio.run(scenario())
