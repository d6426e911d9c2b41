"""Calibrated PDs of feature rows: the same bits for a row alone, in any batch, and offline."""

import os

import numpy as np
from numpy.typing import NDArray

from features.history import History, Matrix
from features.transform import Applications
from serving.bundle import Bundle

Values = NDArray[np.float64]
SHARED_ROWS = 64  # from which on sharing them out costs less than it gains


class Scorer:
    """A bundle's model, loaded.

    LightGBM is imported here and not at import of the module: `bentoml serve` imports the service in its
    parent process too, which never scores.

    Parameters
    ----------
    threads : that share SHARED_ROWS rows or more; fewer are scored by the caller alone. The bits are the same with any number.

    Raises
    ------
    ValueError
        The model was trained on other features than the bundle lists.
    """

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # a thread without work leaves its processor to others
        import lightgbm

        self.bundle = bundle
        self.threads = threads
        self.booster = lightgbm.Booster(model_str=bundle.model)
        if tuple(self.booster.feature_name()) != bundle.features.names:
            raise ValueError("the model was trained on other features than the bundle lists")

    def pd(self, matrix: Matrix) -> Values:
        """Calibrated PDs, shape (rows,), of a feature matrix, shape (rows, features).

        Raises
        ------
        ValueError
            The matrix has another number of columns than the model.
        """
        if matrix.ndim != 2 or matrix.shape[1] != len(self.bundle.features.names):
            raise ValueError(f"got a matrix of shape {matrix.shape}; expected (rows, {len(self.bundle.features.names)})")
        if not len(matrix):
            return np.empty(0)
        threads = self.threads if len(matrix) >= SHARED_ROWS else 1
        margins = self.booster.predict(matrix, raw_score=True, num_threads=threads)
        return self.bundle.calibration.apply(np.asarray(margins, dtype=np.float64))

    def score(self, applications: Applications, history: History | None = None) -> Values:
        """Calibrated PDs, shape (rows,), of raw applications with their history."""
        return self.pd(self.bundle.features.transform(applications, history).matrix)
