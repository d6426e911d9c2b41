"""The history tables of a folder: read in parts, checked, and reduced to the rows of some clients."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from configs.settings import DataSettings
from features.history import UNSEEN, History, Matrix, Positions, Rows, codes_of, repeats
from features.schema import Table, history_tables
from training.aliases import Say
from training.data.errors import DataError
from training.data.fields import Part, fields_of, key_of
from training.data.reader import TableReader, read_ids
from training.data.source import Source, find_optional
from training.data.validation import Validator

HISTORY_OF = "complete_history_ids"
CHUNK = 400_000  # rows read at once
FEW = 0.05  # share of the applicants with rows; a table below it may be the history of other people
MIN_APPLICANTS = 100  # fewer are too few to judge that share


def history_sources(folder: Path) -> dict[str, Source]:
    """The files of the history tables in a folder, by table, and complete_history_ids, the list of clients they are complete for.

    Raises
    ------
    DataError
        A table is present twice, or in a format that is not read.
    """
    found = {stem: find_optional(folder, stem) for stem in (*(table.name for table in history_tables()), HISTORY_OF)}
    return {stem: source for stem, source in found.items() if source}


class Read(NamedTuple):
    """A file as it was read: its name, its description, its rows, and how many of the applicants have rows in it."""

    file: str
    description: str
    rows: int
    matched: int
    applicants: int


class Files:
    """The files that were read, each once for every chunk of applicants."""

    def __init__(self) -> None:
        self._read: dict[str, Read] = {}

    def add(self, read: Read) -> None:
        """Note that a file was read for some applicants."""
        before = self._read.get(read.file)
        more = (before.matched, before.applicants) if before else (0, 0)
        self._read[read.file] = read._replace(matched=read.matched + more[0], applicants=read.applicants + more[1])

    def merge(self, other: "Files") -> None:
        """Add the files read for other applicants."""
        for read in other._read.values():
            self.add(read)

    def tell(self, say: Say) -> None:
        """Report the files, and warn if few or none of the applicants have rows in one."""
        for file, description, rows, matched, applicants in self._read.values():
            say(f"read {description}, of {matched:,} of {applicants:,} applicants")
            if not rows and applicants >= MIN_APPLICANTS:
                say(f"warning: {file} has no rows; all applicants count as looked up, with nothing found. If you did not look, remove it")
            if rows and (not matched or (applicants >= MIN_APPLICANTS and matched < FEW * applicants)):
                some = "few" if matched else "none"
                say(f"warning: {file} has rows of {some} of the applicants; is it their history, with the same ids?")


class HistoryFolder(Mapping[str, Rows]):
    """The history tables of a folder, by name. A table is read when it is accessed, so that only one is in memory.

    Rows of other clients are ignored. Rows of a client that are equal in every column count once.

    Parameters
    ----------
    folder : with any of the tables. complete_history_ids lists the clients for whom they are complete; without it they are complete
        for all. A table with rows of other clients is ignored.
    keys : the ids of the clients, in order, without repeats.
    say : receives the warnings.
    files : notes the files that are read.
    limits : on the shares of unseen values; None for no limit.

    Raises
    ------
    DataError
        A table is present twice, or in a format that is not read.
    """

    def __init__(self, folder: Path, keys: NDArray[Any], say: Say, files: Files | None = None, limits: DataSettings | None = None) -> None:
        self._sources = history_sources(folder)
        self._tables = {table.name: table for table in history_tables() if table.name in self._sources}
        self._keys, self._say = _Keys(keys), say
        self._files, self._limits = files or Files(), limits
        self._given = np.ones(len(keys), dtype=bool)
        listed = self._sources.get(HISTORY_OF)
        if listed:
            (ids,) = read_ids(listed, key_of(next(table for table in history_tables() if table.parent is None)))
            self._given = np.isin(keys, ids)
            self._files.add(Read(str(listed), f"{listed}: {listed.size()}, {len(ids):,} rows", len(ids), int(self._given.sum()), len(keys)))
            for table in list(self._tables.values()):
                if table.parent is None and not np.isin(read_ids(self._sources[table.name], key_of(table))[0], ids).all():
                    say(f"warning: {self._sources[table.name]} has rows of clients that {listed} does not list; the table is ignored")
                    del self._tables[table.name]
        for table in list(self._tables.values()):
            if table.parent is not None and table.parent not in self._tables:
                say(f"warning: {self._sources[table.name]} needs {table.parent}, which is missing; the table is ignored")
                del self._tables[table.name]

    def history(self) -> History:
        """The history of the clients, read table by table as it is used."""
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
            The file cannot be read, or a row of these clients is invalid.
        """
        table, source = self._tables[name], self._sources[name]
        keys = self._keys
        if table.parent is not None:
            keys = self._keys_of_loans(table, self._tables[table.parent])
        reader, validator = TableReader(source, fields_of(table)), Validator(table, unique=False)
        clients, values = [np.empty(0, dtype=np.intp)], [np.empty((len(table.columns), 0))]
        for part in reader.parts(CHUNK):
            client = keys.find(part.keys[table.key])
            own = np.flatnonzero(client >= 0)
            mine = part.take(own)
            validator.add(mine, reader)
            clients.append(client[own])
            values.append(_coded(mine, table))
        rows = Rows.from_coded(table, np.concatenate(clients), np.concatenate(values, axis=1))
        del values
        self._files.add(Read(str(source), str(reader), reader.rows, len(np.unique(rows.client)), int(self._given.sum())))
        again = _repeated(rows)
        if len(again):
            self._say(f"warning: {source}: {len(again)} rows repeat another row in every column; each counts once")
            rows = Rows(table, np.delete(rows.client, again), np.delete(rows.values, again, axis=1))
        for warning in validator.finish(reader, self._limits):
            self._say(f"warning: {warning}")
        return rows

    def _keys_of_loans(self, table: Table, parent: Table) -> "_Keys":
        """Finds the client of each loan, whose id the table holds, in the parent table.

        Raises
        ------
        DataError
            A loan belongs to two clients.
        """
        source, key, owner = self._sources[parent.name], key_of(table), key_of(parent)
        loans, owners = read_ids(source, key, owner)
        again = np.flatnonzero(pd.Index(loans).duplicated(keep=False))
        again = again[np.lexsort((owners[again], loans[again]))]
        same, other = loans[again[1:]] == loans[again[:-1]], owners[again[1:]] != owners[again[:-1]]
        if len(shared := np.flatnonzero(same & other)):
            first, second = (TableReader(source, [key, owner]).locate(int(row)) for row in sorted(again[shared[0] : shared[0] + 2]))
            where = f"{first} and {second.removeprefix(f'{source}, ')}"
            raise DataError(
                f"{where}: {key.name} {loans[again[shared[0]]]} belongs to two clients; expected each loan to have one {owner.name}"
            )
        return _Keys(loans, self._keys.find(owners))


class _Keys:
    """Finds the numbers of clients by id, -1 for an unknown id. If an id repeats, its first number counts."""

    def __init__(self, keys: NDArray[Any], numbers: Positions | None = None) -> None:
        first = ~pd.Index(keys).duplicated()
        self._index = pd.Index(keys[first])
        self._numbers = np.append(np.flatnonzero(first) if numbers is None else numbers[first], -1)

    def find(self, ids: NDArray[Any]) -> Positions:
        return np.asarray(self._numbers[self._index.get_indexer(ids)])


def _coded(part: Part, table: Table) -> Matrix:
    """The values of some rows, shape (columns of the table, rows), with categories as codes."""
    values = np.empty((len(table.columns), len(part.rows)))
    for position, column in enumerate(table.columns):
        if column.type == "category":
            texts, known = part.texts[column.name], codes_of(column)
            values[position] = np.array([*(known.get(value, UNSEEN) for value in texts.values), np.nan])[texts.codes]
        else:
            values[position] = part.numbers[column.name]
    return values


def _repeated(rows: Rows) -> Positions:
    """Positions of the rows that equal an earlier row of their client; only rows with equal hashes are compared."""
    mixed = rows.client.astype(np.uint64)
    for column in rows.values:
        mixed = (mixed ^ column.view(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(32)
    ordered = np.sort(mixed)
    alike = np.flatnonzero(np.isin(mixed, ordered[1:][ordered[1:] == ordered[:-1]]))
    again, _ = repeats(rows.table, rows.values[:, alike], rows.client[alike])
    return alike[again]
