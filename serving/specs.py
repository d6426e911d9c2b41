"""What BentoML documents of the API methods: declared fields, while the body passes as bytes."""

from typing import Any, get_type_hints

import bentoml
from starlette.requests import Request

from monitoring.prediction import Prediction
from serving.http.body import read_body


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


PredictOutput = type(
    "PredictOutput",
    (bentoml.IODescriptor,),
    {"__doc__": "One prediction.", "__module__": __name__, "__annotations__": get_type_hints(Prediction)},
)


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
