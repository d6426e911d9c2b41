import json
import logging
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from monitoring.metrics import Metrics
from monitoring.prediction import Prediction
from monitoring.service_log import REQUEST_ID, configure_logging


def test_metrics_count_what_happened_under_conventional_names() -> None:
    metrics = Metrics()
    metrics.request("/predict", 200, 0.003)
    for status in (503, 401, 422):
        metrics.request("/predict", status, 0.0)  # counted, but it tells nothing of how quick an answer is
    warning = {"code": "implausible", "pointer": "", "detail": ""}
    metrics.predictions([Prediction("i", None, 1, "DECLINE", 0.12, "HIGH", 0.1, "v", "t", [warning])])
    metrics.row_errors(2)
    metrics.model("m", "v", "generated")
    samples = {
        (sample.name, tuple(sorted(sample.labels.values()))): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
    }
    assert samples["credit_requests_total", ("/predict", "200")] == 1
    assert samples["credit_requests_total", ("/predict", "503")] == 1
    assert samples["credit_requests_total", ("/predict", "422")] == 1
    assert samples["credit_request_duration_seconds_count", ("/predict",)] == 1
    assert samples["credit_predictions_total", ("DECLINE", "HIGH")] == 1
    assert samples["credit_warnings_total", ("implausible",)] == 1
    assert samples["credit_row_errors_total", ()] == 2
    assert samples["credit_model_info", ("generated", "m", "v")] == 1
    assert samples["credit_probability_of_default_count", ()] == 1
    assert samples["credit_request_duration_seconds_sum", ("/predict",)] == 0.003
    assert ("process_resident_memory_bytes", ()) in samples


def test_a_failure_is_an_answer_that_took_its_time() -> None:
    metrics = Metrics()
    for status in (200, 307, 500, 504):
        metrics.request("/predict", status, 0.1)
    assert metrics.registry.get_sample_value("credit_request_duration_seconds_count", {"route": "/predict"}) == 4


def test_a_log_that_cannot_be_read_hides_no_other_metric() -> None:
    def unreadable() -> tuple[float, int]:
        raise PermissionError("no")

    metrics = Metrics()
    metrics.store.shipping(unreadable)
    metrics.recording(lambda: False)
    text = metrics.exposition().decode()
    assert "credit_log_ready 0.0" in text
    assert re.search(r"^credit_shipper_lag_seconds NaN$", text, re.MULTILINE)


def test_a_file_of_keys_that_was_found_broken_is_counted() -> None:
    metrics = Metrics()
    assert "credit_keys_failures_total 0.0" in metrics.exposition().decode()
    metrics.keys_failed()
    assert "credit_keys_failures_total 1.0" in metrics.exposition().decode()


def test_log_lines_are_json_with_the_id_of_the_request(capsys: pytest.CaptureFixture[str]) -> None:
    log = configure_logging("INFO")
    token = REQUEST_ID.set("r1")
    log.info("scored %s", "one", extra={"rows": 1})
    log.debug("not shown")
    REQUEST_ID.reset(token)
    logging.getLogger("credit_scoring").handlers = []
    (line,) = capsys.readouterr().err.splitlines()
    record = json.loads(line)
    assert (record["message"], record["request_id"], record["rows"], record["level"]) == ("scored one", "r1", 1, "INFO")
