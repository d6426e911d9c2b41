"""What tests share: a model trained once on generated data, a running service, the programs a test may need."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest
import warm
from records import wait_for
from running import ROOT, Home, Postgres, Server, bundle_folder, run_cli, serve

from configs.settings import Settings, load_settings
from features.schema import Table, load_schema
from monitoring.store.database import Store
from serving.bundle import Bundle, read_bundle

REAL_DATA = Path(os.environ.get("HOME_CREDIT_DATA", ROOT.parent / "shared/data/home_credit"))
FAULT_SECONDS = 7200  # each of its waits has a limit of its own
WARM = pytest.StashKey[tuple["subprocess.Popen[bytes]", str]]()
SMALL = {
    "CREDIT_TRAINING__GENERATED_APPLICATIONS": "4000",
    "CREDIT_TRAINING__BOOTSTRAP_SAMPLES": "20",
    "CREDIT_TRAINING__LIGHTGBM__NUM_TREES": "80",
    "CREDIT_TRAINING__LIGHTGBM__LEARNING_RATE": "0.1",
}


def pytest_sessionstart(session: pytest.Session) -> None:
    """Start the process that imports the libraries once, for all programs that tests start, when the first of them does."""
    if warm.ADDRESS not in os.environ and not session.config.option.collectonly:
        folder = tempfile.mkdtemp(prefix="credit-tests-")
        session.config.stash[WARM] = warm.start_server(Path(folder) / "warm"), folder


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End the process that programs are forked from."""
    if started := session.config.stash.get(WARM, None):
        process, folder = started
        process.communicate()
        del os.environ[warm.ADDRESS]
        shutil.rmtree(folder)


@pytest.hookimpl(tryfirst=True)  # before marks choose what runs
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that train a model, and those that need PostgreSQL; let a fault test repeat its fault as often as asked."""
    for item in items:
        if "home" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.model)
        call = getattr(item, "callspec", None)
        if "postgres" in getattr(item, "fixturenames", ()) or (call and call.params.get("store_url") == "postgresql"):
            item.add_marker(pytest.mark.service)
        if item.get_closest_marker("fault"):
            item.add_marker(pytest.mark.timeout(FAULT_SECONDS))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the processes of this run of the tests share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def table() -> Table:
    return load_schema()["application"]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in {**SMALL, "CREDIT_HOME": str(tmp_path / "home")}.items():
        monkeypatch.setenv(name, value)
    return load_settings()


@pytest.fixture(scope="session")
def home(shared: Path) -> Iterator[Home]:
    """A model trained by the command line on 4,000 generated applications; by one process of this run, for all to read."""
    path = shared / "home"
    environment = {**os.environ, **SMALL, "BENTOML_HOME": str(path / "bentoml"), "CREDIT_HOME": str(path / "credit")}
    with (shared / "home.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (path / "trained").exists():
            result = run_cli(["train", "--if-missing"], environment)
            assert result.returncode == 0, result.stdout + result.stderr
            (path / "trained").touch()
    home = Home(path, environment)
    before = home.files()
    yield home
    assert home.files() == before, "a test has written to what all tests read; let it take home.copy()"


@pytest.fixture(scope="session")
def bundle(home: Home) -> Bundle:
    return read_bundle(bundle_folder(home))


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
def postgres(need: Callable[..., str]) -> Iterator[Postgres]:
    """A throw-away PostgreSQL server."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # where Debian puts them, off the path
    search = os.pathsep.join([*map(str, programs), os.environ["PATH"]])
    with tempfile.TemporaryDirectory() as folder:  # pytest closes its own to other users whenever it starts
        server = Postgres(Path(need("initdb", path=search)).parent, Path(folder))
        server.start()
        yield server
        server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    store = Store(store_url)
    yield store
    store.close()


@pytest.fixture(scope="session")
def need() -> Callable[..., str]:
    """Find a program, or skip the test by its name; where CI=true, fail, unless it is one that `.ci/run` does not install."""

    def find(*names: str, path: str | None = None, in_ci: bool = True) -> str:
        for name in names:
            if found := shutil.which(name, path=path):
                return found
        message = f"needs the program {' or '.join(names)}"
        if in_ci and os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)

    return find


@pytest.fixture(scope="session")
def wait_until() -> Callable[[Callable[[], object]], None]:
    """Wait for a condition, at most three minutes: a busy machine may need them."""

    return partial(wait_for, seconds=180)
