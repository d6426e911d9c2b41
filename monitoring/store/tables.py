"""The tables of the store. Times are UTC with milliseconds."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine


class UtcTime(TypeDecorator[datetime]):
    """A time with its zone. SQLite keeps it as text, ISO 8601 in UTC with milliseconds, which sorts by time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Text in SQLite, which has no type for times."""
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """To the database.

        Raises
        ------
        ValueError
            The time has no zone.
        """
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"the time {value} has no zone")
        return milliseconds(value) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """From the database, in UTC."""
        if value is None:
            return None
        return (datetime.fromisoformat(value) if isinstance(value, str) else value).astimezone(UTC)


def milliseconds(time: datetime) -> str:
    """A time in the text form of SQLite."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds")


IDENTIFIER = Text().with_variant(postgresql.UUID(as_uuid=False), "postgresql")

metadata = MetaData()

decisions = Table(
    "decisions",
    metadata,
    Column("prediction_id", IDENTIFIER, primary_key=True),
    Column("time", UtcTime, nullable=False),
    Column("client_id", Text),
    Column("model_version", Text, nullable=False),
    Column("probability", Double, nullable=False),
    Column("threshold", Double, nullable=False),
    Column("decision", Text, nullable=False),
    Column("risk_level", Text, nullable=False),
    Column("latency_ms", Double, nullable=False),
    Column("request_id", Text),
    Column("model_name", Text),  # null for a record of format 2, and then of any model
    Column("sender", Text),
    Index("decisions_of_client", "client_id", "time"),
    Index("decisions_by_time", "time"),
)

records = Table(
    "records",
    metadata,
    Column("prediction_id", IDENTIFIER, ForeignKey("decisions.prediction_id"), primary_key=True),
    Column("line", Text, nullable=False),  # the line of the decision log, verbatim
)

outcomes = Table(  # the row with the newest id of a prediction counts; older ones stay
    "outcomes",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("prediction_id", IDENTIFIER, ForeignKey("decisions.prediction_id"), nullable=False),
    Column("defaulted", Boolean, nullable=False),
    Column("observed_at", UtcTime, nullable=False),
    Column("received_at", UtcTime, nullable=False),
    Column("source", Text, nullable=False),
    Index("outcomes_of_decision", "prediction_id", "id"),
)

shipping = Table(  # the position that each log has been shipped up to
    "shipping",
    metadata,
    Column("log", Text, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("chain", Text, nullable=False),
)

answers = Table(  # the answers given under an idempotency key; see monitoring.store.answers
    "answers",
    metadata,
    Column("key", Text, primary_key=True),  # SHA-256 of the sender and its key
    Column("request", Text, nullable=False),  # SHA-256 of the route and the body
    Column("time", UtcTime, nullable=False),
    Column("log", Text),  # id of the decision log that holds the decisions; null if none does
    Column("prediction_ids", Text, nullable=False),  # separated by spaces
    Column("answer", LargeBinary, nullable=False),
    Index("answers_by_time", "time"),
)
