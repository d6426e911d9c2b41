import os
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from configs.errors import UserError
from configs.settings import Settings, SettingsError
from features.applications import FeatureError
from features.schema import SchemaError
from serving.bundle import BundleError
from serving.console import Commands, check_out, chosen_model
from serving.identity.keys import KeysError
from serving.replay import ReplayError


@pytest.mark.parametrize(
    "error",
    [UserError, OSError, SettingsError, SchemaError, FeatureError, BundleError, KeysError, ReplayError],
    ids=lambda error: error.__name__,
)
@pytest.mark.parametrize("command", [["run"], ["group", "run"]])
def test_an_error_that_a_person_can_mend_is_one_sentence_and_exit_code_1(error: type[Exception], command: list[str]) -> None:
    app, group = typer.Typer(cls=Commands), typer.Typer()
    app.add_typer(group, name="group")

    @app.command("run")
    @group.command("run")
    def run() -> None:
        raise error("the file is gone; put it back")

    @group.command("other")
    def other() -> None:
        raise AssertionError

    result = CliRunner().invoke(app, command)
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    assert (result.stdout, result.stderr) == ("", "error: the file is gone; put it back\n")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("BENTOML_CONFIG", "missing.yaml", "not found"),
        ("BENTOML_CONFIG", "bentoml.json", "does not end with"),
        ("BENTOML_CONFIG", "broken.yaml", "while parsing"),
        ("BENTOML_CONFIG", "wrong.yaml", "Invalid configuration file"),
        ("BENTOML_CONFIG", "list.yaml", ""),
        ("BENTOML_CONFIG", "blank.yaml", ""),
        ("BENTOML_CONFIG_OVERRIDES", "{services: ", ""),
        ("BENTOML_CONFIG_OVERRIDES", "[]", ""),
        ("BENTOML_CONFIG_OPTIONS", "services.workers", ""),
    ],
)
@pytest.mark.filterwarnings("ignore:Overriding BentoML config:DeprecationWarning")
def test_a_configuration_that_bentoml_cannot_read_is_one_sentence(
    variable: str, value: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {
        "broken.yaml": "services: [",
        "wrong.yaml": "version: 1\napi_server: {workers: -1}",
        "list.yaml": "[1]",
        "blank.yaml": "",
        "bentoml.json": "{}",
    }.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setenv(variable, str(tmp_path / value) if variable == "BENTOML_CONFIG" else value)
    app = typer.Typer(cls=Commands)

    @app.command("run")
    def run() -> None:
        raise AssertionError

    @app.command("other")
    def other() -> None:
        raise AssertionError

    result = CliRunner().invoke(app, ["run"])
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    assert result.stderr.startswith(f"error: {variable}: BentoML cannot read this configuration: ")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_another_error_is_not_hidden() -> None:
    app = typer.Typer(cls=Commands)

    @app.command()
    def run() -> None:
        raise ValueError("a mistake of the program")

    @app.command()
    def other() -> None:
        raise AssertionError

    assert isinstance(CliRunner().invoke(app, ["run"]).exception, ValueError)


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
        ("a.xlsx", "a.xlsx; expected a name that ends in .csv or .parquet"),
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
