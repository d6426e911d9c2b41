"""Compares generated with real applications and history."""

import tempfile
from pathlib import Path

import lightgbm
import numpy as np
import pandas as pd
from scipy.stats import ks_2samp
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import RepeatedStratifiedKFold

from configs.settings import Settings
from features.schema import load_schema
from training import plots
from training.aliases import Say
from training.data.errors import DataError
from training.data.fields import key_of
from training.data.history_folder import HISTORY_OF
from training.data.reader import read_ids
from training.data.source import find_optional, find_source
from training.data.sufficiency import check_enough, check_history
from training.data.validation import read_table
from training.fitting import parameters
from training.home_credit.generator import generate
from training.home_credit.history_generator import TABLES
from training.home_credit.history_profile import read_frame
from training.prepare import Prepared, prepare
from training.studies.comparison import paired
from training.train import train

COLUMNS = [
    "EXT_SOURCE_1", "EXT_SOURCE_2", "EXT_SOURCE_3", "AMT_INCOME_TOTAL", "AMT_CREDIT", "AMT_ANNUITY", "DAYS_BIRTH", "DAYS_EMPLOYED",
    "CODE_GENDER", "NAME_INCOME_TYPE", "NAME_EDUCATION_TYPE",
]  # fmt: skip
FOLDS, REPEATS = 5, 3
GAIN_TREES = 150  # few and small trees, for a few thousand applicants
GAIN = {"learning_rate": 0.05, "max_depth": 3, "num_leaves": 6, "min_data_in_leaf": 100}


def compare(data: Path, out: Path, settings: Settings, seed: int, say: Say) -> str:
    """Generate as many applications as there are real ones, compare them, and save a plot; returns a Markdown table."""
    table = load_schema()["application"]
    real = read_table(find_source(data, table.files["train"]), table, with_target=True)
    check_enough(real[table.target].to_numpy(), settings.training)
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), len(real), seed, history=False)
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
    return _markdown(rows)


def compare_history(data: Path, applications: int, seed: int, say: Say) -> str:
    """Generate `applications` with history and compare their history tables with the real ones; returns a Markdown table.

    If the folder has complete_history_ids, rows per client are counted for the clients in it, and instalments are compared by their values
    only. The distance of two columns is, for numbers, the Kolmogorov-Smirnov statistic, and for categories the total variation distance.
    """
    head = ["", "rows per client, real", "generated", "missing rate, largest difference", "distance of a column, median", "largest"]
    rows = [head, ["---"] * len(head)]
    with tempfile.TemporaryDirectory() as folder:
        say(f"generating {applications:,} applications with their history")
        generate(Path(folder), applications, seed)
        listed = find_optional(data, HISTORY_OF)
        complete = len(read_ids(listed, key_of(load_schema()["application"]))[0]) if listed else _clients(data)
        for name in TABLES:
            say(f"comparing {name}")
            real, generated = (read_frame(source, name) for source in (data, Path(folder)))
            for frame, origin in ((real, data), (generated, f"--history {applications}")):
                if frame.empty:
                    raise DataError(f"{origin}: {name} has no rows to compare; give more applications")
            clients = [complete, _clients(Path(folder))]
            counts = [f"{len(frame) / count:.1f}" for frame, count in zip((real, generated), clients, strict=True)]
            if listed and name == "installments_payments":
                counts[0] = "not known"
            columns = [column for column in real.columns.tolist() if not column.startswith("SK_ID_")]
            missing = (real[columns].isna().mean() - generated[columns].isna().mean()).abs()
            distance = pd.Series({column: _distance(real[column].dropna(), generated[column].dropna()) for column in columns})
            largest = f"{distance.max():.3f}, {distance.idxmax()}" if distance.notna().any() else "no value"
            rows.append([name, *counts, f"{missing.max():.1%}, {missing.idxmax()}", f"{distance.median():.3f}", largest])
    return _markdown(rows)


def compare_gain(data: Path, settings: Settings, seed: int, say: Say) -> str:
    """Measure the gain in ROC-AUC that the history gives for real clients who have one, and for as many generated ones; returns a sentence.

    Instalments are ignored on both sides if complete_history_ids shows that the real ones are incomplete.
    """
    real = prepare(data, settings, say)
    count = int(real.with_history.sum())
    if not count:
        raise DataError(f"{data}: no labelled applicant has a known history")
    check_history(real.defaulted[real.with_history], FOLDS)
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), count, seed)
        if find_optional(data, HISTORY_OF):
            (Path(folder) / "installments_payments.parquet").unlink()
        generated = prepare(Path(folder), settings, say)
    results = []
    for name, prepared in (("real", real), ("generated", generated)):
        say(f"cross-validation of {name} clients with and without history")
        without, gain, error = history_gain(prepared, settings)
        results.append(f"{gain:+.4f} ± {error:.4f} on {name} clients (without it {without:.4f})")
    return f"History gives to the ROC-AUC of {count:,} clients, {REPEATS} times five folds: {' and '.join(results)}."


def history_gain(prepared: Prepared, settings: Settings) -> tuple[float, float, float]:
    """For applicants with history: ROC-AUC without it, the gain with it, and the standard error of the gain over the folds."""
    rows = np.flatnonzero(prepared.with_history)
    whole, y = prepared.matrix[rows], prepared.defaulted[rows]
    alone = whole.copy()
    alone[:, prepared.features.history_positions] = np.nan
    options = {**parameters(settings), **GAIN}
    aucs = []
    for inside, outside in RepeatedStratifiedKFold(n_splits=FOLDS, n_repeats=REPEATS, random_state=settings.training.seed).split(whole, y):
        pair = []
        for matrix in (alone, whole):
            booster = lightgbm.train(options, lightgbm.Dataset(matrix[inside], y[inside], params=options), num_boost_round=GAIN_TREES)
            pair.append(roc_auc_score(y[outside], booster.predict(matrix[outside])))
        aucs.append(pair)
    without, with_history = np.array(aucs).T
    return float(without.mean()), *paired(with_history, without)


def _clients(folder: Path) -> int:
    table = load_schema()["application"]
    return sum(len(read_ids(find_source(folder, table.files[role]), key_of(table))[0]) for role in ("train", "test"))


def _distance(real: pd.Series, generated: pd.Series) -> float:
    if real.empty or generated.empty:
        return float("nan")
    if real.dtype.kind in "if":
        one, other = (values.sample(min(len(values), 50_000), random_state=0).to_numpy(dtype=float) for values in (real, generated))
        return float(ks_2samp(one, other).statistic)
    shares = [values.value_counts(normalize=True) for values in (real, generated)]
    return float(shares[0].sub(shares[1], fill_value=0).abs().sum() / 2)


def _markdown(rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _marginal_name(name: str, frame: pd.DataFrame) -> str:
    return (
        f"{name}, {'quartiles' if frame[name].dtype.kind == 'f' else 'most common values'}; its rank correlation or spread of default rate"
    )


def _marginal(frame: pd.DataFrame, name: str) -> str:
    values, target = frame[name], frame["TARGET"]
    if values.dtype.kind == "f":
        known = values[values != 365243]
        quartiles = " / ".join(f"{value:.3g}" for value in known.quantile([0.25, 0.5, 0.75]))
        return f"{quartiles}; {known.rank().corr(target):+.3f}"
    shares = values.value_counts(normalize=True)
    rates = target.groupby(values).mean()[shares.index[:3]]
    return ", ".join(f"{value} {share:.0%}" for value, share in shares[:3].items()) + f"; {rates.min():.1%} to {rates.max():.1%}"
