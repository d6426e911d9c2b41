"""Gives the routes that BentoML lacks the content of their answers."""

from typing import TYPE_CHECKING

from starlette.applications import Starlette

from serving.bundle import Bundle
from serving.field_guide import FieldGuide
from serving.openapi import openapi

if TYPE_CHECKING:
    from serving.recording import Recording  # imports the database libraries, which the parent process does not need


def publish(app: Starlette, name: str, bundle: Bundle, recording: "Recording", max_rows: int) -> None:
    """Publish a model, and what is on record about it. Each call of `/health` asks for the status anew."""
    described = {"model_name": name, "model_version": bundle.version, "trained_on": bundle.trained_on}
    app.state.status = lambda: recording.status
    app.state.health = {"model_loaded": True, **described}
    app.state.model = {"name": name, **bundle.describe()}
    app.state.fields = FieldGuide(bundle.features.schema)
    app.state.record = recording.reader
    app.state.openapi = openapi(bundle.features, max_rows, bundle.version)
