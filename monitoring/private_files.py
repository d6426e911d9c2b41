"""Files and folders of CREDIT_HOME: only their owner can read them, and symbolic links to files are refused."""

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
    flags : as for `os.open`. A new file gets the mode 0600, whatever the umask; an existing one keeps its mode.

    Raises
    ------
    OSError
        The file cannot be opened, or is a symbolic link, a folder, a pipe or a device.
    """
    if flags & os.O_CREAT:
        with suppress(FileExistsError):
            descriptor = os.open(path, flags | os.O_EXCL | os.O_CLOEXEC, OWNER_ONLY)
            os.fchmod(descriptor, OWNER_ONLY)
            return descriptor
    if flags & os.O_EXCL:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    try:  # O_NONBLOCK: a pipe would wait for a reader; O_TRUNC follows below, once the file is known to be a regular one
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
    """Make a folder and its missing parents with the mode 0700, whatever the umask; existing folders stay as they are.

    Raises
    ------
    OSError
        A folder cannot be made, or another kind of file has its name.
    """
    for path in (*reversed(folder.parents), folder):
        if not path.is_dir():
            try:
                path.mkdir(OWNER_FOLDER)
            except FileExistsError:  # another process made it first, or it is not a folder
                if not path.is_dir():
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None
            else:
                path.chmod(OWNER_FOLDER)
