"""Fields that are absent or present in a pattern that training never saw, and the values that the model gets instead."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np

from features.history import Mask, Matrix, Positions

RARE = 0.001  # a field absent for a smaller share of the applicants counts as always present


class Odd(NamedTuple):
    """Where fields break the patterns of training, both of shape (rows, fields).

    `missed` fields are absent and get their typical value. `lone` fields are present without most of their group and are ignored.
    """

    missed: Mask
    lone: Mask


@dataclass(frozen=True)
class Absence:
    """The patterns of absent fields in training.

    A model cannot learn what it means that a field is absent if training always had it, nor that only some fields of a group are known
    if every applicant had all or none of them. Each row therefore gets the nearest pattern that training saw.

    Attributes
    ----------
    typical : the median of each field, or the code of the most common category; NaN if it was never known.
    always : positions of the fields that were always present.
    together : groups of positions of other fields that were known for the same applicants.
    """

    typical: list[float]
    always: list[int]
    together: list[list[int]]

    @classmethod
    def fit(cls, fields: Matrix, categorical: Sequence[int]) -> Self:
        """Learn from fields of shape (rows, fields), NaN where not known."""
        missing = np.isnan(fields)
        always = np.flatnonzero(missing.mean(axis=0) < RARE).tolist()
        typical: list[float] = []
        groups: dict[bytes, list[int]] = {}
        for place, column in enumerate(fields.T):
            known = np.sort(column[~missing[:, place]])
            values, counts = np.unique(known, return_counts=True)
            commonest = values[counts.argmax()] if len(known) else np.nan
            typical.append(float(commonest if place in categorical or not len(known) else known[len(known) // 2]))
            if len(known) and place not in always:
                groups.setdefault(missing[:, place].tobytes(), []).append(place)
        return cls(typical, always, [group for group in groups.values() if len(group) > 1])

    def settle(self, fields: Matrix) -> Odd | None:
        """Give each row of fields, shape (rows, fields), the nearest pattern of training, in place; returns the changes, or None."""
        judged = np.isnan(fields.take(self._judged, axis=1))
        size = len(self._members)
        without, odd = judged[:, :size], judged[:, :size] != judged[:, size : 2 * size]
        if not (np.count_nonzero(odd) or np.count_nonzero(judged[:, 2 * size :])):
            return None  # nearly always, and faster than the rest
        absent, uneven = np.isnan(fields), odd.any(axis=0)
        missed, lone = np.zeros_like(absent), np.zeros_like(absent)
        missed[:, self.always] = absent[:, self.always]
        start = 0
        for group in self.together:
            end = start + len(group)
            if uneven[start:end].any():
                part = without[:, start:end]
                there = 2 * np.count_nonzero(part, axis=1, keepdims=True) <= len(group)
                missed[:, group], lone[:, group] = part & there, ~part & ~there
            start = end
        np.copyto(fields, self.typical, where=missed)
        np.copyto(fields, np.nan, where=lone)
        return Odd(missed, lone)

    def to_dict(self) -> dict[str, Any]:
        """The arguments of this class, with None for NaN."""
        return asdict(self) | {"typical": [None if np.isnan(value) else value for value in self.typical]}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        """Restore the result of `to_dict`."""
        typical = [np.nan if value is None else value for value in state["typical"]]
        return cls(typical, state["always"], state["together"])

    @cached_property
    def _members(self) -> list[int]:
        return [place for group in self.together for place in group]

    @cached_property
    def _judged(self) -> Positions:
        """Positions taken from the fields at once: the members of groups, the first member of each one's group, and the fields always present."""
        firsts = [group[0] for group in self.together for _ in group]
        return np.array([*self._members, *firsts, *self.always], dtype=np.intp)
