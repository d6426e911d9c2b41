"""From the model's margin to a calibrated PD."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """PD = 1 / (1 + exp(-(slope * margin + intercept))), the logistic calibration of Platt (1999).

    Smooth and strictly increasing, so it makes no ties and keeps the order of the applicants.
    """

    slope: float
    intercept: float

    def __post_init__(self) -> None:
        if not (self.slope > 0 and math.isfinite(self.slope) and math.isfinite(self.intercept)):
            raise ValueError(f"calibration {self} is not increasing; expected a slope above 0 and finite values")

    def apply(self, margins: Values) -> Values:
        """Calibrated PDs, shape (rows,), of margins, shape (rows,).

        Computed row by row in the C library: the vectorised exp of numpy may round a value differently
        by its place in the array, and a PD must have the same bits alone and in any batch.
        """
        return np.array([_sigmoid(self.slope * margin + self.intercept) for margin in margins.tolist()], dtype=np.float64)

    def to_dict(self) -> dict[str, Any]:
        """The calibration as it is stored."""
        return asdict(self)


def _sigmoid(value: float) -> float:
    if value >= 0:
        return 1.0 / (1.0 + math.exp(-value))
    power = math.exp(value)
    return power / (1.0 + power)
