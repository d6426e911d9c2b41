"""Fits the copula of a table of loans, from which `loans.Loans` draws."""

from typing import Any

import numpy as np
import pandas as pd

from training.aliases import Positions, Values
from training.home_credit.history_generator import NEVER
from training.home_credit.latent import correlation, nearest_covariance, normal_scores, regression_on, rows_of
from training.home_credit.profile import FEWEST, MAX_VALUES, marginal, missing_groups

MIN_SEGMENT = 250  # rows; a rarer kind of loan counts as the most common kind with the same state


def bureau_variables(frame: pd.DataFrame) -> dict[str, pd.Series]:
    """The variables of the copula of bureau, in the order of its profile."""
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


def previous_variables(frame: pd.DataFrame) -> dict[str, pd.Series]:
    """The variables of the copula of previous_application, in the order of its profile."""
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


def loan_profile(
    frame: pd.DataFrame, variables: dict[str, pd.Series], kind: pd.Series, clients: pd.Series, traits: Values
) -> dict[str, Any]:
    """The profile of loans: segments with their marginals, and how the loans of a client depend on each other and on the client.

    Parameters
    ----------
    kind : the segment of each loan.
    clients : by SK_ID_CURR, the row of the client in `traits`.
    traits : shape (clients, traits).
    """
    kind = _common_kinds(frame, kind)
    gone = {name: np.where(frame[name].isna(), np.nan, 0.0) for name in frame.columns.tolist() if frame[name].isna().any()}
    groups = missing_groups(gone)
    shares = kind.value_counts(normalize=True)
    ordinals = {"segment": kind.map({name: float(number) for number, name in enumerate(shares.index)}).to_numpy()}
    ordinals |= {name: np.full(len(frame), np.nan) for name in variables}
    ordinals |= {f"missing {name}": -np.isnan(gone[name]).astype(float) for name in groups}
    segments = []
    for name in shares.index:
        rows = (kind == name).to_numpy()
        missing = {group: float(np.isnan(gone[group][rows]).mean()) for group in groups}
        segments.append(
            {
                "name": name,
                "share": round(float(shares[name]), 5),
                "marginals": _marginals(variables, rows, ordinals),
                "missing": {group: round(share, 4) for group, share in missing.items() if share > 0},
            }
        )
    columns = np.column_stack(list(ordinals.values()))
    scores, known = np.zeros(columns.shape), np.zeros(columns.shape)
    scores[:, :1], known[:, :1], _ = normal_scores(columns[:, :1])
    for name in shares.index:
        rows = np.flatnonzero(kind == name)
        scores[rows, 1:], known[rows, 1:], _ = normal_scores(columns[rows, 1:])
    owner = clients[frame["SK_ID_CURR"]].to_numpy()
    return {"variables": list(variables), "missing": groups, "segments": segments, **_dependence(scores, known, owner, traits)}


def _common_kinds(frame: pd.DataFrame, kind: pd.Series) -> pd.Series:
    """The kind of each loan, a rare one replaced by a common one, of the same state if possible."""
    counts = kind.value_counts()
    state = kind.str.split("|").str[0] if "CREDIT_ACTIVE" in frame else kind.str.split("|").str[1]
    for name in counts.index[counts < MIN_SEGMENT]:
        alike = counts[(counts >= MIN_SEGMENT) & counts.index.isin(kind[state == state[kind == name].iloc[0]])]
        kind = kind.where(kind != name, alike.index[0] if len(alike) else counts.index[0])
    return kind


def _marginals(variables: dict[str, pd.Series], rows: Any, ordinals: dict[str, Any]) -> dict[str, Any]:
    """The marginals of one segment, whose rows a mask selects; sets the ordinals of these rows."""
    found: dict[str, Any] = {}
    nothing = np.zeros(len(rows))
    for name, values in variables.items():
        counts = values[rows].value_counts()
        if counts.sum() >= FEWEST and (len(counts) > MAX_VALUES or counts.iloc[0] >= FEWEST):
            ordinals[name][rows], found[name] = marginal(values[rows], nothing[rows], values.dtype.kind not in "if")
    return found


def _dependence(scores: Values, known: Values, owner: Positions, traits: Values) -> dict[str, Any]:
    """Regression on the traits of the client, and the covariances of its residuals between and within clients."""
    variance = (scores**2).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    centre = traits[owner].mean(axis=0)  # over loans rather than clients, so a client with many loans counts often
    clients, position = np.unique(owner, return_inverse=True)
    sums, seen = (np.zeros((len(clients), scores.shape[1])) for _ in range(2))
    np.add.at(sums, position, scores)
    np.add.at(seen, position, known)
    regression = regression_on(traits[clients], sums / np.maximum(seen, 1), seen > 0, variance)
    inside = scores.T @ scores
    whole = correlation(inside / np.maximum(known.T @ known, 1), variance)
    pairs = seen.T @ seen - known.T @ known
    across = (sums.T @ sums - inside) / np.maximum(pairs, 1)
    between = correlation(np.where(pairs > 20 * FEWEST, across, 0), variance, diagonal=False)
    explained = regression @ np.cov(traits[owner].T) @ regression.T
    shared = np.clip(np.diag(between), 0, 0.9)
    np.fill_diagonal(between, shared)
    own = nearest_covariance(whole - between)
    shared_rest = nearest_covariance(between - explained)
    total = np.diag(explained) + np.diag(shared_rest) + np.diag(own)
    scale = np.sqrt(
        np.maximum(1 - np.diag(explained) - np.diag(shared_rest), 0.05)
        / np.maximum(total - np.diag(explained) - np.diag(shared_rest), 1e-9)
    )
    return {
        "centre": centre.round(4).tolist(),
        "regression": rows_of(regression),
        "between": rows_of(shared_rest),
        "within": rows_of(own * np.outer(scale, scale)),
    }
