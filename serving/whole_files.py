"""Files and folders that appear whole or not at all, and locks between processes."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from monitoring.private_files import make_private


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which is made where it is missing; a killed process lets go of it.

    Raises
    ------
    OSError
        The file cannot be made.
    """
    make_private(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough where a child process was forked meanwhile
        os.close(descriptor)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give another path to write to; at the end of the block the file is synced and takes its own name.

    Raises
    ------
    OSError
        It cannot be written; the error names the file.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with _naming(path):
            yield partial
            sync(partial)
            partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def whole_folder(path: Path, partial: Path) -> Iterator[Path]:
    """Give an empty folder to write files to; at the end of the block they are synced and it takes the place of another one.

    One process at a time may use it: hold a lock.

    Raises
    ------
    OSError
        It cannot be written; the error names the folder.
    """
    try:
        with _naming(path):
            shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
            make_private(partial)
            yield partial
            for file in partial.iterdir():
                sync(file)
            make_private(path.parent)
            shutil.rmtree(path, ignore_errors=True)
            partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def sync(file: Path) -> None:
    """Bring a file to the disk, so that a failure of power cannot leave it empty under its name."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let errors of a full disk name what could not be written."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from None
