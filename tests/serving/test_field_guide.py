"""What GET /schema says of the raw fields."""

import pytest

from features.schema import Column, Table, load_schema
from serving.errors import ServiceError
from serving.field_guide import FIELDS, FieldGuide, read_yaml

GUIDE = FieldGuide(load_schema())


def test_every_field_of_every_table_is_described_once_and_15_are_main() -> None:
    answer = GUIDE.answer([])
    assert list(answer["tables"]) == list(load_schema())
    for name, table in load_schema().items():
        assert sorted(field["name"] for field in answer["tables"][name]["fields"]) == sorted(column.name for column in table.columns)
    fields = answer["tables"]["application"]["fields"]
    assert [field["order"] for field in fields] == list(range(1, len(fields) + 1))
    assert (
        [field["name"] for field in fields if field["main"]] == list(read_yaml(FIELDS)["main"]) == [field["name"] for field in fields[:15]]
    )
    assert {field["group"] for field in fields} <= {group["name"] for group in answer["groups"]}
    assert "other" not in {field["group"] for field in fields}, "a field without a group"


def test_a_field_is_shown_as_people_read_it() -> None:
    fields = {field["name"]: field for field in GUIDE.answer([])["tables"]["application"]["fields"]}
    assert (fields["DAYS_BIRTH"]["display"], fields["DAYS_BIRTH"]["sensitive"], fields["DAYS_BIRTH"]["label"]) == ("years_ago", True, "Age")
    assert fields["DAYS_EMPLOYED"]["unknown"] == [365243]
    assert (fields["AMT_CREDIT"]["display"], fields["FLAG_EMAIL"]["kind"], fields["CODE_GENDER"]["kind"]) == ("money", "flag", "category")
    assert (fields["CODE_GENDER"]["min"], fields["CODE_GENDER"]["unit"], fields["CODE_GENDER"]["categories"]) == (None, None, ["F", "M"])


def test_words_come_in_the_language_asked_for() -> None:
    french = GUIDE.answer([("language", "fr")])
    assert french["groups"][0]["label"] == "Prêt"
    assert french["tables"]["application"]["fields"][0]["label"] == "Montant du prêt"
    assert GUIDE.answer([("language", "en")]) == GUIDE.answer([])


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ([("language", "de")], "language is 'de'; expected en or fr"),
        ([("language", "")], "language is ''; expected en or fr"),
        ([("lang", "fr")], "there is no parameter lang; expected language"),
        ([("language", "fr"), ("language", "fr")], "the parameter language is given twice"),
    ],
)
def test_a_wrong_query_is_refused_by_name(query: list[tuple[str, str]], told: str) -> None:
    with pytest.raises(ServiceError, match="language") as refused:
        GUIDE.answer(query)
    assert (refused.value.status, refused.value.detail) == (422, told)


def test_a_field_that_the_words_do_not_know_is_in_the_last_group() -> None:
    schema = {"application": Table("application", "ID", (Column("NEW", "number", "new field", "score", 0, 1),))}
    answer = FieldGuide(schema).answer([("language", "fr")])
    (field,) = answer["tables"]["application"]["fields"]
    assert (field["group"], field["main"], field["order"], field["label"]) == ("other", False, 1, "New field")
