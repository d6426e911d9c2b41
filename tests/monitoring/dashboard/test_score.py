import json
from html import unescape
from typing import Any

import httpx
import pytest
from pages import FakeApi, page, shown

from monitoring.dashboard.catalogue import LANGUAGES, Language, words_in
from monitoring.dashboard.form import Field, fields_of
from monitoring.dashboard.views.score import _range

AMOUNT = {"name": "AMOUNT", "type": "number", "unit": "currency", "min": 0, "max": 1e6, "display": "money"}
AGE = {"name": "BORN", "type": "integer", "unit": "days", "min": -29220, "max": -6570, "display": "years_ago"}
PHONE = {"name": "PHONE", "type": "integer", "unit": "0/1", "min": 0, "max": 1, "display": "yes_no", "main": False}
KIND = {"name": "KIND", "type": "category", "unit": None, "min": None, "max": None, "categories": ["Cash", "Card"]}
COMMON = {"label": "A label", "categories": [], "group": "loan", "main": True, "display": "plain"}
EXAMPLE = {"AMOUNT": 450000, "BORN": -13501, "PHONE": 0, "KIND": "Card"}
GROUPS = [{"name": "loan", "label": "Loan"}]
SCHEMA = {
    "groups": GROUPS,
    "tables": {"application": {"key": "KEY", "fields": [{**COMMON, **item} for item in (AMOUNT, AGE, PHONE, KIND)]}},
}
CONTENT = {"application/json": {"example": {"application": EXAMPLE}}}
DOCS = {"paths": {"/predict": {"post": {"requestBody": {"content": CONTENT}}}}}
MODEL = {"reasons": {"languages": ["en", "fr"]}}
PREDICTION = {
    "prediction_id": "01a22617-3813-74ea-9a18-4e2832743b9e",
    "client_id": None,
    "prediction": 1,
    "decision": "DECLINE",
    "probability": 0.1234567,
    "risk_level": "HIGH",
    "threshold": 1 / 11,
    "model_version": "fa587fadc31e9a62",
    "timestamp": "2026-11-29T06:56:25.619+00:00",
    "warnings": [{"code": "implausible", "pointer": "/application/AMOUNT", "detail": "too much"}],
}
EXPLAINED = {
    **PREDICTION,
    "reasons": [{"code": "INCOME", "text": "Your income counted against you.", "points": 0.5, "known": True}],
    "speaks_for": [],
    "explanation": {"baseline": "near_threshold", "base": -2.4, "log_odds": -1.9, "concepts": [{"code": "INCOME", "points": 0.5}]},
    "interval": {"low": 0.05, "high": 0.3, "level": 0.95},
    "borderline": True,
    "smallest_change": {"application": {"AMOUNT": 300000}, "text": "With a loan of 300,000 it would be approved.", "probability": 0.08},
}


def answers(**other: Any) -> dict[str, Any]:
    return {"GET /schema": SCHEMA, "GET /docs.json": DOCS, "GET /model": MODEL, "POST /explain": EXPLAINED, **other}


def pressed(test: Any, label: str) -> Any:
    return next(button for button in test.button if button.label == label).click().run()


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_application_from_the_form_is_scored_and_explained(language: Language) -> None:
    fake, words = FakeApi(answers()), words_in(language)
    test = page("score", fake, language=language)
    test = pressed(test, words("score.example"))
    test = pressed(test, words("score.button"))
    assert fake.bodies("/explain") == [{"application": EXAMPLE, "language": language}]
    text = shown(test)
    assert f'data-pd="{PREDICTION["probability"]!r}"' in text
    assert words("answer.pd_short", pd=words.percent(PREDICTION["probability"])) in text
    for part in (
        "Your income counted against you.",
        "With a loan of 300,000",
        words("answer.borderline"),
        words("concept.INCOME"),
        "too much",
    ):
        assert part in unescape(text)


def test_a_slider_asks_simulate_and_nothing_else() -> None:
    simulated = {**PREDICTION, "probability": 0.0812345, "decision": "APPROVE", "risk_level": "MEDIUM"}
    fake = FakeApi(answers(**{"POST /simulate": simulated}))
    test = pressed(pressed(page("score", fake), "Fill in the example"), "Score")
    assert test.slider[0].value == 450000
    test.slider[0].set_value(350000).run()
    assert fake.bodies("/simulate") == [{"application": {**EXAMPLE, "AMOUNT": 350000}}]
    assert len(fake.bodies("/explain")) == 1
    assert f'data-simulated="{simulated["probability"]!r}"' in shown(test)
    assert "\N{MINUS SIGN}4.22 pp" in shown(test)


def test_an_empty_form_is_not_sent() -> None:
    fake = FakeApi(answers())
    test = pressed(page("score", fake), "Score")
    assert "There is nothing to score yet." in shown(test)
    assert not fake.bodies("/explain")


def test_the_form_is_emptied() -> None:
    fake = FakeApi(answers())
    test = pressed(pressed(pressed(page("score", fake), "Fill in the example"), "Empty the form"), "Score")
    assert "There is nothing to score yet." in shown(test)


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ('{"AMOUNT": 1}', {"application": {"AMOUNT": 1}}),
        (
            '{"application": {"AMOUNT": 1}, "client_id": "7", "history": {"bureau": []}}',
            {"application": {"AMOUNT": 1}, "client_id": "7", "history": {"bureau": []}},
        ),
    ],
)
def test_a_document_is_sent_as_it_is(text: str, sent: dict[str, Any]) -> None:
    fake = FakeApi(answers())
    test = page("score", fake)
    test.session_state["score_way"] = "json"
    test.run()
    test.text_area(key="form_json").set_value(text)
    pressed(test, "Score")
    assert fake.bodies("/explain") == [{**sent, "language": "en"}]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "nothing to score"),
        ("{", "not valid JSON"),
        ("[1]", "Expected a JSON object"),
        ("[" * 100_000, "not valid JSON"),
        (" " * 1_000_001 + "1", "too large"),
    ],
)
def test_a_document_that_is_none_is_not_sent(text: str, says: str) -> None:
    fake = FakeApi(answers())
    test = page("score", fake)
    test.session_state["score_way"] = "json"
    test.run()
    test.text_area(key="form_json").set_value(text)
    assert says in shown(pressed(test, "Score"))
    assert not fake.bodies("/explain")


def test_invalid_values_are_named_and_the_former_answer_is_gone() -> None:
    problem = {"detail": "values are invalid", "errors": [{"pointer": "/application/AMOUNT", "detail": "expected a number"}]}
    fake = FakeApi(answers())
    test = pressed(pressed(page("score", fake), "Fill in the example"), "Score")
    fake.answers["POST /explain"] = lambda request: httpx.Response(422, json=problem)
    text = shown(pressed(test, "Score"))
    assert "`/application/AMOUNT` expected a number" in text
    assert "data-pd" not in text


def test_a_model_without_reasons_still_scores() -> None:
    fake = FakeApi(answers(**{"POST /explain": 409, "POST /predict": PREDICTION, "GET /model": {"reasons": None}}))
    test = pressed(pressed(page("score", fake), "Fill in the example"), "Score")
    assert "data-pd" in shown(test)


def test_earlier_decisions_of_the_client_are_listed_without_this_one() -> None:
    item = {"prediction_id": "other", "time": PREDICTION["timestamp"], "decision": "APPROVE", "probability": 0.05}
    here = {**item, "prediction_id": PREDICTION["prediction_id"]}
    fake = FakeApi(answers(**{"POST /explain": {**EXPLAINED, "client_id": "7/8"}}))
    fake.answers["GET /clients/7/8/decisions"] = {"decisions": [here, item]}
    test = pressed(pressed(page("score", fake), "Fill in the example"), "Score")
    assert fake.asked[-1].url.raw_path.startswith(b"/clients/7%2F8/decisions")
    assert "<td>other</td>" in shown(test)
    assert f"<td>{PREDICTION['prediction_id']}</td>" not in shown(test)


def field(**values: Any) -> Field:
    return fields_of({"groups": GROUPS, "tables": {"application": {"fields": [{**COMMON, **AMOUNT, **values}]}}})[0]


def test_years_give_back_the_same_days() -> None:
    born = field(**AGE)
    assert all(born.sent(born.shown(days)) == days for days in range(-29220, 1))


def test_values_are_sent_in_the_types_that_the_api_expects() -> None:
    assert json.dumps([field(type="integer", unit="count").sent(3.0), field().sent(3), field().sent(None)]) == "[3, 3.0, null]"


@pytest.mark.parametrize("value", [450000.0, 24000.5, 0.58, 1.0, 12.345, -7.0, 1e-6, 3e9])
def test_a_slider_has_about_a_hundred_round_steps_around_the_value(value: float) -> None:
    low, high, step = _range(value)
    assert low < value < high
    assert 10 <= round((high - low) / step) <= 220
    assert (value - low) / step == pytest.approx(round((value - low) / step))


def test_a_service_that_does_not_describe_its_fields_takes_json_and_its_numbers_can_be_varied() -> None:
    fake = FakeApi({**answers(), "GET /schema": 404})
    test = page("score", fake)
    assert "there is no form" in shown(test)
    test.text_area(key="form_json").set_value('{"AMOUNT": 450000, "KIND": "Card"}')
    test = pressed(test, "Score")
    assert fake.bodies("/explain") == [{"application": {"AMOUNT": 450000, "KIND": "Card"}, "language": "en"}]
    assert [slider.label for slider in test.slider] == ["AMOUNT"]


def test_the_form_is_in_the_language_of_the_page() -> None:
    fake = FakeApi(answers())
    page("score", fake, language="fr")
    (request,) = [request for request in fake.asked if request.url.path == "/schema"]
    assert request.url.params["language"] == "fr"
