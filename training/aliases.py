"""Types that the functions of training share."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]  # shape (rows,) unless a docstring gives another
Labels = NDArray[np.int8]  # shape (rows,): 1 for an applicant who defaulted, 0 for one who repaid
Positions = NDArray[np.intp]  # shape (rows,): positions of rows
Say = Callable[[str], None]  # receives progress and warnings, one line a call
