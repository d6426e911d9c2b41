"""The answer for one applicant: what a client gets, the metrics count and the record begins with."""

from typing import Annotated, Literal

import msgspec

MAX_CLIENT_ID = 200
WARNING = {
    "properties": {name: {"type": "string"} for name in ("code", "pointer", "detail")},
    "required": ["code", "pointer", "detail"],
    "additionalProperties": False,
}


class Prediction(msgspec.Struct, eq=False):
    """The answer for one applicant, declared only here: BentoML's output, the OpenAPI document and the record derive from it."""

    prediction_id: Annotated[str, msgspec.Meta(extra_json_schema={"format": "uuid"})]
    client_id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_CLIENT_ID)] | None
    prediction: Annotated[Literal[0, 1], msgspec.Meta(description="1 is declined")]
    decision: Literal["APPROVE", "DECLINE"]
    probability: Annotated[float, msgspec.Meta(ge=0, le=1, description="calibrated probability of default")]
    risk_level: Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"]
    threshold: Annotated[
        float,
        msgspec.Meta(description="declined where the probability is not below; a thin application also where GET /model says so"),
    ]
    model_version: str
    timestamp: Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
    warnings: list[Annotated[dict[str, str], msgspec.Meta(extra_json_schema=WARNING)]]
