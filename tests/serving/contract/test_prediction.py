"""A prediction is declared once; its answer, BentoML's output, the document and the record agree."""

import json
from typing import Any

import msgspec
import pytest

from monitoring.decision_log.record import Record
from serving.bundle import Bundle
from serving.contract.requests import RequestParser
from serving.contract.rows import Asked
from serving.openapi import openapi
from serving.pipeline import Pipeline
from serving.reasons.explainer import Explainer
from serving.specs import ExplainOutput, PredictOutput

JSON_TYPES = {str: "string", int: "integer", float: "number", list: "array", type(None): "null"}


@pytest.fixture(scope="module")
def answer(bundle: Bundle) -> dict[str, Any]:
    (made,) = Pipeline(bundle).score([RequestParser(bundle.features, 1).parse_example()]).answers
    decoded: dict[str, Any] = json.loads(bytes(made))
    return decoded


@pytest.fixture(scope="module")
def explained(bundle: Bundle) -> dict[str, Any]:
    pipeline = Pipeline(bundle)
    row = RequestParser(bundle.features, 1).parse_one(
        b'{"application": {"AMT_CREDIT": 450000, "AMT_ANNUITY": 30000, "EXT_SOURCE_2": 0.001}}'
    )
    row.asked = Asked(whole=True)
    (made,) = Explainer(bundle, pipeline.pds).explained(pipeline.score([row])).answers
    decoded: dict[str, Any] = json.loads(bytes(made))
    return decoded


def test_bentos_output_declares_the_members_in_the_order_of_the_answer(answer: dict[str, Any], explained: dict[str, Any]) -> None:
    assert list(PredictOutput.model_fields) == [*answer, "reasons"]
    PredictOutput.model_validate(answer, strict=True)
    assert list(ExplainOutput.model_fields) == list(explained)
    ExplainOutput.model_validate(explained, strict=True)


def test_the_document_declares_the_members_with_their_types(answer: dict[str, Any], bundle: Bundle) -> None:
    schema = openapi(bundle.features, 1, bundle.version)["components"]["schemas"]["Prediction"]
    assert list(schema["properties"]) == [*answer, "reasons"]
    assert set(schema["required"]) == set(answer)
    for name, value in answer.items():
        declared = schema["properties"][name]
        assert JSON_TYPES[type(value)] in {declared["type"], "null" if declared.get("nullable") else declared["type"]}, name


def test_the_document_declares_what_explains_a_prediction(explained: dict[str, Any], bundle: Bundle) -> None:
    schemas = openapi(bundle.features, 1, bundle.version)["components"]["schemas"]
    schema = schemas["Explained"]
    assert list(schema["properties"]) == list(explained)
    assert set(schema["required"]) == set(explained) - {"reasons"}
    assert set(schemas["Reason"]["properties"]) == set(explained["reasons"][0])
    assert set(schemas["Explanation"]["properties"]) == {*explained["explanation"], "by_feature"}
    assert schema["properties"]["interval"]["nullable"]
    assert schema["properties"]["interval"]["allOf"] == [{"$ref": "#/components/schemas/Interval"}]


def test_the_record_begins_with_the_answer_and_reads_every_member_of_it(bundle: Bundle) -> None:
    lines: list[bytes] = []
    pipeline = Pipeline(bundle, record=lambda make: lines.extend(make()))
    (sent,) = pipeline.commit(pipeline.score([RequestParser(bundle.features, 1).parse_example()])).results
    (line,) = lines
    answer = json.loads(bytes(sent))
    assert list(json.loads(line))[: len(answer)] == list(answer)
    fields = [field.name for field in msgspec.structs.fields(Record)]
    assert set(answer) <= set(fields)
    record = msgspec.json.decode(line, type=Record)
    assert {name: msgspec.to_builtins(getattr(record, name)) for name in answer} == answer
