"""A log whose disk does not answer."""

import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest
from records import Clock, log_lines, make_records, open_log

from monitoring.decision_log import sync as sync_module
from monitoring.decision_log.sink import LogError
from monitoring.decision_log.verify import verify


class Hanging:
    """A sync that is slow from the start, and later does not end until it is let go, well or, once, not."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.fails = clock, False
        self.answers, self.ended = threading.Event(), threading.Event()
        self.answers.set()

    def __call__(self, file: int) -> None:
        self.ended.clear()
        self.clock.now += 1
        self.answers.wait()
        try:
            if self.fails:
                self.fails = False
                raise OSError(errno.EIO, "Input/output error")
            os.fdatasync(file)
        finally:
            self.ended.set()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fails", [False, True])
def test_a_disk_that_does_not_answer_refuses_decisions_until_it_does(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fails: bool,
) -> None:
    clock = Clock()
    sync = Hanging(clock)

    async def scenario() -> None:
        log = open_log(tmp_path, "fsync", sync=sync, clock=clock)
        await log.append(make_records(1))  # type: ignore[misc]
        sync.answers.clear()
        with monkeypatch.context() as patch:
            patch.setattr(sync_module, "LONGEST_SYNC_SECONDS", 0.2)
            futures = [log.append(make_records(2)) for _ in range(3)]
            results = await asyncio.wait_for(asyncio.gather(*(future for future in futures if future), return_exceptions=True), 60)
        assert [(type(result), "the disk does not answer" in str(result)) for result in results] == [(LogError, True)] * 3
        with pytest.raises(LogError, match="the disk does not answer"):
            log.append(make_records(1))
        assert not log.ready
        sync.fails = fails
        sync.answers.set()
        while not log.ready:  # noqa: ASYNC110 - asked in its loop
            await asyncio.sleep(0.01)
        await log.append(make_records(4))  # type: ignore[misc]
        log.close()

    asyncio.run(scenario())
    result = verify(tmp_path)
    assert (result.lines, result.problems) == (5 if fails else 11, [])
    assert caplog.text.count("the disk has not answered for 0.2 seconds") == 1


def test_close_does_not_wait_for_a_disk_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    sync = Hanging(clock)

    async def scenario() -> None:
        log = open_log(tmp_path, "fsync", sync=sync, clock=clock)
        await log.append(make_records(1))  # type: ignore[misc]
        sync.answers.clear()
        future = log.append(make_records(2))
        with monkeypatch.context() as patch:
            patch.setattr(sync_module, "LONGEST_SYNC_SECONDS", 0.2)
            log.close()
        with pytest.raises(LogError):
            await asyncio.wait_for(future, 60)  # type: ignore[arg-type]
        sync.answers.set()
        assert await asyncio.to_thread(sync.ended.wait, 60)

    asyncio.run(scenario())
    result = verify(tmp_path)
    assert (result.lines, result.problems) == (3, [])


def test_one_failed_sync_fails_what_was_appended_while_it_ran_too(tmp_path: Path) -> None:
    clock = Clock()
    sync = Hanging(clock)

    async def scenario() -> None:
        log = open_log(tmp_path, "fsync", sync=sync, clock=clock)
        await log.append(make_records(2))  # type: ignore[misc]
        sync.fails = True
        sync.answers.clear()
        futures = [log.append(make_records(1)) for _ in range(3)]
        sync.answers.set()
        results = await asyncio.gather(*(future for future in futures if future), return_exceptions=True)
        assert [type(result) for result in results] == [LogError] * 3, "their lines were cut off with its own"
        log.close()

    asyncio.run(scenario())
    assert len(log_lines(tmp_path)) == 2
