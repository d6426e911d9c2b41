"""Calibrated PDs of feature rows: the same bits for a row alone, in any batch, and offline."""

import ctypes
import os
import weakref
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from features.history import History, Matrix
from features.transform import Applications
from serving.bundle import Bundle

Values = NDArray[np.float64]
SHARED_ROWS = 64  # from which on sharing them out costs less than it gains

if TYPE_CHECKING:
    import lightgbm


class _LoneRow:
    """The margin of a lone row by LightGBM's C API for these, `LGBM_BoosterPredictForMatSingleRowFast`.

    `Booster.predict` spends three quarters of the time of one row on reading its parameters and asking for sizes anew. The API
    keeps them, for one call at a time: it is called with Python's lock held.
    """

    RAW_SCORE, FLOAT64, ALL_TREES = 1, 1, -1  # as its header defines them

    def __init__(self, booster: "lightgbm.Booster", features: int) -> None:
        from lightgbm.basic import _LIB

        library = ctypes.PyDLL(_LIB._name)
        self._predict, self._config, self._length = library.LGBM_BoosterPredictForMatSingleRowFast, ctypes.c_void_p(), ctypes.c_int64()
        parameters = (self.RAW_SCORE, 0, self.ALL_TREES, self.FLOAT64, features, b"num_threads=1", ctypes.byref(self._config))
        if library.LGBM_BoosterPredictForMatSingleRowFastInit(booster._handle, *parameters):
            raise RuntimeError("LightGBM cannot score single rows of this model")
        self._booster = booster  # lives as long as what refers to it
        weakref.finalize(self, library.LGBM_FastConfigFree, self._config)

    def __call__(self, row: Values) -> Values:
        """The margin, shape (1,), of a row, shape (1, features)."""
        row, margin = np.ascontiguousarray(row, dtype=np.float64), np.empty(1)
        places = ctypes.c_void_p(row.ctypes.data), ctypes.byref(self._length), ctypes.c_void_p(margin.ctypes.data)
        if self._predict(self._config, *places):
            raise RuntimeError("LightGBM did not score the row")
        return margin


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
        self._lone_row = _LoneRow(self.booster, len(bundle.features.names))

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
        if len(matrix) == 1:
            return self.bundle.calibration.apply(self._lone_row(matrix))
        threads = self.threads if len(matrix) >= SHARED_ROWS else 1
        margins = self.booster.predict(matrix, raw_score=True, num_threads=threads)
        return self.bundle.calibration.apply(np.asarray(margins, dtype=np.float64))

    def score(self, applications: Applications, history: History | None = None) -> Values:
        """Calibrated PDs, shape (rows,), of raw applications with their history."""
        return self.pd(self.bundle.features.transform(applications, history).matrix)
