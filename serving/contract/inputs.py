"""Turns rows into the feature matrix, with a warning for each value that makes a score less certain."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from features.applications import Applications
from features.history import UNSEEN, Mask, Matrix
from features.schema import Column
from features.transform import FeatureTransform
from serving.contract.fields import shown
from serving.contract.history_rows import join_histories
from serving.contract.rows import Row

ABSENT = "missing, but never missing from such applications in training"
ODD = (  # code and detail of the warning for each field of features.absence.Odd
    ("absent", f"{ABSENT}. Typical values are used instead; send the real ones if you can"),
    ("lone", "ignored, because related fields are missing and training never saw that combination; send those too"),
)
MOST_NAMED = 10  # fields in one warning

Warnings = list[dict[str, str]]


class Input(NamedTuple):
    """The model's input for a batch of rows, in their order.

    Attributes
    ----------
    matrix : shape (rows, features), NaN where not known.
    warnings : a list per row.
    sent : for each row, the JSON of its features as the client wrote them; None if it differs from the matrix.
    missed : shape (rows, fields), where a typical value took the place of an absent field; None if nowhere.
    """

    matrix: Matrix
    warnings: list[Warnings]
    sent: list[msgspec.Raw | None]
    missed: Mask | None = None


class InputReader:
    """Turns rows without errors into a model's input.

    Parameters
    ----------
    features : the model's fitted transform.
    """

    def __init__(self, features: FeatureTransform) -> None:
        self._features = features
        self._table = features.table
        self._fields = [column.name for column in features.table.columns]
        self._numeric = {column.name: column for column in features.table.numeric}
        ranges = [self._numeric.get(name) for name in features.names]
        self._low = np.array([column.min if column else -np.inf for column in ranges], dtype=np.float64)
        self._high = np.array([column.max if column else np.inf for column in ranges], dtype=np.float64)
        always = {self._fields[place] for place in features.absence_.always} if features.absence_ else set()
        self._always_names = [name for name in features.names if name in always]
        self._always_positions = np.array([features.names.index(name) for name in self._always_names], dtype=np.intp)
        self._code_positions = np.array(features.categorical_positions, dtype=np.intp)
        self._code_counts = np.array([len(features.categories_[features.names[place]]) for place in features.categorical_positions])

    def read(self, rows: Sequence[Row]) -> Input:
        """The input for these rows, which stay unchanged."""
        warnings, sent = [list(row.notes) for row in rows], [row.sent for row in rows]
        named = [index for index, row in enumerate(rows) if row.named is not None]
        if named and len(named) == len(rows):
            matrix, missed = self._named(rows, warnings)
            return Input(matrix, warnings, sent, missed)
        missed = None
        if rows and not named:
            matrix = self._vectors(rows, warnings)
        else:
            matrix = np.empty((len(rows), len(self._features.names)))
            vectors = [index for index, row in enumerate(rows) if row.vector is not None]
            if named:
                matrix[named], found_missed = self._named([rows[index] for index in named], [warnings[index] for index in named])
                if found_missed is not None:
                    missed = np.zeros((len(rows), len(self._fields)), dtype=bool)
                    missed[named] = found_missed
            if vectors:
                matrix[vectors] = self._vectors([rows[index] for index in vectors], [warnings[index] for index in vectors])
        for index, found in enumerate(warnings):
            if any(warning["code"] == "unseen_category" for warning in found):
                sent[index] = None  # the code that is scored differs from the one that was sent
        return Input(matrix, warnings, sent, missed)

    def _named(self, rows: Sequence[Row], warnings: list[Warnings]) -> tuple[Matrix, Mask | None]:
        """The matrix of rows with named values, and its `missed`. Appends to their warnings."""
        applications = Applications.from_rows(self._table, [row.named for row in rows])  # type: ignore[misc]
        transformed = self._features.transform(applications, join_histories(self._features.history, [row.history for row in rows]))
        for unseen in transformed.unseen:
            detail = f"{unseen.column} {shown(unseen.value)} does not occur in the training data; scored as an unseen category"
            warnings[unseen.row].append(_warning("unseen_category", f"{rows[unseen.row].pointer}/{unseen.column}", detail))
        if transformed.odd:
            for places, said in zip(transformed.odd, ODD, strict=True):
                _warn_of_fields(rows, warnings, self._fields, places, said)
        implausible = applications.implausible()
        if np.count_nonzero(implausible):
            for index, place in np.argwhere(implausible).tolist():
                column = self._table.numeric[place]
                warnings[index].append(_implausible(column, applications.numeric[index, place], f"{rows[index].pointer}/{column.name}"))
        return transformed.matrix, transformed.odd.missed if transformed.odd else None

    def _vectors(self, rows: Sequence[Row], warnings: list[Warnings]) -> Matrix:
        """The matrix of rows with vectors, with unknown codes replaced by UNSEEN. Appends to their warnings."""
        block = np.concatenate([row.vector for row in rows]).reshape(-1, len(self._features.names))
        codes = block.take(self._code_positions, axis=1)
        unseen = (codes < 0) | (codes >= self._code_counts)
        if np.count_nonzero(unseen):
            for index, position in np.argwhere(unseen).tolist():
                place = self._code_positions[position]
                name, code = self._features.names[place], codes[index, position]
                detail = f"the model has no code {code:.12g} of {name}; scored as an unseen category"
                warnings[index].append(_warning("unseen_category", f"{rows[index].pointer}/{place}", detail))
                block[index, place] = UNSEEN
        _warn_of_fields(rows, warnings, self._always_names, np.isnan(block.take(self._always_positions, axis=1)), ("absent", ABSENT))
        implausible = (block < self._low) | (block > self._high)
        if np.count_nonzero(implausible):
            for index, place in np.argwhere(implausible).tolist():
                column = self._numeric[self._features.names[place]]
                warnings[index].append(_implausible(column, block[index, place], f"{rows[index].pointer}/{place}"))
        return block


def _implausible(column: Column, value: float, pointer: str) -> dict[str, str]:
    return _warning("implausible", pointer, f"{column.name} is {value:.12g}; expected {column.min} to {column.max}")


def _warn_of_fields(rows: Sequence[Row], warnings: list[Warnings], names: list[str], places: Mask, said: tuple[str, str]) -> None:
    """Add a warning to each row with a marked field. The warning names the first MOST_NAMED of these fields.

    Parameters
    ----------
    names : the fields.
    places : shape (rows, fields), the marks.
    said : code and detail of the warning.
    """
    if not np.count_nonzero(places):
        return
    for index in np.flatnonzero(places.any(axis=1)).tolist():
        found = [names[place] for place in np.flatnonzero(places[index]).tolist()]
        more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        warnings[index].append(_warning(said[0], rows[index].pointer, f"{', '.join(found[:MOST_NAMED])}{more}: {said[1]}"))


def _warning(code: str, pointer: str, detail: str) -> dict[str, str]:
    return {"code": code, "pointer": pointer, "detail": detail}
