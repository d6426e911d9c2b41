"""Fits what the generator of monthly tables draws from: chains of states, shares and quantiles."""

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri
from scipy.stats import rankdata

from training.data.errors import DataError
from training.home_credit.history_generator import APPROVED_CARDS
from training.home_credit.months import MONTH, STATES
from training.home_credit.profile import FEWEST, rounded

LEVELS = np.linspace(0, 1, 51)
STUCK = 0.25  # share of late spells of this lender's loans that never end
Frames = dict[str, pd.DataFrame]


def balance_shares(balance: pd.DataFrame, bureau: pd.DataFrame) -> dict[str, Any]:
    """The chain of states of bureau_balance, and how loans begin and end in it."""
    rows = balance.merge(bureau[["SK_ID_BUREAU", "CREDIT_ACTIVE", "DAYS_ENDDATE_FACT"]]).sort_values(["SK_ID_BUREAU", "MONTHS_BALANCE"])
    grouped = rows.groupby("SK_ID_BUREAU")
    follows = grouped["STATUS"].shift(-1)
    chain = pd.crosstab(rows["STATUS"], follows).reindex(index=STATES, columns=STATES, fill_value=0)
    counted = chain.to_numpy(dtype=float) + 1e-9
    closed, last = grouped["STATUS"].agg(lambda states: "C" in set(states)), grouped["MONTHS_BALANCE"].max()
    active = grouped["CREDIT_ACTIVE"].first() == "Active"
    ended = grouped["DAYS_ENDDATE_FACT"].first() / MONTH
    reported = rows[rows["STATUS"] != "C"]
    open_loans = (reported["STATUS"] == "X").groupby(reported["SK_ID_BUREAU"]).mean()
    first = grouped["STATUS"].first()
    never = float((open_loans == 1).mean())
    return {
        "states": (counted / counted.sum(axis=1, keepdims=True)).round(5).tolist(),
        "to_present": round(float((last == 0).mean()), 4),
        "says_closed": round(float(closed[(ended < last - 1) & ~active].mean()), 4),
        "quits_active": round(float(closed[active].mean()), 4),
        "never_told": round(never, 4),
        "starts_unknown": round(max(0.0, (float((first == "X").mean()) - never) / (1 - never)), 4),
    }


def own_shares(previous: pd.DataFrame, clients: int, tables: Frames) -> dict[str, Any]:
    """Shares and quantiles of this lender's monthly tables and instalments.

    Parameters
    ----------
    previous : previous_application of the clients.
    clients : how many there are.
    """
    pos, card, paid = (tables[name] for name in ("POS_CASH_balance", "credit_card_balance", "installments_payments"))
    late, late_quantiles = _late_shares(previous, pos)
    cards, card_quantiles = _card_shares(previous, clients, card)
    lag = paid["DAYS_ENTRY_PAYMENT"] - paid["DAYS_INSTALMENT"]
    version = paid["NUM_INSTALMENT_VERSION"]
    short = paid["AMT_PAYMENT"] < 0.999 * paid["AMT_INSTALMENT"]
    parts = float(short[version > 0].mean()) / 2
    paying = float((card["AMT_BALANCE"] > 0).mean())
    per_card_row = (version == 0).mean() / (version > 0).mean() * len(pos) / len(card)
    return {
        **late,
        "part_payments": round(parts / (1 - parts), 4),
        "more_card_payments": round(max(0.0, float(per_card_row / paying * 0.95 - 1)), 3),
        **cards,
        "quantiles": {
            **late_quantiles,
            "paid_after": _quantiles("paid_after", lag[version > 0].dropna()),
            "card_paid_after": _quantiles("card_paid_after", lag[version == 0].dropna()),
            **card_quantiles,
        },
    }


def _late_shares(previous: pd.DataFrame, pos: pd.DataFrame) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Shares and quantiles of POS_CASH_balance."""
    rows = pos.sort_values(["SK_ID_PREV", "MONTHS_BALANCE"])
    loan = rows.groupby("SK_ID_PREV")
    late, before = rows["SK_DPD"] > 0, loan["SK_DPD"].shift()
    days = rows.loc[late, "SK_DPD"]
    ended = previous.loc[previous["DAYS_TERMINATION"] < 0, "SK_ID_PREV"]
    tail = loan.tail(1)
    never = rows.loc[late & (rows["MONTHS_BALANCE"] == loan["MONTHS_BALANCE"].transform("max"))]
    loans_late = late.groupby(rows["SK_ID_PREV"]).any()
    shares = {
        "late_begins": round(float(late[before == 0].mean()), 5),
        "late_goes_on": round(float(late[before > 0].mean()) * (1 - STUCK), 4),
        "late_counted": round(float((rows["SK_DPD_DEF"] > 0)[late & (rows["SK_DPD"] < 60)].mean()), 4),
        "late_for_ever": round(float((never["SK_DPD"] > 60).sum() / max(1, int(loans_late.sum()))), 4),
        "signed": round(float((loan.head(1)["NAME_CONTRACT_STATUS"] == "Signed").mean()), 4),
        "completed": round(float((tail.loc[tail["SK_ID_PREV"].isin(ended), "NAME_CONTRACT_STATUS"] == "Completed").mean()), 4),
    }
    return shares, {"days_late": _quantiles("days_late", days[days < 60])}


def _card_shares(previous: pd.DataFrame, clients: int, card: pd.DataFrame) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Shares and quantiles of credit_card_balance."""
    cards = card.sort_values(["SK_ID_PREV", "MONTHS_BALANCE"])
    limit = cards["AMT_CREDIT_LIMIT_ACTUAL"].where(cards["AMT_CREDIT_LIMIT_ACTUAL"] > 0)
    used = cards["AMT_BALANCE"].groupby(cards["SK_ID_PREV"]).transform("max") > 0
    share = (cards["AMT_BALANCE"].clip(lower=0) / limit)[used].fillna(0)
    persistence, of_card = _persistence(share, cards)
    highest = (
        cards.groupby("SK_ID_PREV")["AMT_CREDIT_LIMIT_ACTUAL"].max().reset_index().merge(previous[["SK_ID_PREV", "AMT_CREDIT"]], how="left")
    )
    old = highest["AMT_CREDIT"].isna()
    cards_used = used.groupby(cards["SK_ID_PREV"]).first()
    decided = previous.set_index("SK_ID_PREV")["DAYS_DECISION"].reindex(cards_used.index).dropna().sort_values()
    ages = [decided.iloc[part] for part in np.array_split(np.arange(len(decided)), 6)]
    minimum = cards["AMT_INST_MIN_REGULARITY"]
    ratio = (cards["AMT_PAYMENT_CURRENT"] / minimum.where(minimum > 0))[cards["AMT_BALANCE"] > 0].dropna().clip(upper=20)
    approved = (previous["NAME_CONTRACT_TYPE"] + "|" + previous["NAME_CONTRACT_STATUS"]) == APPROVED_CARDS
    shares = {
        "cards_used": [[round(float(part.mean())) for part in ages], [round(float(cards_used[part.index].mean()), 4) for part in ages]],
        "drawings_untold": round(float(cards.loc[~used, "AMT_DRAWINGS_ATM_CURRENT"].isna().mean()), 4),
        "minimum_untold": round(float(minimum[cards["AMT_BALANCE"] <= 0].isna().mean()), 4),
        "old_cards": round(float(old.sum()) / clients, 4),
        "cards_ended": round(float((previous.loc[approved, "DAYS_TERMINATION"].dropna() < 0).mean()), 4),
        "no_limit": round(float((cards["AMT_CREDIT_LIMIT_ACTUAL"] == 0)[~used].mean()), 4),
        "drawn_in_cash": round(float(cards["AMT_DRAWINGS_ATM_CURRENT"].sum() / cards["AMT_DRAWINGS_CURRENT"].sum()), 4),
        "use_persistence": round(persistence, 3),
        "use_of_card": round(of_card, 3),
    }
    return shares, {
        "use": _quantiles("use", share),
        "old_limit": _quantiles("old_limit", highest.loc[old, "AMT_CREDIT_LIMIT_ACTUAL"]),
        "limit_of_credit": _quantiles(
            "limit_of_credit", (highest["AMT_CREDIT_LIMIT_ACTUAL"] / highest["AMT_CREDIT"])[highest["AMT_CREDIT"] > 0].clip(upper=2)
        ),
        "paid_of_minimum": _quantiles("paid_of_minimum", ratio),
    }


def _persistence(share: pd.Series, cards: pd.DataFrame) -> tuple[float, float]:
    """How far the used share of the limit keeps from month to month, and the share of its variance that lies between cards."""
    levels = pd.Series(ndtri((rankdata(share) - 0.5) / len(share)), share.index)
    means = levels.groupby(cards["SK_ID_PREV"]).agg(["mean", "size"])
    of_card = float(np.clip(np.average(means["mean"] ** 2, weights=means["size"]) / levels.var(), 0.05, 0.9))
    step = (levels - levels.groupby(cards["SK_ID_PREV"]).shift()).abs().mean() * np.sqrt(np.pi / 2)  # a normal variable's deviation
    return float(np.clip(1 - step**2 / (2 * (1 - of_card)), 0, 0.99)), of_card


def _quantiles(name: str, values: pd.Series) -> list[float]:
    """Evenly spaced quantiles, the outermost moved inwards so that FEWEST rows lie beyond each."""
    if values.empty:
        raise DataError(f"the history tables hold too few rows: none of them gives {name}")
    outer = min(FEWEST / len(values), 0.5)
    return rounded(np.quantile(values, np.clip(LEVELS, outer, 1 - outer)))
