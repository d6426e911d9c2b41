"""Calibrated PDs of feature rows: the same bits for a row alone, in any batch, and offline."""

import os

import numpy as np
from numpy.typing import NDArray

from features.history import History, Matrix
from features.transform import Applications
from serving.bundle import Bundle

Values = NDArray[np.float64]


class Scorer:
    """A bundle's model, loaded.

    LightGBM is imported here and not at import of the module: `bentoml serve` imports the service in its
    parent process too, which never scores.
    """

    def __init__(self, bundle: Bundle) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        import lightgbm

        self.bundle = bundle
        self.booster = lightgbm.Booster(model_str=bundle.model)
        if tuple(self.booster.feature_name()) != bundle.features.names:
            raise ValueError("the model was trained on other features than the bundle lists")

    def pd(self, matrix: Matrix, threads: int = 1) -> Values:
        """Calibrated PDs, shape (rows,), of a feature matrix, shape (rows, features); the same bits with any number of threads.

        Raises
        ------
        ValueError
            The matrix has another number of columns than the model.
        """
        if matrix.ndim != 2 or matrix.shape[1] != len(self.bundle.features.names):
            raise ValueError(f"got a matrix of shape {matrix.shape}; expected (rows, {len(self.bundle.features.names)})")
        if not len(matrix):
            return np.empty(0)
        margins = self.booster.predict(matrix, raw_score=True, num_threads=threads)
        return self.bundle.calibration.apply(np.asarray(margins, dtype=np.float64))

    def score(self, applications: Applications, history: History | None = None) -> Values:
        """Calibrated PDs, shape (rows,), of raw applications with their history."""
        return self.pd(self.bundle.features.transform(applications, history).matrix)
