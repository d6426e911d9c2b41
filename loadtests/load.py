"""Run a Locust load test against the latency target; the exit code says whether it was met."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import httpx
import typer

from configs.settings import load_settings
from loadtests.shapes import SHAPES

ROOT = Path(__file__).parents[1]


def main(
    shape: Annotated[str, typer.Option(help=f"One of {', '.join(SHAPES)}")] = "steady",
    host: Annotated[str | None, typer.Option(help="A running service; without it one is started for the test")] = None,
) -> None:
    """Load the service with users who score applicants, and judge it by `latency_target` of the settings."""
    if shape not in SHAPES:
        raise SystemExit(f"--shape is {shape!r}; expected one of {', '.join(SHAPES)}")
    report = load_settings().home / "reports" / f"loadtest-{shape}.html"
    report.parent.mkdir(parents=True, exist_ok=True)
    service = None if host else start()
    try:
        url = host or f"http://127.0.0.1:{service[1] if service else 0}"
        programs = Path(sys.executable).parent
        locustfile = Path(__file__).with_name("locustfile.py")
        command = [programs / "locust", "-f", locustfile, "--headless", "--only-summary", "--host", url, "--html", report]
        environment = {**os.environ, "LOADTEST_SHAPE": shape, "PYTHONPATH": str(ROOT)}
        code = subprocess.run(command, env=environment, check=False).returncode
    finally:
        if service:
            os.killpg(service[0].pid, signal.SIGTERM)
            service[0].wait(30)
    typer.echo(f"report: {report}")
    raise SystemExit(code)


def start() -> tuple["subprocess.Popen[bytes]", int]:
    """A service on a free port of loopback, ready."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = int(sock.getsockname()[1])
    command = [Path(sys.executable).with_name("bentoml"), "serve", str(ROOT), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    for _ in range(300):
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                return process, port
        except httpx.TransportError:
            pass
        if process.poll() is not None:
            break
        time.sleep(0.2)
    raise SystemExit("the service did not start")


if __name__ == "__main__":
    typer.run(main)
