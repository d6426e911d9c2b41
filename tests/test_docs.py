"""The commands, figures, links and names that the guides show."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import typer
from running import ROOT, Home, Server, run, run_cli

from configs.settings import FILE_VARIABLE, PREFIX, Settings, load_settings
from features.transform import feature_pool
from training.cli import app
from training.console import RESULTS

FOLDERS = [folder for folder in ROOT.iterdir() if folder.is_dir() and (folder.name == ".github" or not folder.name.startswith("."))]
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in folder.rglob("*.md"))])
GUIDES = [page for page in PAGES if page.name not in ("NOTES.md", "CHANGELOG.md")]  # what their readers do, and how it is now
PACKAGES = ("configs", "features", "loadtests", "monitoring", "serving", "tests", "training")
MOST_LINES = 150  # of a guide
MOST_CHARACTERS = 120  # of a line that Markdown lets break


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(guide: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", guide.read_text(), re.DOTALL | re.MULTILINE)


def commands(guide: Path) -> list[list[str]]:
    lines = [line for block in blocks(guide, "sh") for line in re.split(r"\n(?=\w)", block.strip())]
    return [shlex.split(line) for line in lines if not line.startswith(". ")]  # not what sets up the reader's own shell


def test_every_folder_has_its_guide() -> None:
    folders = {"configs", "dashboard", "deploy", "features", "loadtests", "monitoring", "serving", "training", "tests"}
    assert {guide.parent.name for guide in GUIDES if guide.name == "README.md" and guide.parent != ROOT} == folders
    linked = {(page.parent / target).resolve() for page in PAGES for target, _ in links(page)}
    assert set(PAGES) - linked <= {ROOT / "README.md"}, "a page that no other leads to"


def links(page: Path) -> list[tuple[str, str]]:
    found = re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]*))?\)", page.read_text())
    return [(target or page.name, anchor) for target, anchor in found]


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in links(page):
        assert (page.parent / target).exists(), target
        assert not anchor or anchor in anchors(page.parent / target), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_page_is_short_and_its_lines_fit_a_screen(page: Path) -> None:
    text = page.read_text()
    assert page not in GUIDES or len(text.splitlines()) <= MOST_LINES
    prose = re.sub(r"^```.*?^```|^<!-- [\w-]+: begin.*?: end -->", "", text, flags=re.DOTALL | re.MULTILINE)
    unbreakable = ("|", "![", "    ")  # tables, pictures, code
    assert not [line for line in prose.splitlines() if len(line) > MOST_CHARACTERS and not line.startswith(unbreakable)]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_tables_have_as_many_cells_in_each_row(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = table.splitlines()
        assert re.fullmatch(r"\|(?:\s*-+\s*\|)+", rows[1]), rows[0]
        assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {rows[0].count("|")}, rows[0]


def test_the_drawing_is_for_light_and_dark_pages() -> None:
    drawing = ROOT / "serving/walks.svg"
    assert ET.parse(drawing).getroot().find("{*}title") is not None  # noqa: S314 - a file of the project
    style = drawing.read_text().split("<style>")[1].split("</style>")[0]
    light, dark = (set(re.findall(r"(--[\w-]+):", part)) for part in style.split("prefers-color-scheme: dark"))
    assert light == dark
    assert light == set(re.findall(r"var\((--[\w-]+)\)", style))


def is_module(name: str) -> bool:
    """Whether a dotted name is a module or package of the project, or what a module defines."""
    path = ROOT / name.replace(".", "/")
    if path.with_name(f"{path.name}.py").is_file() or path.is_dir():
        return True
    file = path.parent.with_name(f"{path.parent.name}.py")
    if not file.is_file():
        file = path.parent / "__init__.py"
    body = ast.parse(file.read_text()).body if file.is_file() else []
    defined = {node.name for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)}
    defined |= {target.id for node in body if isinstance(node, ast.Assign) for target in node.targets if isinstance(target, ast.Name)}
    return path.name in defined


def is_setting(name: str) -> bool:
    model: object = Settings
    for part in name.split("."):
        fields = getattr(model, "model_fields", {})
        if part not in fields:
            return False
        model = fields[part].annotation
    return True


def test_names_of_modules_and_settings_are_told_apart_from_what_is_gone() -> None:
    assert is_module("serving.decision")
    assert is_module("serving.decision.Decision")
    assert is_module("monitoring.store.migrations")
    assert not is_module("serving.gone")
    assert not is_module("serving.decision.gone")
    assert is_setting("training.lightgbm.num_leaves")
    assert not is_setting("training.gone")


@pytest.mark.parametrize("guide", GUIDES, ids=named)
def test_modules_files_settings_and_variables_that_a_guide_names_exist(guide: Path) -> None:
    code = re.findall(r"`([^`\n]+)`", guide.read_text())
    roots = (*PACKAGES, *(name for name in Settings.model_fields if name not in ("home", "auth")))
    dotted = [
        name
        for name in code
        if re.fullmatch(rf"(?:{'|'.join(roots)})(?:\.\w+)+", name) and not re.search(r"\.(?:py|json|jsonl|db|yaml)$", name)
    ]
    assert not [name for name in dotted if not is_module(name) and not is_setting(name)]
    files = [name for name in code if re.fullmatch(r"[\w./-]+\.(?:py|ya?ml|sh)", name) and not name.startswith("/")]
    assert not [name for name in files if not any((folder / name).exists() for folder in (ROOT, guide.parent, ROOT / "configs/prometheus"))]
    variables = set(re.findall(rf"\b({PREFIX}[A-Z_]+)\b", guide.read_text()))
    variables -= {FILE_VARIABLE, *feature_pool()}
    assert not [name for name in variables if not is_setting(name.removeprefix(PREFIX).lower().replace("__", "."))]


def test_the_limits_in_the_guide_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    service = load_settings().service.model_dump()
    rows = re.findall(r"^\| (`[^|]*) \| ([\d, ]+) \|", (ROOT / "serving/OPERATION.md").read_text(), re.MULTILINE)
    shown = {}
    for names, defaults in rows:
        shown |= dict(zip(re.findall(r"`(\w+)`", names), re.split(r", ", defaults), strict=True))
    assert len(shown) > 8
    assert {name: float(default.replace(",", "")) for name, default in shown.items()} == {name: service[name] for name in shown}


def test_every_command_that_is_named_exists() -> None:
    root = typer.main.get_command(app)
    named = {
        tuple(found)
        for guide in GUIDES
        for found in re.findall(r"(?<!-n )credit-scoring ([a-z][a-z-]+)(?: ([a-z]+)\b)?", guide.read_text())
    }
    assert len(named) > 20
    for name, second in named:
        command = getattr(root, "commands", {}).get(name)
        assert command, name
        assert not hasattr(command, "commands") or second in command.commands, (name, second)


@pytest.mark.service
def test_the_commands_run(home: Home, server: Server, tmp_path: Path) -> None:
    environment = {**home.environment, "BENTOML_HOME": str(tmp_path / "bentoml"), "CREDIT_HOME": str(tmp_path / "credit")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    ran, version = set(), ""
    for guide in sorted(GUIDES, key=lambda guide: (guide.parent, guide.name != "README.md")):  # as they are read
        for command in commands(guide):
            own = environment.copy()
            while "=" in command[0]:  # a variable before the command
                own.update([command.pop(0).split("=")])
            command = [version if part == "VERSION" else part for part in command]  # noqa: PLW2901
            if command[0] == "make":
                command = [*command[:1], "-n", "-C", str(ROOT), *command[1:]]  # noqa: PLW2901
            command = [part.replace("http://127.0.0.1:3000", server.url).replace("5000", "3000") for part in command]  # noqa: PLW2901
            if command[0] == "credit-scoring":
                result = run(*command[:1], command[1:], own, tmp_path)
            else:
                result = subprocess.run(command, env=own, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
            assert result.returncode == 0, (command, result.stderr)
            ran.add(command[0])
            version = (
                result.stdout.rpartition("credit-scoring promote ")[2].split()[0] if "credit-scoring promote " in result.stdout else version
            )
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
    (page, mark) for page in PAGES for mark in re.findall(r"<!-- ([\w-]+): begin -->", page.read_text())
]  # fmt: skip


def test_the_guides_show_what_was_measured() -> None:
    assert {mark for _, mark in MEASURED} == {
        "training", "bench", "paired", "fidelity", "history", "comparison", "selection", "drift-power",
    }  # fmt: skip
    for folder in {page.parent for page in PAGES}:
        results = folder / RESULTS
        kept = json.loads(results.read_text()) if results.is_file() else {}
        shown = {mark for page, mark in MEASURED if page.parent == folder}
        assert set(kept) == shown, "a result without its table, or the other way round"


@pytest.mark.slow
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
