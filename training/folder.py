"""The history tables of a folder: read in parts, checked against the schema, and only the rows of the clients asked for."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from features.history import UNSEEN, History, Mask, Matrix, Positions, Rows, codes_of, repeats
from features.schema import Column, Table, history_tables
from training.data import DataError, Source, check_columns, find_source, header_of, type_name

HISTORY_OF = "complete_history_ids"
CHUNK = 1_000_000  # rows read at once

Say = Callable[[str], None]


def history_sources(folder: Path) -> dict[str, Source]:
    """The files of the history tables that the folder has, and the list of the clients they are complete for, if there is one."""
    found = {}
    for stem in (*(table.name for table in history_tables()), HISTORY_OF):
        try:
            found[stem] = find_source(folder, stem)
        except DataError:
            continue
    return found


class HistoryFolder(Mapping[str, Rows]):
    """The history tables of a folder, each read when it is asked for, so that only one is in memory.

    Rows of other clients are left aside. A row that repeats another one of its client in every column counts once.

    Parameters
    ----------
    folder : with any of the tables; complete_history_ids says which clients they are complete for, without it all. A
        table that has rows of others than those clients is not complete for them and is left aside.
    keys : ids of the clients, in order, each once.
    say : receives the warnings.
    """

    def __init__(self, folder: Path, keys: NDArray[Any], say: Say) -> None:
        self._sources = history_sources(folder)
        self._tables = {table.name: table for table in history_tables() if table.name in self._sources}
        self._keys, self._say = _Keys(keys), say
        self._given = np.ones(len(keys), dtype=bool)
        listed = self._sources.get(HISTORY_OF)
        if listed:
            client = next(table.key for table in history_tables() if table.parent is None)
            ids = _ids(listed, client)
            self._given = np.isin(keys, ids)
            for table in list(self._tables.values()):
                if table.parent is None and not np.isin(_ids(self._sources[table.name], table.key), ids).all():
                    say(f"warning: {self._sources[table.name]} has rows of clients that {listed} does not list; it is left aside")
                    del self._tables[table.name]
        for table in list(self._tables.values()):
            if table.parent is not None and table.parent not in self._tables:
                say(f"warning: {self._sources[table.name]} needs {table.parent}, which is not there; it is left aside")
                del self._tables[table.name]

    def history(self) -> History:
        """The history of the clients."""
        return History(len(self._given), self, dict.fromkeys(self._tables, self._given))

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)

    def __getitem__(self, name: str) -> Rows:
        """Read a table.

        Raises
        ------
        DataError
            A column is missing or holds another type, a key is missing, an integer column holds fractions, a number is infinite.
        """
        table, source = self._tables[name], self._sources[name]
        keys = self._keys
        if table.parent is not None:
            parent = self._tables[table.parent]
            loans = [_ids(self._sources[table.parent], column) for column in (table.key, parent.key)]
            keys = _Keys(loans[0], self._keys.find(loans[1]))
        findings = _Findings(table, source)
        parts = [_coded(batch, table, keys, findings) for batch in _batches(source, table)]
        clients, values = (list(items) for items in zip(*parts, strict=True)) if parts else ([], [])
        rows = Rows.from_coded(
            table,
            np.concatenate([np.empty(0, dtype=np.intp), *clients]),
            np.concatenate([np.empty((len(table.columns), 0)), *values], axis=1),
        )
        del parts, values
        again = _repeated(rows)
        if len(again):
            findings.warnings.append(f"{len(again)} rows repeat another one in every column; each counts once")
            rows = Rows(table, np.delete(rows.client, again), np.delete(rows.values, again, axis=1))
        for warning in findings.summary():
            self._say(f"warning: {source}: {warning}")
        return rows


class _Keys:
    """Finds the numbers of clients by an id; -1 where there is none."""

    def __init__(self, keys: NDArray[Any], numbers: Positions | None = None) -> None:
        order = np.argsort(keys, kind="stable")
        self._sorted = keys[order]
        self._numbers = order if numbers is None else numbers[order]

    def find(self, ids: NDArray[Any]) -> Positions:
        if not len(self._sorted):
            return np.full(len(ids), -1, dtype=np.intp)
        place = np.minimum(np.searchsorted(self._sorted, ids), len(self._sorted) - 1)
        return np.where(self._sorted[place] == ids, self._numbers[place], -1)


class _Findings:
    """What is implausible in a table that is read in parts."""

    def __init__(self, table: Table, source: Source) -> None:
        self.source = source
        self.warnings: list[str] = []
        self._counts: dict[str, int] = {}
        self._columns = {column.name: column for column in table.columns}

    def add(self, column: Column, wrong: Mask) -> None:
        count = int(np.count_nonzero(wrong))
        if count:
            self._counts[column.name] = self._counts.get(column.name, 0) + count

    def summary(self) -> Iterator[str]:
        yield from self.warnings
        for name, count in self._counts.items():
            column = self._columns[name]
            expected = "the categories of the schema" if column.type == "category" else f"{column.min} to {column.max}"
            yield f"{name}: {count} rows hold values outside {expected}"


def _coded(batch: pa.RecordBatch, table: Table, keys: _Keys, findings: _Findings) -> tuple[Positions, Matrix]:
    """The rows of known clients: whose they are, and their values, categories coded."""
    ids = batch.column(table.key)
    if ids.null_count:
        raise DataError(f"{findings.source}: {table.key} is missing in {ids.null_count} rows; expected a value in each")
    client = keys.find(ids.to_numpy(zero_copy_only=False))
    own = np.flatnonzero(client >= 0)
    values = np.empty((len(table.columns), len(own)))
    for place, column in enumerate(table.columns):
        data = batch.column(column.name)
        if column.type == "category":
            data = data if pa.types.is_dictionary(data.type) else data.dictionary_encode()
            codes = np.array([*(codes_of(column).get(value, UNSEEN) for value in data.dictionary.to_pylist()), np.nan])
            values[place] = codes[data.indices.fill_null(len(codes) - 1).to_numpy(zero_copy_only=False)][own]
            findings.add(column, values[place] == UNSEEN)
            continue
        number = values[place]
        number[:] = data.to_numpy(zero_copy_only=False)[own]
        expected = "whole numbers" if column.type == "integer" else "finite numbers"
        wrong = np.isinf(number) | ((number % 1 != 0) & ~np.isnan(number) if column.type == "integer" else False)
        if wrong.any():
            raise DataError(f"{findings.source}: {column.name}: expected {expected}; {np.count_nonzero(wrong)} rows differ")
        findings.add(column, ((number < column.min) | (number > column.max)) & ~np.isin(number, column.unknown))
    return client[own], values


def _batches(source: Source, table: Table) -> Iterator[pa.RecordBatch]:
    """The key and the columns of a table, CHUNK rows or fewer at a time, with the types of the schema."""
    kinds = {table.key: pa.float64()} | {
        column.name: pa.string() if column.type == "category" else pa.float64() for column in table.columns
    }
    yield from _columns(source, kinds)


def _columns(source: Source, kinds: dict[str, Any]) -> Iterator[pa.RecordBatch]:
    names = list(kinds)
    try:
        with source.open() as file:
            if source.path.suffix == ".parquet":
                parquet = pa.parquet.ParquetFile(file)
                check_columns(source, parquet.schema_arrow.names, names)
                for batch in parquet.iter_batches(CHUNK, columns=names):
                    yield pa.RecordBatch.from_arrays([_typed(source, batch.column(name), name, kinds[name]) for name in names], names)
                return
            header = header_of(source)
            check_columns(source, header, names)
            convert = pa.csv.ConvertOptions(column_types=kinds, include_columns=names, strings_can_be_null=True, null_values=[""])
            yield from pa.csv.open_csv(file, read_options=pa.csv.ReadOptions(block_size=32 << 20), convert_options=convert)
    except pa.ArrowInvalid as error:
        place = re.search(r"column #(\d+): (.*)", str(error))
        detail = f"has a column of the wrong type: {header[int(place[1])]}: {place[2]}" if place else f"cannot be read: {error}"
        raise DataError(f"{source} {detail}") from None


def _typed(source: Source, data: Any, name: str, kind: Any) -> Any:
    numeric = pa.types.is_integer(data.type) or pa.types.is_floating(data.type)
    textual = pa.types.is_string(data.type) or pa.types.is_large_string(data.type) or pa.types.is_dictionary(data.type)
    if not (pa.types.is_null(data.type) or (numeric if kind == pa.float64() else textual)):
        raise DataError(f"{source} has columns of the wrong type:\n  {name}: expected {type_name(kind)}, got {data.type}")
    return data if pa.types.is_dictionary(data.type) else data.cast(kind)


def _ids(source: Source, name: str) -> NDArray[np.float64]:
    """One column of ids, whole."""
    parts = [batch.column(name).to_numpy(zero_copy_only=False) for batch in _columns(source, {name: pa.float64()})]
    return np.concatenate([np.empty(0), *parts])


def _repeated(rows: Rows) -> Positions:
    """The rows that repeat an earlier one of their client: looked for among those alone whose hashes are alike."""
    mixed = rows.client.astype(np.uint64)
    for column in rows.values:
        mixed = (mixed ^ column.view(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(32)
    ordered = np.sort(mixed)
    alike = np.flatnonzero(np.isin(mixed, ordered[1:][ordered[1:] == ordered[:-1]]))
    again, _ = repeats(rows.table, rows.values[:, alike], rows.client[alike])
    return alike[again]
