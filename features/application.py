"""The derived features of a Home Credit application, alone and together with its aggregated history.

Every operation is elementwise or a sum of small whole numbers, so a row has the same bits alone and in any batch. NaN means not known.
A result is not known if an operand is not known or the divisor is zero; sums and extremes over several columns use the known values.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

DAYS_PER_YEAR = 365.25
EXTERNAL = ("EXT_SOURCE_1", "EXT_SOURCE_2", "EXT_SOURCE_3")
DOCUMENTS = tuple(f"FLAG_DOCUMENT_{number}" for number in range(2, 22))
ENQUIRIES = tuple(f"AMT_REQ_CREDIT_BUREAU_{span}" for span in ("HOUR", "DAY", "WEEK", "MON", "QRT", "YEAR"))
ADDRESSES = tuple(
    f"{one}_{area}_NOT_{two}_{area}" for area in ("REGION", "CITY") for one, two in (("REG", "LIVE"), ("REG", "WORK"), ("LIVE", "WORK"))
)
DOMAIN = ("DEBT_TO_INCOME_RATIO", "EMPLOYMENT_YEARS", "INCOME_PER_PERSON", "AGE_YEARS", "CREDIT_UTILIZATION")


def _known_sum(block: Values) -> Values:
    """Sum of the known values of each row; NaN where none is known."""
    total: Values = np.add.reduce(block, axis=1)
    missing = np.isnan(total)
    if np.count_nonzero(missing):  # faster than any()
        missing = np.isnan(block)
        total = np.add.reduce(np.where(missing, 0.0, block), axis=1)
        total[missing.all(axis=1)] = np.nan
    return total


def _external_mean(*weights: float) -> Callable[[Values], Values]:
    """A function for the weighted mean of the known values of each row, added from left to right."""
    weight = np.array(weights)  # numpy would convert a tuple to an array on every call

    def mean(block: Values) -> Values:
        missing = np.isnan(block)
        one, two, three = np.where(missing, 0.0, block * weight).T
        first, second, third = np.where(missing, 0.0, weight).T
        found: Values = (one + two + three) / (first + second + third)
        return found

    return mean


@dataclass(frozen=True)
class Derived:
    """A feature computed from raw columns: turns a block of shape (rows, len(columns)) into one value per row."""

    name: str
    unit: str
    columns: tuple[str, ...]
    formula: str
    compute: Callable[[Values], Values]


SIMPLE = (
    Derived("AGE_YEARS", "years", ("DAYS_BIRTH",), "-DAYS_BIRTH / 365.25", lambda x: -x[:, 0] / DAYS_PER_YEAR),
    Derived("EMPLOYMENT_YEARS", "years", ("DAYS_EMPLOYED",), "-DAYS_EMPLOYED / 365.25", lambda x: -x[:, 0] / DAYS_PER_YEAR),
    Derived("EXT_SOURCE_MEAN", "score", EXTERNAL, "mean of the known EXT_SOURCE_1, 2, 3", _external_mean(1.0, 1.0, 1.0)),
    Derived(
        "EXT_SOURCE_WEIGHTED_MEAN",
        "score",
        EXTERNAL,
        "mean of the known EXT_SOURCE_1, 2, 3 with weights 2, 3, 4",
        _external_mean(2.0, 3.0, 4.0),
    ),
    Derived("EXT_SOURCE_MIN", "score", EXTERNAL, "least of the known EXT_SOURCE_1, 2, 3", lambda x: np.fmin.reduce(x, axis=1)),
    Derived("EXT_SOURCE_MAX", "score", EXTERNAL, "greatest of the known EXT_SOURCE_1, 2, 3", lambda x: np.fmax.reduce(x, axis=1)),
    Derived("EXT_SOURCE_1_X_2", "score", EXTERNAL[:2], "EXT_SOURCE_1 * EXT_SOURCE_2", lambda x: x[:, 0] * x[:, 1]),
    Derived("EXT_SOURCE_1_X_3", "score", EXTERNAL[::2], "EXT_SOURCE_1 * EXT_SOURCE_3", lambda x: x[:, 0] * x[:, 1]),
    Derived("EXT_SOURCE_2_X_3", "score", EXTERNAL[1:], "EXT_SOURCE_2 * EXT_SOURCE_3", lambda x: x[:, 0] * x[:, 1]),
    Derived(
        "CREDIT_ABOVE_GOODS",
        "currency",
        ("AMT_CREDIT", "AMT_GOODS_PRICE"),
        "AMT_CREDIT - AMT_GOODS_PRICE",
        lambda x: x[:, 0] - x[:, 1],
    ),
    Derived("DOCUMENT_COUNT", "count", DOCUMENTS, "sum of the known FLAG_DOCUMENT_2 to 21", _known_sum),
    Derived("ENQUIRY_COUNT", "count", ENQUIRIES, "sum of the known AMT_REQ_CREDIT_BUREAU_*", _known_sum),
    Derived("ADDRESS_MISMATCHES", "count", ADDRESSES, "sum of the known *_NOT_LIVE_* and *_NOT_WORK_*", _known_sum),
)

# name: numerator, denominator (raw columns, names of SIMPLE or aggregates)
RATIOS: dict[str, tuple[str, str]] = {
    "DEBT_TO_INCOME_RATIO": ("AMT_ANNUITY", "AMT_INCOME_TOTAL"),
    "CREDIT_UTILIZATION": ("AMT_CREDIT", "AMT_GOODS_PRICE"),
    "INCOME_PER_PERSON": ("AMT_INCOME_TOTAL", "CNT_FAM_MEMBERS"),
    "ANNUITY_TO_CREDIT": ("AMT_ANNUITY", "AMT_CREDIT"),
    "CREDIT_TO_INCOME": ("AMT_CREDIT", "AMT_INCOME_TOTAL"),
    "GOODS_TO_INCOME": ("AMT_GOODS_PRICE", "AMT_INCOME_TOTAL"),
    "EMPLOYED_TO_AGE": ("DAYS_EMPLOYED", "DAYS_BIRTH"),
    "REGISTRATION_TO_AGE": ("DAYS_REGISTRATION", "DAYS_BIRTH"),
    "ID_PUBLISH_TO_AGE": ("DAYS_ID_PUBLISH", "DAYS_BIRTH"),
    "PHONE_CHANGE_TO_AGE": ("DAYS_LAST_PHONE_CHANGE", "DAYS_BIRTH"),
    "PHONE_CHANGE_TO_EMPLOYED": ("DAYS_LAST_PHONE_CHANGE", "DAYS_EMPLOYED"),
    "CAR_AGE_TO_AGE": ("OWN_CAR_AGE", "AGE_YEARS"),
    "CAR_AGE_TO_EMPLOYED": ("OWN_CAR_AGE", "EMPLOYMENT_YEARS"),
    "CHILDREN_TO_FAMILY": ("CNT_CHILDREN", "CNT_FAM_MEMBERS"),
    "INCOME_TO_EMPLOYED": ("AMT_INCOME_TOTAL", "EMPLOYMENT_YEARS"),
    "INCOME_TO_AGE": ("AMT_INCOME_TOTAL", "AGE_YEARS"),
    "DEFAULTS_AROUND": ("DEF_30_CNT_SOCIAL_CIRCLE", "OBS_30_CNT_SOCIAL_CIRCLE"),
    # this loan and this client compared with the history
    "BUREAU_DEBT_TO_INCOME": ("BUREAU_DEBT_SUM_ACTIVE", "AMT_INCOME_TOTAL"),
    "BUREAU_CREDIT_TO_INCOME": ("BUREAU_CREDIT_SUM_ACTIVE", "AMT_INCOME_TOTAL"),
    "BUREAU_ANNUITY_TO_INCOME": ("BUREAU_ANNUITY_SUM", "AMT_INCOME_TOTAL"),
    "BUREAU_DEBT_TO_CREDIT": ("BUREAU_DEBT_SUM", "BUREAU_CREDIT_SUM"),
    "BUREAU_ACTIVE_DEBT_TO_CREDIT": ("BUREAU_DEBT_SUM_ACTIVE", "BUREAU_CREDIT_SUM_ACTIVE"),
    "BUREAU_OVERDUE_TO_DEBT": ("BUREAU_OVERDUE_SUM", "BUREAU_DEBT_SUM"),
    "BUREAU_DEBT_TO_THIS_CREDIT": ("BUREAU_DEBT_SUM", "AMT_CREDIT"),
    "THIS_CREDIT_TO_BUREAU_MEAN": ("AMT_CREDIT", "BUREAU_CREDIT_MEAN"),
    "BUREAU_LOANS_TO_AGE": ("BUREAU_LOANS", "AGE_YEARS"),
    "THIS_CREDIT_TO_PREVIOUS_MAX": ("AMT_CREDIT", "PREVIOUS_CREDIT_MAX_APPROVED"),
    "THIS_CREDIT_TO_PREVIOUS_MEAN": ("AMT_CREDIT", "PREVIOUS_CREDIT_MEAN"),
    "THIS_ANNUITY_TO_PREVIOUS_MEAN": ("AMT_ANNUITY", "PREVIOUS_ANNUITY_MEAN_APPROVED"),
    "THIS_ANNUITY_TO_PREVIOUS_MAX": ("AMT_ANNUITY", "PREVIOUS_ANNUITY_MAX_APPROVED"),
    "PREVIOUS_ANNUITY_TO_INCOME": ("PREVIOUS_ANNUITY_MEAN_APPROVED", "AMT_INCOME_TOTAL"),
    "PAYMENTS_TO_INCOME": ("INSTALMENT_PAYMENT_SUM_12M", "AMT_INCOME_TOTAL"),
    "THIS_ANNUITY_TO_PAYMENT_MEAN": ("AMT_ANNUITY", "INSTALMENT_PAYMENT_MEAN"),
    "CARD_BALANCE_TO_INCOME": ("CARD_BALANCE_MEAN_6M", "AMT_INCOME_TOTAL"),
    "CARD_LIMIT_TO_INCOME": ("CARD_LIMIT_MAX", "AMT_INCOME_TOTAL"),
    "CARD_PAYMENT_TO_BALANCE": ("CARD_PAYMENT_MEAN", "CARD_BALANCE_MEAN"),
    "CARD_ATM_SHARE": ("CARD_ATM_AMOUNT_MEAN", "CARD_AMOUNT_MEAN"),
}

# name: the external score that it predicts from the rest of the application
EXPECTED = {f"{name}_EXPECTED": name for name in EXTERNAL}

# name: minuend, subtrahend: trends (the last months minus all), and external scores minus their expected values
DIFFERENCES: dict[str, tuple[str, str]] = {
    **{f"{name}_RESIDUAL": (name, expected) for expected, name in EXPECTED.items()},
    "BUREAU_CREDIT_CHANGE_12M": ("BUREAU_CREDIT_MEAN_12M", "BUREAU_CREDIT_MEAN"),
    "BALANCE_LATE_CHANGE_12M": ("BALANCE_LATE_SHARE_12M", "BALANCE_LATE_SHARE"),
    "PREVIOUS_INTEREST_CHANGE_24M": ("PREVIOUS_INTEREST_MEAN_24M", "PREVIOUS_INTEREST_MEAN"),
    "POS_LATE_CHANGE_12M": ("POS_LATE_SHARE_12M", "POS_LATE_SHARE"),
    "POS_FUTURE_CHANGE_6M": ("POS_FUTURE_MEAN_6M", "POS_FUTURE_MEAN"),
    "INSTALMENT_LATE_CHANGE_6M": ("INSTALMENT_LATE_SHARE_6M", "INSTALMENT_LATE_SHARE"),
    "INSTALMENT_LATE_CHANGE_12M": ("INSTALMENT_LATE_SHARE_12M", "INSTALMENT_LATE_SHARE"),
    "INSTALMENT_EARLY_CHANGE_12M": ("INSTALMENT_DAYS_EARLY_MEAN_12M", "INSTALMENT_DAYS_EARLY_MEAN"),
    "CARD_USED_CHANGE_6M": ("CARD_USED_MEAN_6M", "CARD_USED_MEAN"),
    "CARD_BALANCE_CHANGE_6M": ("CARD_BALANCE_MEAN_6M", "CARD_BALANCE_MEAN"),
    "CARD_DRAWINGS_CHANGE_12M": ("CARD_DRAWINGS_MEAN_12M", "CARD_DRAWINGS_MEAN"),
    "CARD_ATM_CHANGE_6M": ("CARD_ATM_DRAWINGS_MEAN_6M", "CARD_ATM_DRAWINGS_MEAN"),
}
