"""The input and output fields of the API methods, as BentoML documents them. The body itself passes as bytes."""

from collections.abc import Sequence
from functools import reduce
from operator import or_
from types import GenericAlias, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import bentoml
import msgspec
from starlette.requests import Request

from monitoring.prediction import Explained, Prediction
from serving.contract.prediction import NOT_SIMULATED
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
    """One applicant: `application` by name, or `features` as a vector. With `reasons`, a decline comes with its reasons."""

    client_id: str | None = None
    application: dict[str, Any] | None = None
    history: dict[str, Any] | None = None
    features: list[float | None] | None = None
    reasons: bool | None = None
    language: str | None = None


class ExplainInput(RawInput):
    """One applicant, as for a prediction, and the language and detail of the explanation."""

    client_id: str | None = None
    application: dict[str, Any] | None = None
    history: dict[str, Any] | None = None
    features: list[float | None] | None = None
    language: str | None = None
    detail: str | None = None


class BatchInput(RawInput):
    """Many applicants: `applications`, or `features` with `client_ids`."""

    applications: list[dict[str, Any]] | None = None
    features: list[list[float | None]] | None = None
    client_ids: list[str | None] | None = None
    reasons: bool | None = None
    language: str | None = None


def _plain(hint: Any) -> Any:
    """A type of a prediction as BentoML documents it: an object for a struct."""
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return dict[str, Any]
    if isinstance(hint, UnionType) or get_origin(hint) is Union:
        return reduce(or_, [None if one is msgspec.UnsetType else _plain(one) for one in get_args(hint)])
    return GenericAlias(list, (_plain(get_args(hint)[0]),)) if get_origin(hint) is list else hint


def _output(name: str, text: str, answer: type[Prediction], without: Sequence[str] = ()) -> type[bentoml.IODescriptor]:
    """The output fields of an answer. Members that may be missing are documented as null."""
    declared = {field: hint for field, hint in get_type_hints(answer).items() if field not in without}
    hints = {field: _plain(hint) for field, hint in declared.items()}
    optional = {field: None for field, hint in declared.items() if msgspec.UnsetType in get_args(hint)}
    return type(name, (bentoml.IODescriptor,), {"__doc__": text, "__module__": __name__, "__annotations__": hints, **optional})


PredictOutput = _output("PredictOutput", "One prediction.", Prediction)
ExplainOutput = _output("ExplainOutput", "One prediction with all that explains it.", Explained)
SimulateOutput = _output("SimulateOutput", "What a prediction would be. It has no id, since it is not recorded.", Prediction, NOT_SIMULATED)


class BatchOutput(bentoml.IODescriptor):
    """Predictions or errors, one for each row, in order."""

    predictions: list[dict[str, Any]]
    count: int


class OutcomesInput(RawInput):
    """Whether applicants defaulted: objects with `prediction_id` or `client_id`, `defaulted`, and perhaps `observed_at`."""

    outcomes: list[dict[str, Any]] | None = None


class OutcomesOutput(bentoml.IODescriptor):
    """The result for each outcome, in order, and the number of outcomes by result."""

    outcomes: list[dict[str, Any]]
    counts: dict[str, int]
    count: int
