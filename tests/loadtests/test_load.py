import os
import signal
import subprocess
import sys

import psutil
import pytest
from records import wait_for
from running import ROOT, Home, Server, run

from loadtests.applicants import requests
from loadtests.load import warn_if_busy
from loadtests.shapes import SHAPES


def load(home: Home, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return run("loadtests.load", list(arguments), {**os.environ, **home.environment, **environment})


@pytest.mark.service
def test_the_exit_code_tells_whether_the_target_was_met(home: Home, server: Server) -> None:
    generous = {"CREDIT_LATENCY_TARGET__P95_MS": "5000", "CREDIT_LATENCY_TARGET__P99_MS": "5000"}
    met = load(home, "--shape", "smoke", "--host", server.url, **generous)
    assert met.returncode == 0, met.stdout + met.stderr
    assert " 0 failed" in met.stdout
    assert "/predict/batch of 50" in met.stderr + met.stdout
    assert (home.path / "credit/reports/loadtest-smoke.html").stat().st_size > 1000
    missed = load(home, "--shape", "smoke", "--host", server.url, CREDIT_LATENCY_TARGET__P95_MS="0.001")
    assert (missed.returncode, "MISSED" in missed.stdout) == (1, True)


@pytest.mark.service
def test_a_service_that_is_not_there_is_a_miss(home: Home) -> None:
    assert load(home, "--shape", "smoke", "--host", "http://127.0.0.1:9").returncode == 1


@pytest.mark.service
def test_no_service_outlives_a_test_that_is_ended(home: Home) -> None:
    command = [sys.executable, "-m", "loadtests.load"]
    with subprocess.Popen(
        command, env={**os.environ, **home.environment}, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as load:
        started = list[psutil.Process]()

        def locust_sends() -> bool:
            started[:] = psutil.Process(load.pid).children(recursive=True)
            return any(process.name() == "locust" and process.net_connections() for process in started if process.is_running())

        wait_for(locust_sends)
        load.send_signal(signal.SIGTERM)
        load.wait(60)
    _, alive = psutil.wait_procs(started, timeout=20)
    assert (len(started) >= 3, alive) == (True, [])  # the service's two and Locust


@pytest.mark.parametrize(("load", "warned"), [(0.9, False), (1.1, True)])
def test_a_busy_machine_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], load: float, warned: bool) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    warn_if_busy()
    assert ("the machine is busy (load 1.1 on 2 cores)" in capsys.readouterr().err) == warned


def test_an_unknown_shape_is_named(home: Home) -> None:
    result = load(home, "--shape", "wave")
    assert result.returncode == 1
    assert f"expected one of {', '.join(SHAPES)}" in result.stderr


def test_applicants_are_sent_as_a_client_would() -> None:
    bodies = requests(20, seed=1)
    assert len(bodies) == 20
    assert all(value is not None for body in bodies for value in body["application"].values())
    assert "TARGET" not in bodies[0]["application"]
