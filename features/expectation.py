"""A model that predicts some columns from others, learned without outcomes: gradient boosting with one output for each column."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from features.history import Matrix
from features.trees import Trees

TREES = 60  # per output; more of them take longer and did not improve the PDs
FOLDS = 5
PARAMETERS: dict[str, Any] = {
    "learning_rate": 0.15,
    "max_depth": 4,
    "num_leaves": 10,
    "feature_fraction": 0.15,
    "min_data_in_leaf": 300,
    "lambda_l2": 50.0,
    "seed": 1,
    "deterministic": True,
    "force_col_wise": True,  # one thread sums each histogram, so the number of threads changes no bit
    "verbosity": -1,
}


@dataclass(frozen=True)
class Expectation:
    """Predicts several columns with one model, so that they cost one call.

    Attributes
    ----------
    model : the LightGBM model as text, with outputs in standard deviations from the mean. Empty text predicts the mean.
    mean, scale : mean and standard deviation of the known values of each column.
    """

    model: str
    mean: list[float]
    scale: list[float]

    @classmethod
    def fit(cls, given: Matrix, wanted: Matrix, categorical: list[int]) -> Self:
        """Learn by least squares from the known values.

        Parameters
        ----------
        given : shape (rows, inputs), NaN where not known.
        wanted : shape (rows, columns), NaN where not known. A column that is never known is predicted as 0.
        categorical : positions of the inputs that are category codes.
        """
        import lightgbm

        known = ~np.isnan(wanted)
        rows = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, wanted, 0.0).sum(axis=0) / rows
        scale = np.sqrt(np.where(known, (wanted - mean) ** 2, 0.0).sum(axis=0) / rows)
        target = np.where(known, (wanted - mean) / np.where(scale > 0, scale, 1.0), 0.0)

        def squares(found: Matrix, _: lightgbm.Dataset) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            return np.where(known, found.reshape(target.shape, order="F") - target, 0.0), known.astype(np.float64)

        if len(given) < 2 * PARAMETERS["min_data_in_leaf"] or all(len(np.unique(column)) < 2 for column in given.T):
            return cls("", mean.tolist(), scale.tolist())  # no split is possible
        options: dict[str, Any] = PARAMETERS | {"objective": squares, "num_class": wanted.shape[1]}
        data = lightgbm.Dataset(given, np.zeros(len(given)), categorical_feature=categorical, params=PARAMETERS)
        booster = lightgbm.train(options, data, num_boost_round=TREES)
        return cls(booster.model_to_string(), mean.tolist(), scale.tolist())

    def expect(self, given: Matrix) -> Matrix:
        """The predicted values, shape (rows, columns), of inputs, shape (rows, inputs). A row has the same bits in any batch."""
        if not self.model:
            return np.tile(self.mean, (len(given), 1))
        scale, mean = self._scale_and_mean
        expected: Matrix = self._trees.raw_scores(given) * scale + mean
        return expected

    def to_dict(self) -> dict[str, Any]:
        """The arguments of this class."""
        return asdict(self)

    @cached_property
    def _scale_and_mean(self) -> tuple[Matrix, Matrix]:
        """Scale and mean as arrays; numpy would convert the lists on every call."""
        return np.array(self.scale), np.array(self.mean)

    @cached_property
    def _trees(self) -> Trees:
        return Trees(self.model)


def cross_fitted(given: Matrix, wanted: Matrix, categorical: list[int], judged: Sequence[Matrix]) -> list[Matrix]:
    """Predict each row, shape (rows, columns), by a model that learned from the other folds. See `Expectation.fit` for the parameters.

    Parameters
    ----------
    judged : versions of the inputs, with more or fewer known values, to predict from; one result for each.
    """
    fold = np.random.default_rng(PARAMETERS["seed"]).permutation(len(given)) % FOLDS
    expected = [np.empty(wanted.shape) for _ in judged]
    for number in range(FOLDS):
        inside, outside = fold != number, fold == number
        expectation = Expectation.fit(given[inside], wanted[inside], categorical)
        for inputs, found in zip(judged, expected, strict=True):
            found[outside] = expectation.expect(inputs[outside])
    return expected
