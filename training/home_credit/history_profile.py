"""Fits the profile of the history generator on real tables: aggregates only, none of fewer than 50 rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from features.schema import load_schema
from training.aliases import Values
from training.data.errors import DataError
from training.data.fields import key_of
from training.data.history_folder import HISTORY_OF
from training.data.reader import read_ids
from training.data.source import find_optional, find_source
from training.data.validation import read_rows, read_table
from training.home_credit.history_generator import MEASURES, TABLES, covariates
from training.home_credit.latent import correlation, normal_scores, regression_on, rest_covariance, rows_of
from training.home_credit.loan_profile import bureau_variables, loan_profile, previous_variables
from training.home_credit.month_profile import Frames, balance_shares, own_shares
from training.home_credit.profile import FEWEST, marginal

FOLLOWS = ("NAME_PORTFOLIO", "NAME_PRODUCT_TYPE", "NAME_YIELD_GROUP")  # columns that follow from PRODUCT_COMBINATION


def read_and_fit(folder: Path) -> dict[str, Any]:
    """Fit the profile of the tables in a folder, on the clients that complete_history_ids lists if the folder has it.

    Raises
    ------
    DataError
        A table is missing or cannot be used, there are too few clients, or a client is in both tables of applications.
    """
    tables = {name: read_frame(folder, name) for name in TABLES}
    table = load_schema()["application"]
    applications, test = (
        read_table(find_source(folder, table.files[role]), table, with_target=role == "train") for role in ("train", "test")
    )
    twice = int(test[table.key].isin(applications[table.key]).sum())
    if twice:
        raise DataError(f"{folder}: {twice:,} values of {table.key} are in application_train and in application_test; expected each in one")
    listed = find_optional(folder, HISTORY_OF)
    if listed:
        (complete,) = read_ids(listed, key_of(table))
        applications, test = (frame[frame["SK_ID_CURR"].isin(complete)] for frame in (applications, test))
    return fit_history_profile(applications, test, tables)


def read_frame(folder: Path, name: str) -> pd.DataFrame:
    """Read a history table of a folder: its key and its columns.

    Raises
    ------
    DataError
        The table is missing or cannot be used.
    """
    return read_rows(find_source(folder, name), load_schema()[name])


def fit_history_profile(applications: pd.DataFrame, test: pd.DataFrame, tables: Frames) -> dict[str, Any]:
    """Fit the profile of clients with a complete history. Only installments_payments may be incomplete.

    Parameters
    ----------
    applications, test : labelled and unlabelled applications of these clients. Other clients of the tables are ignored.
    tables : the six tables by name.

    Raises
    ------
    DataError
        There are too few clients, or too few with rows in a table, for aggregates of 50 people.
    """
    clients = pd.concat([applications, test.assign(TARGET=np.nan)], ignore_index=True)
    if len(clients) < 20 * FEWEST:
        raise DataError(
            f"{len(clients)} clients with history; expected at least {20 * FEWEST}, so that no aggregate describes a few people"
        )
    rows = pd.Series(np.arange(len(clients)), clients["SK_ID_CURR"])
    _check_tables(rows.index, tables)
    default_rate = float(applications["TARGET"].mean())
    bureau, previous = (tables[name][tables[name]["SK_ID_CURR"].isin(rows.index)] for name in ("bureau", "previous_application"))
    bureau, previous = bureau.reset_index(drop=True), previous.reset_index(drop=True)
    measures = _measures(clients["SK_ID_CURR"], bureau, previous, tables)
    client, traits = _client_profile(measures, covariates(clients, default_rate))
    kinds = bureau["CREDIT_ACTIVE"] + "|" + bureau["CREDIT_TYPE"], previous["NAME_CONTRACT_TYPE"] + "|" + previous["NAME_CONTRACT_STATUS"]
    own = loan_profile(previous, previous_variables(previous), kinds[1], rows, traits)
    balance = tables["bureau_balance"]
    has = bureau["SK_ID_BUREAU"].isin(balance["SK_ID_BUREAU"]).groupby(bureau["SK_ID_CURR"]).any()
    return {
        "clients": len(clients),
        "default_rate": round(default_rate, 4),
        "client": client,
        "covered": {
            role: round(float(has[has.index.isin(frame["SK_ID_CURR"])].mean()), 4)
            for role, frame in (("train", applications), ("test", test))
        },
        "bureau": loan_profile(bureau, bureau_variables(bureau), kinds[0], rows, traits),
        "previous_application": {
            **own,
            "columns": tables["previous_application"].columns.tolist(),
            "as_drawn": [name for name in own["variables"] if name in previous and not name.startswith(("AMT", "DAYS"))],
            "follows": {name: _commonest(previous, name) for name in FOLLOWS},
        },
        **balance_shares(balance, bureau),
        **own_shares(previous, len(clients), tables),
    }


def _check_tables(clients: pd.Index, tables: Frames) -> None:
    """Refuse tables with rows of too few clients; bureau_balance names loans of bureau, installments_payments may name anybody's."""
    bureau = tables["bureau"].loc[tables["bureau"]["SK_ID_CURR"].isin(clients), ["SK_ID_BUREAU", "SK_ID_CURR"]]
    for name in TABLES:
        table = tables[name]
        if name == "bureau_balance":
            table = bureau[bureau["SK_ID_BUREAU"].isin(table["SK_ID_BUREAU"])]
        elif name != "installments_payments":
            table = table[table["SK_ID_CURR"].isin(clients)]
        count = table["SK_ID_CURR"].nunique()
        if count < 2 * FEWEST:
            raise DataError(
                f"{name} has rows of {count:,} clients; expected at least {2 * FEWEST}, so that no aggregate describes a few people"
            )


def _client_profile(measures: pd.DataFrame, known: Values) -> tuple[dict[str, Any], Values]:
    """How MEASURES depend on the covariates and on each other; and the traits of each client on which the loans depend."""
    scores, there, variance = normal_scores(measures[list(MEASURES)].to_numpy(dtype=float))
    regression = regression_on(known, scores, there, variance)
    product = scores.T @ scores / np.maximum(there.T @ there, 1)
    rest = correlation(product, variance) - regression @ np.cov(known.T) @ regression.T
    counts = [marginal(measures[name], np.zeros(len(measures)), False)[1] for name in MEASURES[:2]]
    profile = {
        "regression": rows_of(regression),
        "correlation": rows_of(rest_covariance(rest, regression, known)),
        "counts": counts,
    }
    return profile, np.hstack([known, scores[:, :2] / np.sqrt(variance[:2])])


def _commonest(previous: pd.DataFrame, name: str) -> Any:
    """The most common value of a column for each PRODUCT_COMBINATION."""
    return previous.groupby(previous["PRODUCT_COMBINATION"])[name].agg(lambda values: values.mode().iloc[0]).to_dict()


def _measures(keys: pd.Series, bureau: pd.DataFrame, previous: pd.DataFrame, tables: Frames) -> pd.DataFrame:
    """MEASURES of each client, NaN where the client has no row of the table."""
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
