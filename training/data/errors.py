"""How tables that cannot be used are refused."""

import csv
import gzip
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from configs.errors import UserError, one_line

MAX_QUOTED = 200  # characters of a library's message


class DataError(UserError):
    """The tables cannot be used. The message names the file, the line or column, and what was expected."""


@contextmanager
def reading(file: object) -> Iterator[None]:
    """Turn whatever a library raises on an unreadable file into one sentence that names the file.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    try:
        yield
    except (zlib.error, zipfile.BadZipFile, gzip.BadGzipFile, EOFError, pa.ArrowInvalid, csv.Error) as error:
        raise DataError(f"{file} cannot be read: it is damaged or cut short ({_reason(error)}); copy it or download it again") from None
    except (OSError, RuntimeError, NotImplementedError, UnicodeError, pa.ArrowException) as error:
        raise DataError(f"{file} cannot be read: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """A library's message on one line, without the path, which the caller names."""
    return error.strerror if isinstance(error, OSError) and error.strerror else one_line(error, MAX_QUOTED)
