"""The database of the store, SQLite or PostgreSQL: its tables, connections, transactions and migrations.

Times are UTC with milliseconds.
"""

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
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
    make_url,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.types import TypeEngine

from monitoring.logs import LOGGER
from monitoring.store_file import FileGoneError, StoreFile

log = logging.getLogger(LOGGER)


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
        return milliseconds(value) if dialect.name == "sqlite" else value

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
ANSWER_SECONDS = 5  # a dead or locked database must not hang the service
UPGRADE_LOCK = 0x63726564  # a number of PostgreSQL's advisory locks
FILE = "store_file"  # the execution option of an engine that names its StoreFile


class StoreError(RuntimeError):
    """The store cannot be read or written; the message says why."""


def open_store(url: str, statement_seconds: int | None = None, file: StoreFile | None = None) -> Engine:
    """Connect to the store and bring its tables to this release.

    Parameters
    ----------
    url : as SQLAlchemy reads it, `sqlite:///FILE` or `postgresql+psycopg://USER:PASSWORD@HOST/DATABASE`.
    statement_seconds : after which PostgreSQL ends a statement; None for reports, which take their time.
    file : of SQLite, where it was open before: only that one is opened again.

    Raises
    ------
    StoreError
        Its URL is wrong, it cannot be reached, or its tables are of a newer release.
    """
    try:
        engine = _postgresql(url, statement_seconds) if url.startswith("postgresql") else _sqlite(url, file)
    except OSError as error:
        raise StoreError(f"the file of the store cannot be made: {error}") from None
    except (ValueError, ArgumentError):  # what is wrong may hold the password
        raise StoreError(
            "the URL of the store cannot be read; expected sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        ) from None
    try:
        upgrade(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


class Store:
    """The store of a service: connected and upgraded when it is first needed, by whatever thread needs it.

    A file of SQLite is the same one for the life of the service: one that takes its place is refused until the next start.

    Parameters
    ----------
    went_back : called where the store lacks something that it had committed; see note_older.
    """

    def __init__(self, url: str, went_back: Callable[[], None] = lambda: None) -> None:
        self._url = url
        self._went_back = went_back
        self._engine: Engine | None = None
        self._file: StoreFile | None = None
        self._opening = threading.Lock()

    @property
    def engine(self) -> Engine:
        """The connections.

        Raises
        ------
        StoreError
            It cannot be reached now.
        """
        with self._opening:
            if self._engine is None:
                self._engine = open_store(self._url, ANSWER_SECONDS, self._file)
                self._file = self._engine.get_execution_options().get(FILE)
            return self._engine

    @property
    def fault(self) -> str:
        """Why what is open is not the store any more; empty where it is, where it was not needed yet, and for PostgreSQL."""
        return self._file.fault if self._file else ""

    def note_older(self, missing: str) -> None:
        """Tell that it is an older copy now, as after a backup was restored or a replica that was behind took over: something is not there."""
        log.error("the store is an older copy of itself: %s, which it had committed, is not there; see the guide of monitoring", missing)
        self._went_back()

    def close(self) -> None:
        """Close the connections that are not in use; who needs it next connects anew."""
        with self._opening:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()
        if self._file:
            self._file.release_log()


def upgrade(engine: Engine) -> None:
    """Bring the tables to this release; processes that do it at once wait for each other.

    Raises
    ------
    StoreError
        The tables are of a newer release.
    """
    with reading(engine) as connection:
        if _revision(connection) == REVISION:
            return
    from alembic import command, config
    from alembic.util import CommandError

    options = config.Config()
    options.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with writing(engine) as connection:
        one_at_a_time(connection, UPGRADE_LOCK)
        options.attributes["connection"] = connection
        try:
            command.upgrade(options, REVISION)
        except CommandError as error:
            raise StoreError(f"the tables of the store are of another release: {error}") from None


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads.

    Raises
    ------
    StoreError
        The database cannot do what is asked of it; this and `writing` make this error of every one of the driver.
    """
    with _store_errors(engine), engine.connect() as connection:
        yield connection


@contextmanager
def writing(engine: Engine, *, may_be_lost: bool = False) -> Iterator[Connection]:
    """A transaction that writes: committed at the end, rolled back on an exception. What it wrote is in the store only once this has ended well.

    Parameters
    ----------
    may_be_lost : by a failure of power, whole, soon after its end: it can be repeated. SQLite then leaves its syncs aside, which
        would hold up those of the decision log on the same disk.
    """
    options = {"writes": True, "may_be_lost": may_be_lost}
    with _store_errors(engine):
        with engine.connect().execution_options(**options) as connection, connection.begin():
            yield connection
        if file := engine.get_execution_options().get(FILE):
            file.check()


@contextmanager
def _store_errors(engine: Engine) -> Iterator[None]:
    try:
        yield
    except FileGoneError as error:
        _leave(engine)
        raise StoreError(f"the store {place(engine.url)} cannot be used: {error}") from None
    except DBAPIError as error:
        raise StoreError(f"the store {place(engine.url)} cannot be used: {first_line(error)}") from None
    except PoolTimeout:
        raise StoreError(f"the store {place(engine.url)} has no connection free") from None


def _leave(engine: Engine) -> None:
    """Bring the file, wherever it is now, all that was committed to it, and empty its log: SQLite would read that into another file in its place."""
    if not engine.get_execution_options()[FILE].is_cut:
        with suppress(FileGoneError, DBAPIError, sqlite3.Error), closing(engine.raw_connection()) as connection:  # none is left to do it
            connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")


def place(url: URL) -> str:
    """Where a database is, as may be printed: scheme, host and name; a password may stand anywhere else in its URL."""
    return f"{url.drivername}://{url.host or ''}/{url.database or ''}"


def first_line(error: Exception) -> str:
    """What the driver says, without the details: they hold values."""
    return str(error.orig if isinstance(error, DBAPIError) else error).partition("\n")[0]


def one_at_a_time(connection: Connection, lock: int) -> None:
    """Wait until no other transaction holds this lock; in SQLite only one writes anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock})


def _postgresql(url: str, statement_seconds: int | None) -> Engine:
    arguments = {
        "connect_timeout": CONNECT_SECONDS,
        "tcp_user_timeout": ANSWER_SECONDS * 1000,
        "keepalives_idle": ANSWER_SECONDS,
        "keepalives_interval": 1,
        "keepalives_count": 3,
        "client_encoding": "utf8",  # a database in SQL_ASCII would give bytes
        "prepare_threshold": None,  # behind a pooler the next transaction has another connection, without what was prepared
    }
    engine = create_engine(url, connect_args=arguments, pool_pre_ping=True, pool_timeout=ANSWER_SECONDS)

    @event.listens_for(engine, "begin")
    def limit(connection: Connection) -> None:  # for this transaction: a pooler refuses it as an option of the connection
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {(statement_seconds or 0) * 1000}")

    return engine


def _sqlite(url: str, open_before: StoreFile | None) -> Engine:
    file = open_before or StoreFile(Path(make_url(url).database or "").absolute())
    file.release_log()
    engine = create_engine(url, connect_args={"timeout": ANSWER_SECONDS}, execution_options={FILE: file})

    @event.listens_for(engine, "do_connect")
    def before(*_: Any) -> None:
        file.compare()  # SQLite would make a file that is missing

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        file.compare()
        connection.isolation_level = None  # transactions are begun below, for tables too
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        file.check()
        options = connection.get_execution_options()
        connection.exec_driver_sql(f"PRAGMA synchronous = {'NORMAL' if options.get('may_be_lost') else 'FULL'}")
        # a transaction that reads first and writes later fails where another one wrote meanwhile
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("writes") else "BEGIN")

    return engine


def milliseconds(time: datetime) -> str:
    """A time as SQLite keeps it."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds")


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
