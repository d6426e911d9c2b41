import asyncio
import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from records import TIME, make_records, write_log

from monitoring.decision_log import reader
from monitoring.decision_log.layout import START, Position, log_id, remove_old, rotated
from monitoring.decision_log.reader import find_line, holds, read_lines, sync_to_end, unread
from monitoring.decision_log.record import line_time, scored
from monitoring.decision_log.verify import verify
from monitoring.decision_log.writer import DecisionLog


def read_all(folder: Path, max_bytes: int = 1500) -> tuple[list[str], Position]:
    position, found = START, []
    while True:
        lines, position = read_lines(folder, position, max_bytes)
        if not lines:
            return found, position
        found += [msgspec.json.decode(line)["prediction_id"] for line in lines.splitlines()]


def test_an_empty_or_missing_log_has_no_lines(tmp_path: Path) -> None:
    assert read_lines(tmp_path, START, 100) == (b"", START)
    assert unread(tmp_path, START) == (0, None)
    assert log_id(tmp_path) is None
    assert verify(tmp_path).lines == 0
    write_log(tmp_path, [])
    assert read_lines(tmp_path, START, 100) == (b"", START)
    assert log_id(tmp_path)


@pytest.mark.parametrize("max_bytes", [1, 1000, 10**9])
def test_every_line_is_read_once_over_all_files(tmp_path: Path, max_bytes: int) -> None:
    records = make_records(80)
    write_log(tmp_path, records, max_bytes=4000, batch=3)
    assert len(list(tmp_path.glob("*.jsonl"))) > 4
    assert read_all(tmp_path, max_bytes)[0] == [record.prediction_id for record in records]


def test_a_line_that_is_being_written_waits(tmp_path: Path) -> None:
    write_log(tmp_path, make_records(2))
    _, position = read_all(tmp_path)
    with (tmp_path / "predictions.jsonl").open("ab") as file:
        file.write(b'{"half":')
    assert read_lines(tmp_path, position, 100) == (b"", position)


def test_reading_goes_on_while_the_log_is_written_and_rotated(tmp_path: Path) -> None:
    records = make_records(600)
    write_log(tmp_path, records[:10])
    writer = threading.Thread(target=write_log, args=(tmp_path, records[10:], 3000, 2))
    writer.start()
    found: list[str] = []
    position = START
    while writer.is_alive() or len(found) < len(records):
        lines, position = read_lines(tmp_path, position, 2000)
        found += [msgspec.json.decode(line)["prediction_id"] for line in lines.splitlines()]
    writer.join()
    assert found == [record.prediction_id for record in records]


def test_after_a_cut_the_file_is_read_again(tmp_path: Path) -> None:
    write_log(tmp_path, make_records(5))
    _, position = read_all(tmp_path)
    content = (tmp_path / "predictions.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "predictions.jsonl").write_bytes(b"".join(content[:3]))
    write_log(tmp_path, make_records(1, client_id="other"))
    lines, _ = read_lines(tmp_path, position, 10**6)
    assert len(lines.splitlines()) == 4
    assert read_lines(tmp_path, Position(1, 10**9, "a" * 64), 10**6)[0] == lines


def test_removed_files_are_passed_over(tmp_path: Path) -> None:
    write_log(tmp_path, make_records(40), max_bytes=3000)
    rotated(tmp_path, 1).unlink()
    position = Position(2, 0, "")
    assert read_lines(tmp_path, START, 100) == read_lines(tmp_path, position, 100)
    assert read_lines(tmp_path, Position(99, 5, "a" * 64), 100) == read_lines(tmp_path, position, 100)


def test_unread_tells_bytes_and_the_time_of_the_first(tmp_path: Path) -> None:
    write_log(tmp_path, make_records(40), max_bytes=3000)
    size = sum(path.stat().st_size for path in tmp_path.glob("*.jsonl"))
    assert unread(tmp_path, START) == (size, TIME)
    lines, position = read_lines(tmp_path, START, 1)
    assert unread(tmp_path, position) == (size - len(lines), TIME + timedelta(seconds=1))
    assert unread(tmp_path, read_all(tmp_path)[1]) == (0, None)


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'{"timestamp":5}', b'{"timestamp":"x"}'])
def test_no_line_has_no_time(line: bytes) -> None:
    assert line_time(line) is None


def test_a_line_tells_what_was_scored() -> None:
    assert scored(make_records(2)[1]) == [1.1, None, -0.0, 1e-300, 0.1]
    for line in (b"", b"[]", b'{"features":[1]}', b'{"features":["x"],"probability":1}'):
        with pytest.raises(msgspec.MsgspecError):
            scored(line)


def test_a_line_is_found_by_its_prediction(tmp_path: Path) -> None:
    records = make_records(40)
    write_log(tmp_path, records, max_bytes=3000)
    for record in (records[0], records[39]):
        line = find_line(tmp_path, record.prediction_id)
        assert line
        assert msgspec.json.decode(line)["client_id"] == record.client_id
    assert find_line(tmp_path, "nobody") is None


def test_retention_removes_what_is_old_and_shipped_but_never_the_newest(tmp_path: Path) -> None:
    write_log(tmp_path, make_records(60), max_bytes=3000, batch=2)
    files = sorted(tmp_path.glob("predictions-*.jsonl"))
    past = datetime.now(UTC) - timedelta(days=10)
    for path in files[:-2]:
        os.utime(path, (past.timestamp(), past.timestamp()))
    os.utime(files[-1], (past.timestamp(), past.timestamp()))
    before = datetime.now(UTC) - timedelta(days=5)
    assert remove_old(tmp_path, before, START) == []
    assert remove_old(tmp_path, before, Position(3, 0, "")) == [path.name for path in files[:2]]
    assert remove_old(tmp_path, before, Position(99, 0, "")) == [path.name for path in files[2:-2]]
    assert verify(tmp_path).problems == []


@pytest.mark.slow
def test_what_is_being_written_into_room_is_neither_skipped_nor_called_edited(tmp_path: Path) -> None:
    """A reader may see the later bytes of an append before the earlier ones."""
    problems: list[str] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            problems.extend(verify(tmp_path).problems)

    async def write() -> None:
        log = DecisionLog(tmp_path, durability="fsync", max_bytes=10**7, sync=lambda _: None)
        for _ in range(150):
            log.append(make_records(200))
            await asyncio.sleep(0)
        log.close()

    def read() -> None:
        position, lines = START, 0
        while lines < 150 * 200:
            block, position = read_lines(tmp_path, position, 50_000)
            assert b"\t" not in block
            lines += block.count(b"\n")
        read_all.append(lines)

    read_all: list[int] = []
    asyncio.run(_begun(tmp_path))
    threads = [threading.Thread(target=target, daemon=True) for target in (read, look)]
    for thread in threads:
        thread.start()
    asyncio.run(write())
    threads[0].join(300)
    done.set()
    threads[1].join(300)
    assert read_all == [150 * 200]
    assert problems == []


async def _begun(tmp_path: Path) -> None:
    DecisionLog(tmp_path, durability="fsync", max_bytes=10**7).close()


def test_a_half_visible_append_is_left_for_later(tmp_path: Path) -> None:
    write_log(tmp_path, make_records(9), batch=3)
    path = tmp_path / "predictions.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    torn = b"".join(lines[:3]) + b"\t" * len(b"".join(lines[3:5])) + b"".join(lines[5:])
    path.write_bytes(torn)
    block, position = read_lines(tmp_path, START, 10**6)
    assert block == b"".join(lines[:3])
    identifier = msgspec.json.decode(lines[5])["prediction_id"]
    assert find_line(tmp_path, identifier) in (None, lines[5])
    path.write_bytes(b"".join(lines))
    assert read_lines(tmp_path, position, 10**6)[0] == b"".join(lines[3:])


def test_another_process_syncs_what_it_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[os.stat_result] = []
    monkeypatch.setattr(os, "fdatasync", lambda file: synced.append(os.fstat(file)))
    assert sync_to_end(tmp_path) == (1, 0)
    assert not synced
    write_log(tmp_path, make_records(5))
    assert sync_to_end(tmp_path) == (1, (tmp_path / "predictions.jsonl").stat().st_size)
    assert os.path.samestat(synced[0], (tmp_path / "predictions.jsonl").stat())


@pytest.mark.parametrize("moment", ["before its place is known", "after"])
def test_a_file_that_is_rotated_while_it_is_looked_for_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    write_log(tmp_path, make_records(5))
    _, position = read_lines(tmp_path, START, 10**6)
    sequences = reader.rotated_sequences

    def rotating(folder: Path) -> list[int]:
        found = sequences(folder)
        if (folder / "predictions.jsonl").exists():
            (folder / "predictions.jsonl").rename(rotated(folder, 1))
        return sequences(folder) if moment == "before its place is known" else found

    monkeypatch.setattr(reader, "rotated_sequences", rotating)
    assert holds(tmp_path, position)
