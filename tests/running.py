"""The product, run as its user would run it."""

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil

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


class Postgres:
    """A PostgreSQL server of its own, on a socket in its folder; as root it runs as another user, since it refuses root."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs, self.folder, self.databases = programs, folder, 0
        self.user: dict[str, str | int] = {}
        if os.getuid() == 0:
            self.user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            shutil.chown(folder, "nobody")
        self.run("initdb", "-D", str(folder / "data"), "-U", "credit", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")

    def run(self, program: str, *arguments: str) -> None:
        command = [str(self.programs / program), *arguments]
        subprocess.run(command, **self.user, cwd=self.folder, check=True, stdout=subprocess.DEVNULL, timeout=60)  # type: ignore[call-overload]

    def start(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.folder}' -c fsync=off"
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-o", options, "-l", str(self.folder / "log"), "-w", "start")

    def stop(self) -> None:
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-m", "fast", "-w", "stop")

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """All its processes as they are under a debugger or on a disk that does not answer: connected, and silent."""
        server = psutil.Process(int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0]))
        processes = [server, *server.children()]
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                process.resume()

    def new_database(self) -> str:
        """The URL of an empty database."""
        self.databases += 1
        name = f"test{self.databases}"
        self.run("createdb", "-h", str(self.folder), "-U", "credit", name)
        return f"postgresql+psycopg://credit@/{name}?host={self.folder}"


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


def as_dict(answer: Any) -> dict[str, Any]:
    """An answer of BentoML's own client."""
    return answer if isinstance(answer, dict) else dict(answer.model_dump())


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def serve(
    home: Home,
    folder: Path,
    *arguments: str,
    target: str = ".",
    scheme: str = "http",
    verify: ssl.SSLContext | bool = True,
    **environment: str,
) -> Iterator[Server]:
    """Run `bentoml serve` until it is ready, with a decision log and a store of its own; end its whole process group afterwards."""
    log = folder / "service.log"
    for _ in range(3):  # a port that was free, ours or BentoML's own, is now and then another's when it is bound
        server = _start(home, folder, log, target, arguments, environment)
        server = server._replace(url=server.url.replace("http", scheme))
        try:
            if _is_ready(server, verify):
                yield server
                return
        finally:
            for step in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(server.process.pid, step)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.process.wait(20)
    raise AssertionError(log.read_text())


def _start(home: Home, folder: Path, log: Path, target: str, arguments: tuple[str, ...], environment: dict[str, str]) -> Server:
    port = free_port()
    command = [str(Path(sys.executable).with_name("bentoml")), "serve", target, "--port", str(port), *arguments]
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            env={**home.environment, "CREDIT_HOME": str(folder / "credit"), **environment},
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    return Server(f"http://127.0.0.1:{port}", process, log)


def _is_ready(server: Server, verify: ssl.SSLContext | bool) -> bool:
    """Wait until the service is ready; False where it ended because a port was taken."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{server.url}/readyz", verify=verify).status_code == 200:
                return True
        if server.process.poll() is not None:
            assert "Address already in use" in server.log.read_text(), server.log.read_text()
            return False
        time.sleep(0.2)
    raise AssertionError(server.log.read_text())
