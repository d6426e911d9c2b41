"""The commands for recorded decisions: the decision log, the store, outcomes, replays."""

import contextlib
import csv
import json
import os
from collections import Counter
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from configs.settings import load_settings
from serving.console import check_out, fail

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from serving.outcomes import Parsed

app = typer.Typer()
store_app = typer.Typer(help="Manage the store's tables.", no_args_is_help=True)
outcomes_app = typer.Typer(help="Record whether applicants defaulted.", no_args_is_help=True)
app.add_typer(store_app, name="store")
app.add_typer(outcomes_app, name="outcomes")

Time = Annotated[str | None, typer.Option(help="ISO 8601 with a time zone, such as 2026-01-31T12:00:00+00:00")]
PredictionId = Annotated[str, typer.Argument(metavar="ID", help="The prediction_id of an answer")]

OUTCOMES_AT_ONCE = 1000
MOST_SHOWN = 1_000_000


@store_app.command("upgrade")
def upgrade_store() -> None:
    """Create the tables of the store, or upgrade them to this release. Every command and the service do this too."""
    from monitoring.store.database import address

    with opened_store() as engine:
        typer.echo(f"the tables of {address(engine.url)} are those of this release")


@app.command()
def ship(once: Annotated[bool, typer.Option("--once", help="Ship the present lines, then end")] = False) -> None:
    """Ship the decision log to the store. A running service does this by itself."""
    from monitoring.decision_log.reader import sync_to_end
    from monitoring.metrics import Metrics
    from monitoring.store.database import Store
    from monitoring.store.shipper import Shipper

    options = load_settings()
    folder = options.log_folder
    end = sync_to_end(folder) if once else None  # later lines are left for the next run
    shipper = Shipper(folder, Store(options.store_url), options.log.retention_days, Metrics(), lambda: end or sync_to_end(folder))
    if not once:
        with contextlib.suppress(KeyboardInterrupt):
            shipper.run()
        return
    typer.echo(f"{sum(iter(shipper.ship, 0))} lines shipped")


@app.command("decision")
def show_decision(prediction_id: PredictionId) -> None:
    """Print one decision of the store with its record, its features by name and its outcomes, as JSON.

    The names come from the model in the model store; if it is gone, the features stay a list.
    """
    from monitoring.store.database import reading
    from monitoring.store.queries import find_decision

    with opened_store() as engine, reading(engine) as connection:
        found = find_decision(connection, checked(prediction_id))
    if found is None:
        fail(f"the store has no decision {prediction_id}; if it is only in the log, run `credit-scoring ship --once` first")
    line = json.loads(found.pop("line"))
    line["features"] = _named(line["features"], line["model_version"])
    typer.echo(json.dumps({**found, "record": line}, indent=1, default=str))


def _named(features: list[float | None], version: str) -> dict[str, float | None] | list[float | None]:
    """The features of a record by their names."""
    from serving.bundle import BundleError, read_bundle
    from serving.model_store import find_in_store

    try:
        names = read_bundle(find_in_store(load_settings().model.name, version)).features.names
    except BundleError:
        return features
    return dict(zip(names, features, strict=True))


@app.command("decisions")
def list_decisions(
    client: Annotated[str, typer.Option(help="The client_id that was sent")],
    limit: Annotated[int, typer.Option(min=1, max=MOST_SHOWN, help="Most decisions to show")] = 100,
) -> None:
    """Print the decisions of the model of the settings on a client with their current outcome, newest first, one JSON line each."""
    from monitoring.store.database import reading
    from monitoring.store.queries import client_history
    from serving.contract.fields import encodable

    name = load_settings().model.name
    if not encodable(client):
        fail(f"--client is {client!r}; expected text in UTF-8")
    with opened_store() as engine, reading(engine) as connection:
        for row in client_history(connection, client, limit, name):
            typer.echo(json.dumps(row, default=str))


@app.command()
def export(
    out: Annotated[Path, typer.Option(help="File to write; its ending, .jsonl or .csv, chooses the format")],
    since: Time = None,
    until: Time = None,
) -> None:
    """Write decisions with their current outcome to a file: as JSON lines with the whole record, or as CSV without features."""
    from monitoring.private_files import open_private
    from monitoring.store.database import reading
    from monitoring.store.queries import export as rows

    check_out(out, ".csv", ".jsonl")
    first, last = read_time("--since", since), read_time("--until", until)
    partial = out.with_name(f"{out.name}.partial")
    with opened_store() as engine, reading(engine) as connection:
        descriptor = open_private(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            count = (write_csv if out.suffix.lower() == ".csv" else write_lines)(file, rows(connection, first, last))
    partial.replace(out)
    typer.echo(f"{count} decisions in {out}")


@app.command("verify-log")
def verify_log() -> None:
    """Check the decision log for edited, removed, inserted or moved lines, and compare its end with the store."""
    from monitoring.decision_log.layout import log_id
    from monitoring.decision_log.verify import verify
    from monitoring.store.database import reading
    from monitoring.store.positions import known_positions

    folder = load_settings().log_folder
    log = log_id(folder)
    if log is None:
        fail(f"{folder} holds no decision log")
    with opened_store() as engine, reading(engine) as connection:
        shipped = known_positions(connection, log)
    result = verify(folder, shipped)
    for problem in result.problems:
        typer.echo(problem, err=True)
    if result.problems:
        fail(f"the decision log is damaged: {len(result.problems)} problems in {result.lines} lines of {result.files} files")
    typer.echo(f"the decision log is sound: {result.lines} lines in {result.files} files, up to {result.head}")


@app.command("replay")
def replay_decision(prediction_id: PredictionId) -> None:
    """Score a recorded decision again with the model that made it, and check that the PD is the same to the last bit."""
    from serving.replay import replay

    typer.echo(replay(recorded_line(prediction_id), load_settings().model.name))


@outcomes_app.command("import")
def import_outcomes(
    file: Annotated[
        Path, typer.Argument(help=".csv or .jsonl with prediction_id or client_id, defaulted (0, 1, true, false), perhaps observed_at")
    ],
) -> None:
    """Store the outcomes of a CSV or JSON lines file, such as a completed export. Exit code 1 if a line is invalid or its decision unknown.

    The last outcome of a decision counts, so importing an old file again undoes later corrections.
    """
    from monitoring.store.database import writing
    from monitoring.store.queries import Outcome, add_outcomes
    from serving.outcomes import STATUSES

    ship(once=True)
    counts: Counter[str] = Counter()
    now, name = datetime.now(UTC), load_settings().model.name
    with opened_store() as engine:
        try:
            with contextlib.closing(read_outcomes(file, now)) as rows:
                while block := list(islice(rows, OUTCOMES_AT_ONCE)):
                    good = [(number, one) for number, one in block if isinstance(one, Outcome)]
                    for number, one in block:
                        if one is None:
                            counts["waiting"] += 1
                        elif isinstance(one, list):
                            counts["invalid"] += 1
                            said = "; ".join(f"{error.pointer[1:]} {error.detail}".strip() for error in one)
                            typer.echo(f"line {number}: {said}", err=True)
                    with writing(engine) as connection:
                        kept = add_outcomes(connection, [one for _, one in good], f"file {file.name}", now, name)
                    for (number, _), result in zip(good, kept, strict=True):
                        counts[result.status] += 1
                        if result.status == "unknown":
                            typer.echo(f"line {number}: there is no such decision", err=True)
        except (OSError, ValueError, csv.Error) as error:
            fail(f"{file}: {error}")
    waiting = f", {counts['waiting']} without an outcome yet" if counts["waiting"] else ""
    typer.echo(", ".join(f"{counts[status]} {status}" for status in STATUSES) + waiting)
    if counts["invalid"] or counts["unknown"]:
        raise typer.Exit(1)


def read_outcomes(file: Path, now: datetime) -> Generator[tuple[int, "Parsed | None"], None, None]:
    """The outcomes of a file with their line numbers. The ending .jsonl means JSON lines; any other means CSV.

    Raises
    ------
    OSError, ValueError, csv.Error
        The file cannot be read.
    """
    from serving.outcomes import read_csv, read_json_lines

    read = read_json_lines if file.suffix.lower() == ".jsonl" else read_csv
    try:
        with file.open(encoding="utf-8-sig", newline="") as source:
            yield from read(source, now)
    except UnicodeDecodeError:
        raise ValueError("the file is not UTF-8 text; save it as UTF-8, uncompressed") from None


@contextlib.contextmanager
def opened_store() -> Iterator["Engine"]:
    """Open the store of the settings for the block; if it cannot be used, print an error and end with exit code 1."""
    from monitoring.store.database import open_store

    engine = open_store(load_settings().store_url)
    try:
        yield engine
    finally:
        engine.dispose()


def recorded_line(prediction_id: str) -> bytes:
    """The log line of a decision, from the store or else from the decision log; exit code 1 if neither has it."""
    from monitoring.decision_log.reader import find_line
    from monitoring.store.database import reading
    from monitoring.store.queries import find_decision

    identifier = checked(prediction_id)
    with opened_store() as engine, reading(engine) as connection:
        found = find_decision(connection, identifier)
    line = found["line"].encode() if found else find_line(load_settings().log_folder, identifier)
    if line is None:
        fail(f"neither the store nor the decision log has a decision {prediction_id}")
    return line


def checked(prediction_id: str) -> str:
    """The prediction id in the store's spelling, lower case; exit code 1 if it is not an id."""
    from serving.outcomes import IDENTIFIER

    if not IDENTIFIER.fullmatch(prediction_id):
        fail(f"{prediction_id!r} is not a prediction id; expected one such as 01a2048f-65ec-7468-814c-b56ecd0b1a45")
    return prediction_id.lower()


def read_time(option: str, text: str | None) -> datetime | None:
    """The time that an option gives, in UTC; None if it is not given. Exit code 1 if it is not a time with a zone."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{option} is {text!r}; expected a time in ISO 8601")
    if time.tzinfo is None:
        fail(f"{option} is {text!r}; expected a time with a time zone, such as 2026-01-31T12:00:00+00:00")
    try:
        return time.astimezone(UTC)
    except OverflowError:
        fail(f"{option} is {text!r}; expected a time between the years 1 and 9999 in UTC")


def write_lines(file: TextIO, rows: Iterator[dict[str, Any]]) -> int:
    """Write whole records with their outcome as JSON lines; returns their number."""
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007
        outcome = None if row["defaulted"] is None else {"defaulted": row["defaulted"], "observed_at": row["observed_at"].isoformat()}
        file.write(f'{row["line"][:-1]},"outcome":{json.dumps(outcome)}}}\n')
    return count


def write_csv(file: TextIO, rows: Iterator[dict[str, Any]]) -> int:
    """Write the columns of decisions and their outcome as CSV, safe to open in a spreadsheet; returns the number of rows."""
    from monitoring.spreadsheet import shield
    from monitoring.store.tables import decisions

    writer = csv.DictWriter(file, [*decisions.c.keys(), "defaulted", "observed_at"], extrasaction="ignore")
    writer.writeheader()
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007
        times = {name: row[name] and row[name].isoformat() for name in ("time", "observed_at")}
        writer.writerow({name: shield(value) for name, value in {**row, **times}.items()})
    return count
