"""Runs the product as its user would."""

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil
import warm
from typer.testing import CliRunner

from serving.model_store import find_in_store

ROOT = Path(__file__).parents[2]


class Home(NamedTuple):
    """The folder with a trained model, and the environment variables that point at it."""

    path: Path
    environment: dict[str, str]

    def files(self) -> dict[Path, int]:
        """When each file of the models was last written, in ns."""
        files = (file for file in (self.path / "bentoml/models").rglob("*") if file.is_file())
        return {file.relative_to(self.path): file.stat().st_mtime_ns for file in files}

    def copy(self, path: Path) -> "Home":
        """The same in another folder, for a test that writes."""
        for name in ("bentoml", "credit"):
            shutil.copytree(self.path / name, path / name)
        return Home(path, {**self.environment, "BENTOML_HOME": str(path / "bentoml"), "CREDIT_HOME": str(path / "credit")})


class Server(NamedTuple):
    """A running service."""

    url: str
    process: "subprocess.Popen[str] | warm.Process"
    log: Path


class Postgres:
    """A PostgreSQL server that listens on a socket in its folder. If the tests run as root, it runs as `nobody`, because it refuses root."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs, self.folder, self.databases = programs, folder, 0
        self.user: dict[str, Any] = {}
        if os.getuid() == 0:
            self.user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            shutil.chown(folder, "nobody")
        self.run("initdb", "-D", str(folder / "data"), "-U", "credit", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")

    def run(self, program: str, *arguments: str) -> None:
        command = [str(self.programs / program), *arguments]
        subprocess.run(command, **self.user, cwd=self.folder, check=True, stdout=subprocess.DEVNULL, timeout=180)

    def start(self, *settings: str) -> None:
        options = " ".join(
            [f"-c listen_addresses='' -c unix_socket_directories='{self.folder}' -c fsync=off", *(f"-c {item}" for item in settings)]
        )
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-o", options, "-l", str(self.folder / "log"), "-w", "start")

    def stop(self) -> None:
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-m", "fast", "-w", "stop")

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Suspend all its processes for the block: connections stay open but get no answer, as with a disk that hangs."""
        server = psutil.Process(int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0]))
        processes = [server, *server.children()]
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                process.resume()

    def new_database(self, *options: str) -> str:
        """The URL of an empty database, made with options of `createdb`."""
        self.databases += 1
        name = f"test{self.databases}"
        self.run("createdb", "-h", str(self.folder), "-U", "credit", *options, name)
        return f"postgresql+psycopg://credit@/{name}?host={self.folder}"


def use_models(folder: Path) -> Path:
    """Make this process use the model store in a folder, which is created if missing; returns the folder."""
    from bentoml._internal.configuration.containers import BentoMLContainer
    from bentoml._internal.models import ModelStore

    folder.mkdir(parents=True, exist_ok=True)
    BentoMLContainer.model_store.set(ModelStore(folder))
    return folder


def bundle_folder(home: Home) -> Path:
    """The folder of the champion in a home's model store, which this process uses from then on."""
    use_models(home.path / "bentoml" / "models")
    return find_in_store("credit_scoring", "champion")


def run(
    program: str,
    arguments: list[str],
    environment: dict[str, str] | None = None,
    cwd: Path = ROOT,
    *,
    fresh: bool = False,
    timeout: float = 300,
) -> "subprocess.CompletedProcess[str]":
    """Run a program of the product, or a module if no program has that name, as a user would.

    Parameters
    ----------
    fresh : start a new interpreter; otherwise fork from a process that has imported the libraries.
    timeout : seconds after which it counts as hanging.
    """
    if fresh:
        command = [str(Path(sys.executable).with_name(program)), *arguments]
        return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = warm.start(program, arguments, environment or dict(os.environ), cwd, output.fileno(), errors.fileno())
        try:
            process.wait(timeout)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for file in (output, errors):
            file.seek(0)
        return subprocess.CompletedProcess([program, *arguments], process.wait(), output.read(), errors.read())


def run_cli(arguments: list[str], environment: dict[str, str] | None = None, *, timeout: float = 300) -> "subprocess.CompletedProcess[str]":
    """Run the command line."""
    return run("credit-scoring", arguments, environment, timeout=timeout)


def call_cli(arguments: list[str], environment: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a command in this process, for tests that do not depend on a process of its own."""
    import training.cli  # noqa: F401 - adds its commands
    from serving.cli import app

    result = CliRunner().invoke(app, arguments, env=environment, catch_exceptions=False)
    return subprocess.CompletedProcess(["credit-scoring", *arguments], result.exit_code, result.stdout, result.stderr)


def as_dict(answer: Any) -> dict[str, Any]:
    """An answer of BentoML's own client as a dict."""
    return answer if isinstance(answer, dict) else dict(answer.model_dump())


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def serve(home: Home, folder: Path, target: str = ".", **environment: str) -> Iterator[Server]:
    """Run the service's worker process with its own decision log and store, but without the parent process of `bentoml serve`."""
    multiprocess = folder / "prometheus"
    multiprocess.mkdir(exist_ok=True)
    own = {"CREDIT_HOME": str(folder / "credit"), "PROMETHEUS_MULTIPROC_DIR": str(multiprocess), "CREDIT_SERVICE__DRAIN_SECONDS": "0"}
    variables = {**home.environment, **own, **environment}
    log = folder / "service.log"
    with socket.create_server(("127.0.0.1", 0)) as listener, log.open("w") as output:
        number = output.fileno()
        arguments = [target, "--fd", str(warm.FIRST_FREE), "--worker-id", "1"]
        process = warm.start("worker", arguments, variables, ROOT, number, number, listener.fileno())
        server = Server(f"http://127.0.0.1:{listener.getsockname()[1]}", process, log)
    yield from _until_ended(server)


def bentoml_serve(
    home: Home,
    folder: Path,
    *arguments: str,
    target: str = ".",
    scheme: str = "http",
    verify: ssl.SSLContext | bool = True,
    port: int | None = None,
    **environment: str,
) -> Iterator[Server]:
    """Run `bentoml serve` with its own decision log and store, yield it when it is ready, and stop its process group afterwards.

    Parameters
    ----------
    port : by default a free one.
    """
    log = folder / "service.log"
    variables = {**home.environment, "CREDIT_HOME": str(folder / "credit"), "CREDIT_SERVICE__DRAIN_SECONDS": "0", **environment}
    for _ in range(3):  # another process may take a free port, ours or BentoML's, before it is bound
        chosen = port or free_port()
        with log.open("w") as output:
            number = output.fileno()
            process = warm.start("bentoml", ["serve", target, "--port", str(chosen), *arguments], variables, ROOT, number, number)
        started = False
        for server in _until_ended(Server(f"{scheme}://127.0.0.1:{chosen}", process, log), verify):
            started = True
            yield server
        if started:
            return
    raise AssertionError(log.read_text())


def _until_ended(server: Server, verify: ssl.SSLContext | bool = True) -> Iterator[Server]:
    """Yield the server when it is ready, or nothing if its port was taken; stop its process group afterwards."""
    try:
        if _is_ready(server, verify):
            yield server
    finally:
        for step in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.process.pid, step)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.process.wait(20)


def _is_ready(server: Server, verify: ssl.SSLContext | bool) -> bool:
    """Wait until the service is ready; False if it ended because a port was taken."""
    deadline = time.monotonic() + 180  # long, because the machine may be busy
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{server.url}/readyz", timeout=60, verify=verify).status_code == 200:
                return True
        if server.process.poll() is not None:
            assert "Address already in use" in server.log.read_text(), server.log.read_text()
            return False
        time.sleep(0.02)
    raise AssertionError(server.log.read_text())
