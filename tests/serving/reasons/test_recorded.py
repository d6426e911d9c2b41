import json
from dataclasses import replace

import msgspec
import pandas as pd
import pytest
from parsed import body
from running import Home, bundle_folder

from serving.bundle import Bundle
from serving.contract.record import RecordWriter
from serving.contract.requests import RequestParser
from serving.contract.rows import Asked
from serving.decision import Decision
from serving.pipeline import Pipeline, Scoring
from serving.reasons.explainer import Explainer
from serving.reasons.recorded import RecordedReasonsError, reasons_of
from training.home_credit.generator import Generator


def line_of(bundle: Bundle, scoring: Scoring) -> bytes:
    (line,) = RecordWriter(bundle.features.table).write(scoring.rows, scoring.answers, scoring.matrix, scoring.sent)
    return line


@pytest.fixture(autouse=True)
def models(home: Home) -> None:
    bundle_folder(home)  # records are read with the models of this store


@pytest.fixture
def scoring(bundle: Bundle) -> Scoring:
    """Of an applicant with all fields that training always had."""
    frame = next(Generator.from_file().draw(1, seed=5))[[column.name for column in bundle.features.table.columns]]
    (application,) = frame.to_dict("records")
    row = RequestParser(bundle.features, 1).parse_one(
        msgspec.json.encode({"application": {name: value for name, value in application.items() if pd.notna(value)}})
    )
    row.asked = Asked()
    strict = replace(bundle, decision=Decision(1e-6, bundle.decision.costs))
    vars(strict)["version"] = bundle.version
    return Pipeline(strict).score([row])


def test_reasons_given_at_the_time_come_from_the_record_and_equal_those_of_the_model(bundle: Bundle, scoring: Scoring) -> None:
    given = Explainer(bundle).explained(scoring)
    told = json.loads(bytes(given.answers[0]))["reasons"]
    recorded, computed = (reasons_of(line_of(bundle, one), "credit_scoring", None, "en") for one in (given, scoring))
    assert recorded["reasons"] == told
    assert (recorded["given"], computed["given"]) == (True, False)
    assert computed["reasons"] == told
    assert recorded["prediction_id"] == scoring.predictions[0].prediction_id


def test_another_language_is_computed(bundle: Bundle, scoring: Scoring) -> None:
    line = line_of(bundle, Explainer(bundle).explained(scoring))
    found = reasons_of(line, "credit_scoring", "fr", "en")
    assert not found["given"]
    assert all("joué contre vous" in reason["text"] for reason in found["reasons"])
    with pytest.raises(RecordedReasonsError, match="no words in 'nl'; expected one of en, fr"):
        reasons_of(line, "credit_scoring", "nl", "en")


def test_values_that_may_be_typical_ones_are_not_shown(bundle: Bundle, scoring: Scoring) -> None:
    row = RequestParser(bundle.features, 1).parse_one(body({"application": {}}))
    line = line_of(bundle, replace(Pipeline(bundle).score([row]), rows=[row]))
    found = reasons_of(line, "credit_scoring", None, "en")
    assert found["reasons"]
    assert not any(character.isdigit() for reason in found["reasons"] for character in reason["text"])


def test_a_line_that_is_none_is_named() -> None:
    with pytest.raises(RecordedReasonsError, match="the record cannot be read"):
        reasons_of(b"{}", "credit_scoring", None, "en")
