"""What tests share: a model trained once on generated data, a running service, the programs a test may need."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from configs.settings import Settings, load_settings
from features.schema import Table, load_schema
from serving.bundle import Bundle, find_in_store, read_bundle

ROOT = Path(__file__).parents[1]
REAL_DATA = Path(os.environ.get("HOME_CREDIT_DATA", ROOT.parent / "shared/data/home_credit"))
SMALL = {
    "CREDIT_TRAINING__GENERATED_APPLICATIONS": "4000",
    "CREDIT_TRAINING__BOOTSTRAP_SAMPLES": "20",
    "CREDIT_TRAINING__LIGHTGBM__NUM_TREES": "80",
    "CREDIT_TRAINING__LIGHTGBM__LEARNING_RATE": "0.1",
}


class Home(NamedTuple):
    """Folders of a trained model, and the environment that points at them."""

    path: Path
    environment: dict[str, str]


class Server(NamedTuple):
    """A running service."""

    url: str
    process: "subprocess.Popen[str]"
    log: Path


@pytest.fixture(scope="session")
def table() -> Table:
    return load_schema()["application"]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in {**SMALL, "CREDIT_HOME": str(tmp_path / "home")}.items():
        monkeypatch.setenv(name, value)
    return load_settings()


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A model trained by the command line on 4,000 generated applications."""
    path = tmp_path_factory.mktemp("home")
    environment = {**os.environ, **SMALL, "BENTOML_HOME": str(path / "bentoml"), "CREDIT_HOME": str(path / "credit")}
    result = run_cli(["train"], environment)
    assert result.returncode == 0, result.stdout + result.stderr
    return Home(path, environment)


@pytest.fixture(scope="session")
def bundle(home: Home) -> Bundle:
    return read_bundle(bundle_folder(home))


def bundle_folder(home: Home) -> Path:
    """The folder of the model in the store of a home."""
    from bentoml._internal.configuration.containers import BentoMLContainer
    from bentoml._internal.models import ModelStore

    BentoMLContainer.model_store.set(ModelStore(home.path / "bentoml" / "models"))
    return find_in_store("credit_scoring", "latest")


@pytest.fixture(scope="session")
def server(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from serve(home, tmp_path_factory.mktemp("server"))


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


@pytest.fixture(scope="session")
def real_data() -> Path:
    if not (REAL_DATA / "application_train.parquet").is_file():
        pytest.skip("the real tables are not here; HOME_CREDIT_DATA names their folder")
    return REAL_DATA


@pytest.fixture(scope="session")
def need() -> Callable[[str], str]:
    """Find a program, or skip the test by its name; where CI=true, fail."""

    def find(*names: str) -> str:
        for name in names:
            if path := shutil.which(name):
                return path
        message = f"needs the program {' or '.join(names)}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)

    return find


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
        try:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
