"""Reports from the store: drift of the last decisions, performance by period; as HTML, JSON and printed tables.

The only module of the package that imports pandas, matplotlib and Evidently, and only where a report needs them: they are in the
dependency group `monitor`, not where requests are served.
"""

import json
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from sqlalchemy import Engine, select

from configs.errors import UserError
from monitoring import pages
from monitoring.database import decisions, reading, records
from monitoring.drift import LEVELS, Matrix, Measurement, Reference, Values, band
from monitoring.files import make_private
from monitoring.lines import scored

if TYPE_CHECKING:
    import pandas as pd

CHUNK = 1000  # lines in memory at once
SAMPLE = 5000  # rows that Evidently compares
COLUMNS = 30  # that it compares at most: 189 take 30 s and 17 MB
FIGURES = {
    "roc_auc": "ROC-AUC",
    "pr_auc": "PR-AUC",
    "precision": "precision",
    "recall": "recall",
    "default_rate": "default rate",
    "default_rate_of_approved": "default rate of the approved",
    "cost_per_client": "cost per client",
    "ece": "ECE",
    "observed_to_expected": "observed / expected",
}


class ReportError(UserError):
    """There is nothing to report; the message says why."""


@dataclass(frozen=True)
class Window:
    """Decisions of one model, compared with its reference.

    Attributes
    ----------
    sample : the newest SAMPLE rows at most: features and, last, the PD.
    first, last : times of the oldest and the newest decision.
    """

    drift: Measurement
    sample: Matrix
    first: datetime
    last: datetime


def read_window(engine: Engine, version: str, reference: Reference, *, rows: int | None = None, since: datetime | None = None) -> Window:
    """Measure the newest decisions of a model version, `rows` of them at most, from `since` on; in the memory of a few thousand rows.

    Raises
    ------
    ReportError
        There are fewer than the reference's minimum.
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
            if total < SAMPLE:  # a slice of no rows would keep its whole chunk
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
    """A row for each column, worst first: `feature`, `psi`, `band`, `missing` and `missing_shift`, shares of the rows."""
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


def write_evidently(
    window: Window,
    table: Sequence[Mapping[str, Any]],
    reference: Mapping[str, Mapping[str, Any]],
    *,
    gain: Values,
    categories: Mapping[str, Sequence[str]],
    folder: Path,
) -> None:
    """Write evidently.html and evidently.json: the newest rows against rows drawn from the reference's quantiles.

    Parameters
    ----------
    reference : of each column, with `quantiles`; the columns in the order of the window's sample.
    gain : importance of each feature. The columns that left the stable band and the most important ones are compared, COLUMNS
        at most, and of these only such as have a known value on both sides.
    categories : the values of the category columns, by code.

    Raises
    ------
    ImportError
        The dependency group `monitor` is not installed.
    ReportError
        The reference has no quantiles.
    """
    if not all("quantiles" in entry or "codes" in entry for entry in reference.values()):
        raise ReportError("the model's reference has no quantiles, so Evidently has nothing to compare with; train again")
    names = list(reference)
    important = [names[position] for position in np.argsort(-gain, kind="stable")]
    moved = [row["feature"] for row in table if row["band"] != "stable"]
    chosen = list(dict.fromkeys([*moved[: COLUMNS // 2], names[-1], *important]))[:COLUMNS]
    drawn = {name: draw(reference[name], SAMPLE) for name in chosen}
    newest = {name: _clipped(window.sample[:, names.index(name)], reference[name]) for name in chosen}
    chosen = [name for name in chosen if not (np.isnan(drawn[name]).all() or np.isnan(newest[name]).all())]  # Evidently refuses these
    frames = [_frame({name: columns[name] for name in chosen}, categories) for columns in (drawn, newest)]
    os.environ["DO_NOT_TRACK"] = "1"  # read when it is imported
    with warnings.catch_warnings(action="ignore"):  # its own, of its syntax and of columns that are constant
        from evidently import DataDefinition, Dataset, Report
        from evidently.presets import DataDriftPreset

        definition = DataDefinition(
            numerical_columns=[name for name in chosen if name not in categories],
            categorical_columns=[name for name in chosen if name in categories],
        )
        base, current = (Dataset.from_pandas(frame, data_definition=definition) for frame in frames)
        result = Report([DataDriftPreset()]).run(current, base)
    make_private(folder)
    result.save_html(str(folder / "evidently.html"))
    result.save_json(str(folder / "evidently.json"))


def draw(entry: Mapping[str, Any], rows: int) -> Values:
    """A column of this size with the distribution of its reference: evenly spaced quantiles or codes in their shares, then NaN."""
    known = rows - round(entry["missing"] * rows)
    level = (np.arange(known) + 0.5) / max(known, 1)
    if "codes" in entry:
        values = np.array(entry["codes"])[np.searchsorted(np.cumsum(entry["shares"][:-1]), level * sum(entry["shares"]), side="right")]
    elif entry["quantiles"]:
        quantiles = np.array(entry["quantiles"])
        values = np.interp(level, LEVELS, quantiles)
        values = np.round(values) if np.array_equal(quantiles, np.round(quantiles)) else values
    else:
        values = np.empty(0)
    return np.concatenate([values, np.full(rows - len(values), np.nan)])


def performance_lines(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """A printed table: of each period and model version what was realised, beside what was expected of the same people."""
    lines = []
    for row in rows:
        shares = ", ".join(f"{_percent(row['outcomes'][name])} of the {name}" for name in ("approved", "declined"))
        approval = _interval(row["estimated"]["approval_rate"])
        lines.append(f"{row['period']}  model {row['model_version']}: {row['decisions']:,} decisions, approval rate {approval}")
        lines.append(f"  outcomes of {row['outcomes']['count']:,} ({shares})")
        for name, title in FIGURES.items():
            lines += _figure_lines(row, name, title)
    return lines


def write_performance(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Write performance.json and performance.html with its plots.

    Raises
    ------
    ImportError
        The dependency group `monitor` is not installed; the JSON is there all the same.
    """
    make_private(folder)
    (folder / "performance.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 15), layout="constrained")
    shown = [row for row in rows if row["period"] != "all"]
    for axes, name in zip(figure.subplots(5, 2).flat, ("approval_rate", *FIGURES), strict=False):
        axes.set_title(FIGURES.get(name, "approval rate"))
        for kind, color, aside in (("estimated", "C0", 0.0), ("expected", "C1", -0.1), ("realised", "C2", 0.1)):
            points = [
                (at, row[kind][name]) for at, row in enumerate(shown) if row[kind] and row[kind].get(name, {}).get("value") is not None
            ]
            if points:
                value, low, high = (np.array([item[key] for _, item in points], dtype=np.float64) for key in ("value", "low", "high"))
                errors = np.nan_to_num(np.maximum([value - low, high - value], 0))
                axes.errorbar([at + aside for at, _ in points], value, errors, fmt=".", color=color, label=kind)
        axes.set_xticks(range(len(shown)), [row["period"] for row in shown], rotation=90, fontsize=6)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=7)
    heads = ["period", "model", "decisions", "outcomes", "of", *FIGURES.values()]
    table = [
        [row["period"], row["model_version"], f"{row['decisions']:,}", f"{row['outcomes']['count']:,}", f"{kind}: {row[kind]['of']}"]
        + [_interval(row[kind].get(name)) for name in FIGURES]
        for row in rows
        for kind in ("estimated", "expected", "realised")
        if row[kind]
    ]
    plot = pages.image(figure, "figures by period")
    (folder / "performance.html").write_text(pages.page("Performance", {}, plot + pages.table(heads, table)), encoding="utf-8")


def _figure_lines(row: Mapping[str, Any], name: str, title: str) -> list[str]:
    parts = [
        f"{kind} {_interval(row[kind][name])} of {row[kind]['of']}"
        for kind in ("realised", "expected", "estimated")
        if row[kind] and row[kind].get(name, {}).get("value") is not None
    ]
    return [f"  {title:30s} {'; '.join(parts)}"] if parts else []


def _interval(figure: Mapping[str, Any] | None) -> str:
    if figure is None or figure["value"] is None:
        return "none"
    return f"{figure['value']:.4f}" + ("" if figure["low"] is None else " ({low:.4f} to {high:.4f})".format(**figure))


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{share:.1%}"


def _clipped(values: Values, entry: Mapping[str, Any]) -> Values:
    """Within the ends of the reference's quantiles, beyond which the drawn rows have nothing."""
    return np.clip(values, entry["quantiles"][0], entry["quantiles"][-1]) if entry.get("quantiles") else values


def _frame(columns: Mapping[str, Values], categories: Mapping[str, Sequence[str]]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(
        {
            name: [_word(code, categories[name]) for code in values.tolist()] if name in categories else values
            for name, values in columns.items()
        }
    )


def _word(code: float, words: Sequence[str]) -> str | None:
    return None if np.isnan(code) else words[int(code)] if 0 <= code < len(words) else "unseen"
