"""The smallest change, among those that the lender offers, that turns the decline of a loan into an approval."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.schema import Table
from monitoring.prediction import SmallestChange
from serving.contract.rows import Row
from serving.decision import Decision
from serving.reasons.words import Words, rendered

Values = NDArray[np.float64]
ROWS_AT_ONCE = 8  # scored in one call; between two calls, other threads run


class Offers:
    """The ladder of offers of a bundle; configs/offers.yaml explains it.

    Parameters
    ----------
    state : the content of that file.
    table : schema of the application.

    Raises
    ------
    KeyError, TypeError, ValueError
        The offers lack something, or change a field that is not a number of the application.
    """

    def __init__(self, state: Mapping[str, Any], table: Table) -> None:
        self._places = {column.name: place for place, column in enumerate(table.numeric)}
        self._ladder, self._beside = (_lever(state[name], self._places) for name in ("ladder", "beside"))
        self._step = {name: float(step) for name, step in state["step"].items()}
        self._margin = float(state["margin"])
        if not 0 <= self._margin < 1 or any(step <= 0 for step in self._step.values()):
            raise ValueError(
                f"offers have margin {self._margin} and steps {self._step}; expected a margin from 0 to below 1, and steps above 0"
            )

    @property
    def fields(self) -> list[str]:
        """The fields that an offer may change."""
        return list(dict.fromkeys([*self._ladder[0], *self._beside[0]]))

    def smallest(self, row: Row, decision: Decision, pds: Callable[[Sequence[Row]], Values], words: Words) -> SmallestChange | None:
        """The highest rung of the ladder that counts, with the first share beside it for which it counts. None if no rung counts.

        Parameters
        ----------
        row : a declined application by name; None for a vector.
        pds : scores rows.
        """
        if row.named is None or any(np.isnan(row.named[0][self._places[name]]) for name in self.fields):
            return None
        most = (1 - self._margin) * decision.threshold

        def passes(rungs: Sequence[tuple[float, float]]) -> list[bool]:
            found: list[bool] = (pds([self._changed(row, *rung) for rung in rungs]) < most).tolist()
            return found

        ladder, beside = self._ladder[1], self._beside[1]
        top, chosen = len(ladder), 0.0
        hopeful = [share for share, passed in zip(beside, passes([(ladder[-1], share) for share in beside]), strict=True) if passed]
        for share in hopeful:
            if top and passes([(ladder[top - 1], share)])[0] and (reached := self._climbed(share, passes)) < top:
                top, chosen = reached, share
        if top == len(ladder):
            return None
        changed = self._changed(row, ladder[top], chosen)
        return self._told(row, changed, float(pds([changed])[0]), words)

    def _climbed(self, share: float, passes: Callable[[Sequence[tuple[float, float]]], list[bool]]) -> int:
        """How many rungs lie above the highest one that counts, with this share beside it."""
        ladder = self._ladder[1]
        for end in range(len(ladder), 0, -ROWS_AT_ONCE):
            first = max(0, end - ROWS_AT_ONCE)
            passed = passes([(rung, share) for rung in ladder[first:end]])
            if not all(passed):
                return first + len(passed) - passed[::-1].index(False)
        return 0

    def _changed(self, row: Row, rung: float, share: float) -> Row:
        """The row with the fields of both levers scaled. A smaller value is rounded down to a step, a larger one up."""
        assert row.named is not None  # noqa: S101 - smallest has checked it
        numeric = list(row.named[0])
        for name in self.fields:
            factor = (rung if name in self._ladder[0] else 1.0) * (share if name in self._beside[0] else 1.0)
            place, step = self._places[name], self._step.get(name, 1.0)
            if factor != 1:
                numeric[place] = float((np.floor if factor < 1 else np.ceil)(numeric[place] * factor / step) * step)
        return Row(row.pointer, named=(numeric, row.named[1]), history=row.history)

    def _told(self, row: Row, chosen: Row, pd: float, words: Words) -> SmallestChange:
        assert row.named is not None  # noqa: S101 - smallest has checked it
        assert chosen.named is not None  # noqa: S101
        before, after = row.named[0], chosen.named[0]
        changed = {name: after[place] for name, place in self._places.items() if name in self.fields and after[place] != before[place]}
        parts = [rendered(words.offers[name], {"value": words.value(value, "currency")}.get) for name, value in changed.items()]
        return SmallestChange(changed, rendered(words.change, {"changes": words.join.join(parts)}.get), pd)


def _lever(state: Mapping[str, Any], places: Mapping[str, int]) -> tuple[tuple[str, ...], tuple[float, ...]]:
    fields, shares = tuple(state["scales"]), tuple(float(share) for share in state["shares"])
    if not fields or not shares or any(share <= 0 for share in shares):
        raise ValueError(f"a lever of offers has the shares {shares}; expected some above 0")
    if unknown := [name for name in fields if name not in places]:
        raise ValueError(f"offers change {', '.join(unknown)}; expected numbers of the application")
    return fields, shares
