"""What is in the store: decisions and their outcomes.

It is written by the shipper, by the outcomes and, where the durability is `database`, by the request path; everybody
else reads. The line of the decision log is kept verbatim, so that a replay is exact whatever a database does to floats.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, Select, func, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError

from monitoring.decision_log.reader import START, Position
from monitoring.service_log import LOGGER
from monitoring.store.database import decisions, first_line, milliseconds, one_at_a_time, outcomes, records, shipping

log = logging.getLogger(LOGGER)

EXPORT_ROWS = 500
OUTCOMES_LOCK = 0x63726565  # a number of PostgreSQL's advisory locks


def insert_lines(connection: Connection, lines: bytes) -> list[bytes]:
    """Insert the decisions of whole lines of a log; those that are there already stay as they are.

    The database parses them itself, so that the interpreter is free for requests meanwhile. What stands before the
    features becomes columns; the line itself is cut out of all the lines by its place.

    Returns
    -------
    The lines that the database refuses, each by itself.
    """
    heads, place = [], 0
    for line in lines.splitlines(keepends=True):
        end = line.find(b',"features":')
        if end < 0:
            return _insert_halves(connection, lines, ValueError("no line of a log"))
        heads.append(b'%b,"place":%d,"length":%d}' % (line[:end], place + 1, len(line.rstrip(b"\n"))))
        place += len(line)
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
        log.error("the store refuses a line of the decision log: %s", first_line(error))
        return parts
    half = len(parts) // 2
    return insert_lines(connection, b"".join(parts[:half])) + insert_lines(connection, b"".join(parts[half:]))


def _is_refusal(error: DBAPIError) -> bool:
    """Whether what was sent is wrong, and not the state of the database."""
    malformed = isinstance(error, OperationalError) and "malformed JSON" in str(error.orig)  # what SQLite makes of it
    return malformed or isinstance(error, DataError | IntegrityError)


def read_position(connection: Connection, log_id: str) -> Position:
    """How far a log has been shipped."""
    row = connection.execute(select(shipping).where(shipping.c.log == log_id)).one_or_none()
    return Position(row.sequence, row.offset, row.chain) if row else START


def known_positions(connection: Connection, log_id: str) -> list[Position]:
    """How far a log has been shipped, now and wherever it was found cut or written anew since."""
    rows = connection.execute(select(shipping).where((shipping.c.log == log_id) | shipping.c.log.startswith(f"{log_id} ")))
    return [Position(row.sequence, row.offset, row.chain) for row in rows]


def keep_lost(connection: Connection, log_id: str, position: Position) -> None:
    """Keep a position that the log does not hold any more, for `verify`; of each file the first one."""
    connection.execute(
        _insert_shipping(connection).on_conflict_do_nothing(), {"log": f"{log_id} lost in file {position.sequence}", **position._asdict()}
    )


def write_position(connection: Connection, log_id: str, position: Position) -> None:
    """Note how far a log has been shipped."""
    update = _insert_shipping(connection).on_conflict_do_update(index_elements=["log"], set_=position._asdict())
    connection.execute(update, {"log": log_id, **position._asdict()})


def _insert_shipping(connection: Connection) -> "postgresql.Insert | sqlite.Insert":
    return (postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert)(shipping)


def forget_position(connection: Connection, log_id: str) -> None:
    """Forget how far a log has been shipped."""
    connection.execute(shipping.delete().where(shipping.c.log == log_id))


class Outcome(NamedTuple):
    """Whether an applicant defaulted: of one decision, or of a client's latest one before `observed_at`."""

    prediction_id: str | None
    client_id: str | None
    defaulted: bool
    observed_at: datetime


class Kept(NamedTuple):
    """What became of an outcome; unknown: there is no such decision."""

    status: Literal["stored", "repeated", "corrected", "unknown"]
    prediction_id: str | None


def add_outcomes(connection: Connection, given: Sequence[Outcome], source: str, received_at: datetime) -> list[Kept]:
    """Store outcomes, in their order; one result for each.

    The same value again is `repeated` and not stored; another one is `corrected` and stored beside the old.
    """
    one_at_a_time(connection, OUTCOMES_LOCK)
    items = [
        {"item": item, "prediction": one.prediction_id, "client": one.client_id, "latest": milliseconds(one.observed_at)}
        for item, one in enumerate(given)
    ]
    rows = connection.execute(_FIND[connection.dialect.name], {"items": json.dumps(items)})
    found = {row.item: (row.prediction_id, row.defaulted) for row in rows}
    present: dict[str, bool] = {}
    kept, new = [], []
    for item, one in enumerate(given):
        prediction_id, defaulted = found[item]
        if prediction_id is None:
            kept.append(Kept("unknown", None))
            continue
        prediction_id = str(prediction_id)
        before = present.get(prediction_id, defaulted)
        status: Literal["stored", "repeated", "corrected"] = (
            "stored" if before is None else "repeated" if bool(before) == one.defaulted else "corrected"
        )
        kept.append(Kept(status, prediction_id))
        if status != "repeated":
            present[prediction_id] = one.defaulted
            new.append({"prediction_id": prediction_id, "defaulted": one.defaulted, "observed_at": one.observed_at})
    if new:
        connection.execute(outcomes.insert(), [{**row, "received_at": received_at, "source": source} for row in new])
    return kept


def newest_outcome(connection: Connection) -> int:
    """The number of the outcome that came last; 0 where there is none."""
    return connection.execute(select(func.max(outcomes.c.id))).scalar() or 0


def has_decision(connection: Connection, prediction_id: str) -> bool:
    """Whether the store holds a decision."""
    return connection.execute(select(decisions.c.prediction_id).where(decisions.c.prediction_id == prediction_id)).first() is not None


def find_decision(connection: Connection, prediction_id: str) -> dict[str, Any] | None:
    """One decision with its `line` and all its `outcomes`, the newest first; None where there is none."""
    query = select(decisions, records.c.line).join(records).where(decisions.c.prediction_id == prediction_id)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        return None
    query = select(outcomes).where(outcomes.c.prediction_id == prediction_id).order_by(outcomes.c.id.desc())
    return {**row, "outcomes": [dict(item) for item in connection.execute(query).mappings()]}


def client_history(connection: Connection, client_id: str, limit: int) -> list[dict[str, Any]]:
    """A client's decisions with their present outcome, `defaulted` and `observed_at`; the newest first."""
    query = _with_outcome(decisions).where(decisions.c.client_id == client_id).order_by(decisions.c.time.desc()).limit(limit)
    return [dict(row) for row in connection.execute(query).mappings()]


def export(connection: Connection, since: datetime | None, until: datetime | None) -> Iterator[dict[str, Any]]:
    """The decisions from `since` on and before `until`, in the order of time, each with its line and present outcome.

    They come in blocks, so that any number of them needs the same memory.
    """
    query = _with_outcome(decisions, records.c.line).join(records, records.c.prediction_id == decisions.c.prediction_id)
    if since:
        query = query.where(decisions.c.time >= since)
    if until:
        query = query.where(decisions.c.time < until)
    rows = connection.execution_options(yield_per=EXPORT_ROWS).execute(query.order_by(decisions.c.time))
    yield from (dict(row) for row in rows.mappings())


def newest_lines(connection: Connection, model_version: str, rows: int, before: datetime) -> list[str]:
    """The lines of a model version among the newest `rows` decisions before a time, the oldest first.

    However few of them are that version's, no more are looked at.
    """
    newest = (
        select(decisions.c.prediction_id, decisions.c.model_version, decisions.c.time)
        .where(decisions.c.time < before)
        .order_by(decisions.c.time.desc())
        .limit(rows)
        .subquery()
    )
    query = select(records.c.line).join(newest, records.c.prediction_id == newest.c.prediction_id)
    return list(connection.scalars(query.where(newest.c.model_version == model_version).order_by(newest.c.time)))


def _with_outcome(*columns: Any) -> Select[Any]:
    newest = (
        select(func.max(outcomes.c.id)).where(outcomes.c.prediction_id == decisions.c.prediction_id).correlate(decisions).scalar_subquery()
    )
    return (
        select(*columns, outcomes.c.defaulted, outcomes.c.observed_at).select_from(decisions).outerjoin(outcomes, outcomes.c.id == newest)
    )


_POSTGRESQL = postgresql.dialect()  # type: ignore[no-untyped-call]
_MEMBERS = {column.name: "timestamp" if column.name == "time" else column.name for column in decisions.c}
_NAMES = ", ".join(_MEMBERS)
_VALUES = ", ".join(f"value ->> '{member}'" for member in _MEMBERS.values())
_SELECTED = ", ".join(f'"{member}"' for member in _MEMBERS.values())
_TYPED = ", ".join(f'"{_MEMBERS[column.name]}" {column.type.compile(_POSTGRESQL)}' for column in decisions.c)
_INSERTS = {
    "sqlite": (
        text(f"INSERT INTO decisions ({_NAMES}) SELECT {_VALUES} FROM json_each(:heads) WHERE true ON CONFLICT DO NOTHING"),
        text(
            "INSERT INTO records (prediction_id, line) SELECT value ->> 'prediction_id',"
            " CAST(substr(:lines, value ->> 'place', value ->> 'length') AS TEXT)"
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
            " convert_from(substr(CAST(:lines AS bytea), place, length), 'UTF8')"
            " FROM json_to_recordset(CAST(:heads AS json)) AS head (prediction_id uuid, place int, length int) ON CONFLICT DO NOTHING"
        ),
    ),
}
_ITEMS = {
    "sqlite": "(SELECT value ->> 'item' AS item, value ->> 'prediction' AS prediction, value ->> 'client' AS client,"
    " value ->> 'latest' AS latest FROM json_each(:items)) AS given",
    "postgresql": "json_to_recordset(CAST(:items AS json)) AS given (item int, prediction uuid, client text, latest timestamptz)",
}
_FIND = {
    dialect: text(
        "SELECT item, prediction_id, (SELECT defaulted FROM outcomes WHERE outcomes.prediction_id = found.prediction_id"
        " ORDER BY id DESC LIMIT 1) AS defaulted FROM (SELECT item, CASE WHEN prediction IS NULL"
        " THEN (SELECT prediction_id FROM decisions WHERE client_id = client AND time < latest ORDER BY time DESC LIMIT 1)"
        " ELSE (SELECT prediction_id FROM decisions WHERE prediction_id = prediction) END AS prediction_id"
        f" FROM {items}) AS found"
    )
    for dialect, items in _ITEMS.items()
}
