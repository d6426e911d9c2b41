import json
import re
from pathlib import Path

import pytest
import typer

from training.console import RESULTS, replace_between


def test_a_table_is_written_with_its_origin_and_the_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = tmp_path / "guide.md"
    guide.write_text("a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n<!-- y: begin -->\n<!-- y: end -->\n")
    monkeypatch.setattr("sys.argv", ["/somewhere/credit-scoring", "compare", "--data", "/home/somebody/my data", "--seed", "3"])
    replace_between(guide, "x", "| 1 |\n| é |")
    replace_between(guide, "y", "| 2 |")
    assert guide.read_text() == "a\n<!-- x: begin -->\n| 1 |\n| é |\n<!-- x: end -->\nb\n<!-- y: begin -->\n| 2 |\n<!-- y: end -->\n"
    results = json.loads((tmp_path / RESULTS).read_text())
    assert (results["x"]["table"], results["y"]["table"]) == (["| 1 |", "| é |"], ["| 2 |"])
    assert results["x"]["command"].endswith("compare --data 'my data' --seed 3")
    assert re.fullmatch(r"[0-9a-f]{12}\+?", results["x"]["commit"])
    with pytest.raises(typer.Exit):
        replace_between(guide, "z", "")


def test_outside_of_a_repository_no_commit_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.console.CONFIGS", tmp_path / "configs")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    guide = tmp_path / "guide.md"
    guide.write_text("<!-- x: begin -->\n<!-- x: end -->\n")
    replace_between(guide, "x", "| 1 |")
    assert json.loads((tmp_path / RESULTS).read_text())["x"]["commit"] is None
