"""The commands of the studies; their results are recorded in MLflow."""

from pathlib import Path
from typing import Annotated

import typer

from configs.settings import Settings, load_settings
from monitoring.private_files import make_private
from serving.console import chosen_model
from training.console import Data, built_in, replace_between

app = typer.Typer()


@app.command()
def compare(
    data: Data = None,
    write: Annotated[Path | None, typer.Option(help="Guide in which to replace the table between the comparison marks")] = None,
) -> None:
    """Compare LightGBM with simpler models on the same features, folds and costs: one table, one plot."""
    from training import plots
    from training.prepare import prepare
    from training.studies import comparison

    options = load_settings()
    folder = data or built_in(options)
    results = comparison.compare(prepare(folder, options, typer.echo), options, typer.echo)
    table = comparison.comparison_table(results)
    out = options.home / "reports" / "comparison"
    files = plots.save(iter([("comparison.png", comparison.comparison_plot(results))]), out)
    (out / "comparison.md").write_text(table + "\n", encoding="utf-8")
    typer.echo(table)
    metrics = {
        f"{result.name.replace(' ', '_')}.{what}": float(getattr(result, what).mean()) for result in results for what in ("auc", "cost")
    }
    _record("compare", folder, metrics, [*files, out / "comparison.md"], options)
    if write:
        replace_between(write, "comparison", table)


@app.command()
def explore(data: Data = None) -> None:
    """Report on the applications: target, missing values, distributions, correlations, outliers, stability; one HTML file."""
    from training.studies.exploration import explore as run

    options = load_settings()
    folder = data or built_in(options)
    page = run(folder)
    out = options.home / "reports" / "exploration.html"
    make_private(out.parent)
    out.write_text(page, encoding="utf-8")
    _record("explore", folder, {}, [out], options)


@app.command()
def interpret(
    data: Data = None,
    model: Annotated[str | None, typer.Option(help="NAME:VERSION in the model store; default: the model that is served")] = None,
) -> None:
    """Show what a model has learned: the contributions of its features, overall and by value."""
    from serving.bundle import read_bundle
    from serving.model_store import find_in_store
    from serving.scorer import Scorer
    from training import plots
    from training.prepare import prepare
    from training.studies import interpretation

    options = load_settings()
    folder = data or built_in(options)
    bundle = read_bundle(find_in_store(*chosen_model(options, model)))
    prepared = prepare(folder, options, typer.echo, bundle.features.names)
    matrix, values = interpretation.contributions(Scorer(bundle), prepared.matrix, options.training.seed)
    names = bundle.features.names
    for feature, mean in list(interpretation.importance(names, values).items())[:10]:
        typer.echo(f"  {feature:35s} {mean:.4f}")
    out = options.home / "reports" / bundle.version
    _record("interpret", folder, {}, plots.save(interpretation.interpretation_plots(names, matrix, values), out), options)


@app.command()
def tune(
    data: Data = None,
    trials: Annotated[int, typer.Option(min=1, help="Total number of trials; an interrupted study continues")] = 50,
) -> None:
    """Search for better parameters of the gradient boosting, and compare them with the current ones on fresh folds."""
    from training import plots
    from training.prepare import prepare
    from training.studies import search as searching

    options = load_settings()
    folder = data or built_in(options)
    prepared = prepare(folder, options, typer.echo)
    study = searching.open_study(prepared, options)
    searching.search(study, prepared, options, trials, typer.echo)
    typer.echo(searching.verdict(study, prepared, options, typer.echo))
    out = options.home / "reports" / "tuning"
    searching.write_parameters(study, out / "parameters.yaml")
    files = plots.save(searching.study_plots(study), out)
    metrics = {"best_roc_auc": float(study.best_value), "trials": float(len(study.trials))}
    _record("tune", folder, metrics, [*files, out / "parameters.yaml"], options)


def _record(kind: str, folder: Path, metrics: dict[str, float], files: list[Path], options: Settings) -> None:
    from training.tracking import TrackingError, record_study

    try:
        record_study(kind, str(folder), metrics, files, options.home, say=typer.echo)
    except TrackingError as error:
        typer.echo(f"warning: the study could not be recorded in MLflow: {error}")
    typer.echo(f"{', '.join(file.name for file in files)} in {files[0].parent}")
