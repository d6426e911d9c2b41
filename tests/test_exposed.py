"""Each way to make the service listen beyond loopback without keys is refused. Each runs in a network namespace of its own."""

import json
import os
import sys
from pathlib import Path

import pytest
from running import Home, run

pytestmark = pytest.mark.service
APP = "service:CreditScoring.to_asgi"
CONFIGURATION = "services: {credit_scoring: {http: {host: 0.0.0.0}}}"
SERVE = ("bentoml_cli.cli", "cli", "serve", ".")
WORKER = ("_bentoml_impl.worker.service", "main", ".", "--worker-id", "1")
UVICORN = ("uvicorn.main", "main", "--factory", APP)
HYPERCORN = ("hypercorn.__main__", "main", "asgi:app")
ASGI = """
import uvicorn
from service import CreditScoring
app = CreditScoring.to_asgi()
def main():
    uvicorn.run(app, host="0.0.0.0")
"""
WAYS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "option": ((*SERVE, "--host", "0.0.0.0"), {}),  # noqa: S104
    "IPv6": ((*SERVE, "--host", "::"), {}),
    "an interface": ((*SERVE, "--host", "10.1.2.3"), {}),
    "host name": ((*SERVE, "--host", "HOSTNAME"), {}),
    "variable": (SERVE, {"BENTOML_HOST": "0.0.0.0"}),  # noqa: S104
    "configuration file": (SERVE, {"BENTOML_CONFIG": "FOLDER/one.yaml"}),
    "configuration options": (SERVE, {"BENTOML_CONFIG_OPTIONS": 'services.credit_scoring.http.host="0.0.0.0"'}),
    "configuration overrides": (SERVE, {"BENTOML_CONFIG_OVERRIDES": '{"services": {"credit_scoring": {"http": {"host": "::"}}}}'}),
    "worker with a socket of systemd": ((*WORKER, "--fd", "3"), {}),
    "uvicorn": ((*UVICORN, "--host", "0.0.0.0"), {}),  # noqa: S104
    "uvicorn, IPv6": ((*UVICORN, "--host", "::"), {}),
    "uvicorn, host name": ((*UVICORN, "--host", "HOSTNAME"), {}),
    "uvicorn, variable": (UVICORN, {"UVICORN_HOST": "0.0.0.0"}),  # noqa: S104
    "uvicorn with a socket of systemd": ((*UVICORN, "--fd", "3"), {"LISTEN_FDS": "1"}),
    "uvicorn.run": (("asgi", "main"), {}),
    "hypercorn": ((*HYPERCORN, "--workers", "0", "--bind", "0.0.0.0:3000"), {}),
    "hypercorn, IPv6": ((*HYPERCORN, "--workers", "0", "--bind", "[::]:3000"), {}),
    "hypercorn with a socket of systemd": ((*HYPERCORN, "--workers", "0", "--bind", "fd://3"), {"LISTEN_FDS": "1"}),
}


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="needs network namespaces, and so Linux and root")
@pytest.mark.parametrize(("command", "environment"), WAYS.values(), ids=WAYS)
def test_each_way_to_listen_beyond_loopback_without_keys_is_refused(
    home: Home, tmp_path: Path, command: tuple[str, ...], environment: dict[str, str]
) -> None:
    if command[0].startswith("hypercorn"):
        pytest.importorskip("hypercorn")
    (tmp_path / "one.yaml").write_text(CONFIGURATION)
    (tmp_path / "asgi.py").write_text(ASGI)
    arguments = [item.replace("HOSTNAME", os.uname().nodename) for item in command]
    variables = {name: value.replace("FOLDER", str(tmp_path)) for name, value in environment.items()}
    credit = {"CREDIT_HOME": str(tmp_path / "credit"), "PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": str(tmp_path)}
    result = run("tests.support.isolated", arguments, {**home.environment, **credit, **variables})
    told = json.loads(result.stdout.splitlines()[-1])
    assert "refusing to listen on" in result.stdout + result.stderr
    assert told["code"] not in (0, None), result.stderr
    assert (told["listened"], told["left"]) == ([], [])
