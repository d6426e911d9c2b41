"""The history tables of Home Credit: how old a row is, and the values computed from one row."""

import numpy as np

from features.history import Expression, Mask, Matrix, Window

DAYS_PER_MONTH = 30.4375
BUREAU, BALANCE, PREVIOUS, POS, INSTALMENTS, CARD = (
    "bureau", "bureau_balance", "previous_application", "POS_CASH_balance", "installments_payments", "credit_card_balance",
)  # fmt: skip

WINDOWS = {
    BUREAU: Window("DAYS_CREDIT", DAYS_PER_MONTH),
    BALANCE: Window("MONTHS_BALANCE", 1),
    PREVIOUS: Window("DAYS_DECISION", DAYS_PER_MONTH),
    POS: Window("MONTHS_BALANCE", 1),
    INSTALMENTS: Window("DAYS_INSTALMENT", DAYS_PER_MONTH),
    CARD: Window("MONTHS_BALANCE", 1),
}


def _ratio(above: Matrix, below: Matrix) -> Matrix:
    return np.asarray(above / np.where(below == 0, np.nan, below))


def _flag(true: Mask, *known: Matrix) -> Matrix:
    """1.0 where true, 0.0 where not, NaN where one of the values it needs is not known."""
    flag = np.where(true, 1.0, 0.0)
    for values in known:
        flag[np.isnan(values)] = np.nan
    return flag


def _days_past_due(status: Matrix) -> Matrix:
    """The level 0 to 5 of a month's STATUS, whose codes are 0 to 5, C (closed: 0) and X (not known)."""
    return np.where(status <= 5, status, np.where(status == 6, 0.0, np.nan))


EXPRESSIONS: dict[str, dict[str, Expression]] = {
    BUREAU: {
        "TERM": Expression("DAYS_CREDIT_ENDDATE - DAYS_CREDIT", lambda c: c("DAYS_CREDIT_ENDDATE") - c("DAYS_CREDIT")),
        "OVERRUN": Expression("DAYS_ENDDATE_FACT - DAYS_CREDIT_ENDDATE", lambda c: c("DAYS_ENDDATE_FACT") - c("DAYS_CREDIT_ENDDATE")),
        "LIFE": Expression("DAYS_ENDDATE_FACT - DAYS_CREDIT", lambda c: c("DAYS_ENDDATE_FACT") - c("DAYS_CREDIT")),
        "DEBT_SHARE": Expression("AMT_CREDIT_SUM_DEBT / AMT_CREDIT_SUM", lambda c: _ratio(c("AMT_CREDIT_SUM_DEBT"), c("AMT_CREDIT_SUM"))),
        "WAS_OVERDUE": Expression(
            "AMT_CREDIT_MAX_OVERDUE > 0", lambda c: _flag(c("AMT_CREDIT_MAX_OVERDUE") > 0, c("AMT_CREDIT_MAX_OVERDUE"))
        ),
        "IS_OVERDUE": Expression("CREDIT_DAY_OVERDUE > 0", lambda c: _flag(c("CREDIT_DAY_OVERDUE") > 0, c("CREDIT_DAY_OVERDUE"))),
    },
    BALANCE: {
        "LEVEL": Expression("level 0 to 5 of STATUS", lambda c: _days_past_due(c("STATUS"))),
        "LATE": Expression("STATUS is 1 to 5", lambda c: _flag(_days_past_due(c("STATUS")) > 0, _days_past_due(c("STATUS")))),
    },
    PREVIOUS: {
        "GRANTED": Expression("AMT_CREDIT / AMT_APPLICATION", lambda c: _ratio(c("AMT_CREDIT"), c("AMT_APPLICATION"))),
        "CREDIT_TO_GOODS": Expression("AMT_CREDIT / AMT_GOODS_PRICE", lambda c: _ratio(c("AMT_CREDIT"), c("AMT_GOODS_PRICE"))),
        "ANNUITY_SHARE": Expression("AMT_ANNUITY / AMT_CREDIT", lambda c: _ratio(c("AMT_ANNUITY"), c("AMT_CREDIT"))),
        "INTEREST": Expression(
            "AMT_ANNUITY * CNT_PAYMENT / AMT_CREDIT - 1", lambda c: _ratio(c("AMT_ANNUITY") * c("CNT_PAYMENT"), c("AMT_CREDIT")) - 1
        ),
        "EARLY_END": Expression("DAYS_LAST_DUE_1ST_VERSION - DAYS_LAST_DUE", lambda c: c("DAYS_LAST_DUE_1ST_VERSION") - c("DAYS_LAST_DUE")),
        "RUNNING": Expression(
            "DAYS_LAST_DUE_1ST_VERSION > 0", lambda c: _flag(c("DAYS_LAST_DUE_1ST_VERSION") > 0, c("DAYS_LAST_DUE_1ST_VERSION"))
        ),
    },
    POS: {
        "PAST_DUE": Expression("SK_DPD > 0", lambda c: _flag(c("SK_DPD") > 0, c("SK_DPD"))),
        "PAST_DUE_DEF": Expression("SK_DPD_DEF > 0", lambda c: _flag(c("SK_DPD_DEF") > 0, c("SK_DPD_DEF"))),
        "LEFT": Expression("CNT_INSTALMENT_FUTURE / CNT_INSTALMENT", lambda c: _ratio(c("CNT_INSTALMENT_FUTURE"), c("CNT_INSTALMENT"))),
    },
    INSTALMENTS: {
        "DELAY": Expression("DAYS_ENTRY_PAYMENT - DAYS_INSTALMENT", lambda c: c("DAYS_ENTRY_PAYMENT") - c("DAYS_INSTALMENT")),
        "DAYS_LATE": Expression(
            "max(DAYS_ENTRY_PAYMENT - DAYS_INSTALMENT, 0)", lambda c: np.maximum(c("DAYS_ENTRY_PAYMENT") - c("DAYS_INSTALMENT"), 0.0)
        ),
        "DAYS_EARLY": Expression(
            "max(DAYS_INSTALMENT - DAYS_ENTRY_PAYMENT, 0)", lambda c: np.maximum(c("DAYS_INSTALMENT") - c("DAYS_ENTRY_PAYMENT"), 0.0)
        ),
        "LATE": Expression(
            "DAYS_ENTRY_PAYMENT > DAYS_INSTALMENT",
            lambda c: _flag(c("DAYS_ENTRY_PAYMENT") > c("DAYS_INSTALMENT"), c("DAYS_ENTRY_PAYMENT"), c("DAYS_INSTALMENT")),
        ),
        "LATE_5": Expression(
            "DAYS_ENTRY_PAYMENT > DAYS_INSTALMENT + 5",
            lambda c: _flag(c("DAYS_ENTRY_PAYMENT") > c("DAYS_INSTALMENT") + 5, c("DAYS_ENTRY_PAYMENT"), c("DAYS_INSTALMENT")),
        ),
        "UNPAID": Expression("AMT_INSTALMENT - AMT_PAYMENT", lambda c: c("AMT_INSTALMENT") - c("AMT_PAYMENT")),
        "PAID_SHARE": Expression("AMT_PAYMENT / AMT_INSTALMENT", lambda c: _ratio(c("AMT_PAYMENT"), c("AMT_INSTALMENT"))),
        "UNDERPAID": Expression(
            "AMT_PAYMENT < AMT_INSTALMENT", lambda c: _flag(c("AMT_PAYMENT") < c("AMT_INSTALMENT"), c("AMT_PAYMENT"), c("AMT_INSTALMENT"))
        ),
    },
    CARD: {
        "USED": Expression("AMT_BALANCE / AMT_CREDIT_LIMIT_ACTUAL", lambda c: _ratio(c("AMT_BALANCE"), c("AMT_CREDIT_LIMIT_ACTUAL"))),
        "PAID_TO_MINIMUM": Expression(
            "AMT_PAYMENT_TOTAL_CURRENT / AMT_INST_MIN_REGULARITY",
            lambda c: _ratio(c("AMT_PAYMENT_TOTAL_CURRENT"), c("AMT_INST_MIN_REGULARITY")),
        ),
        "DREW": Expression("CNT_DRAWINGS_CURRENT > 0", lambda c: _flag(c("CNT_DRAWINGS_CURRENT") > 0, c("CNT_DRAWINGS_CURRENT"))),
        "OWES": Expression("AMT_BALANCE > 0", lambda c: _flag(c("AMT_BALANCE") > 0, c("AMT_BALANCE"))),
        "PAST_DUE": Expression("SK_DPD > 0", lambda c: _flag(c("SK_DPD") > 0, c("SK_DPD"))),
    },
}
