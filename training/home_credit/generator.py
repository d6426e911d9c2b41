"""Generates applications that resemble the real ones, from a profile of aggregates.

A Gaussian copula: each row is a vector of correlated normal variables, one for each column and one for each group of columns that
are missing together. The quantiles or category shares of a column turn its variable into a value. A scorecard gives the PD: the points
of each column's bin are added and passed through the logistic function. configs/generator_profile.json holds these aggregates and
nothing else; profile.py fits it.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import expit, ndtr

from configs.settings import CONFIGS
from features.schema import Table, load_schema
from training.aliases import Values
from training.data.source import write_marker
from training.data.writer import open_writer
from training.home_credit.draws import factor, round_to
from training.home_credit.history_generator import CLIENTS, TABLES, HistoryGenerator

PROFILE = CONFIGS / "generator_profile.json"
BLOCK = 10_000  # rows drawn from one random stream
ROW_GROUP = 200_000  # rows written at once
TEST_SHARE = 48_744 / 307_511  # rows of application_test for each of application_train, as in the competition
FIRST_KEY = 100_001

# Columns drawn as a ratio to another one, to which they are tied more closely than a correlation can express.
RATIOS = {"AMT_ANNUITY": ("AMT_ANNUITY", "AMT_CREDIT"), "AMT_GOODS_PRICE": ("AMT_CREDIT", "AMT_GOODS_PRICE")}
RETIRED = "DAYS_EMPLOYED"  # names the group of columns that are unknown for applicants without an employer
TARGET = "TARGET"
OCCUPATION = "OCCUPATION_TYPE"  # unknown without an employer
INCOME_TYPE = "NAME_INCOME_TYPE"
COUPLES = ("Married", "Civil marriage")


@dataclass(frozen=True)
class Variable:
    """A column of the copula: quantiles if continuous, values and shares if discrete, and the points of its bins."""

    name: str
    missing: str | None
    edges: Values
    points: Values
    missing_points: float
    quantiles: Values = field(default_factory=lambda: np.empty(0))
    values: tuple[Any, ...] = ()
    shares: Values = field(default_factory=lambda: np.empty(0))

    @classmethod
    def from_dict(cls, entry: dict[str, Any]) -> Self:
        """The variable of an entry of the profile."""
        arrays: dict[str, Any] = {
            key: np.array(entry[key], dtype=float) for key in ("edges", "points", "quantiles", "shares") if key in entry
        }
        rest: dict[str, Any] = {key: entry[key] for key in ("name", "missing", "missing_points")}
        return cls(**rest, values=tuple(entry.get("values", ())), **arrays)

    def draw(self, level: Values) -> tuple[Values, Values]:
        """Values, and their ordinals, at levels in (0, 1). The ordinal of a discrete value is its position."""
        if len(self.quantiles):
            grid = np.linspace(0, 1, len(self.quantiles))
            value = np.interp(level, grid, self.quantiles)
            return value, value
        position = np.searchsorted(np.cumsum(self.shares)[:-1], level, side="right")
        return position.astype(float), position.astype(float)

    def score(self, ordinal: Values, missing: NDArray[np.bool_]) -> Values:
        """The points of each row towards default."""
        return np.where(missing, self.missing_points, self.points[np.searchsorted(self.edges, ordinal, side="left")])


class Generator:
    """Draws applications from a profile."""

    def __init__(self, profile: dict[str, Any], table: Table | None = None) -> None:
        self.table = table or load_schema()["application"]
        self.intercept = float(profile["intercept"])
        self.variables = [Variable.from_dict(entry) for entry in profile["variables"]]
        self.groups = {entry["name"]: float(entry["share"]) for entry in profile["missing"]}
        size = len(self.variables) + len(self.groups)
        correlation = np.eye(size)
        correlation[np.tril_indices(size, -1)] = profile["correlation"]
        correlation = correlation + np.tril(correlation, -1).T
        self._factor = factor(correlation)

    @classmethod
    def from_file(cls, path: Path = PROFILE) -> Self:
        """The generator of a stored profile."""
        return cls(json.loads(path.read_text(encoding="utf-8")))

    def block(self, seed: int, index: int) -> pd.DataFrame:
        """Block `index` of BLOCK applications with their target. It depends only on seed and index."""
        columns, logit, retired, random = self._block(seed, index)
        columns = self._consistent(columns, retired)
        columns[TARGET] = (random.random(BLOCK) < expit(logit)).astype(np.int8)
        return pd.DataFrame({name: columns[name] for name in [TARGET, *(c.name for c in self.table.columns)]})

    def logit(self, seed: int, index: int) -> Values:
        """The log-odds of default in block `index`, from which its outcomes are drawn."""
        return self._block(seed, index)[1]

    def draw(self, applications: int, seed: int, start: int = 0) -> Iterator[pd.DataFrame]:
        """Applications with key and target, block by block from block `start`."""
        for rows, frame in self.blocks(applications, seed, start):
            yield frame[:rows]

    def blocks(self, applications: int, seed: int, start: int) -> Iterator[tuple[int, pd.DataFrame]]:
        """Pairs of a row count and a whole block with key and target; the caller keeps that many of its rows."""
        for index in range(-(-applications // BLOCK)):
            frame = self.block(seed, start + index)
            frame.insert(0, self.table.key, FIRST_KEY + (start + index) * BLOCK + np.arange(BLOCK))
            yield min(BLOCK, applications - index * BLOCK), frame

    def _block(self, seed: int, index: int) -> tuple[dict[str, NDArray[Any]], Values, NDArray[np.bool_], np.random.Generator]:
        """Columns as drawn, log-odds, who has no employer, and the random stream to continue with."""
        random = np.random.default_rng([seed, index])
        level = ndtr(random.standard_normal((BLOCK, len(self._factor))) @ self._factor.T)
        groups = {name: level[:, len(self.variables) + position] < share for position, (name, share) in enumerate(self.groups.items())}
        groups[OCCUPATION] = groups[OCCUPATION] | groups[RETIRED]
        none = np.zeros(BLOCK, dtype=bool)
        columns: dict[str, NDArray[Any]] = {}
        logit = np.full(BLOCK, self.intercept)
        for position, variable in enumerate(self.variables):
            missing = groups[variable.missing] if variable.missing else none
            value, ordinal = variable.draw(level[:, position])
            logit += variable.score(ordinal, missing)
            columns[variable.name] = self._cell(variable, value, missing)
        return columns, logit, groups[RETIRED], random

    def _cell(self, variable: Variable, value: Values, missing: NDArray[np.bool_]) -> NDArray[Any]:
        if variable.values:
            cells: NDArray[Any] = np.array(variable.values, dtype=object)[value.astype(int)]
            if all(isinstance(item, str) for item in variable.values):
                cells[missing] = None
                return cells
            value = cells.astype(float)
        return np.where(missing, np.nan, value)

    def _consistent(self, columns: dict[str, NDArray[Any]], retired: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
        """Restore what holds in every real row, and the codes by which the source marks unknown values."""
        c = columns
        c["AMT_CREDIT"] = round_to(c["AMT_CREDIT"], 4.5)
        c["AMT_GOODS_PRICE"] = round_to(c["AMT_CREDIT"] / c["AMT_GOODS_PRICE"], 4.5)
        c["AMT_ANNUITY"] = round_to(c["AMT_ANNUITY"] * c["AMT_CREDIT"], 4.5)
        c["AMT_INCOME_TOTAL"] = round_to(c["AMT_INCOME_TOTAL"], 4.5)
        for column in self.table.numeric:
            if column.type == "integer":
                c[column.name] = np.round(c[column.name])
        for name in ("DAYS_REGISTRATION", "DAYS_ID_PUBLISH", "DAYS_LAST_PHONE_CHANGE"):
            c[name] = np.fmax(c[name], c["DAYS_BIRTH"])
        c["DAYS_EMPLOYED"] = np.where(retired, 365243.0, np.fmax(c["DAYS_EMPLOYED"], c["DAYS_BIRTH"] + 16 * 365))
        c["ORGANIZATION_TYPE"] = np.where(retired, "XNA", c["ORGANIZATION_TYPE"])
        c["FLAG_EMP_PHONE"] = np.where(retired, 0.0, 1.0)
        c[INCOME_TYPE] = np.where(retired, "Pensioner", c[INCOME_TYPE])
        c["OWN_CAR_AGE"] = np.where(c["FLAG_OWN_CAR"] == "Y", c["OWN_CAR_AGE"], np.nan)
        c["CNT_FAM_MEMBERS"] = c["CNT_CHILDREN"] + np.where(np.isin(c["NAME_FAMILY_STATUS"], COUPLES), 2, 1)
        for days in (30, 60):
            c[f"DEF_{days}_CNT_SOCIAL_CIRCLE"] = np.fmin(c[f"DEF_{days}_CNT_SOCIAL_CIRCLE"], c[f"OBS_{days}_CNT_SOCIAL_CIRCLE"])
        return c


def unlabelled(applications: int) -> int:
    """The number of applications in application_test for a number of labelled ones."""
    return max(1, round(applications * TEST_SHARE))


def generate(
    folder: Path,
    applications: int,
    seed: int,
    file_format: str = "parquet",
    *,
    history: bool = True,
    progress: Callable[[int], object] = int,
) -> None:
    """Write application_train, application_test, their history and the marker of generated data into a folder, block by block.

    Parameters
    ----------
    applications : labelled rows; application_test gets 16 for each 100 of them, as in the competition.
    progress : called with the number of applications just written.

    Raises
    ------
    ValueError
        `applications` is below 1.
    """
    if applications < 1:
        raise ValueError(f"applications is {applications}; expected at least 1")
    generator = Generator.from_file()
    table = generator.table
    folder.mkdir(parents=True, exist_ok=True)
    after = -(-applications // BLOCK)
    parts = {"train": (applications, 0), "test": (unlabelled(applications), after)}
    loans = HistoryGenerator.from_file() if history else None
    with ExitStack() as stack:
        names = [*table.files.values(), *(TABLES if history else ())]
        writers = {name: _Writer(folder / f"{name}.{file_format}", stack) for name in names}
        for role, (total, start) in parts.items():
            for index, (rows, frame) in enumerate(generator.blocks(total, seed, start), start):
                writers[table.files[role]].write(frame[:rows].drop(columns=[table.target] if role == "test" else []))
                for first in range(0, rows, CLIENTS):
                    wanted = min(CLIENTS, rows - first)
                    if loans:
                        stream = (index * BLOCK + first) // CLIENTS
                        for name, part in loans.draw(frame[first : first + CLIENTS], wanted, seed, stream, role=role).items():
                            writers[name].write(part)
                    progress(wanted)
    write_marker(folder, {"applications": applications, "seed": seed})


class _Writer:
    """Writes a table frame by frame, gathered into row groups of a size that reads well."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self._path, self._stack = path, stack
        self._writer: Any = None
        self._gathered: list[pa.Table] = []

    def write(self, frame: pd.DataFrame) -> None:
        data = pa.Table.from_pandas(frame, preserve_index=False)
        if self._writer is None:
            fields = [pa.field(item.name, pa.string() if pa.types.is_null(item.type) else item.type) for item in data.schema]
            self._schema = pa.schema(fields)
            self._writer = self._stack.enter_context(open_writer(self._path, self._path.name, self._schema))
            self._stack.callback(self._flush)
        self._gathered.append(data.cast(self._schema))
        if sum(len(part) for part in self._gathered) >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._gathered:
            self._writer.write_table(pa.concat_tables(self._gathered))
            self._gathered = []
