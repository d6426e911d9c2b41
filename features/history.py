"""Aggregates the rows of a client's history: the one path of training and serving.

The rule of summation: the rows of a client are sorted by the id of the loan, then by every other column in the order of the schema, NaN
last. Rows that tie are equal in every column. A sum starts at zero and adds one value after another in this order, as `np.bincount` does.
It does not depend on other clients in the call or on the order of the input, so a client has the same bits alone, in any batch, and
offline in any block. Values that are not known or not selected add 0.0, which changes no bit. Counts, minima and maxima do not depend
on the order. Everything else is elementwise. -0.0 is read as 0.0, so that the two count as equal.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from features.schema import Column, Table

UNSEEN = -1.0  # the code of a category that the schema or training does not list
BLOCK = 50_000  # rows aggregated at once

Matrix = NDArray[np.float64]
Positions = NDArray[np.intp]
Mask = NDArray[np.bool_]
Getter = Callable[[str], Matrix]


class Expression(NamedTuple):
    """A value computed elementwise from the columns of a history row: the formula as text, and as code."""

    formula: str
    compute: Callable[[Getter], Matrix]


class Window(NamedTuple):
    """The column that dates a row, as a number not above zero, and the number of its units in a month."""

    column: str
    month: float


@dataclass(frozen=True)
class Aggregate:
    """One value per client, from the rows of one history table.

    Attributes
    ----------
    reduce : "count" of the selected rows; "share" of the selected rows among all; "loans", the number of distinct loans;
        "sum", "mean", "min", "max" of the known values in the selected rows.
    value : a column or an expression of the table; empty for "count", "share" and "loans".
    text : a description for people.
    where : a category column and the values that select a row; empty selects all.
    months : select only rows of the last `months` months.
    """

    name: str
    table: str
    reduce: Literal["count", "share", "loans", "sum", "mean", "min", "max"]
    value: str
    unit: str
    text: str
    where: tuple[str, ...] = ()
    months: int | None = None

    def source(self, expressions: Mapping[str, Expression]) -> str:
        """The definition in words, which identifies the aggregate."""
        value = expressions[self.value].formula if self.value in expressions else self.value
        where = f" where {self.where[0]} is {' or '.join(self.where[1:])}" if self.where else ""
        months = f", last {self.months} months" if self.months else ""
        return f"{self.reduce} of {f'{value} over ' if value else ''}{self.table}{where}{months}"


@dataclass(frozen=True)
class Rows:
    """Rows of one history table.

    Attributes
    ----------
    client : shape (rows,), the number of the client of each row, from 0.
    values : shape (columns of the table, rows), NaN where not known. A category is its index in the schema, or UNSEEN.
    """

    table: Table
    client: Positions
    values: Matrix

    @classmethod
    def from_coded(cls, table: Table, client: Positions, values: Matrix) -> Self:
        """Take values as in the source, with categories coded by `codes_of`; changes `values` in place."""
        for values_of_column, column in zip(values, table.columns, strict=True):
            if column.type != "category":
                for unknown in column.unknown:
                    values_of_column[values_of_column == unknown] = np.nan
        values += 0.0  # turns -0.0 into 0.0
        return cls(table, client, values)


@dataclass(frozen=True)
class History:
    """The history of some clients, by table.

    Attributes
    ----------
    clients : their number.
    rows : the rows of each table that is present.
    given : for each table, shape (clients,), whether it was looked up for the client. Without rows, a client has an empty history in a
        table that was looked up, and an unknown history otherwise.
    """

    clients: int
    rows: Mapping[str, Rows]
    given: Mapping[str, Mask]


class Aggregator:
    """Computes aggregates.

    Parameters
    ----------
    aggregates : in the order of the result.
    tables : the history tables of the schema.
    expressions, windows : by table.
    """

    def __init__(
        self,
        aggregates: Sequence[Aggregate],
        tables: Iterable[Table],
        expressions: Mapping[str, Mapping[str, Expression]],
        windows: Mapping[str, Window],
    ) -> None:
        self.aggregates = tuple(aggregates)
        self._plans: list[tuple[_Plan, Positions]] = []
        for table in tables:
            places = [place for place, aggregate in enumerate(aggregates) if aggregate.table == table.name]
            if places:
                plan = _Plan(table, [aggregates[place] for place in places], expressions[table.name], windows[table.name])
                self._plans.append((plan, np.array(places, dtype=np.intp)))

    def compute(self, history: History) -> Matrix:
        """The aggregates, shape (clients, aggregates): NaN if the table was not looked up or no selected value is known.

        Counts and sums are 0 if the table was looked up and no row is selected.
        """
        result = np.full((history.clients, len(self.aggregates)), np.nan)
        for plan, places in self._plans:
            rows = history.rows.get(plan.table.name)
            if rows is not None:
                given = np.flatnonzero(history.given[plan.table.name])
                result[np.ix_(given, places)] = plan.compute(rows, history.clients)[:, given].T
        return result


class _Plan:
    """How the aggregates of one table are computed: distinct selections of rows, distinct values in them, and their reductions.

    Every method works on many aggregates at once, with arrays of shape (aggregates or values, rows or clients).
    """

    def __init__(self, table: Table, aggregates: Sequence[Aggregate], expressions: Mapping[str, Expression], window: Window) -> None:
        self.table = table
        self._columns = {column.name: place for place, column in enumerate(table.columns)}
        self._codes = {column.name: codes_of(column) for column in table.categorical}
        self._expressions, self._window = expressions, window
        self._size = len(aggregates)
        self._selections: list[tuple[tuple[str, ...], int | None]] = [((), None)]
        values: list[str] = []
        pairs: list[tuple[int, int]] = []
        steps: dict[str, list[tuple[int, int]]] = {}
        for place, item in enumerate(aggregates):
            if item.where and not set(item.where[1:]) <= set(self._codes.get(item.where[0], ())):
                raise ValueError(f"{item.name}: {table.name} has no category column {item.where[0]!r} with the values {item.where[1:]}")
            at = _place(self._selections, (item.where, item.months))
            if item.value:
                if item.value not in self._columns and item.value not in expressions:
                    raise ValueError(f"{item.name}: {table.name} has no column or expression {item.value!r}")
                at = _place(pairs, (_place(values, item.value), at))
            steps.setdefault(item.reduce, []).append((place, at))
        self._values = values
        self._pairs = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
        self._steps = {reduce: np.array(places, dtype=np.intp).T for reduce, places in steps.items()}

    def compute(self, rows: Rows, clients: int) -> Matrix:
        """The aggregates, shape (aggregates, clients), as if every client had been looked up."""
        result = np.empty((self._size, clients))
        if len(rows.client) <= BLOCK:
            self._block(rows.values, rows.client, result)
            return result
        order = np.argsort(rows.client, kind="stable")
        client = rows.client[order]
        first = 0
        while first < clients:
            start = int(np.searchsorted(client, first))
            last = clients if len(client) - start <= BLOCK else max(first + 1, int(client[start + BLOCK]))
            end = int(np.searchsorted(client, last))
            self._block(rows.values[:, order[start:end]], client[start:end] - first, result[:, first:last])
            first = last
        return result

    def _block(self, values: Matrix, client: Positions, result: Matrix) -> None:
        clients = result.shape[1]
        order = canonical_order(self.table, values, client)
        client, values = client[order], values[:, order]
        first = np.ones(len(client), dtype=bool)
        np.not_equal(client[1:], client[:-1], out=first[1:])

        def get(name: str) -> Matrix:
            column: Matrix = values[self._columns[name]]
            return column

        selected = np.array([self._select(get, where, months) for where, months in self._selections])
        counts = _sum_in_order(selected, client, clients)
        with np.errstate(all="ignore"):
            computed = [get(name) if name in self._columns else self._expressions[name].compute(get) for name in self._values]
            which, under = self._pairs
            taken = np.array(computed).reshape(len(computed), len(client))[which]
            known = selected[under] & ~np.isnan(taken)
            sums = _sum_in_order(np.where(known, taken, 0.0), client, clients)
            known_counts = _sum_in_order(known, client, clients)
            for reduce, (places, at) in self._steps.items():
                if reduce == "count":
                    result[places] = counts[at]
                elif reduce == "share":
                    result[places] = np.where(counts[0] == 0, np.nan, counts[at] / counts[0])
                elif reduce == "loans":
                    result[places] = _sum_in_order(_new(get(str(self.table.loan)), first)[None], client, clients)
                elif reduce == "sum":
                    result[places] = np.where((known_counts[at] == 0) & (counts[under[at]] > 0), np.nan, sums[at])
                elif reduce == "mean":
                    result[places] = np.where(known_counts[at] == 0, np.nan, sums[at] / known_counts[at])
                else:
                    best, worst = (np.minimum, np.inf) if reduce == "min" else (np.maximum, -np.inf)
                    block = np.where(known[at], taken[at], worst)
                    result[places] = _extreme(best, block, client[first], np.flatnonzero(first), clients)

    def _select(self, get: Getter, where: tuple[str, ...], months: int | None) -> Mask:
        since = get(self._window.column)
        selected: Mask = np.full(len(since), not where)
        for value in where[1:]:
            selected |= get(where[0]) == self._codes[where[0]][value]
        return selected if months is None else selected & (since >= -months * self._window.month)


def canonical_order(table: Table, values: Matrix, client: Positions) -> Positions:
    """The order in which rows are reduced: by client, loan, then every column, NaN last."""
    loan = next(place for place, column in enumerate(table.columns) if column.name == table.loan)
    return np.lexsort((*values[::-1], values[loan], client))


def repeats(table: Table, values: Matrix, client: Positions) -> tuple[Positions, Positions]:
    """The rows that equal another row of the same client in every column, and that other row for each."""
    order = canonical_order(table, values, client)
    one, other = order[:-1], order[1:]
    same = client[one] == client[other]
    for column in values:
        same &= (column[one] == column[other]) | (np.isnan(column[one]) & np.isnan(column[other]))
    return other[same], one[same]


@cache
def codes_of(column: Column) -> Mapping[str | None, float]:
    """The code of each value of a category column; NaN for None and for values that mean 'not known'."""
    codes: dict[str | None, float] = {value: float(code) for code, value in enumerate(column.categories)}
    return codes | dict.fromkeys((None, *column.unknown), np.nan)


def _sum_in_order(block: NDArray[Any], client: Positions, clients: int) -> Matrix:
    """Sums of each row of a block by client, shape (rows of the block, clients), added from left to right."""
    bins = client + np.arange(len(block))[:, None] * clients
    total = np.asarray(np.bincount(bins.ravel(), block.ravel(), len(block) * clients), dtype=np.float64)
    return total.reshape(len(block), clients)


def _new(loan: Matrix, first: Mask) -> Mask:
    """Whether a row is the first of its loan. A row without the id of a loan is a loan of its own."""
    new = first.copy()
    new[1:] |= loan[1:] != loan[:-1]
    return new


def _extreme(best: np.ufunc, taken: Matrix, client: Positions, starts: Positions, clients: int) -> Matrix:
    """The minimum or maximum of each row of a block by client; NaN where it is infinite, which means not known."""
    result = np.full((len(taken), clients), np.nan)
    if len(starts):
        found = best.reduceat(taken, starts, axis=1)
        result[:, client] = np.where(np.isinf(found), np.nan, found)
    return result


def _place(items: list[Any], item: Any) -> int:
    if item not in items:
        items.append(item)
    return items.index(item)
