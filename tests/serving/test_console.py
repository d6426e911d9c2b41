import os
from pathlib import Path

import pytest
import typer

from configs.settings import Settings
from serving.console import check_out, chosen_model


@pytest.mark.parametrize(
    ("tag", "chosen"),
    [(None, ("credit_scoring", "latest")), ("other", ("other", "latest")), ("other:", ("other", "latest")), ("other:v1", ("other", "v1"))],
)
def test_a_model_is_chosen_by_tag_else_by_the_settings(settings: Settings, tag: str | None, chosen: tuple[str, str]) -> None:
    assert chosen_model(settings, tag) == chosen


@pytest.mark.parametrize("name", ["a.csv", "A.CSV", "a.csv.gz", "a b.parquet"])
def test_a_file_that_can_be_written_is_taken(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    check_out(tmp_path / name, ".csv", ".csv.gz", ".parquet")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.xlsx", "a.xlsx; expected a name that ends in .csv, .parquet"),
        ("a", "expected a name that ends in"),
        (".csv", "expected a name that ends in"),
        ("folder.csv", "which is a folder"),
        ("nothing/a.csv", "whose folder does not exist"),
        ("file/a.csv", "whose folder does not exist"),
        ("closed/a.csv", "whose folder cannot be written"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused(
    name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setattr(os, "access", lambda path, _: Path(path).name != "closed")  # root may write everywhere
    (tmp_path / "closed").mkdir()
    with pytest.raises(typer.Exit):
        check_out(tmp_path / name, ".csv", ".parquet")
    assert said in capsys.readouterr().err
