"""The raw fields as GET /schema describes them to whoever builds a form.

Names, types, units, ranges and categories come from the schema in the bundle. Groups, order and short labels come from configs/fields.yaml:
no score depends on them, so they may improve without a new model. A field that the file does not know is in its last group.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from configs.settings import CONFIGS
from features.schema import Column, Schema, read_yaml
from serving.errors import ServiceError

LANGUAGES = ("en", "fr")
FIELDS = CONFIGS / "fields.yaml"


class FieldGuide:
    """Describes the fields of a schema in each language.

    Parameters
    ----------
    schema : of the raw data, as the bundle holds it.
    words : the content of configs/fields.yaml.
    """

    def __init__(self, schema: Schema, words: Mapping[str, Any] | None = None) -> None:
        words = read_yaml(FIELDS) if words is None else words
        self._answers = {language: _described(schema, words, language) for language in LANGUAGES}

    def answer(self, query: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """The content of the answer.

        Parameters
        ----------
        query : names and values of the query; `language` is its only parameter, by default the first of LANGUAGES.

        Raises
        ------
        ServiceError
            422: a parameter is unknown, given twice, or names a language without words.
        """
        for name, _ in query:
            if name != "language":
                raise ServiceError(422, f"there is no parameter {name[:50]}; expected language")
        if len(query) > 1:
            raise ServiceError(422, "the parameter language is given twice")
        language = query[0][1] if query else LANGUAGES[0]
        if language not in self._answers:
            raise ServiceError(422, f"language is {language[:50]!r}; expected {' or '.join(LANGUAGES)}")
        return self._answers[language]


def _described(schema: Schema, words: Mapping[str, Any], language: str) -> dict[str, Any]:
    groups, main = words["groups"], words["main"]
    application = schema["application"]
    places = {column.name: _place(column.name, groups, list(main), position) for position, column in enumerate(application.columns)}
    order = {name: number for number, name in enumerate(sorted(places, key=places.__getitem__), 1)}
    fields = [
        {
            **_field(column, main.get(column.name, {}).get(language)),
            "group": groups[_group(column.name, groups)]["name"],
            "main": column.name in main,
            "order": order[column.name],
        }
        for column in sorted(application.columns, key=lambda column: order[column.name])
    ]
    tables = {
        name: {"key": table.key, "loan": table.loan, "fields": [_field(column) for column in table.columns]}
        for name, table in schema.items()
        if name != application.name
    }
    return {
        "language": language,
        "groups": [{"name": group["name"], "label": group["label"][language]} for group in groups],
        "tables": {application.name: {"key": application.key, "loan": None, "fields": fields}, **tables},
    }


def _group(name: str, groups: Sequence[Mapping[str, Any]]) -> int:
    fitting = (number for number, group in enumerate(groups) if any(fnmatchcase(name, pattern) for pattern in group["fields"]))
    return next(fitting, len(groups) - 1)


def _place(name: str, groups: Sequence[Mapping[str, Any]], main: list[str], position: int) -> tuple[int, int, int]:
    """Where a field stands: main fields first, then by group, then as in the schema."""
    return (0, 0, main.index(name)) if name in main else (1, _group(name, groups), position)


def _field(column: Column, label: str | None = None) -> dict[str, Any]:
    """What is known of a field of any table; a range and a step are null for a category."""
    is_number = column.type != "category"
    return {
        "name": column.name,
        "label": label or column.text[:1].upper() + column.text[1:],
        "text": column.text,
        "type": column.type,
        "kind": "flag" if column.unit == "0/1" else column.type,
        "unit": column.unit if is_number else None,
        "display": _display(column),
        "min": column.min,
        "max": column.max,
        "step": (1 if column.type == "integer" else 0.01) if is_number else None,
        "categories": list(column.categories),
        "unknown": list(column.unknown),
        "sensitive": column.sensitive,
        "required": False,  # a missing field means that it is not known
    }


def _display(column: Column) -> str:
    """How to show a value: days back from the application as years, an amount as money, else as it is."""
    if column.unit == "days" and column.min is not None and column.max is not None and column.min < 0 >= column.max:
        return "years_ago"
    return {"currency": "money", "0/1": "yes_no", "share": "percent"}.get(column.unit, "plain")
