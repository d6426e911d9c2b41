"""How a file or folder of CREDIT_HOME is opened for writing: its owner's alone, and the file itself, never what a link points to."""

import errno
import os
import stat
from pathlib import Path

OWNER_ONLY = 0o600
OWNER_FOLDER = 0o700


def open_private(path: Path, flags: int) -> int:
    """Open a regular file for its owner only; returns the descriptor.

    Parameters
    ----------
    flags : of `os.open`. A file that is made gets the mode 0600, whatever the umask.

    Raises
    ------
    OSError
        It cannot be opened, or is a symbolic link, a folder, a pipe or a device.
    """
    try:  # a pipe without a reader would wait for one; O_TRUNC comes below, once it is known what would be emptied
        descriptor = os.open(path, flags & ~os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, OWNER_ONLY)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a symbolic link; expected a regular file", str(path)) from None
        raise
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        if stat.S_IMODE(found.st_mode) != OWNER_ONLY and found.st_uid == os.geteuid():
            os.fchmod(descriptor, OWNER_ONLY)
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
                    raise
            else:
                path.chmod(OWNER_FOLDER)
