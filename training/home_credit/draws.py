"""Small operations of the generators."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.aliases import Positions, Values


def repeat(counts: NDArray[Any]) -> tuple[Positions, Positions]:
    """For each of sum(counts) items its owner, and its number among the owner's items, both from 0."""
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)


def at(quantiles: Values, level: Values) -> Values:
    """The values at levels in (0, 1) of a distribution given by evenly spaced quantiles."""
    return np.interp(level, np.linspace(0, 1, len(quantiles)), quantiles)


def cents(values: Values) -> Values:
    """Amounts rounded to three decimals, as in the source."""
    return np.asarray(np.round(values * 1000) / 1000)


def round_to(values: Values, step: float) -> Values:
    """The nearest multiples of a step."""
    return np.asarray(np.round(values / step) * step)


def factor(covariance: Values) -> Values:
    """A matrix F with F @ F.T the covariance, its negative eigenvalues set to zero and its variances kept."""
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))
    norm = np.linalg.norm(root, axis=1, keepdims=True)
    return np.asarray(root / np.maximum(norm, 1e-12) * np.sqrt(np.maximum(np.diag(covariance), 0))[:, None])
