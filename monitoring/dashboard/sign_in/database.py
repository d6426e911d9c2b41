"""The dashboard's own database: people, links to set a password, sessions, and failed attempts to sign in."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Boolean, Column, Connection, Engine, Float, Integer, MetaData, String, Table, create_engine, event, make_url, select
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from configs.errors import UserError, one_line
from monitoring.private_files import make_private, open_private

FORMAT = 1  # of the tables
WAIT_SECONDS = 5
metadata = MetaData()
formats = Table("dashboard_format", metadata, Column("version", Integer, primary_key=True))
people = Table(
    "dashboard_people",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("password", String(255)),  # argon2id; null until the person has chosen one
    Column("disabled", Boolean, nullable=False),
    Column("created", Float, nullable=False),  # times are seconds since 1970
    Column("last_sign_in", Float),
)
links = Table(  # each sets a password, once
    "dashboard_links",
    metadata,
    Column("token", String(64), primary_key=True),  # SHA-256, as for sessions
    Column("name", String(64), nullable=False),
    Column("expires", Float, nullable=False),
)
sessions = Table(
    "dashboard_sessions",
    metadata,
    Column("token", String(64), primary_key=True),
    Column("name", String(64), nullable=False, index=True),
    Column("started", Float, nullable=False),
    Column("seen", Float, nullable=False),
)
failures = Table(
    "dashboard_failures",
    metadata,
    Column("place", String(255), primary_key=True),  # a name, or the address of a client
    Column("count", Integer, nullable=False),
    Column("since", Float, nullable=False),
)


class PeopleError(UserError):
    """The database of people cannot be used, or an entry is wrong; the message says which."""


def open_database(url: str) -> Engine:
    """Connect to the database and make its tables if it has none.

    Parameters
    ----------
    url : SQLAlchemy's, of SQLite or PostgreSQL.

    Raises
    ------
    PeopleError
        It cannot be reached, or its tables belong to another release.
    """
    try:
        address = make_url(url)
        if address.get_backend_name() == "sqlite":
            _make_file(Path(address.database or "dashboard.db"))
            engine = create_engine(address, connect_args={"timeout": WAIT_SECONDS, "check_same_thread": False})
            event.listen(engine, "connect", _tune_sqlite)
        else:
            options = {"connect_timeout": WAIT_SECONDS, "options": f"-c statement_timeout={WAIT_SECONDS * 1000}"}
            engine = create_engine(address, pool_pre_ping=True, connect_args=options)
    except ArgumentError:  # the error may hold the password
        raise PeopleError(
            "dashboard.users.url cannot be read; expected sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE"
        ) from None
    except OSError as error:
        raise PeopleError(f"the file of the dashboard's users cannot be made: {error}") from None
    try:
        with using(engine) as connection:
            metadata.create_all(connection)
            version = connection.scalar(select(formats.c.version))
            if version is None:
                connection.execute(formats.insert().values(version=FORMAT))
    except IntegrityError:  # another process has just made them
        return engine
    if version not in (None, FORMAT):
        raise PeopleError(f"the database of the dashboard's users has format {version}; this release reads {FORMAT}")
    return engine


@contextmanager
def using(engine: Engine) -> Iterator[Connection]:
    """A transaction.

    Raises
    ------
    PeopleError
        The database cannot be used now.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except IntegrityError:
        raise
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        raise PeopleError(f"the database of the dashboard's users cannot be used: {one_line(cause)}") from None


def _make_file(path: Path) -> None:
    make_private(path.absolute().parent)
    os.close(open_private(path, os.O_RDWR | os.O_CREAT))


def _tune_sqlite(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()
