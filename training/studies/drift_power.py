"""The power of the drift measurement: false alarms on unshifted samples, and how often it finds known shifts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from features.applications import Applications
from features.history import History, Matrix
from features.schema import load_schema
from features.transform import FeatureTransform
from monitoring.drift.psi import DRIFT, WARNING, Reference, Values, reference
from training.aliases import Say
from training.data.errors import DataError
from training.data.history_folder import HistoryFolder
from training.data.source import find_source
from training.data.validation import read_table

DRAWS = 200
SIZES = (2000, 5000)  # applicants in a sample, in addition to the minimum
SEEN_AS = {"DAYS_BIRTH": "AGE_YEARS"}  # the feature that shows a shift of a column that is not a feature itself
UNKNOWN_WORD = "a value that training never saw"

Shift = Callable[["pd.Series[Any]", np.random.Generator], "pd.Series[Any]"]


def _times(factor: float) -> Shift:
    return lambda values, _: values * factor


def _plus(amount: float) -> Shift:
    return lambda values, _: values + amount


def _replaced(share: float, value: Any) -> Shift:
    return lambda values, random: values.mask(random.random(len(values)) < share, value)


SHIFTS: tuple[tuple[str, str, Shift], ...] = (
    *((f"incomes times {factor}", "AMT_INCOME_TOTAL", _times(factor)) for factor in (1.1, 1.25, 1.5)),
    *((f"EXT_SOURCE_3 missing for {share:.0%} more", "EXT_SOURCE_3", _replaced(share, np.nan)) for share in (0.1, 0.3, 1.0)),
    *((f"applicants {years} years younger", "DAYS_BIRTH", _plus(365.25 * years)) for years in (2, 5, 10)),
    *((f"an unseen ORGANIZATION_TYPE for {share:.0%}", "ORGANIZATION_TYPE", _replaced(share, UNKNOWN_WORD)) for share in (0.01, 0.05)),
)


def measure(folder: Path, seed: int, say: Say) -> str:
    """Measure samples of one random half of the labelled applications against the other half; returns a Markdown table.

    Raises
    ------
    DataError
        The tables cannot be used, or hold too few applications.
    """
    random = np.random.default_rng(seed)
    table = load_schema()["application"]
    frame = read_table(find_source(folder, table.files["train"]), table, with_target=True)
    order = random.permutation(len(frame))
    base, live = frame.iloc[order[: len(frame) // 2]], frame.iloc[order[len(frame) // 2 :]]
    features = FeatureTransform()

    def history(rows: pd.DataFrame) -> History:
        return HistoryFolder(folder, rows[table.key].to_numpy(), say).history()

    learned = features.fit_transform(Applications.from_columns(base), history(base)).matrix
    entries = reference(learned, features.names, features.categorical_positions)
    whole, unshifted = Reference(entries, len(base)), features.transform(Applications.from_columns(live), history(live)).matrix
    if whole.minimum_rows > len(live):
        raise DataError(f"{folder} holds {len(frame)} applications; half of them are too few to measure the drift of the other half")
    minimum = int(whole.minimum_rows)
    largest = np.array([_psi(whole, unshifted, minimum, random).max() for _ in range(DRAWS)])
    sizes = (minimum, *SIZES)
    rows = [
        ["shift", *(f"{size:,} applicants" for size in sizes)],
        ["---"] * (len(sizes) + 1),
        [
            f"none: any of {len(entries)} features",
            f"{np.mean(largest >= WARNING):.1%} at {WARNING}; the largest PSI is {largest.max():.3f}",
            "",
            "",
        ],
    ]
    for title, name, shift in SHIFTS:
        column = features.transform(Applications.from_columns(live.assign(**{name: shift(live[name], random)}))).matrix
        feature = SEEN_AS.get(name, name)
        one = Reference({feature: entries[feature]}, len(base))
        rows.append([title])
        for size in sizes:
            psi = np.array([_psi(one, column[:, [features.names.index(feature)]], size, random)[0] for _ in range(DRAWS)])
            rows[-1].append(f"{np.mean(psi >= WARNING):.0%} / {np.mean(psi >= DRIFT):.0%}, median PSI {np.median(psi):.2f}")
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _psi(reference: Reference, matrix: Matrix, rows: int, random: np.random.Generator) -> Values:
    sample = matrix[random.choice(len(matrix), rows)]  # with replacement; without it large samples would be nearly the same
    return reference.measure(reference.count(sample)).psi
