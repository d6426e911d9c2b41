"""Reference distributions, frozen at training, against which live data are compared."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 10
Matrix = NDArray[np.float64]


def reference(matrix: Matrix, names: Sequence[str], categories: Sequence[int] = ()) -> dict[str, dict[str, Any]]:
    """Bin every column of a sample.

    Parameters
    ----------
    matrix : shape (rows, columns), NaN where not known.
    names : of the columns.
    categories : positions of the columns that hold category codes.

    Returns
    -------
    For each name: `edges`, inner edges at the deciles of the known values with equal ones merged (bin i holds
    edges[i-1] < value <= edges[i]); for a category column `codes` instead; `shares` of the bins, of the
    rows; and `missing`, the share of rows not known. Shares and missing add up to 1.

    Raises
    ------
    ValueError
        There is no row.
    """
    if not len(matrix):
        raise ValueError("no row to take a reference distribution from")
    result: dict[str, dict[str, Any]] = {}
    for position, name in enumerate(names):
        values = matrix[:, position]
        known = values[~np.isnan(values)]
        if position in categories:
            codes, counts = np.unique(known, return_counts=True)
            entry: dict[str, Any] = {"codes": codes.tolist()}
        else:
            quantiles = np.quantile(known, np.arange(1, BINS) / BINS) if len(known) else np.array([])
            edges = np.unique(quantiles)
            counts = np.bincount(np.searchsorted(edges, known, side="left"), minlength=len(edges) + 1)
            entry = {"edges": edges.tolist()}
        entry["shares"] = (counts / len(values)).tolist()
        entry["missing"] = (len(values) - len(known)) / len(values)
        result[name] = entry
    return result
