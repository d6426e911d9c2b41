"""What a log survives: full disks, failed syncs, the end of its process."""

import asyncio
import errno
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from records import Clock, log_lines, make_records, open_log, write_log
from running import ROOT

from monitoring.decision_log import health
from monitoring.decision_log import sync as sync_module
from monitoring.decision_log.sink import LogError
from monitoring.decision_log.verify import verify
from monitoring.decision_log.writer import DecisionLog


def limited(size: int) -> Callable[[], None]:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    return limit


@pytest.mark.usefixtures("impatient")
def test_a_full_disk_refuses_decisions_and_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(tmp_path)
    log.append(make_records(3))
    before = (tmp_path / "predictions.jsonl").read_bytes().rstrip(b"\t")
    room = 700

    def until_full(write: Callable[..., int]) -> Callable[..., int]:
        def limited(file: int, data: bytes, *place: int) -> int:
            nonlocal room
            if not room:
                raise OSError(errno.ENOSPC, "No space left on device")
            written = write(file, data[:room], *place)
            room -= written
            return written

        return limited

    with monkeypatch.context() as full:
        full.setattr(os, "write", until_full(os.write))
        full.setattr(os, "pwrite", until_full(os.pwrite))
        _refuse_while_full(log, tmp_path, before)
        room = 10
        assert not log.ready, "a few bytes are not room enough"
    assert log.ready
    log.append(make_records(2))
    log.close()
    result = verify(tmp_path)
    assert (result.lines, result.problems) == (5, [])
    assert not (tmp_path / "predictions.probe").exists()


def _refuse_while_full(log: DecisionLog, folder: Path, before: bytes) -> None:
    with pytest.raises(LogError, match=r"cannot be put on record now .*No space left"):
        log.append(make_records(3))
    assert (folder / "predictions.jsonl").read_bytes() == before
    assert not log.ready
    with pytest.raises(LogError):
        log.append(make_records(1))


@pytest.mark.slow
def test_a_real_limit_of_the_file_size_is_met_without_a_half_line(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from monitoring.decision_log.sink import LogError
from monitoring.decision_log.writer import DecisionLog
from records import make_records
log = DecisionLog(Path({str(tmp_path)!r}), durability="flush", max_bytes=10**9)
try:
    for _ in range(10_000):
        log.append(make_records(3))
except LogError as error:
    print(error, log.ready)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests/support")}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, preexec_fn=limited(20_000), capture_output=True, text=True, check=True
    )
    assert "File too large" in result.stdout
    assert result.stdout.strip().endswith("False")
    checked = verify(tmp_path)
    assert checked.problems == []
    assert checked.lines % 3 == 0


@pytest.mark.usefixtures("impatient")
def test_a_failed_sync_that_was_waited_for_fails_its_decisions(tmp_path: Path) -> None:
    broken = False

    def sync(file: int) -> None:
        if broken:
            raise OSError(errno.EIO, "Input/output error")

    async def scenario() -> None:
        nonlocal broken
        log = open_log(tmp_path, "fsync", sync=sync)
        await log.append(make_records(2))  # type: ignore[misc]
        broken = True
        failed = log.append(make_records(3))
        assert failed
        with pytest.raises(LogError, match="Input/output error"):
            await failed
        assert len(log_lines(tmp_path)) == 2
        broken = False
        assert log.ready
        await log.append(make_records(4))  # type: ignore[misc]
        log.close()

    asyncio.run(scenario())
    result = verify(tmp_path)
    assert (result.lines, result.problems) == (6, [])


@pytest.mark.usefixtures("impatient")
def test_a_failed_sync_fails_everything_that_was_not_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_module, "QUICK_SECONDS", 0)
    broken = False

    def sync(file: int) -> None:
        if broken:
            raise OSError(errno.EIO, "Input/output error")
        os.fdatasync(file)

    async def scenario() -> None:
        nonlocal broken
        log = open_log(tmp_path, "fsync", sync=sync)
        good = log.append(make_records(2))
        assert good
        await good
        broken = True
        futures = [log.append(make_records(1)) for _ in range(3)]
        results = await asyncio.gather(*(future for future in futures if future), return_exceptions=True)
        assert [type(result) for result in results] == [LogError] * 3
        assert len(log_lines(tmp_path)) == 2
        assert not log.ready
        with pytest.raises(LogError, match="Input/output error"):
            log.append(make_records(1))
        broken = False
        again = log.append(make_records(4))
        assert again
        await again
        log.close()

    asyncio.run(scenario())
    result = verify(tmp_path)
    assert (result.lines, result.problems) == (6, [])


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("name", ["predictions.jsonl", "predictions.lock"])
@pytest.mark.parametrize("durability", ["flush", "fsync"])
def test_a_log_that_was_moved_refuses_decisions_until_it_is_back(tmp_path: Path, durability: str, name: str) -> None:
    async def scenario() -> None:
        log = open_log(tmp_path, durability)
        log.append(make_records(2))
        (tmp_path / name).rename(tmp_path / "away")
        for _ in range(2):
            with pytest.raises(LogError, match=f"{name} was moved, removed or replaced"):
                log.append(make_records(1))
            assert not log.ready
            (tmp_path / name).touch()
        (tmp_path / "away").rename(tmp_path / name)
        log.append(make_records(3))
        log.close()

    asyncio.run(scenario())
    result = verify(tmp_path)
    assert (result.lines, result.problems) == (5, [])


@pytest.mark.parametrize("durability", ["flush", "fsync"])
@pytest.mark.parametrize("seen", ["before the next decision", "after it"])
def test_a_log_that_was_cut_refuses_decisions_until_the_next_start(tmp_path: Path, durability: str, seen: str) -> None:
    clock = Clock()

    async def scenario() -> None:
        log = open_log(tmp_path, durability, clock=clock)
        log.append(make_records(2))
        os.truncate(tmp_path / "predictions.jsonl", 0)
        if seen == "after it":
            log.append(make_records(1))
        clock.now += health.PROBE_SECONDS
        for _ in range(2):
            with pytest.raises(LogError, match=r"predictions\.jsonl was cut"):
                log.append(make_records(1))
        log.close()

    asyncio.run(scenario())
    write_log(tmp_path, make_records(3))
    result = verify(tmp_path)
    assert (result.lines, result.problems) == (3, [])
    assert len(list(tmp_path.glob("*.partial"))) == (seen == "after it")


@pytest.mark.usefixtures("impatient")
def test_without_the_only_rotated_file_decisions_are_refused(tmp_path: Path) -> None:
    log = open_log(tmp_path, max_bytes=1000)
    for _ in range(2):
        log.append(make_records(3))
    (tmp_path / "predictions-000001.jsonl").unlink()
    with pytest.raises(LogError, match=r"predictions-000001\.jsonl was moved or removed"):
        log.append(make_records(1))
    log.close()


@pytest.mark.usefixtures("impatient")
def test_without_the_last_rotated_file_decisions_are_refused_until_it_is_back(tmp_path: Path) -> None:
    log = open_log(tmp_path, max_bytes=1000)
    for _ in range(3):
        log.append(make_records(3))
    for name in ("predictions-000001.jsonl", "predictions-000002.jsonl"):
        assert log.ready
        (tmp_path / name).rename(tmp_path / f"away-{name}")
    with pytest.raises(LogError, match=r"predictions-000002\.jsonl was moved or removed"):
        log.append(make_records(1))
    (tmp_path / "away-predictions-000002.jsonl").rename(tmp_path / "predictions-000002.jsonl")
    log.append(make_records(1))
    log.close()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_folder_in_which_no_file_can_be_made_is_told_before_the_service_starts(tmp_path: Path) -> None:
    write_log(tmp_path, make_records(1))
    code = f"""
import os
from pathlib import Path
from monitoring.decision_log.sink import LogError
from monitoring.decision_log.writer import check_writable
check_writable(Path({str(tmp_path)!r}))
os.setegid(65534)
os.seteuid(65534)
try:
    check_writable(Path({str(tmp_path)!r}))
except LogError as error:
    print(error)
"""
    for path in (tmp_path, *tmp_path.iterdir(), *tmp_path.parents[:-2]):
        path.chmod(0o755 if path.is_dir() else 0o666)
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "no file can be made there" in result.stdout, result.stderr


@pytest.mark.parametrize("fails", [False, True])
def test_close_tells_everybody_who_waits_what_its_last_sync_did(tmp_path: Path, fails: bool) -> None:
    closing, clock = False, Clock()

    def sync(file: int) -> None:
        clock.now += 1  # too slow to be waited for
        if closing and fails:
            raise OSError(errno.EIO, "Input/output error")
        os.fdatasync(file)

    async def scenario() -> list[object]:
        nonlocal closing
        log = open_log(tmp_path, "fsync", sync=sync, clock=clock)
        first = log.append(make_records(1))
        assert first
        await first
        waiting = [log.append(make_records(1)) for _ in range(4)]
        closing = True
        log.close()
        return await asyncio.wait_for(asyncio.gather(*(future for future in waiting if future), return_exceptions=True), 60)

    results = asyncio.run(scenario())
    assert [type(result) for result in results] == [LogError if fails else type(None)] * 4
    assert len(log_lines(tmp_path)) == (1 if fails else 5)
    assert verify(tmp_path).problems == []


@pytest.mark.usefixtures("impatient")
def test_a_rotation_that_fails_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(tmp_path, max_bytes=1000)
    log.append(make_records(5))
    opening = os.open

    def fail(path: Path, *arguments: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(LogError):
        log.append(make_records(1))
    monkeypatch.setattr(os, "open", opening)
    log.append(make_records(1))
    log.close()
    result = verify(tmp_path)
    assert (result.files, result.lines, result.problems) == (2, 6, [])


WRITER = """
import asyncio, sys
from pathlib import Path
from monitoring.decision_log.writer import DecisionLog
from records import make_records

async def main():
    log = DecisionLog(Path({folder!r}), durability={durability!r}, max_bytes=200_000)
    while True:
        records = make_records(5)
        future = log.append(records)
        if future:
            await future
        print(*(record.prediction_id for record in records), flush=True)

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["flush", "fsync"])
def test_a_killed_writer_loses_nothing_that_it_acknowledged(tmp_path: Path, durability: str) -> None:
    code = WRITER.format(folder=str(tmp_path), durability=durability)
    acknowledged: list[str] = []
    rng = random.Random(0)
    for _ in range(4):
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests/support")}
        writer = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        assert writer.stdout
        acknowledged += writer.stdout.readline().split()
        time.sleep(rng.uniform(0, 0.2))
        writer.kill()
        rest = writer.communicate()[0]
        acknowledged += rest[: rest.rfind("\n") + 1].split()
    write_log(tmp_path, make_records(1))
    assert verify(tmp_path).problems == []
    written = [msgspec.json.decode(line)["prediction_id"] for path in tmp_path.glob("*.jsonl") for line in path.read_bytes().splitlines()]
    assert len(written) == len(set(written))
    assert set(acknowledged) <= set(written)
    assert len(acknowledged) >= 20
