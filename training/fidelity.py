"""How close generated applications are to real ones."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from configs.settings import Settings
from features.schema import load_schema
from training import plots
from training.data import Say, find_source, read_table
from training.generator import generate
from training.train import prepare, train

COLUMNS = [
    "EXT_SOURCE_1", "EXT_SOURCE_2", "EXT_SOURCE_3", "AMT_INCOME_TOTAL", "AMT_CREDIT", "AMT_ANNUITY", "DAYS_BIRTH", "DAYS_EMPLOYED",
    "CODE_GENDER", "NAME_INCOME_TYPE", "NAME_EDUCATION_TYPE",
]  # fmt: skip


def compare(data: Path, out: Path, settings: Settings, seed: int, say: Say) -> str:
    """Generate as many applications as are real, compare, save a plot; returns a Markdown table."""
    table = load_schema()["application"]
    real = read_table(find_source(data, table.files["train"]), table, with_target=True)
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), len(real), seed)
        generated = read_table(find_source(Path(folder), table.files["train"]), table, with_target=True)
        metrics = []
        for name, source in (("real", data), ("generated", Path(folder))):
            say(f"cross-validation on {name} data")
            metrics.append(train(prepare(source, settings, say), settings, say).bundle.metadata["metrics"])
    plots.save(iter([("fidelity.png", plots.fidelity_plot(real, generated, table, COLUMNS))]), out)
    frames = (real, generated)
    rows = [["", "real", "generated"], ["---"] * 3, ["applications", *(f"{len(frame):,}" for frame in frames)]]
    rows.append(["default rate", *(f"{frame[table.target].mean():.2%}" for frame in frames)])
    rows.append(["ROC-AUC, 5 folds", *("{fold_mean:.4f} ± {fold_std:.4f}".format(**item["roc_auc"]) for item in metrics)])
    rows.append(["PR-AUC", *(f"{item['pr_auc']['value']:.4f}" for item in metrics)])
    numeric = [column.name for column in table.numeric]
    missing = [frame[[column.name for column in table.columns]].isna().mean() for frame in frames]
    rows.append(["mean missing rate", *(f"{share.mean():.2%}" for share in missing)])
    rows.append(["largest difference of a missing rate", "", f"{(missing[0] - missing[1]).abs().max():.2%}"])
    ranks = [frame[numeric].sample(min(len(frame), 20_000), random_state=0).rank().corr().fillna(0).to_numpy() for frame in frames]
    apart = np.abs(ranks[0] - ranks[1])[np.triu_indices(len(numeric), 1)]
    rows.append(["difference of a rank correlation, mean and 95th percentile", "", f"{apart.mean():.3f}, {np.quantile(apart, 0.95):.3f}"])
    rows += [[_marginal_name(name, real), *(_marginal(frame, name) for frame in frames)] for name in COLUMNS]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _marginal_name(name: str, frame: pd.DataFrame) -> str:
    return f"{name}, {'quartiles' if frame[name].dtype.kind == 'f' else 'commonest'}; its rank correlation or spread of default rate"


def _marginal(frame: pd.DataFrame, name: str) -> str:
    values, target = frame[name], frame["TARGET"]
    if values.dtype.kind == "f":
        known = values[values != 365243]
        quartiles = " / ".join(f"{value:.3g}" for value in known.quantile([0.25, 0.5, 0.75]))
        return f"{quartiles}; {known.rank().corr(target):+.3f}"
    shares = values.value_counts(normalize=True)
    rates = target.groupby(values).mean()[shares.index[:3]]
    return ", ".join(f"{value} {share:.0%}" for value, share in shares[:3].items()) + f"; {rates.min():.1%} to {rates.max():.1%}"
