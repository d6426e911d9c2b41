import errno
import threading
from pathlib import Path

import pytest

from serving.whole_files import locked, whole_file, whole_folder


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with whole_file(path) as file:
        file.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_fails_leaves_the_one_before_and_nothing_else(tmp_path: Path) -> None:
    def write_half(path: Path) -> None:
        with whole_file(path) as file:
            file.write_text("new")
            raise ZeroDivisionError

    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError):
        write_half(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.txt'"), whole_file(tmp_path / "a.txt"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match=r"No space left on device: '.*folder'"), whole_folder(tmp_path / "folder", tmp_path / "partial"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_a_folder_takes_the_place_of_another_and_what_a_killed_process_left_is_gone(tmp_path: Path) -> None:
    path, partial = tmp_path / "in" / "folder", tmp_path / "partial"
    for left in (path, partial):
        left.mkdir(parents=True)
        (left / "old").touch()
    with whole_folder(path, partial) as folder:
        (folder / "new").touch()
        assert [file.name for file in path.iterdir()] == ["old"]
    assert [file.name for file in path.iterdir()] == ["new"]
    assert not partial.exists()


def test_a_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    taken = threading.Event()

    def take() -> None:
        with locked(tmp_path / "folder" / "lock"):
            taken.set()

    other = threading.Thread(target=take)
    with locked(tmp_path / "folder" / "lock"):
        other.start()
        assert not taken.wait(1)
    assert taken.wait(60)
    other.join()
