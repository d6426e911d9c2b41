"""Simulates a process that meets a full disk, or is killed, at its n-th write."""

import errno
import io
import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import pytest


class Killed(BaseException):
    """The process was killed. Later writes raise it too, so no clean-up succeeds."""


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> Callable[[], bool]:
    """Make the write number `step // 2` fail; returns a function that says whether the code reached it.

    For an even `step`, the disk is full at that write. For an odd one, the process is killed there.
    A write opens a file for writing, renames, syncs, copies or removes something, or creates a folder.
    """
    count, wanted, killed = 0, step // 2, step % 2 == 1

    def counted(original: Callable[..., Any], writes: Callable[..., bool] = lambda *_, **__: True) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            if not writes(*arguments, **options):
                return original(*arguments, **options)
            count += 1
            if killed and count > wanted:
                raise Killed
            if count == wanted + 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return original(*arguments, **options)

        return call

    def to_write(_: Any, mode: Any = "r", *__: Any, **___: Any) -> bool:
        return isinstance(mode, str) and mode[0] in "wax"

    for owner, name in ((os, "replace"), (os, "rename"), (os, "mkdir"), (os, "fsync"), (os, "unlink"), (shutil, "rmtree")):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))
    monkeypatch.setattr(shutil, "copyfile", counted(shutil.copyfile))
    monkeypatch.setattr(io, "open", counted(io.open, to_write))
    monkeypatch.setattr("builtins.open", io.open)
    monkeypatch.setattr(pathlib.Path, "write_bytes", counted(pathlib.Path.write_bytes))
    return lambda: count > wanted
