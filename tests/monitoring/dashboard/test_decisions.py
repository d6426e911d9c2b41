from typing import Any

import httpx
import pytest
from pages import FakeApi, page, shown

from monitoring.dashboard.catalogue import LANGUAGES, Language, words_in

ID = "01a22617-3813-74ea-9a18-4e2832743b9e"
LISTED = {
    "prediction_id": ID,
    "time": "2026-11-29T06:56:25.619000Z",
    "client_id": "<b>7</b>",
    "model_version": "fa587fadc31e9a62",
    "probability": 0.0971916,
    "threshold": 1 / 11,
    "decision": "DECLINE",
    "risk_level": "HIGH",
    "latency_ms": 26.144,
    "request_id": None,
    "model_name": "credit_scoring",
    "sender": None,
}
REASON = {"code": "ENQUIRIES", "text": "We do not know <how> often.", "points": 0.2, "known": False}
RECORD = {**LISTED, "timestamp": LISTED["time"], "warnings": []}
WHOLE = {**LISTED, "outcomes": [], "record": RECORD}
MODEL = {"reasons": {"languages": ["en", "fr"]}}


def answers(**other: Any) -> dict[str, Any]:
    return {
        "GET /model": MODEL,
        "GET /decisions": {"decisions": [{**LISTED, "outcome": None}], "next": None},
        f"GET /decisions/{ID}": WHOLE,
        f"GET /decisions/{ID}/reasons": {"given": True, "reasons": [REASON]},
        f"POST /decisions/{ID}/replay": {"result": "the same"},
        **other,
    }


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_list_shows_what_the_api_has(language: Language) -> None:
    test = page("decisions", FakeApi(answers()), "auditor", language)
    words = words_in(language)
    (row,) = test.dataframe[0].value.to_dict("records")
    assert row[words("answer.pd")] == words.percent(0.0971916)
    assert row[words("decisions.time")] == "2026-11-29 06:56:25 UTC"
    assert ID in row.values()
    assert words("decisions.page", page=1, count=1) in shown(test)


def test_filters_reach_the_api() -> None:
    fake = FakeApi(answers())
    test = page("decisions", fake)
    test.text_input(key="decisions_client").set_value(" 7 ")
    test.selectbox(key="decisions_decision").set_value("DECLINE")
    test.selectbox(key="decisions_level").set_value("HIGH").run()
    query = dict(fake.asked[-1].url.params)
    assert query == {"limit": "50", "client_id": "7", "decision": "DECLINE", "risk_level": "HIGH"}


def test_pages_follow_the_cursor_and_filters_begin_anew() -> None:
    fake = FakeApi(
        answers(**{"GET /decisions": {"decisions": [{**LISTED, "outcome": {"defaulted": True, "observed_at": None}}], "next": "abc"}})
    )
    test = page("decisions", fake)
    test.button[0].click().run()
    assert fake.asked[-1].url.params["cursor"] == "abc"
    assert "Page 2" in shown(test)
    test.text_input(key="decisions_version").set_value("x").run()
    assert "cursor" not in fake.asked[-1].url.params


@pytest.mark.parametrize(("client", "text"), [("", "There are no decisions yet."), ("7", "No decision matches.")])
def test_an_empty_list_says_what_to_do(client: str, text: str) -> None:
    test = page("decisions", FakeApi(answers(**{"GET /decisions": {"decisions": [], "next": None}})))
    test.text_input(key="decisions_client").set_value(client).run()
    assert text in shown(test)


def test_one_decision_shows_its_pd_reasons_and_outcomes_and_can_be_replayed() -> None:
    outcome = {"defaulted": False, "observed_at": "2026-12-01T00:00:00Z", "received_at": "2026-12-02T00:00:00Z", "source": "<api>"}
    explanation = {
        "baseline": "near_threshold",
        "base": -2.5,
        "log_odds": -2.2,
        "concepts": [{"code": "AGE", "points": 0.3}, {"code": "NEW", "points": 0.001}],
    }
    whole = {**WHOLE, "outcomes": [outcome], "record": {**RECORD, "explanation": explanation}}
    test = page("decisions", FakeApi(answers(**{f"GET /decisions/{ID}": whole})))
    test.text_input(key="decisions_id").set_value(ID).run()
    text = shown(test)
    assert "PD 9.72%" in text
    assert f'data-pd="{LISTED["probability"]!r}"' in text
    assert "We do not know &lt;how&gt; often." in text
    assert "&lt;b&gt;7&lt;/b&gt;" in text
    assert "&lt;api&gt;" in text
    assert "9.98%" in text  # the PD of log-odds -2.199
    next(button for button in test.button if button.label == "Replay now").click().run()
    assert "The same result, to the last bit." in shown(test)


def test_a_decision_that_is_not_there_is_said_to_be_so() -> None:
    test = page("decisions", FakeApi(answers()))
    test.text_input(key="decisions_id").set_value("../../model").run()
    assert "There is no decision ../../model." in shown(test)


def test_a_replay_that_differs_and_reasons_that_a_model_lacks_are_told_in_the_apis_words() -> None:
    test = page("decisions", FakeApi(answers(**{f"POST /decisions/{ID}/replay": 409, f"GET /decisions/{ID}/reasons": 409})))
    test.text_input(key="decisions_id").set_value(ID).run()
    next(button for button in test.button if button.label == "Replay now").click().run()
    assert shown(test).count("a problem with status 409") == 2


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (503, "is busy"),
        (500, "The scoring service failed"),
        (401, "refuses the dashboard's key"),
        (httpx.ConnectError("no"), "does not answer"),
        (httpx.ReadTimeout("no"), "took too long"),
        (httpx.Response(200, text="<html>"), "The scoring service failed"),
    ],
)
def test_a_service_in_trouble_is_explained(answer: Any, text: str) -> None:
    test = page("decisions", FakeApi(answers(**{"GET /decisions": answer})))
    assert text in shown(test)


def test_an_answer_of_another_shape_is_a_fault_and_no_traceback() -> None:
    test = page("decisions", FakeApi(answers(**{"GET /decisions": {"other": 1}})))
    assert "This page has a fault." in shown(test)


def test_a_role_sees_no_page_of_another() -> None:
    fake = FakeApi(answers())
    assert "Your role may not see this page." in shown(page("score", fake, "auditor"))
    assert not fake.asked
