"""The normal variables behind observed columns: scores, correlations, regressions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

from training.aliases import Values
from training.home_credit.profile import FEWEST

MIN_VARIANCE = 0.05  # of normal scores; a column below it says too little to estimate a correlation


def normal_scores(columns: Values) -> tuple[Values, Values, Values]:
    """Normal scores of the ranks in each column, shape (rows, columns), 0 where missing; 1.0 where known; the variance of each column."""
    scores, there = np.zeros(columns.shape), ~np.isnan(columns)
    for column, known in enumerate(there.T):
        count = int(known.sum())
        if count:
            score = ndtri((rankdata(columns[known, column]) - 0.5) / count)
            scores[known, column] = score - score.mean()
    return scores, there.astype(float), (scores**2).sum(axis=0) / np.maximum(there.sum(axis=0), 1)


def correlation(product: Values, variance: Values, *, diagonal: bool = True) -> Values:
    """Correlations of the normal variables behind the scores, shape (columns, columns), as in training.home_credit.profile."""
    enough = np.outer(variance > MIN_VARIANCE, variance > MIN_VARIANCE)
    result = np.where(enough, product / np.maximum(np.outer(variance, variance), 1e-9), 0)
    result = np.clip(result, -0.95, 0.95)
    if diagonal:
        np.fill_diagonal(result, 1)
    return np.asarray(result)


def regression_on(known: Values, scores: Values, there: NDArray[Any], variance: Values) -> Values:
    """Coefficients of each column of scores on the covariates, shape (columns, covariates), shrunk towards 0 by their t-value."""
    result = np.zeros((scores.shape[1], known.shape[1]))
    for column in range(scores.shape[1]):
        rows = there[:, column] > 0
        if variance[column] <= MIN_VARIANCE or rows.sum() < 20 * FEWEST:
            continue
        x, y = known[rows] - known[rows].mean(axis=0), scores[rows, column] - scores[rows, column].mean()
        inverse = np.linalg.pinv(x.T @ x)
        coefficients = inverse @ x.T @ y
        residual = y - x @ coefficients
        error = np.sqrt(np.maximum(np.diag(inverse) * residual.var(), 1e-12))
        shrunk = np.maximum(0, 1 - (error / np.where(coefficients == 0, 1e-9, coefficients)) ** 2)
        result[column] = coefficients * shrunk / variance[column]
    return result


def rest_covariance(rest: Values, regression: Values, known: Values) -> Values:
    """The covariance that the covariates do not explain, scaled so that each trait has variance 1."""
    left = np.maximum(1 - np.diag(regression @ np.cov(known.T) @ regression.T), 0.05)
    rest = nearest_covariance(rest)
    scale = np.sqrt(left / np.maximum(np.diag(rest), 1e-9))
    return np.asarray(rest * np.outer(scale, scale))


def nearest_covariance(covariance: Values) -> Values:
    """The nearest covariance without negative eigenvalues (Higham 1988)."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return np.asarray((vectors * np.maximum(values, 0)) @ vectors.T)


def rows_of(matrix: Values) -> list[list[float]]:
    """The rows of a matrix with three decimals, for a JSON file."""
    return [[round(value, 3) for value in row] for row in matrix.tolist()]
