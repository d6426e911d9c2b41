"""The commands of training, which extend the command line of serving."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from configs.settings import load_settings
from serving.cli import app
from serving.console import check_out, chosen_model, fail
from training import model_cli
from training.console import Data, built_in, replace_between
from training.studies import cli as study_cli

app.add_typer(model_cli.app)
app.add_typer(study_cli.app)

EXAMPLE = "http://127.0.0.1:3000/predict"
Seed = Annotated[int, typer.Option(help="Seed: the same data for the same seed")]
Scheduler = Annotated[str | None, typer.Option(help="Address of a Dask scheduler, such as tcp://host:8786, whose workers do the work")]


@app.command()
def train(
    data: Data = None,
    if_missing: Annotated[
        bool, typer.Option("--if-missing", help="Only if the model store holds no model; promote it, so that it is served")
    ] = False,
    scheduler: Scheduler = None,
) -> None:
    """Train a model, save it to the model store as a candidate, and record the run in MLflow. `promote` makes it the one that is served."""
    from serving.bundle import MissingBundleError
    from serving.model_store import find_in_store

    options = load_settings()
    if if_missing:
        try:
            find_in_store(options.model.name, options.model.version)
        except MissingBundleError:
            typer.echo("the model store holds no model yet: training one takes a minute or more")
        else:
            return
    from serving.model_store import champion
    from training.cluster import fit_over
    from training.fitting import fit_here
    from training.prepare import prepare
    from training.results import keep, report_folder
    from training.train import train as run

    start = time.perf_counter()
    prepared = prepare(data or built_in(options), options, typer.echo)
    training = run(prepared, options, typer.echo, fit_over(scheduler) if scheduler else fit_here)
    tag = keep(training, options, typer.echo, promote_first="the first model of this store" if if_missing else None)
    bundle = training.bundle
    for metric, values in bundle.metadata["metrics"].items():
        typer.echo(f"  {metric:16s} {values['value']:.4f}  [{values['low']:.4f}, {values['high']:.4f}]")
    if prepared.generated:
        typer.echo("warning: this model learned from generated data; use its decisions for trials only")
    typer.echo(f"{tag} after {time.perf_counter() - start:.0f} s; plots in {report_folder(bundle, options)}")
    if champion(options.model.name) == bundle.version:
        typer.echo(f"{tag} is the champion, the model that is served")
    else:
        typer.echo(f"{tag} is a candidate; to serve it: credit-scoring promote {bundle.version} --reason TEXT")


@app.command()
def record(
    version: Annotated[str, typer.Argument(help="Version of a model in the store, as `train` prints it")],
) -> None:
    """Record a trained model in MLflow if `train` could not, and name the champion there. Repeating it changes nothing."""
    from serving.bundle import read_bundle
    from serving.model_store import find_in_store
    from training.results import record as run

    options = load_settings()
    name = options.model.name
    bundle = read_bundle(find_in_store(name, version))
    new = run(bundle, options, typer.echo)
    typer.echo(f"{name}:{bundle.version} is {'now' if new else 'already'} on record in MLflow")


@app.command()
def mlflow(port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine")] = 5000) -> None:
    """Show the training runs and registered models in MLflow's own pages."""
    from training.tracking import make_database, tracking_uri

    home = load_settings().home
    make_database(home)
    program = Path(sys.executable).with_name("mlflow")
    arguments = ["ui", "--backend-store-uri", tracking_uri(home), "--host", "127.0.0.1", "--port", str(port)]
    os.execv(program, [str(program), *arguments])  # noqa: S606 - no shell, a fixed program


@app.command()
def score(  # noqa: PLR0917 - Typer names them all
    data: Annotated[Path, typer.Option(help="Folder with the table")],
    out: Annotated[Path, typer.Option(help="File to write, .parquet, .csv or .csv.gz; it appears once it is complete")],
    table: Annotated[str, typer.Option(help="application_test or application_train")] = "application_test",
    model: Annotated[str | None, typer.Option(help="NAME:VERSION in the model store; default: the model that is served")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads that score; with --server, calls at a time")] = 1,
    scheduler: Scheduler = None,
    server: Annotated[
        str | None, typer.Option(help="URL of a running service that scores and records instead; its API key comes from SCORING_API_KEY")
    ] = None,
) -> None:
    """Score a portfolio: key, PD, decision, risk level and number of warnings of each application."""
    from serving.bundle import read_bundle
    from serving.model_store import find_in_store
    from training.data.source import ENDINGS
    from training.portfolio import score as run
    from training.portfolio import score_on_cluster
    from training.requests import rows_of, score_by_service

    check_out(out, *ENDINGS)
    check_table(table)
    options = load_settings()
    tag = chosen_model(options, model)
    if server:
        if model or scheduler:
            fail("--server scores with the model of the service; expected neither --model nor --scheduler")
        with typer.progressbar(length=rows_of(data, table), label=f"scoring by {server}") as bar:
            done = score_by_service(server, data, table, out, lambda line: typer.echo(line, err=True), progress=bar.update, at_once=threads)
    elif scheduler:
        done = score_on_cluster(data, table, tag, out, typer.echo, scheduler=scheduler, limits=options.data)
    else:
        done = run(data, table, read_bundle(find_in_store(*tag)), out, typer.echo, threads=threads, limits=options.data)
    rate = done.applications / max(done.seconds, 1e-9)
    typer.echo(f"{done.applications:,} applications, {done.declined:,} declined, in {done.seconds:.1f} s, {rate:,.0f} a second: {out}")


@app.command()
def request(
    data: Annotated[Path, typer.Option(help="Folder with the tables")],
    out: Annotated[Path, typer.Option(help="File to write, .jsonl: a body of POST /predict in each line")],
    limit: Annotated[int | None, typer.Option(min=1, help="Most applicants; default: all")] = None,
    client: Annotated[
        list[str] | None, typer.Option(help="Key of an applicant to take, such as 100001; may be given several times")
    ] = None,
    table: Annotated[str, typer.Option(help="application_test or application_train")] = "application_test",
) -> None:
    """Make request bodies of applicants in tables, with the history that the folder holds."""
    from serving.whole_files import whole_file
    from training.requests import requests_of

    check_out(out, ".jsonl")
    check_table(table)
    count = 0
    with whole_file(out) as partial, partial.open("wb") as file:
        for count, one in enumerate(requests_of(data, table, typer.echo, limit=limit, clients=client or ()), 1):  # noqa: B007
            file.write(one.body + b"\n")
    typer.echo(f"{count:,} requests in {out}; to send one: head -1 {out} | curl -s {EXAMPLE} -H 'Content-Type: application/json' -d @-")


def check_table(table: str) -> None:
    """Check that a table holds applications; exit code 1 if it does not."""
    if table not in ("application_test", "application_train"):
        fail(f"--table is {table!r}; expected application_test or application_train")


@app.command()
def generate(
    applications: Annotated[int, typer.Option(min=1, help="Labelled applications; unlabelled ones are added")],
    out: Annotated[Path, typer.Option(help="Folder to write to")],
    seed: Seed = 0,
    file_format: Annotated[str, typer.Option("--format", help="csv or parquet")] = "parquet",
    history: Annotated[bool, typer.Option(help="Also write the six history tables, about 160 rows per application")] = True,
) -> None:
    """Generate applications and history that resemble the real data, from aggregates of it."""
    from training.home_credit.generator import generate as run
    from training.home_credit.generator import unlabelled

    if file_format not in ("csv", "parquet"):
        fail(f"--format is {file_format!r}; expected csv or parquet")
    with typer.progressbar(length=applications + unlabelled(applications), label="generating") as bar:
        run(out, applications, seed, file_format, history=history, progress=bar.update)


@app.command()
def fit_profile(
    data: Annotated[Path, typer.Option(help="Folder with the real application_train; for --history with all tables")],
    out: Annotated[Path | None, typer.Option(help="File to write; default: the generator's own profile")] = None,
    history: Annotated[bool, typer.Option("--history", help="Fit the profile of the history tables instead")] = False,
) -> None:
    """Fit the generator's profile on real tables. It holds aggregates of at least 50 people."""
    from features.schema import load_schema
    from training.data.source import find_source
    from training.data.validation import read_table
    from training.home_credit import generator, history_generator
    from training.home_credit.history_profile import read_and_fit
    from training.home_credit.profile import fit_profile as fit

    table = load_schema()["application"]
    if history:
        profile = read_and_fit(data)
    else:
        profile = fit(read_table(find_source(data, table.files["train"]), table, with_target=True, say=typer.echo), table)
    try:
        text = json.dumps(profile, separators=(",", ":"), allow_nan=False)
    except ValueError:
        fail(f"{data} holds too few rows for a profile: some shares are of no row")
    out = out or (history_generator.PROFILE if history else generator.PROFILE)
    out.write_text(f"{text}\n", encoding="utf-8")
    typer.echo(f"wrote {out}")


@app.command()
def fidelity(
    data: Annotated[Path, typer.Option(help="Folder with the real tables")],
    out: Annotated[Path | None, typer.Option(help="Folder for the plot; default: reports/fidelity under CREDIT_HOME")] = None,
    write: Annotated[Path | None, typer.Option(help="Guide in which to replace the table between the fidelity or history marks")] = None,
    seed: Seed = 0,
    history: Annotated[
        int, typer.Option(min=0, help="Compare the history tables instead, with those of this many generated applications")
    ] = 0,
) -> None:
    """Compare generated with real applications (cross-validated ROC-AUC, missing rates, marginals), or their history."""
    from training.studies.fidelity import compare, compare_gain, compare_history

    if history:
        table = compare_history(data, history, seed, typer.echo) + "\n\n" + compare_gain(data, load_settings(), seed, typer.echo)
    else:
        table = compare(data, out or load_settings().home / "reports" / "fidelity", load_settings(), seed, typer.echo)
    typer.echo(table)
    if write:
        replace_between(write, "history" if history else "fidelity", table)


@app.command()
def select_features(
    data: Annotated[Path, typer.Option(help="Folder with the tables; the comparison improves with the number of history tables")],
    out: Annotated[Path, typer.Option(help="File to write")] = Path("configs/features.yaml"),
    write: Annotated[Path | None, typer.Option(help="Guide in which to replace the table between the selection marks")] = None,
) -> None:
    """Choose the 189 features of new models from the pool by their gain out of fold."""
    from training.studies import selection

    chosen = selection.select(data, load_settings(), typer.echo)
    selection.write(chosen, out)
    typer.echo(chosen.table)
    typer.echo(f"wrote {out}")
    if write:
        replace_between(write, "selection", chosen.table)


@app.command()
def drift_power(
    data: Data = None,
    write: Annotated[Path | None, typer.Option(help="Guide in which to replace the table between the drift-power marks")] = None,
    seed: Seed = 0,
) -> None:
    """Measure how often drift is a false alarm, and how often shifts of known size are found."""
    from training.studies.drift_power import measure

    table = measure(data or built_in(load_settings()), seed, typer.echo)
    typer.echo(table)
    if write:
        replace_between(write, "drift-power", table)


@app.command()
def document(
    tags: Annotated[list[str], typer.Argument(help="Models of the store, NAME:VERSION; each becomes a column")],
    write: Annotated[Path, typer.Option(help="Guide in which to replace the table between the training marks")] = Path("README.md"),
) -> None:
    """Write the metrics of trained models into a guide."""
    from serving.bundle import read_bundle
    from serving.model_store import find_in_store
    from training.report import training_table

    bundles = [read_bundle(find_in_store(*tag.split(":", 1))) for tag in tags]
    replace_between(write, "training", training_table(bundles))


if __name__ == "__main__":
    app()
