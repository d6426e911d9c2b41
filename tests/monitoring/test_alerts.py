"""The rules and the dashboard: what they name exists, and an alert fires on a fault."""

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from decided import generated
from prometheus_client.parser import text_string_to_metric_families
from running import ROOT, Home, Server, free_port, serve

from features.history import Matrix
from monitoring.drift.psi import WARNING
from serving.bundle import Bundle

FILES = ROOT / "configs/prometheus"
DASHBOARD = ROOT / "configs/grafana/dashboards/credit-scoring.json"
RULES = [rule for group in yaml.safe_load((FILES / "rules.yml").read_text())["groups"] for rule in group["rules"]]
ALERTS = [rule for rule in RULES if "alert" in rule]
TESTS = {name: yaml.safe_load((FILES / name).read_text()) for name in ("rules_test.yml", "rules_days_test.yml")}
DROPPED = "EXT_SOURCE_3"
BUSY = 60  # seconds that an answer may take on a busy machine
Wait = Callable[[Callable[[], object]], None]

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def applicants(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    return generated(bundle, tmp_path_factory.mktemp("applicants"), 2000, seed=77)[1]


@pytest.fixture
def dropped(applicants: Matrix, bundle: Bundle) -> Matrix:
    """Applicants whose DROPPED is not known."""
    shifted = applicants[:2000].copy()
    shifted[:, bundle.features.names.index(DROPPED)] = np.nan
    return shifted


@pytest.fixture(scope="module")
def measuring(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that measures drift five times a second."""
    yield from serve(home, tmp_path_factory.mktemp("measuring"), CREDIT_DRIFT__INTERVAL_SECONDS="0.2")


def send(server: Server, matrix: Matrix) -> None:
    for start in range(0, len(matrix), 1000):
        rows = [[None if np.isnan(value) else value for value in row] for row in matrix[start : start + 1000].tolist()]
        assert httpx.post(f"{server.url}/predict/batch", json={"features": rows}, timeout=BUSY).status_code == 200


def exposed(server: Server) -> dict[str, float]:
    """Samples of /metrics: name or name{feature} to value."""
    families = text_string_to_metric_families(httpx.get(f"{server.url}/metrics", timeout=BUSY).text)
    samples = [sample for family in families for sample in family.samples]
    return {
        sample.name + "".join(f"{{{value}}}" for key, value in sample.labels.items() if key == "feature"): sample.value
        for sample in samples
    }


def test_prometheus_accepts_configuration_and_rules(need: Callable[..., str]) -> None:
    promtool = need("promtool")
    for arguments in (["check", "config", "prometheus.yml"], ["check", "rules", "rules.yml"], *(["test", "rules", name] for name in TESTS)):
        result = subprocess.run([promtool, *arguments], cwd=FILES, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr


def moved(rule: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rule with each limit a twentieth (a whole number: one) lower and higher, without each of its conditions, without or with twice its delay."""
    for found in re.finditer(r"(?<=[<>=] )[\d.]+", rule["expr"]):
        limit = float(found[0])
        for other in (limit * 0.95, limit * 1.05) if limit % 1 or limit >= 100 else (limit - 1, limit + 1) if limit > 1 else ():
            yield {**rule, "expr": rule["expr"][: found.start()] + f"{other:g}" + rule["expr"][found.end() :]}
    for word in (" and ", " or "):
        parts = rule["expr"].split(word)
        for place in range(len(parts) if len(parts) > 1 else 0):
            yield {**rule, "expr": word.join(parts[:place] + parts[place + 1 :])}
    if "for" in rule:
        number, unit = int(rule["for"][:-1]), rule["for"][-1]
        yield {**rule, "for": "0s"}
        yield {**rule, "for": f"{2 * number}{unit}"}


LONG = "CreditLatencyBudget"  # rules over days; promtool needs a minute for all their moves


@pytest.mark.parametrize(
    "rule",
    [pytest.param(rule, id=rule["alert"], marks=[pytest.mark.fault] if rule["alert"].startswith(LONG) else []) for rule in ALERTS],
)
def test_a_rule_whose_limit_moves_fails_its_tests(rule: dict[str, Any], need: Callable[..., str], tmp_path: Path) -> None:
    promtool = need("promtool")
    records = [item for item in RULES if "record" in item and item["record"] in rule["expr"]]
    for name, document in TESTS.items():
        tests = []
        for test in document["tests"]:
            expected = [item for item in test["alert_rule_test"] if item["alertname"] == rule["alert"]]
            if expected:
                tests.append(
                    {"name": test["name"], "interval": test["interval"], "input_series": test["input_series"], "alert_rule_test": expected}
                )
        if tests:
            (tmp_path / name).write_text(yaml.safe_dump({**document, "group_eval_order": [], "tests": tests}))

    def passes(rule: dict[str, Any]) -> bool:
        (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "one", "rules": [*records, rule]}]}))
        command = [promtool, "test", "rules", *(name for name in TESTS if (tmp_path / name).exists())]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0

    assert passes(rule)
    assert [(other["expr"], other.get("for")) for other in moved(rule) if passes(other)] == []


def test_every_alert_is_tested_and_told_in_the_guide() -> None:
    names = {rule["alert"] for rule in ALERTS}
    tested = {item["alertname"] for document in TESTS.values() for test in document["tests"] for item in test["alert_rule_test"]}
    assert names == tested
    guide = (ROOT / "monitoring/README.md").read_text()
    assert not [name for name in names if f"`{name}`" not in guide]


def test_drift_of_the_running_service_and_the_names_in_rules_and_dashboard(measuring: Server, applicants: Matrix, wait_until: Wait) -> None:
    assert "credit_drift_pd_psi" not in exposed(measuring)
    send(measuring, applicants[:2000])
    wait_until(lambda: "credit_drift_pd_psi" in exposed(measuring))
    wait_until(lambda: exposed(measuring)["credit_drift_window_rows"] == 2000)
    assert max(value for name, value in exposed(measuring).items() if name.startswith("credit_drift_psi")) < WARNING
    for body in ({"features": [None] * applicants.shape[1]}, {"application": {"ORGANIZATION_TYPE": "unseen"}}):
        assert httpx.post(f"{measuring.url}/predict", json=body, timeout=BUSY).status_code == 200
    target = 'credit_request_duration_seconds_bucket{le="0.1",route="/predict"}'  # what the rules of the latency take for granted
    assert target in httpx.get(f"{measuring.url}/metrics", timeout=BUSY).text
    names = {name.split("{")[0] for name in exposed(measuring)} | {rule["record"] for rule in RULES if "record" in rule}
    panels = [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]
    expressions = [rule["expr"] for rule in RULES] + [target["expr"] for panel in panels for target in panel["targets"]]
    used = {name for expression in expressions for name in re.findall(r"\b(?:credit|process)[_:][a-z0-9_:]+", expression)}
    assert len(used) > 25
    assert used <= names, used - names


def test_a_real_prometheus_fires_alerts_on_provoked_faults(
    home: Home, dropped: Matrix, tmp_path: Path, need: Callable[..., str], wait_until: Wait
) -> None:
    prometheus, port = need("prometheus"), free_port()

    def firing() -> set[tuple[str, str | None]]:
        with contextlib.suppress(httpx.TransportError):
            alerts = httpx.get(f"http://127.0.0.1:{port}/api/v1/alerts").json().get("data", {}).get("alerts", [])
            return {(item["labels"]["alertname"], item["labels"].get("feature")) for item in alerts if item["state"] == "firing"}
        return set()

    (tmp_path / "rules.yml").write_text(re.sub(r"for: \d+m", "for: 1s", (FILES / "rules.yml").read_text()))
    for server in serve(home, tmp_path, CREDIT_DRIFT__INTERVAL_SECONDS="0.2"):
        address = server.url.removeprefix("http://")
        text = (FILES / "prometheus.yml").read_text().replace("127.0.0.1:3000", address).replace("15s", "1s")
        (tmp_path / "prometheus.yml").write_text(text)
        command = [prometheus, f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
        with (tmp_path / "prometheus.log").open("w") as log:
            process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
        try:
            send(server, dropped)
            wait_until(lambda: {("CreditFeatureDrift", DROPPED), ("CreditMissingValues", DROPPED)} <= firing())
            assert {feature for alert, feature in firing() if feature} == {DROPPED}
            assert "CreditServiceDown" not in {alert for alert, _ in firing()}
            os.killpg(server.process.pid, signal.SIGTERM)
            server.process.wait(BUSY)
            wait_until(lambda: ("CreditServiceDown", None) in firing())
        finally:
            process.terminate()
            process.wait(BUSY)
