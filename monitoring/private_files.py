"""How a file or folder of CREDIT_HOME is made, for its owner only, and opened for writing: the file itself, never what a link points to."""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

OWNER_ONLY = 0o600
OWNER_FOLDER = 0o700


def open_private(path: Path, flags: int) -> int:
    """Open a regular file; returns the descriptor.

    Parameters
    ----------
    flags : of `os.open`. A file that is made gets the mode 0600, whatever the umask; one that is there keeps its own.

    Raises
    ------
    OSError
        It cannot be opened, or is a symbolic link, a folder, a pipe or a device.
    """
    if flags & os.O_CREAT:
        with suppress(FileExistsError):
            descriptor = os.open(path, flags | os.O_EXCL | os.O_CLOEXEC, OWNER_ONLY)
            os.fchmod(descriptor, OWNER_ONLY)
            return descriptor
    if flags & os.O_EXCL:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    try:  # a pipe without a reader would wait for one; O_TRUNC comes below, once it is known what would be emptied
        descriptor = os.open(path, flags & ~(os.O_CREAT | os.O_TRUNC) | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a symbolic link; expected a regular file", str(path)) from None
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        if flags & os.O_TRUNC:
            os.ftruncate(descriptor, 0)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def make_private(folder: Path) -> None:
    """Make a folder and those above it that are missing, for their owner only, whatever the umask; one that is there stays as it is.

    Raises
    ------
    OSError
        It cannot be made, or something else has its name.
    """
    for path in (*reversed(folder.parents), folder):
        if not path.is_dir():
            try:
                path.mkdir(OWNER_FOLDER)
            except FileExistsError:  # another process was quicker, or it is no folder
                if not path.is_dir():
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None
            else:
                path.chmod(OWNER_FOLDER)
