import os
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from running import Home, call_cli, run_cli

from serving.bundle import Bundle

COMMANDS = [
    "train",
    "models",
    "promote",
    "rollback",
    "record",
    "mlflow",
    "generate",
    "fit-profile",
    "fidelity",
    "score",
    "request",
    "decide",
    "document",
    "settings",
    "verify",
    "keys",
    "select-features",
]
STUDY_COMMANDS = ["compare", "explore", "interpret", "tune"]
RECORD_COMMANDS = ["decision", "decisions", "export", "ship", "verify-log", "replay", "outcomes", "store"]
REPORT_COMMANDS = ["drift", "performance", "retraining-signal", "drift-power"]


@pytest.mark.slow
def test_every_command_has_a_help_that_says_what_it_does() -> None:
    listed = call_cli(["--help"]).stdout
    for command in COMMANDS + STUDY_COMMANDS + RECORD_COMMANDS + REPORT_COMMANDS:
        assert command in listed
        result = call_cli([command, "--help"])
        assert result.returncode == 0
        assert len(result.stdout.splitlines()) > 5


def test_settings_are_shown_and_checked(home: Home) -> None:
    assert '"false_negative_cost": 10.0' in run_cli(["settings"], home.environment).stdout
    for command in (["settings"], ["verify"], ["train"], ["keys", "list"]):
        result = run_cli(command, {**home.environment, "CREDIT_AUTH": "perhaps"})
        assert result.returncode == 1
        assert "CREDIT_AUTH" in result.stderr
        assert "Traceback" not in result.stderr


def test_verify_tells_of_the_model(home: Home, bundle: Bundle) -> None:
    result = run_cli(["verify"], home.environment)
    assert f"credit_scoring:{bundle.version} is sound; trained on generated" in result.stdout
    missing = run_cli(["verify", "nobody"], home.environment)
    assert (missing.returncode, missing.stderr.strip()) == (
        1,
        "error: the BentoML model store holds no model nobody; run `make train` first",
    )


def test_training_again_changes_nothing(home: Home, tmp_path: Path) -> None:
    own = home.copy(tmp_path)
    before = own.files()
    result = run_cli(["train"], own.environment)
    assert "nothing changes" in result.stdout
    assert own.files() == before
    assert run_cli(["train", "--if-missing"], own.environment).stdout == ""


def test_a_damaged_model_is_told_and_not_trained_over(home: Home, tmp_path: Path) -> None:
    shutil.copytree(home.path / "bentoml" / "models", tmp_path / "models")
    (manifest,) = tmp_path.glob("models/credit_scoring/*/manifest.json")
    manifest.write_text(manifest.read_text() + " ")
    result = run_cli(["train", "--if-missing"], {**home.environment, "BENTOML_HOME": str(tmp_path)})
    assert (result.returncode, "is damaged" in result.stderr) == (1, True)


def test_unusable_data_are_an_error_without_a_trace(home: Home, tmp_path: Path) -> None:
    result = run_cli(["train", "--data", str(tmp_path)], home.environment)
    assert result.returncode == 1
    assert "has no application_train.parquet" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_generate_writes_tables(tmp_path: Path) -> None:
    result = call_cli(["generate", "--applications", "120", "--seed", "4", "--out", str(tmp_path), "--format", "csv"])
    assert result.returncode == 0, result.stderr
    assert len(pd.read_csv(tmp_path / "application_train.csv")) == 120
    wrong = call_cli(["generate", "--applications", "10", "--out", str(tmp_path), "--format", "xls"])
    assert (wrong.returncode, "expected csv or parquet" in wrong.stderr) == (1, True)


@pytest.mark.model  # the scorecard
def test_fit_profile_writes_a_profile(tmp_path: Path) -> None:
    call_cli(["generate", "--applications", "3000", "--no-history", "--out", str(tmp_path)])
    result = call_cli(["fit-profile", "--data", str(tmp_path), "--out", str(tmp_path / "profile.json")])
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "profile.json").stat().st_size > 10_000


@pytest.mark.model
def test_studies_leave_reports_here_and_in_mlflow(home: Home, tmp_path: Path) -> None:
    import mlflow

    run_cli(["generate", "--applications", "1200", "--no-history", "--out", str(tmp_path / "data")])
    environment = {**home.environment, "CREDIT_HOME": str(tmp_path / "home"), "CREDIT_TRAINING__LIGHTGBM__NUM_TREES": "40"}
    for command, files in (
        (["explore"], {"exploration.html"}),
        (["interpret"], {"shap_summary.png", "shap_dependence.png"}),
        (["tune", "--trials", "1"], {"history.png", "parameters.yaml"}),
        (["compare"], {"comparison.png", "comparison.md"}),
    ):
        result = run_cli([*command, "--data", str(tmp_path / "data")], environment)
        assert result.returncode == 0, result.stderr
        mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'home' / 'mlflow.db'}")
        client = mlflow.MlflowClient()
        (run,) = mlflow.search_runs(
            experiment_names=["credit-scoring-studies"], filter_string=f"tags.study = '{command[0]}'", output_format="list"
        )
        assert {item.path for item in client.list_artifacts(run.info.run_id)} == files
        missing = run_cli([*command, "--data", str(tmp_path)], environment)
        assert (missing.returncode, "has no application_train" in missing.stderr, "Traceback" in missing.stderr) == (1, True, False)


def test_features_are_not_chosen_without_tables(tmp_path: Path) -> None:
    result = call_cli(["select-features", "--data", str(tmp_path), "--out", str(tmp_path / "features.yaml")])
    assert (result.returncode, "has no application_train.parquet" in result.stderr, "Traceback" in result.stderr) == (1, True, False)
    assert not (tmp_path / "features.yaml").exists()


def test_document_writes_between_its_marks(home: Home, bundle: Bundle, tmp_path: Path) -> None:
    guide = tmp_path / "guide.md"
    guide.write_text("before\n<!-- training: begin -->\nold\n<!-- training: end -->\nafter\n")
    result = run_cli(["document", f"credit_scoring:{bundle.version}", "--write", str(guide)], home.environment)
    assert result.returncode == 0, result.stderr
    text = guide.read_text()
    assert text.startswith("before\n<!-- training: begin -->\n| out of fold")
    assert text.endswith("<!-- training: end -->\nafter\n")
    guide.write_text("no marks")
    assert run_cli(["document", f"credit_scoring:{bundle.version}", "--write", str(guide)], home.environment).returncode == 1


@pytest.mark.model
def test_fidelity_compares_real_with_generated(home: Home, tmp_path: Path) -> None:
    run_cli(["generate", "--applications", "1500", "--seed", "9", "--out", str(tmp_path)])
    result = run_cli(["fidelity", "--data", str(tmp_path), "--out", str(tmp_path / "plots")], home.environment)
    assert result.returncode == 0, result.stderr
    assert "| ROC-AUC, 5 folds |" in result.stdout
    assert (tmp_path / "plots" / "fidelity.png").stat().st_size > 10_000
    history = run_cli(["fidelity", "--data", str(tmp_path), "--history", "500"], home.environment)
    assert history.returncode == 0, history.stderr
    for table in ("bureau", "installments_payments", "credit_card_balance"):
        assert f"\n| {table} | " in history.stdout
    assert "History gives to the ROC-AUC of 1,500 clients" in history.stdout


def test_keys_are_made_listed_and_revoked(tmp_path: Path) -> None:
    environment = {**os.environ, "CREDIT_HOME": str(tmp_path)}
    made = call_cli(["keys", "create", "--note", "the branch"], environment)
    token = made.stdout.strip()
    identifier = token.split("_")[1]
    assert f"key {identifier} for predict,explain,outcomes, expires never" in made.stderr
    assert "restart services that started without keys" in made.stderr
    assert token.split("_", 2)[2] not in made.stderr
    assert "restart" not in call_cli(["keys", "create"], environment).stderr
    listed = call_cli(["keys", "list"], environment).stdout
    assert identifier in listed
    assert "valid" in listed
    assert "used never       predict,explain,outcomes  the branch" in listed
    assert token.split("_", 2)[2] not in listed
    rotated = call_cli(["keys", "rotate", identifier, "--overlap", "0"], environment).stdout.strip()
    assert re.search(
        rf"(?s){identifier} +expired.*\n{rotated.split('_')[1]} +valid .*the branch", call_cli(["keys", "list"], environment).stdout
    )
    for scopes, said in (("predict,all", "--scopes names all; expected some of predict, explain, "), (",", "--scopes names nothing;")):
        wrong = call_cli(["keys", "create", "--scopes", scopes], environment)
        assert (wrong.returncode, said in wrong.stderr) == (1, True)
    assert call_cli(["keys", "revoke", identifier], environment).returncode == 0
    assert "revoked" in call_cli(["keys", "list"], environment).stdout
    missing = call_cli(["keys", "revoke", "nobody"], environment)
    assert (missing.returncode, "there is no key nobody" in missing.stderr) == (1, True)
    (tmp_path / "keys.json").write_text("{")
    for command in (["keys", "list"], ["keys", "create"], ["keys", "revoke", "x"]):
        broken = call_cli(command, environment)
        assert (broken.returncode, "is not a file of API keys" in broken.stderr, "Traceback" in broken.stderr) == (1, True, False)
