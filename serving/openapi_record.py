"""The part of the OpenAPI document about what is on record."""

from typing import Any

from serving.openapi_parts import IDENTIFIER, MAYBE, NUMBER, TEXT, TIME, answered, ref, whole
from serving.record_desk import CHOICES, MOST, PAGE


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
        answers = {"200": answered("the answer", "application/json", ref(schema)), **{str(status): error[status] for status in statuses}}
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


def record_schemas(prediction: dict[str, Any]) -> dict[str, Any]:
    """The schemas that the routes over the record refer to.

    Parameters
    ----------
    prediction : the properties of a prediction.
    """
    same = ("prediction_id", "client_id", "model_version", "probability", "threshold", "decision", "risk_level")
    own = {"time": TIME, "model_name": MAYBE, "latency_ms": NUMBER, "request_id": MAYBE, "sender": MAYBE}
    columns = {**{name: prediction[name] for name in same}, **own}
    outcome = whole({"defaulted": {"type": "boolean"}, "observed_at": TIME})
    stored = whole({"defaulted": {"type": "boolean"}, "observed_at": TIME, "received_at": TIME, "source": TEXT})
    return {
        "Decisions": whole(
            {
                "decisions": {"type": "array", "items": whole({**columns, "outcome": {**outcome, "nullable": True}})},
                "next": MAYBE,
            }
        ),
        "Recorded": whole(
            {
                **columns,
                "outcomes": {"type": "array", "items": stored},
                "record": {"type": "object", "description": "the line of the decision log, as it was written"},
            }
        ),
        "RecordedReasons": whole(
            {
                "prediction_id": IDENTIFIER,
                "decision": columns["decision"],
                "model_version": TEXT,
                "given": {"type": "boolean", "description": "whether the reasons were given with the decision"},
                "reasons": {"type": "array", "items": ref("Reason")},
            }
        ),
        "Replay": whole({"result": TEXT}),
    }


def _parameter(where: str, name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"in": where, "name": name, "required": where == "path", "schema": schema}
