"""How the image is built by BentoML, as far as it goes without an engine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from running import ROOT, Home

BENTOML_ISSUE_5566 = """
import sys
from pathlib import Path
from bentoml._internal.container import construct_containerfile
from bentoml._internal.bento import Bento
with construct_containerfile(Bento.from_path(sys.argv[1]), enable_buildkit=False) as (_, dockerfile):
    print(Path(dockerfile).read_text())
"""


@pytest.fixture(scope="module")
def own(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A copy of the trained home, since a bento is built into it."""
    return home.copy(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def bento(own: Home) -> Path:
    """The folder of a bento of this tree."""
    command = [str(Path(sys.executable).with_name("bentoml")), "build", "-o", "tag"]
    result = subprocess.run(command, cwd=ROOT, env={**os.environ, **own.environment}, capture_output=True, text=True, check=True)
    name, _, version = result.stdout.strip().removeprefix("__tag__:").partition(":")
    return own.path / "bentoml/bentos" / name / version


def render(bento: Path, own: Home, temporary: Path) -> "subprocess.CompletedProcess[str]":
    """Let BentoML render the Dockerfile of a bento, as `bentoml containerize` does."""
    environment = {**os.environ, **own.environment, "TMPDIR": str(temporary)}
    return subprocess.run(
        [sys.executable, "-c", BENTOML_ISSUE_5566, str(bento)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_bentoml_renders_the_template_with_a_temporary_folder_in_the_project(bento: Path, own: Home) -> None:
    temporary = ROOT / "build/tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    result = render(bento, own, temporary)
    assert result.returncode == 0, result.stderr
    assert "FROM scratch AS distroless" in result.stdout
    assert "--require-hashes" in result.stdout
    assert "CREDIT_LOG__DURABILITY=fsync" in result.stdout


def test_bentoml_still_refuses_the_template_elsewhere(bento: Path, own: Home, tmp_path: Path) -> None:
    """BentoML issue 5566. When this fails, it is solved: take TMPDIR out of configs/deploy/image/build.py, and this test away."""
    result = render(bento, own, tmp_path)
    assert result.returncode != 0
    assert "Accessing file outside of current working directory is not allowed" in result.stderr


def test_the_packages_of_the_bento_have_hashes(bento: Path) -> None:
    """But BentoML itself, which it appends once more; the template drops that line."""
    lines = (bento / "env/python/requirements.txt").read_text().splitlines()
    bare = [line for line in lines if "==" in line and not line.endswith("\\") and "--hash" not in line]
    assert all(line.startswith("bentoml==") for line in bare), bare


def test_the_image_asks_for_keys() -> None:
    variables = {item["name"]: item["value"] for item in yaml.safe_load((ROOT / "bentofile.yaml").read_text())["envs"]}
    assert variables["BENTOML_HOST"] == "0.0.0.0"  # noqa: S104 - what the test is about
    assert "CREDIT_AUTH" not in variables
