"""A store that is gone from its place takes nothing more, and says so."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from records import make_records, stored, write_log

from monitoring.decision_log.layout import rotated_sequences
from monitoring.metrics import Metrics
from monitoring.store.database import Store, StoreError, reading, writing
from monitoring.store.insertion import insert_lines
from monitoring.store.shipper import Shipper

pytestmark = pytest.mark.slow

Harm = Callable[[Path], None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "store.db"


def opened(path: Path) -> Store:
    """The store at a path, with three decisions."""
    store = Store(f"sqlite:///{path}")
    put(store, 3)
    return store


def put(store: Store, count: int) -> None:
    with writing(store.engine) as connection:
        insert_lines(connection, lines(count))


def lines(count: int) -> bytes:
    return b"".join(record + b"\n" for record in make_records(count))


def remove(path: Path) -> None:
    path.unlink()


def remove_all(path: Path) -> None:
    for name in path.parent.glob("store.db*"):
        name.unlink()


def move(path: Path) -> None:
    path.rename(path.with_name("away"))


def replace(path: Path) -> None:
    opened(path.with_name("other.db")).close()
    path.with_name("other.db").replace(path)


def write_over(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def empty(path: Path) -> None:
    os.truncate(path, 0)


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)


def protect(path: Path) -> None:
    path.chmod(0o400)


def remove_log(path: Path) -> None:
    path.with_name("store.db-wal").unlink()


def move_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("away"))


HARMS = [remove, remove_all, move, replace, write_over, empty, halve, protect, remove_log, move_folder]


def checkpoint(path: Path) -> None:
    """As SQLite does by itself after a thousand pages."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint").fetchall()


@pytest.mark.parametrize("harm", HARMS)
def test_nothing_is_committed_to_a_file_that_is_gone(path: Path, harm: Harm) -> None:
    store = opened(path)
    checkpoint(path)
    put(store, 3)
    assert store.fault == ""
    harm(path)
    assert store.fault.startswith("store.db")
    for _ in range(2):
        with pytest.raises(StoreError, match=r"store\.db(-wal)? (was|may)"):
            put(store, 1)
        with pytest.raises(StoreError, match=r"store\.db(-wal)? (was|may)"):
            stored(store)
        store.close()  # as the shipper does after a failure
        assert store.fault.startswith("store.db") or harm is remove_log
        assert path.exists() == (harm not in (remove, remove_all, move, move_folder)), "none is made in its place"
        if harm is remove_log:
            break


@pytest.mark.parametrize("harm", HARMS)
def test_what_is_in_work_while_the_file_goes_is_not_acknowledged(path: Path, harm: Harm) -> None:
    store = opened(path)
    checkpoint(path)

    def interrupted() -> None:
        with writing(store.engine) as connection:
            insert_lines(connection, lines(2))
            harm(path)

    with pytest.raises(StoreError, match=r"store\.db"):
        interrupted()
    store.close()


@pytest.mark.parametrize("harm", [empty, halve])
def test_a_file_that_a_checkpoint_makes_long_again_after_a_cut_is_found(path: Path, harm: Harm) -> None:
    store = opened(path)
    put(store, 10)
    checkpoint(path)
    size = path.stat().st_size

    def interrupted() -> None:
        with writing(store.engine) as connection:
            connection.exec_driver_sql("PRAGMA wal_autocheckpoint = 1")
            insert_lines(connection, lines(40))
            harm(path)

    with pytest.raises(StoreError, match=r"was cut or overwritten"):
        interrupted()
    assert path.stat().st_size >= size, "its length does not tell"
    with pytest.raises(StoreError, match=r"was cut or overwritten"):
        put(store, 1)
    store.close()


def put_back(path: Path) -> None:
    path.with_name("away").replace(path)


def unprotect(path: Path) -> None:
    path.chmod(0o600)


@pytest.mark.parametrize(("harm", "mend"), [(move, put_back), (protect, unprotect)])
def test_a_file_that_is_put_back_is_used_again(path: Path, harm: Harm, mend: Harm) -> None:
    store = opened(path)
    harm(path)
    for _ in range(2):
        with pytest.raises(StoreError):
            put(store, 1)
        store.close()
    mend(path)
    assert store.fault == ""
    put(store, 2)
    assert len(stored(store)) == 5
    store.close()


def test_a_file_in_its_place_is_refused_until_the_next_start(path: Path) -> None:
    store = opened(path)
    replace(path)
    with pytest.raises(StoreError, match="moved, removed or replaced"):
        put(store, 1)
    store.close()
    with pytest.raises(StoreError, match="moved, removed or replaced"):
        put(store, 1)
    assert stored_alone(path) == (3, "ok"), "nothing of the old one is in it"
    put(opened(path), 1)


@pytest.mark.parametrize("harm", [replace, move])
def test_what_was_in_work_is_whole_in_the_old_file_and_not_in_the_new_one(path: Path, harm: Harm) -> None:
    store = opened(path)
    os.link(path, path.with_name("old.db"))

    def interrupted() -> None:
        with writing(store.engine) as connection:
            insert_lines(connection, lines(40))
            harm(path)

    with pytest.raises(StoreError, match="moved, removed or replaced"):
        interrupted()
    store.close()
    assert stored_alone(path.with_name("old.db")) == (43, "ok")
    again = opened(path)
    again.close()
    assert stored_alone(path) == (6 if harm is replace else 3, "ok")


def stored_alone(path: Path) -> tuple[int, str]:
    """How many decisions a file holds, and whether it is whole."""
    with closing(sqlite3.connect(path)) as connection:
        (count,), (check,) = (connection.execute(sql).fetchone() for sql in ("SELECT count(*) FROM records", "PRAGMA integrity_check"))
    return count, check


def test_the_file_that_was_moved_holds_all_that_was_committed_to_it(path: Path) -> None:
    store = opened(path)
    put(store, 50)
    move(path)
    with pytest.raises(StoreError):
        put(store, 1)
    store.close()
    shutil.copy(path.with_name("away"), path.with_name("alone.db"))  # without the log that stands beside it
    alone = Store(f"sqlite:///{path.with_name('alone.db')}")
    assert len(stored(alone)) == 53
    alone.close()


def test_checkpoints_and_other_processes_are_no_fault(path: Path) -> None:
    store, other = opened(path), Store(f"sqlite:///{path}")
    for _ in range(5):
        put(store, 300)
        put(other, 300)
        checkpoint(path)
    other.close()
    put(store, 1)
    store.close()
    put(store, 1)
    assert (store.fault, len(stored(store))) == ("", 3005)
    store.close()


def test_a_file_that_is_no_store_is_told(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database" * 1000)
    store = Store(f"sqlite:///{path}")
    with pytest.raises(StoreError, match="is not a database"):
        stored(store)
    assert path.read_bytes() == b"not a database" * 1000


@pytest.mark.parametrize("harm", HARMS)
def test_the_log_is_not_removed_where_the_store_that_had_it_is_gone(path: Path, tmp_path: Path, harm: Harm) -> None:
    logs, store, now = tmp_path / "logs", Store(f"sqlite:///{path}"), 0.0
    write_log(logs, make_records(60), max_bytes=3000, batch=3)
    assert sum(iter(Shipper(logs, store, 1000, Metrics()).ship, 0)) == 60
    shipper = Shipper(logs, store, 1e-9, Metrics(), clock=lambda: now)
    before = rotated_sequences(logs)
    harm(path)
    now = 1e6
    for _ in range(2):
        with suppress(StoreError):
            shipper.remove_old()
        with suppress(StoreError):
            shipper.ship()
    assert rotated_sequences(logs) == before
    store.close()
    if harm in (remove, remove_all, move, move_folder):
        again = Store(f"sqlite:///{path}")  # the next start
        assert sum(iter(Shipper(logs, again, 1, Metrics()).ship, 0)) == 60
        with reading(again.engine):
            assert len(stored(again)) == 60
        again.close()
