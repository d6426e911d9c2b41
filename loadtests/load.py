"""Runs a Locust load test. The exit code says whether the latency target was met."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NamedTuple

import httpx
import typer

from configs.settings import load_settings
from loadtests.shapes import SHAPES
from serving.identity.keys import create_key

ROOT = Path(__file__).parents[1]


def main(
    shape: Annotated[str, typer.Option(help=f"One of {', '.join(SHAPES)}")] = "steady",
    host: Annotated[str | None, typer.Option(help="URL of a running service; by default the test starts one")] = None,
) -> None:
    """Simulate users who score applicants, and compare the latencies with `latency_target` of the settings."""
    if shape not in SHAPES:
        raise SystemExit(f"--shape is {shape!r}; expected one of {', '.join(SHAPES)}")
    report = load_settings().home / "reports" / f"loadtest-{shape}.html"
    report.parent.mkdir(parents=True, exist_ok=True)
    service = None if host else start()
    try:
        url, key = (service.url, service.key) if service else (str(host), os.environ.get("LOADTEST_KEY", ""))
        programs = Path(sys.executable).parent
        locustfile = Path(__file__).with_name("locustfile.py")
        command: list[str | Path] = [programs / "locust", "-f", locustfile, "--headless", "--only-summary", "--host", url, "--html", report]
        environment = {**os.environ, "LOADTEST_SHAPE": shape, "PYTHONPATH": str(ROOT), "LOADTEST_KEY": key}
        code = subprocess.run(command, env=environment, check=False).returncode
    finally:
        if service:
            service.stop()
    typer.echo(f"report: {report}")
    raise SystemExit(code)


class Service(NamedTuple):
    """A running service and its API key."""

    url: str
    key: str
    process: "subprocess.Popen[bytes]"
    folder: "tempfile.TemporaryDirectory[str]"

    def stop(self) -> None:
        """Stop its processes, and delete its folder with the key."""
        with suppress(ProcessLookupError):  # it has ended already
            os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(30)
        self.folder.cleanup()


def own_home(folder: Path, keys: Path) -> dict[str, str]:
    """Environment variables that make a service keep everything in this folder and end at once, whatever the user's own settings are."""
    own = {"CREDIT_HOME": str(folder), "CREDIT_KEYS_FILE": str(keys), "CREDIT_STORE__URL": f"sqlite:///{folder}/store.db"}
    return {**own, "CREDIT_SERVICE__DRAIN_SECONDS": "0"}


def start(target: str = str(ROOT), **settings: str) -> Service:
    """Start a service on a free port of loopback and wait until it is ready. Its own home keeps test decisions apart from real ones.

    Parameters
    ----------
    target : argument of `bentoml serve`, relative to the project's folder.
    settings : further environment variables.

    Raises
    ------
    SystemExit
        The service does not start.
    """
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = int(sock.getsockname()[1])
    folder = tempfile.TemporaryDirectory()
    keys = Path(folder.name) / "keys.json"
    key = create_key(keys, "load test", None)
    bentoml = Path(sys.executable).with_name("bentoml")
    command: list[str | Path] = [bentoml, "serve", target, "--working-dir", str(ROOT), "--port", str(port)]
    environment = {**os.environ, **own_home(Path(folder.name), keys), **settings}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    service = Service(f"http://127.0.0.1:{port}", key, process, folder)
    try:
        for _ in range(300):
            with suppress(httpx.TransportError):
                if httpx.get(f"{service.url}/readyz").status_code == 200:
                    return service
            if process.poll() is not None:
                break
            time.sleep(0.2)
        raise SystemExit("the service did not start")
    except BaseException:
        service.stop()
        raise


def run(command: Callable[..., None]) -> None:
    """Run a command of this folder. SIGTERM ends it as Ctrl-C does, so that it stops the service that it started."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    typer.run(command)


if __name__ == "__main__":
    run(main)
