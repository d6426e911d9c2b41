"""What make hands to the commands arrives as it was given."""

import os
import subprocess
from pathlib import Path

import pytest
from running import ROOT

NAMES = ["data", "my data", "it's mine", 'a "b"', "a$b", "100%", "a;b&c", "ä?#*"]


def run(tmp_path: Path, *arguments: str, **environment: str) -> list[str]:
    program = tmp_path / "credit-scoring"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    (tmp_path / "ready").touch()
    command = ["make", "-s", "-o", str(tmp_path / "ready"), f"BIN={tmp_path}", f"READY={tmp_path / 'ready'}", *arguments]
    result = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@pytest.mark.parametrize("name", NAMES)
def test_data_may_have_any_name(name: str, tmp_path: Path) -> None:
    assert run(tmp_path, "train", f"DATA={name}") == ["train", "--data", name]
    assert run(tmp_path, "train", DATA=name) == ["train", "--data", name]


def test_without_data_the_built_in_ones_are_taken(tmp_path: Path) -> None:
    assert run(tmp_path, "train") == ["train"]


def test_only_an_empty_store_gets_a_model_that_nobody_promoted(tmp_path: Path) -> None:
    (tmp_path / "bentoml").symlink_to(tmp_path / "credit-scoring")
    assert run(tmp_path, "run") == ["train", "--if-missing", "serve", "--port", "3000"]


def test_mlflow_is_shown_by_the_command_that_knows_its_database(tmp_path: Path) -> None:
    assert run(tmp_path, "mlflow", CREDIT_HOME="a b") == ["mlflow"]
