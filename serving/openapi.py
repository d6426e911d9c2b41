"""The OpenAPI document of the contract, derived from the schema and the model, and the page that shows it."""

from typing import Any

import msgspec

from features.schema import Column, Table
from features.transform import FeatureTransform
from monitoring.prediction import MAX_CLIENT_ID, Explained, Prediction
from serving.contract.prediction import NOT_SIMULATED
from serving.contract.requests import MAX_OUTCOMES, example_request
from serving.errors import PROBLEM_TYPE
from serving.field_guide import LANGUAGES
from serving.http.routes import required_scope
from serving.openapi_parts import IDENTIFIER, TEXT, TIME, answered, closed, fields_answer, ref, whole
from serving.openapi_record import record_paths, record_schemas

CLIENT_ID = {"type": "string", "nullable": True, "minLength": 1, "maxLength": MAX_CLIENT_ID}
IDEMPOTENCY = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200},
    "description": "one for each request; sent again with it, the request gets the same answer and is not worked on again",
}
LANGUAGE = {"language": {"type": "string", "nullable": True, "description": "of the reasons; GET /model lists them"}}


def openapi(features: FeatureTransform, max_rows: int, version: str) -> dict[str, Any]:
    """The OpenAPI 3.0 document for a model with these features.

    Parameters
    ----------
    max_rows : most rows of one batch.
    version : the model version.
    """
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "Credit scoring",
            "version": version,
            "description": "Probability of default, decision and risk level of loan applications.",
        },
        "servers": [{"url": "."}],
        "paths": {path: _secured(path, methods) for path, methods in _paths(features, max_rows).items()},
        "security": [{}, {"key": []}, {"bearer": []}],
        "components": {
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
            "schemas": _schemas(features),
        },
    }


def _secured(path: str, methods: dict[str, Any]) -> dict[str, Any]:
    """The methods of a path with the scope that it requires, or open to everybody."""
    scope = required_scope(path)
    for operation in methods.values():
        if scope is None:
            operation["security"] = []
        else:
            operation["description"] = f"Requires the scope `{scope}` if the service has keys."
            operation["responses"] |= {str(status): _error(STATUSES[status]) for status in (401, 403)}
    return methods


def _paths(features: FeatureTransform, max_rows: int) -> dict[str, Any]:
    """The routes. The function is long because it is one table of them."""
    example = {"client_id": "100001", **example_request(features)}
    size = len(features.names)
    vector = {"type": "array", "minItems": size, "maxItems": size, "items": {"type": "number", "nullable": True}}
    history = {
        **closed({table.name: {"type": "array", "nullable": True, "items": ref(table.name)} for table in features.history}),
        "nullable": True,
        "description": "the client's history; an absent or null table was not looked up, an empty table was looked up and had no rows",
    }
    application = {"$ref": "#/components/schemas/Application"}
    plain = {"client_id": CLIENT_ID, "application": application, "history": history}
    vector_form = {"client_id": CLIENT_ID, "features": vector}
    reasons = {"reasons": {"type": "boolean", "nullable": True, "description": "whether a decline comes with its reasons"}, **LANGUAGE}
    explain = {**LANGUAGE, "detail": {"type": "string", "nullable": True, "enum": ["concepts", "features"]}}
    named, by_vector = {**plain, **reasons}, {**vector_form, **reasons}
    rows = {"type": "array", "maxItems": max_rows}
    return {
        "/predict": _post(
            "predict", "Score one applicant", [closed(named, "application"), closed(by_vector, "features")], "Prediction", example
        ),
        "/predict/batch": _post(
            "predict_batch",
            "Score many applicants; an invalid row gets an error, the others are scored",
            [
                closed({"applications": {**rows, "items": closed(plain, "application")}, **reasons}, "applications"),
                closed({"features": {**rows, "items": vector}, "client_ids": {"type": "array", "items": CLIENT_ID}, **reasons}, "features"),
            ],
            "Batch",
            {"applications": [example]},
        ),
        "/explain": _post(
            "explain",
            "Score one applicant and explain the decision",
            [closed({**one, **explain}, form) for one, form in ((plain, "application"), (vector_form, "features"))],
            "Explained",
            example,
        ),
        "/outcomes": _post(
            "outcomes",
            "Record whether applicants defaulted; an invalid item gets an error, the others are stored. Repeat to correct an outcome",
            [closed({"outcomes": {"type": "array", "maxItems": MAX_OUTCOMES, "items": _outcome()}}, "outcomes")],
            "Outcomes",
            {"outcomes": [{"client_id": "100001", "defaulted": False, "observed_at": "2026-01-31T12:00:00+00:00"}]},
        ),
        "/simulate": _post(
            "simulate",
            "Score one applicant without recording it, to try what would change a decision",
            [closed(named, "application"), closed(by_vector, "features")],
            "Simulation",
            example,
        ),
        **record_paths({status: _error(text) for status, text in STATUSES.items()}),
        "/health": _get("health", "State of the service and the model it serves", answer=_health()),
        "/livez": _get("livez", "The process is alive", media_type="text/plain"),
        "/readyz": _get("readyz", "The model is verified and warmed up", 503, media_type="text/plain"),
        "/metrics": _get("metrics", "Prometheus metrics", media_type="text/plain"),
        "/schema": _fields(),
        "/model": _get("model", "Versions, features, threshold, risk levels and metrics of the model"),
    }


def _schemas(features: FeatureTransform) -> dict[str, Any]:
    return {
        "Application": _row_json_schema(features.table),
        **{table.name: _row_json_schema(table) for table in features.history},
        **_answers(),
        "Problem": _problem(),
        "Batch": closed(
            {
                "predictions": {"type": "array", "items": {"anyOf": [ref("Prediction"), ref("RowError")]}},
                "count": {"type": "integer"},
            },
            "predictions",
            "count",
        ),
        "Outcomes": closed(
            {
                "outcomes": {"type": "array", "items": _kept_outcome()},
                "counts": {"type": "object", "additionalProperties": {"type": "integer"}},
                "count": {"type": "integer"},
            },
            "outcomes",
            "counts",
            "count",
        ),
        "RowError": closed({"index": {"type": "integer"}, "client_id": CLIENT_ID, "error": ref("Problem")}, "index", "error"),
    }


STATUSES = {
    400: "the body is not valid UTF-8 JSON, or its gzip is damaged",
    401: "the key is missing, unknown, revoked or expired",
    403: "the key lacks the scope of the route",
    404: "there is no such decision",
    408: "the request did not arrive in time",
    409: "the idempotency key is in work or belongs to another request; the model gives no reasons; a decision cannot be scored again, or gives another result",
    413: "the body or the batch is too large",
    414: "the URL is too long",
    415: "the content type is not application/json, or the content encoding is not gzip",
    422: "values are invalid; a JSON pointer names each of them",
    431: "the head of the request is too long",
    500: "the service failed",
    503: "the service is overloaded or cannot record decisions; the header Retry-After says when to try again",
    504: "the request was not scored before its deadline",
}


def _row_json_schema(table: Table) -> dict[str, Any]:
    """The JSON Schema of the named fields of one application, or of one row of a history table."""
    properties = {column.name: _column_json_schema(column) for column in table.columns}
    properties.setdefault(table.key, {"description": "the key in the source data; accepted but not used"})
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _column_json_schema(column: Column) -> dict[str, Any]:
    if column.type == "category":
        known = ", ".join(column.categories)
        return {"type": "string", "nullable": True, "description": f"{column.text}; one of: {known}"}
    description = f"{column.text} ({column.unit}; plausible: {column.min} to {column.max})"
    return {"type": column.type, "nullable": True, "description": description}


def _post(name: str, summary: str, bodies: list[dict[str, Any]], answer: str, example: dict[str, Any]) -> dict[str, Any]:
    content = {"schema": {"oneOf": bodies}, "example": example}
    responses = {"200": answered("the answer", "application/json", ref(answer)), **_errors_of(name)}
    body = {"required": True, "content": {"application/json": content}}
    operation = {"operationId": name, "summary": summary, "requestBody": body, "responses": responses}
    return {"post": operation if name == "simulate" else {**operation, "parameters": [IDEMPOTENCY]}}


def _errors_of(name: str) -> dict[str, Any]:
    other = {404, 409} if name == "simulate" else {404}
    return {str(status): _error(text) for status, text in STATUSES.items() if status not in other}


def _get(
    name: str, summary: str, *statuses: int, media_type: str = "application/json", answer: dict[str, Any] | None = None
) -> dict[str, Any]:
    schema = TEXT if media_type == "text/plain" else answer or {"type": "object"}
    errors = {str(status): _error(STATUSES[status]) for status in (*statuses, 500)}
    return {"get": {"operationId": name, "summary": summary, "responses": {"200": answered("the answer", media_type, schema), **errors}}}


def _fields() -> dict[str, Any]:
    described = _get("schema", "The raw fields, for a form: labels, groups, units, ranges, categories", 422, answer=fields_answer())
    described["get"]["parameters"] = [{"in": "query", "name": "language", "required": False, "schema": {**TEXT, "enum": list(LANGUAGES)}}]
    return described


def _health() -> dict[str, Any]:
    properties = {
        "status": {"type": "string", "enum": ["ok", "no_record", "no_store"]},
        "detail": {**TEXT, "nullable": True, "description": "the problem, if the status is not ok"},
        "model_loaded": {"type": "boolean"},
        "model_name": TEXT,
        "model_version": TEXT,
        "trained_on": TEXT,
        "timestamp": TIME,
    }
    return whole(properties)


def _answers() -> dict[str, Any]:
    """The schemas of the answers in OpenAPI 3.0, which uses `nullable` and requires a type for each enumeration."""
    _, components = msgspec.json.schema_components([Prediction, Explained], ref_template="#/components/schemas/{name}")
    answers = {
        name: closed({member: _of_openapi(declared) for member, declared in found["properties"].items()}, *found["required"])
        for name, found in components.items()
    }
    prediction = answers["Prediction"]["properties"]
    simulated = {name: schema for name, schema in prediction.items() if name not in NOT_SIMULATED}
    return {**answers, "Simulation": whole(simulated), **record_schemas(prediction)}


def _of_openapi(declared: dict[str, Any]) -> dict[str, Any]:
    if "enum" in declared:
        return {"type": "integer" if isinstance(declared["enum"][0], int) else "string", **declared}
    if "anyOf" in declared:
        (schema,) = (choice for choice in declared["anyOf"] if choice != {"type": "null"})
        text = {"description": declared["description"]} if "description" in declared else {}
        return {**({"allOf": [schema]} if "$ref" in schema else schema), **text, "nullable": True}
    if "$ref" in declared and len(declared) > 1:
        return {"allOf": [{"$ref": declared["$ref"]}], **{name: value for name, value in declared.items() if name != "$ref"}}
    return declared


def _outcome() -> dict[str, Any]:
    properties = {
        "prediction_id": IDENTIFIER,
        "client_id": {**CLIENT_ID, "description": "instead of prediction_id: means the client's latest decision before observed_at"},
        "defaulted": {"type": "boolean"},
        "observed_at": {"type": "string", "format": "date-time", "description": "with a time zone; by default now"},
    }
    return closed(properties, "defaulted")


def _kept_outcome() -> dict[str, Any]:
    properties = {
        "index": {"type": "integer"},
        "status": {"type": "string", "enum": ["stored", "repeated", "corrected", "unknown", "invalid"]},
        "prediction_id": IDENTIFIER,
        "client_id": CLIENT_ID,
        "error": ref("Problem"),
    }
    return closed(properties, "index", "status")


def _problem() -> dict[str, Any]:
    errors = {"type": "array", "items": closed({"pointer": TEXT, "detail": TEXT}, "pointer", "detail")}
    properties = {"type": TEXT, "title": TEXT, "status": {"type": "integer"}, "detail": TEXT, "errors": errors, "request_id": TEXT}
    return closed(properties, "type", "title", "status", "detail")


def _error(description: str) -> dict[str, Any]:
    return answered(description, PROBLEM_TYPE, ref("Problem"))
