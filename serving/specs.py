"""What BentoML documents of the API methods: declared fields, while the body passes as bytes."""

from typing import Any

import bentoml
from starlette.requests import Request

from serving.errors import ServiceError

JSON = "application/json"


class RawInput(bentoml.IODescriptor):
    """An input whose declared fields are for documents and clients, while the body arrives as bytes.

    BentoML then neither validates nor copies it: parsing is the contract's, once.
    """

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> bytes:
        """Read the body.

        Raises
        ------
        ServiceError
            415 where it is said to be anything but JSON, 400 where the client left before its end.
        """
        content_type = request.headers.get("content-type", JSON)
        if content_type != JSON and content_type.split(";")[0].strip().lower() != JSON:
            raise ServiceError(415, f"the content type is {content_type[:100]!r}; expected {JSON}")
        parts, more = [], True
        while more:  # Request.body() does it by two generators
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ServiceError(400, "the client left before the body was complete")
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        return b"".join(parts)


class PredictInput(RawInput):
    """One applicant: `application` by name, or `features` as a vector."""

    client_id: str | None = None
    application: dict[str, Any] | None = None
    history: dict[str, Any] | None = None
    features: list[float | None] | None = None


class BatchInput(RawInput):
    """Many applicants: `applications`, or `features` with `client_ids`."""

    applications: list[dict[str, Any]] | None = None
    features: list[list[float | None]] | None = None
    client_ids: list[str | None] | None = None


class PredictOutput(bentoml.IODescriptor):
    """One prediction."""

    prediction_id: str
    client_id: str | None
    prediction: int
    decision: str
    probability: float
    risk_level: str
    threshold: float
    model_version: str
    timestamp: str
    warnings: list[dict[str, str]]


class BatchOutput(bentoml.IODescriptor):
    """Predictions or errors, one for each row, in order."""

    predictions: list[dict[str, Any]]
    count: int


class OutcomesInput(RawInput):
    """What became of applicants: objects with `prediction_id` or `client_id`, `defaulted`, and perhaps `observed_at`."""

    outcomes: list[dict[str, Any]] | None = None


class OutcomesOutput(bentoml.IODescriptor):
    """What became of each outcome, in order, and how many of each."""

    outcomes: list[dict[str, Any]]
    counts: dict[str, int]
    count: int
