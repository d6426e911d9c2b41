"""A training that is killed, or finds the disk full, loses no model and leaves a store that works. Slow: `make test-fault`."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import warm
from running import ROOT, run_cli, use_models

from serving.bundle import read_bundle
from serving.journal import champions, journal_path, read_journal
from serving.model_store import find_in_store
from training.home_credit.generator import generate

KILLS, FILLS, CHANGES = (int(os.environ.get(name, number)) for name, number in (("KILLS", 40), ("FILLS", 20), ("CHANGES", 34)))
# A round takes 10 s alone. Beside much other work, a training alone may take minutes; that is not a hang.
HANGING = 1200.0
pytestmark = [pytest.mark.fault, pytest.mark.timeout(2 * HANGING + 120 * max(KILLS, FILLS, CHANGES))]
SETTINGS = {
    "CREDIT_TRAINING__BOOTSTRAP_SAMPLES": "20",
    "CREDIT_TRAINING__FOLDS": "2",
    "CREDIT_TRAINING__LIGHTGBM__NUM_TREES": "5",
    "CREDIT_TRAINING__LIGHTGBM__LEARNING_RATE": "0.3",
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    generate(folder, 1500, seed=1, history=False)
    return folder


def environment_of(place: Path, seed: int) -> dict[str, str]:
    """Everything that is written lies there; each seed makes another model."""
    temporary = place / "tmp"
    temporary.mkdir(exist_ok=True)
    homes = {"CREDIT_HOME": str(place / "credit"), "BENTOML_HOME": str(place / "bentoml"), "TMPDIR": str(temporary)}
    return {**os.environ, **SETTINGS, **homes, "CREDIT_TRAINING__SEED": str(seed)}


def listed(place: Path) -> set[str]:
    """The versions that the model store lists, each of them whole."""
    from bentoml._internal.models import ModelStore

    folder = place / "bentoml" / "models"
    entries = ModelStore(folder).list() if folder.is_dir() else []
    for entry in entries:
        assert read_bundle(Path(entry.path)).version == entry.tag.version
    return {str(entry.tag.version) for entry in entries}


def check(place: Path, data: Path, seed: int, before: set[str]) -> set[str]:
    """What was there is there, what is served is whole, nothing half-made is listed, and training works."""
    found = listed(place)
    assert before <= found
    environment = environment_of(place, seed)
    if before:
        verified = run_cli(["verify"], environment, timeout=HANGING)
        assert verified.returncode == 0, verified.stderr
    first = ["--if-missing"] if not before else []
    again = run_cli(["train", *first, "--data", str(data)], environment, timeout=HANGING)
    assert again.returncode == 0, again.stderr
    assert "Traceback" not in again.stderr
    assert "warning: credit_scoring" not in again.stdout  # it is on record
    assert not (place / "bentoml" / "models" / "credit-scoring.partial").exists()
    assert not [path for path in (place / "credit").rglob("*partial*") if "mlartifacts" not in path.parts]
    return listed(place)


def start(environment: dict[str, str], *arguments: str) -> warm.Process:
    with Path(os.devnull).open("w") as nothing:
        return warm.start("credit-scoring", list(arguments), environment, ROOT, nothing.fileno(), nothing.fileno())


def told_champion(place: Path) -> str:
    """The champion that the journal names, checked against what is found and served."""
    use_models(place / "bentoml" / "models")
    events = read_journal(journal_path(place / "bentoml" / "models", "credit_scoring"))
    assert events is not None
    named = champions(events)[-1]
    assert find_in_store("credit_scoring", "champion").name == named
    return named


def test_whatever_is_killed_one_champion_is_served_and_the_journal_names_it(tmp_path: Path, data: Path) -> None:
    rng, environment = random.Random(1), environment_of(tmp_path, 0)
    first = run_cli(["train", "--if-missing", "--data", str(data)], environment)
    assert first.returncode == 0, first.stderr
    assert run_cli(["train", "--data", str(data)], environment_of(tmp_path, 1)).returncode == 0
    versions = sorted(listed(tmp_path))
    assert len(versions) == 2
    took: dict[str, float] = {}
    for number in range(CHANGES):
        other = next(version for version in versions if version != told_champion(tmp_path))
        commands = {
            "promote": ("promote", other, "--reason", f"kill {number}"),
            "rollback": ("rollback",),
            "decide": ("decide", "--threshold", f"0.{20 + number}", "--reason", f"kill {number}"),
            "train": ("train", "--data", str(data)),
        }
        name = list(commands)[number % len(commands)]
        before, own = told_champion(tmp_path), environment_of(tmp_path, 100 + number if name == "train" else 0)
        if name not in took:  # once whole, to know how long it takes
            begun = time.monotonic()
            assert start(own, *commands[name]).wait(600) == 0
            took[name] = time.monotonic() - begun
            continue
        process = start(own, *commands[name])
        time.sleep(rng.uniform(0.0, 1.1) * took[name])
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        now = told_champion(tmp_path)
        assert now == before or name in ("promote", "rollback")
        assert now in listed(tmp_path)
        assert run_cli(["verify"], environment).returncode == 0
        shown = run_cli(["models"], environment)
        assert f"a service that starts now serves {now}, the champion" in shown.stdout
    assert run_cli(["promote", versions[0], "--reason", "the end"], environment).returncode == 0
    assert told_champion(tmp_path) == versions[0]


def test_trainings_that_are_killed_at_random_moments_lose_no_model(tmp_path: Path, data: Path) -> None:
    rng, versions = random.Random(0), set[str]()
    begun = time.monotonic()
    assert start(environment_of(tmp_path, 0), "train", "--if-missing", "--data", str(data)).wait(HANGING) == 0
    whole = time.monotonic() - begun
    shutil.rmtree(tmp_path / "credit")  # the first kills meet a home without a database
    versions = listed(tmp_path)
    for number in range(1, KILLS + 1):
        process = start(environment_of(tmp_path, number), "train", "--data", str(data))
        time.sleep(rng.uniform(0.2, 1.1) * whole)
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if number % 4 == 0:
            versions = check(tmp_path, data, number, versions)
        else:
            assert versions <= listed(tmp_path)
    assert len(versions) >= KILLS // 4


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 64 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_is_full_at_any_moment_loses_no_model(small_disk: Path, data: Path) -> None:
    filler, versions = small_disk / "filler", set[str]()
    for number in range(FILLS):
        if number % 5 == 0:  # with a cache and a database, and without
            shutil.rmtree(small_disk / "credit", ignore_errors=True)
        environment = environment_of(small_disk, number)
        free = shutil.disk_usage(small_disk).free
        filler.write_bytes(bytes(max(0, free - number * 7 % FILLS * 200_000)))
        first = ["--if-missing"] if not versions else []
        result = run_cli(["train", *first, "--data", str(data)], environment, timeout=HANGING)
        assert "Traceback" not in result.stderr, result.stderr
        saved = result.returncode == 0
        assert saved or result.stderr.startswith("error: "), result.stderr
        filler.unlink()
        if saved and "warning: credit_scoring" in result.stdout:
            version = result.stdout.rpartition("credit-scoring record ")[2].partition("`")[0]
            assert version in listed(small_disk)
            assert run_cli(["record", version], environment, timeout=HANGING).returncode == 0
        versions = check(small_disk, data, number, versions)
    assert len(versions) == FILLS
