"""Generates the history tables of generated applications: loans at other lenders and at this one.

Like an application, a loan is a row of a Gaussian copula. It has three parts: a regression on the outcome and some columns of the
application, a part that the loans of a client share, and a part of its own. The history therefore says more about default than the
application does. Loans fall into segments (kind and state) with their own marginals. months.py simulates the monthly tables from the
loans. configs/history_profile.json holds the aggregates; history_profile.py fits it.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr

from configs.settings import CONFIGS
from training.aliases import Positions, Values
from training.home_credit.draws import at, cents, factor, repeat, round_to
from training.home_credit.loans import Columns, Loans, Marginal
from training.home_credit.months import MONTH, OLDEST, MonthlyTables

PROFILE = CONFIGS / "history_profile.json"
TABLES = ("bureau", "bureau_balance", "previous_application", "POS_CASH_balance", "installments_payments", "credit_card_balance")
CLIENTS = 1_000  # clients drawn from one random stream, whatever the size of a chunk
STREAM = 7  # keeps these streams apart from those of the applications
MOST_LOANS = 100  # keys set aside for each client in each table
FIRST_BUREAU, FIRST_PREVIOUS = 5_000_000, 1_000_000
LAST_END = 31_199  # the latest planned end of a loan in the source, in days from the application
NEVER = 365243.0  # the source's day for an event that has not happened
SPREAD = 1.3  # standard deviation of the logarithm of a client's rate of late payments
APPROVED_LOANS = ("Cash loans|Approved", "Consumer loans|Approved")
# the columns on which the months of a card depend
CARD = ("SK_ID_PREV", "SK_ID_CURR", "AMT_CREDIT", "DAYS_DECISION", "DAYS_FIRST_DRAWING", "DAYS_TERMINATION")
APPROVED_CARDS = "Revolving loans|Approved"
COVARIATES = ("DAYS_BIRTH", "AMT_INCOME_TOTAL", "AMT_CREDIT", "EXT_SOURCE_1", "EXT_SOURCE_2", "EXT_SOURCE_3")
MEASURES = ("bureau", "previous_application", "late_bureau", "late_own", "card_use")  # what the profile says about a client as a whole


def covariates(frame: pd.DataFrame, default_rate: float) -> Values:
    """The covariates of an applicant's history, shape (rows, 1 + len(COVARIATES)): the centred outcome, then standardised columns.

    An unknown outcome or value counts as the mean, 0.
    """
    columns = [np.nan_to_num(frame["TARGET"].to_numpy(dtype=float) - default_rate)]
    for name in COVARIATES:
        values = frame[name].to_numpy(dtype=float)
        if name.startswith("AMT"):
            values = np.log(values)
        centre, scale = _SCALES[name]
        columns.append(np.clip(np.nan_to_num((values - centre) / scale), -3, 3))
    return np.column_stack(columns)


# centre and scale of each covariate, rounded; the regression makes up for the difference
_SCALES = {
    "DAYS_BIRTH": (-16_000, 4_360),
    "AMT_INCOME_TOTAL": (11.9, 0.49),
    "AMT_CREDIT": (13.07, 0.72),
    "EXT_SOURCE_1": (0.5, 0.21),
    "EXT_SOURCE_2": (0.51, 0.19),
    "EXT_SOURCE_3": (0.51, 0.19),
}


class _Clients(NamedTuple):
    """Clients by row: their keys, the covariates of their loans, traits, rates of late payments, whether they have a bureau_balance.

    `first` is the offset of their loans' ids.
    """

    keys: NDArray[Any]
    known: Values
    traits: Values
    late: Values
    covered: NDArray[np.bool_]
    first: int


class HistoryGenerator:
    """Draws the six history tables of generated applications."""

    def __init__(self, profile: dict[str, Any]) -> None:
        self.profile = profile
        self._bureau, self._previous = Loans(profile["bureau"]), Loans(profile["previous_application"])
        client = profile["client"]
        self._regression, self._factor = np.array(client["regression"]), factor(np.array(client["correlation"]))
        self._counts = [Marginal.from_dict(entry) for entry in client["counts"]]
        self._monthly = MonthlyTables(profile)

    @classmethod
    def from_file(cls, path: Path = PROFILE) -> Self:
        """The generator of a stored profile."""
        return cls(json.loads(path.read_text(encoding="utf-8")))

    def draw(self, applications: pd.DataFrame, wanted: int, seed: int, stream: int, *, role: str) -> dict[str, pd.DataFrame]:
        """Draw the history of CLIENTS applications with key and outcome, and keep that of the first `wanted`; frames by table.

        Parameters
        ----------
        wanted : all are drawn, so that no client depends on this number.
        stream : the number of the random stream of these clients, always the same for the same clients.
        role : train or test; they differ in the share of clients with a bureau_balance.
        """
        random = np.random.default_rng([seed, stream, STREAM])
        keys = applications["SK_ID_CURR"].to_numpy()
        known = covariates(applications, self.profile["default_rate"])
        traits = known @ self._regression.T + random.standard_normal((len(keys), len(MEASURES))) @ self._factor.T
        counts = [
            np.minimum(marginal.draw(ndtr(traits[:, position])), MOST_LOANS - 1).astype(int)
            for position, marginal in enumerate(self._counts)
        ]
        first = stream * CLIENTS * MOST_LOANS
        late = np.exp(SPREAD * traits[:, 2:4] - SPREAD**2 / 2)
        covered = random.random(len(keys)) < self.profile["covered"][role]

        clients = _Clients(keys, np.hstack([known, traits[:, :2]]), traits, late, covered, first)
        parts = *self._other_lenders(random, clients, counts[0]), *self._this_lender(random, clients, counts[1])
        tables = dict(zip(TABLES, parts, strict=True))
        if wanted == len(keys):
            return tables
        end = FIRST_BUREAU + first + wanted * MOST_LOANS
        return {
            name: frame[frame["SK_ID_CURR"] < keys[wanted] if "SK_ID_CURR" in frame else frame["SK_ID_BUREAU"] < end]
            for name, frame in tables.items()
        }

    def _other_lenders(self, random: np.random.Generator, clients: _Clients, counts: Positions) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The tables bureau and bureau_balance."""
        owner, number = repeat(counts)
        segment, columns = self._bureau.draw(random, clients.known, owner)
        ids = FIRST_BUREAU + clients.first + owner * MOST_LOANS + number
        bureau = self._bureau_table(clients.keys[owner], ids, segment, columns)
        with_balance = clients.covered[owner]
        balance = self._monthly.bureau_balance(random, bureau[with_balance].reset_index(drop=True), clients.late[owner[with_balance], 0])
        return bureau, balance

    def _this_lender(self, random: np.random.Generator, clients: _Clients, counts: Positions) -> tuple[pd.DataFrame, ...]:
        """The tables previous_application, POS_CASH_balance, installments_payments and credit_card_balance."""
        owner, number = repeat(counts)
        segment, columns = self._previous.draw(random, clients.known, owner)
        ids = FIRST_PREVIOUS + clients.first + owner * MOST_LOANS + number + 1
        kind = np.array(self._previous.segments, dtype=object)[segment]
        previous = self._previous_table(random, clients.keys[owner], ids, kind, columns)
        running = ~columns["missing DAYS_FIRST_DRAWING"]
        running &= ~columns["missing AMT_ANNUITY"]
        loans = running & np.isin(kind, APPROVED_LOANS) & (previous["DAYS_FIRST_DUE"].to_numpy() < 0)
        pos, instalments = self._monthly.of_loans(
            random, previous[loans].reset_index(drop=True), clients.traits[owner[loans], 3], clients.late[owner[loans], 1]
        )
        held = np.flatnonzero(running & (kind == APPROVED_CARDS))
        old = np.flatnonzero(random.random(len(clients.keys)) < self.profile["old_cards"])
        cards = pd.concat(
            [previous.loc[held, list(CARD)], self._old_cards(random, clients.keys[old], FIRST_PREVIOUS + clients.first + old * MOST_LOANS)]
        )
        holder = np.concatenate([owner[held], old])
        card, payments = self._monthly.of_cards(random, cards.reset_index(drop=True), clients.traits[holder, 4], clients.late[holder, 1])
        return previous, pos, pd.concat([instalments, payments], ignore_index=True), card

    def _bureau_table(self, keys: NDArray[Any], ids: NDArray[Any], segment: Positions, c: Columns) -> pd.DataFrame:
        kinds = np.array([name.split("|") for name in self._bureau.segments], dtype=object)[segment]
        opened = np.round(c["DAYS_CREDIT"])
        ended = np.where(c["missing DAYS_ENDDATE_FACT"], np.nan, np.minimum(np.round(opened * (1 - c["OPEN_SHARE"])), -1))
        amount = cents(c["AMT_CREDIT_SUM"])
        updated = np.minimum(np.fmax(np.fmax(np.round(c["DAYS_CREDIT_UPDATE"]), opened), ended), 0)
        return pd.DataFrame(
            {
                "SK_ID_CURR": keys,
                "SK_ID_BUREAU": ids,
                "CREDIT_ACTIVE": kinds[:, 0],
                "CREDIT_CURRENCY": c["CREDIT_CURRENCY"],
                "DAYS_CREDIT": opened.astype(np.int64),
                "CREDIT_DAY_OVERDUE": np.round(c["CREDIT_DAY_OVERDUE"]).astype(np.int64),
                "DAYS_CREDIT_ENDDATE": np.where(
                    c["missing DAYS_CREDIT_ENDDATE"], np.nan, np.minimum(np.round(opened + c["TERM"]), LAST_END)
                ),
                "DAYS_ENDDATE_FACT": ended,
                "AMT_CREDIT_MAX_OVERDUE": cents(c["AMT_CREDIT_MAX_OVERDUE"]),
                "CNT_CREDIT_PROLONG": np.round(c["CNT_CREDIT_PROLONG"]).astype(np.int64),
                "AMT_CREDIT_SUM": amount,
                "AMT_CREDIT_SUM_DEBT": np.where(c["missing AMT_CREDIT_SUM_DEBT"], np.nan, cents(c["DEBT_SHARE"] * amount)),
                "AMT_CREDIT_SUM_LIMIT": cents(c["AMT_CREDIT_SUM_LIMIT"]),
                "AMT_CREDIT_SUM_OVERDUE": cents(c["AMT_CREDIT_SUM_OVERDUE"]),
                "CREDIT_TYPE": kinds[:, 1],
                "DAYS_CREDIT_UPDATE": updated.astype(np.int64),
                "AMT_ANNUITY": cents(c["AMT_ANNUITY"]),
            }
        )

    # long: one line for each column, and the columns follow from each other
    def _previous_table(
        self, random: np.random.Generator, keys: NDArray[Any], ids: NDArray[Any], kind: NDArray[Any], c: Columns
    ) -> pd.DataFrame:
        kinds = np.array([name.split("|") for name in kind], dtype=object).reshape(-1, 2)
        credit = round_to(c["AMT_CREDIT"], 4.5)
        application = round_to(c["AMT_APPLICATION"] * credit, 4.5)
        dates = ~c["missing DAYS_FIRST_DRAWING"]
        decided = np.round(c["DAYS_DECISION"])
        first = np.where(dates, decided + np.round(c["DUE_DELAY"]), np.nan)
        instalments = np.maximum(c["CNT_PAYMENT"], 1)
        planned = first + 30 * (instalments - 1)
        last = first + 30 * np.round(c["PAID_SHARE"] * (instalments - 1))
        over = last + random.integers(4, 9, len(last))
        card = kind == APPROVED_CARDS
        drawn = np.where(card & (random.random(len(card)) < np.interp(decided, *self.profile["cards_used"])), first, NEVER)
        ends = card & (random.random(len(card)) < self.profile["cards_ended"])
        over = np.where(card, np.where(ends, np.round(first * random.random(len(card))), NEVER), over)
        rest = {name: c[name] for name in self.profile["previous_application"]["as_drawn"]}
        follows = {
            name: np.array([values.get(value) for value in c["PRODUCT_COMBINATION"]], dtype=object)
            for name, values in self.profile["previous_application"]["follows"].items()
        }
        columns = {
            "SK_ID_PREV": ids,
            "SK_ID_CURR": keys,
            "NAME_CONTRACT_TYPE": kinds[:, 0],
            "NAME_CONTRACT_STATUS": kinds[:, 1],
            "AMT_ANNUITY": round_to(c["AMT_ANNUITY"] * credit, 0.045),
            "AMT_APPLICATION": application,
            "AMT_CREDIT": credit,
            "AMT_DOWN_PAYMENT": round_to(c["RATE_DOWN_PAYMENT"] * application / 1.089, 4.5),
            "AMT_GOODS_PRICE": np.where(c["missing AMT_GOODS_PRICE"], np.nan, application),
            "DAYS_DECISION": decided.astype(np.int64),
            "DAYS_FIRST_DRAWING": np.where(dates, np.where(drawn < 0, drawn, NEVER), np.nan),
            "DAYS_FIRST_DUE": np.where(first < 0, first, np.where(dates, NEVER, np.nan)),
            "DAYS_LAST_DUE_1ST_VERSION": np.where(card & dates, NEVER, planned),
            "DAYS_LAST_DUE": np.where((card | (last >= 0)) & dates, NEVER, last),
            "DAYS_TERMINATION": np.where((over >= 0) & dates, NEVER, np.where(dates, over, np.nan)),
            **rest,
            "SELLERPLACE_AREA": np.round(c["SELLERPLACE_AREA"]),
            **follows,
        }
        return pd.DataFrame({name: columns[name] for name in self.profile["previous_application"]["columns"]})

    def _old_cards(self, random: np.random.Generator, keys: NDArray[Any], ids: NDArray[Any]) -> pd.DataFrame:
        """Cards older than previous_application."""
        limit = at(np.array(self.profile["quantiles"]["old_limit"]), random.random(len(keys)))
        decided = np.round(-OLDEST * MONTH * random.uniform(0.9, 1.1, len(keys)))
        return pd.DataFrame(dict(zip(CARD, (ids, keys, limit, decided, decided, np.full(len(keys), NEVER)), strict=True)))
