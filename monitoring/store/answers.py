"""The answers given under an idempotency key. Each is kept in the transaction that stores what the request decided.

So there is either a decision with its answer, or neither, wherever a process dies. Two services on one database cannot both answer: the
second one to commit finds the answer of the first.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from monitoring.store.insertion import insert_lines
from monitoring.store.tables import answers, records


class Asked(NamedTuple):
    """A request with an idempotency key.

    Attributes
    ----------
    key : hash of the sender and its key.
    request : hash of the route and the body.
    """

    key: str
    request: str


class Given(NamedTuple):
    """An answer that was kept: the hash of its request, its time and its bytes."""

    request: str
    time: datetime
    answer: bytes


class GivenError(Exception):
    """Another request with the same key was answered first; its answer is `given`."""

    def __init__(self, given: Given) -> None:
        super().__init__("the key has an answer")
        self.given = given


class RefusedError(Exception):
    """The database refuses a decision."""


def find_answer(connection: Connection, key: str, since: datetime) -> Given | None:
    """The answer under a key; None if none was given since then."""
    query = select(answers.c.request, answers.c.time, answers.c.answer).where(answers.c.key == key, answers.c.time >= since)
    row = connection.execute(query).one_or_none()
    return Given(row.request, row.time, bytes(row.answer)) if row else None


def keep_answer(
    connection: Connection, asked: Asked, answer: bytes, *, now: datetime, seconds: float, log: str | None = None, ids: Sequence[str] = ()
) -> None:
    """Keep an answer; older ones than `seconds` make room.

    Parameters
    ----------
    log : id of the decision log that the decisions go into as well.
    ids : of the decisions.

    Raises
    ------
    GivenError
        The key has an answer. The caller must let the transaction fail, so that nothing else of it is stored.
    """
    since = now - timedelta(seconds=seconds)
    connection.execute(answers.delete().where(answers.c.key == asked.key, answers.c.time < since))
    insert = (postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert)(answers)
    row = {**asked._asdict(), "time": now, "log": log, "prediction_ids": " ".join(ids), "answer": answer}
    if not connection.execute(insert.on_conflict_do_nothing(), row).rowcount:
        given = find_answer(connection, asked.key, since)
        if given is None:
            raise AssertionError("a key that has an answer has none")
        raise GivenError(given)


def keep_decisions(connection: Connection, lines: Sequence[bytes]) -> None:
    """Store the records of decisions; raises a RefusedError if the database refuses one."""
    if insert_lines(connection, b"".join([line + b"\n" for line in lines])):
        raise RefusedError


def remove_answers(connection: Connection, before: datetime) -> None:
    """Remove the answers that were given before then."""
    connection.execute(answers.delete().where(answers.c.time < before))


def ids_of(connection: Connection, log: str, since: datetime) -> list[str]:
    """The ids of the decisions that were made under keys since then and belong into a log, in their order."""
    query = select(answers.c.prediction_ids).where(answers.c.log == log, answers.c.time >= since).order_by(answers.c.time)
    return [identifier for row in connection.execute(query).scalars() for identifier in row.split()]


def lines_of(connection: Connection, ids: Sequence[str]) -> list[bytes]:
    """The records of these decisions, in their order."""
    found = connection.execute(select(records.c.prediction_id, records.c.line).where(records.c.prediction_id.in_(ids)))
    lines = {str(row.prediction_id): row.line.encode() for row in found}
    return [lines[identifier] for identifier in ids if identifier in lines]
