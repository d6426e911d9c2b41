"""How far each log has been shipped to the store."""

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from monitoring.decision_log.layout import START, Position
from monitoring.store.tables import shipping


def read_position(connection: Connection, log_id: str) -> Position:
    """The position that a log has been shipped up to; START if none is known."""
    row = connection.execute(select(shipping).where(shipping.c.log == log_id)).one_or_none()
    return Position(row.sequence, row.offset, row.chain) if row else START


def known_positions(connection: Connection, log_id: str) -> list[Position]:
    """The position that a log has been shipped up to, and those that it was found to have lost; see keep_lost."""
    rows = connection.execute(select(shipping).where((shipping.c.log == log_id) | shipping.c.log.startswith(f"{log_id} ")))
    return [Position(row.sequence, row.offset, row.chain) for row in rows]


def keep_lost(connection: Connection, log_id: str, position: Position) -> None:
    """Keep a position that the log does not hold any more, for `verify`; the first one of each file."""
    connection.execute(
        _insert_shipping(connection).on_conflict_do_nothing(), {"log": f"{log_id} lost in file {position.sequence}", **position._asdict()}
    )


def write_position(connection: Connection, log_id: str, position: Position) -> None:
    """Set the position that a log has been shipped up to."""
    update = _insert_shipping(connection).on_conflict_do_update(index_elements=["log"], set_=position._asdict())
    connection.execute(update, {"log": log_id, **position._asdict()})


def _insert_shipping(connection: Connection) -> "postgresql.Insert | sqlite.Insert":
    return (postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert)(shipping)


def forget_position(connection: Connection, log_id: str) -> None:
    """Delete the position of a log."""
    connection.execute(shipping.delete().where(shipping.c.log == log_id))
