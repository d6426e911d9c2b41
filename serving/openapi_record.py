"""The part of the OpenAPI document about what is on record."""

from typing import Any

from serving.record_desk import CHOICES, MOST, PAGE

TEXT = {"type": "string"}
TIME = {"type": "string", "format": "date-time"}
IDENTIFIER = {"type": "string", "format": "uuid"}
MAYBE = {"type": "string", "nullable": True}
NUMBER = {"type": "number"}


def record_paths(error: dict[int, Any]) -> dict[str, Any]:
    """The routes over the record.

    Parameters
    ----------
    error : for each status, its answer.
    """
    one = _parameter("path", "prediction_id", IDENTIFIER)
    filters = [
        *(_parameter("query", name, {**TEXT, "enum": list(choices)}) for name, choices in CHOICES.items()),
        _parameter("query", "model_version", TEXT),
        _parameter("query", "since", TIME),
        _parameter("query", "until", TIME),
        _parameter("query", "limit", {"type": "integer", "minimum": 1, "maximum": MOST, "default": PAGE}),
        _parameter("query", "cursor", {**TEXT, "description": "`next` of the page before"}),
    ]
    client = {**TEXT, "minLength": 1}

    def route(name: str, summary: str, schema: str, parameters: list[dict[str, Any]], *statuses: int) -> dict[str, Any]:
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
        answers = {"200": {"description": "the answer", "content": content}, **{str(status): error[status] for status in statuses}}
        return {"operationId": name, "summary": summary, "parameters": parameters, "responses": answers}

    listed = "Decisions, newest first, with their current outcome; `next` is the cursor of the next page"
    of_client = "The decisions on a client, newest first"
    return {
        "/decisions": {"get": route("decisions", listed, "Decisions", [_parameter("query", "client_id", client), *filters], 422, 500, 503)},
        "/decisions/{prediction_id}": {
            "get": route("decision", "One decision with its record and all its outcomes", "Recorded", [one], 404, 422, 500, 503)
        },
        "/decisions/{prediction_id}/reasons": {
            "get": route(
                "decision_reasons",
                "The reasons of a decision: those given at the time, else those of its model",
                "RecordedReasons",
                [one, _parameter("query", "language", TEXT)],
                *(404, 409, 422, 500, 503),
            )
        },
        "/decisions/{prediction_id}/replay": {
            "post": route(
                "replay", "Score a decision again with its model: the same bits, or why not", "Replay", [one], 404, 409, 422, 500, 503
            )
        },
        "/clients/{client_id}/decisions": {
            "get": route("client_decisions", of_client, "Decisions", [_parameter("path", "client_id", client), *filters], 422, 500, 503)
        },
    }


def record_schemas() -> dict[str, Any]:
    """The schemas that the routes over the record refer to."""
    columns = {
        "prediction_id": IDENTIFIER,
        "time": TIME,
        "client_id": MAYBE,
        "model_name": MAYBE,
        "model_version": TEXT,
        "probability": {**NUMBER, "minimum": 0, "maximum": 1},
        "threshold": NUMBER,
        "decision": {**TEXT, "enum": list(CHOICES["decision"])},
        "risk_level": {**TEXT, "enum": list(CHOICES["risk_level"])},
        "latency_ms": NUMBER,
        "request_id": MAYBE,
        "sender": MAYBE,
    }
    outcome = _object({"defaulted": {"type": "boolean"}, "observed_at": TIME})
    stored = _object({"defaulted": {"type": "boolean"}, "observed_at": TIME, "received_at": TIME, "source": TEXT})
    return {
        "Decisions": _object(
            {
                "decisions": {"type": "array", "items": _object({**columns, "outcome": {**outcome, "nullable": True}})},
                "next": MAYBE,
            }
        ),
        "Recorded": _object(
            {
                **columns,
                "outcomes": {"type": "array", "items": stored},
                "record": {"type": "object", "description": "the line of the decision log, as it was written"},
            }
        ),
        "RecordedReasons": _object(
            {
                "prediction_id": IDENTIFIER,
                "decision": columns["decision"],
                "model_version": TEXT,
                "given": {"type": "boolean", "description": "whether the reasons were given with the decision"},
                "reasons": {"type": "array", "items": {"$ref": "#/components/schemas/Reason"}},
            }
        ),
        "Replay": _object({"result": TEXT}),
    }


def _parameter(where: str, name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"in": where, "name": name, "required": where == "path", "schema": schema}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": list(properties)}
