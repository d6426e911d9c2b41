import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from running import ROOT, Home, bundle_folder

from serving import container


class Probe(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(503 if self.path == "/readyz" else 200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def unready(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A service that lives and is not ready, on the port that PORT names."""
    server = HTTPServer(("127.0.0.1", 0), Probe)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PORT", str(server.server_address[1]))
    yield
    server.shutdown()
    server.server_close()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What BentoML's command line was called with."""
    calls: list[list[str]] = []
    monkeypatch.setattr("bentoml_cli.cli.cli", lambda arguments, prog_name: calls.append(arguments))
    return calls


def test_the_check_asks_whether_the_service_is_ready_or_what_it_is_told_to(unready: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert container.main(["check"]) == 1
    assert "/readyz answers 503" in capsys.readouterr().err
    assert container.main(["check", "/livez"]) == 0


def test_the_check_fails_where_nothing_listens(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PORT", "1")
    assert container.main(["check"]) == 1
    assert "no answer from port 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variables", "port"),
    [({}, "3000"), ({"BENTOML_PORT": "4000"}, "4000"), ({"PORT": "8080", "BENTOML_PORT": "4000"}, "8080"), ({"PORT": ""}, "3000")],
)
def test_the_service_listens_where_the_platform_says(
    variables: dict[str, str], port: str, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PORT", raising=False)
    monkeypatch.setenv("BENTOML_PORT", "")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert container.main(["serve"]) == 0
    assert started == [["serve", str(container.BENTO)]]
    assert os.environ["BENTOML_PORT"] == port


@pytest.mark.parametrize("port", ["http", "0", "65536", "-1", "8080.0", "٣"])
def test_a_port_that_is_none_stops_the_start_with_one_sentence(
    port: str, started: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORT", port)
    assert container.main(["serve"]) == 1
    assert started == []
    assert capsys.readouterr().err == f"PORT is {port!r}; expected a port from 1 to 65535\n"


def test_keys_of_a_variable_go_into_a_private_file(started: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENTOML_PORT", "3000")
    monkeypatch.setenv("CREDIT_KEYS_FILE", "")
    monkeypatch.setenv("API_KEYS", json.dumps({"format": 1, "keys": []}))
    container.main(["serve"])
    file = Path(os.environ["CREDIT_KEYS_FILE"])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text())["format"] == 1
    assert "API_KEYS" not in os.environ


def test_commands_use_the_model_of_the_bento(home: Home, tmp_path: Path) -> None:
    shutil.copytree(bundle_folder(home), tmp_path / "models/credit_scoring" / bundle_folder(home).name)
    program = "import sys; from pathlib import Path; from serving import container; container.BENTO = Path(sys.argv[1]); container.main(['verify'])"
    environment = {**os.environ, "BENTOML_HOME": str(tmp_path / "empty"), "CREDIT_HOME": str(tmp_path / "credit")}
    result = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert f"credit_scoring:{bundle_folder(home).name} is sound" in result.stdout


def test_anything_else_is_a_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(container, "_use_own_model", lambda: None)
    with pytest.raises(SystemExit) as caught:
        container.main(["keys", "--help"])
    assert caught.value.code == 0
    assert "revoke" in capsys.readouterr().out
