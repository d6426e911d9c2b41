"""Turns a decoded JSON document into the row of one applicant."""

import math
import time
from itertools import islice
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.transform import FeatureTransform
from monitoring.service_log import REQUEST_ID
from serving.contract.documents import repeated
from serving.contract.fields import Fields, escape, kind, read_number
from serving.contract.history_rows import HistoryReader, Tables
from serving.contract.ids import read_client_id
from serving.errors import MOST_ERRORS, Errors, Invalid
from serving.identity.principal import sender_name


class Asked(msgspec.Struct, frozen=True):
    """What a request asks for beside the prediction: the reasons if it is declined, and with `whole` all that explains it in any case."""

    language: str = "en"
    whole: bool = False
    by_feature: bool = False


class Row(msgspec.Struct, eq=False):  # takes less than half the time of a dataclass to create
    """One applicant of a request: named values or a feature vector, or the errors in them.

    Attributes
    ----------
    pointer : JSON pointer to the values in the request.
    named : the numeric and the category values in the schema's order, if the application was sent by name.
    history : the tables sent with named values. A table that is absent was not looked up.
    vector : shape (features,), NaN where not known, if a vector was sent.
    sent : the JSON of the vector, if the record can hold it unchanged.
    notes : the warnings found while parsing.
    asked : what to explain; None for nothing.
    since : when the row was parsed, by time.perf_counter, in seconds.
    """

    pointer: str
    client_id: str | None = None
    named: tuple[list[float], list[str | None]] | None = None
    history: Tables | None = None
    vector: NDArray[np.float64] | None = None
    sent: msgspec.Raw | None = None
    notes: list[dict[str, str]] = msgspec.field(default_factory=list)
    errors: Errors = msgspec.field(default_factory=Errors)
    asked: Asked | None = None
    request_id: str | None = msgspec.field(default_factory=REQUEST_ID.get)
    sender: str = msgspec.field(default_factory=sender_name)
    since: float = msgspec.field(default_factory=time.perf_counter)


class RowReader:
    """Reads rows value by value, by the schema and the features of one model, and names each invalid value.

    Parameters
    ----------
    features : the model's fitted transform.
    """

    def __init__(self, features: FeatureTransform) -> None:
        table = features.table
        refused = {str(table.target): "is the outcome; it cannot be part of an application"}
        self._fields = Fields(table, table.key, refused)
        self._history = HistoryReader(features.history)
        self._size = len(features.names)
        self._code_positions = np.array(features.categorical_positions, dtype=np.intp)

    def read(
        self, document: Any, pointer: str, forms: tuple[str, ...], errors: Errors, text: bytes | None = None, *, more: tuple[str, ...] = ()
    ) -> Row:
        """The row of a document, with its errors.

        Parameters
        ----------
        pointer : JSON pointer to the document.
        forms : the forms that are allowed here: "application", "features" or both.
        text : the JSON of the document, to find members that occur twice; None if that was checked before.
        more : other members that are allowed here; the caller reads them.
        """
        row = self._read(document, pointer, forms, errors, more)
        if text is not None and (found := repeated(text, document, pointer, 0 if errors else _members(document))):
            errors += found[: errors.room]
        return row

    def read_vector(self, values: Any, row: Row) -> None:
        """Read an array of numbers into the row."""
        if not isinstance(values, list):
            row.errors.append(Invalid(row.pointer, f"expected an array of {self._size} numbers, got {kind(values)}"))
            return
        if len(values) != self._size:
            row.errors.append(Invalid(row.pointer, f"expected {self._size} numbers in the order of GET /model, got {len(values)}"))
            return
        row.vector = np.full(self._size, math.nan)
        for position, value in enumerate(values):
            try:
                row.vector[position] = math.nan if value is None else read_number(value)
            except ValueError as error:
                row.errors.append(Invalid(f"{row.pointer}/{position}", str(error)))
                if not row.errors.room:
                    return
        if row.errors:
            return
        codes = row.vector[self._code_positions]
        for position in self._code_positions[np.floor(codes) < codes].tolist()[: row.errors.room]:
            row.errors.append(Invalid(f"{row.pointer}/{position}", "expected the whole-number code of a category, as GET /model lists it"))

    def _read(self, document: Any, pointer: str, forms: tuple[str, ...], errors: Errors, more: tuple[str, ...]) -> Row:
        row = Row(pointer, errors=errors)
        row.errors += frame_errors(document, pointer, ("client_id", "history", *forms, *more), errors.room)
        if not isinstance(document, dict):
            return row
        row.client_id = read_client_id(document.get("client_id"), f"{pointer}/client_id", row.errors)
        given = [name for name in forms if document.get(name) is not None]
        history = document.get("history")
        if len(given) != 1:
            row.errors.append(Invalid(pointer, f"expected {'exactly one of ' if len(forms) > 1 else ''}{', '.join(forms)}"))
            return row
        row.pointer = f"{pointer}/{given[0]}"
        if given[0] == "features":
            self.read_vector(document["features"], row)
        else:
            row.named = self._fields.read(document["application"], row.pointer, row.errors)
        if history is not None:
            if given[0] == "features":
                row.errors.append(Invalid(f"{pointer}/history", "expected history with an application only; a vector already contains it"))
            else:
                row.history = self._history.read(history, f"{pointer}/history", row.errors, row.notes)
        return row


def frame_errors(document: Any, pointer: str, allowed: tuple[str, ...], most: int = MOST_ERRORS) -> list[Invalid]:
    """The errors of an object that may have only these members."""
    if not isinstance(document, dict):
        return [Invalid(pointer, f"expected an object, got {kind(document)}")]
    unknown = islice((name for name in document if name not in allowed), most)
    return [Invalid(f"{pointer}/{escape(name)}", f"no such member; expected {', '.join(allowed)}") for name in unknown]


def _members(document: dict[str, Any]) -> int:
    """The number of members in all objects of a document without errors: the document, its application and its history."""
    members = len(document) + len(document.get("application") or ())
    if history := document.get("history"):
        members += len(history) + sum(sum(map(len, table)) for table in history.values() if table)
    return members
