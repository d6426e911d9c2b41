"""A prediction is declared by its answer, by BentoML's output, by the document and by the record: they agree."""

import json
from typing import Any

import msgspec
import pytest

from monitoring.decision_log.record import Record
from serving.bundle import Bundle
from serving.contract import Contract, predictions
from serving.documents import encode
from serving.openapi import openapi
from serving.scorer import Scorer
from serving.specs import PredictOutput

JSON_TYPES = {str: "string", int: "integer", float: "number", list: "array", type(None): "null"}


@pytest.fixture(scope="module")
def answer(bundle: Bundle) -> dict[str, Any]:
    contract = Contract(bundle.features, 1)
    row = contract.parse_example()
    (made,) = predictions([row], Scorer(bundle).pd(contract.matrix([row])).tolist(), bundle.decision, bundle.version)
    decoded: dict[str, Any] = json.loads(encode(made))
    return decoded


def test_bentos_output_declares_the_members_in_the_order_of_the_answer(answer: dict[str, Any]) -> None:
    assert list(PredictOutput.model_fields) == list(answer)
    PredictOutput.model_validate(answer, strict=True)


def test_the_document_declares_the_members_with_their_types(answer: dict[str, Any], bundle: Bundle) -> None:
    schema = openapi(bundle.features, 1, bundle.version)["components"]["schemas"]["Prediction"]
    assert list(schema["properties"]) == list(answer)
    assert set(schema["required"]) == set(answer)
    for name, value in answer.items():
        declared = schema["properties"][name]
        assert JSON_TYPES[type(value)] in {declared["type"], "null" if declared.get("nullable") else declared["type"]}, name


def test_the_record_begins_with_the_answer_and_reads_every_member_of_it(answer: dict[str, Any], bundle: Bundle) -> None:
    contract = Contract(bundle.features, 1)
    row = contract.parse_example()
    (line,) = contract.records([row], [msgspec.json.encode(answer)], contract.matrix([row]))
    assert list(json.loads(line))[: len(answer)] == list(answer)
    fields = [field.name for field in msgspec.structs.fields(Record)]
    assert set(answer) <= set(fields)
    record = msgspec.json.decode(line, type=Record)
    assert {name: msgspec.to_builtins(getattr(record, name)) for name in answer} == answer
