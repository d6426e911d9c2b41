"""The drift report of Evidently; it needs the dependency group `monitor`."""

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from monitoring.drift.psi import LEVELS, Values
from monitoring.private_files import make_private
from monitoring.reports.drift_report import SAMPLE, ReportError, Window

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = 30  # compared at most: 189 take 30 s and 17 MB


def write_evidently(
    window: Window,
    table: Sequence[Mapping[str, Any]],
    reference: Mapping[str, Mapping[str, Any]],
    *,
    gain: Values,
    categories: Mapping[str, Sequence[str]],
    folder: Path,
) -> None:
    """Write evidently.html and evidently.json, which compare the newest rows with rows drawn from the reference's quantiles.

    Parameters
    ----------
    reference : distribution of each column, with `quantiles`, in the order of the window's columns.
    gain : importance of each feature. Up to COLUMNS columns are compared: those outside the stable band, then the most important ones.
        Columns without a known value on either side are left out.
    categories : names of the codes of each category column.

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
    chosen = [
        name for name in chosen if not (np.isnan(drawn[name]).all() or np.isnan(newest[name]).all())
    ]  # Evidently refuses columns without values
    frames = [_frame({name: columns[name] for name in chosen}, categories) for columns in (drawn, newest)]
    os.environ["DO_NOT_TRACK"] = "1"  # Evidently reads it when it is imported
    with warnings.catch_warnings(action="ignore"):  # its own syntax warnings, and those about constant columns
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
    """A column of `rows` values with the distribution of its reference: evenly spaced quantiles, or codes in their shares, then NaN."""
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


def _clipped(values: Values, entry: Mapping[str, Any]) -> Values:
    """Limit values to the outermost quantiles of the reference, since drawn rows lie between them."""
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
