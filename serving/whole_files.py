"""Writes files and folders that appear whole or not at all, and locks them between processes."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from monitoring.private_files import make_private


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which is created if missing. The lock of a killed process is released.

    Raises
    ------
    OSError
        The file cannot be created.
    """
    make_private(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough if a child process was forked meanwhile
        os.close(descriptor)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to. At the end of the block, the file is synced and renamed to `path`.

    Raises
    ------
    OSError
        The file cannot be written. The error names the file.
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
    """Yield an empty folder `partial` to write files to. At the end of the block, they are synced and the folder replaces `path`.

    Hold a lock: only one process at a time may use `partial`.

    Raises
    ------
    OSError
        The folder cannot be written. The error names the folder.
    """
    try:
        with _naming(path):
            shutil.rmtree(partial, ignore_errors=True)  # left by a killed process
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
    """Sync a file to the disk, so that a power failure cannot leave it empty after it is renamed."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Add the path to an OSError that names no file, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from None
