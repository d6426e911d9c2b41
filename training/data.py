"""Reading and validating the tables, from the folder as a person downloads it."""

import csv
import hashlib
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from features.schema import Column, Table

GENERATED_MARKER = "generated.json"
SHOWN = 5
BYTES_OF_ROW = 600  # of an application as CSV, to read about as many rows at once as asked for


class DataError(ValueError):
    """The tables cannot be used; the message names the file, the columns and what was expected."""


@dataclass(frozen=True)
class Source:
    """A file of a table: a Parquet or CSV file, or a CSV member of a zip archive."""

    path: Path
    member: str | None = None

    def __str__(self) -> str:
        return f"{self.path}/{self.member}" if self.member else str(self.path)

    def open(self) -> Any:
        """The content, as a binary file."""
        return zipfile.ZipFile(self.path).open(self.member) if self.member else self.path.open("rb")


def find_source(folder: Path, stem: str) -> Source:
    """The file of a table: STEM.parquet, STEM.csv, or STEM.csv in any zip archive of the folder.

    Raises
    ------
    DataError
        There is no such folder or file.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; expected the folder with {stem}.csv")
    for suffix in (".parquet", ".csv"):
        if (folder / f"{stem}{suffix}").is_file():
            return Source(folder / f"{stem}{suffix}")
    for path in sorted(folder.glob("*.zip")):
        try:
            with zipfile.ZipFile(path) as archive:
                members = [name for name in archive.namelist() if Path(name).name == f"{stem}.csv"]
        except zipfile.BadZipFile:
            raise DataError(f"{path} is not a readable zip archive") from None
        if members:
            return Source(path, members[0])
    raise DataError(f"{folder} has no {stem}.parquet, {stem}.csv or zip archive with {stem}.csv")


def fingerprint(sources: list[Source]) -> str:
    """Sixteen hexadecimal digits that name the content of the files."""
    digest = hashlib.sha256()
    for source in sources:
        with source.open() as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def is_generated(folder: Path) -> bool:
    """Whether the generator of this project made the folder."""
    return (folder / GENERATED_MARKER).is_file()


def read_table(source: Source, table: Table, *, with_target: bool) -> pd.DataFrame:
    """Read a table with the types of the schema: numbers and integers as float64, categories as text.

    Raises
    ------
    DataError
        A column is missing or holds another type.
    """
    types = _types(table, with_target=with_target)
    required = list(types)
    try:
        data = _read_parquet(source, required, types) if source.path.suffix == ".parquet" else _read_csv(source, required, types)
    except pa.ArrowInvalid as error:
        raise DataError(f"{source} cannot be read: {error}") from None
    frame: pd.DataFrame = data.to_pandas()
    return frame


def read_chunks(source: Source, table: Table, rows: int, row_groups: list[int] | None = None) -> Iterator[pa.Table]:
    """Read the key and the columns of a table with the types of the schema, about `rows` at once.

    Parameters
    ----------
    row_groups : of a Parquet file, those to read; None for all.

    Raises
    ------
    DataError
        A column is missing or holds another type.
    """
    types = _types(table, with_target=False)
    try:
        with source.open() as file:
            if source.path.suffix == ".parquet":
                parquet = pa.parquet.ParquetFile(file)
                check_columns(source, parquet.schema_arrow.names, list(types))
                for batch in parquet.iter_batches(rows, columns=list(types), row_groups=row_groups):
                    yield _typed(source, pa.table(batch), types)
                return
            check_columns(source, header_of(source), list(types))
            convert = pa.csv.ConvertOptions(column_types=types, include_columns=list(types), strings_can_be_null=True, null_values=[""])
            read = pa.csv.ReadOptions(block_size=rows * BYTES_OF_ROW)
            yield from (pa.table(batch) for batch in pa.csv.open_csv(file, read_options=read, convert_options=convert))
    except pa.ArrowInvalid as error:
        raise DataError(f"{source} cannot be read: {error}") from None


def _types(table: Table, *, with_target: bool) -> dict[str, Any]:
    keys = [table.key, *([table.target] if with_target and table.target else [])]
    columns = {column.name: pa.string() if column.type == "category" else pa.float64() for column in table.columns}
    return {**dict.fromkeys(keys, pa.float64()), **columns}


def validate(frame: pd.DataFrame, table: Table, name: str, *, with_target: bool) -> list[str]:
    """Check a whole table against the schema; returns the warnings, a sentence each.

    Raises
    ------
    DataError
        It is empty, its key repeats or is missing, its target is constant or not 0 or 1, an integer column holds
        fractions, a number is infinite.
    """
    if frame.empty:
        raise DataError(f"{name} has no rows")
    whole = pandera.Check(lambda values: values % 1 == 0, name="whole numbers")
    finite = pandera.Check(np.isfinite, name="finite numbers")
    columns = {
        column.name: pandera.Column(nullable=True, checks=[finite, whole] if column.type == "integer" else [finite])
        for column in table.numeric
    }
    columns[table.key] = pandera.Column(unique=True, nullable=False, checks=[whole])
    if with_target and table.target:
        columns[table.target] = pandera.Column(nullable=False, checks=[pandera.Check(lambda values: values.isin([0, 1]), name="0 or 1")])
    try:
        pandera.DataFrameSchema(columns).validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as error:
        raise DataError(f"{name} is not valid:\n" + "\n".join(_failures(error.failure_cases))) from None
    if with_target and table.target and frame[table.target].nunique() == 1:
        raise DataError(f"{name}: {table.target} is {frame[table.target].iloc[0]:g} in every row; expected both 0 and 1")
    return [warning for column in table.columns for warning in _warnings(frame[column.name], column)]


def _failures(cases: pd.DataFrame) -> Iterator[str]:
    expectations = {"not_nullable": "no missing value", "field_uniqueness": "each value once"}
    for (column, check), group in cases.groupby(["column", "check"], sort=True):
        shown = ", ".join(str(value) for value in group["failure_case"].drop_duplicates().head(SHOWN))
        yield f"  {column}: expected {expectations.get(str(check), check)}; {len(group)} rows differ, such as {shown}"


def _warnings(values: pd.Series, column: Column) -> Iterator[str]:
    known = values.dropna()
    known = known[~known.isin(column.unknown)]
    if column.type == "category":
        counts = known[~known.isin(column.categories)].value_counts()
        if len(counts):
            yield f"{column.name}: {counts.sum()} rows hold values outside the schema, such as {', '.join(counts.index[:SHOWN])}"
    else:
        outside = known[(known < column.min) | (known > column.max)]
        if len(outside):
            yield (
                f"{column.name}: {len(outside)} rows lie outside {column.min} to {column.max}, from {outside.min():g} to {outside.max():g}"
            )


def _read_parquet(source: Source, required: list[str], types: dict[str, Any]) -> pa.Table:
    with source.open() as file:
        check_columns(source, pa.parquet.read_schema(file).names, required)
        file.seek(0)
        data = pa.parquet.read_table(file, columns=required)
    return _typed(source, data, types)


def _typed(source: Source, data: pa.Table, types: dict[str, Any]) -> pa.Table:
    columns: dict[str, Any] = {}
    problems = []
    for name, kind in types.items():
        column = data[name]
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        numeric = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
        textual = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        if pa.types.is_null(column.type) or (numeric if kind == pa.float64() else textual):
            columns[name] = column.cast(kind)
        else:
            problems.append(f"  {name}: expected {type_name(kind)}, got {column.type}")
    if problems:
        raise DataError(f"{source} has columns of the wrong type:\n" + "\n".join(problems))
    return pa.table(columns)


def _read_csv(source: Source, required: list[str], types: dict[str, Any]) -> pa.Table:
    check_columns(source, header_of(source), required)

    def read(column_types: dict[str, Any]) -> pa.Table:
        convert = pa.csv.ConvertOptions(column_types=column_types, include_columns=required, strings_can_be_null=True, null_values=[""])
        with source.open() as file:
            return pa.csv.read_csv(file, convert_options=convert, parse_options=pa.csv.ParseOptions(newlines_in_values=True))

    try:
        return read(types)
    except pa.ArrowInvalid as error:
        if "conversion error" not in str(error):
            raise
    text = read(dict.fromkeys(required, pa.string()))
    problems = []
    for name in required:
        if types[name] == pa.float64():
            values = text[name].drop_null().to_pandas()
            wrong = values[pd.to_numeric(values, errors="coerce").isna()]
            if len(wrong):
                problems.append(f"  {name}: expected numbers; {len(wrong)} rows differ, such as {wrong.iloc[0]!r}")
    raise DataError(f"{source} has columns of the wrong type:\n" + "\n".join(problems))


def header_of(source: Source) -> list[str]:
    """The column names of a CSV file."""
    with source.open() as file:
        return next(csv.reader([file.readline().decode("utf-8-sig", "replace")]), [])


def check_columns(source: Source, given: list[str], required: list[str]) -> None:
    """Refuse a file without some columns.

    Raises
    ------
    DataError
        Columns are missing; it names them.
    """
    missing = [name for name in required if name not in given]
    if missing:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise DataError(f"{source} lacks columns: {', '.join(missing[:SHOWN])}{more}")


def type_name(kind: pa.DataType) -> str:
    """The word for a type of the schema in an error."""
    return "numbers" if kind == pa.float64() else "text"


def write_marker(folder: Path, content: dict[str, Any]) -> None:
    """Mark a folder as generated."""
    (folder / GENERATED_MARKER).write_text(json.dumps(content) + "\n", encoding="utf-8")


def target_of(frame: pd.DataFrame, table: Table) -> NDArray[np.int8]:
    """The outcome of each row, 1 for default."""
    return frame[table.target].to_numpy(dtype=np.int8)
