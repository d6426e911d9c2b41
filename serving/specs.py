"""The input and output fields of the API methods, as BentoML documents them. The body itself passes as bytes."""

from typing import Any, get_type_hints

import bentoml
from starlette.requests import Request

from monitoring.prediction import Prediction
from serving.http.body import read_body


class RawInput(bentoml.IODescriptor):
    """An input whose fields are declared for documentation and clients only. The API method gets the body as bytes.

    So BentoML neither validates nor copies the body; serving.contract parses it once.
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


class SimulateOutput(bentoml.IODescriptor):
    """What a prediction would be. It has no id, since it is not recorded."""

    client_id: str | None
    prediction: int
    decision: str
    probability: float
    risk_level: str
    threshold: float
    model_version: str
    warnings: list[dict[str, str]]


class OutcomesInput(RawInput):
    """Whether applicants defaulted: objects with `prediction_id` or `client_id`, `defaulted`, and perhaps `observed_at`."""

    outcomes: list[dict[str, Any]] | None = None


class OutcomesOutput(bentoml.IODescriptor):
    """The result for each outcome, in order, and the number of outcomes by result."""

    outcomes: list[dict[str, Any]]
    counts: dict[str, int]
    count: int
