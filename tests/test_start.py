"""How the service starts, what it refuses to start with, where it listens, how it ends."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

import bentoml
import httpx
import psutil
import pytest
from running import Home, Server, as_dict, bentoml_serve, run, run_cli, serve
from steady import SteadyLoad

from features.schema import Table
from serving.bundle import Bundle

pytestmark = pytest.mark.service
LONG = 180.0  # seconds, on a machine with much else to do


def test_by_itself_it_listens_on_loopback_only(home: Home, tmp_path: Path) -> None:
    for server in bentoml_serve(home, tmp_path):
        workers = psutil.Process(server.process.pid).children(recursive=True)
        listening = {
            item.laddr.ip
            for process in [psutil.Process(server.process.pid), *workers]
            for item in process.net_connections(kind="tcp")
            if item.status == psutil.CONN_LISTEN
        }
        assert listening == {"127.0.0.1"}


def refused(home: Home, *arguments: str, **environment: str) -> str:
    result = run("bentoml", ["serve", ".", *arguments], {**home.environment, **environment})
    assert result.returncode != 0
    assert "Traceback" not in result.stderr, result.stderr
    return result.stdout + result.stderr


CONFIGURATION = """
services:
  credit_scoring:
    http: {host: 0.0.0.0}
"""


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--host", "0.0.0.0"], {}),  # noqa: S104
        ([], {"BENTOML_HOST": "0.0.0.0"}),  # noqa: S104
        ([], {"BENTOML_CONFIG": "FILE"}),
        ([], {"BENTOML_CONFIG_OPTIONS": 'services.credit_scoring.http.host="0.0.0.0"'}),
    ],
    ids=["option", "variable", "configuration file", "configuration options"],
)
def test_it_refuses_to_listen_beyond_loopback_without_authentication(
    home: Home, tmp_path: Path, arguments: list[str], environment: dict[str, str]
) -> None:
    (tmp_path / "bentoml.yaml").write_text(CONFIGURATION)
    environment = {name: value.replace("FILE", str(tmp_path / "bentoml.yaml")) for name, value in environment.items()}
    assert "refusing to listen on 0.0.0.0 without authentication" in refused(home, *arguments, **environment)


def test_it_refuses_to_start_on_wrong_settings_or_without_a_model(home: Home, tmp_path: Path) -> None:
    assert "CREDIT_AUTH" in refused(home, CREDIT_AUTH="maybe")
    assert "holds no model credit_scoring; run `make train` first" in refused(home, BENTOML_HOME=str(tmp_path))


def test_it_refuses_a_log_that_another_service_writes(server: Server, home: Home) -> None:
    assert "is being written by another process" in refused(home, CREDIT_HOME=str(server.log.parent / "credit"))


def test_with_keys_it_listens_anywhere_and_scores_only_for_their_holders(
    home: Home, tmp_path: Path, table: Table, wait_until: Callable[[Callable[[], object]], None]
) -> None:
    keys_file = str(tmp_path / "keys.json")
    environment = {**home.environment, "CREDIT_KEYS_FILE": keys_file}
    token = run_cli(["keys", "create", "--note", "tests", "--days", "1"], environment).stdout.strip()
    body = {"application": dict(table.example)}
    for server in bentoml_serve(home, tmp_path, "--host", "0.0.0.0", CREDIT_KEYS_FILE=keys_file):  # noqa: S104
        for path in ("/health", "/livez", "/docs", "/docs.json"):
            assert httpx.get(server.url + path).status_code == 200
        for path in ("/model", "/metrics", "/nothing"):
            assert httpx.get(server.url + path).status_code == 401
        refused = httpx.post(f"{server.url}/predict", json=body)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert refused.headers["content-type"] == "application/problem+json"
        assert httpx.post(f"{server.url}/predict", json=body, headers={"X-API-Key": "cs_1_2"}).status_code == 401
        for headers in ({"X-API-Key": token}, {"Authorization": f"Bearer {token}"}):
            assert httpx.post(f"{server.url}/predict", json=body, headers=headers).status_code == 200
        with bentoml.SyncHTTPClient(server.url, token=token) as client:
            assert as_dict(client.predict(**body))["decision"] in ("APPROVE", "DECLINE")
        assert run_cli(["keys", "revoke", token.split("_")[1]], environment).returncode == 0
        wait_until(lambda url=server.url: httpx.post(f"{url}/predict", json=body, headers={"X-API-Key": token}).status_code == 401)  # type: ignore[misc]
        assert token not in server.log.read_text()


def test_bentomls_configuration_works_or_is_refused(home: Home, tmp_path: Path, table: Table) -> None:
    said = refused(home, BENTOML_CONFIG_OVERRIDES='{"services": {"credit_scoring": {"traffic": {"timeout": 5}}}}')
    assert "BentoML's configuration: traffic.timeout has no effect here: set CREDIT_SERVICE__DEADLINE_SECONDS" in said
    portal = "https://portal.lender.example"
    cors = {"enabled": True, "access_control_allow_origins": portal, "access_control_allow_methods": ["POST"]}
    file = tmp_path / "bentoml.yaml"
    file.write_text(json.dumps({"services": {"credit_scoring": {"backlog": 100, "http": {"cors": cors}}}}))
    for server in bentoml_serve(home, tmp_path, BENTOML_CONFIG=str(file)):
        asked = {"Origin": portal, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
        answers = [
            httpx.options(f"{server.url}/predict", headers=asked),
            httpx.post(f"{server.url}/predict", json={"application": dict(table.example)}, headers={"Origin": portal}),
            httpx.get(f"{server.url}/model", headers={"Origin": portal}),
        ]
        assert [(answer.status_code, answer.headers["access-control-allow-origin"]) for answer in answers] == [(200, portal)] * 3
        bad = httpx.post(f"{server.url}/predict", content=b"", headers={"Origin": portal, "Content-Type": "application/json"})
        assert (bad.status_code, bad.headers["access-control-allow-origin"]) == (400, portal)
        assert "access-control-allow-origin" not in httpx.get(f"{server.url}/model", headers={"Origin": "https://evil.example"}).headers


def test_tls_is_as_bentomls_configuration_says(home: Home, tmp_path: Path, need: Callable[..., str]) -> None:
    certificate = tmp_path / "both.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    new = [need("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*new, "-keyout", certificate, "-out", certificate], check=True, capture_output=True)
    files = {"enabled": True, "certfile": str(certificate), "ca_certs": str(certificate), "cert_reqs": int(ssl.CERT_REQUIRED)}
    trusting, known = ssl.create_default_context(cafile=certificate), ssl.create_default_context(cafile=certificate)
    known.load_cert_chain(certificate)
    options = {"BENTOML_CONFIG_OVERRIDES": json.dumps({"services": {"credit_scoring": {"ssl": files}}})}
    for server in bentoml_serve(home, tmp_path, scheme="https", verify=known, **options):
        assert httpx.get(f"{server.url}/health", verify=known).json()["status"] == "ok"
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{server.url}/health", verify=trusting)


def test_a_terminated_service_finishes_what_it_accepted_and_the_next_one_goes_on_with_its_drift_window(
    home: Home, tmp_path: Path, table: Table, wait_until: Callable[[Callable[[], object]], None]
) -> None:
    body = json.dumps({"applications": [{"application": dict(table.example)}] * 1000}).encode()
    for server in bentoml_serve(home, tmp_path):
        host, port = server.url.removeprefix("http://").split(":")
        connection = HTTPConnection(host, int(port), timeout=LONG)
        connection.putrequest("POST", "/predict/batch")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(body)))
        connection.putheader("Expect", "100-continue")
        connection.endheaders()
        assert connection.sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"  # it is in work
        connection.send(body[:1000])
        with socket.create_connection((host, int(port)), LONG) as idle:
            idle.sendall(b"GET /livez HTTP/1.1\r\nHost: service\r\n\r\n")
            assert idle.recv(1000).startswith(b"HTTP/1.1 200")
            os.killpg(server.process.pid, signal.SIGTERM)
            while idle.recv(1000):  # a service that begins to end closes the connections without work
                pass
        connection.send(body[1000:])
        response = connection.getresponse()
        assert (response.status, json.load(response)["count"]) == (200, 1000)
        connection.close()
        server.process.wait(LONG)
    for server in serve(home, tmp_path):
        wait_until(lambda url=server.url: "\ncredit_drift_window_rows 1000.0\n" in httpx.get(f"{url}/metrics").text)  # type: ignore[misc]


def logged(folder: Path) -> set[str]:
    """The ids of the predictions on record."""
    files = (folder / "credit/logs").glob("predictions*.jsonl")
    return {found for file in files for found in re.findall(r'"prediction_id":"([^"]+)', file.read_text())}


@pytest.mark.parametrize("to_all", [False, True], ids=["TERM to the parent", "TERM to all processes"])
def test_a_terminated_service_drains_without_a_failed_request(
    home: Home, tmp_path: Path, table: Table, wait_until: Callable[[Callable[[], object]], None], to_all: bool
) -> None:
    def is_ready() -> bool:
        return httpx.get(f"{server.url}/readyz", timeout=LONG).status_code == 200

    for server in bentoml_serve(home, tmp_path, CREDIT_SERVICE__DRAIN_SECONDS="8"):
        url = httpx.URL(server.url)
        with SteadyLoad(url.host, url.port or 0, table) as load:
            wait_until(lambda: len(load.answered) > 100)
            assert sum(load.closed.values()) == 0
            begun = time.monotonic()
            parent = psutil.Process(server.process.pid)
            for process in [*(parent.children(recursive=True) if to_all else []), parent]:
                process.terminate()
            wait_until(lambda: not is_ready())
            wait_until(lambda: len(+load.closed) == load.clients.count(True))
            before = len(load.answered)
            wait_until(lambda: len(load.answered) > before + 100)  # those that come while it drains are served
        assert server.process.wait(LONG) == 0
        assert time.monotonic() - begun > 8
    assert (load.failures, set(load.statuses)) == ([], {200})
    assert set(load.answered) <= logged(tmp_path)


@pytest.mark.parametrize("sent", [[signal.SIGINT], [signal.SIGTERM, signal.SIGINT]], ids=["at once", "while draining"])
def test_ctrl_c_does_not_drain(home: Home, tmp_path: Path, wait_until: Callable[[Callable[[], object]], None], sent: list[int]) -> None:
    for server in bentoml_serve(home, tmp_path, CREDIT_SERVICE__DRAIN_SECONDS="1000"):
        for count, number in enumerate(sent, start=1):
            os.killpg(server.process.pid, number)  # as a terminal does
            wait_until(lambda count=count: server.log.read_text().count('"message": "draining"') == count)  # type: ignore[misc]
        assert server.process.wait(LONG) == 0
        assert "Traceback" not in server.log.read_text()


def test_a_killed_parent_takes_the_worker_with_it(home: Home, tmp_path: Path, wait_until: Callable[[Callable[[], object]], None]) -> None:
    for server in bentoml_serve(home, tmp_path, CREDIT_SERVICE__DRAIN_SECONDS="1000"):
        (worker,) = psutil.Process(server.process.pid).children(recursive=True)
        server.process.kill()
        server.process.wait()
        wait_until(lambda: not worker.is_running())
    for server in serve(home, tmp_path):
        assert httpx.get(f"{server.url}/health").json()["status"] == "ok"


def test_a_built_bento_answers_the_same_with_the_model_it_was_built_with(
    home: Home, tmp_path: Path, bundle: Bundle, client: httpx.Client, table: Table
) -> None:
    own = home.copy(tmp_path)
    built = run("bentoml", ["build", "-o", "tag"], own.environment)
    assert built.returncode == 0, built.stderr
    tag = built.stdout.strip().splitlines()[-1].removeprefix("__tag__:")
    newer = run_cli(["train"], {**own.environment, "CREDIT_DECISION__FALSE_NEGATIVE_COST": "5"})
    assert newer.returncode == 0, newer.stderr
    version = newer.stdout.rpartition("credit-scoring promote ")[2].split()[0]
    assert run_cli(["promote", version, "--reason", "newer"], own.environment).returncode == 0
    assert (own.path / "bentoml/models/credit_scoring/latest").read_text().strip() != bundle.version
    body = {"application": dict(table.example)}
    for server in bentoml_serve(own, tmp_path, target=tag):
        answer = httpx.post(f"{server.url}/predict", json=body).json()
        assert answer["model_version"] == bundle.version
        assert answer["probability"] == client.post("/predict", json=body).json()["probability"]
