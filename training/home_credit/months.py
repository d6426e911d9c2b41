"""Generates the months of loans: balances, payments, days past due.

Markov chains give the states, payments scatter around their due days, and card balances follow an autoregression of the used share
of the limit.
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr

from training.aliases import Positions, Values
from training.home_credit.draws import at, cents, repeat, round_to

MONTH = 365.25 / 12
OLDEST = 96  # months that the monthly tables go back
STATES = ("5", "4", "3", "2", "1", "X", "0")  # of bureau_balance while a loan is open, the worst first


class Spells(NamedTuple):
    """The months in which loans are past due.

    Attributes
    ----------
    late, counted : shape (loans, months): past due, and past due with more than a small debt.
    stuck : for each loan the month from which it stays past due, or -1.
    """

    late: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    stuck: Positions


class MonthlyTables:
    """Draws the tables of months and payments of loans."""

    def __init__(self, profile: dict[str, Any]) -> None:
        self._profile = profile
        self._quantiles = {name: np.array(values) for name, values in profile["quantiles"].items()}
        self._chain = np.cumsum(profile["states"], axis=1)

    def bureau_balance(self, random: np.random.Generator, bureau: pd.DataFrame, late: Values) -> pd.DataFrame:
        """The bureau_balance of rows of bureau; `late` is how often the client of each is late, 1 on average."""
        oldest = np.minimum(np.floor(-bureau["DAYS_CREDIT"].to_numpy() / MONTH), OLDEST).astype(int)
        reported = random.random(len(bureau)) < self._profile["to_present"]  # the others end before the present
        newest = np.where(reported, 0, (oldest * random.random(len(bureau))).astype(int))
        months = oldest - newest + 1
        ended = np.floor(bureau["DAYS_ENDDATE_FACT"].to_numpy() / MONTH)  # NaN, so never, where the loan is active
        quits = random.random(len(bureau)) < self._profile["quits_active"]
        closes = np.where(np.isnan(ended), np.where(quits, -(oldest * random.random(len(bureau))), 1), ended)
        closes = np.where(random.random(len(bureau)) < self._profile["says_closed"], closes, 1)
        unknown = random.random(len(bureau)) < self._profile["never_told"]
        state = np.full(len(bureau), STATES.index("0"))
        state[unknown | (random.random(len(bureau)) < self._profile["starts_unknown"])] = STATES.index("X")
        states = np.empty((len(bureau), OLDEST + 1), dtype=np.int8)
        for month in range(int(months.max(initial=0))):
            states[:, month] = state
            level = random.random(len(bureau)) / np.where(state == STATES.index("0"), late, 1.0)
            state = np.minimum((level[:, None] > self._chain[state]).sum(axis=1), len(STATES) - 1)
            state[unknown] = STATES.index("X")
        owner, number = repeat(months)
        month = number - oldest[owner]
        text = np.array([*STATES, "C"], dtype=object)
        code = np.where(month >= closes[owner], len(STATES), states[owner, number])
        return pd.DataFrame({"SK_ID_BUREAU": bureau["SK_ID_BUREAU"].to_numpy()[owner], "MONTHS_BALANCE": month, "STATUS": text[code]})

    def of_loans(self, random: np.random.Generator, loans: pd.DataFrame, trait: Values, late: Values) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The POS_CASH_balance and the payments of instalment loans."""
        due, over = loans["DAYS_FIRST_DUE"].to_numpy(), loans["DAYS_TERMINATION"].to_numpy()
        instalments = np.maximum(loans["CNT_PAYMENT"].to_numpy(), 1).astype(int)
        first = np.maximum(np.floor(due / MONTH).astype(int) - 1, -OLDEST)
        ended = over < 0
        last = np.where(ended, np.floor(over / MONTH), -1).astype(int)
        last = np.clip(last, first, -1)
        spells = self._spells(random, last - first + 1, late)
        last = np.where(spells.stuck >= 0, -1, last)
        owner, number = repeat(last - first + 1)
        month, closing = first[owner] + number, (number == (last - first)[owner]) & (ended & (spells.stuck < 0))[owner]
        future = np.maximum(instalments[owner] - np.maximum(number - 1, 0), 0)
        status = np.full(len(owner), "Active", dtype=object)
        status[(number == 0) & (random.random(len(owner)) < self._profile["signed"])] = "Signed"
        status[closing & (random.random(len(owner)) < self._profile["completed"])] = "Completed"
        dpd, dpd_def = _days_late(random, owner, number, spells, self._quantiles["days_late"])
        pos = pd.DataFrame(
            {
                "SK_ID_PREV": loans["SK_ID_PREV"].to_numpy()[owner],
                "SK_ID_CURR": loans["SK_ID_CURR"].to_numpy()[owner],
                "MONTHS_BALANCE": month,
                "CNT_INSTALMENT": np.where(month == -OLDEST, np.nan, instalments[owner]),
                "CNT_INSTALMENT_FUTURE": np.where(month == -OLDEST, np.nan, np.where(closing, 0, future)),
                "NAME_CONTRACT_STATUS": status,
                "SK_DPD": dpd,
                "SK_DPD_DEF": dpd_def,
            }
        )
        paid_until = np.where(loans["DAYS_LAST_DUE"].to_numpy() < 0, loans["DAYS_LAST_DUE"].to_numpy(), -1)
        owner, number = repeat(np.clip((paid_until - due) // 30 + 1, 1, instalments).astype(int))
        early = (number == (np.bincount(owner, minlength=len(loans)) - 1)[owner]) & (number < instalments[owner] - 1) & ended[owner]
        amount = loans["AMT_ANNUITY"].to_numpy()[owner] * np.where(early, instalments[owner] - number, 1)
        habit = 0.6 * trait + 0.5 * random.standard_normal(len(loans))
        days = at(self._quantiles["paid_after"], ndtr(habit[owner] + 0.62 * random.standard_normal(len(owner))))
        rows = _payments(
            loans, owner, version=np.where(early, 2.0, 1.0), number=number + 1, due=due[owner] + 30 * number, days=days, amount=amount
        )
        return pos, _part_payments(random, rows, self._profile["part_payments"])

    # long: one line for each column, and the columns follow from each other
    def of_cards(self, random: np.random.Generator, cards: pd.DataFrame, trait: Values, late: Values) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The credit_card_balance and the payments of cards."""
        decided, over = cards["DAYS_DECISION"].to_numpy(), cards["DAYS_TERMINATION"].to_numpy()
        used = cards["DAYS_FIRST_DRAWING"].to_numpy() < 0
        first = np.maximum(np.floor(decided / MONTH).astype(int), -OLDEST)
        last = np.clip(np.where(over < 0, np.floor(over / MONTH), -1).astype(int), first, -1)
        first = np.minimum(first, -1)
        months = last - first + 1
        limit = cards["AMT_CREDIT"].to_numpy() * at(self._quantiles["limit_of_credit"], random.random(len(cards)))
        limit = np.maximum(round_to(limit, 4500), 4500)
        limit[~used & (random.random(len(cards)) < self._profile["no_limit"])] = 0
        share = self._share_of_limit(random, months, used, trait)
        spells = self._spells(random, months, late)
        owner, number = repeat(months)
        top = limit[owner]
        balance = cents(np.maximum(share[owner, number], 0) * top)
        before = np.where(number > 0, cents(np.maximum(share[owner, np.maximum(number - 1, 0)], 0) * top), 0)
        minimum = np.where(balance > 0, np.minimum(round_to(0.05 * top, 2250), cents(balance)), 0)
        asked = np.minimum(np.where(before > 0, round_to(0.05 * top, 2250), 0), before)
        paid = asked * np.where(random.random(len(owner)) < 0.1, 0, at(self._quantiles["paid_of_minimum"], random.random(len(owner))))
        owed = cents(before * (1 + 0.02 * random.random(len(owner))))
        drawn = np.maximum(balance - owed + paid, 0)
        drawn = np.where((drawn < 0.01 * top) | (balance == 0), 0, round_to(drawn, 45))
        paid = cents(np.maximum(owed + drawn - balance, 0))
        cash = drawn * (random.random(len(owner)) < self._profile["drawn_in_cash"])
        hidden = (~used & (random.random(len(cards)) < self._profile["drawings_untold"]))[owner]
        dpd, dpd_def = _days_late(random, owner, number, spells, self._quantiles["days_late"])
        dpd, dpd_def = (np.where(balance > 0, days, 0) for days in (dpd, dpd_def))
        principal = cents(balance * 0.96)
        fresh = (balance == 0) & (random.random(len(owner)) < self._profile["minimum_untold"])
        withdrawals, purchases = (
            np.where(part > 0, 1 + random.poisson(mean, len(owner)), 0) for part, mean in ((cash, 0.6), (drawn - cash, 3.5))
        )
        begun = np.cumsum(share > 0, axis=1) > 0
        mature = np.cumsum(begun, axis=1)[owner, number]
        closed = (number == (months - 1)[owner]) & (over < 0)[owner]
        columns = {
            "SK_ID_PREV": cards["SK_ID_PREV"].to_numpy()[owner],
            "SK_ID_CURR": cards["SK_ID_CURR"].to_numpy()[owner],
            "MONTHS_BALANCE": first[owner] + number,
            "AMT_BALANCE": balance,
            "AMT_CREDIT_LIMIT_ACTUAL": top.astype(np.int64),
            "AMT_DRAWINGS_ATM_CURRENT": np.where(hidden, np.nan, cash),
            "AMT_DRAWINGS_CURRENT": drawn,
            "AMT_DRAWINGS_OTHER_CURRENT": np.where(hidden, np.nan, 0.0),
            "AMT_DRAWINGS_POS_CURRENT": np.where(hidden, np.nan, drawn - cash),
            "AMT_INST_MIN_REGULARITY": np.where(fresh, np.nan, minimum),
            "AMT_PAYMENT_CURRENT": np.where(hidden, np.nan, paid),
            "AMT_PAYMENT_TOTAL_CURRENT": paid,
            "AMT_RECEIVABLE_PRINCIPAL": principal,
            "AMT_RECIVABLE": balance,
            "AMT_TOTAL_RECEIVABLE": balance,
            "CNT_DRAWINGS_ATM_CURRENT": np.where(hidden, np.nan, withdrawals),
            "CNT_DRAWINGS_CURRENT": withdrawals + purchases,
            "CNT_DRAWINGS_OTHER_CURRENT": np.where(hidden, np.nan, 0.0),
            "CNT_DRAWINGS_POS_CURRENT": np.where(hidden, np.nan, purchases),
            "CNT_INSTALMENT_MATURE_CUM": np.where(fresh, np.nan, mature),
            "NAME_CONTRACT_STATUS": np.where(closed, "Completed", "Active").astype(object),
            "SK_DPD": dpd,
            "SK_DPD_DEF": dpd_def,
        }
        paying = np.flatnonzero(paid > 0)
        parts, part = repeat(1 + random.poisson(self._profile["more_card_payments"], len(paying)))
        row, each = paying[parts], np.bincount(parts, minlength=len(paying))[parts]
        day = np.floor((columns["MONTHS_BALANCE"][row] + (part + random.random(len(part))) / each) * MONTH)
        days = at(self._quantiles["card_paid_after"], random.random(len(part)))
        amount = cents(paid[row] / each)
        return pd.DataFrame(columns), _payments(
            cards, owner[row], version=np.zeros(len(row)), number=mature[row] + 1 + part, due=day, days=days, amount=amount
        )

    def _share_of_limit(self, random: np.random.Generator, months: Positions, used: NDArray[np.bool_], trait: Values) -> Values:
        """The used share of the limit, shape (cards, months): an autoregression around the level of each card."""
        keep, own = self._profile["use_persistence"], self._profile["use_of_card"]
        share = np.zeros((len(months), int(months.max(initial=0))))
        level = np.sqrt(own) * trait
        noise = random.standard_normal(len(months))
        for month in range(share.shape[1]):
            share[:, month] = np.where(used, at(self._quantiles["use"], ndtr(level + np.sqrt(1 - own) * noise)), 0)
            noise = keep * noise + np.sqrt(1 - keep**2) * random.standard_normal(len(months))
        return share

    def _spells(self, random: np.random.Generator, months: Positions, late: Values) -> Spells:
        begins, goes_on, counted = self._profile["late_begins"], self._profile["late_goes_on"], self._profile["late_counted"]
        longest = int(months.max(initial=0))
        passed = np.zeros((len(months), longest), dtype=bool)
        state = np.zeros(len(months), dtype=bool)
        for month in range(longest):
            passed[:, month] = state
            state = random.random(len(months)) < np.where(state, goes_on, np.minimum(begins * late, 0.5))
        inside = np.arange(longest) < months[:, None]
        passed &= inside
        stuck = np.where(passed.any(axis=1) & (random.random(len(months)) < self._profile["late_for_ever"]), passed.argmax(axis=1), -1)
        return Spells(passed, passed & (random.random(passed.shape) < counted), stuck)


def _payments(
    loans: pd.DataFrame, owner: Positions, *, version: Values, number: NDArray[Any], due: Values, days: Values, amount: Values
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "SK_ID_PREV": loans["SK_ID_PREV"].to_numpy()[owner],
            "SK_ID_CURR": loans["SK_ID_CURR"].to_numpy()[owner],
            "NUM_INSTALMENT_VERSION": version,
            "NUM_INSTALMENT_NUMBER": number,
            "DAYS_INSTALMENT": np.minimum(due, -1.0),
            "DAYS_ENTRY_PAYMENT": np.minimum(np.round(np.minimum(due, -1.0) + days), -1.0),
            "AMT_INSTALMENT": cents(amount),
            "AMT_PAYMENT": cents(amount),
        }
    )


def _part_payments(random: np.random.Generator, rows: pd.DataFrame, share: float) -> pd.DataFrame:
    """Split some payments in two: the same instalment appears twice, the second part later."""
    split = np.flatnonzero((random.random(len(rows)) < share) & (rows["AMT_PAYMENT"].to_numpy() > 1))
    second = rows.iloc[split].copy()
    part = cents(second["AMT_PAYMENT"].to_numpy() * random.uniform(0.02, 0.49, len(split)))
    rows.loc[split, "AMT_PAYMENT"] = cents(second["AMT_PAYMENT"].to_numpy() - part)
    second["AMT_PAYMENT"] = part
    second["DAYS_ENTRY_PAYMENT"] = np.minimum(second["DAYS_ENTRY_PAYMENT"] + random.integers(0, 25, len(split)), -1.0)
    return pd.concat([rows, second], ignore_index=True)


def _days_late(
    random: np.random.Generator, owner: Positions, number: Positions, spells: Spells, quantiles: Values
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Days past due in each month, with and without small debts."""
    longest, stuck = spells.late.shape[1], spells.stuck[owner]
    inside = np.minimum(number, max(0, longest - 1))
    late, beyond = (flags[owner, inside] & (number < longest) for flags in (spells.late, spells.counted))
    days = np.where(late, np.maximum(np.round(at(quantiles, random.random(len(owner)))), 1), 0)
    for_ever = (stuck >= 0) & (number >= stuck)
    days = np.where(for_ever, 5 + np.round(MONTH * (number - stuck)), days)
    return days.astype(np.int64), np.where(beyond & ~for_ever, days, 0).astype(np.int64)
