"""The schema of the raw data: the one source for everything derived from it.

Training reads configs/schema.yaml and stores the schema in the bundle. Serving reads it from the bundle only.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray

from configs.errors import UserError
from configs.settings import CONFIGS

SCHEMA_VERSION = 1
REWRITTEN = frozenset(' \t\n\r\v\f",:[]{}')  # LightGBM turns blanks of a feature name into "_" and refuses the rest, which its JSON uses


class SchemaError(UserError):
    """The schema file breaks its own rules; the message names the column."""


@dataclass(frozen=True)
class Column:
    """One raw column.

    Attributes
    ----------
    name : the source's own name.
    type : "number" (any finite float), "integer" (a whole number) or "category" (text).
    unit : unit of a numeric column, "category" otherwise.
    min, max : plausible range of a numeric column, inclusive; a value outside causes a warning.
    categories : known values of a category column; another value causes a warning.
    unknown : values that mean "not known" in the source.
    sensitive : whether anti-discrimination law protects it.
    text : a short description.
    """

    name: str
    type: Literal["number", "integer", "category"]
    text: str
    unit: str = "category"
    min: float | None = None
    max: float | None = None
    categories: tuple[str, ...] = ()
    unknown: tuple[Any, ...] = ()
    sensitive: bool = False

    def __post_init__(self) -> None:
        if not self.name or REWRITTEN & set(self.name):
            raise SchemaError(f'column {self.name!r} cannot name a feature; rename it without blanks and without any of " , : [ ] {{ }}')
        if self.type == "category":
            problem = "has no categories" if not self.categories else None
        elif self.type in ("number", "integer"):
            if self.min is None or self.max is None or self.min > self.max:
                problem = "needs a plausible range, min no larger than max"
            else:
                problem = "has categories" if self.categories else None
        else:
            problem = f"has type {self.type!r}; expected number, integer or category"
        if problem:
            raise SchemaError(f"column {self.name} {problem}")


@dataclass(frozen=True, eq=False)
class Table:
    """One raw table.

    Attributes
    ----------
    key : the column that identifies the client of a row.
    key_type : "integer" (whole numbers of 64 bits) or "text".
    files : names of its files without ending, by role; a history table has the name of its file.
    target : the column of the outcome, if it has one.
    loan : in a history table, the column with the id of the loan.
    parent : the history table through which a row finds its client by the loan; None if `key` is the id of the client.
    example, examples : an invented applicant; invented rows of a history table.
    """

    name: str
    key: str
    columns: tuple[Column, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    target: str | None = None
    key_type: Literal["integer", "text"] = "integer"
    loan: str | None = None
    parent: str | None = None
    example: Mapping[str, Any] = field(default_factory=dict)
    examples: Sequence[Mapping[str, Any]] = ()

    @cached_property
    def numeric(self) -> tuple[Column, ...]:
        """The columns of type number or integer, in table order."""
        return tuple(column for column in self.columns if column.type != "category")

    @cached_property
    def ranges(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The lower and upper bounds of the plausible ranges of the numeric columns, in table order."""
        low, high = (np.array([getattr(column, side) for column in self.numeric], dtype=np.float64) for side in ("min", "max"))
        return low, high

    @cached_property
    def categorical(self) -> tuple[Column, ...]:
        """The columns of type category, in table order."""
        return tuple(column for column in self.columns if column.type == "category")


Schema = Mapping[str, Table]  # by name of the table


@cache
def load_schema(path: Path = CONFIGS / "schema.yaml") -> Schema:
    """Read a schema file.

    Raises
    ------
    SchemaError
        The file has another version, or a column breaks the rules.
    """
    return _schema(read_yaml(path), str(path))


def schema_from_json(text: str) -> Schema:
    """Restore what `schema_to_json` gave.

    Raises
    ------
    SchemaError
        The text is not a schema, has another version, or a column breaks the rules.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise SchemaError(f"the stored schema is not readable: {error}") from None
    return _schema(content, "the stored schema")


def schema_to_json(schema: Schema) -> str:
    """A schema as text, with everything that the file says: tables and columns in their order, defaults left out."""
    tables = {}
    for name, table in schema.items():
        columns = {column.name: _stated(column, {"name"}) for column in table.columns}
        tables[name] = _stated(table, {"name", "columns"}) | {"columns": columns}
    return json.dumps({"version": SCHEMA_VERSION, "tables": tables}, indent=1, ensure_ascii=False) + "\n"


@cache
def schema_digest(path: Path = CONFIGS / "schema.yaml") -> str:
    """SHA-256 sum, in hexadecimal digits, of what scores depend on in a schema file: not descriptions, examples or file names."""
    tables = [
        _stated(table, {"files", "example", "examples", "columns"})
        | {"columns": [_stated(column, {"text", "sensitive"}) for column in table.columns]}
        for table in load_schema(path).values()
    ]
    return hashlib.sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()


def _stated(item: Table | Column, without: set[str]) -> dict[str, Any]:
    """The fields that differ from their default, so that a new field changes no digest until a file sets it."""
    return {
        each.name: getattr(item, each.name)
        for each in fields(item)
        if each.name not in without and getattr(item, each.name) != each.default
    }


def read_yaml(path: Path) -> Any:
    """The content of a YAML file."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506 - a safe loader, in C where there is one


def history_tables(schema: Schema | None = None) -> tuple[Table, ...]:
    """The history tables of a schema, by default that of configs/schema.yaml.

    A table whose rows find their client through another table stands after that one.
    """
    return tuple(table for table in (load_schema() if schema is None else schema).values() if table.loan)


def _schema(content: Any, source: str) -> Schema:
    version = content.get("version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise SchemaError(f"{source} is of version {version!r}; expected {SCHEMA_VERSION}")
    try:
        return {name: _table(name, fields) for name, fields in content["tables"].items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise SchemaError(f"{source} does not list tables with their columns: {error!r}") from None


def _table(name: str, fields: dict[str, Any]) -> Table:
    columns = tuple(_column(column, values) for column, values in fields["columns"].items())
    try:
        table = Table(**{**fields, "name": name, "columns": columns})
    except TypeError as error:
        raise SchemaError(f"table {name}: {error}") from None
    if table.key_type not in ("integer", "text"):
        raise SchemaError(f"table {name} has key_type {table.key_type!r}; expected integer or text")
    return table


def _column(name: str, fields: dict[str, Any]) -> Column:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    try:
        return Column(name=name, **values)
    except TypeError as error:
        raise SchemaError(f"column {name}: {error}") from None
