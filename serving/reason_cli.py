"""The commands that explain decisions: of an application in a file, and of a recorded decision."""

import json
from pathlib import Path
from typing import Annotated

import typer

from configs.settings import load_settings
from serving.console import chosen_model, fail
from serving.record_cli import PredictionId, recorded_line

app = typer.Typer()

Language = Annotated[str | None, typer.Option(help="Language of the reasons; default: that of the settings")]


@app.command()
def explain(
    file: Annotated[Path, typer.Argument(help="JSON file, as the body of POST /explain")],
    model: Annotated[str | None, typer.Option(help="NAME:VERSION in the model store; default: the model that is served")] = None,
) -> None:
    """Score an application and explain the decision, as POST /explain does. Nothing is recorded."""
    from serving.bundle import read_bundle
    from serving.contract.asking import Asking
    from serving.contract.requests import RequestParser
    from serving.errors import ServiceError
    from serving.model_store import find_in_store
    from serving.pipeline import Pipeline
    from serving.reasons.explainer import Explainer

    options = load_settings()
    bundle = read_bundle(find_in_store(*chosen_model(options, model)))
    try:
        row = RequestParser(bundle.features, 1, Asking(bundle.reasons, options.reasons)).parse_explain(file.read_bytes())
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}")
    except ServiceError as error:
        fail(f"{file}: {error.detail}")
    pipeline = Pipeline(bundle)
    (answer,) = Explainer(bundle, pipeline.pds).explained(pipeline.score([row])).answers
    typer.echo(json.dumps(json.loads(bytes(answer)), indent=1, ensure_ascii=False))


@app.command()
def reasons(prediction_id: PredictionId, language: Language = None) -> None:
    """Print the reasons of a recorded decision: those given at the time, else those of the model that made it."""
    from serving.reasons.recorded import reasons_of

    options = load_settings()
    found = reasons_of(recorded_line(prediction_id), options.model.name, language, options.reasons.language)
    typer.echo(json.dumps(found, indent=1, ensure_ascii=False))
