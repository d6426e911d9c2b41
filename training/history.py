"""Generated history tables: the loans at other lenders and at this one that go with generated applications.

A loan is a row of a Gaussian copula as an application is, in three parts: what follows from the client (the outcome and
some columns of the application, by regression), what the client's loans share, and what is the loan's own. So default
shows in the history beyond what the application tells. Loans fall into segments (kind and state) with marginals of their
own. The monthly tables are simulated from their loans: states by Markov chains, payments around their due days, card
balances as an autoregression on the share of the limit that is used. configs/history_profile.json holds the aggregates;
training/history_profile.py fits it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr

from configs.settings import CONFIGS

PROFILE = CONFIGS / "history_profile.json"
TABLES = ("bureau", "bureau_balance", "previous_application", "POS_CASH_balance", "installments_payments", "credit_card_balance")
CLIENTS = 1_000  # clients drawn from one random stream, whatever the size of a chunk
STREAM = 7  # keeps these streams apart from those of the applications
MOST_LOANS = 100  # keys set aside for each client in each table
FIRST_BUREAU, FIRST_PREVIOUS = 5_000_000, 1_000_000
MONTH = 365.25 / 12
LAST_END = 31_199  # the latest planned end of a loan in the source, in days from the application
OLDEST = 96  # months that the monthly tables reach back
NEVER = 365243.0  # the source's day for what has not happened
STATES = ("5", "4", "3", "2", "1", "X", "0")  # of bureau_balance while a loan is open, the worst first
SPREAD = 1.3  # standard deviation of the logarithm of how often clients are late
STUCK = 0.25  # share of late spells of the own loans that never end
APPROVED_LOANS = ("Cash loans|Approved", "Consumer loans|Approved")
CARD = ("SK_ID_PREV", "SK_ID_CURR", "AMT_CREDIT", "DAYS_DECISION", "DAYS_FIRST_DRAWING", "DAYS_TERMINATION")  # what its months depend on
APPROVED_CARDS = "Revolving loans|Approved"
COVARIATES = ("DAYS_BIRTH", "AMT_INCOME_TOTAL", "AMT_CREDIT", "EXT_SOURCE_1", "EXT_SOURCE_2", "EXT_SOURCE_3")
MEASURES = ("bureau", "previous_application", "late_bureau", "late_own", "card_use")  # what the profile tells of a client as a whole

Values = NDArray[np.float64]
Columns = dict[str, NDArray[Any]]


def covariates(frame: pd.DataFrame, default_rate: float) -> Values:
    """What the history of an application depends on, shape (rows, 1 + len(COVARIATES)), each with mean 0 and, the outcome aside, variance 1.

    The outcome counts from its mean; an outcome or a value that is not known counts as the mean.
    """
    columns = [np.nan_to_num(frame["TARGET"].to_numpy(dtype=float) - default_rate)]
    for name in COVARIATES:
        values = frame[name].to_numpy(dtype=float)
        if name.startswith("AMT"):
            values = np.log(values)
        centre, scale = _SCALES[name]
        columns.append(np.clip(np.nan_to_num((values - centre) / scale), -3, 3))
    return np.column_stack(columns)


# centre and scale of each covariate; round figures, since the regression takes up what they miss
_SCALES = {
    "DAYS_BIRTH": (-16_000, 4_360),
    "AMT_INCOME_TOTAL": (11.9, 0.49),
    "AMT_CREDIT": (13.07, 0.72),
    "EXT_SOURCE_1": (0.5, 0.21),
    "EXT_SOURCE_2": (0.51, 0.19),
    "EXT_SOURCE_3": (0.51, 0.19),
}


@dataclass(frozen=True)
class Marginal:
    """Quantiles of a continuous column, or values and shares of a discrete one."""

    quantiles: Values
    values: NDArray[Any]
    bounds: Values

    @classmethod
    def from_dict(cls, entry: dict[str, Any]) -> Self:
        """The marginal of a profile's entry."""
        values = entry.get("values", [])
        kind = object if values and isinstance(values[0], str) else float
        return cls(np.array(entry.get("quantiles", []), dtype=float), np.array(values, dtype=kind), np.cumsum(entry.get("shares", []))[:-1])

    def draw(self, level: Values) -> NDArray[Any]:
        """The values at these levels in (0, 1)."""
        if len(self.quantiles):
            return np.interp(level, np.linspace(0, 1, len(self.quantiles)), self.quantiles)
        return np.asarray(self.values[np.searchsorted(self.bounds, level, side="right")])


class Loans:
    """The loans of one table: a copula with a part that a client's loans share, and marginals for each segment."""

    def __init__(self, profile: dict[str, Any]) -> None:
        self.segments: list[str] = [segment["name"] for segment in profile["segments"]]
        self._bounds = np.cumsum([segment["share"] for segment in profile["segments"]])[:-1]
        self._marginals = [
            {name: Marginal.from_dict(entry) for name, entry in segment["marginals"].items()} for segment in profile["segments"]
        ]
        self._missing = [segment["missing"] for segment in profile["segments"]]
        self._groups: dict[str, list[str]] = profile["missing"]
        self._variables: list[str] = profile["variables"]
        self._centre, self._regression = np.array(profile["centre"]), np.array(profile["regression"])
        self._between, self._within = factor(np.array(profile["between"])), factor(np.array(profile["within"]))

    def draw(self, random: np.random.Generator, clients: Values, owner: NDArray[np.intp]) -> tuple[NDArray[np.intp], Columns]:
        """The segment of each loan and its columns.

        Parameters
        ----------
        clients : shape (clients, covariates).
        owner : for each loan the place of its client.
        """
        size = len(self._between)
        shared = (clients - self._centre) @ self._regression.T + random.standard_normal((len(clients), size)) @ self._between.T
        level = ndtr(shared[owner] + random.standard_normal((len(owner), size)) @ self._within.T)
        segment = np.searchsorted(self._bounds, level[:, 0], side="right")
        columns: Columns = {}
        text = {name for marginals in self._marginals for name, marginal in marginals.items() if marginal.values.dtype == object}
        for name in self._variables:
            columns[name] = np.full(len(owner), None, dtype=object) if name in text else np.full(len(owner), np.nan)
        for place, (marginals, missing) in enumerate(zip(self._marginals, self._missing, strict=True)):
            rows = np.flatnonzero(segment == place)
            for position, name in enumerate(self._variables, 1):
                if name in marginals:
                    columns[name][rows] = marginals[name].draw(level[rows, position])
            for position, (group, members) in enumerate(self._groups.items(), 1 + len(self._variables)):
                gone = rows[level[rows, position] < missing.get(group, 0.0)]
                columns[f"missing {group}"] = columns.get(f"missing {group}", np.zeros(len(owner), dtype=bool))
                columns[f"missing {group}"][gone] = True
                for member in members:
                    if member in columns:
                        columns[member][gone] = None if member in text else np.nan
        return segment, columns


class Spells(NamedTuple):
    """When loans are late.

    Attributes
    ----------
    late, counted : shape (loans, months), which months are past due, and beyond what is tolerated.
    stuck : for each loan the month from which it stays past due, -1 for none.
    """

    late: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    stuck: NDArray[np.intp]


class HistoryGenerator:
    """Draws the six history tables of generated applications."""

    def __init__(self, profile: dict[str, Any]) -> None:
        self.profile = profile
        self._bureau, self._previous = Loans(profile["bureau"]), Loans(profile["previous_application"])
        client = profile["client"]
        self._regression, self._factor = np.array(client["regression"]), factor(np.array(client["correlation"]))
        self._counts = [Marginal.from_dict(entry) for entry in client["counts"]]
        self._quantiles = {name: np.array(values) for name, values in profile["quantiles"].items()}
        self._chain = np.cumsum(profile["states"], axis=1)

    @classmethod
    def from_file(cls, path: Path = PROFILE) -> Self:
        """The generator of a stored profile."""
        return cls(json.loads(path.read_text(encoding="utf-8")))

    def draw(self, applications: pd.DataFrame, wanted: int, seed: int, stream: int, *, role: str) -> dict[str, pd.DataFrame]:
        """The history of the first of CLIENTS applications, which have key and outcome, by table.

        Parameters
        ----------
        wanted : how many of the applications; all are drawn, so that none depends on how many are wanted.
        stream : the number of these clients' random stream; the same clients need the same.
        role : train or test, which differ in how many clients have a bureau_balance.
        """
        random = np.random.default_rng([seed, stream, STREAM])
        keys = applications["SK_ID_CURR"].to_numpy()
        known = covariates(applications, self.profile["default_rate"])
        traits = known @ self._regression.T + random.standard_normal((len(keys), len(MEASURES))) @ self._factor.T
        counts = [
            np.minimum(marginal.draw(ndtr(traits[:, place])), MOST_LOANS - 1).astype(int) for place, marginal in enumerate(self._counts)
        ]
        clients = np.hstack([known, traits[:, :2]])
        first = stream * CLIENTS * MOST_LOANS
        late = np.exp(SPREAD * traits[:, 2:4] - SPREAD**2 / 2)
        covered = random.random(len(keys)) < self.profile["covered"][role]

        owner, number = _repeat(counts[0])
        segment, columns = self._bureau.draw(random, clients, owner)
        ids = FIRST_BUREAU + first + owner * MOST_LOANS + number
        bureau = self._bureau_table(keys[owner], ids, segment, columns)
        with_balance = covered[owner]
        balance = self._balance_table(random, bureau[with_balance].reset_index(drop=True), late[owner[with_balance], 0])

        owner, number = _repeat(counts[1])
        segment, columns = self._previous.draw(random, clients, owner)
        ids = FIRST_PREVIOUS + first + owner * MOST_LOANS + number + 1
        kind = np.array(self._previous.segments, dtype=object)[segment]
        previous = self._previous_table(random, keys[owner], ids, kind, columns)
        running = ~columns["missing DAYS_FIRST_DRAWING"]
        running &= ~columns["missing AMT_ANNUITY"]
        loans = running & np.isin(kind, APPROVED_LOANS) & (previous["DAYS_FIRST_DUE"].to_numpy() < 0)
        pos, instalments = self._loan_tables(random, previous[loans].reset_index(drop=True), traits[owner[loans], 3], late[owner[loans], 1])
        held = np.flatnonzero(running & (kind == APPROVED_CARDS))
        old = np.flatnonzero(random.random(len(keys)) < self.profile["old_cards"])
        cards = pd.concat([previous.loc[held, list(CARD)], self._old_cards(random, keys[old], FIRST_PREVIOUS + first + old * MOST_LOANS)])
        holder = np.concatenate([owner[held], old])
        card, payments = self._card_tables(random, cards.reset_index(drop=True), traits[holder, 4], late[holder, 1])
        instalments = pd.concat([instalments, payments], ignore_index=True)
        tables = dict(zip(TABLES, (bureau, balance, previous, pos, instalments, card), strict=True))
        if wanted == len(keys):
            return tables
        end = FIRST_BUREAU + first + wanted * MOST_LOANS
        return {
            name: frame[frame["SK_ID_CURR"] < keys[wanted] if "SK_ID_CURR" in frame else frame["SK_ID_BUREAU"] < end]
            for name, frame in tables.items()
        }

    def _bureau_table(self, keys: NDArray[Any], ids: NDArray[Any], segment: NDArray[np.intp], c: Columns) -> pd.DataFrame:
        kinds = np.array([name.split("|") for name in self._bureau.segments], dtype=object)[segment]
        opened = np.round(c["DAYS_CREDIT"])
        ended = np.where(c["missing DAYS_ENDDATE_FACT"], np.nan, np.minimum(np.round(opened * (1 - c["OPEN_SHARE"])), -1))
        amount = _cents(c["AMT_CREDIT_SUM"])
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
                "AMT_CREDIT_MAX_OVERDUE": _cents(c["AMT_CREDIT_MAX_OVERDUE"]),
                "CNT_CREDIT_PROLONG": np.round(c["CNT_CREDIT_PROLONG"]).astype(np.int64),
                "AMT_CREDIT_SUM": amount,
                "AMT_CREDIT_SUM_DEBT": np.where(c["missing AMT_CREDIT_SUM_DEBT"], np.nan, _cents(c["DEBT_SHARE"] * amount)),
                "AMT_CREDIT_SUM_LIMIT": _cents(c["AMT_CREDIT_SUM_LIMIT"]),
                "AMT_CREDIT_SUM_OVERDUE": _cents(c["AMT_CREDIT_SUM_OVERDUE"]),
                "CREDIT_TYPE": kinds[:, 1],
                "DAYS_CREDIT_UPDATE": updated.astype(np.int64),
                "AMT_ANNUITY": _cents(c["AMT_ANNUITY"]),
            }
        )

    def _balance_table(self, random: np.random.Generator, bureau: pd.DataFrame, late: Values) -> pd.DataFrame:
        oldest = np.minimum(np.floor(-bureau["DAYS_CREDIT"].to_numpy() / MONTH), OLDEST).astype(int)
        reported = random.random(len(bureau)) < self.profile["to_present"]  # others stop being told at some month
        newest = np.where(reported, 0, (oldest * random.random(len(bureau))).astype(int))
        months = oldest - newest + 1
        ended = np.floor(bureau["DAYS_ENDDATE_FACT"].to_numpy() / MONTH)  # NaN, so never, where the loan is active
        quits = random.random(len(bureau)) < self.profile["quits_active"]
        closes = np.where(np.isnan(ended), np.where(quits, -(oldest * random.random(len(bureau))), 1), ended)
        closes = np.where(random.random(len(bureau)) < self.profile["says_closed"], closes, 1)
        unknown = random.random(len(bureau)) < self.profile["never_told"]
        state = np.full(len(bureau), STATES.index("0"))
        state[unknown | (random.random(len(bureau)) < self.profile["starts_unknown"])] = STATES.index("X")
        states = np.empty((len(bureau), OLDEST + 1), dtype=np.int8)
        for month in range(int(months.max(initial=0))):
            states[:, month] = state
            level = random.random(len(bureau)) / np.where(state == STATES.index("0"), late, 1.0)
            state = np.minimum((level[:, None] > self._chain[state]).sum(axis=1), len(STATES) - 1)
            state[unknown] = STATES.index("X")
        owner, number = _repeat(months)
        month = number - oldest[owner]
        text = np.array([*STATES, "C"], dtype=object)
        code = np.where(month >= closes[owner], len(STATES), states[owner, number])
        return pd.DataFrame({"SK_ID_BUREAU": bureau["SK_ID_BUREAU"].to_numpy()[owner], "MONTHS_BALANCE": month, "STATUS": text[code]})

    def _previous_table(
        self, random: np.random.Generator, keys: NDArray[Any], ids: NDArray[Any], kind: NDArray[Any], c: Columns
    ) -> pd.DataFrame:
        kinds = np.array([name.split("|") for name in kind], dtype=object).reshape(-1, 2)
        credit = _round(c["AMT_CREDIT"], 4.5)
        application = _round(c["AMT_APPLICATION"] * credit, 4.5)
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
            "AMT_ANNUITY": _round(c["AMT_ANNUITY"] * credit, 0.045),
            "AMT_APPLICATION": application,
            "AMT_CREDIT": credit,
            "AMT_DOWN_PAYMENT": _round(c["RATE_DOWN_PAYMENT"] * application / 1.089, 4.5),
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
        """Cards from before previous_application begins."""
        limit = _at(self._quantiles["old_limit"], random.random(len(keys)))
        decided = np.round(-OLDEST * MONTH * random.uniform(0.9, 1.1, len(keys)))
        return pd.DataFrame(dict(zip(CARD, (ids, keys, limit, decided, decided, np.full(len(keys), NEVER)), strict=True)))

    def _loan_tables(
        self, random: np.random.Generator, loans: pd.DataFrame, trait: Values, late: Values
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """POS_CASH_balance and the instalments of the loans that are paid back in instalments."""
        due, over = loans["DAYS_FIRST_DUE"].to_numpy(), loans["DAYS_TERMINATION"].to_numpy()
        instalments = np.maximum(loans["CNT_PAYMENT"].to_numpy(), 1).astype(int)
        first = np.maximum(np.floor(due / MONTH).astype(int) - 1, -OLDEST)
        ended = over < 0
        last = np.where(ended, np.floor(over / MONTH), -1).astype(int)
        last = np.clip(last, first, -1)
        spells = self._spells(random, last - first + 1, late)
        last = np.where(spells.stuck >= 0, -1, last)
        owner, number = _repeat(last - first + 1)
        month, closing = first[owner] + number, (number == (last - first)[owner]) & (ended & (spells.stuck < 0))[owner]
        future = np.maximum(instalments[owner] - np.maximum(number - 1, 0), 0)
        status = np.full(len(owner), "Active", dtype=object)
        status[(number == 0) & (random.random(len(owner)) < self.profile["signed"])] = "Signed"
        status[closing & (random.random(len(owner)) < self.profile["completed"])] = "Completed"
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
        owner, number = _repeat(np.clip((paid_until - due) // 30 + 1, 1, instalments).astype(int))
        early = (number == (np.bincount(owner, minlength=len(loans)) - 1)[owner]) & (number < instalments[owner] - 1) & ended[owner]
        amount = loans["AMT_ANNUITY"].to_numpy()[owner] * np.where(early, instalments[owner] - number, 1)
        habit = 0.6 * trait + 0.5 * random.standard_normal(len(loans))
        days = _at(self._quantiles["paid_after"], ndtr(habit[owner] + 0.62 * random.standard_normal(len(owner))))
        rows = _payments(
            loans, owner, version=np.where(early, 2.0, 1.0), number=number + 1, due=due[owner] + 30 * number, days=days, amount=amount
        )
        return pos, _part_payments(random, rows, self.profile["part_payments"])

    def _card_tables(
        self, random: np.random.Generator, cards: pd.DataFrame, trait: Values, late: Values
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """credit_card_balance and the payments on the cards."""
        decided, over = cards["DAYS_DECISION"].to_numpy(), cards["DAYS_TERMINATION"].to_numpy()
        used = cards["DAYS_FIRST_DRAWING"].to_numpy() < 0
        first = np.maximum(np.floor(decided / MONTH).astype(int), -OLDEST)
        last = np.clip(np.where(over < 0, np.floor(over / MONTH), -1).astype(int), first, -1)
        first = np.minimum(first, -1)
        months = last - first + 1
        limit = cards["AMT_CREDIT"].to_numpy() * _at(self._quantiles["limit_of_credit"], random.random(len(cards)))
        limit = np.maximum(_round(limit, 4500), 4500)
        limit[~used & (random.random(len(cards)) < self.profile["no_limit"])] = 0
        share = self._share_of_limit(random, months, used, trait)
        spells = self._spells(random, months, late)
        owner, number = _repeat(months)
        top = limit[owner]
        balance = _cents(np.maximum(share[owner, number], 0) * top)
        before = np.where(number > 0, _cents(np.maximum(share[owner, np.maximum(number - 1, 0)], 0) * top), 0)
        minimum = np.where(balance > 0, np.minimum(_round(0.05 * top, 2250), _cents(balance)), 0)
        asked = np.minimum(np.where(before > 0, _round(0.05 * top, 2250), 0), before)
        paid = asked * np.where(random.random(len(owner)) < 0.1, 0, _at(self._quantiles["paid_of_minimum"], random.random(len(owner))))
        owed = _cents(before * (1 + 0.02 * random.random(len(owner))))
        drawn = np.maximum(balance - owed + paid, 0)
        drawn = np.where((drawn < 0.01 * top) | (balance == 0), 0, _round(drawn, 45))
        paid = _cents(np.maximum(owed + drawn - balance, 0))
        cash = drawn * (random.random(len(owner)) < self.profile["drawn_in_cash"])
        hidden = (~used & (random.random(len(cards)) < self.profile["drawings_untold"]))[owner]
        dpd, dpd_def = _days_late(random, owner, number, spells, self._quantiles["days_late"])
        dpd, dpd_def = (np.where(balance > 0, days, 0) for days in (dpd, dpd_def))
        principal = _cents(balance * 0.96)
        fresh = (balance == 0) & (random.random(len(owner)) < self.profile["minimum_untold"])
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
        parts, part = _repeat(1 + random.poisson(self.profile["more_card_payments"], len(paying)))
        row, each = paying[parts], np.bincount(parts, minlength=len(paying))[parts]
        day = np.floor((columns["MONTHS_BALANCE"][row] + (part + random.random(len(part))) / each) * MONTH)
        days = _at(self._quantiles["card_paid_after"], random.random(len(part)))
        amount = _cents(paid[row] / each)
        return pd.DataFrame(columns), _payments(
            cards, owner[row], version=np.zeros(len(row)), number=mature[row] + 1 + part, due=day, days=days, amount=amount
        )

    def _share_of_limit(self, random: np.random.Generator, months: NDArray[np.intp], used: NDArray[np.bool_], trait: Values) -> Values:
        """The share of the limit that is used, shape (cards, months); an autoregression around the card's own level."""
        keep, own = self.profile["use_persistence"], self.profile["use_of_card"]
        share = np.zeros((len(months), int(months.max(initial=0))))
        level = np.sqrt(own) * trait
        noise = random.standard_normal(len(months))
        for month in range(share.shape[1]):
            share[:, month] = np.where(used, _at(self._quantiles["use"], ndtr(level + np.sqrt(1 - own) * noise)), 0)
            noise = keep * noise + np.sqrt(1 - keep**2) * random.standard_normal(len(months))
        return share

    def _spells(self, random: np.random.Generator, months: NDArray[np.intp], late: Values) -> Spells:
        begins, goes_on, counted = self.profile["late_begins"], self.profile["late_goes_on"], self.profile["late_counted"]
        longest = int(months.max(initial=0))
        passed = np.zeros((len(months), longest), dtype=bool)
        state = np.zeros(len(months), dtype=bool)
        for month in range(longest):
            passed[:, month] = state
            state = random.random(len(months)) < np.where(state, goes_on, np.minimum(begins * late, 0.5))
        inside = np.arange(longest) < months[:, None]
        passed &= inside
        stuck = np.where(passed.any(axis=1) & (random.random(len(months)) < self.profile["late_for_ever"]), passed.argmax(axis=1), -1)
        return Spells(passed, passed & (random.random(passed.shape) < counted), stuck)


def _payments(
    loans: pd.DataFrame, owner: NDArray[np.intp], *, version: Values, number: NDArray[Any], due: Values, days: Values, amount: Values
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "SK_ID_PREV": loans["SK_ID_PREV"].to_numpy()[owner],
            "SK_ID_CURR": loans["SK_ID_CURR"].to_numpy()[owner],
            "NUM_INSTALMENT_VERSION": version,
            "NUM_INSTALMENT_NUMBER": number,
            "DAYS_INSTALMENT": np.minimum(due, -1.0),
            "DAYS_ENTRY_PAYMENT": np.minimum(np.round(np.minimum(due, -1.0) + days), -1.0),
            "AMT_INSTALMENT": _cents(amount),
            "AMT_PAYMENT": _cents(amount),
        }
    )


def _part_payments(random: np.random.Generator, rows: pd.DataFrame, share: float) -> pd.DataFrame:
    """Some instalments paid in two parts: the same instalment twice, the second part later or of another amount."""
    split = np.flatnonzero((random.random(len(rows)) < share) & (rows["AMT_PAYMENT"].to_numpy() > 1))
    second = rows.iloc[split].copy()
    part = _cents(second["AMT_PAYMENT"].to_numpy() * random.uniform(0.02, 0.49, len(split)))
    rows.loc[split, "AMT_PAYMENT"] = _cents(second["AMT_PAYMENT"].to_numpy() - part)
    second["AMT_PAYMENT"] = part
    second["DAYS_ENTRY_PAYMENT"] = np.minimum(second["DAYS_ENTRY_PAYMENT"] + random.integers(0, 25, len(split)), -1.0)
    return pd.concat([rows, second], ignore_index=True)


def _days_late(
    random: np.random.Generator, owner: NDArray[np.intp], number: NDArray[np.intp], spells: Spells, quantiles: Values
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Days past due of each month, and those beyond what is tolerated."""
    longest, stuck = spells.late.shape[1], spells.stuck[owner]
    inside = np.minimum(number, max(0, longest - 1))
    late, beyond = (flags[owner, inside] & (number < longest) for flags in (spells.late, spells.counted))
    days = np.where(late, np.maximum(np.round(_at(quantiles, random.random(len(owner)))), 1), 0)
    for_ever = (stuck >= 0) & (number >= stuck)
    days = np.where(for_ever, 5 + np.round(MONTH * (number - stuck)), days)
    return days.astype(np.int64), np.where(beyond & ~for_ever, days, 0).astype(np.int64)


def _repeat(counts: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """For each of sum(counts) items its owner and its place among the owner's, from 0."""
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)


def factor(covariance: Values) -> Values:
    """A matrix whose product with its transpose is the nearest covariance with no negative eigenvalue and the same variances."""
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))
    norm = np.linalg.norm(root, axis=1, keepdims=True)
    return np.asarray(root / np.maximum(norm, 1e-12) * np.sqrt(np.maximum(np.diag(covariance), 0))[:, None])


def _at(quantiles: Values, level: Values) -> Values:
    return np.interp(level, np.linspace(0, 1, len(quantiles)), quantiles)


def _cents(values: Values) -> Values:
    return np.asarray(np.round(values * 1000) / 1000)


def _round(values: Values, step: float) -> Values:
    return np.asarray(np.round(values / step) * step)
