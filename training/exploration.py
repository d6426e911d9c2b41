"""One HTML report on the applications of a folder: target, missing values, distributions by outcome, correlations, outliers, stability."""

import base64
import html
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from features.schema import Column, Table, load_schema
from training.data import find_source, is_generated, read_table

mpl.use("Agg")
SHOWN = 20  # rows of a table, panels of a figure
BINS = 10
FENCE = 3.0  # quartile distances beyond the quartiles, outside which a value is far out (Tukey 1977)
STABLE, SHIFTED = 0.1, 0.25  # the usual bands of the population stability index
STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}table{border-collapse:collapse;font-size:13px}"
    "td,th{padding:2px 10px;text-align:right;border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}img{max-width:100%}"
)


def explore(folder: Path) -> str:
    """The report on application_train, and on application_test where the folder has it, as one HTML page that needs no other file.

    Raises
    ------
    DataError
        application_train cannot be used.
    """
    table = load_schema()["application"]
    train = _known(read_table(find_source(folder, table.files["train"]), table, with_target=True), table)
    has_test = any((folder / f"{table.files['test']}{suffix}").is_file() for suffix in (".parquet", ".csv")) or list(folder.glob("*.zip"))
    test = _known(read_table(find_source(folder, table.files["test"]), table, with_target=False), table) if has_test else None
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
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>"
        f"<h1>{title}</h1><p>{len(train):,} labelled{'' if test is None else f', {len(test):,} unlabelled'} applications; {origin}; {made}.</p>"
        + "\n".join(parts)
    )


def information_value(values: pd.Series, target: pd.Series) -> float:
    """Information value of a column's bins (deciles or categories, and missing): how far it separates the outcomes; 0 for not at all.

    Parameters
    ----------
    target : 1 where the applicant defaulted, both outcomes present.
    """
    counts = pd.crosstab(binned(values), target).reindex(columns=[0, 1], fill_value=0) + 0.5
    shares = counts / counts.sum()
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def stability(train: pd.Series, test: pd.Series) -> float:
    """Population stability index of a column, test against train: bins at the deciles of train, a bin for missing, one for what is new."""
    expected, edges = _bins(train, None)
    actual, _ = _bins(test, edges)
    shares = [bins.value_counts(normalize=True) for bins in (expected, actual)]
    places = shares[0].index.union(shares[1].index)
    one, other = (share.reindex(places).fillna(0).clip(lower=1e-4) for share in shares)
    return float(((other - one) * np.log(other / one)).sum())


def binned(values: pd.Series) -> pd.Series:
    """The bin of each value, as text."""
    return _bins(values, None)[0]


def _bins(values: pd.Series, edges: list[float] | None) -> tuple[pd.Series, list[float] | None]:
    if values.dtype.kind not in "if":
        return values.fillna("missing").astype(str), None
    if edges is None:
        edges = np.unique(values.dropna().quantile(np.arange(1, BINS) / BINS)).tolist()
    place = pd.Series(np.searchsorted(np.array(edges), values.to_numpy(), side="left").astype(str), values.index)
    return place.mask(values.isna(), "missing"), edges


def _known(frame: pd.DataFrame, table: Table) -> pd.DataFrame:
    unknown = {column.name: list(column.unknown) for column in table.columns if column.unknown}
    return frame.assign(**{name: frame[name].mask(frame[name].isin(values)) for name, values in unknown.items()})


def _target(train: pd.DataFrame, table: Table) -> Iterator[str]:
    outcome = train[table.target]
    rate, error = outcome.mean(), float(np.sqrt(outcome.mean() * (1 - outcome.mean()) / len(outcome)))
    yield "<h2>Target</h2>"
    yield (
        f"<p>{int(outcome.sum()):,} of {len(outcome):,} applicants defaulted: {rate:.2%}, 95 % interval {rate - 1.96 * error:.2%} to "
        f"{rate + 1.96 * error:.2%}. Approving everybody at ten to one costs {10 * rate:.3f} a client.</p>"
    )


def _missing(train: pd.DataFrame, test: pd.DataFrame | None, table: Table) -> Iterator[str]:
    names = [column.name for column in table.columns]
    shares = pd.DataFrame({"train": train[names].isna().mean()})
    if test is not None:
        shares["test"] = test[names].isna().mean()
    outcome = train[table.target]
    shares["default rate where missing"] = [outcome[train[name].isna()].mean() for name in names]
    shares["where known"] = [outcome[train[name].notna()].mean() for name in names]
    yield f"<h2>Missing values</h2><p>{(shares['train'] > 0).sum()} of {len(names)} columns miss values; the most:</p>"
    yield _table(shares.nlargest(SHOWN, "train"), "{:.1%}")


def _distributions(train: pd.DataFrame, table: Table) -> Iterator[str]:
    outcome = train[table.target]
    values = pd.Series({column.name: information_value(train[column.name], outcome) for column in table.columns}).nlargest(SHOWN)
    yield "<h2>Distributions by outcome</h2><p>The columns with the largest information value; bars are the default rate of each bin, the"
    yield "line is the rate of all.</p>"
    figure = Figure(figsize=(12, 3 * -(-len(values) // 4)), layout="constrained")
    for panel, (name, value) in zip(figure.subplots(-(-len(values) // 4), 4, squeeze=False).flat, values.items(), strict=False):
        bins = binned(train[str(name)])
        rates = outcome.groupby(bins).agg(["mean", "size"])
        rates = rates.sort_index(key=lambda index: index.map(lambda text: (text == "missing", len(text), text))).head(12)
        panel.bar([text[:14] for text in rates.index], rates["mean"])
        panel.axhline(outcome.mean(), color="C3", linewidth=1)
        panel.tick_params(axis="x", labelrotation=90, labelsize=6)
        panel.set_title(f"{name}, IV {value:.3f}", fontsize=9)
    yield _image(figure)


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
    yield "<h2>Correlations</h2><p>Rank correlations of the numbers that correlate most with default.</p>" + _image(figure)
    whole = every.loc[ranks.columns, ranks.columns].abs().to_numpy()
    upper = pd.Series(
        {(numeric.columns[i], numeric.columns[j]): whole[i, j] for i, j in np.argwhere(np.triu(whole, 1) > 0.9).tolist()}, dtype=float
    ).nlargest(SHOWN)
    if len(upper):
        yield "<p>Pairs that say nearly the same:</p>"
        yield _table(pd.DataFrame({"rank correlation": upper.to_numpy()}, [" and ".join(pair) for pair in upper.index]), "{:.3f}")


def _outliers(train: pd.DataFrame, table: Table) -> Iterator[str]:
    rows = pd.DataFrame([_far_out(train[column.name], column) for column in table.numeric], [column.name for column in table.numeric])
    yield f"<h2>Outliers</h2><p>Values beyond {FENCE:g} quartile distances from the quartiles, and outside the plausible range of the schema.</p>"
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
    shifted, warned = int((index >= SHIFTED).sum()), int(((index >= STABLE) & (index < SHIFTED)).sum())
    yield (
        f"<h2>Stability between train and test</h2><p>Population stability index: {shifted} columns at or above {SHIFTED}, {warned} between "
        f"{STABLE} and {SHIFTED}; the largest:</p>"
    )
    yield _table(pd.DataFrame({"index": index.nlargest(SHOWN)}), "{:.3f}")


def _table(frame: pd.DataFrame, form: str) -> str:
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in ("", *frame.columns))
    rows = (
        f"<tr><td>{html.escape(str(name))}</td>"
        + "".join(f"<td>{'' if pd.isna(value) else form.format(value)}</td>" for value in row)
        + "</tr>"
        for name, row in zip(frame.index, frame.itertuples(index=False), strict=True)
    )
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _image(figure: Figure) -> str:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=90)
    return f'<p><img alt="" src="data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"></p>'
