"""Thin applications: so few fields are known that the score is hardly better than the default rate.

The measure is the share of the model's gain in unknown features. It depends only on the feature row, so an application by name, a
vector, a recorded decision and a row of a portfolio have the same share to the last bit.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from features.application import EXPECTED
from features.history import Matrix, Positions

Values = NDArray[np.float64]
PARTS = 2**20  # gain is rounded to multiples of 1/PARTS, whose sum has the same bits in any order
ORDINARY = 0.999  # share of the training applicants that count as ordinary


@dataclass(frozen=True)
class ThinRule:
    """The rule for thin applications. Like the threshold, it is part of the bundle.

    Attributes
    ----------
    limit : share of the gain, in [0, 1]; an application is thin if its unknown share is larger.
    action : "warn" adds a warning to the answer; "decline" adds a warning and declines.
    """

    limit: float
    action: Literal["warn", "decline"]

    def __post_init__(self) -> None:
        if self.action not in ("warn", "decline") or not 0 <= self.limit <= 1:
            raise ValueError(f"the rule for thin applications is {self}; expected warn or decline, and a limit from 0 to 1")


def gain_parts(names: Sequence[str], gain: Iterable[float]) -> Values:
    """The share of each feature in the model's gain, shape (features,), in [0, 1].

    The features with the expected external scores have share 0, because they are computed from any application.
    """
    counted = np.array([0.0 if name in EXPECTED else part for name, part in zip(names, gain, strict=True)])
    return np.round(counted * (PARTS / (counted.sum() or 1.0))) / PARTS


def unknown_share(matrix: Matrix, parts: Values) -> Values:
    """The share of the gain in features that are NaN, shape (rows,), of a matrix of shape (rows, features).

    Parameters
    ----------
    parts : the result of `gain_parts`.
    """
    share: Values = np.isnan(matrix).dot(parts)
    return share


def thin_limit(matrix: Matrix, parts: Values, history: Positions | Sequence[int]) -> float:
    """The limit for a model, in [0, 1]: halfway between the largest unknown share of an ordinary applicant and 1.

    Of the training applicants, the 999 of 1,000 with the smallest unknown shares are ordinary; all are taken without their history. So
    fewer than 1 in 1,000 are thin.

    Parameters
    ----------
    matrix : the training matrix, shape (rows, features).
    parts : the result of `gain_parts`.
    history : positions of the features that need the history.
    """
    unknown = np.isnan(matrix)
    unknown[:, list(history)] = True
    return float((np.quantile(unknown.dot(parts), ORDINARY) + 1) / 2)
