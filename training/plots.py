"""The plots of a training run, and of generated compared with real data."""

from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from features.schema import Table
from serving.whole_files import locked, whole_file
from training.train import Training

mpl.use("Agg")
TOP_FEATURES = 25


def _single(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=x, ylabel=y)
    return figure, axes


# long, because it draws several independent figures
def training_plots(training: Training) -> Iterator[tuple[str, Figure]]:
    """File name and figure: ROC, precision-recall, calibration, cost, score distribution, importance."""
    y, pds, decision = training.defaulted, training.pd, training.bundle.decision
    metrics = training.bundle.metadata["metrics"]

    figure, axes = _single("ROC, out of fold", "false positive rate", "true positive rate")
    axes.plot(*roc_curve(y, pds)[:2], label=f"ROC-AUC {metrics['roc_auc']['value']:.4f}")
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    axes.legend()
    yield "roc.png", figure

    figure, axes = _single("Precision and recall, out of fold", "recall", "precision")
    precision, recall, _ = precision_recall_curve(y, pds)
    axes.plot(recall[:-1], precision[:-1], label=f"PR-AUC {metrics['pr_auc']['value']:.4f}")
    axes.axhline(float(np.mean(y)), color="grey", linestyle=":", label="default rate")
    axes.legend()
    yield "precision_recall.png", figure

    figure, axes = _single(f"Calibration, ECE {metrics['ece']['value']:.4f}", "PD, mean of the bin", "default rate of the bin")
    table = training.bundle.metadata["calibration_table"]
    axes.plot([row["pd"] for row in table], [row["default_rate"] for row in table], marker="o")
    limit = 1.05 * max(max(row["pd"], row["default_rate"]) for row in table)
    axes.plot([0, limit], [0, limit], color="grey", linestyle=":")
    yield "calibration.png", figure

    figure, axes = _single("Business cost against threshold", "threshold", "cost per client")
    axes.plot(training.curve.threshold, training.curve.cost, label="cost per client")
    axes.axvline(decision.threshold, color="C3", label=f"chosen {decision.threshold:.3f}")
    theoretical = decision.costs.theoretical_threshold
    axes.axvline(theoretical, color="grey", linestyle="--", label=f"theoretical {theoretical:.3f}")
    approval = axes.twinx()
    approval.plot(training.curve.threshold, training.curve.approval_rate, color="C2", alpha=0.6)
    approval.set_ylabel("approval rate (green)")
    axes.set_xlim(0, 0.6)
    axes.legend(loc="lower right")
    yield "cost.png", figure

    figure, axes = _single("Distribution of the PD, out of fold", "PD", "density")
    bins = np.linspace(0, float(np.quantile(pds, 0.999)), 60).tolist()
    for outcome, label in ((0, "repaid"), (1, "defaulted")):
        axes.hist(pds[y == outcome], bins=bins, density=True, alpha=0.6, label=label)
    axes.axvline(decision.threshold, color="C3", label="threshold")
    axes.legend()
    yield "scores.png", figure

    top = sorted(training.gain.items(), key=lambda item: item[1])[-TOP_FEATURES:]
    figure = Figure(figsize=(6.4, 7), layout="constrained")
    axes = figure.subplots()
    axes.barh([name for name, _ in top], [value for _, value in top])
    axes.set(title="Importance", xlabel="gain")
    yield "importance.png", figure


def fidelity_plot(real: pd.DataFrame, generated: pd.DataFrame, table: Table, columns: list[str]) -> Figure:
    """Real and generated data compared: missing rates of all columns, marginals of some."""
    figure = Figure(figsize=(13, 3.2 * (1 + len(columns) // 4)), layout="constrained")
    axes = iter(figure.subplots(-(-(len(columns) + 1) // 4), 4).flat)
    figure.suptitle("real (blue) and generated (orange)")
    first = next(axes)
    first.scatter(*(frame[[c.name for c in table.columns]].isna().mean() for frame in (real, generated)), s=8)
    first.plot([0, 1], [0, 1], color="grey", linestyle=":")
    first.set(title="missing rates", xlabel="real", ylabel="generated")
    for name, place in zip(columns, axes, strict=False):
        kinds = {column.name: column for column in table.columns}
        unknown = kinds[name].unknown
        samples = [frame[name][~frame[name].isin(unknown)].dropna() for frame in (real, generated)]
        if kinds[name].type == "category":
            shares = pd.DataFrame(
                {label: sample.value_counts(normalize=True) for label, sample in zip(("real", "generated"), samples, strict=True)}
            )
            shares.nlargest(8, "real").plot.barh(ax=place, legend=False)
        else:
            edges = np.unique(np.quantile(np.concatenate(samples), np.linspace(0.005, 0.995, 40)))
            for sample in samples:
                place.hist(sample, bins=edges.tolist(), density=True, histtype="step")
        place.set_title(name, fontsize=9)
    for place in axes:
        place.axis("off")
    return figure


def save(figures: Iterator[tuple[str, Figure]], folder: Path) -> list[Path]:
    """Write the figures as PNG files, each complete or not at all; returns their paths."""
    paths = []
    with locked(folder / ".lock"):
        for name, figure in figures:
            with whole_file(folder / name) as file:
                figure.savefig(file, format="png", dpi=110, metadata={"Software": None})
            paths.append(folder / name)
    return paths
