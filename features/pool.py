"""The features that can be computed, and those chosen for new models."""

from functools import cache
from typing import NamedTuple

from configs.settings import CONFIGS
from features.aggregates import AGGREGATES
from features.application import DIFFERENCES, EXPECTED, EXTERNAL, RATIOS, SIMPLE
from features.expressions import EXPRESSIONS
from features.schema import Table, load_schema, read_yaml

CHOSEN = CONFIGS / "features.yaml"


class Feature(NamedTuple):
    """A column of the matrix: its name, its unit, and its source: a raw column, a formula or an aggregate."""

    name: str
    unit: str
    source: str


@cache
def feature_pool(table: Table | None = None) -> dict[str, Feature]:
    """Every feature that can be computed, by name: raw columns, derived ones, aggregates, ratios, expected scores, differences.

    Parameters
    ----------
    table : schema of the application; that of configs/schema.yaml if None.
    """
    columns = (load_schema()["application"] if table is None else table).columns
    raw = [(c.name, "code" if c.type == "category" else c.unit, c.name) for c in columns]
    simple = [(derived.name, derived.unit, derived.formula) for derived in SIMPLE]
    aggregates = [(item.name, item.unit, item.source(EXPRESSIONS[item.table])) for item in AGGREGATES]
    ratios = [(name, "ratio", f"{above} / {below}") for name, (above, below) in RATIOS.items()]
    expected = [(name, "score", f"{score} as the rest of the application leads one to expect") for name, score in EXPECTED.items()]
    differences = [(name, "difference", f"{one} - {other}") for name, (one, other) in DIFFERENCES.items()]
    return {fields[0]: Feature(*fields) for fields in (*raw, *simple, *aggregates, *ratios, *expected, *differences)}


@cache
def history_features() -> frozenset[str]:
    """The features of the pool that need the history."""
    aggregates = {aggregate.name for aggregate in AGGREGATES}
    return frozenset(aggregates | {name for name, pair in {**RATIOS, **DIFFERENCES}.items() if aggregates & set(pair)})


@cache
def fields_of(name: str) -> frozenset[str]:
    """The raw fields of the application that a feature is computed from directly. An expected score counts as computed from none."""
    if pair := RATIOS.get(name) or DIFFERENCES.get(name):
        return fields_of(pair[0]) | fields_of(pair[1])
    simple = [derived.columns for derived in SIMPLE if derived.name == name]
    return frozenset(simple[0] if simple else () if name in EXPECTED or name in history_features() else (name,))


@cache
def explaining_features(table: Table | None = None) -> tuple[str, ...]:
    """The features of the application that predict the external scores: all that do not contain one."""
    derived = {feature.name for feature in SIMPLE if set(feature.columns) & set(EXTERNAL)}
    holding = history_features() | derived | set(EXTERNAL) | set(EXPECTED) | set(DIFFERENCES)
    return tuple(name for name in feature_pool(table) if name not in holding)


@cache
def chosen_features() -> tuple[str, ...]:
    """The names of the features of new models, in order, from configs/features.yaml."""
    return tuple(entry["name"] for entry in read_yaml(CHOSEN)["features"])
