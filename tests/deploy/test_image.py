"""The image that `make image` builds, run as platforms run it; by `make test-deploy`, which builds it first."""

import csv
import io
import json
import os
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import httpx
import pytest
from records import wait_for
from running import ROOT, free_port
from steady import SteadyLoad

from features.schema import Table
from serving.bundle import read_bundle
from serving.contract.requests import RequestParser
from serving.model_store import find_in_store
from serving.pipeline import Pipeline

pytestmark = pytest.mark.container

IMAGE = os.environ.get("IMAGE", "credit-scoring:latest")
HARDENED = ["--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--user=54321:0", "--memory=512m"]
NOT_IN_IT = {
    "sh",
    "bash",
    "dash",
    "busybox",
    "apt",
    "apt-get",
    "dpkg",
    "cc",
    "gcc",
    "ld",
    "pip",
    "pip3",
    "uv",
    "git",
    "curl",
    "wget",
    "perl",
}
OWN_FILES = {"etc/passwd", "etc/group", "etc/nsswitch.conf", "etc/ld.so.cache", "etc/ssl/certs/ca-certificates.crt"}
OF_ENGINES = re.compile(r"(dev|proc|sys|run|etc/(hosts|hostname|resolv\.conf|mtab)|\.dockerenv)(/|$)")
APPLICATION = {"AMT_INCOME_TOTAL": 180000, "AMT_CREDIT": 450000, "AMT_ANNUITY": 24000, "DAYS_BIRTH": -13500, "EXT_SOURCE_2": 0.58}


class Engine:
    """Docker or podman."""

    def __init__(self, program: str) -> None:
        self.program = program

    def __call__(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([self.program, *arguments], capture_output=True, text=True, check=check, timeout=300)

    def inspect(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("image", "inspect", IMAGE).stdout)[0]
        return found


@pytest.fixture(scope="module")
def engine(need: Callable[..., str]) -> Engine:
    found = Engine(need(*([os.environ["BACKEND"]] if "BACKEND" in os.environ else ["docker", "podman"]), in_ci=False))
    if found("image", "inspect", IMAGE, check=False).returncode:
        pytest.fail(f"there is no image {IMAGE}; make it with `make image`")
    return found


@pytest.fixture(scope="module")
def distroless(engine: Engine) -> None:
    if engine("run", "--rm", "--entrypoint=sh", IMAGE, "-c", "true", check=False).returncode == 0:
        pytest.skip("the image is the slim flavour, which has a shell")


def test_its_size(engine: Engine, distroless: None) -> None:
    assert engine.inspect()["Size"] < 400_000_000


def test_its_labels_say_what_it_is(engine: Engine) -> None:
    labels = engine.inspect()["Config"]["Labels"]
    title = "org.opencontainers.image"
    for name in (f"{title}.source", f"{title}.revision", f"{title}.version", "credit-scoring.model", "credit-scoring.trained_on"):
        assert labels[name]


@pytest.fixture(scope="module")
def contents(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tarfile.TarFile]:
    file = tmp_path_factory.mktemp("image") / "contents.tar"
    identifier = engine("create", IMAGE).stdout.strip()
    try:
        engine("export", "-o", str(file), identifier)
    finally:
        engine("rm", "-v", identifier)
    with tarfile.open(file) as tar:
        yield tar


def test_each_file_is_from_a_locked_package_a_named_system_package_or_the_bento(contents: tarfile.TarFile, distroless: None) -> None:
    members = {member.name.removeprefix("./"): member for member in contents.getmembers()}

    def read(name: str) -> str:
        file = contents.extractfile(members[name])
        assert file is not None
        return file.read().decode()

    locked = set(re.findall(r"^([a-z0-9.-]+)==([^ ;\\]+)", (ROOT / "configs/requirements/serve.txt").read_text(), re.MULTILINE))
    known = set(OWN_FILES)
    for name in members:
        if name.startswith("var/lib/dpkg/status.d/"):
            known |= {name}
            if name.endswith(".md5sums"):
                known |= {line.split("  ", 1)[1] for line in read(name).splitlines()}
                known |= {f"usr/share/doc/{PurePosixPath(name).name.removesuffix('.md5sums')}/copyright"}
        if name.endswith(".dist-info/RECORD"):
            folder = PurePosixPath(name).parent
            package, _, version = folder.name.removesuffix(".dist-info").rpartition("-")
            assert (re.sub(r"[-_.]+", "-", package).lower(), version) in locked, f"{folder.name} is not in the lock"
            known |= {os.path.normpath(folder.parent / row[0]) for row in csv.reader(io.StringIO(read(name)))}
    links = {name: member.linkname for name, member in members.items() if member.issym()}
    known |= {f"usr/{name}" for name in known if name.startswith("lib")}  # /lib is a link to it
    standard = re.compile(r"usr/(local/)?(lib/python3\.11/|bin/python3|lib/libpython3)")
    strange = [
        name
        for name, member in members.items()
        if member.isfile()
        and name not in known
        and not standard.match(name)
        and not OF_ENGINES.match(name)
        and not name.startswith("app/bento/")
        and not (name.endswith(".pyc") and re.sub(r"__pycache__/(.*)\.cpython-311\.pyc$", r"\1.py", name) in known)
    ]
    assert strange == []
    assert {PurePosixPath(name).name for name in (*members, *links) if re.search(r"(^|/)s?bin/", name)} & NOT_IN_IT == set()


def test_the_bento_in_it_holds_the_code_of_this_tree(contents: tarfile.TarFile) -> None:
    source = {name.removeprefix("./").removeprefix("app/bento/src/") for name in contents.getnames() if "app/bento/src/" in name}
    python = {name for name in source if name.endswith(".py")}
    assert python == {
        "service.py",
        *(str(path.relative_to(ROOT)) for folder in ("configs", "features") for path in (ROOT / folder).glob("*.py")),
        *(str(path.relative_to(ROOT)) for folder in ("monitoring", "serving") for path in (ROOT / folder).rglob("*.py")),
    }


def test_without_keys_it_does_not_start(engine: Engine) -> None:
    result = engine("run", "--rm", *HARDENED, "--tmpfs=/tmp", "--tmpfs=/home/bentoml/credit:mode=0777", IMAGE, check=False)
    assert result.returncode != 0
    assert "refusing to listen on 0.0.0.0 without authentication" in result.stderr


@contextmanager
def started(engine: Engine, *options: str) -> Iterator[tuple[str, str]]:
    """A container as a platform runs it, on a port that the platform chose: its id and its address, once it is ready."""
    port = free_port()
    own = ["--tmpfs=/tmp", f"--publish=127.0.0.1:{port}:8080", "--env=PORT=8080", "--env=CREDIT_AUTH=disabled"]
    identifier = engine("run", "--detach", *HARDENED, *own, *options, IMAGE).stdout.strip()
    url = f"http://127.0.0.1:{port}"
    try:

        def ready() -> bool:
            with suppress(httpx.TransportError):
                return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
            return False

        try:
            wait_for(ready, seconds=240)
        except AssertionError:
            pytest.fail(engine("logs", identifier).stderr)
        yield identifier, url
    finally:
        engine("rm", "--force", "-v", identifier, check=False)


@pytest.fixture(scope="module")
def running(engine: Engine) -> Iterator[tuple[str, str]]:
    """A container that keeps nothing: its id and its address."""
    with started(engine, "--tmpfs=/home/bentoml/credit:mode=0777") as container:
        yield container


def test_its_answers_are_those_of_its_model_to_the_last_bit(engine: Engine, running: tuple[str, str]) -> None:
    name, _, version = engine.inspect()["Config"]["Labels"]["credit-scoring.model"].partition(":")
    bundle = read_bundle(find_in_store(name, version))
    row = RequestParser(bundle.features, max_rows=1).parse_one(json.dumps({"application": APPLICATION}).encode())
    (pd,) = Pipeline(bundle).score([row]).pds
    answer = httpx.post(f"{running[1]}/predict", json={"application": APPLICATION}, timeout=30).json()
    assert answer["probability"] == float(pd)
    assert answer["model_version"] == version


def test_its_health_check_needs_no_other_program(engine: Engine, running: tuple[str, str]) -> None:
    image = engine.inspect()
    health = image["Config"].get("Healthcheck") or image["Healthcheck"]  # docker, podman
    assert health["Test"] == ["CMD", "python3", "-m", "serving.container", "check"]
    assert engine("exec", running[0], "python3", "-m", "serving.container", "check").returncode == 0
    assert engine("exec", "--env=PORT=9", running[0], "python3", "-m", "serving.container", "check", check=False).returncode == 1


def test_the_command_line_is_in_it(engine: Engine, running: tuple[str, str]) -> None:
    for command in ("verify-log", "verify"):
        result = engine("exec", running[0], "python3", "-m", "serving.container", command)
        assert result.returncode == 0, result.stderr
    assert engine.inspect()["Config"]["Labels"]["credit-scoring.model"] in result.stdout


def test_its_memory(engine: Engine, running: tuple[str, str]) -> None:
    """As far as the engine tells: less than half of the 512 MB that platforms are asked for."""
    identifier = running[0]
    pids = (
        engine("top", identifier, "-eo", "pid", check=False).stdout.split()[1:]
        if "docker" in engine.program
        else engine("top", identifier, "hpid").stdout.split()[1:]
    )
    shares = [re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE) for pid in pids]
    assert 50_000 < sum(int(share[1]) for share in shares if share) < 256_000


def test_sigterm_under_load_ends_it_in_time_and_loses_nothing_that_it_accepted(engine: Engine, table: Table) -> None:
    volume = f"credit-test-{os.getpid()}"
    state = f"--volume={volume}:/home/bentoml/credit"
    try:
        with started(engine, state) as (identifier, url), SteadyLoad("127.0.0.1", int(url.rpartition(":")[2]), table) as load:
            wait_for(lambda: len(load.answered) > 200)
            engine("kill", "--signal=TERM", identifier)
            begun = datetime.now(UTC)
            assert engine("wait", identifier).stdout.strip() == "0"
            (ended,) = json.loads(engine("inspect", identifier).stdout)
            took = (datetime.fromisoformat(ended["State"]["FinishedAt"]) - begun).total_seconds()
        program = "import glob; [print(open(file).read()) for file in glob.glob('/home/bentoml/credit/logs/predictions*.jsonl')]"
        log = engine("run", "--rm", *HARDENED, "--tmpfs=/tmp", state, "--entrypoint=python3", IMAGE, "-c", program).stdout
    finally:
        engine("volume", "rm", "--force", volume, check=False)
    print(f"{len(load.answered)} answered, ended after {took:.1f} s, {load.failures}")  # noqa: T201
    assert took < 10
    assert [failure for failure in load.failures if "ConnectionRefusedError" not in failure] == []  # nobody else takes requests over
    assert set(load.statuses) == {200}
    assert set(load.answered) <= set(re.findall(r'"prediction_id":"([^"]+)', log))
