"""The database of the store, SQLite or PostgreSQL: connections, transactions and migrations."""

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from configs.errors import UserError
from monitoring.service_log import LOGGER
from monitoring.store.sqlite_file import FileGoneError, SqliteFile

logger = logging.getLogger(LOGGER)


REVISION = "0003"  # the newest of monitoring/store/migrations/versions
CONNECT_SECONDS = 3
ANSWER_SECONDS = 5  # limit of a wait for the database, so that a dead or locked one does not hang the service
UPGRADE_LOCK = 0x63726564  # key of a PostgreSQL advisory lock
FILE = "sqlite_file"  # execution option of an engine that holds its SqliteFile


class StoreError(UserError):
    """The store cannot be read or written; the message says why."""


def open_store(url: str, statement_seconds: int | None = None, file: SqliteFile | None = None) -> Engine:
    """Connect to the store and upgrade its tables to this release.

    Parameters
    ----------
    url : SQLAlchemy's, `sqlite:///FILE` or `postgresql+psycopg://USER:PASSWORD@HOST/DATABASE`.
    statement_seconds : time after which PostgreSQL ends a statement; None for no limit, as reports need.
    file : of SQLite, if this process has opened the store before; no other file is accepted then.

    Raises
    ------
    StoreError
        The URL is wrong, the store cannot be reached, or its tables belong to a newer release.
    """
    try:
        engine = _postgresql(url, statement_seconds) if url.startswith("postgresql") else _sqlite(url, file)
    except OSError as error:
        raise StoreError(f"the file of the store cannot be made: {error}") from None
    except (ValueError, ArgumentError):  # the error may hold the password
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
    """The store of a service, connected and upgraded by the first thread that needs it.

    A service keeps the SQLite file that it opened: it refuses any other file at that path until it is restarted.

    Parameters
    ----------
    went_back : called when the store lacks something that it had committed; see note_older.
    """

    def __init__(self, url: str, went_back: Callable[[], None] = lambda: None) -> None:
        self._url = url
        self._went_back = went_back
        self._engine: Engine | None = None
        self._file: SqliteFile | None = None
        self._opening = threading.Lock()

    @property
    def engine(self) -> Engine:
        """The connections; opened if they are not.

        Raises
        ------
        StoreError
            The store cannot be reached now.
        """
        with self._opening:
            if self._engine is None:
                self._engine = open_store(self._url, ANSWER_SECONDS, self._file)
                self._file = self._engine.get_execution_options().get(FILE)
            return self._engine

    @property
    def fault(self) -> str:
        """Why the open SQLite file cannot be used any more; empty if it can, if it is not open yet, and for PostgreSQL."""
        return self._file.fault if self._file else ""

    def note_older(self, missing: str) -> None:
        """Report that the database lacks something it had committed: a backup was restored, or a replica that lagged took over."""
        logger.error("the store is an older copy of itself: it lacks %s, which it had committed; see monitoring/README.md", missing)
        self._went_back()

    def close(self) -> None:
        """Close the connections that are not in use; the next user connects again."""
        with self._opening:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()
        if self._file:
            self._file.release_wal()


def upgrade(engine: Engine) -> None:
    """Upgrade the tables to this release; processes that do so at the same time wait for each other.

    Raises
    ------
    StoreError
        The tables belong to a newer release.
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
            raise StoreError(f"the tables of the store belong to another release: {error}") from None


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that can only read.

    Raises
    ------
    StoreError
        The database failed. This and `writing` turn every error of the driver into this one.
    """
    with _store_errors(engine), engine.connect() as connection:
        yield connection


@contextmanager
def writing(engine: Engine, *, may_be_lost: bool = False) -> Iterator[Connection]:
    """A write transaction, committed at the end of the block, rolled back on an exception. Once the block has ended, the rows are stored.

    Parameters
    ----------
    may_be_lost : whether a loss of power may undo the whole transaction, because the caller can repeat it. SQLite then skips its syncs,
        which would delay those of the decision log on the same disk.
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
        raise StoreError(f"the store {address(engine.url)} cannot be used: {error}") from None
    except DBAPIError as error:
        raise StoreError(f"the store {address(engine.url)} cannot be used: {first_line(error)}") from None
    except PoolTimeout:
        raise StoreError(f"the store {address(engine.url)} has no connection free") from None


def _leave(engine: Engine) -> None:
    """Move all commits from the `-wal` into the file, wherever it is now: SQLite would apply them to any other file at that path."""
    if not engine.get_execution_options()[FILE].is_cut:
        with (
            suppress(FileGoneError, DBAPIError, sqlite3.Error),
            closing(engine.raw_connection()) as connection,
        ):  # none if no connection is left
            connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")


def address(url: URL) -> str:
    """Scheme, host and name of a database, safe to print; other parts of its URL may hold a password."""
    return f"{url.drivername}://{url.host or ''}/{url.database or ''}"


def first_line(error: Exception) -> str:
    """The message of the driver without its details, which hold values."""
    return str(error.orig if isinstance(error, DBAPIError) else error).partition("\n")[0]


def one_at_a_time(connection: Connection, lock: int) -> None:
    """Wait until no other transaction holds this lock; SQLite admits one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock})


def _postgresql(url: str, statement_seconds: int | None) -> Engine:
    arguments = {
        "connect_timeout": CONNECT_SECONDS,
        "tcp_user_timeout": ANSWER_SECONDS * 1000,
        "keepalives_idle": ANSWER_SECONDS,
        "keepalives_interval": 1,
        "keepalives_count": 3,
        "client_encoding": "utf8",  # a database in SQL_ASCII would return bytes
        "prepare_threshold": None,  # behind a pooler, the next transaction may have another connection without the prepared statements
    }
    engine = create_engine(url, connect_args=arguments, pool_pre_ping=True, pool_timeout=ANSWER_SECONDS)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:  # per transaction: a pooler refuses these as options of the connection
        with closing(connection.connection.cursor()) as cursor:  # a plain one; the connection's own may stream
            only = "" if connection.get_execution_options().get("writes") else "SET TRANSACTION READ ONLY; "
            cursor.execute(f"{only}SET LOCAL TIME ZONE 'UTC'; SET LOCAL statement_timeout = {(statement_seconds or 0) * 1000}")

    return engine


def _sqlite(url: str, open_before: SqliteFile | None) -> Engine:
    file = open_before or SqliteFile(Path(make_url(url).database or "").absolute())
    file.release_wal()
    engine = create_engine(url, connect_args={"timeout": ANSWER_SECONDS}, execution_options={FILE: file})

    @event.listens_for(engine, "do_connect")
    def before(*_: Any) -> None:
        file.compare()  # SQLite would make a file that is missing

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        file.compare()
        connection.isolation_level = None  # `begin` below starts transactions, also those that make tables
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        file.check()
        options = connection.get_execution_options()
        connection.exec_driver_sql(f"PRAGMA query_only = {'OFF' if options.get('writes') else 'ON'}")
        connection.exec_driver_sql(f"PRAGMA synchronous = {'NORMAL' if options.get('may_be_lost') else 'FULL'}")
        # without IMMEDIATE, a transaction that reads first fails if another one writes before it does
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("writes") else "BEGIN")

    return engine


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
