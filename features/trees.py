"""Applies a LightGBM model, with a faster way for a lone row."""

import ctypes
import weakref

import numpy as np

from features.history import Matrix


class Trees:
    """A loaded LightGBM model. A row has the same raw scores, to the last bit, alone and in any batch.

    For one row `Booster.predict` spends three quarters of its time on parsing parameters and asking for sizes.
    `LGBM_BoosterPredictForMatSingleRowFast` of LightGBM's C API keeps both, but serves one call at a time, so it is called with Python's
    lock held.

    The constructor imports LightGBM, because the parent process of `bentoml serve` imports this module and never scores.

    Parameters
    ----------
    model : the model as text.
    """

    RAW_SCORE, FLOAT64, ALL_TREES = 1, 1, -1  # as the header of the C API defines them

    def __init__(self, model: str) -> None:
        import lightgbm
        from lightgbm.basic import _LIB

        self.booster = lightgbm.Booster(model_str=model)
        self.inputs = tuple(self.booster.feature_name())
        self.outputs = self.booster.num_model_per_iteration()
        library = ctypes.PyDLL(_LIB._name)
        self._predict, self._config, self._length = library.LGBM_BoosterPredictForMatSingleRowFast, ctypes.c_void_p(), ctypes.c_int64()
        parameters = (self.RAW_SCORE, 0, self.ALL_TREES, self.FLOAT64, len(self.inputs), b"num_threads=1", ctypes.byref(self._config))
        if library.LGBM_BoosterPredictForMatSingleRowFastInit(self.booster._handle, *parameters):
            raise RuntimeError("LightGBM cannot score single rows of this model")
        weakref.finalize(self, library.LGBM_FastConfigFree, self._config)

    def raw_scores(self, matrix: Matrix, threads: int = 1) -> Matrix:
        """The raw scores, shape (rows, outputs), of a matrix, shape (rows, inputs).

        Raises
        ------
        ValueError
            The number of columns differs from the number of inputs.
        """
        if matrix.ndim != 2 or matrix.shape[1] != len(self.inputs):
            raise ValueError(f"got a matrix of shape {matrix.shape}; expected (rows, {len(self.inputs)})")
        if len(matrix) == 1:
            return self._lone_row(matrix)
        if not len(matrix):
            return np.empty((0, self.outputs))
        found = np.asarray(self.booster.predict(matrix, raw_score=True, num_threads=threads), dtype=np.float64)
        return found.reshape(len(matrix), self.outputs)

    def _lone_row(self, row: Matrix) -> Matrix:
        row, scores = np.ascontiguousarray(row, dtype=np.float64), np.empty((1, self.outputs))
        places = ctypes.c_void_p(row.ctypes.data), ctypes.byref(self._length), ctypes.c_void_p(scores.ctypes.data)
        if self._predict(self._config, *places):
            raise RuntimeError("LightGBM did not score the row")
        return scores
