from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
import yaml
from parsed import body

from monitoring.prediction import SmallestChange
from serving.bundle import Bundle
from serving.contract.requests import RequestParser
from serving.contract.rows import Asked, Row
from serving.decision import Costs, Decision
from serving.pipeline import Pipeline
from serving.reasons.change import Offers, Values
from serving.reasons.explainer import Explainer
from serving.reasons.words import Words
from training.explaining.reason_map import WORDS
from training.explaining.reasons import OFFERS
from training.home_credit.generator import Generator

STATE: dict[str, Any] = {
    "ladder": {"scales": ["AMT_CREDIT", "AMT_ANNUITY"], "shares": [1.0, 0.9, 0.8, 0.7]},
    "beside": {"scales": ["AMT_ANNUITY"], "shares": [1.0, 0.5]},
    "step": {"AMT_CREDIT": 500, "AMT_ANNUITY": 1},
    "margin": 0.05,
}
DECISION = Decision(0.1, Costs(10, 1))
LOAN = {"AMT_CREDIT": 100_300, "AMT_ANNUITY": 10_000}


@pytest.fixture(scope="module")
def words() -> Words:
    return Words(yaml.safe_load((WORDS / "en.yaml").read_text(encoding="utf-8")))


def smallest(
    bundle: Bundle, words: Words, pd_of: Callable[[float, float], float], application: dict[str, Any] = LOAN
) -> SmallestChange | None:
    """The smallest change where the PD depends on the loan and its instalment alone."""
    row = RequestParser(bundle.features, 1).parse_one(body({"application": application}))
    places = [[column.name for column in bundle.features.table.numeric].index(name) for name in LOAN]

    def pds(rows: Sequence[Row]) -> Values:
        return np.array([pd_of(*(one.named[0][place] for place in places)) for one in rows if one.named])

    return Offers(STATE, bundle.features.table).smallest(row, DECISION, pds, words)


def test_the_rung_nearest_to_the_loan_counts(bundle: Bundle, words: Words) -> None:
    found = smallest(bundle, words, lambda credit, annuity: 0.05 if credit < 85_000 else 0.2)
    assert found is not None
    assert (found.application, found.probability) == ({"AMT_CREDIT": 80_000.0, "AMT_ANNUITY": 8_000.0}, 0.05)
    assert found.text == "With a loan of 80,000 and an instalment of 8,000, this application would be approved today."


def test_a_change_of_the_time_alone_is_smaller_than_one_of_the_amount(bundle: Bundle, words: Words) -> None:
    found = smallest(bundle, words, lambda credit, annuity: 0.05 if credit < 85_000 or annuity < 6_000 else 0.2)
    assert found is not None
    assert found.application == {"AMT_ANNUITY": 5_000.0}
    assert found.text == "With an instalment of 5,000, this application would be approved today."


def test_a_rung_counts_only_if_every_more_cautious_one_is_approved(bundle: Bundle, words: Words) -> None:
    found = smallest(bundle, words, lambda credit, annuity: 0.2 if 75_000 < credit < 85_000 or credit > 95_000 else 0.05)
    assert found is not None
    assert found.application["AMT_CREDIT"] == 70_000


@pytest.mark.parametrize("pd", [0.0951, 0.2])
def test_no_change_is_named_if_none_passes_with_the_margin(bundle: Bundle, words: Words, pd: float) -> None:
    assert smallest(bundle, words, lambda credit, annuity: pd) is None


def test_a_vector_or_a_loan_that_is_not_known_cannot_be_changed(bundle: Bundle, words: Words) -> None:
    assert smallest(bundle, words, lambda credit, annuity: 0.01, {"AMT_CREDIT": 100_000}) is None
    row = RequestParser(bundle.features, 1).parse_one(body({"features": [None] * len(bundle.features.names)}))
    assert Offers(STATE, bundle.features.table).smallest(row, DECISION, lambda rows: np.zeros(len(rows)), words) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"margin": 1}, "margin 1.0"),
        ({"step": {"AMT_CREDIT": 0}}, "steps above 0"),
        ({"beside": {"scales": [], "shares": [1]}}, "expected some above 0"),
        ({"beside": {"scales": ["AMT_ANNUITY"], "shares": [0]}}, "expected some above 0"),
        ({"ladder": {"scales": ["CODE_GENDER"], "shares": [1]}}, "offers change CODE_GENDER; expected numbers"),
    ],
)
def test_offers_that_cannot_be_made_are_refused(bundle: Bundle, change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Offers(STATE | change, bundle.features.table)


def test_the_offers_of_the_project_change_the_loan_only(bundle: Bundle) -> None:
    assert Offers(yaml.safe_load(OFFERS.read_text()), bundle.features.table).fields == ["AMT_CREDIT", "AMT_ANNUITY"]


def test_each_change_that_is_answered_is_approved_when_it_is_sent(bundle: Bundle) -> None:
    parser, pipeline = RequestParser(bundle.features, 1), Pipeline(bundle)
    frame = next(Generator.from_file().draw(150, seed=5))[[column.name for column in bundle.features.table.columns]]
    sent = [{name: value for name, value in one.items() if pd.notna(value)} for one in frame.to_dict("records")]
    rows = [parser.parse_one(msgspec.json.encode({"application": one})) for one in sent]
    for row in rows:
        row.asked = Asked(whole=True)
    answers = [msgspec.json.decode(answer) for answer in Explainer(bundle, pipeline.pds).explained(pipeline.score(rows)).answers]
    changes = [(one, answer["smallest_change"]) for one, answer in zip(sent, answers, strict=True) if answer["smallest_change"]]
    assert len(changes) >= 3
    assert all(answer["smallest_change"] is None for answer in answers if answer["decision"] == "APPROVE")
    again = pipeline.score(
        [parser.parse_one(msgspec.json.encode({"application": {**one, **change["application"]}})) for one, change in changes]
    )
    for prediction, (_, change) in zip(again.predictions, changes, strict=True):
        assert (prediction.decision, prediction.probability) == ("APPROVE", change["probability"])
