"""What is opened for writing is the file itself, a regular one, for its owner only."""

import asyncio
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from records import make_records, open_log, write_log

from configs.settings import Settings
from monitoring.decision_log.recovery import recover
from monitoring.decision_log.sink import LogError
from monitoring.decision_log.writer import check_writable
from monitoring.metrics import Metrics
from monitoring.private_files import make_private, open_private
from monitoring.store.database import Store, StoreError, open_store
from monitoring.store.shipper import Shipper
from serving.identity.keys import create_key


@pytest.fixture(params=[0, 0o077, 0o277])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}


@pytest.mark.usefixtures("umask")
def test_all_that_a_service_makes_is_its_owners_whatever_the_umask(tmp_path: Path, settings: Settings) -> None:
    logs, home = settings.log_folder, settings.home
    write_log(logs, make_records(9), max_bytes=1500, batch=2)
    with (logs / "predictions.jsonl").open("ab") as file:
        file.write(b"garbage\n")
    store = Store(settings.store_url)
    shipper = Shipper(logs, store, 1, Metrics())
    sum(iter(shipper.ship, 0))
    (logs / "predictions.jsonl").write_bytes(b"half a line")
    recover(logs / "predictions.jsonl")
    create_key(settings.keys_path, "", None)
    found = modes(home)
    assert {"logs", "predictions.jsonl", "predictions.lock", "predictions-000001.jsonl", "refused.jsonl"} < set(found)
    assert {"store.db", "store.db-wal", "store.db-shm", "keys.json"} < set(found)
    assert [name for name in found if name.endswith(".partial")]
    assert {name: mode for name, mode in found.items() if mode != (0o700 if name == "logs" else 0o600)} == {}
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    store.close()


def link(path: Path, target: Path) -> None:
    path.symlink_to(target)


def folder(path: Path, _: Path) -> None:
    path.mkdir()


def pipe(path: Path, _: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("put", [link, folder, pipe])
@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, os.O_WRONLY | os.O_CREAT | os.O_APPEND])
def test_what_is_no_regular_file_is_refused_and_what_it_points_to_left_alone(
    tmp_path: Path, flags: int, put: Callable[[Path, Path], None]
) -> None:
    target = tmp_path / "target"
    target.write_text("content")
    put(tmp_path / "file", target)
    with pytest.raises(OSError, match=r"tmp|file"):
        open_private(tmp_path / "file", flags)
    assert target.read_text() == "content"


@pytest.mark.parametrize("name", ["predictions.jsonl", "predictions.lock", "predictions-000001.jsonl"])
def test_a_log_behind_a_link_is_not_opened_and_its_target_not_emptied(tmp_path: Path, name: str) -> None:
    target, logs = tmp_path / "target", tmp_path / "logs"
    target.write_bytes(b"somebody's file")
    logs.mkdir()
    (logs / name).symlink_to(target)
    for start in (check_writable, open_log):
        with pytest.raises(LogError, match=r"is a symbolic link; expected a regular file"):
            start(logs)  # type: ignore[operator]
    assert target.read_bytes() == b"somebody's file"


def test_a_link_that_appears_later_is_not_followed(tmp_path: Path) -> None:
    """At a rotation, a probe, and where a line is set aside."""
    target, logs = tmp_path / "target", tmp_path / "logs"
    target.write_bytes(b"x" * 3_000_000)
    write_log(logs, make_records(3))
    with (logs / "predictions.jsonl").open("ab") as file:
        file.write(b"garbage\n")
    (logs / "refused.jsonl").symlink_to(target)
    store = Store(f"sqlite:///{tmp_path / 'store.db'}")
    with pytest.raises(OSError, match="symbolic link"):
        Shipper(logs, store, 1, Metrics()).ship()
    store.close()
    (logs / "predictions.probe").symlink_to(target)

    async def scenario() -> None:
        now = 0.0
        log = open_log(logs, clock=lambda: now)
        (logs / "predictions.jsonl").rename(logs / "away")
        now = 2.0
        assert not log.ready
        (logs / "away").rename(logs / "predictions.jsonl")
        now = 4.0
        assert not log.ready, "its probe is behind a link"
        log.close()

    asyncio.run(scenario())
    assert target.stat().st_size == 3_000_000


def test_a_store_behind_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store.db").symlink_to(tmp_path / "target.db")
    with pytest.raises(StoreError, match="symbolic link"):
        open_store(f"sqlite:///{tmp_path / 'store.db'}")
    assert not (tmp_path / "target.db").exists()


def test_a_folder_that_is_there_stays_as_it_is_and_a_file_in_its_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir(mode=0o755)
    (tmp_path / "shared").chmod(0o755)
    make_private(tmp_path / "shared" / "a" / "b")
    assert modes(tmp_path) == {"shared": 0o755, "a": 0o700, "b": 0o700}
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        make_private(tmp_path / "file")
