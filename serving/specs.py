"""What BentoML documents of the API methods: declared fields, while the body passes as bytes."""

from typing import Any

import bentoml
from starlette.requests import Request

from serving.body import read_body


class RawInput(bentoml.IODescriptor):
    """An input whose declared fields are for documents and clients, while the body arrives as bytes.

    BentoML then neither validates nor copies it: parsing is the contract's, once.
    """

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> bytes:
        """Read the body; raises a ServiceError as `read_body` does."""
        return await read_body(request)


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
