"""An HTML report on applications: target, missing values, distributions by outcome, correlations, outliers, stability."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from features.schema import Column, Table, load_schema
from monitoring.drift.psi import DRIFT, WARNING, Reference, Values, reference
from monitoring.reports import pages
from training.data.source import find_optional, find_source, is_generated
from training.data.validation import read_table

mpl.use("Agg")
SHOWN = 20  # rows of a table, panels of a figure
BINS = 10
FENCE = 3.0  # quartile distances beyond a quartile, from where a value is far out (Tukey 1977)


def explore(folder: Path) -> str:
    """Report on application_train, and on application_test if the folder has it, as one HTML page without other files.

    Raises
    ------
    DataError
        application_train is missing, or one of the tables cannot be used.
    """
    table = load_schema()["application"]
    train = _known(read_table(find_source(folder, table.files["train"]), table, with_target=True), table)
    unlabelled = find_optional(folder, table.files["test"])
    test = _known(read_table(unlabelled, table, with_target=False), table) if unlabelled else None
    parts = [
        *_target(train, table),
        *_missing(train, test, table),
        *_distributions(train, table),
        *_correlations(train, table),
        *_outliers(train, table),
        *(_stability(train, test, table) if test is not None else ()),
    ]
    origin = "generated data" if is_generated(folder) else "the data of the lender"
    title = "Exploration of the applications"
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    about = {
        "applications": f"{len(train):,} labelled{'' if test is None else f', {len(test):,} unlabelled'}",
        "data": origin,
        "made": made,
    }
    return pages.page(title, about, "\n".join(parts))


def information_value(values: pd.Series, target: pd.Series) -> float:
    """Information value of a column, 0 or more: how well its bins (deciles or categories, and missing) separate the outcomes.

    Parameters
    ----------
    target : 1 for default, 0 for repaid; both must occur.
    """
    counts = pd.crosstab(binned(values), target).reindex(columns=[0, 1], fill_value=0) + 0.5
    shares = counts / counts.sum()
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def stability(train: pd.Series, test: pd.Series) -> float:
    """Population stability index of a column between train and test, as the running service measures it."""
    text = train.dtype.kind not in "if"
    known = pd.Index(train.dropna().unique())
    columns = [_codes(values, known) if text else values.to_numpy(dtype=float) for values in (train, test)]
    expected, actual = (column.reshape(-1, 1) for column in columns)
    frozen = Reference(reference(expected, ["column"], [0] if text else []), len(train))
    return float(frozen.measure(frozen.count(actual)).psi[0])


def _codes(values: pd.Series, known: pd.Index) -> Values:
    codes = known.get_indexer(pd.Index(values)).astype(float)
    return np.where(values.isna(), np.nan, codes)


def binned(values: pd.Series) -> pd.Series:
    """The bin of each value, as text: a decile or category, or missing."""
    if values.dtype.kind not in "if":
        return values.fillna("missing").astype(str)
    edges = np.unique(values.dropna().quantile(np.arange(1, BINS) / BINS))
    bins = pd.Series(np.searchsorted(edges, values.to_numpy(), side="left").astype(str), values.index)
    return bins.mask(values.isna(), "missing")


def _known(frame: pd.DataFrame, table: Table) -> pd.DataFrame:
    unknown = {column.name: list(column.unknown) for column in table.columns if column.unknown}
    return frame.assign(**{name: frame[name].mask(frame[name].isin(values)) for name, values in unknown.items()})


def _target(train: pd.DataFrame, table: Table) -> Iterator[str]:
    outcome = train[table.target]
    rate, error = outcome.mean(), float(np.sqrt(outcome.mean() * (1 - outcome.mean()) / len(outcome)))
    yield "<h2>Target</h2>"
    yield (
        f"<p>{int(outcome.sum()):,} of {len(outcome):,} applicants defaulted: {rate:.2%}, 95 % interval {rate - 1.96 * error:.2%} to "
        f"{rate + 1.96 * error:.2%}. At costs of 10 to 1, approving everybody costs {10 * rate:.3f} per client.</p>"
    )


def _missing(train: pd.DataFrame, test: pd.DataFrame | None, table: Table) -> Iterator[str]:
    names = [column.name for column in table.columns]
    shares = pd.DataFrame({"train": train[names].isna().mean()})
    if test is not None:
        shares["test"] = test[names].isna().mean()
    outcome = train[table.target]
    shares["default rate where missing"] = [outcome[train[name].isna()].mean() for name in names]
    shares["where known"] = [outcome[train[name].notna()].mean() for name in names]
    yield f"<h2>Missing values</h2><p>{(shares['train'] > 0).sum()} of {len(names)} columns have missing values. Those with the most:</p>"
    yield _table(shares.nlargest(SHOWN, "train"), "{:.1%}")


def _distributions(train: pd.DataFrame, table: Table) -> Iterator[str]:
    outcome = train[table.target]
    values = pd.Series({column.name: information_value(train[column.name], outcome) for column in table.columns}).nlargest(SHOWN)
    yield "<h2>Distributions by outcome</h2><p>The columns with the largest information value. Bars show the default rate of each"
    yield "bin, the line that of all applicants.</p>"
    figure = Figure(figsize=(12, 3 * -(-len(values) // 4)), layout="constrained")
    for panel, (name, value) in zip(figure.subplots(-(-len(values) // 4), 4, squeeze=False).flat, values.items(), strict=False):
        bins = binned(train[str(name)])
        rates = outcome.groupby(bins).agg(["mean", "size"])
        rates = rates.sort_index(key=lambda index: index.map(lambda text: (text == "missing", len(text), text))).head(12)
        panel.bar([text[:14] for text in rates.index], rates["mean"])
        panel.axhline(outcome.mean(), color="C3", linewidth=1)
        panel.tick_params(axis="x", labelrotation=90, labelsize=6)
        panel.set_title(f"{name}, IV {value:.3f}", fontsize=9)
    yield pages.image(figure, "default rate by bin")


def _correlations(train: pd.DataFrame, table: Table) -> Iterator[str]:
    numeric = train[[column.name for column in table.numeric]]
    ranks = numeric.sample(min(len(numeric), 20_000), random_state=0).rank()
    every = ranks.assign(**{str(table.target): train[table.target]}).corr()
    with_outcome = every[table.target].drop(table.target).abs().nlargest(SHOWN).index
    matrix = every.loc[with_outcome, with_outcome]
    figure = Figure(figsize=(9, 8), layout="constrained")
    axes = figure.subplots()
    drawn = axes.imshow(matrix, vmin=-1, vmax=1, cmap="RdBu_r")
    axes.set_xticks(range(len(matrix)), matrix.columns.tolist(), rotation=90, fontsize=7)
    axes.set_yticks(range(len(matrix)), matrix.columns.tolist(), fontsize=7)
    figure.colorbar(drawn)
    yield "<h2>Correlations</h2><p>Rank correlations of the numbers that correlate most with default.</p>" + pages.image(
        figure, "rank correlations"
    )
    whole = every.loc[ranks.columns, ranks.columns].abs().to_numpy()
    upper = pd.Series(
        {(numeric.columns[i], numeric.columns[j]): whole[i, j] for i, j in np.argwhere(np.triu(whole, 1) > 0.9).tolist()}, dtype=float
    ).nlargest(SHOWN)
    if len(upper):
        yield "<p>Pairs that are nearly duplicates:</p>"
        yield _table(pd.DataFrame({"rank correlation": upper.to_numpy()}, [" and ".join(pair) for pair in upper.index]), "{:.3f}")


def _outliers(train: pd.DataFrame, table: Table) -> Iterator[str]:
    rows = pd.DataFrame([_far_out(train[column.name], column) for column in table.numeric], [column.name for column in table.numeric])
    yield f"<h2>Outliers</h2><p>Values more than {FENCE:g} quartile distances beyond a quartile, or outside the plausible range of the schema.</p>"
    rows = rows[(rows["far out"] > 0) | (rows["implausible"] > 0)].nlargest(SHOWN, ["implausible", "far out"])
    yield _table(rows, "{:.5g}")


def _far_out(values: pd.Series, column: Column) -> dict[str, float]:
    low, high = values.quantile([0.25, 0.75])
    reach = FENCE * (high - low)
    outside = ((values < low - reach) | (values > high + reach)).mean() if reach > 0 else 0.0
    implausible = ((values < column.min) | (values > column.max)).sum()
    return {
        "implausible": float(implausible),
        "far out": float(outside),
        "least": values.min(),
        "median": values.median(),
        "most": values.max(),
    }


def _stability(train: pd.DataFrame, test: pd.DataFrame, table: Table) -> Iterator[str]:
    index = pd.Series({column.name: stability(train[column.name], test[column.name]) for column in table.columns})
    shifted, warned = int((index >= DRIFT).sum()), int(((index >= WARNING) & (index < DRIFT)).sum())
    yield (
        f"<h2>Stability between train and test</h2><p>Population stability index: {shifted} columns at or above {DRIFT}, {warned} between "
        f"{WARNING} and {DRIFT}; the largest:</p>"
    )
    yield _table(pd.DataFrame({"index": index.nlargest(SHOWN)}), "{:.3f}")


def _table(frame: pd.DataFrame, form: str) -> str:
    rows = [["" if pd.isna(value) else form.format(value) for value in row] for row in frame.itertuples(index=False)]
    return pages.table(["", *map(str, frame.columns)], [[str(name), *row] for name, row in zip(frame.index, rows, strict=True)])
