"""Scores a recorded decision again with the model that made it."""

import msgspec
import numpy as np

from configs.errors import UserError
from monitoring.decision_log.record import Record
from serving.bundle import read_bundle
from serving.model_store import find_in_store
from serving.scorer import Scorer


class ReplayError(UserError):
    """The record cannot be scored again, or gives another result. The message says why or where they differ."""


def replay(line: bytes, model_name: str) -> str:
    """Score the log line of a decision again; returns a sentence that confirms the same PD and decision.

    Raises
    ------
    BundleError
        The model store does not hold the model version of the record, or the bundle is damaged.
    ReplayError
        The record cannot be read or scored, its PD differs in any bit, or its decision differs.
    """
    try:
        record = msgspec.json.decode(line, type=Record)
        features = msgspec.json.decode(record.features, type=list[float | None])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ReplayError(f"the record cannot be read: {error}") from None
    bundle = read_bundle(find_in_store(model_name, record.model_version))
    if len(features) != len(bundle.features.names):
        raise ReplayError(f"the record has {len(features)} features; model {record.model_version} reads {len(bundle.features.names)}")
    scorer, matrix = Scorer(bundle), np.array([features], dtype=np.float64)
    pd, unknown = float(scorer.pd(matrix)[0]), float(scorer.unknown(matrix)[0])
    if pd != record.probability:
        raise ReplayError(f"the PD is {pd!r} now; the record has {record.probability!r}")
    decision = "DECLINE" if bundle.decision.declines(pd, unknown) else "APPROVE"
    if (decision, bundle.decision.threshold) != (record.decision, record.threshold):
        was, now = f"{record.decision} at {record.threshold!r}", f"{decision} at {bundle.decision.threshold!r}"
        raise ReplayError(f"the decision is {now} now; the record has {was}")
    return f"the same PD to the last bit, {pd!r}, and the same decision, {decision}, by model {record.model_version}"
