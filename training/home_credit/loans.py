"""Draws the loans of a history table."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from training.aliases import Positions, Values
from training.home_credit.draws import factor

Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Marginal:
    """The distribution of a column: quantiles if continuous, values and cumulative shares if discrete."""

    quantiles: Values
    values: NDArray[Any]
    bounds: Values

    @classmethod
    def from_dict(cls, entry: dict[str, Any]) -> Self:
        """The marginal of an entry of the profile."""
        values = entry.get("values", [])
        kind = object if values and isinstance(values[0], str) else float
        return cls(np.array(entry.get("quantiles", []), dtype=float), np.array(values, dtype=kind), np.cumsum(entry.get("shares", []))[:-1])

    def draw(self, level: Values) -> NDArray[Any]:
        """The values at these levels of the distribution, in (0, 1): 0.5 gives the median."""
        if len(self.quantiles):
            return np.interp(level, np.linspace(0, 1, len(self.quantiles)), self.quantiles)
        return np.asarray(self.values[np.searchsorted(self.bounds, level, side="right")])


class Loans:
    """Draws the loans of one table: a copula with a part that the loans of a client share, and marginals for each segment."""

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

    def draw(self, random: np.random.Generator, clients: Values, owner: Positions) -> tuple[Positions, Columns]:
        """The segment of each loan and its columns.

        Parameters
        ----------
        clients : shape (clients, covariates).
        owner : for each loan the row of its client.
        """
        size = len(self._between)
        shared = (clients - self._centre) @ self._regression.T + random.standard_normal((len(clients), size)) @ self._between.T
        level = ndtr(shared[owner] + random.standard_normal((len(owner), size)) @ self._within.T)
        segment = np.searchsorted(self._bounds, level[:, 0], side="right")
        columns: Columns = {}
        text = {name for marginals in self._marginals for name, marginal in marginals.items() if marginal.values.dtype == object}
        for name in self._variables:
            columns[name] = np.full(len(owner), None, dtype=object) if name in text else np.full(len(owner), np.nan)
        for number, (marginals, missing) in enumerate(zip(self._marginals, self._missing, strict=True)):
            rows = np.flatnonzero(segment == number)
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
