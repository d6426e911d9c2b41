"""Parts of which the OpenAPI document is made."""

from typing import Any

TEXT = {"type": "string"}
MAYBE = {"type": "string", "nullable": True}
NUMBER = {"type": "number"}
TIME = {"type": "string", "format": "date-time"}
IDENTIFIER = {"type": "string", "format": "uuid"}


def closed(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """An object without other members than these."""
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": list(required)}


def whole(properties: dict[str, Any]) -> dict[str, Any]:
    """An object with exactly these members."""
    return closed(properties, *properties)


def ref(name: str) -> dict[str, str]:
    """A schema of the document, by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def answered(description: str, media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    """An answer with content of one type."""
    return {"description": description, "content": {media_type: {"schema": schema}}}


def fields_answer() -> dict[str, Any]:
    """The schema of the answer of GET /schema."""
    maybe = {"type": "string", "nullable": True}
    number = {"type": "number", "nullable": True}
    everywhere = {
        **dict.fromkeys(("name", "label", "text", "type", "kind", "display"), TEXT),
        "unit": maybe,
        **dict.fromkeys(("min", "max", "step"), number),
        "categories": {"type": "array", "items": TEXT},
        "unknown": {"type": "array", "items": {}, "description": "values that mean not known"},
        **{name: {"type": "boolean"} for name in ("sensitive", "required")},
    }
    of_application = {"group": TEXT, "main": {"type": "boolean"}, "order": {"type": "integer"}}
    field = closed({**everywhere, **of_application}, *everywhere)
    table = whole({"key": TEXT, "loan": maybe, "fields": {"type": "array", "items": field}})
    groups = {"type": "array", "items": whole({"name": TEXT, "label": TEXT})}
    return whole({"language": TEXT, "groups": groups, "tables": {"type": "object", "additionalProperties": table}})
