"""Inserting lines of the decision log into the store.

The store keeps each line verbatim, so that a replay is exact whatever a database does to floats.
"""

import logging

from sqlalchemy import Connection, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError

from monitoring.service_log import LOGGER
from monitoring.store.database import first_line
from monitoring.store.tables import decisions

logger = logging.getLogger(LOGGER)

_POSTGRESQL = postgresql.dialect()  # type: ignore[no-untyped-call]
_MEMBERS = {column.name: {"time": "timestamp", "sender": "by"}.get(column.name, column.name) for column in decisions.c}
_NAMES = ", ".join(_MEMBERS)
_VALUES = ", ".join(f"value ->> '{member}'" for member in _MEMBERS.values())
_SELECTED = ", ".join(f'"{member}"' for member in _MEMBERS.values())
_TYPED = ", ".join(f'"{_MEMBERS[column.name]}" {column.type.compile(_POSTGRESQL)}' for column in decisions.c)
_INSERTS = {
    "sqlite": (
        text(f"INSERT INTO decisions ({_NAMES}) SELECT {_VALUES} FROM json_each(:heads) WHERE true ON CONFLICT DO NOTHING"),
        text(
            "INSERT INTO records (prediction_id, line) SELECT value ->> 'prediction_id',"
            " CAST(substr(:lines, value ->> 'start', value ->> 'length') AS TEXT)"
            " FROM json_each(:heads) WHERE true ON CONFLICT DO NOTHING"
        ),
    ),
    "postgresql": (
        text(
            f"INSERT INTO decisions ({_NAMES}) SELECT {_SELECTED}"
            f" FROM json_to_recordset(CAST(:heads AS json)) AS head ({_TYPED}) ON CONFLICT DO NOTHING"
        ),
        text(
            "INSERT INTO records (prediction_id, line) SELECT prediction_id,"
            " convert_from(substr(CAST(:lines AS bytea), start, length), 'UTF8')"
            " FROM json_to_recordset(CAST(:heads AS json)) AS head (prediction_id uuid, start int, length int) ON CONFLICT DO NOTHING"
        ),
    ),
}


def insert_lines(connection: Connection, lines: bytes) -> list[bytes]:
    """Insert the decisions of whole lines of a log; decisions that the store has already stay as they are.

    The database parses the lines, so that the interpreter is free for requests meanwhile. For each line it gets the members before the
    features, which become columns, and where the line begins among all the lines, with its length.

    Returns
    -------
    The lines that the database refuses.

    Raises
    ------
    DBAPIError
        The database failed for another reason.
    """
    heads, start = [], 0
    for line in lines.splitlines(keepends=True):
        end = line.find(b',"features":')
        if end < 0:
            return _insert_halves(connection, lines, ValueError("it is not a line of the log"))
        heads.append(b'%b,"start":%d,"length":%d}' % (line[:end], start + 1, len(line.rstrip(b"\n"))))
        start += len(line)
    values = {"heads": (b"[" + b",".join(heads) + b"]").decode(errors="replace"), "lines": lines}
    try:
        with connection.begin_nested():
            for statement in _INSERTS[connection.dialect.name]:
                connection.execute(statement, values)
    except DBAPIError as error:
        if not _is_refusal(error):
            raise
        return _insert_halves(connection, lines, error)
    return []


def _insert_halves(connection: Connection, lines: bytes, error: Exception) -> list[bytes]:
    parts = lines.splitlines(keepends=True)
    if len(parts) == 1:
        logger.error("the store refuses a line of the decision log: %s", first_line(error))
        return parts
    half = len(parts) // 2
    return insert_lines(connection, b"".join(parts[:half])) + insert_lines(connection, b"".join(parts[half:]))


def _is_refusal(error: DBAPIError) -> bool:
    """Whether the rows are at fault and not the state of the database."""
    malformed = isinstance(error, OperationalError) and "malformed JSON" in str(error.orig)  # SQLite's error for it
    return malformed or isinstance(error, DataError | IntegrityError)
