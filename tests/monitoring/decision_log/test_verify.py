import random
from collections.abc import Callable
from pathlib import Path

import pytest
from records import make_records, write_log

from monitoring.decision_log.layout import START, Position, rotated
from monitoring.decision_log.reader import read_lines
from monitoring.decision_log.verify import SETTLE_TRIES, verify


def edit(lines: list[bytes]) -> list[bytes]:
    return [*lines[:4], lines[4].replace(b'"probability":0.1', b'"probability":0.2'), *lines[5:]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (edit, "line 5 does not match its chain"),
        (lambda lines: lines[:4] + lines[5:], "line 5 does not match its chain"),
        (lambda lines: lines[:4] + lines[3:], "line 5 does not match its chain"),
        (lambda lines: [*lines[:4], lines[5], lines[4], *lines[6:]], "line 5 does not match its chain"),
        (lambda lines: lines[1:], "line 1 does not name the chain before it"),
        (lambda lines: [*lines[:4], b"x\n", *lines[4:]], "line 5 is not a line of the log"),
        (lambda lines: [*lines[:4], b'{"format":1}\n', *lines[4:]], "line 5 is not a line of the log"),
        (lambda lines: [*lines[:-1], lines[-1][:-10]], "line 8 is not a line of the log"),
    ],
)
def test_a_change_of_any_line_is_found_and_named(tmp_path: Path, change: Callable[[list[bytes]], list[bytes]], said: str) -> None:
    write_log(tmp_path, make_records(32), max_bytes=3000, batch=8)
    path = rotated(tmp_path, 2)
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    problems = verify(tmp_path).problems
    assert any(f"{path.name} {said}" in problem for problem in problems), problems


def test_any_changed_byte_is_found(tmp_path: Path) -> None:
    write_log(tmp_path, make_records(6))
    path = tmp_path / "predictions.jsonl"
    content = path.read_bytes()
    rng = random.Random(1)
    for _ in range(300):
        place = rng.randrange(len(content))
        changed = bytes([content[place] ^ (1 << rng.randrange(8))])
        path.write_bytes(content[:place] + changed + content[place + 1 :])
        assert verify(tmp_path, [Position(1, len(content), content[-67:-3].decode())]).problems, (place, changed)


def test_missing_files_are_named_and_those_of_retention_are_not(tmp_path: Path) -> None:
    write_log(tmp_path, make_records(60), max_bytes=3000)
    rotated(tmp_path, 1).unlink()
    assert verify(tmp_path).problems == []
    rotated(tmp_path, 3).unlink()
    problems = verify(tmp_path).problems
    assert problems[0] == "file 3 of the log is missing before predictions-000004.jsonl"
    assert "predictions-000004.jsonl line 1 does not continue the file before it" in problems[1]


def test_a_cut_end_is_found_by_what_the_store_has(tmp_path: Path) -> None:
    write_log(tmp_path, make_records(10))
    _, shipped = read_lines(tmp_path, START, 10**6)
    path = tmp_path / "predictions.jsonl"
    assert verify(tmp_path, [shipped]).problems == []
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-2]))
    assert verify(tmp_path).problems == []
    (problem,) = verify(tmp_path, [shipped]).problems
    assert "does not hold the last line that the store had" in problem
    write_log(tmp_path, make_records(2))
    assert verify(tmp_path, [shipped]).problems
    assert verify(tmp_path, [START]).problems == []


def test_a_line_that_becomes_visible_late_is_not_called_edited(tmp_path: Path) -> None:
    write_log(tmp_path, make_records(9), batch=3)
    path = tmp_path / "predictions.jsonl"
    lines, room = path.read_bytes().splitlines(keepends=True), b"\t" * 50_000
    path.write_bytes(b"".join(lines[:3]) + b"\t" * len(lines[3]) + b"".join(lines[4:]) + room)

    pauses: list[float] = []

    def settle(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == SETTLE_TRIES - 1:
            with path.open("r+b") as file:
                file.write(b"".join(lines))

    found = verify(tmp_path, pause=settle)
    assert (found.lines, found.problems) == (9, [])
    assert 0.1 < sum(pauses) < 1, "it waits for a writer, but not for long"
