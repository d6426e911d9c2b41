"""Puts decisions and outcomes into a store without a service."""

import json
import math
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
from sqlalchemy import Engine, insert

from features.applications import Applications
from features.history import Matrix
from monitoring.store.database import writing
from monitoring.store.tables import decisions, outcomes, records
from serving.bundle import Bundle
from training.data.history_folder import HistoryFolder
from training.home_credit.generator import generate

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
THRESHOLD = 0.1


def generated(bundle: Bundle, folder: Path, count: int, seed: int, **columns: float) -> tuple[pd.DataFrame, Matrix]:
    """Generated applicants with some columns set to a value, and their feature matrix, history included."""
    generate(folder, count, seed)
    frame = pd.read_parquet(folder / "application_train.parquet").assign(**columns)
    history = HistoryFolder(folder, frame[bundle.features.table.key].to_numpy(), lambda _: None).history()
    return frame, bundle.features.transform(Applications.from_columns(frame), history).matrix


def keep(
    engine: Engine, matrix: Matrix, start: datetime = MONDAY, version: str = "v1", apart: timedelta = timedelta(minutes=1)
) -> list[str]:
    """Store decisions, `apart` in time; returns their ids.

    Parameters
    ----------
    matrix : shape (rows, features + 1), with the PD in the last column.
    """
    rows: list[dict[str, Any]] = []
    lines = []
    for place, values in enumerate(matrix.tolist()):
        identifier = str(uuid.uuid4())
        vector = [None if math.isnan(value) else value for value in values[:-1]]
        line = json.dumps({"format": 2, "prediction_id": identifier, "features": vector, "probability": values[-1], "warnings": []})
        lines.append({"prediction_id": identifier, "line": line})
        rows.append(
            {
                "prediction_id": identifier,
                "time": start + place * apart,
                "model_version": version,
                "probability": values[-1],
                "threshold": THRESHOLD,
                "decision": "DECLINE" if values[-1] >= THRESHOLD else "APPROVE",
                "risk_level": "LOW",
                "latency_ms": 1.0,
            }
        )
    with writing(engine) as connection:
        connection.execute(insert(decisions), rows)
        connection.execute(insert(records), lines)
    return [row["prediction_id"] for row in rows]


def tell(engine: Engine, ids: list[str], defaulted: Iterable[object]) -> None:
    """Store whether the applicants of these decisions defaulted."""
    common = {"observed_at": MONDAY, "received_at": MONDAY, "source": "test"}
    rows = [{"prediction_id": identifier, "defaulted": bool(bad), **common} for identifier, bad in zip(ids, defaulted, strict=True)]
    with writing(engine) as connection:
        connection.execute(insert(outcomes), rows)
