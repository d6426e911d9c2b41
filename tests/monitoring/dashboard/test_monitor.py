from typing import Any

import pytest
from pages import FakeApi, page, shown

from monitoring.dashboard.catalogue import LANGUAGES, Language, words_in
from monitoring.dashboard.exposition import Figures

HEALTH = {"status": "ok", "detail": None}
TRAFFIC = """# TYPE credit_requests counter
credit_requests_total{route="/predict",status="200"} 97.0
credit_requests_total{route="/predict",status="422"} 2.0
credit_requests_total{route="/predict",status="503"} 1.0
# TYPE credit_request_duration_seconds histogram
credit_request_duration_seconds_bucket{le="0.0025",route="/predict"} 50.0
credit_request_duration_seconds_bucket{le="0.05",route="/predict"} 94.0
credit_request_duration_seconds_bucket{le="+Inf",route="/predict"} 100.0
# TYPE credit_predictions counter
credit_predictions_total{decision="APPROVE",risk_level="LOW"} 60.0
credit_predictions_total{decision="APPROVE",risk_level="MEDIUM"} 15.0
credit_predictions_total{decision="DECLINE",risk_level="CRITICAL"} 25.0
# TYPE credit_probability_of_default histogram
credit_probability_of_default_sum 8.0
# TYPE credit_drift_window_rows gauge
credit_drift_window_rows 600.0
# TYPE credit_drift_minimum_rows gauge
credit_drift_minimum_rows 590.0
"""
DRIFT = """# TYPE credit_drift_psi gauge
credit_drift_psi{feature="A"} 0.05
credit_drift_psi{feature="B"} 0.31
credit_drift_psi{feature="C"} 0.1
# TYPE credit_drift_missing_shift gauge
credit_drift_missing_shift{feature="B"} 0.2
# TYPE credit_drift_pd_psi gauge
credit_drift_pd_psi 0.02
# TYPE credit_drift_approval_rate gauge
credit_drift_approval_rate 0.7
"""


def monitor(text: Any, health: Any = HEALTH, language: Language = "en") -> str:
    import httpx

    answer = text if isinstance(text, int) else httpx.Response(200, text=text)
    return shown(page("monitor", FakeApi({"GET /health": health, "GET /metrics": answer}), "auditor", language))


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_figures_on_the_page_are_those_of_the_exposition(language: Language) -> None:
    words, text = words_in(language), monitor(TRAFFIC + DRIFT, language=language)
    assert "<td>/predict</td>" + "".join(f'<td class="num">{count}</td>' for count in (100, 2, 1)) in text
    assert "2.5 ms".replace(".", "," if language == "fr" else ".") in text
    assert "> 10 s" in text.replace("&gt;", ">")
    for share in (0.75, 0.08, 0.7, 0.6, 0.01):
        assert words.percent(share) in text
    assert text.index(f"<td>B ({words('monitor.drift')})") < text.index(f"<td>C ({words('monitor.watch')})")
    assert text.index(f"<td>C ({words('monitor.watch')})") < text.index(f"<td>A ({words('monitor.steady')})")
    assert words("monitor.of", count=1, all=3) in text


def test_an_empty_service_says_that_nothing_was_scored_and_drift_needs_more() -> None:
    text = monitor("")
    assert "Nothing was scored since the service started." in text
    assert "Drift is measured from" in text
    assert "there are 600 so far" in monitor(TRAFFIC)


def test_a_problem_of_the_service_is_told_in_its_words() -> None:
    assert "the log is full" in monitor(TRAFFIC, {"status": "no_record", "detail": "the log is full"})


@pytest.mark.parametrize("status", [401, 403, 503])
def test_metrics_that_are_refused_are_explained(status: int) -> None:
    assert f"a problem with status {status}" in monitor(status)


def test_shares_of_answers_are_bounds_of_buckets() -> None:
    (row,) = Figures(TRAFFIC).routes()
    assert [row.within(share) for share in (0.0, 0.5, 0.51, 0.94, 0.95)] == [0.0025, 0.0025, 0.05, 0.05, float("inf")]
    assert (row.requests, row.refused, row.failed) == (100, 2, 1)
