"""The commands and figures that the guides show."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from running import ROOT, Home, Server, run, run_cli

from training.console import RESULTS

OTHERS = "build", *(path.name for path in ROOT.glob(".*"))  # what is made, and hidden folders
GUIDES = sorted(path for path in ROOT.glob("**/README.md") if path.relative_to(ROOT).parts[0] not in OTHERS)


def blocks(guide: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", guide.read_text(), re.DOTALL | re.MULTILINE)


def commands(guide: Path) -> list[list[str]]:
    lines = [line for block in blocks(guide, "sh") for line in re.split(r"\n(?=\w)", block.strip())]
    return [shlex.split(line) for line in lines]


def test_every_folder_has_its_guide() -> None:
    folders = {"configs", "deploy", "features", "loadtests", "monitoring", "serving", "training", "tests"}
    assert {guide.parent.name for guide in GUIDES if guide.parent != ROOT} == folders


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.parent.name)
def test_links_lead_somewhere(guide: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", guide.read_text()):
        assert (guide.parent / target).exists(), target


def test_every_make_target_that_is_shown_exists() -> None:
    shown = {target for guide in GUIDES for target in re.findall(r"`?\bmake ([a-z]+)\b(?=[ `\n])", guide.read_text())}
    assert {"run", "test", "train", "image"} <= shown
    defined = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert shown - {"the", "a"} <= defined


@pytest.mark.service
def test_the_commands_run(home: Home, server: Server, tmp_path: Path) -> None:
    environment = {**home.environment, "BENTOML_HOME": str(tmp_path / "bentoml"), "CREDIT_HOME": str(tmp_path / "credit")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    ran = set()
    for guide in GUIDES:
        for command in commands(guide):
            if command[0] == "make":
                command = [*command[:1], "-n", "-C", str(ROOT), *command[1:]]  # noqa: PLW2901
            command = [part.replace("http://127.0.0.1:3000", server.url).replace("5000", "3000") for part in command]  # noqa: PLW2901
            if command[0] == "credit-scoring":
                result = run(*command[:1], command[1:], environment, tmp_path)
            else:
                result = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
            assert result.returncode == 0, (command, result.stderr)
            ran.add(command[0])
            if command[0] == "curl":
                (shown,) = blocks(guide, "json")
                assert list(json.loads(result.stdout)) == list(json.loads(shown))
    assert ran == {"make", "curl", "credit-scoring"}


@pytest.mark.service
def test_the_python_examples_run(server: Server, tmp_path: Path) -> None:
    examples = [block for guide in GUIDES for block in blocks(guide, "python")]
    assert examples
    for example in examples:
        (tmp_path / "example.py").write_text(example.replace("http://127.0.0.1:3000", server.url))
        result = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 0, result.stderr
        assert "APPROVE" in result.stdout or "DECLINE" in result.stdout


def test_curl_is_the_only_program_the_guides_need() -> None:
    shown = {command[0] for guide in GUIDES for command in commands(guide)}
    assert shown == {"make", "curl", "credit-scoring"}
    assert shutil.which("curl")


MEASURED = [
    (guide, mark) for guide in GUIDES for mark in re.findall(r"<!-- ([\w-]+): begin -->", guide.read_text())
]  # fmt: skip


def test_the_guides_show_what_was_measured() -> None:
    assert {mark for _, mark in MEASURED} == {
        "training", "bench", "paired", "fidelity", "history", "comparison", "selection", "drift-power",
    }  # fmt: skip
    for guide in GUIDES:
        results = guide.with_name(RESULTS)
        kept = json.loads(results.read_text()) if results.is_file() else {}
        assert set(kept) == {mark for other, mark in MEASURED if other == guide}, "a result without its table, or the other way round"


@pytest.mark.parametrize(("guide", "mark"), MEASURED, ids=[mark for _, mark in MEASURED])
def test_a_measured_table_is_that_of_its_result_and_names_command_commit_and_date(guide: Path, mark: str) -> None:
    result = json.loads(guide.with_name(RESULTS).read_text())[mark]
    table = guide.read_text().split(f"<!-- {mark}: begin -->\n")[1].split(f"\n<!-- {mark}: end -->")[0]
    assert table.splitlines() == result["table"]
    assert len(result["table"]) > 5
    assert date(2026, 1, 1) <= date.fromisoformat(result["date"]) <= datetime.now(UTC).date()
    assert re.fullmatch(r"[0-9a-f]{12}\+?", result["commit"])
    program, *arguments = shlex.split(result["command"])
    if program == "python":
        assert (ROOT / f"{arguments[1].replace('.', '/')}.py").is_file()
    else:
        assert (program, run_cli([arguments[0], "--help"]).returncode) == ("credit-scoring", 0)
