"""Thin applications: those of which so little is known that the score says hardly more than the base rate.

How thin one is, is the share of the model's gain in features that are not known. It needs the feature row only, so that an application
by name, a vector, a recorded decision and a row of a portfolio have the same share, to the last bit.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from features.application import EXPECTED
from features.history import Matrix, Positions

Values = NDArray[np.float64]
PARTS = 2**20  # the gain is counted in whole parts of so many, which add up to the same bits in any order
ORDINARY = 0.999  # of the applicants a model learned from


@dataclass(frozen=True)
class ThinRule:
    """What makes an application thin, and what then becomes of it; it travels with the model as the threshold does.

    Attributes
    ----------
    limit : share of the gain, in [0, 1]; an application of which more is not known is thin.
    action : "warn" scores it with a warning, "decline" declines it besides.
    """

    limit: float
    action: Literal["warn", "decline"]

    def __post_init__(self) -> None:
        if self.action not in ("warn", "decline") or not 0 <= self.limit <= 1:
            raise ValueError(f"the rule for thin applications is {self}; expected warn or decline, and a limit from 0 to 1")


def gain_parts(names: Sequence[str], gain: Iterable[float]) -> Values:
    """What each feature counts, shape (features,): its share of the model's gain.

    What the external scores are expected to be counts nothing: it is computed whatever is known.
    """
    counted = np.array([0.0 if name in EXPECTED else part for name, part in zip(names, gain, strict=True)])
    return np.round(counted * (PARTS / (counted.sum() or 1.0))) / PARTS


def unknown_share(matrix: Matrix, parts: Values) -> Values:
    """The share of the gain in features that are NaN, shape (rows,), of a matrix of shape (rows, features)."""
    share: Values = np.isnan(matrix).dot(parts)
    return share


def thin_limit(matrix: Matrix, parts: Values, history: Positions | Sequence[int]) -> float:
    """The limit for a model, from the matrix it learned from: halfway from what an ordinary applicant may lack to everything.

    Ordinary are 999 of 1,000 of these applicants, as they would be without any history; so fewer than 1 in 1,000 are thin.

    Parameters
    ----------
    history : positions of the features that need the history.
    """
    unknown = np.isnan(matrix)
    unknown[:, list(history)] = True
    return float((np.quantile(unknown.dot(parts), ORDINARY) + 1) / 2)
