"""What is computed from the history of a Home Credit client: one aggregate a line, from the rows of one table.

Relations between aggregates, and between them and the application, are RATIOS and DIFFERENCES of features/application.py.
"""

import numpy as np

from features.history import Aggregate, Expression, Mask, Matrix, Window

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

ACTIVE, CLOSED = ("CREDIT_ACTIVE", "Active"), ("CREDIT_ACTIVE", "Closed")
CONSUMER, CREDIT_CARD, MICROLOAN, MORTGAGE, CAR_LOAN = (
    ("CREDIT_TYPE", kind) for kind in ("Consumer credit", "Credit card", "Microloan", "Mortgage", "Car loan")
)
APPROVED, REFUSED, CANCELED, UNUSED = (("NAME_CONTRACT_STATUS", state) for state in ("Approved", "Refused", "Canceled", "Unused offer"))
CASH, GOODS, REVOLVING = (("NAME_CONTRACT_TYPE", kind) for kind in ("Cash loans", "Consumer loans", "Revolving loans"))

# an aggregate is a line
# fmt: off
AGGREGATES = (
    # counts and recency of loans at other lenders
    Aggregate("BUREAU_LOANS", BUREAU, "count", "", "count", "number of loans at other lenders"),
    Aggregate("BUREAU_LOANS_ACTIVE", BUREAU, "count", "", "count", "number of active loans at other lenders", ACTIVE),
    Aggregate("BUREAU_LOANS_CLOSED", BUREAU, "count", "", "count", "number of closed loans at other lenders", CLOSED),
    Aggregate("BUREAU_ACTIVE_SHARE", BUREAU, "share", "", "share", "share of loans at other lenders that are active", ACTIVE),
    Aggregate("BUREAU_LOANS_6M", BUREAU, "count", "", "count", "loans taken at other lenders in the last 6 months", (), 6),
    Aggregate("BUREAU_LOANS_12M", BUREAU, "count", "", "count", "loans taken at other lenders in the last 12 months", (), 12),
    Aggregate("BUREAU_LOANS_24M", BUREAU, "count", "", "count", "loans taken at other lenders in the last 24 months", (), 24),
    Aggregate("BUREAU_RECENT_SHARE", BUREAU, "share", "", "share", "share of loans at other lenders taken in the last 12 months", (), 12),
    Aggregate("BUREAU_MICROLOANS", BUREAU, "count", "", "count", "number of microloans at other lenders", MICROLOAN),
    Aggregate("BUREAU_CARDS", BUREAU, "count", "", "count", "number of credit cards at other lenders", CREDIT_CARD),
    Aggregate("BUREAU_CARD_SHARE", BUREAU, "share", "", "share", "share of credit cards among loans at other lenders", CREDIT_CARD),
    Aggregate("BUREAU_CONSUMER_SHARE", BUREAU, "share", "", "share", "share of consumer loans among loans at other lenders", CONSUMER),
    Aggregate("BUREAU_MORTGAGES", BUREAU, "count", "", "count", "number of mortgages at other lenders", MORTGAGE),
    Aggregate("BUREAU_CAR_LOANS", BUREAU, "count", "", "count", "number of car loans at other lenders", CAR_LOAN),
    Aggregate("BUREAU_SOLD", BUREAU, "count", "", "count", "loans at other lenders that were sold or are bad debt", ("CREDIT_ACTIVE", "Sold", "Bad debt")),
    Aggregate("BUREAU_DAYS_LATEST", BUREAU, "max", "DAYS_CREDIT", "days", "time since the latest loan at another lender"),
    Aggregate("BUREAU_DAYS_FIRST", BUREAU, "min", "DAYS_CREDIT", "days", "length of the credit history at other lenders"),
    Aggregate("BUREAU_DAYS_MEAN", BUREAU, "mean", "DAYS_CREDIT", "days", "mean age of loans at other lenders"),
    Aggregate("BUREAU_DAYS_LATEST_ACTIVE", BUREAU, "max", "DAYS_CREDIT", "days", "time since the latest active loan at another lender", ACTIVE),
    Aggregate("BUREAU_DAYS_MEAN_ACTIVE", BUREAU, "mean", "DAYS_CREDIT", "days", "mean age of active loans at other lenders", ACTIVE),
    Aggregate("BUREAU_DAYS_LATEST_CONSUMER", BUREAU, "max", "DAYS_CREDIT", "days", "time since the latest consumer loan at another lender", CONSUMER),
    Aggregate("BUREAU_DAYS_LATEST_CARD", BUREAU, "max", "DAYS_CREDIT", "days", "time since the latest credit card at another lender", CREDIT_CARD),
    Aggregate("BUREAU_END_LATEST", BUREAU, "max", "DAYS_CREDIT_ENDDATE", "days", "planned end of the longest loan at another lender"),
    Aggregate("BUREAU_END_MEAN", BUREAU, "mean", "DAYS_CREDIT_ENDDATE", "days", "mean planned end of loans at other lenders"),
    Aggregate("BUREAU_END_MEAN_ACTIVE", BUREAU, "mean", "DAYS_CREDIT_ENDDATE", "days", "mean planned end of active loans at other lenders", ACTIVE),
    Aggregate("BUREAU_ENDED_LATEST", BUREAU, "max", "DAYS_ENDDATE_FACT", "days", "time since a loan at another lender was last closed"),
    Aggregate("BUREAU_ENDED_MEAN", BUREAU, "mean", "DAYS_ENDDATE_FACT", "days", "mean time since loans at other lenders were closed"),
    Aggregate("BUREAU_OVERRUN_MEAN", BUREAU, "mean", "OVERRUN", "days", "how much later than planned loans at other lenders were closed"),
    Aggregate("BUREAU_TERM_MEAN", BUREAU, "mean", "TERM", "days", "mean term of loans at other lenders"),
    Aggregate("BUREAU_TERM_MEAN_CONSUMER", BUREAU, "mean", "TERM", "days", "mean term of consumer loans at other lenders", CONSUMER),
    Aggregate("BUREAU_LIFE_MEAN", BUREAU, "mean", "LIFE", "days", "how long loans at other lenders lasted"),
    Aggregate("BUREAU_UPDATE_LATEST", BUREAU, "max", "DAYS_CREDIT_UPDATE", "days", "time since the bureau last heard of a loan"),
    Aggregate("BUREAU_UPDATE_MEAN", BUREAU, "mean", "DAYS_CREDIT_UPDATE", "days", "mean age of what the bureau knows"),
    # amounts, debt, late payment at other lenders
    Aggregate("BUREAU_CREDIT_SUM", BUREAU, "sum", "AMT_CREDIT_SUM", "currency", "total amount of loans at other lenders"),
    Aggregate("BUREAU_CREDIT_SUM_ACTIVE", BUREAU, "sum", "AMT_CREDIT_SUM", "currency", "total amount of active loans at other lenders", ACTIVE),
    Aggregate("BUREAU_CREDIT_MEAN", BUREAU, "mean", "AMT_CREDIT_SUM", "currency", "mean amount of loans at other lenders"),
    Aggregate("BUREAU_CREDIT_MAX", BUREAU, "max", "AMT_CREDIT_SUM", "currency", "largest loan at another lender"),
    Aggregate("BUREAU_CREDIT_MEAN_12M", BUREAU, "mean", "AMT_CREDIT_SUM", "currency", "mean amount of loans at other lenders of the last 12 months", (), 12),
    Aggregate("BUREAU_DEBT_SUM", BUREAU, "sum", "AMT_CREDIT_SUM_DEBT", "currency", "total debt at other lenders"),
    Aggregate("BUREAU_DEBT_SUM_ACTIVE", BUREAU, "sum", "AMT_CREDIT_SUM_DEBT", "currency", "total debt on active loans at other lenders", ACTIVE),
    Aggregate("BUREAU_DEBT_MEAN", BUREAU, "mean", "AMT_CREDIT_SUM_DEBT", "currency", "mean debt on loans at other lenders"),
    Aggregate("BUREAU_DEBT_MAX", BUREAU, "max", "AMT_CREDIT_SUM_DEBT", "currency", "largest debt at another lender"),
    Aggregate("BUREAU_DEBT_SHARE_MEAN", BUREAU, "mean", "DEBT_SHARE", "share", "mean share of loans at other lenders that is still owed"),
    Aggregate("BUREAU_DEBT_SHARE_MEAN_ACTIVE", BUREAU, "mean", "DEBT_SHARE", "share", "mean share of active loans at other lenders that is still owed", ACTIVE),
    Aggregate("BUREAU_DEBT_SHARE_MEAN_CARD", BUREAU, "mean", "DEBT_SHARE", "share", "mean use of credit cards at other lenders", CREDIT_CARD),
    Aggregate("BUREAU_DEBT_SUM_CARD", BUREAU, "sum", "AMT_CREDIT_SUM_DEBT", "currency", "debt on credit cards at other lenders", CREDIT_CARD),
    Aggregate("BUREAU_LIMIT_SUM", BUREAU, "sum", "AMT_CREDIT_SUM_LIMIT", "currency", "total limit of credit cards at other lenders"),
    Aggregate("BUREAU_ANNUITY_SUM", BUREAU, "sum", "AMT_ANNUITY", "currency", "total annuity of loans at other lenders"),
    Aggregate("BUREAU_ANNUITY_MEAN", BUREAU, "mean", "AMT_ANNUITY", "currency", "mean annuity of loans at other lenders"),
    Aggregate("BUREAU_OVERDUE_SUM", BUREAU, "sum", "AMT_CREDIT_SUM_OVERDUE", "currency", "total amount overdue at other lenders"),
    Aggregate("BUREAU_OVERDUE_MAX", BUREAU, "max", "AMT_CREDIT_MAX_OVERDUE", "currency", "largest amount ever overdue at another lender"),
    Aggregate("BUREAU_OVERDUE_MEAN", BUREAU, "mean", "AMT_CREDIT_MAX_OVERDUE", "currency", "mean of the largest amounts overdue at other lenders"),
    Aggregate("BUREAU_OVERDUE_SHARE", BUREAU, "mean", "WAS_OVERDUE", "share", "share of loans at other lenders that were ever overdue"),
    Aggregate("BUREAU_OVERDUE_LOANS", BUREAU, "sum", "IS_OVERDUE", "count", "number of loans at other lenders that are overdue"),
    Aggregate("BUREAU_PROLONGED", BUREAU, "sum", "CNT_CREDIT_PROLONG", "count", "how often loans at other lenders were prolonged"),
    # months of loans at other lenders
    Aggregate("BALANCE_LOANS", BALANCE, "loans", "", "count", "loans at other lenders whose months are known"),
    Aggregate("BALANCE_MONTHS", BALANCE, "count", "", "count", "months that are known of loans at other lenders"),
    Aggregate("BALANCE_FIRST", BALANCE, "min", "MONTHS_BALANCE", "months", "how far back the months of loans at other lenders go"),
    Aggregate("BALANCE_LATE_SHARE", BALANCE, "mean", "LATE", "share", "share of months past due at other lenders"),
    Aggregate("BALANCE_LATE_SHARE_6M", BALANCE, "mean", "LATE", "share", "share of months past due at other lenders, last 6 months", (), 6),
    Aggregate("BALANCE_LATE_SHARE_12M", BALANCE, "mean", "LATE", "share", "share of months past due at other lenders, last 12 months", (), 12),
    Aggregate("BALANCE_LATE_SHARE_24M", BALANCE, "mean", "LATE", "share", "share of months past due at other lenders, last 24 months", (), 24),
    Aggregate("BALANCE_LEVEL_MAX", BALANCE, "max", "LEVEL", "level", "worst state of a loan at another lender"),
    Aggregate("BALANCE_LEVEL_MAX_12M", BALANCE, "max", "LEVEL", "level", "worst state of a loan at another lender in the last 12 months", (), 12),
    Aggregate("BALANCE_LEVEL_MEAN", BALANCE, "mean", "LEVEL", "level", "mean state of loans at other lenders"),
    Aggregate("BALANCE_CLOSED_SHARE", BALANCE, "share", "", "share", "share of months after the end of loans at other lenders", ("STATUS", "C")),
    Aggregate("BALANCE_UNKNOWN_SHARE", BALANCE, "share", "", "share", "share of months with an unknown state at other lenders", ("STATUS", "X")),
    Aggregate("BALANCE_ON_TIME_SHARE", BALANCE, "share", "", "share", "share of months of running loans without delay at other lenders", ("STATUS", "0")),
    # former applications: counts, recency, what became of them
    Aggregate("PREVIOUS_APPLICATIONS", PREVIOUS, "count", "", "count", "number of former applications"),
    Aggregate("PREVIOUS_APPROVED", PREVIOUS, "count", "", "count", "number of former loans", APPROVED),
    Aggregate("PREVIOUS_REFUSED", PREVIOUS, "count", "", "count", "number of refused applications", REFUSED),
    Aggregate("PREVIOUS_REFUSED_12M", PREVIOUS, "count", "", "count", "applications refused in the last 12 months", REFUSED, 12),
    Aggregate("PREVIOUS_REFUSED_24M", PREVIOUS, "count", "", "count", "applications refused in the last 24 months", REFUSED, 24),
    Aggregate("PREVIOUS_APPLICATIONS_6M", PREVIOUS, "count", "", "count", "former applications of the last 6 months", (), 6),
    Aggregate("PREVIOUS_APPLICATIONS_12M", PREVIOUS, "count", "", "count", "former applications of the last 12 months", (), 12),
    Aggregate("PREVIOUS_APPROVED_SHARE", PREVIOUS, "share", "", "share", "share of former applications that were approved", APPROVED),
    Aggregate("PREVIOUS_REFUSED_SHARE", PREVIOUS, "share", "", "share", "share of former applications that were refused", REFUSED),
    Aggregate("PREVIOUS_CANCELED_SHARE", PREVIOUS, "share", "", "share", "share of former applications that were cancelled", CANCELED),
    Aggregate("PREVIOUS_UNUSED", PREVIOUS, "count", "", "count", "number of offers not used", UNUSED),
    Aggregate("PREVIOUS_CASH", PREVIOUS, "count", "", "count", "number of applications for cash loans", CASH),
    Aggregate("PREVIOUS_GOODS", PREVIOUS, "count", "", "count", "number of applications for loans for goods", GOODS),
    Aggregate("PREVIOUS_REVOLVING", PREVIOUS, "count", "", "count", "number of applications for revolving loans", REVOLVING),
    Aggregate("PREVIOUS_REVOLVING_SHARE", PREVIOUS, "share", "", "share", "share of revolving loans among former applications", REVOLVING),
    Aggregate("PREVIOUS_CASH_SHARE", PREVIOUS, "share", "", "share", "share of cash loans among former applications", CASH),
    Aggregate("PREVIOUS_SCORE_REFUSED", PREVIOUS, "count", "", "count", "applications refused for the score", ("CODE_REJECT_REASON", "SCO", "SCOFR")),
    Aggregate("PREVIOUS_LIMIT_REFUSED", PREVIOUS, "count", "", "count", "applications refused for the limit", ("CODE_REJECT_REASON", "LIMIT")),
    Aggregate("PREVIOUS_HC_REFUSED", PREVIOUS, "count", "", "count", "applications refused by the lender's rules", ("CODE_REJECT_REASON", "HC")),
    Aggregate("PREVIOUS_HIGH_YIELD_SHARE", PREVIOUS, "share", "", "share", "share of former applications at high interest", ("NAME_YIELD_GROUP", "high")),
    Aggregate("PREVIOUS_LOW_YIELD_SHARE", PREVIOUS, "share", "", "share", "share of former applications at low interest", ("NAME_YIELD_GROUP", "low_normal", "low_action")),
    Aggregate("PREVIOUS_NEW_SHARE", PREVIOUS, "share", "", "share", "share of former applications as a new client", ("NAME_CLIENT_TYPE", "New")),
    Aggregate("PREVIOUS_WALK_IN_SHARE", PREVIOUS, "share", "", "share", "share of walk-in cash loans among former applications", ("NAME_PRODUCT_TYPE", "walk-in")),
    Aggregate("PREVIOUS_XSELL_SHARE", PREVIOUS, "share", "", "share", "share of cross-sold loans among former applications", ("NAME_PRODUCT_TYPE", "x-sell")),
    Aggregate("PREVIOUS_AGENT_SHARE", PREVIOUS, "share", "", "share", "share of former applications through agents", ("CHANNEL_TYPE", "AP+ (Cash loan)")),
    Aggregate("PREVIOUS_STREET_CASH_SHARE", PREVIOUS, "share", "", "share", "share of cash loans without an offer among former applications", ("PRODUCT_COMBINATION", "Cash Street: high", "Cash Street: middle", "Cash Street: low")),
    Aggregate("PREVIOUS_INDUSTRY_SHARE", PREVIOUS, "share", "", "share", "share of loans for goods of industry among former applications", ("PRODUCT_COMBINATION", "POS industry with interest", "POS industry without interest")),
    Aggregate("PREVIOUS_MOBILE_SHARE", PREVIOUS, "share", "", "share", "share of loans for mobile phones among former applications", ("PRODUCT_COMBINATION", "POS mobile with interest", "POS mobile without interest")),
    Aggregate("PREVIOUS_DAYS_LATEST", PREVIOUS, "max", "DAYS_DECISION", "days", "time since the latest former application"),
    Aggregate("PREVIOUS_DAYS_FIRST", PREVIOUS, "min", "DAYS_DECISION", "days", "time since the first application at this lender"),
    Aggregate("PREVIOUS_DAYS_MEAN", PREVIOUS, "mean", "DAYS_DECISION", "days", "mean age of former applications"),
    Aggregate("PREVIOUS_DAYS_LATEST_REFUSED", PREVIOUS, "max", "DAYS_DECISION", "days", "time since the latest refusal", REFUSED),
    Aggregate("PREVIOUS_DAYS_LATEST_APPROVED", PREVIOUS, "max", "DAYS_DECISION", "days", "time since the latest approval", APPROVED),
    Aggregate("PREVIOUS_DAYS_FIRST_APPROVED", PREVIOUS, "min", "DAYS_DECISION", "days", "time since the first approval", APPROVED),
    # former applications: amounts and terms
    Aggregate("PREVIOUS_CREDIT_MEAN", PREVIOUS, "mean", "AMT_CREDIT", "currency", "mean amount of former applications"),
    Aggregate("PREVIOUS_CREDIT_MEAN_APPROVED", PREVIOUS, "mean", "AMT_CREDIT", "currency", "mean amount of former loans", APPROVED),
    Aggregate("PREVIOUS_CREDIT_MAX_APPROVED", PREVIOUS, "max", "AMT_CREDIT", "currency", "largest former loan", APPROVED),
    Aggregate("PREVIOUS_ANNUITY_MEAN", PREVIOUS, "mean", "AMT_ANNUITY", "currency", "mean annuity of former applications"),
    Aggregate("PREVIOUS_ANNUITY_MEAN_APPROVED", PREVIOUS, "mean", "AMT_ANNUITY", "currency", "mean annuity of former loans", APPROVED),
    Aggregate("PREVIOUS_ANNUITY_MAX_APPROVED", PREVIOUS, "max", "AMT_ANNUITY", "currency", "largest annuity of a former loan", APPROVED),
    Aggregate("PREVIOUS_GRANTED_MEAN", PREVIOUS, "mean", "GRANTED", "ratio", "amounts granted to amounts asked for"),
    Aggregate("PREVIOUS_GRANTED_MIN", PREVIOUS, "min", "GRANTED", "ratio", "least amount granted to amount asked for"),
    Aggregate("PREVIOUS_GRANTED_MAX", PREVIOUS, "max", "GRANTED", "ratio", "greatest amount granted to amount asked for"),
    Aggregate("PREVIOUS_CREDIT_TO_GOODS_MEAN", PREVIOUS, "mean", "CREDIT_TO_GOODS", "ratio", "former loans to the price of goods"),
    Aggregate("PREVIOUS_ANNUITY_SHARE_MEAN", PREVIOUS, "mean", "ANNUITY_SHARE", "ratio", "annuity to amount of former loans", APPROVED),
    Aggregate("PREVIOUS_INTEREST_MEAN", PREVIOUS, "mean", "INTEREST", "ratio", "mean interest of former loans", APPROVED),
    Aggregate("PREVIOUS_INTEREST_MAX", PREVIOUS, "max", "INTEREST", "ratio", "highest interest of a former loan", APPROVED),
    Aggregate("PREVIOUS_INTEREST_MEAN_24M", PREVIOUS, "mean", "INTEREST", "ratio", "mean interest of former loans of the last 24 months", APPROVED, 24),
    Aggregate("PREVIOUS_DOWN_PAYMENT_MEAN", PREVIOUS, "mean", "RATE_DOWN_PAYMENT", "share", "mean rate of down payment"),
    Aggregate("PREVIOUS_DOWN_PAYMENT_MAX", PREVIOUS, "max", "RATE_DOWN_PAYMENT", "share", "highest rate of down payment"),
    Aggregate("PREVIOUS_DOWN_PAYMENT_AMOUNT_MAX", PREVIOUS, "max", "AMT_DOWN_PAYMENT", "currency", "largest down payment"),
    Aggregate("PREVIOUS_TERM_MEAN", PREVIOUS, "mean", "CNT_PAYMENT", "months", "mean term of former applications"),
    Aggregate("PREVIOUS_TERM_MEAN_APPROVED", PREVIOUS, "mean", "CNT_PAYMENT", "months", "mean term of former loans", APPROVED),
    Aggregate("PREVIOUS_TERM_MAX_APPROVED", PREVIOUS, "max", "CNT_PAYMENT", "months", "longest term of a former loan", APPROVED),
    Aggregate("PREVIOUS_TERM_MEAN_REFUSED", PREVIOUS, "mean", "CNT_PAYMENT", "months", "mean term of refused applications", REFUSED),
    Aggregate("PREVIOUS_HOUR_MEAN", PREVIOUS, "mean", "HOUR_APPR_PROCESS_START", "hour", "mean hour of former applications"),
    Aggregate("PREVIOUS_SELLER_AREA_MEAN", PREVIOUS, "mean", "SELLERPLACE_AREA", "square metres", "mean area of the sellers' places"),
    Aggregate("PREVIOUS_INSURED_SHARE", PREVIOUS, "mean", "NFLAG_INSURED_ON_APPROVAL", "share", "share of former loans with insurance"),
    Aggregate("PREVIOUS_FIRST_DRAWING_MAX", PREVIOUS, "max", "DAYS_FIRST_DRAWING", "days", "time since the latest first drawing"),
    Aggregate("PREVIOUS_FIRST_DUE_MAX", PREVIOUS, "max", "DAYS_FIRST_DUE", "days", "time since the latest first due date"),
    Aggregate("PREVIOUS_PLANNED_END_MAX", PREVIOUS, "max", "DAYS_LAST_DUE_1ST_VERSION", "days", "latest planned end of a former loan"),
    Aggregate("PREVIOUS_PLANNED_END_MEAN", PREVIOUS, "mean", "DAYS_LAST_DUE_1ST_VERSION", "days", "mean planned end of former loans"),
    Aggregate("PREVIOUS_LAST_DUE_MAX", PREVIOUS, "max", "DAYS_LAST_DUE", "days", "time since the latest last due date"),
    Aggregate("PREVIOUS_TERMINATED_MEAN", PREVIOUS, "mean", "DAYS_TERMINATION", "days", "mean time since former loans ended"),
    Aggregate("PREVIOUS_EARLY_END_MEAN", PREVIOUS, "mean", "EARLY_END", "days", "how much earlier than planned former loans ended"),
    Aggregate("PREVIOUS_RUNNING", PREVIOUS, "sum", "RUNNING", "count", "former loans planned to run still"),
    # months of instalment loans
    Aggregate("POS_LOANS", POS, "loans", "", "count", "number of instalment loans"),
    Aggregate("POS_MONTHS", POS, "count", "", "count", "months of instalment loans"),
    Aggregate("POS_LATEST", POS, "max", "MONTHS_BALANCE", "months", "time since the latest month of an instalment loan"),
    Aggregate("POS_FIRST", POS, "min", "MONTHS_BALANCE", "months", "length of the history of instalment loans"),
    Aggregate("POS_TERM_MEAN", POS, "mean", "CNT_INSTALMENT", "months", "mean term of instalment loans"),
    Aggregate("POS_TERM_MIN", POS, "min", "CNT_INSTALMENT", "months", "shortest term of an instalment loan"),
    Aggregate("POS_FUTURE_MEAN", POS, "mean", "CNT_INSTALMENT_FUTURE", "count", "mean number of instalments left to pay"),
    Aggregate("POS_FUTURE_MEAN_6M", POS, "mean", "CNT_INSTALMENT_FUTURE", "count", "mean number of instalments left to pay, last 6 months", (), 6),
    Aggregate("POS_FUTURE_MIN", POS, "min", "CNT_INSTALMENT_FUTURE", "count", "least number of instalments left to pay"),
    Aggregate("POS_FUTURE_MAX_6M", POS, "max", "CNT_INSTALMENT_FUTURE", "count", "most instalments left to pay, last 6 months", (), 6),
    Aggregate("POS_LEFT_MEAN", POS, "mean", "LEFT", "share", "mean share of instalments left to pay"),
    Aggregate("POS_COMPLETED_SHARE", POS, "share", "", "share", "share of months in which an instalment loan was completed", ("NAME_CONTRACT_STATUS", "Completed")),
    Aggregate("POS_COMPLETED", POS, "count", "", "count", "number of completed instalment loans", ("NAME_CONTRACT_STATUS", "Completed")),
    Aggregate("POS_RETURNED", POS, "count", "", "count", "goods returned to the store", ("NAME_CONTRACT_STATUS", "Returned to the store")),
    Aggregate("POS_LATE_SHARE", POS, "mean", "PAST_DUE", "share", "share of months past due on instalment loans"),
    Aggregate("POS_LATE_SHARE_12M", POS, "mean", "PAST_DUE", "share", "share of months past due on instalment loans, last 12 months", (), 12),
    Aggregate("POS_LATE_SHARE_24M", POS, "mean", "PAST_DUE", "share", "share of months past due on instalment loans, last 24 months", (), 24),
    Aggregate("POS_LATE_DEF_SHARE", POS, "mean", "PAST_DUE_DEF", "share", "share of months past due on instalment loans, small debts left out"),
    Aggregate("POS_LATE_DEF_SHARE_12M", POS, "mean", "PAST_DUE_DEF", "share", "share of months past due, small debts left out, last 12 months", (), 12),
    Aggregate("POS_DPD_MAX", POS, "max", "SK_DPD", "days", "most days past due on an instalment loan"),
    Aggregate("POS_DPD_DEF_MAX", POS, "max", "SK_DPD_DEF", "days", "most days past due on an instalment loan, small debts left out"),
    # payments of instalments
    Aggregate("INSTALMENT_LOANS", INSTALMENTS, "loans", "", "count", "number of loans with instalments"),
    Aggregate("INSTALMENT_COUNT", INSTALMENTS, "count", "", "count", "number of payments of instalments"),
    Aggregate("INSTALMENT_COUNT_12M", INSTALMENTS, "count", "", "count", "payments of instalments, last 12 months", (), 12),
    Aggregate("INSTALMENT_LATEST", INSTALMENTS, "max", "DAYS_ENTRY_PAYMENT", "days", "time since the latest payment"),
    Aggregate("INSTALMENT_FIRST", INSTALMENTS, "min", "DAYS_INSTALMENT", "days", "time since the first instalment was due"),
    Aggregate("INSTALMENT_DELAY_MEAN", INSTALMENTS, "mean", "DELAY", "days", "mean delay of payments, early ones below zero"),
    Aggregate("INSTALMENT_DAYS_LATE_MEAN", INSTALMENTS, "mean", "DAYS_LATE", "days", "mean days by which payments were late"),
    Aggregate("INSTALMENT_DAYS_LATE_MAX", INSTALMENTS, "max", "DAYS_LATE", "days", "most days by which a payment was late"),
    Aggregate("INSTALMENT_DAYS_LATE_MEAN_6M", INSTALMENTS, "mean", "DAYS_LATE", "days", "mean days by which payments were late, last 6 months", (), 6),
    Aggregate("INSTALMENT_DAYS_LATE_MAX_12M", INSTALMENTS, "max", "DAYS_LATE", "days", "most days by which a payment was late, last 12 months", (), 12),
    Aggregate("INSTALMENT_DAYS_EARLY_MEAN", INSTALMENTS, "mean", "DAYS_EARLY", "days", "mean days by which payments were early"),
    Aggregate("INSTALMENT_DAYS_EARLY_MEAN_12M", INSTALMENTS, "mean", "DAYS_EARLY", "days", "mean days by which payments were early, last 12 months", (), 12),
    Aggregate("INSTALMENT_LATE_SHARE", INSTALMENTS, "mean", "LATE", "share", "share of payments that were late"),
    Aggregate("INSTALMENT_LATE_SHARE_6M", INSTALMENTS, "mean", "LATE", "share", "share of payments that were late, last 6 months", (), 6),
    Aggregate("INSTALMENT_LATE_SHARE_12M", INSTALMENTS, "mean", "LATE", "share", "share of payments that were late, last 12 months", (), 12),
    Aggregate("INSTALMENT_LATE_SHARE_24M", INSTALMENTS, "mean", "LATE", "share", "share of payments that were late, last 24 months", (), 24),
    Aggregate("INSTALMENT_LATE_5_SHARE", INSTALMENTS, "mean", "LATE_5", "share", "share of payments more than 5 days late"),
    Aggregate("INSTALMENT_LATE_COUNT", INSTALMENTS, "sum", "LATE", "count", "number of late payments"),
    Aggregate("INSTALMENT_UNDERPAID_SHARE", INSTALMENTS, "mean", "UNDERPAID", "share", "share of payments below the instalment due"),
    Aggregate("INSTALMENT_UNDERPAID_SHARE_12M", INSTALMENTS, "mean", "UNDERPAID", "share", "share of payments below the instalment due, last 12 months", (), 12),
    Aggregate("INSTALMENT_UNPAID_MEAN", INSTALMENTS, "mean", "UNPAID", "currency", "mean amount by which payments fell short"),
    Aggregate("INSTALMENT_UNPAID_MAX", INSTALMENTS, "max", "UNPAID", "currency", "largest amount by which a payment fell short"),
    Aggregate("INSTALMENT_PAID_SHARE_MEAN", INSTALMENTS, "mean", "PAID_SHARE", "ratio", "payments to the instalments due"),
    Aggregate("INSTALMENT_PAYMENT_SUM", INSTALMENTS, "sum", "AMT_PAYMENT", "currency", "total of payments"),
    Aggregate("INSTALMENT_PAYMENT_SUM_12M", INSTALMENTS, "sum", "AMT_PAYMENT", "currency", "total of payments, last 12 months", (), 12),
    Aggregate("INSTALMENT_PAYMENT_MEAN", INSTALMENTS, "mean", "AMT_PAYMENT", "currency", "mean payment"),
    Aggregate("INSTALMENT_PAYMENT_MIN", INSTALMENTS, "min", "AMT_PAYMENT", "currency", "least payment"),
    Aggregate("INSTALMENT_DUE_MAX", INSTALMENTS, "max", "AMT_INSTALMENT", "currency", "largest instalment due"),
    Aggregate("INSTALMENT_VERSION_MAX", INSTALMENTS, "max", "NUM_INSTALMENT_VERSION", "count", "most changes of a plan of instalments"),
    # credit cards
    Aggregate("CARD_MONTHS", CARD, "count", "", "count", "months of credit cards at this lender"),
    Aggregate("CARD_USED_MEAN", CARD, "mean", "USED", "share", "mean use of the limit of credit cards"),
    Aggregate("CARD_USED_MEAN_6M", CARD, "mean", "USED", "share", "mean use of the limit of credit cards, last 6 months", (), 6),
    Aggregate("CARD_USED_MAX", CARD, "max", "USED", "share", "greatest use of the limit of credit cards"),
    Aggregate("CARD_USED_MAX_12M", CARD, "max", "USED", "share", "greatest use of the limit of credit cards, last 12 months", (), 12),
    Aggregate("CARD_BALANCE_MEAN", CARD, "mean", "AMT_BALANCE", "currency", "mean balance of credit cards"),
    Aggregate("CARD_BALANCE_MEAN_6M", CARD, "mean", "AMT_BALANCE", "currency", "mean balance of credit cards, last 6 months", (), 6),
    Aggregate("CARD_BALANCE_MAX", CARD, "max", "AMT_BALANCE", "currency", "greatest balance of credit cards"),
    Aggregate("CARD_LIMIT_MAX", CARD, "max", "AMT_CREDIT_LIMIT_ACTUAL", "currency", "highest limit of a credit card"),
    Aggregate("CARD_LIMIT_MEAN_6M", CARD, "mean", "AMT_CREDIT_LIMIT_ACTUAL", "currency", "mean limit of credit cards, last 6 months", (), 6),
    Aggregate("CARD_DRAWINGS_MEAN", CARD, "mean", "CNT_DRAWINGS_CURRENT", "count", "mean number of drawings a month"),
    Aggregate("CARD_DRAWINGS_MEAN_12M", CARD, "mean", "CNT_DRAWINGS_CURRENT", "count", "mean number of drawings a month, last 12 months", (), 12),
    Aggregate("CARD_ATM_DRAWINGS_MEAN", CARD, "mean", "CNT_DRAWINGS_ATM_CURRENT", "count", "mean number of drawings at cash machines a month"),
    Aggregate("CARD_ATM_DRAWINGS_MEAN_6M", CARD, "mean", "CNT_DRAWINGS_ATM_CURRENT", "count", "mean number of drawings at cash machines a month, last 6 months", (), 6),
    Aggregate("CARD_ATM_AMOUNT_MEAN", CARD, "mean", "AMT_DRAWINGS_ATM_CURRENT", "currency", "mean amount drawn at cash machines a month"),
    Aggregate("CARD_AMOUNT_MEAN", CARD, "mean", "AMT_DRAWINGS_CURRENT", "currency", "mean amount drawn a month"),
    Aggregate("CARD_POS_DRAWINGS_MEAN", CARD, "mean", "CNT_DRAWINGS_POS_CURRENT", "count", "mean number of purchases a month"),
    Aggregate("CARD_ACTIVE_SHARE", CARD, "mean", "DREW", "share", "share of months with a drawing"),
    Aggregate("CARD_OWES_SHARE", CARD, "mean", "OWES", "share", "share of months with a debt on a credit card"),
    Aggregate("CARD_PAYMENT_MEAN", CARD, "mean", "AMT_PAYMENT_TOTAL_CURRENT", "currency", "mean payment a month on credit cards"),
    Aggregate("CARD_PAID_TO_MINIMUM_MEAN", CARD, "mean", "PAID_TO_MINIMUM", "ratio", "payments to the least instalment of credit cards"),
    Aggregate("CARD_INSTALMENTS_PAID_MAX", CARD, "max", "CNT_INSTALMENT_MATURE_CUM", "count", "instalments paid on a credit card"),
    Aggregate("CARD_LATE_SHARE", CARD, "mean", "PAST_DUE", "share", "share of months past due on credit cards"),
    Aggregate("CARD_LATE_SHARE_12M", CARD, "mean", "PAST_DUE", "share", "share of months past due on credit cards, last 12 months", (), 12),
    Aggregate("CARD_DPD_MAX", CARD, "max", "SK_DPD", "days", "most days past due on a credit card"),
    Aggregate("CARD_DPD_DEF_MAX", CARD, "max", "SK_DPD_DEF", "days", "most days past due on a credit card, small debts left out"),
)
# fmt: on
