"""Fits the profile of the history generator on real tables: aggregates only, none of fewer than 50 rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

from features.schema import load_schema
from training.data.history_folder import HISTORY_OF
from training.data.reader import key_of, read_ids
from training.data.source import find_optional, find_source
from training.data.validation import read_rows, read_table
from training.home_credit.history_generator import APPROVED_CARDS, MEASURES, NEVER, TABLES, covariates
from training.home_credit.months import MONTH, STATES
from training.home_credit.profile import FEWEST, MOST_VALUES, marginal, missing_groups, rounded

SEGMENT_ROWS = 250  # a rarer kind of loan is told as the commonest of the same state
LEVELS = np.linspace(0, 1, 51)
STUCK = 0.25  # share of late spells of the own loans that never end
LEAST_VARIANCE = 0.05  # of normal scores; below it a column says too little to estimate a correlation

Values = NDArray[np.float64]
Frames = dict[str, pd.DataFrame]


def read_and_fit(folder: Path) -> dict[str, Any]:
    """The profile of the tables in a folder; its complete_history_ids.csv, where there is one, names the clients whose history is complete.

    Raises
    ------
    DataError
        A table is missing or cannot be used.
    ValueError
        There are too few clients.
    """
    tables = {name: read_frame(folder, name) for name in TABLES}
    table = load_schema()["application"]
    applications, test = (
        read_table(find_source(folder, table.files[role]), table, with_target=role == "train") for role in ("train", "test")
    )
    listed = find_optional(folder, HISTORY_OF)
    if listed:
        (complete,) = read_ids(listed, key_of(table))
        applications, test = (frame[frame["SK_ID_CURR"].isin(complete)] for frame in (applications, test))
    return fit_history_profile(applications, test, tables)


def read_frame(folder: Path, name: str) -> pd.DataFrame:
    """A history table of a folder: its key and its columns.

    Raises
    ------
    DataError
        It is missing or cannot be used.
    """
    return read_rows(find_source(folder, name), load_schema()[name])


def fit_history_profile(applications: pd.DataFrame, test: pd.DataFrame, tables: Frames) -> dict[str, Any]:
    """The profile of the history of clients whose history is complete, installments_payments aside.

    Parameters
    ----------
    applications, test : labelled and unlabelled applications of these clients; clients of the tables who are in neither are left out.
    tables : the six tables by name; of installments_payments the rows are used by themselves.

    Raises
    ------
    ValueError
        There are too few clients for aggregates of 50 people.
    """
    clients = pd.concat([applications, test.assign(TARGET=np.nan)], ignore_index=True)
    if len(clients) < 20 * FEWEST:
        raise ValueError(
            f"{len(clients)} clients with history; expected at least {20 * FEWEST}, so that no aggregate speaks of a few people"
        )
    place = pd.Series(np.arange(len(clients)), clients["SK_ID_CURR"])
    default_rate = float(applications["TARGET"].mean())
    known = covariates(clients, default_rate)
    bureau, previous = (tables[name][tables[name]["SK_ID_CURR"].isin(place.index)] for name in ("bureau", "previous_application"))
    bureau, previous = bureau.reset_index(drop=True), previous.reset_index(drop=True)
    measures = _measures(clients["SK_ID_CURR"], bureau, previous, tables)
    scores, there, variance = _scores(measures[list(MEASURES)].to_numpy(dtype=float))
    regression = _regression(known, scores, there, variance)
    explained = regression @ np.cov(known.T) @ regression.T
    product = scores.T @ scores / np.maximum(there.T @ there, 1)
    counts = [marginal(measures[name], np.zeros(len(measures)), False)[1] for name in MEASURES[:2]]
    rest = _correlation(product, variance) - explained
    traits = np.hstack([known, scores[:, :2] / np.sqrt(variance[:2])])
    segments = {
        "bureau": bureau["CREDIT_ACTIVE"] + "|" + bureau["CREDIT_TYPE"],
        "previous_application": previous["NAME_CONTRACT_TYPE"] + "|" + previous["NAME_CONTRACT_STATUS"],
    }
    loans = {
        "bureau": _loans(bureau, _bureau_variables(bureau), segments["bureau"], place, traits),
        "previous_application": _loans(previous, _previous_variables(previous), segments["previous_application"], place, traits),
    }
    follows = ("NAME_PORTFOLIO", "NAME_PRODUCT_TYPE", "NAME_YIELD_GROUP")
    combination = previous["PRODUCT_COMBINATION"]
    loans["previous_application"] |= {
        "columns": tables["previous_application"].columns.tolist(),
        "as_drawn": [
            name for name in loans["previous_application"]["variables"] if name in previous and not name.startswith(("AMT", "DAYS"))
        ],
        "follows": {name: previous.groupby(combination)[name].agg(lambda values: values.mode().iloc[0]).to_dict() for name in follows},
    }
    balance = tables["bureau_balance"]
    has = bureau["SK_ID_BUREAU"].isin(balance["SK_ID_BUREAU"]).groupby(bureau["SK_ID_CURR"]).any()
    return {
        "clients": len(clients),
        "default_rate": round(default_rate, 4),
        "client": {"regression": _plain(regression), "correlation": _plain(_positive(rest, regression, known)), "counts": counts},
        "covered": {
            role: round(float(has[has.index.isin(frame["SK_ID_CURR"])].mean()), 4)
            for role, frame in (("train", applications), ("test", test))
        },
        **loans,
        **_balance_shares(balance, bureau),
        **_own_shares(previous, len(clients), tables),
    }


def _measures(keys: pd.Series, bureau: pd.DataFrame, previous: pd.DataFrame, tables: Frames) -> pd.DataFrame:
    """MEASURES of each client; NaN where the client has no such table."""
    balance = tables["bureau_balance"]
    balance = balance[~balance["STATUS"].isin(["X", "C"])].merge(bureau[["SK_ID_BUREAU", "SK_ID_CURR"]])
    pos, card = tables["POS_CASH_balance"], tables["credit_card_balance"]
    limit = card["AMT_CREDIT_LIMIT_ACTUAL"]
    used = (card["AMT_BALANCE"] / limit.where(limit > 0)).clip(0, 1.2)
    return pd.DataFrame(
        {
            "bureau": keys.map(bureau.groupby("SK_ID_CURR").size()).fillna(0),
            "previous_application": keys.map(previous.groupby("SK_ID_CURR").size()).fillna(0),
            "late_bureau": keys.map((balance["STATUS"] != "0").groupby(balance["SK_ID_CURR"]).mean()),
            "late_own": keys.map((pos["SK_DPD"] > 0).groupby(pos["SK_ID_CURR"]).mean()),
            "card_use": keys.map(used.groupby(card["SK_ID_CURR"]).mean()),
        }
    )


def _bureau_variables(frame: pd.DataFrame) -> dict[str, pd.Series]:
    opened, ended = frame["DAYS_CREDIT"], frame["DAYS_ENDDATE_FACT"]
    amount = frame["AMT_CREDIT_SUM"]
    same = ("CREDIT_CURRENCY", "DAYS_CREDIT", "CREDIT_DAY_OVERDUE", "AMT_CREDIT_MAX_OVERDUE", "CNT_CREDIT_PROLONG", "AMT_CREDIT_SUM",
            "AMT_CREDIT_SUM_LIMIT", "AMT_CREDIT_SUM_OVERDUE", "DAYS_CREDIT_UPDATE", "AMT_ANNUITY")  # fmt: skip
    return {
        **{name: frame[name] for name in same},
        "TERM": frame["DAYS_CREDIT_ENDDATE"] - opened,
        "OPEN_SHARE": ((ended - opened) / -opened.where(opened < 0)).clip(0, 1),
        "DEBT_SHARE": (frame["AMT_CREDIT_SUM_DEBT"] / amount.where(amount > 0)).fillna(0).where(frame["AMT_CREDIT_SUM_DEBT"].notna()),
    }


def _previous_variables(frame: pd.DataFrame) -> dict[str, pd.Series]:
    derived = {"SK_ID_PREV", "SK_ID_CURR", "NAME_CONTRACT_TYPE", "NAME_CONTRACT_STATUS", "AMT_GOODS_PRICE", "AMT_DOWN_PAYMENT",
               "NAME_PORTFOLIO", "NAME_PRODUCT_TYPE", "NAME_YIELD_GROUP"}  # fmt: skip
    derived |= {name for name in frame.columns.tolist() if name.startswith("DAYS_") and name != "DAYS_DECISION"}
    credit = frame["AMT_CREDIT"]
    first, planned, last = (
        frame[f"DAYS_{name}"].where(frame[f"DAYS_{name}"] != NEVER) for name in ("FIRST_DUE", "LAST_DUE_1ST_VERSION", "LAST_DUE")
    )
    return {
        **{name: frame[name] for name in frame.columns.tolist() if name not in derived},
        "AMT_APPLICATION": (frame["AMT_APPLICATION"] / credit.where(credit > 0)).fillna(0),
        "AMT_ANNUITY": (frame["AMT_ANNUITY"] / credit.where(credit > 0)).fillna(0).where(frame["AMT_ANNUITY"].notna()),
        "DUE_DELAY": first - frame["DAYS_DECISION"],
        "PAID_SHARE": ((last - first) / (planned - first).where(planned > first)).clip(0, 1),
    }


def _loans(frame: pd.DataFrame, variables: dict[str, pd.Series], kind: pd.Series, place: pd.Series, traits: Values) -> dict[str, Any]:
    """What training.home_credit.history_generator.Loans draws from."""
    common = kind.value_counts()
    state = kind.str.split("|").str[0] if "CREDIT_ACTIVE" in frame else kind.str.split("|").str[1]
    for name in common.index[common < SEGMENT_ROWS]:
        alike = common[(common >= SEGMENT_ROWS) & common.index.isin(kind[state == state[kind == name].iloc[0]])]
        kind = kind.where(kind != name, alike.index[0] if len(alike) else common.index[0])
    owner = place[frame["SK_ID_CURR"]].to_numpy()
    nothing = np.zeros(len(frame))
    gone = {name: np.where(frame[name].isna(), np.nan, 0.0) for name in frame.columns.tolist() if frame[name].isna().any()}
    groups = missing_groups(gone)
    shares = kind.value_counts(normalize=True)
    ordinals = {"segment": kind.map({name: float(number) for number, name in enumerate(shares.index)}).to_numpy()}
    ordinals |= {name: np.full(len(frame), np.nan) for name in variables}
    ordinals |= {f"missing {name}": -np.isnan(gone[name]).astype(float) for name in groups}
    segments = []
    for name in shares.index:
        rows = (kind == name).to_numpy()
        marginals = {}
        for column, values in variables.items():
            counts = values[rows].value_counts()
            if counts.sum() >= FEWEST and (len(counts) > MOST_VALUES or counts.iloc[0] >= FEWEST):
                ordinals[column][rows], marginals[column] = marginal(values[rows], nothing[rows], values.dtype.kind not in "if")
        missing = {group: float(np.isnan(gone[group][rows]).mean()) for group in groups}
        segments.append(
            {
                "name": name,
                "share": round(float(shares[name]), 5),
                "marginals": marginals,
                "missing": {group: round(share, 4) for group, share in missing.items() if share > 0},
            }
        )
    columns = np.column_stack(list(ordinals.values()))
    scores, there = np.zeros(columns.shape), np.zeros(columns.shape)
    scores[:, :1], there[:, :1], _ = _scores(columns[:, :1])
    for name in shares.index:
        rows = np.flatnonzero(kind == name)
        scores[rows, 1:], there[rows, 1:], _ = _scores(columns[rows, 1:])
    variance = (scores**2).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    centre = traits[owner].mean(axis=0)  # of the loans, not of the clients: who has many counts often
    clients, position = np.unique(owner, return_inverse=True)
    sums, seen = (np.zeros((len(clients), columns.shape[1])) for _ in range(2))
    np.add.at(sums, position, scores)
    np.add.at(seen, position, there)
    regression = _regression(traits[clients], sums / np.maximum(seen, 1), seen > 0, variance)
    inside = scores.T @ scores
    whole = _correlation(inside / np.maximum(there.T @ there, 1), variance)
    pairs = seen.T @ seen - there.T @ there
    across = (sums.T @ sums - inside) / np.maximum(pairs, 1)
    between = _correlation(np.where(pairs > 20 * FEWEST, across, 0), variance, diagonal=False)
    explained = regression @ np.cov(traits[owner].T) @ regression.T
    shared = np.clip(np.diag(between), 0, 0.9)
    np.fill_diagonal(between, shared)
    own = _project(whole - between)
    shared_rest = _project(between - explained)
    total = np.diag(explained) + np.diag(shared_rest) + np.diag(own)
    scale = np.sqrt(
        np.maximum(1 - np.diag(explained) - np.diag(shared_rest), 0.05)
        / np.maximum(total - np.diag(explained) - np.diag(shared_rest), 1e-9)
    )
    return {
        "variables": list(variables),
        "missing": groups,
        "segments": segments,
        "centre": centre.round(4).tolist(),
        "regression": _plain(regression),
        "between": _plain(shared_rest),
        "within": _plain(own * np.outer(scale, scale)),
    }


def _balance_shares(balance: pd.DataFrame, bureau: pd.DataFrame) -> dict[str, Any]:
    rows = balance.merge(bureau[["SK_ID_BUREAU", "CREDIT_ACTIVE", "DAYS_ENDDATE_FACT"]]).sort_values(["SK_ID_BUREAU", "MONTHS_BALANCE"])
    grouped = rows.groupby("SK_ID_BUREAU")
    follows = grouped["STATUS"].shift(-1)
    chain = pd.crosstab(rows["STATUS"], follows).reindex(index=STATES, columns=STATES, fill_value=0)
    counted = chain.to_numpy(dtype=float) + 1e-9
    closed, last = grouped["STATUS"].agg(lambda states: "C" in set(states)), grouped["MONTHS_BALANCE"].max()
    active = grouped["CREDIT_ACTIVE"].first() == "Active"
    ended = grouped["DAYS_ENDDATE_FACT"].first() / MONTH
    told = rows[rows["STATUS"] != "C"]
    open_loans = (told["STATUS"] == "X").groupby(told["SK_ID_BUREAU"]).mean()
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


def _own_shares(previous: pd.DataFrame, clients: int, tables: Frames) -> dict[str, Any]:
    """Shares and quantiles of the monthly tables of the lender's own loans, and of the instalments."""
    pos, card, paid = (tables[name] for name in ("POS_CASH_balance", "credit_card_balance", "installments_payments"))
    rows = pos.sort_values(["SK_ID_PREV", "MONTHS_BALANCE"])
    loan = rows.groupby("SK_ID_PREV")
    late, before = rows["SK_DPD"] > 0, loan["SK_DPD"].shift()
    days = rows.loc[late, "SK_DPD"]
    ended = previous.loc[previous["DAYS_TERMINATION"] < 0, "SK_ID_PREV"]
    tail = loan.tail(1)
    cards = card.sort_values(["SK_ID_PREV", "MONTHS_BALANCE"])
    limit = cards["AMT_CREDIT_LIMIT_ACTUAL"].where(cards["AMT_CREDIT_LIMIT_ACTUAL"] > 0)
    used = cards["AMT_BALANCE"].groupby(cards["SK_ID_PREV"]).transform("max") > 0
    share = (cards["AMT_BALANCE"].clip(lower=0) / limit)[used].fillna(0)
    levels = pd.Series(ndtri((rankdata(share) - 0.5) / len(share)), share.index)
    means = levels.groupby(cards["SK_ID_PREV"]).agg(["mean", "size"])
    of_card = float(np.clip(np.average(means["mean"] ** 2, weights=means["size"]) / levels.var(), 0.05, 0.9))
    step = (levels - levels.groupby(cards["SK_ID_PREV"]).shift()).abs().mean() * np.sqrt(np.pi / 2)  # the deviation of a normal one
    persistence = float(np.clip(1 - step**2 / (2 * (1 - of_card)), 0, 0.99))
    highest = (
        cards.groupby("SK_ID_PREV")["AMT_CREDIT_LIMIT_ACTUAL"].max().reset_index().merge(previous[["SK_ID_PREV", "AMT_CREDIT"]], how="left")
    )
    old = highest["AMT_CREDIT"].isna()
    cards_used = used.groupby(cards["SK_ID_PREV"]).first()
    decided = previous.set_index("SK_ID_PREV")["DAYS_DECISION"].reindex(cards_used.index).dropna().sort_values()
    ages = [decided.iloc[part] for part in np.array_split(np.arange(len(decided)), 6)]
    minimum = cards["AMT_INST_MIN_REGULARITY"]
    ratio = (cards["AMT_PAYMENT_CURRENT"] / minimum.where(minimum > 0))[cards["AMT_BALANCE"] > 0].dropna().clip(upper=20)
    lag = paid["DAYS_ENTRY_PAYMENT"] - paid["DAYS_INSTALMENT"]
    version = paid["NUM_INSTALMENT_VERSION"]
    short = paid["AMT_PAYMENT"] < 0.999 * paid["AMT_INSTALMENT"]
    approved = (previous["NAME_CONTRACT_TYPE"] + "|" + previous["NAME_CONTRACT_STATUS"]) == APPROVED_CARDS
    never = rows.loc[late & (rows["MONTHS_BALANCE"] == loan["MONTHS_BALANCE"].transform("max"))]
    loans_late = late.groupby(rows["SK_ID_PREV"]).any()
    parts = float(short[version > 0].mean()) / 2
    paying = float((cards["AMT_BALANCE"] > 0).mean())
    per_card_row = (version == 0).mean() / (version > 0).mean() * len(pos) / len(card)
    return {
        "late_begins": round(float(late[before == 0].mean()), 5),
        "late_goes_on": round(float(late[before > 0].mean()) * (1 - STUCK), 4),
        "late_counted": round(float((rows["SK_DPD_DEF"] > 0)[late & (rows["SK_DPD"] < 60)].mean()), 4),
        "late_for_ever": round(float((never["SK_DPD"] > 60).sum() / max(1, int(loans_late.sum()))), 4),
        "signed": round(float((loan.head(1)["NAME_CONTRACT_STATUS"] == "Signed").mean()), 4),
        "completed": round(float((tail.loc[tail["SK_ID_PREV"].isin(ended), "NAME_CONTRACT_STATUS"] == "Completed").mean()), 4),
        "part_payments": round(parts / (1 - parts), 4),
        "more_card_payments": round(max(0.0, float(per_card_row / paying * 0.95 - 1)), 3),
        "cards_used": [[round(float(part.mean())) for part in ages], [round(float(cards_used[part.index].mean()), 4) for part in ages]],
        "drawings_untold": round(float(cards.loc[~used, "AMT_DRAWINGS_ATM_CURRENT"].isna().mean()), 4),
        "minimum_untold": round(float(minimum[cards["AMT_BALANCE"] <= 0].isna().mean()), 4),
        "old_cards": round(float(old.sum()) / clients, 4),
        "cards_ended": round(float((previous.loc[approved, "DAYS_TERMINATION"].dropna() < 0).mean()), 4),
        "no_limit": round(float((cards["AMT_CREDIT_LIMIT_ACTUAL"] == 0)[~used].mean()), 4),
        "drawn_in_cash": round(float(cards["AMT_DRAWINGS_ATM_CURRENT"].sum() / cards["AMT_DRAWINGS_CURRENT"].sum()), 4),
        "use_persistence": round(persistence, 3),
        "use_of_card": round(of_card, 3),
        "quantiles": {
            "days_late": _quantiles(days[days < 60]),
            "paid_after": _quantiles(lag[version > 0].dropna()),
            "card_paid_after": _quantiles(lag[version == 0].dropna()),
            "use": _quantiles(share),
            "old_limit": _quantiles(highest.loc[old, "AMT_CREDIT_LIMIT_ACTUAL"]),
            "limit_of_credit": _quantiles(
                (highest["AMT_CREDIT_LIMIT_ACTUAL"] / highest["AMT_CREDIT"])[highest["AMT_CREDIT"] > 0].clip(upper=2)
            ),
            "paid_of_minimum": _quantiles(ratio),
        },
    }


def _scores(columns: Values) -> tuple[Values, Values, Values]:
    """Normal scores of the ranks of each column, 0 where not known; what is known; the variance of the scores."""
    scores, there = np.zeros(columns.shape), ~np.isnan(columns)
    for place, known in enumerate(there.T):
        count = int(known.sum())
        if count:
            score = ndtri((rankdata(columns[known, place]) - 0.5) / count)
            scores[known, place] = score - score.mean()
    return scores, there.astype(float), (scores**2).sum(axis=0) / np.maximum(there.sum(axis=0), 1)


def _correlation(product: Values, variance: Values, *, diagonal: bool = True) -> Values:
    """Correlations of the normal variables behind the scores, as in training.home_credit.profile."""
    enough = np.outer(variance > LEAST_VARIANCE, variance > LEAST_VARIANCE)
    result = np.where(enough, product / np.maximum(np.outer(variance, variance), 1e-9), 0)
    result = np.clip(result, -0.95, 0.95)
    if diagonal:
        np.fill_diagonal(result, 1)
    return np.asarray(result)


def _regression(known: Values, scores: Values, there: NDArray[Any], variance: Values) -> Values:
    """Coefficients of each column of scores on the covariates, shape (columns, covariates), small ones shrunk by their t-value."""
    result = np.zeros((scores.shape[1], known.shape[1]))
    for place in range(scores.shape[1]):
        rows = there[:, place] > 0
        if variance[place] <= LEAST_VARIANCE or rows.sum() < 20 * FEWEST:
            continue
        x, y = known[rows] - known[rows].mean(axis=0), scores[rows, place] - scores[rows, place].mean()
        inverse = np.linalg.pinv(x.T @ x)
        coefficients = inverse @ x.T @ y
        residual = y - x @ coefficients
        error = np.sqrt(np.maximum(np.diag(inverse) * residual.var(), 1e-12))
        shrunk = np.maximum(0, 1 - (error / np.where(coefficients == 0, 1e-9, coefficients)) ** 2)
        result[place] = coefficients * shrunk / variance[place]
    return result


def _positive(rest: Values, regression: Values, known: Values) -> Values:
    """The covariance of what the covariates leave, so that each trait has variance 1."""
    left = np.maximum(1 - np.diag(regression @ np.cov(known.T) @ regression.T), 0.05)
    rest = _project(rest)
    scale = np.sqrt(left / np.maximum(np.diag(rest), 1e-9))
    return np.asarray(rest * np.outer(scale, scale))


def _project(covariance: Values) -> Values:
    """The nearest covariance without negative eigenvalues."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return np.asarray((vectors * np.maximum(values, 0)) @ vectors.T)


def _quantiles(values: pd.Series) -> list[float]:
    outer = min(FEWEST / len(values), 0.5)
    return rounded(np.quantile(values, np.clip(LEVELS, outer, 1 - outer)))


def _plain(matrix: Values) -> list[list[float]]:
    return [[round(value, 3) for value in row] for row in matrix.tolist()]
