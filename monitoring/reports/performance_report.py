"""The performance report: a printed table, JSON, and HTML with plots, which needs the dependency group `monitor`."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monitoring.private_files import make_private
from monitoring.reports import pages

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


def performance_lines(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The lines of a printed table: for each period and model version, the realised figures and those expected of the same applicants."""
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
        The dependency group `monitor` is not installed; the JSON is written first.
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
