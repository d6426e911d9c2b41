"""How far a PD would move if the model had been trained on other applicants: a delete-a-group jackknife.

The models of the cross-validation left out one group of the applicants each. With `k` groups, the squared standard error of the log-odds
is (k - 1) / k times the sum of their squared distances from the mean (Efron and Tibshirani 1993, chapter 11). A model of another sample
has the same error again, so its distance from the served one has twice the variance. An error from `k` models has k - 1 degrees of
freedom, so its distribution is Student's. Without both, 80 % of such PDs lie inside; with the variance alone, 90 %.
"""

import gzip
import json
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.history import Matrix
from features.trees import Trees
from monitoring.prediction import Interval
from serving.calibration import Calibration

LEVEL = 0.95  # of an interval
STUDENT = (  # the quantile of Student's distribution that holds LEVEL in the middle, for 1 to 19 degrees of freedom
    *(12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281),
    *(2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930),
)


class Judged(NamedTuple):
    """The interval of a PD, and whether the threshold lies within one standard error of it."""

    interval: Interval
    borderline: bool


class Jackknife:
    """The models that each left out a group.

    Parameters
    ----------
    models : two or more LightGBM models as text.
    calibration : of the served model; its slope turns margins into log-odds.
    """

    def __init__(self, models: Sequence[str], calibration: Calibration) -> None:
        if len(models) < 2:
            raise ValueError(f"an interval from {len(models)} models; expected two or more")
        self._trees, self._slope = [Trees(model) for model in models], calibration.slope
        self._spread = math.sqrt(2) * STUDENT[min(len(models) - 1, len(STUDENT)) - 1]  # half the width of an interval, in standard errors

    def standard_errors(self, matrix: Matrix) -> NDArray[np.float64]:
        """The standard error of the log-odds of each row, shape (rows,), of a matrix, shape (rows, features)."""
        margins = np.stack([trees.raw_scores(matrix)[:, 0] for trees in self._trees])
        total = ((margins - margins.mean(axis=0)) ** 2).sum(axis=0)
        found: NDArray[np.float64] = self._slope * np.sqrt(total * (len(margins) - 1) / len(margins))
        return found

    def judge(self, pd: float, error: float, threshold: float) -> Judged:
        """The interval of a PD, in [0, 1], whose log-odds have this standard error."""
        if not 0 < pd < 1:
            return Judged(Interval(pd, pd, LEVEL), borderline=False)
        odds = math.log(pd / (1 - pd))
        low, high = (1 / (1 + math.exp(-(odds + side * self._spread * error))) for side in (-1, 1))
        limit = math.log(threshold / (1 - threshold)) if threshold < 1 else math.inf
        return Judged(Interval(low, high, LEVEL), borderline=abs(odds - limit) < error)


def packed(models: Sequence[str]) -> bytes:
    """The models as one file, with the same bytes for the same models."""
    return gzip.compress(json.dumps(list(models)).encode(), mtime=0)


def unpacked(data: bytes) -> list[str]:
    """The models of a file that `packed` made."""
    return [str(model) for model in json.loads(gzip.decompress(data))]
