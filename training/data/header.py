"""The columns that a file must have."""

import string
from collections.abc import Collection, Sequence

from training.data.errors import DataError
from training.data.source import Source

AROUND = string.whitespace + "\xa0\ufeff'`[]"  # what may stand around a name
SHOWN = 5  # names, or examples of values, in one message


def check_columns(source: Source, given: Sequence[str], wanted: Collection[str]) -> None:
    """Check that each wanted column is present once.

    Raises
    ------
    DataError
        Columns are missing or appear twice; the message names them.
    """
    twice = [name for name in wanted if given.count(name) > 1]
    if twice:
        raise DataError(f"{source} has more than one column {', '.join(twice[:SHOWN])}")
    missing = [name for name in wanted if name not in given]
    if not missing:
        return
    more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    hint = ""
    if {name.lower() for name in missing} <= {name.strip(AROUND).lower() for name in given}:
        hint = "; it has them in another letter case, or with spaces or quotes around them"
    elif len(missing) == len(wanted):
        hint = "; it has none of the expected ones: is its first line the names of the columns?"
    raise DataError(f"{source} lacks columns: {', '.join(missing[:SHOWN])}{more}{hint}")
