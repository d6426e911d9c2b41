"""Queries over decisions and their outcomes; outcomes are also written here."""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, func, literal, select, text, tuple_

from monitoring.store.database import one_at_a_time
from monitoring.store.tables import decisions, milliseconds, outcomes, records

EXPORT_ROWS = 500
OUTCOMES_LOCK = 0x63726565  # key of a PostgreSQL advisory lock


class Outcome(NamedTuple):
    """Whether an applicant defaulted. It belongs to the decision of `prediction_id`, else to the client's latest one before `observed_at`."""

    prediction_id: str | None
    client_id: str | None
    defaulted: bool
    observed_at: datetime


class Place(NamedTuple):
    """Where a page of decisions ended: the time and the id of its last decision."""

    time: datetime
    prediction_id: str


class Wanted(NamedTuple):
    """Which decisions of a model to list; None stands for any.

    Attributes
    ----------
    since, until : times of the decisions, from `since` on and before `until`.
    after : the place behind which to go on.
    """

    model_name: str
    client_id: str | None = None
    decision: str | None = None
    risk_level: str | None = None
    model_version: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    after: Place | None = None


class Kept(NamedTuple):
    """How an outcome was handled, and its decision; `unknown` if the store has no such decision."""

    status: Literal["stored", "repeated", "corrected", "unknown"]
    prediction_id: str | None


def add_outcomes(connection: Connection, given: Sequence[Outcome], source: str, received_at: datetime, model_name: str) -> list[Kept]:
    """Store outcomes in their order; returns one result for each.

    An outcome that names a client belongs to a decision of the model of this name; several models may share a store.

    An outcome with the value that counts already is `repeated` and not stored; one with the other value is `corrected` and stored besides.
    """
    one_at_a_time(connection, OUTCOMES_LOCK)
    items = [
        {"item": item, "prediction": one.prediction_id, "client": one.client_id, "latest": milliseconds(one.observed_at)}
        for item, one in enumerate(given)
    ]
    rows = connection.execute(_FIND[connection.dialect.name], {"items": json.dumps(items), "model": model_name})
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
    """The id of the newest outcome; 0 if there are no outcomes."""
    return connection.execute(select(func.max(outcomes.c.id))).scalar() or 0


def has_decision(connection: Connection, prediction_id: str) -> bool:
    """Whether the store holds a decision."""
    return connection.execute(select(decisions.c.prediction_id).where(decisions.c.prediction_id == prediction_id)).first() is not None


def find_decision(connection: Connection, prediction_id: str) -> dict[str, Any] | None:
    """A decision with its `line` and all its `outcomes`, newest first; None if the store does not have it."""
    query = select(decisions, records.c.line).join(records).where(decisions.c.prediction_id == prediction_id)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        return None
    query = select(outcomes).where(outcomes.c.prediction_id == prediction_id).order_by(outcomes.c.id.desc())
    return {**row, "outcomes": [dict(item) for item in connection.execute(query).mappings()]}


def client_history(connection: Connection, client_id: str, limit: int, model_name: str) -> list[dict[str, Any]]:
    """The decisions of a model on a client, newest first, each with its current outcome, `defaulted` and `observed_at`."""
    return list_decisions(connection, Wanted(model_name, client_id), limit)


def list_decisions(connection: Connection, wanted: Wanted, limit: int) -> list[dict[str, Any]]:
    """Decisions, newest first, each with its current outcome, `defaulted` and `observed_at`."""
    order = (decisions.c.time, decisions.c.prediction_id)
    conditions: list[ColumnElement[bool]] = [func.coalesce(decisions.c.model_name, wanted.model_name) == wanted.model_name]
    exact = {name: getattr(wanted, name) for name in ("client_id", "decision", "risk_level", "model_version")}
    conditions += [decisions.c[name] == value for name, value in exact.items() if value is not None]
    if wanted.since:
        conditions.append(decisions.c.time >= wanted.since)
    if wanted.until:
        conditions.append(decisions.c.time < wanted.until)
    if wanted.after:
        conditions.append(
            tuple_(*order) < tuple_(*(literal(value, column.type) for value, column in zip(wanted.after, order, strict=True)))
        )
        conditions.append(decisions.c.time <= wanted.after.time)  # which lets the index on time find the place
    query = _with_outcome(decisions).where(*conditions).order_by(*(column.desc() for column in order)).limit(limit)
    return [dict(row) for row in connection.execute(query).mappings()]


def export(connection: Connection, since: datetime | None, until: datetime | None) -> Iterator[dict[str, Any]]:
    """The decisions from `since` on and before `until` by time, each with its line and current outcome.

    The database sends them in blocks of EXPORT_ROWS, so memory does not grow with their number.
    """
    query = _with_outcome(decisions, records.c.line).join(records, records.c.prediction_id == decisions.c.prediction_id)
    if since:
        query = query.where(decisions.c.time >= since)
    if until:
        query = query.where(decisions.c.time < until)
    rows = connection.execution_options(yield_per=EXPORT_ROWS).execute(query.order_by(decisions.c.time))
    yield from (dict(row) for row in rows.mappings())


def newest_lines(connection: Connection, model_version: str, rows: int, before: datetime) -> list[str]:
    """The lines of a model version among the newest `rows` decisions before a time, oldest first.

    The query looks at `rows` decisions of all versions, so it may return fewer lines.
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


_ITEMS = {
    "sqlite": "(SELECT value ->> 'item' AS item, value ->> 'prediction' AS prediction, value ->> 'client' AS client,"
    " value ->> 'latest' AS latest FROM json_each(:items)) AS given",
    "postgresql": "json_to_recordset(CAST(:items AS json)) AS given (item int, prediction uuid, client text, latest timestamptz)",
}
_FIND = {
    dialect: text(
        "SELECT item, prediction_id, (SELECT defaulted FROM outcomes WHERE outcomes.prediction_id = found.prediction_id"
        " ORDER BY id DESC LIMIT 1) AS defaulted FROM (SELECT item, CASE WHEN prediction IS NULL"
        " THEN (SELECT prediction_id FROM decisions WHERE client_id = client AND time < latest"
        " AND coalesce(model_name, :model) = :model ORDER BY time DESC LIMIT 1)"
        " ELSE (SELECT prediction_id FROM decisions WHERE prediction_id = prediction) END AS prediction_id"
        f" FROM {items}) AS found"
    )
    for dialect, items in _ITEMS.items()
}
