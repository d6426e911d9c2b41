"""The store: decisions and their outcomes in SQLite or PostgreSQL.

It is written by the shipper, by the outcomes and, where the durability is `database`, by the request path; everybody
else reads. Times are UTC with milliseconds. The line of the decision log is kept verbatim, so that a replay is exact
whatever a database does to floats.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Dialect,
    Double,
    Engine,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    create_engine,
    event,
    inspect,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine


class UtcTime(TypeDecorator[datetime]):
    """A time with its zone; in SQLite as ISO 8601 in UTC with milliseconds, so that its order is that of the text."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Text where the database knows no times."""
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """To the database; a time without zone is refused."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"the time {value} has no zone")
        value = value.astimezone(UTC)
        return value.isoformat(timespec="milliseconds") if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """From the database, in UTC."""
        if value is None:
            return None
        return (datetime.fromisoformat(value) if isinstance(value, str) else value).astimezone(UTC)


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
    Index("decisions_of_client", "client_id", "time"),
    Index("decisions_by_time", "time"),
)

records = Table(
    "records",
    metadata,
    Column("prediction_id", IDENTIFIER, ForeignKey("decisions.prediction_id"), primary_key=True),
    Column("line", Text, nullable=False),  # the line of the decision log, verbatim
)

outcomes = Table(  # the newest id of a prediction is its outcome; the older ones are kept
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

shipping = Table(  # how far each log has been shipped: after the line that ends at offset and has this chain
    "shipping",
    metadata,
    Column("log", Text, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("chain", Text, nullable=False),
)

REVISION = "0001"  # the newest of monitoring/migrations/versions
CONNECT_SECONDS = 3
WRITE_SECONDS = 5  # a dead database must not hang those who write; readers take what they need
UPGRADE_LOCK = 0x63726564  # of PostgreSQL's advisory locks


class StoreError(RuntimeError):
    """The store cannot be read or written; the message says why."""


def open_store(url: str) -> Engine:
    """Connect to the store and bring its tables to this release.

    Parameters
    ----------
    url : as SQLAlchemy reads it, `sqlite:///FILE` or `postgresql+psycopg://USER:PASSWORD@HOST/DATABASE`.

    Raises
    ------
    StoreError
        It cannot be reached, or its tables are of a newer release.
    """
    engine = _engine(url)
    try:
        upgrade(engine)
    except DBAPIError as error:
        raise StoreError(f"the store {engine.url!r} cannot be used: {reason(error)}") from None
    return engine


def upgrade(engine: Engine) -> None:
    """Bring the tables to this release; processes that do it at once wait for each other.

    Raises
    ------
    StoreError
        The tables are of a newer release.
    """
    with engine.connect() as connection:
        if _revision(connection) == REVISION:
            return
    from alembic import command, config
    from alembic.util import CommandError

    options = config.Config()
    options.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with writing(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": UPGRADE_LOCK})
        options.attributes["connection"] = connection
        try:
            command.upgrade(options, REVISION)
        except CommandError as error:
            raise StoreError(f"the tables of the store are of another release: {error}") from None


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes, within WRITE_SECONDS a statement; committed at the end, rolled back on an exception."""
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"SET LOCAL statement_timeout = {WRITE_SECONDS * 1000}"))
        yield connection


def reason(error: DBAPIError) -> str:
    """What the driver says, in one line."""
    return " ".join(str(error.orig).split())


def _engine(url: str) -> Engine:
    if url.startswith("postgresql"):
        timeouts = {"connect_timeout": CONNECT_SECONDS, "tcp_user_timeout": WRITE_SECONDS * 1000, "keepalives_idle": WRITE_SECONDS}
        return create_engine(url, connect_args=timeouts, pool_pre_ping=True, pool_timeout=WRITE_SECONDS)
    engine = create_engine(url, connect_args={"timeout": WRITE_SECONDS})
    Path(engine.url.database or "").absolute().parent.mkdir(parents=True, exist_ok=True)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, for tables too
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # a transaction that reads first and writes later fails where another one wrote meanwhile
        connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")

    return engine


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
