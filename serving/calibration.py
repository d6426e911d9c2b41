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

    It is smooth and strictly increasing, so it creates no ties and keeps the order of the applicants.
    """

    slope: float
    intercept: float

    def __post_init__(self) -> None:
        if not (self.slope > 0 and math.isfinite(self.slope) and math.isfinite(self.intercept)):
            raise ValueError(f"calibration {self} is not increasing; expected a slope above 0 and finite values")

    def apply(self, margins: Values) -> Values:
        """Calibrated PDs, shape (rows,), in [0, 1], of margins, shape (rows,).

        Each row is computed on its own by the C library. The vectorised exp of numpy may round a value differently
        depending on its place in the array, but a PD must have the same bits alone and in any batch.
        """
        return np.array([_sigmoid(self.slope * margin + self.intercept) for margin in margins.tolist()], dtype=np.float64)

    def to_dict(self) -> dict[str, Any]:
        """The calibration as the bundle stores it."""
        return asdict(self)


def _sigmoid(value: float) -> float:
    if value >= 0:
        return 1.0 / (1.0 + math.exp(-value))
    power = math.exp(value)
    return power / (1.0 + power)
