"""The drift report: the newest decisions of a model against its reference, as a table, JSON and HTML."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from sqlalchemy import Engine, select

from configs.errors import UserError
from monitoring.decision_log.record import scored
from monitoring.drift.psi import Matrix, Measurement, Reference, band
from monitoring.private_files import make_private
from monitoring.reports import pages
from monitoring.store.database import reading
from monitoring.store.tables import decisions, records

if TYPE_CHECKING:
    pass

CHUNK = 1000  # lines in memory at once
SAMPLE = 5000  # newest rows that are kept for Evidently


class ReportError(UserError):
    """A report cannot be made; the message says why."""


@dataclass(frozen=True)
class Window:
    """Decisions of one model, measured against its reference.

    Attributes
    ----------
    sample : the newest rows, at most SAMPLE; shape (rows, features + 1), the PD last.
    first, last : times of the oldest and the newest decision.
    """

    drift: Measurement
    sample: Matrix
    first: datetime
    last: datetime


def read_window(engine: Engine, version: str, reference: Reference, *, rows: int | None = None, since: datetime | None = None) -> Window:
    """Measure the newest decisions of a model version from `since` on, at most `rows`; memory holds a few thousand rows at once.

    Raises
    ------
    ReportError
        There are fewer decisions than the reference's minimum, or a record cannot be read.
    """
    query = (
        select(decisions.c.time, records.c.line, decisions.c.prediction_id)
        .join_from(decisions, records, decisions.c.prediction_id == records.c.prediction_id)
        .where(decisions.c.model_version == version)
        .order_by(decisions.c.time.desc())
        .limit(rows)
    )
    if since is not None:
        query = query.where(decisions.c.time >= since)
    counts, total, kept, times = reference.count(np.empty((0, len(reference.names)))), 0, [], []
    with reading(engine) as connection, connection.execute(query.execution_options(yield_per=CHUNK)) as result:
        for chunk in result.partitions():
            matrix = np.array([_scored(line, prediction_id, len(reference.names)) for _, line, prediction_id in chunk], dtype=np.float64)
            counts += reference.count(matrix)
            if total < SAMPLE:  # even an empty slice would keep its whole chunk in memory
                kept.append(matrix[: SAMPLE - total])
            total += len(matrix)
            times += [chunk[0][0], chunk[-1][0]]
    if total == rows and total < reference.minimum_rows:
        raise ReportError(f"a window of {rows} decisions is too small; drift is measured from {reference.minimum_rows} on")
    if total < reference.minimum_rows:
        after = f" since {since.isoformat()}" if since else ""
        raise ReportError(f"there are {total} decisions of the model {version}{after}; drift is measured from {reference.minimum_rows} on")
    return Window(reference.measure(counts), np.concatenate(kept), times[-1], times[0])


def _scored(line: str, prediction_id: str, columns: int) -> list[float | None]:
    try:
        row = scored(line)
    except msgspec.MsgspecError as error:
        raise ReportError(f"the record of decision {prediction_id} cannot be read: {error}") from None
    if len(row) != columns:
        raise ReportError(f"the record of decision {prediction_id} has {len(row) - 1} features; the model has {columns - 1}")
    return row


def drift_table(drift: Measurement, names: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each column, largest PSI first: `feature`, `psi`, `band`, and `missing` and `missing_shift` as shares of the rows."""
    order = np.argsort(-drift.psi, kind="stable")
    return [
        {
            "feature": names[position],
            "psi": float(drift.psi[position]),
            "band": band(float(drift.psi[position])),
            "missing": float(drift.missing[position]),
            "missing_shift": float(drift.missing_shift[position]),
        }
        for position in order.tolist()
    ]


def write_drift(window: Window, table: Sequence[Mapping[str, Any]], version: str, folder: Path) -> None:
    """Write drift.json and drift.html."""
    about = {
        "model_version": version,
        "rows": window.drift.rows,
        "first": window.first.isoformat(),
        "last": window.last.isoformat(),
    }
    make_private(folder)
    (folder / "drift.json").write_text(json.dumps({**about, "columns": table}, indent=1) + "\n", encoding="utf-8")
    rows = [[row["feature"], f"{row['psi']:.3f}", row["band"], f"{row['missing']:.1%}", f"{row['missing_shift']:+.1%}"] for row in table]
    heads = ["column", "PSI", "band", "missing", "change of missing"]
    (folder / "drift.html").write_text(pages.page("Drift", about, pages.table(heads, rows)), encoding="utf-8")
