"""The answer for one applicant: what a client gets, the metrics count and the record begins with."""

from typing import Annotated, Any, Literal

import msgspec

MAX_CLIENT_ID = 200
WARNING = {
    "properties": {name: {"type": "string"} for name in ("code", "pointer", "detail")},
    "required": ["code", "pointer", "detail"],
    "additionalProperties": False,
}


class Reason(msgspec.Struct, eq=False):
    """A concept that counted for or against an applicant."""

    code: Annotated[str, msgspec.Meta(description="a concept of GET /model")]
    text: str
    points: Annotated[float, msgspec.Meta(description="log-odds that it adds to the PD; adverse where positive")]
    known: Annotated[bool, msgspec.Meta(description="false if it counted because its values are not known")]


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
    reasons: (
        Annotated[list[Reason], msgspec.Meta(max_length=4, description="main adverse reasons, if asked for and declined")]
        | msgspec.UnsetType
    ) = msgspec.UNSET


class ConceptPoints(msgspec.Struct, eq=False):
    """What a concept adds to the log-odds."""

    code: str
    points: float


class FeaturePoints(msgspec.Struct, eq=False):
    """What a feature adds to the log-odds."""

    name: str
    points: float


class Explanation(msgspec.Struct, eq=False):
    """The log-odds of the PD, `ln(PD / (1 - PD))`, as a sum: `base` plus all points."""

    baseline: Annotated[str, msgspec.Meta(description="whom the applicant is compared with; GET /model has its PDs")]
    base: Annotated[float, msgspec.Meta(description="mean log-odds of the baseline")]
    log_odds: float
    concepts: list[ConceptPoints]
    by_feature: (  # not `features`, the name that marks the features of a record
        Annotated[list[FeaturePoints], msgspec.Meta(description='where "detail": "features" was asked')] | msgspec.UnsetType
    ) = msgspec.UNSET


class Interval(msgspec.Struct, eq=False):
    """Where models trained on other samples of this size would put this PD."""

    low: Annotated[float, msgspec.Meta(ge=0, le=1)]
    high: Annotated[float, msgspec.Meta(ge=0, le=1)]
    level: float


class SmallestChange(msgspec.Struct, eq=False):
    """The smallest change of the loan, among those that the lender offers, with which the application is approved."""

    application: Annotated[dict[str, Any], msgspec.Meta(description="the changed fields")]
    text: str
    probability: Annotated[float, msgspec.Meta(ge=0, le=1)]


class Explained(Prediction, kw_only=True):
    """The answer of `POST /explain`: a prediction with all that explains it."""

    speaks_for: Annotated[list[Reason], msgspec.Meta(max_length=3, description="main reasons in the applicant's favour")]
    explanation: Explanation
    interval: Annotated[Interval | None, msgspec.Meta(description="null where the bundle holds none")]
    borderline: Annotated[bool | None, msgspec.Meta(description="whether the PD is within one standard error of the threshold")]
    smallest_change: Annotated[SmallestChange | None, msgspec.Meta(description="null if approved, if none was found, or for a vector")]
