"""The commands that evaluate recorded decisions: drift, performance, whether to train again."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from configs.settings import DecisionSettings, RetrainingSettings, Settings, load_settings
from serving.console import VERSION, chosen_model, fail
from serving.record_cli import Time, opened_store, read_time

if TYPE_CHECKING:
    from monitoring.drift.psi import Measurement
    from monitoring.performance.counts import Counts
    from monitoring.reports.drift_report import Window
    from monitoring.retraining import Row
    from serving.bundle import Bundle

app = typer.Typer()

Model = Annotated[str | None, typer.Option(help="VERSION or NAME:VERSION; default: the model that is served")]
Out = Annotated[Path | None, typer.Option(help="Folder to write to; by default one under CREDIT_HOME/reports")]

WINDOW, MOST_WINDOW = 5000, 10_000_000  # decisions
ALL_MODELS = "all"
SHOWN = 20  # columns on the screen
RETRAIN, NOT_JUDGED = 3, 4  # exit codes
JUDGED = ("drift", "ROC-AUC", "outcomes")  # what may be unknown; the age of the model never is


@app.command()
def drift(
    window: Annotated[
        int | None, typer.Option(min=1, max=MOST_WINDOW, help=f"Number of newest decisions to compare; {WINDOW} by default without --since")
    ] = None,
    since: Time = None,
    model: Model = None,
    out: Out = None,
) -> None:
    """Compare the newest decisions of a model with its training data: PSI, missing values, and an Evidently report."""
    from monitoring.reports.drift_report import drift_table, write_drift
    from monitoring.reports.evidently_report import write_evidently

    options, bundle = load_settings(), _bundle(model)
    folder = out or options.home / "reports" / "drift"
    _check_decisions(bundle.version)
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
    model: Annotated[str | None, typer.Option(help="VERSION, NAME:VERSION, or all; default: the model that is served")] = None,
    out: Out = None,
) -> None:
    """Report how good a model's decisions were, per period: realised if outcomes are known, else estimated."""
    from monitoring.reports.performance_report import performance_lines, write_performance

    options = load_settings()
    folder = out or options.home / "reports" / "performance"
    version = None if model == ALL_MODELS else _version(options, model)
    _check_decisions(version)
    rows = _performance(options, version, by, read_time("--since", since), read_time("--until", until))
    if not rows:
        fail(f"the store holds no decisions of {version or 'any model'} in that period")
    for line in performance_lines(rows):
        typer.echo(line)
    try:
        write_performance(rows, folder)
        typer.echo(f"plots and table: {folder / 'performance.html'}; figures: performance.json")
    except ImportError:
        typer.echo(f"figures: {folder / 'performance.json'}; no HTML, because the dependency group monitor is not installed")


@app.command("retraining-signal")
def retraining_signal(model: Model = None) -> None:
    """Say whether to train a model again, and why. Exit code 0 means no, 3 yes, 4 that too little is known to say, 1 an error."""
    import bentoml

    from monitoring.performance.counts import merge
    from monitoring.performance.summary import row
    from monitoring.reports.drift_report import ReportError
    from monitoring.retraining import reasons

    options, bundle = load_settings(), _bundle(model)
    created = bentoml.models.get(f"{chosen_model(options, model)[0]}:{bundle.version}").info.creation_time
    _check_decisions(bundle.version, needed=False)
    measured: Measurement | None = None
    unjudged: list[str] = []
    try:
        measured = _window(bundle, WINDOW, None).drift
    except ReportError as error:
        unjudged.append(f"drift is not judged: {error}")
    now, limits = datetime.now(UTC), options.retraining
    old, young = _counts(now - timedelta(days=limits.outcome_days), timedelta(days=limits.judged_days), bundle.version)
    every, older = (row(merge(parts), _costs(options, bundle.version)) if parts else None for parts in ([*old, *young], old))
    unjudged += _unjudged(limits, every, older)
    trained = bundle.metadata["metrics"]["roc_auc"]["value"]
    found = reasons(limits, measured, every, older, trained_roc_auc=trained, age_days=(now - created).total_seconds() / 86_400)
    for line in (*unjudged, *found):
        typer.echo(line)
    if found:
        typer.echo(f"train {bundle.version} again")
        raise typer.Exit(RETRAIN)
    if len(unjudged) == len(JUDGED):
        typer.echo(f"not judged: too little is known of {bundle.version} to say whether to train it again")
        raise typer.Exit(NOT_JUDGED)
    typer.echo(f"no reason to train {bundle.version} again")


def _unjudged(limits: RetrainingSettings, every: "Row | None", older: "Row | None") -> list[str]:
    """What of ROC-AUC and outcomes cannot be judged, and why."""
    from monitoring.retraining import known_share

    said = []
    if every is None or every["estimated"]["roc_auc"]["high"] is None:
        said.append(f"the ROC-AUC is not judged: the store holds {'too few decisions' if every else 'no decision'} of this model")
    if (known := known_share(older)) < limits.min_outcomes:
        ages = f"{limits.outcome_days:g} to {limits.outcome_days + limits.judged_days:g} days"
        why = f"{known:.1%} of the decisions of {ages} ago have an outcome; at least {limits.min_outcomes:.0%} are needed"
        said.append(f"outcomes are not judged: {why}")
    return said


def _bundle(model: str | None) -> "Bundle":
    """The bundle that `--model` names, else that of the settings."""
    from serving.bundle import read_bundle
    from serving.model_store import find_in_store

    return read_bundle(find_in_store(*chosen_model(load_settings(), model)))


def _version(options: Settings, model: str | None) -> str:
    """The version that `--model` names, else that of the settings. The model store need not hold it any more."""
    from serving.model_store import find_in_store

    name, version = chosen_model(options, model)
    return version if VERSION.fullmatch(version) else find_in_store(name, version).name


def _check_decisions(version: str | None, *, needed: bool = True) -> None:
    """Print which store is read and, if this model has no decisions, which models have some. If some are needed, exit with code 1."""
    from monitoring.store.database import address, reading
    from monitoring.store.queries import decided_by

    with opened_store() as engine, reading(engine) as connection:
        store, decided = address(engine.url), decided_by(connection)
    typer.echo(f"store {store}, model {version or ALL_MODELS}")
    if version in decided or (version is None and decided):
        return
    others = "".join(f"; {count:,} of {other}: --model {other}" for other, count in decided.items())
    said = f"the store holds no decision of {version or 'any model'}{others}"
    if needed:
        fail(said)
    typer.echo(said)


def _costs(options: Settings, version: str) -> DecisionSettings:
    """The costs by which a version decided; those of the settings if the model store does not hold it any more."""
    from serving.bundle import BundleError, read_bundle
    from serving.model_store import find_in_store

    try:
        costs = read_bundle(find_in_store(options.model.name, version)).decision.costs
    except BundleError:
        return options.decision
    return options.decision.model_copy(update={"false_negative_cost": costs.false_negative, "false_positive_cost": costs.false_positive})


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


def _performance(
    options: Settings, version: str | None, by: Literal["week", "month"], since: datetime | None, until: datetime | None
) -> list[dict[str, Any]]:
    """The rows of a report, of one version or of all, each judged by the costs of its version."""
    from monitoring.performance.counts import ALL, read_counts
    from monitoring.performance.summary import performance

    with opened_store() as engine:
        counts = [part for part in read_counts(engine, by, since, until) if version in (None, part.model_version)]
    rows: list[dict[str, Any]] = []
    for one in dict.fromkeys(part.model_version for part in counts):
        rows += performance([part for part in counts if part.model_version == one], _costs(options, one))
    return sorted(rows, key=lambda row: (row["period"] == ALL, row["period"]))
