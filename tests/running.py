"""The product, run as its user would run it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx

from serving.bundle import find_in_store

ROOT = Path(__file__).parents[1]


class Home(NamedTuple):
    """Folders of a trained model, and the environment that points at them."""

    path: Path
    environment: dict[str, str]


class Server(NamedTuple):
    """A running service."""

    url: str
    process: "subprocess.Popen[str]"
    log: Path


def bundle_folder(home: Home) -> Path:
    """The folder of the model in the store of a home."""
    from bentoml._internal.configuration.containers import BentoMLContainer
    from bentoml._internal.models import ModelStore

    BentoMLContainer.model_store.set(ModelStore(home.path / "bentoml" / "models"))
    return find_in_store("credit_scoring", "latest")


def run_cli(arguments: list[str], environment: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """Run the command line as a user would."""
    command = [str(Path(sys.executable).with_name("credit-scoring")), *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def serve(home: Home, folder: Path, *arguments: str, target: str = ".", **environment: str) -> Iterator[Server]:
    """Run `bentoml serve` until it is ready; end its whole process group afterwards."""
    port, log = free_port(), folder / "service.log"
    command = [str(Path(sys.executable).with_name("bentoml")), "serve", target, "--port", str(port), *arguments]
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            env={**home.environment, **environment},
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                if httpx.get(f"{url}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield Server(url, process, log)
    finally:
        for step in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, step)
                process.wait(20)
