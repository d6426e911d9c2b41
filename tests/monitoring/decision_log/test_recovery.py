import mmap
import os
from pathlib import Path

import pytest
from records import log_lines, make_records, open_log, write_log

from monitoring.decision_log.reader import end_of_log
from monitoring.decision_log.verify import verify


@pytest.mark.parametrize("room", [b"\t", b"\0"])
def test_room_behind_the_lines_is_no_loss(tmp_path: Path, room: bytes) -> None:
    write_log(tmp_path, make_records(3, client_id="a\tb\0"))
    with (tmp_path / "predictions.jsonl").open("ab") as file:
        file.write(room * 3_000_000)
    assert end_of_log(tmp_path)[1] == sum(len(line) + 1 for line in log_lines(tmp_path))
    write_log(tmp_path, make_records(2))
    result = verify(tmp_path)
    assert (result.lines, result.problems) == (5, [])
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("byte", [b"\t", b"\0"])
def test_lines_behind_a_gap_were_never_synced_and_are_set_aside(tmp_path: Path, byte: bytes) -> None:
    write_log(tmp_path, make_records(4))
    *first, last = (tmp_path / "predictions.jsonl").read_bytes().splitlines(keepends=True)
    whole = b"".join(first)
    gap = byte * (2 * mmap.PAGESIZE - len(whole))
    (tmp_path / "predictions.jsonl").write_bytes(whole + gap + last + gap)
    write_log(tmp_path, make_records(2))
    result = verify(tmp_path)
    assert (result.lines, result.problems) == (5, [])
    (partial,) = tmp_path.glob("predictions-*.partial")
    assert partial.read_bytes() == gap + last


def test_a_spoilt_byte_is_no_gap_and_cuts_nothing_off(tmp_path: Path) -> None:
    write_log(tmp_path, make_records(4))
    content = (tmp_path / "predictions.jsonl").read_bytes()
    place = content.index(b"APPROVE")
    (tmp_path / "predictions.jsonl").write_bytes(content[:place] + b"\t" + content[place + 1 :] + b"\t" * 100)
    write_log(tmp_path, make_records(2))
    result = verify(tmp_path)
    assert (result.lines, len(result.problems)) == (6, 1)
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("tail", [b'{"format":1,"predict', b"\0\0\n\0\n", b'{"a":1}\n', b"\n"])
@pytest.mark.parametrize("whole", [0, 3])
def test_a_tail_that_is_no_whole_line_is_set_aside(tmp_path: Path, tail: bytes, whole: int) -> None:
    write_log(tmp_path, make_records(whole))
    with (tmp_path / "predictions.jsonl").open("ab") as file:
        file.write(tail)
    log = open_log(tmp_path)
    assert len(log_lines(tmp_path)) == whole, "it is gone from the file before a line is written there"
    log.close()
    write_log(tmp_path, make_records(2))
    result = verify(tmp_path)
    assert (result.lines, result.problems) == (whole + 2, [])
    (partial,) = tmp_path.glob("predictions-*.partial")
    assert partial.read_bytes() == tail


def test_what_is_set_aside_is_on_the_disk_before_it_leaves_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[bytes, bytes]] = []

    def sync(file: int) -> None:
        files = [path for path in tmp_path.glob("*.partial") if os.path.samestat(os.fstat(file), path.stat())]
        synced.extend((path.read_bytes(), (tmp_path / "predictions.jsonl").read_bytes()[-4:]) for path in files)

    write_log(tmp_path, make_records(1))
    with (tmp_path / "predictions.jsonl").open("ab") as file:
        file.write(b"half")
    monkeypatch.setattr(os, "fsync", sync)
    write_log(tmp_path, [])
    assert synced == [(b"half", b"half")]
