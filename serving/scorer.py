"""Calibrated PDs of feature rows: the same bits for a row alone, in any batch, and offline."""

import os

import numpy as np
from numpy.typing import NDArray

from features.applications import Applications
from features.history import History, Matrix
from features.trees import Trees
from serving.bundle import Bundle
from serving.thin import gain_parts, unknown_share

Values = NDArray[np.float64]
SHARED_ROWS = 64  # from this number of rows on, several threads are faster than one


class Scorer:
    """A bundle's model, loaded.

    Parameters
    ----------
    threads : number of threads for SHARED_ROWS rows or more; fewer rows are scored by one. It does not change the scores.

    Raises
    ------
    ValueError
        The model was trained on other features than the bundle lists.
    """

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # idle threads sleep; by default they spin
        self.bundle = bundle
        self.threads = threads
        self.trees = Trees(bundle.model)
        if self.trees.inputs != bundle.features.names:
            raise ValueError("the model was trained on other features than the bundle lists")
        self._parts = gain_parts(self.trees.inputs, self.trees.booster.feature_importance("gain").tolist())

    def pd(self, matrix: Matrix) -> Values:
        """Calibrated PDs, shape (rows,), in [0, 1], of a feature matrix, shape (rows, features), NaN where not known.

        Raises
        ------
        ValueError
            The matrix has another number of columns than the model.
        """
        threads = self.threads if len(matrix) >= SHARED_ROWS else 1
        return self.bundle.calibration.apply(self.trees.raw_scores(matrix, threads)[:, 0])

    def unknown(self, matrix: Matrix) -> Values:
        """The share of the model's gain in unknown features, shape (rows,), in [0, 1], of a feature matrix, shape (rows, features)."""
        return unknown_share(matrix, self._parts)

    def score(self, applications: Applications, history: History | None = None) -> Values:
        """Calibrated PDs, shape (rows,), in [0, 1], of raw applications with their history."""
        return self.pd(self.bundle.features.transform(applications, history).matrix)
