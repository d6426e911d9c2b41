"""The store: decisions and their outcomes in SQLite or PostgreSQL.

It is written by the shipper, by the outcomes and, where the durability is `database`, by the request path; everybody
else reads. Times are UTC with milliseconds. The line of the decision log is kept verbatim, so that a replay is exact
whatever a database does to floats.
"""

import json
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

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
    Select,
    Table,
    Text,
    TypeDecorator,
    create_engine,
    event,
    func,
    inspect,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.types import TypeEngine

from monitoring.lines import START, Position
from monitoring.logs import LOGGER

log = logging.getLogger(LOGGER)

EXPORT_ROWS = 500


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
        return _milliseconds(value) if dialect.name == "sqlite" else value

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
UPGRADE_LOCK, OUTCOMES_LOCK = 0x63726564, 0x63726565  # numbers of PostgreSQL's advisory locks


class StoreError(RuntimeError):
    """The store cannot be read or written; the message says why."""


def open_store(url: str, statement_seconds: int | None = None) -> Engine:
    """Connect to the store and bring its tables to this release.

    Parameters
    ----------
    url : as SQLAlchemy reads it, `sqlite:///FILE` or `postgresql+psycopg://USER:PASSWORD@HOST/DATABASE`.
    statement_seconds : after which PostgreSQL ends a statement; None for reports, which take their time.

    Raises
    ------
    StoreError
        It cannot be reached, or its tables are of a newer release.
    """
    engine = _postgresql(url, statement_seconds) if url.startswith("postgresql") else _sqlite(url)
    try:
        upgrade(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


class Store:
    """The store of a service: connected and upgraded when it is first needed, by whatever thread needs it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._engine: Engine | None = None
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
                self._engine = open_store(self._url, ANSWER_SECONDS)
            return self._engine

    def close(self) -> None:
        """Close the connections that are not in use."""
        if self._engine is not None:
            self._engine.dispose()


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
        _one_at_a_time(connection, UPGRADE_LOCK)
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
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes: committed at the end, rolled back on an exception."""
    with _store_errors(engine), engine.connect().execution_options(writes=True) as connection, connection.begin():
        yield connection


@contextmanager
def _store_errors(engine: Engine) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise StoreError(f"the store {engine.url!r} cannot be used: {_first_line(error)}") from None
    except PoolTimeout:
        raise StoreError(f"the store {engine.url!r} has no connection free") from None


def _first_line(error: Exception) -> str:
    """What the driver says, without the details: they hold values."""
    return str(error.orig if isinstance(error, DBAPIError) else error).partition("\n")[0]


def _one_at_a_time(connection: Connection, lock: int) -> None:
    """Wait until no other transaction holds this lock; in SQLite only one writes anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock})


def _postgresql(url: str, statement_seconds: int | None) -> Engine:
    arguments = {
        "connect_timeout": CONNECT_SECONDS,
        "tcp_user_timeout": ANSWER_SECONDS * 1000,
        "keepalives_idle": ANSWER_SECONDS,
        "options": f"-c statement_timeout={statement_seconds * 1000 if statement_seconds else 0}",
    }
    return create_engine(url, connect_args=arguments, pool_pre_ping=True, pool_timeout=ANSWER_SECONDS)


def _sqlite(url: str) -> Engine:
    engine = create_engine(url, connect_args={"timeout": ANSWER_SECONDS})
    path = Path(engine.url.database or "").absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)  # what SQLite puts beside it gets the same mode

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
        log.error("the store refuses a line of the decision log: %s", _first_line(error))
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


def write_position(connection: Connection, log_id: str, position: Position) -> None:
    """Note how far a log has been shipped."""
    insert = (postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert)(shipping)
    update = insert.on_conflict_do_update(index_elements=["log"], set_=position._asdict())
    connection.execute(update, {"log": log_id, **position._asdict()})


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
    _one_at_a_time(connection, OUTCOMES_LOCK)
    items = [
        {"item": item, "prediction": one.prediction_id, "client": one.client_id, "latest": _milliseconds(one.observed_at)}
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


def _with_outcome(*columns: Any) -> Select[Any]:
    newest = (
        select(func.max(outcomes.c.id)).where(outcomes.c.prediction_id == decisions.c.prediction_id).correlate(decisions).scalar_subquery()
    )
    return (
        select(*columns, outcomes.c.defaulted, outcomes.c.observed_at).select_from(decisions).outerjoin(outcomes, outcomes.c.id == newest)
    )


def _milliseconds(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds")


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


_COLUMNS = decisions.c.keys()
_NAMES = ", ".join(_COLUMNS)
_VALUES = ", ".join(f"value ->> '{name}'" for name in _COLUMNS)
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
            f"INSERT INTO decisions ({_NAMES}) SELECT {_NAMES}"
            " FROM json_populate_recordset(CAST(NULL AS decisions), CAST(:heads AS json)) ON CONFLICT DO NOTHING"
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
