"""The one check of a table against its schema, for `train`, `score`, the history, and the workers of a cluster."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from configs.settings import DataSettings
from features.schema import Column, Table
from training.aliases import Say
from training.data.dialect import shown
from training.data.errors import DataError
from training.data.fields import Part, fields_of
from training.data.header import SHOWN
from training.data.reader import TableReader
from training.data.source import Source

MIN_ROWS = 20  # fewer are too few to judge a share of them
CHUNK = 100_000


class Validator:
    """Checks the rows of a table as they are read, and counts what it will warn of.

    An error names the first invalid value. Of the rows it keeps only ids, counts and extremes.

    Parameters
    ----------
    unique : whether keys must not repeat.
    """

    def __init__(self, table: Table, *, unique: bool, with_target: bool = False) -> None:
        self.table = table
        self.rows = 0
        self._unique, self._target = unique, table.target if with_target else None
        self._keys: list[NDArray[Any]] = []
        self._targets: Counter[float] = Counter()
        self._missing: Counter[str] = Counter()
        self._spelled: Counter[str] = Counter()
        self._outside: dict[str, tuple[int, float, float]] = {}
        self._unseen: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}

    def add(self, part: Part, reader: TableReader) -> None:
        """Check some rows.

        Raises
        ------
        DataError
            A whole number has a fraction, a number is infinite, or the target is neither 0 nor 1.
        """
        self.rows += len(part.rows)
        self._spelled.update(part.spelled)
        if self._unique:
            self._keys.append(part.keys[self.table.key])
        if self._target:
            self._add_target(part, reader)
        for column in self.table.columns:
            if column.type == "category":
                self._add_texts(column, *part.texts[column.name])
            else:
                self._add_numbers(column, part.numbers[column.name], part, reader)

    def merge(self, later: "Validator") -> None:
        """Add the counts of a validator that checked the rows after these."""
        self.rows += later.rows
        self._keys += later._keys
        self._targets.update(later._targets)
        for own, other in ((self._missing, later._missing), (self._spelled, later._spelled), (self._unseen, later._unseen)):
            own.update(other)
        for name, found in later._outside.items():
            self._outside[name] = _wider(self._outside.get(name), found)
        for name, texts in later._examples.items():
            self._show(name, texts)

    def finish(self, reader: TableReader, limits: DataSettings | None = None, trained: Mapping[str, float] | None = None) -> Iterator[str]:
        """Make the checks that need all rows; returns the warnings, one sentence each.

        Parameters
        ----------
        limits : the largest shares of unseen or implausible and of missing values; None for no limit.
        trained : for each column the share of rows that lacked it in training.

        Raises
        ------
        DataError
            A key repeats, the target is constant, or too large a share of a column is unseen, implausible or missing.
        """
        self._check_keys(reader)
        if self._target and len(self._targets) == 1:
            raise DataError(f"{reader.source}: {self._target} is {next(iter(self._targets)):g} in every row; expected both 0 and 1")
        if limits:
            self._check_shares(reader.source, limits, trained or {})
        return self._warnings(reader.source)

    def _add_target(self, part: Part, reader: TableReader) -> None:
        values = part.numbers[str(self._target)]
        wrong = np.flatnonzero((values != 0) & (values != 1))
        if len(wrong):
            got = values[wrong[0]]
            raise DataError(
                f"{reader.locate(int(part.rows[wrong[0]]))}: {self._target}: expected 0 or 1, got {'a missing value' if np.isnan(got) else f'{got:g}'}"
            )
        ones = int(np.count_nonzero(values))
        self._targets.update({value: count for value, count in ((1.0, ones), (0.0, len(values) - ones)) if count})

    def _add_numbers(self, column: Column, values: NDArray[np.float64], part: Part, reader: TableReader) -> None:
        low, high = (float(of.reduce(values)) if len(values) else np.nan for of in (np.fmin, np.fmax))
        whole = column.type == "integer"
        if np.isinf(low) or np.isinf(high) or (whole and np.any(np.floor(values) < values)):
            wrong = int(np.flatnonzero(np.isinf(values) | ((np.floor(values) < values) & whole))[0])
            expected = "a whole number" if whole else "a finite number"
            raise DataError(f"{reader.locate(int(part.rows[wrong]))}: {column.name}: expected {expected}, got {values[wrong]:g}")
        self._missing[column.name] += int(np.count_nonzero(np.isnan(values)))
        if low < column.min or high > column.max:  # type: ignore[operator]
            outside = values[((values < column.min) | (values > column.max)) & ~np.isin(values, column.unknown)]  # type: ignore[operator]
            if len(outside):
                found = (len(outside), float(outside.min()), float(outside.max()))
                self._outside[column.name] = _wider(self._outside.get(column.name), found)

    def _add_texts(self, column: Column, codes: NDArray[np.intp], values: list[str]) -> None:
        self._missing[column.name] += int(np.count_nonzero(codes < 0))
        known = {*column.categories, *column.unknown}
        strange = [code for code, value in enumerate(values) if value not in known]
        if strange:
            counts = np.bincount(codes[codes >= 0], minlength=len(values))[strange]
            self._unseen[column.name] += int(counts.sum())
            self._show(column.name, [values[code] for code, count in zip(strange, counts, strict=True) if count])

    def _show(self, name: str, texts: list[str]) -> None:
        self._examples[name] = list(dict.fromkeys([*self._examples.get(name, []), *texts]))[:SHOWN]

    def _example(self, name: str) -> str:
        return ", ".join(map(shown, self._examples[name]))

    def _check_keys(self, reader: TableReader) -> None:
        if not self._keys:
            return
        keys = np.concatenate(self._keys)
        ordered = np.sort(keys)
        repeated = ordered[1:][ordered[1:] == ordered[:-1]]
        if len(repeated):
            first, second = (reader.locate(int(row)) for row in np.flatnonzero(keys == repeated[0])[:2])
            again = second.removeprefix(f"{reader.source}, ")
            more = f"; {len(repeated)} rows repeat an id" if len(repeated) > 1 else ""
            raise DataError(f"{first}: {self.table.key} {repeated[0]} repeats in {again}; expected each once{more}")

    def _check_shares(self, source: Source, limits: DataSettings, trained: Mapping[str, float]) -> None:
        for name, unseen in self._unseen.items():
            known = self.rows - self._missing[name]
            if known >= MIN_ROWS and unseen > limits.max_unseen * known:
                raise DataError(
                    f"{source}: {name}: {unseen:,} of {known:,} values are not in the schema, such as {self._example(name)}; "
                    f"the limit is {limits.max_unseen:.0%} (data.max_unseen). Is the column coded differently?"
                )
        for name, (outside, low, high) in self._outside.items():
            known = self.rows - self._missing[name]
            if known >= MIN_ROWS and outside > limits.max_unseen * known:
                raise DataError(
                    f"{source}: {name}: {outside:,} of {known:,} values are implausible, from {low:g} to {high:g}; "
                    f"the limit is {limits.max_unseen:.0%} (data.max_unseen). Does the column have another unit or sign?"
                )
        for name, before in trained.items():
            share = self._missing[name] / max(1, self.rows)
            if self.rows >= MIN_ROWS and share - before > limits.max_missing_rise:
                raise DataError(
                    f"{source}: {name} is missing in {share:.0%} of {self.rows:,} rows, but was missing in {before:.0%} when the model was trained; "
                    f"the limit of the rise is {limits.max_missing_rise:.0%} (data.max_missing_rise)"
                )

    def _warnings(self, source: Source) -> Iterator[str]:
        for column in self.table.columns:
            name = column.name
            if self._spelled[name]:
                yield f"{source}: {name}: {self._spelled[name]} rows hold a word such as NA, nan or NULL; they count as missing"
            if self._unique and self.rows >= MIN_ROWS and self._missing[name] == self.rows:
                yield f"{source}: {name} is missing in all {self.rows:,} rows"
            if self._unseen[name]:
                yield f"{source}: {name}: {self._unseen[name]} rows hold values outside the schema, such as {self._example(name)}"
            if name in self._outside:
                count, low, high = self._outside[name]
                yield f"{source}: {name}: {count} rows lie outside {column.min} to {column.max}, from {low:g} to {high:g}"


def read_table(
    source: Source, table: Table, *, with_target: bool, say: Say | None = None, limits: DataSettings | None = None
) -> pd.DataFrame:
    """Read and check a whole table whose keys do not repeat: a frame of the key, the target, and the columns.

    Keys are int64 or text, numbers and whole numbers float64, categories text.

    Parameters
    ----------
    say : receives a description of the file, and the warnings.
    limits : on the shares of unseen values; None for no limit.

    Raises
    ------
    DataError
        The file cannot be read, or a row or column breaks the schema.
    """
    reader = TableReader(source, fields_of(table, with_target=with_target))
    validator = Validator(table, unique=True, with_target=with_target)
    frame = _frame(reader, validator)
    if frame.empty:
        raise DataError(f"{source} has no rows")
    warnings = validator.finish(reader, limits)
    if say:
        say(f"read {reader}")
        for warning in warnings:
            say(f"warning: {warning}")
    return frame


def read_rows(source: Source, table: Table) -> pd.DataFrame:
    """Read and check a whole history table, in which keys may repeat.

    Raises
    ------
    DataError
        As `read_table`.
    """
    reader = TableReader(source, fields_of(table))
    return _frame(reader, Validator(table, unique=False))


def _frame(reader: TableReader, validator: Validator) -> pd.DataFrame:
    columns: dict[str, list[Any]] = {field.name: [] for field in reader.fields}
    for part in reader.parts(CHUNK):
        validator.add(part, reader)
        for name, values in {**part.numbers, **part.keys}.items():
            columns[name].append(pa.array(values))
        for name, (codes, texts) in part.texts.items():
            coded = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32(), mask=codes < 0), pa.array(texts, pa.string()))
            columns[name].append(coded.cast(pa.string()))
    kinds = {"key": pa.int64(), "text key": pa.string(), "category": pa.string()}
    types = {field.name: kinds.get(field.kind, pa.float64()) for field in reader.fields}
    frame: pd.DataFrame = pa.table({name: pa.chunked_array(parts, types[name]) for name, parts in columns.items()}).to_pandas()
    return frame


def _wider(one: tuple[int, float, float] | None, other: tuple[int, float, float]) -> tuple[int, float, float]:
    return other if one is None else (one[0] + other[0], min(one[1], other[1]), max(one[2], other[2]))
