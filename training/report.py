"""The table of metrics in the guides."""

from serving.bundle import Bundle

NAMES = {
    "roc_auc": "ROC-AUC",
    "gini": "Gini",
    "pr_auc": "PR-AUC",
    "ks": "Kolmogorov-Smirnov",
    "brier": "Brier score",
    "ece": "ECE, 10 bins of equal mass",
    "cost_per_client": "cost per client",
    "precision": "precision",
    "recall": "recall",
    "approval_rate": "approval rate",
}


def training_table(bundles: list[Bundle]) -> str:
    """A Markdown table of out-of-fold metrics, with a column for each model."""
    heads = [
        f"{'generated data' if bundle.trained_on == 'generated' else 'real data'}, {bundle.metadata['data']['applications']:,} rows"
        for bundle in bundles
    ]
    rows = [["out of fold, with 95 % interval", *heads], ["---"] * (len(heads) + 1)]
    rows.append(
        ["ROC-AUC, mean ± standard deviation of the folds"]
        + ["{fold_mean:.4f} ± {fold_std:.4f}".format(**bundle.metadata["metrics"]["roc_auc"]) for bundle in bundles]
    )
    for key, name in NAMES.items():
        cells = [bundle.metadata["metrics"][key] for bundle in bundles]
        rows.append([name, *(_cell(**cell) for cell in cells)])
    rows.append(["threshold chosen", *(f"{bundle.decision.threshold:.3f}" for bundle in bundles)])
    rows.append(["theoretical threshold", *(f"{bundle.decision.costs.theoretical_threshold:.3f}" for bundle in bundles)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cell(value: float, low: float | None = None, high: float | None = None, **_: float) -> str:
    """A metric with its interval, which the metrics of a rule set by `credit-scoring decide` lack."""
    return f"{value:.4f}" if low is None else f"{value:.4f} ({low:.4f} to {high:.4f})"
