from dataclasses import asdict
from pathlib import Path

import pytest

from features.schema import Column, SchemaError, Table, history_tables, load_schema, schema_digest, schema_from_json, schema_to_json


def test_the_application_has_the_120_raw_columns(table: Table) -> None:
    assert len(table.columns) == 120
    assert len({column.name for column in table.columns}) == 120
    assert (len(table.numeric), len(table.categorical)) == (104, 16)
    assert (table.key, table.target) == ("SK_ID_CURR", "TARGET")
    assert {column.name for column in table.columns if column.sensitive} >= {"CODE_GENDER", "DAYS_BIRTH", "NAME_FAMILY_STATUS"}


def test_every_column_is_described() -> None:
    assert all(column.text and column.unit for table in load_schema().values() for column in table.columns)


def test_the_history_tables_have_the_columns_of_their_files() -> None:
    tables = {table.name: table for table in history_tables()}
    columns = {"bureau": 16, "bureau_balance": 3, "previous_application": 36, "POS_CASH_balance": 7, "installments_payments": 7}
    assert {name: len(table.columns) for name, table in tables.items()} == {**columns, "credit_card_balance": 22}
    for table in tables.values():
        names = [column.name for column in table.columns]
        assert table.loan in names
        assert table.parent is None or table.parent in list(tables)[: list(tables).index(table.name)]
        assert table.examples
        assert all(set(row) <= set(names) for row in table.examples)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"type": "date"}, "column X has type 'date'; expected number, integer or category"),
        ({"type": "number", "min": 2, "max": 1}, "column X needs a plausible range"),
        ({"type": "number"}, "column X needs a plausible range"),
        ({"type": "number", "min": 0, "max": 1, "categories": ("a",)}, "column X has categories"),
        ({"type": "category"}, "column X has no categories"),
    ],
)
def test_a_column_that_breaks_the_rules_is_named(fields: dict[str, object], said: str) -> None:
    with pytest.raises(SchemaError, match=said):
        Column(name="X", text="", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("version: 2\ntables: {}", "version 2; expected 1"),
        ("version: 1\ntables: {a: {key: K, files: {}, columns: {X: {type: number, colour: red}}}}", "column X: .*colour"),
        ("version: 1\ntables: {a: {key: K, shape: round, columns: {}}}", "table a: .*shape"),
    ],
)
def test_a_wrong_schema_file_is_refused(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "schema.yaml").write_text(content)
    with pytest.raises(SchemaError, match=said):
        load_schema(tmp_path / "schema.yaml")


SCHEMA = """
version: 1
tables:
  application:
    key: ID
    files: {train: one}
    example: {A: 1}
    columns:
      A: {type: number, unit: years, min: 0, max: 9, text: the age}
      B: {type: category, categories: [x, y], text: a letter}
"""


def test_a_schema_is_restored_from_its_text() -> None:
    schema = load_schema()
    text = schema_to_json(schema)
    again = schema_from_json(text)
    assert schema_to_json(again) == text
    for name, table in schema.items():
        assert asdict(again[name]) == asdict(table)
    assert [table.name for table in history_tables(again)] == [table.name for table in history_tables()]


@pytest.mark.parametrize("text", ["", "[]", "1", '{"version": 1}', '{"version": 1, "tables": {"a": {"columns": 1}}}', '{"version": 2}'])
def test_a_text_that_is_no_schema_is_refused(text: str) -> None:
    with pytest.raises(SchemaError, match="the stored schema"):
        schema_from_json(text)


@pytest.mark.parametrize("name", ["", "two words", "a:b", 'a"b', "a,b", "a[0]", "a{b}", "tab\t"])
def test_a_name_that_lightgbm_would_rewrite_is_refused(name: str) -> None:
    with pytest.raises(SchemaError, match="cannot name a feature; rename it"):
        Column(name=name, type="category", text="t", categories=("x",))


def digest_of(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return schema_digest(folder / name)


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("max: 9,", "max: 9, unknown: [9],", False),
        ("max: 9", "max: 8", False),
        ("[x, y]", "[x, y, z]", False),
        ("type: number", "type: integer", False),
        ("key: ID", "key: OTHER", False),
        ("      B:", "      C:", False),
        ("the age", "how old one is", True),
        ("text: a letter", "sensitive: true, text: a letter", True),
        ("train: one", "train: two", True),
        ("{A: 1}", "{A: 2}", True),
        ("max: 9,", "max: 9, unknown: [],", True),
    ],
)
def test_the_digest_of_a_schema_moves_with_what_answers_depend_on(old: str, new: str, same: bool, tmp_path: Path) -> None:
    before, after = digest_of(tmp_path, "before", SCHEMA), digest_of(tmp_path, "after", SCHEMA.replace(old, new))
    assert (before == after) is same
