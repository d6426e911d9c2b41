import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from decided import generated, keep, tell
from running import Home, run, run_cli

from monitoring.store.database import open_store
from serving.bundle import Bundle
from serving.scorer import Scorer


@pytest.fixture(scope="module")
def decided(home: Home, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a store with 1,500 decisions of the model, half of them with an outcome; one feature always missing."""
    path = tmp_path_factory.mktemp("decided")
    frame, matrix = generated(bundle, path / "applicants", 1500, seed=5, EXT_SOURCE_3=np.nan)
    pds = Scorer(bundle).pd(matrix)
    engine = open_store(f"sqlite:///{path / 'store.db'}")
    ids = keep(engine, np.column_stack([matrix, pds]), datetime.now(UTC), bundle.version)
    tell(engine, ids[:750], frame["TARGET"][:750])
    engine.dispose()
    return {**home.environment, "CREDIT_HOME": str(path)}


def test_drift_names_what_has_moved(decided: dict[str, str]) -> None:
    result = run_cli(["drift"], decided)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"store sqlite:///{decided['CREDIT_HOME']}/store.db, model ")
    assert result.stdout.splitlines()[3].startswith("EXT_SOURCE_3 ")
    assert "drift" in result.stdout.splitlines()[3]
    folder = Path(decided["CREDIT_HOME"]) / "reports/drift"
    assert {path.name for path in folder.iterdir()} == {"drift.html", "drift.json", "evidently.html", "evidently.json"}
    columns = json.loads((folder / "drift.json").read_text())["columns"]
    assert (columns[0]["feature"], columns[0]["missing"]) == ("EXT_SOURCE_3", 1)
    compared = {item["config"].get("column") for item in json.loads((folder / "evidently.json").read_text())["metrics"]}
    assert len(compared) > 20
    assert "pd" in compared


def test_too_few_decisions_are_an_error(decided: dict[str, str], home: Home, tmp_path: Path) -> None:
    result = run_cli(["drift", "--window", "100", "--out", str(tmp_path)], decided)
    assert (result.returncode, "drift is measured from" in result.stderr, list(tmp_path.iterdir())) == (1, True, [])
    empty = {**home.environment, "CREDIT_HOME": str(tmp_path)}
    assert run_cli(["drift"], empty).stderr.startswith("error: the store holds no decision of ")
    assert "holds no decision" in run_cli(["performance"], empty).stderr


def test_performance_shows_what_was_realised_and_estimated(decided: dict[str, str], tmp_path: Path) -> None:
    result = run_cli(["performance", "--by", "month", "--out", str(tmp_path)], decided)
    assert result.returncode == 0, result.stderr
    assert "outcomes of 750" in result.stdout
    assert "all with outcomes; expected" in result.stdout
    assert json.loads((tmp_path / "performance.json").read_text())[-1]["decisions"] == 1500
    none = run_cli(["performance", "--until", "2020-01-01T00:00:00+00:00"], decided)
    assert (none.returncode, "holds no decision" in none.stderr) == (1, True)
    assert run_cli(["performance", "--since", "yesterday"], decided).returncode != 0


def test_the_retraining_signal_speaks_by_its_exit_code(decided: dict[str, str], home: Home, tmp_path: Path) -> None:
    calm = {
        **decided,
        "CREDIT_RETRAINING__MAX_ROC_AUC_LOSS": "0.5",
        "CREDIT_RETRAINING__MAX_OBSERVED_TO_EXPECTED": "100",
        "CREDIT_RETRAINING__DRIFTED_FEATURES": "1",
    }
    no = run_cli(["retraining-signal"], calm)
    assert (no.returncode, "no reason to train" in no.stdout) == (0, True), no.stdout + no.stderr
    assert "outcomes are not judged: 0.0% of the decisions of 180 to 360 days ago have an outcome; at least 90% are needed" in no.stdout
    worse = run_cli(
        ["retraining-signal"],
        {
            **calm,
            "CREDIT_RETRAINING__OUTCOME_DAYS": "1e-9",
            "CREDIT_RETRAINING__MIN_OUTCOMES": "0.4",
            "CREDIT_RETRAINING__MAX_OBSERVED_TO_EXPECTED": "1.00001",
        },
    )
    assert "outcomes are not judged" not in worse.stdout
    yes = run_cli(["retraining-signal"], {**calm, "CREDIT_RETRAINING__MAX_AGE_DAYS": "1e-6"})
    assert (yes.returncode, "age: 0 days" in yes.stdout) == (3, True)
    drifted = run_cli(["retraining-signal"], {**calm, "CREDIT_RETRAINING__DRIFTED_FEATURES": "0.001"})
    assert (drifted.returncode, "of the features have a PSI" in drifted.stdout) == (3, True)
    error = run_cli(["retraining-signal"], {**calm, "CREDIT_MODEL__NAME": "nobody"})
    assert (error.returncode, "holds no model" in error.stderr) == (1, True)
    nothing = run_cli(["retraining-signal"], {**home.environment, "CREDIT_HOME": str(tmp_path)})
    assert (
        nothing.returncode,
        "drift is not judged" in nothing.stdout,
        "the ROC-AUC is not judged: the store holds no decision" in nothing.stdout,
    ) == (4, True, True)
    assert nothing.stdout.splitlines()[-1].startswith("not judged: too little is known")
    old = run_cli(["retraining-signal"], {**home.environment, "CREDIT_HOME": str(tmp_path), "CREDIT_RETRAINING__MAX_AGE_DAYS": "1e-6"})
    assert (old.returncode, "age: 0 days" in old.stdout) == (3, True)


def test_a_model_without_decisions_names_those_that_have_some(decided: dict[str, str], bundle: Bundle) -> None:
    other = run_cli(["performance", "--model", "0123456789abcdef"], decided)
    assert (other.returncode, f"no decision of 0123456789abcdef; 1,500 of {bundle.version}: --model {bundle.version}" in other.stderr) == (
        1,
        True,
    )
    for chosen in (bundle.version, f"credit_scoring:{bundle.version}", "all"):
        assert run_cli(["performance", "--model", chosen], decided).returncode == 0
    unknown = run_cli(["drift", "--model", "0123456789abcdef"], decided)
    assert (unknown.returncode, "holds no model credit_scoring:0123456789abcdef" in unknown.stderr) == (1, True)


def test_without_the_libraries_of_reports_the_figures_are_there(decided: dict[str, str], tmp_path: Path) -> None:
    for name in ("evidently", "matplotlib"):
        (tmp_path / f"{name}.py").write_text("raise ImportError")
    bare = {**decided, "PYTHONPATH": str(tmp_path)}
    drift = run("credit-scoring", ["drift", "--out", str(tmp_path / "drift")], bare, fresh=True)
    assert (drift.returncode, "no Evidently report" in drift.stdout) == (0, True), drift.stderr
    assert {path.name for path in (tmp_path / "drift").iterdir()} == {"drift.html", "drift.json"}
    performance = run("credit-scoring", ["performance", "--out", str(tmp_path / "performance")], bare, fresh=True)
    assert (performance.returncode, "no HTML" in performance.stdout) == (0, True), performance.stderr
    assert {path.name for path in (tmp_path / "performance").iterdir()} == {"performance.json"}
