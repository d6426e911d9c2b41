"""The commands that evaluate recorded decisions: drift, performance, whether to train again."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from configs.settings import Settings, load_settings
from serving.console import chosen_model, fail
from serving.record_cli import Time, opened_store, read_time

if TYPE_CHECKING:
    from monitoring.performance.counts import Counts
    from monitoring.reports.drift_report import Window
    from serving.bundle import Bundle

app = typer.Typer()

Out = Annotated[Path | None, typer.Option(help="Folder to write to; by default one under CREDIT_HOME/reports")]

WINDOW, MOST_WINDOW = 5000, 10_000_000  # decisions
SHOWN = 20  # columns on the screen
RETRAIN = 3  # exit code


@app.command()
def drift(
    window: Annotated[
        int | None, typer.Option(min=1, max=MOST_WINDOW, help=f"Number of newest decisions to compare; {WINDOW} by default without --since")
    ] = None,
    since: Time = None,
    out: Out = None,
) -> None:
    """Compare the newest decisions of the served model with its training data: PSI, missing values, and an Evidently report."""
    from monitoring.reports.drift_report import drift_table, write_drift
    from monitoring.reports.evidently_report import write_evidently

    options, bundle = load_settings(), _bundle()
    folder = out or options.home / "reports" / "drift"
    try:
        read = _window(bundle, window or (None if since else WINDOW), read_time("--since", since))
        table = drift_table(read.drift, bundle.drift_reference.names)
        typer.echo(f"{read.drift.rows} decisions of {bundle.version}, {read.first:%Y-%m-%d %H:%M} to {read.last:%Y-%m-%d %H:%M} UTC")
        typer.echo(f"{'column':40s} {'PSI':>7s} {'band':8s} {'missing':>8s} {'change':>8s}")
        for row in table[:SHOWN]:
            typer.echo("{feature:40s} {psi:7.3f} {band:8s} {missing:8.1%} {missing_shift:+8.1%}".format(**row))
        write_drift(read, table, bundle.version, folder)
        typer.echo(f"all {len(table)} columns: {folder / 'drift.html'} and drift.json")
        categories = {item["name"]: item["categories"] for item in bundle.features.describe() if "categories" in item}
        write_evidently(read, table, bundle.distributions, gain=_gain(bundle), categories=categories, folder=folder)
        typer.echo(f"drifted and most important columns: {folder / 'evidently.html'} and evidently.json")
    except ImportError:
        typer.echo("no Evidently report, because the dependency group monitor is not installed")


@app.command()
def performance(
    by: Annotated[Literal["week", "month"], typer.Option(help="Length of the periods")] = "week",
    since: Time = None,
    until: Time = None,
    out: Out = None,
) -> None:
    """Report how good the decisions were, per period and model version: realised if outcomes are known, else estimated."""
    from monitoring.reports.performance_report import performance_lines, write_performance

    options = load_settings()
    folder = out or options.home / "reports" / "performance"
    rows = _performance(options, by, read_time("--since", since), read_time("--until", until))
    if not rows:
        fail("the store holds no decisions of that period")
    for line in performance_lines(rows):
        typer.echo(line)
    try:
        write_performance(rows, folder)
        typer.echo(f"plots and table: {folder / 'performance.html'}; figures: performance.json")
    except ImportError:
        typer.echo(f"figures: {folder / 'performance.json'}; no HTML, because the dependency group monitor is not installed")


@app.command("retraining-signal")
def retraining_signal() -> None:
    """Say whether to train the served model again, and why. Exit code 0 means no, 3 yes, 1 an error."""
    import bentoml

    from monitoring.performance.counts import merge
    from monitoring.performance.summary import row
    from monitoring.reports.drift_report import ReportError
    from monitoring.retraining import known_share, reasons

    options, bundle = load_settings(), _bundle()
    created = bentoml.models.get(f"{options.model.name}:{bundle.version}").info.creation_time
    measured = None
    try:
        measured = _window(bundle, WINDOW, None).drift
    except ReportError as error:
        typer.echo(f"drift is not judged: {error}")
    now, limits = datetime.now(UTC), options.retraining
    old, young = _counts(now - timedelta(days=limits.outcome_days), timedelta(days=limits.judged_days), bundle.version)
    every, older = (row(merge(parts), options.decision) if parts else None for parts in ([*old, *young], old))
    if every is None or every["estimated"]["roc_auc"]["high"] is None:
        typer.echo(f"the ROC-AUC is not judged: the store holds {'too few decisions' if every else 'no decision'} of this model")
    if (known := known_share(older)) < limits.min_outcomes:
        ages = f"{limits.outcome_days:g} to {limits.outcome_days + limits.judged_days:g} days"
        said = f"{known:.1%} of the decisions of {ages} ago have an outcome; at least {limits.min_outcomes:.0%} are needed"
        typer.echo(f"outcomes are not judged: {said}")
    trained = bundle.metadata["metrics"]["roc_auc"]["value"]
    age = (now - created).total_seconds() / 86_400
    found = reasons(limits, measured, every, older, trained_roc_auc=trained, age_days=age)
    for reason in found:
        typer.echo(reason)
    typer.echo(f"train {bundle.version} again" if found else f"no reason to train {bundle.version} again")
    if found:
        raise typer.Exit(RETRAIN)


def _bundle() -> "Bundle":
    """The bundle of the model that the settings name."""
    from serving.bundle import read_bundle
    from serving.model_store import find_in_store

    return read_bundle(find_in_store(*chosen_model(load_settings(), None)))


def _gain(bundle: "Bundle") -> Any:
    """The gain of each feature, shape (features,)."""
    from serving.scorer import Scorer

    return Scorer(bundle).trees.booster.feature_importance("gain")


def _window(bundle: "Bundle", rows: int | None, since: datetime | None) -> "Window":
    from monitoring.reports.drift_report import read_window

    with opened_store() as engine:
        return read_window(engine, bundle.version, bundle.drift_reference, rows=rows, since=since)


def _counts(time: datetime, before: timedelta, version: str) -> "tuple[list[Counts], list[Counts]]":
    """Counts of a model version's decisions: those in the period `before` up to `time`, and those since `time`."""
    from monitoring.performance.counts import read_counts

    with opened_store() as engine:
        old, young = (
            [part for part in read_counts(engine, "month", since, until) if part.model_version == version]
            for since, until in ((time - before, time), (time, None))
        )
    return old, young


def _performance(options: Settings, by: Literal["week", "month"], since: datetime | None, until: datetime | None) -> list[dict[str, Any]]:
    from monitoring.performance.counts import read_counts
    from monitoring.performance.summary import performance

    with opened_store() as engine:
        return performance(read_counts(engine, by, since, until), options.decision)
