"""The reasons of a recorded decision."""

from typing import Any

import msgspec
import numpy as np

from configs.errors import UserError
from features.pool import fields_of
from monitoring.decision_log.record import Record
from serving.bundle import read_bundle
from serving.contract.asking import NO_REASONS
from serving.model_store import find_in_store
from serving.reasons.explainer import Explainer, Facts


class RecordedReasonsError(UserError):
    """The reasons of a record cannot be given. The message says why."""


def reasons_of(line: bytes, model_name: str, language: str | None, usual_language: str) -> dict[str, Any]:
    """The reasons of a decision, with its id, decision and model.

    Reasons given at the time are on record, and are returned as they are unless another language is asked for. Otherwise the model of that
    time gives them from the recorded features. The record does not say which fields of an application with absent ones had typical values,
    so then no value of the application is shown.

    Raises
    ------
    BundleError
        The model store does not hold the model of the record.
    RecordedReasonsError
        The record cannot be read, or its model gives no reasons, or none in this language.
    """
    try:
        record = msgspec.json.decode(line, type=Record)
        features = msgspec.json.decode(record.features, type=list[float | None])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecordedReasonsError(f"the record cannot be read: {error}") from None
    made = {"prediction_id": record.prediction_id, "decision": record.decision, "model_version": record.model_version}
    if record.reasons is not msgspec.UNSET and language is None:
        return {**made, "given": True, "reasons": msgspec.to_builtins(record.reasons)}
    bundle = read_bundle(find_in_store(model_name, record.model_version))
    if bundle.reasons is None:
        raise RecordedReasonsError(f"model {record.model_version} cannot say: {NO_REASONS}")
    spoken = language or usual_language
    if spoken not in bundle.reasons.words:
        raise RecordedReasonsError(f"the model has no words in {spoken!r}; expected one of {', '.join(bundle.reasons.words)}")
    values = np.array(features, dtype=np.float64)
    explainer = Explainer(bundle)
    points, _ = explainer.points(values[None])
    shown = values.copy()
    if any(warning["code"] == "absent" for warning in record.warnings):
        shown[[bool(fields_of(name)) for name in bundle.features.names]] = np.nan
    found = explainer.reasons(record, Facts(shown, points[0], np.isnan(values)), spoken)
    return {**made, "given": False, "reasons": msgspec.to_builtins(found)}
