"""The population stability index (PSI) of samples against reference distributions that training froze.

PSI = sum over bins of (actual - expected) * ln(actual / expected), with shares of the rows. A column has the bins of its reference, one
for missing values and, if it holds categories, one for codes that the reference does not know. Half a row is added to every bin of both
samples (the prior of Jeffreys), so that an empty bin does not give an infinite logarithm.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 10
LEVELS = (
    0.001,
    *(level / 100 for level in range(1, 100)),
    0.999,
)  # of the frozen quantiles; the outermost ones are not the values of single persons
DECILES = slice(BINS, -1, BINS)  # of LEVELS
LUMP = 0.2  # share of the known values that have one value; smaller lumps are often round incomes, which a rise of 1 % would move
RARE = 0.01  # codes with a smaller share are one bin: their single shares are too noisy to compare
SMOOTHING = 0.5  # rows added to each bin
WARNING, DRIFT = 0.1, 0.25  # usual limits in credit risk (Siddiqi 2006, page 137): slight change from the first on, large from the second
FALSE_ALARM = 0.01  # probability that any column of an unshifted sample of the minimum size reaches WARNING

Matrix = NDArray[np.float64]
Values = NDArray[np.float64]
Counts = NDArray[np.int64]


def reference(matrix: Matrix, names: Sequence[str], categories: Sequence[int] = ()) -> dict[str, dict[str, Any]]:
    """Bin every column of a sample.

    Parameters
    ----------
    matrix : shape (rows, columns), NaN if unknown.
    names : of the columns.
    categories : positions of the columns that hold category codes.

    Returns
    -------
    For each name: `quantiles` of the known values at LEVELS (empty if none is known), and `edges`, the inner edges of the bins; a category
    column has its `codes` instead. Then `shares`, those of the bins among the rows, and `missing`, the share of unknown values; together
    they add up to 1. Bin i holds edges[i-1] < value <= edges[i]. The edges are the distinct deciles. If the share LUMP or more of the
    known values equal a decile, another edge just below that decile gives this value a bin of its own.

    Raises
    ------
    ValueError
        The matrix has no row.
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
            quantiles = np.quantile(known, LEVELS) if len(known) else np.array([])
            edges = _edges(known, np.unique(quantiles[DECILES]))
            counts = np.bincount(np.searchsorted(edges, known, side="left"), minlength=len(edges) + 1)
            entry = {"quantiles": quantiles.tolist(), "edges": edges.tolist()}
        entry["shares"] = (counts / len(values)).tolist()
        entry["missing"] = (len(values) - len(known)) / len(values)
        result[name] = entry
    return result


def _edges(known: Values, deciles: Values) -> Values:
    lumps = [value for value in deciles.tolist() if np.mean(known == value) >= LUMP]
    return np.union1d(deciles, np.nextafter(lumps, -np.inf))


def band(psi: float) -> str:
    """The band of a PSI: `stable` below WARNING, `warning` below DRIFT, else `drift`."""
    return "drift" if psi >= DRIFT else "warning" if psi >= WARNING else "stable"


@dataclass(frozen=True)
class Measurement:
    """A sample measured against the reference.

    Attributes
    ----------
    rows : of the sample.
    psi : shape (columns,).
    missing : share of unknown values in the sample, shape (columns,).
    missing_shift : `missing` minus that of the reference, shape (columns,).
    """

    rows: int
    psi: Values
    missing: Values
    missing_shift: Values


class Reference:
    """A frozen reference, laid out for counting all columns of a sample at once.

    Parameters
    ----------
    entries : of the columns in their order, as `reference` returns them.
    rows : of the sample that the reference was taken from.

    Attributes
    ----------
    names : of the columns.
    minimum_rows : the smallest sample in which, without a shift, the probability that any column reaches WARNING is FALSE_ALARM.
        Without a shift PSI is about chi2(bins - 1) * (1 / n + 1 / rows) (Yurdakul 2018); inf if `rows` is too small for any n.
    """

    def __init__(self, entries: Mapping[str, Mapping[str, Any]], rows: int) -> None:
        self.names = tuple(entries)
        self._codes: dict[int, tuple[Values, NDArray[np.intp]]] = {}
        shares = [self._shares(position, entry) for position, entry in enumerate(entries.values())]
        self._numeric = np.array([position for position in range(len(shares)) if position not in self._codes], dtype=np.intp)
        inner = [entry.get("edges", []) for entry in entries.values()]
        self._edges = np.full((max(map(len, inner), default=0), len(self._numeric)), np.inf)
        for column, position in enumerate(self._numeric):
            self._edges[: len(inner[position]), column] = inner[position]
        self._missing, self._unseen = -2, -1  # the last two bins
        bins = max(map(len, shares), default=1) + 2
        expected = np.zeros((len(shares), bins))
        self._used = np.zeros((len(shares), bins), dtype=bool)
        for position, (own, entry) in enumerate(zip(shares, entries.values(), strict=True)):
            expected[position, : len(own)] = own
            expected[position, self._missing] = entry["missing"]
            self._used[position, : len(own)] = self._used[position, self._missing] = True
            self._used[position, self._unseen] = position in self._codes
        self._reference_missing = expected[:, self._missing]
        self._expected = self._smoothed(expected * rows, rows)
        self.minimum_rows = _minimum_rows(np.count_nonzero(expected, axis=1), rows)

    def count(self, matrix: Matrix) -> Counts:
        """Count the rows of a sample, shape (rows, columns), in each bin; returns shape (columns, bins). Counts of several samples may be added.

        Raises
        ------
        ValueError
            The matrix and the reference differ in their number of columns.
        """
        if matrix.ndim != 2 or matrix.shape[1] != len(self.names):
            raise ValueError(f"got a matrix of shape {matrix.shape}; expected (rows, {len(self.names)})")
        counts = np.zeros(self._used.shape, dtype=np.int64)
        counts[:, self._missing] = np.count_nonzero(np.isnan(matrix), axis=0)
        numeric = matrix[:, self._numeric]
        above = len(matrix) - counts[self._numeric, self._missing]  # NaN is above no edge
        for bin_, edges in enumerate(self._edges):
            beyond = np.count_nonzero(numeric > edges, axis=0)
            counts[self._numeric, bin_] = above - beyond
            above = beyond
        counts[self._numeric, len(self._edges)] = above
        for position, (codes, bins) in self._codes.items():
            values = matrix[:, position]
            values = values[~np.isnan(values)]
            found = np.searchsorted(codes, values)
            known = np.append(codes, np.nan)[found] == values
            counts[position] += np.bincount(np.append(bins, 0)[found[known]], minlength=counts.shape[1])
            counts[position, self._unseen] = np.count_nonzero(~known)
        return counts

    def measure(self, counts: Counts) -> Measurement:
        """Compare a counted sample with the reference.

        Raises
        ------
        ValueError
            The sample has no row.
        """
        rows = int(counts[0].sum())
        if not rows:
            raise ValueError("no row to measure drift of")
        actual = self._smoothed(counts, rows)
        psi = np.sum((actual - self._expected) * np.log(actual / self._expected), axis=1, where=self._used)
        missing = counts[:, self._missing] / rows
        return Measurement(rows, psi, missing, missing - self._reference_missing)

    def _shares(self, position: int, entry: Mapping[str, Any]) -> Values:
        """The shares of a column's bins; notes the bin of each code."""
        shares = np.array(entry["shares"])
        if "codes" not in entry:
            return shares
        rare = shares < RARE
        bins = np.where(rare, np.count_nonzero(~rare), np.cumsum(~rare) - 1)
        self._codes[position] = np.array(entry["codes"], dtype=np.float64), bins
        return np.bincount(bins, weights=shares).astype(np.float64)

    def _smoothed(self, counts: NDArray[Any], rows: int) -> Values:
        bins = np.count_nonzero(self._used, axis=1)[:, None]
        return np.where(self._used, (counts + SMOOTHING) / (rows + SMOOTHING * bins), 1.0)


def _minimum_rows(bins: NDArray[np.intp], rows: int) -> float:
    """See Reference.minimum_rows; the quantile of chi2 is the approximation of Wilson and Hilferty (1931)."""
    freedom = max(int(bins.max(initial=0)) - 1, 1)
    normal = NormalDist().inv_cdf(1 - FALSE_ALARM / max(len(bins), 1))
    quantile = freedom * (1 - 2 / (9 * freedom) + normal * math.sqrt(2 / (9 * freedom))) ** 3
    room = WARNING / quantile - 1 / rows
    return math.ceil(1 / room) if room > 0 else math.inf
