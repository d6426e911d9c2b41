"""Reads the history of an applicant in a request: turns JSON rows into columns, and points at each invalid value."""

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np

from features.history import UNSEEN, History, Mask, Matrix, Rows, codes_of
from features.schema import Column, Table
from serving.contract.documents import MOST_VALUES
from serving.contract.fields import EXACT, Fields, encodable, escape, kind, shown
from serving.errors import Errors, Invalid

NUMBER = Annotated[float, msgspec.Meta(ge=-sys.float_info.max, le=sys.float_info.max)]  # neither NaN nor infinite

Warnings = list[dict[str, str]]
Tables = dict[str, Matrix]


class HistoryReader:
    """Reads the history of one applicant."""

    def __init__(self, tables: Sequence[Table]) -> None:
        self._readers = {table.name: _TableReader(table) for table in tables}

    def read(self, document: Any, pointer: str, errors: Errors, notes: Warnings) -> Tables:
        """The tables of one applicant, each of shape (columns, rows). A table that is absent or null was not looked up.

        Invalid values are appended to `errors`. Implausible values and unseen categories are appended to `notes`, one note per column.
        """
        if not isinstance(document, dict):
            errors.append(Invalid(pointer, f"expected an object of tables, got {kind(document)}"))
            return {}
        found, room = {}, MOST_VALUES
        for name, rows in document.items():
            if not errors.room:
                break
            reader = self._readers.get(name)
            if reader is None:
                errors.append(Invalid(f"{pointer}/{escape(name)}", f"no such table; expected {', '.join(self._readers)}"))
            elif isinstance(rows, list) and (room := room - len(rows) * reader.columns) < 0:
                detail = f"brings the history to more than {MOST_VALUES:,} values; absent fields of a row count"
                errors.append(Invalid(f"{pointer}/{name}", detail))
                break
            elif rows is not None:
                found[name] = reader.read(rows, f"{pointer}/{name}", errors, notes)
        if not errors:
            for name, reader in self._readers.items():
                if name in found and reader.table.parent:
                    reader.check_parent(found[name], found.get(reader.table.parent), f"{pointer}/{name}", errors)
        return found


def join_histories(tables: Sequence[Table], histories: Sequence[Tables | None]) -> History:
    """The history of a batch of applicants.

    Parameters
    ----------
    tables : the history tables of the schema.
    histories : the tables of each applicant, as HistoryReader reads them; None for an applicant without history.
    """
    rows: dict[str, Rows] = {}
    given: dict[str, Mask] = {}
    if not any(histories):  # nobody sent a table
        return History(len(histories), rows, given)
    for table in tables:
        there = [place for place, sent in enumerate(histories) if sent and table.name in sent]
        if there:
            parts = [histories[place][table.name] for place in there]  # type: ignore[index]
            client = np.repeat(np.array(there, dtype=np.intp), [part.shape[1] for part in parts])
            rows[table.name] = Rows(table, client, np.concatenate(parts, axis=1))
            given[table.name] = np.zeros(len(histories), dtype=bool)
            given[table.name][there] = True
    return History(len(histories), rows, given)


class _TableReader:
    """Reads rows of one table. msgspec converts all rows at once; only if it refuses is each row read on its own, to name the errors."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._fields = Fields(table, table.key)
        columns = (*table.numeric, *table.categorical)
        kinds: list[tuple[str, Any, Any]] = [
            (column.name, (str if column in table.categorical else NUMBER) | None, None) for column in columns
        ]
        if table.key not in [column.name for column in columns]:
            kinds.append((table.key, Any, None))
        self._row = msgspec.defstruct(table.name, kinds, forbid_unknown_fields=True)
        self._numbers = len(table.numeric)
        self.columns = len(columns)
        names = [column.name for column in table.columns]
        self._number_places = [names.index(column.name) for column in table.numeric]
        self._whole = np.array(
            [place for place, column in zip(self._number_places, table.numeric, strict=True) if column.type == "integer"]
        )
        self._texts = [
            (names.index(column.name), self._numbers + place, codes_of(column)) for place, column in enumerate(table.categorical)
        ]
        self._ids = [place for place in self._whole if table.columns[place].unit == "id"]
        self._loan = names.index(str(table.loan))
        ranges = [(0, np.inf) if column.type == "category" else (column.min, column.max) for column in table.columns]
        self._low, self._high = np.array(ranges, dtype=np.float64).T[:, :, None]

    def read(self, document: Any, pointer: str, errors: Errors, notes: Warnings) -> Matrix:
        """The rows as a matrix of shape (columns, rows), NaN where absent. Invalid values are appended to `errors`."""
        values = np.empty((len(self.table.columns), 0))
        if not isinstance(document, list):
            errors.append(Invalid(pointer, f"expected an array of rows, got {kind(document)}"))
            return values
        if not document:
            return values
        try:
            rows = [msgspec.structs.astuple(row)[: self.columns] for row in msgspec.convert(document, list[self._row])]  # type: ignore[name-defined]
        except (msgspec.ValidationError, UnicodeEncodeError):
            self._explain(document, pointer, errors, "expected rows of the table")
            return values
        values = np.empty((len(self.table.columns), len(rows)))
        values[self._number_places] = np.array([row[: self._numbers] for row in rows], dtype=np.float64).T
        for place, item, codes in self._texts:
            values[place] = [codes.get(row[item], UNSEEN) for row in rows]
        whole = values[self._whole]
        if np.any(np.floor(whole) < whole) or np.any(np.abs(values[self._ids]) > EXACT):
            self._explain(document, pointer, errors, "expected whole numbers")
            return values
        if len(set(rows)) < len(rows):
            first: dict[Any, int] = {}
            again = [place for place, row in enumerate(rows) if first.setdefault(row, place) != place][: errors.room]
            detail = "is the same as row {} in every field; expected each row once"
            errors += [Invalid(f"{pointer}/{place}", detail.format(first[rows[place]])) for place in again]
        values = Rows.from_coded(self.table, np.zeros(len(rows), dtype=np.intp), values).values
        outside = (values < self._low) | (values > self._high)
        if outside.any():
            self._note(document, outside, pointer, errors, notes)
        return values

    def check_parent(self, values: Matrix, parent: Matrix | None, pointer: str, errors: Errors) -> None:
        """Append an error for each row whose loan is not in the parent table of the same history."""
        if parent is None:
            errors.append(Invalid(pointer, f"expected the table {self.table.parent} in the same history, to look up the loans"))
            return
        known = np.isin(values[self._loan], parent[self._loan])
        detail = f"expected a value of {self.table.loan} that occurs in {self.table.parent}"
        errors += [Invalid(f"{pointer}/{row}/{self.table.loan}", detail) for row in np.flatnonzero(~known)[: errors.room].tolist()]

    def _explain(self, document: list[Any], pointer: str, errors: Errors, otherwise: str) -> None:
        known = len(errors)
        for place, row in enumerate(document):
            self._fields.read(row, f"{pointer}/{place}", errors)
            if not errors.room:
                return
        if len(errors) == known:
            errors.append(Invalid(pointer, otherwise))

    def _note(self, document: list[Any], outside: Any, pointer: str, errors: Errors, notes: Warnings) -> None:
        for place in np.flatnonzero(outside.any(axis=1)).tolist():
            column: Column = self.table.columns[place]
            rows = np.flatnonzero(outside[place]).tolist()
            value = document[rows[0]][column.name]
            more = f" ({len(rows)} rows in all)" if len(rows) > 1 else ""
            if column.type != "category":
                note = ("implausible", f"{column.name} is {value:.12g}; expected {column.min} to {column.max}{more}")
            elif encodable(value):
                note = ("unseen_category", f"{column.name} {shown(value)} is not in the schema; it counts for no category{more}")
            else:
                errors.append(Invalid(f"{pointer}/{rows[0]}/{column.name}", "expected valid Unicode text"))
                continue
            notes.append({"code": note[0], "pointer": f"{pointer}/{rows[0]}/{column.name}", "detail": note[1]})
