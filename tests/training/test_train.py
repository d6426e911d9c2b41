import json
from pathlib import Path

import numpy as np
import pytest

from configs.settings import Settings, load_settings
from features.transform import Applications, FeatureTransform
from serving.scorer import Scorer
from training import plots, tracking
from training.data import DataError
from training.generator import Generator, generate
from training.report import training_table
from training.train import Prepared, Training, learned_from, prepare, train


def ignore(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("generated")
    generate(path, 3000, seed=2)
    return path


@pytest.fixture
def training(folder: Path, settings: Settings) -> Training:
    return train(prepare(folder, settings, ignore), settings, ignore)


@pytest.mark.model
def test_the_same_data_and_settings_give_the_same_bundle_byte_for_byte(folder: Path, training: Training, settings: Settings) -> None:
    said: list[str] = []
    again = train(prepare(folder, settings, said.append), settings, ignore)
    assert any("cache" in line for line in said)
    assert again.bundle.files() == training.bundle.files()
    assert again.bundle.version == training.bundle.version


@pytest.mark.model
def test_other_settings_give_another_version(folder: Path, training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDIT_DECISION__FALSE_NEGATIVE_COST", "5")
    settings = load_settings()
    other = train(prepare(folder, settings, ignore), settings, ignore).bundle
    assert other.version != training.bundle.version
    assert other.decision.threshold > training.bundle.decision.threshold


@pytest.mark.model
def test_a_floor_for_the_approval_rate_is_kept(folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDIT_DECISION__MIN_APPROVAL_RATE", "0.9")
    settings = load_settings()
    assert train(prepare(folder, settings, ignore), settings, ignore).bundle.metadata["metrics"]["approval_rate"]["value"] >= 0.9


@pytest.mark.model
def test_a_run_says_what_it_was_trained_on_and_measured(training: Training) -> None:
    metadata = training.bundle.metadata
    assert metadata["trained_on"] == training.bundle.trained_on == "generated"
    assert set(metadata["metrics"]) == {
        "roc_auc", "gini", "pr_auc", "ks", "brier", "ece", "cost_per_client", "precision", "recall", "approval_rate",
    }  # fmt: skip
    assert {row["name"] for row in metadata["thresholds"]} >= {"theoretical", "chosen"}
    assert 0.6 < metadata["metrics"]["roc_auc"]["fold_mean"] < 0.85
    assert set(training.bundle.reference["features"]) == set(training.bundle.features.names)
    assert json.loads(training.bundle.files()["metadata.json"]) == metadata


@pytest.mark.model
def test_the_final_model_ranks_people_it_did_not_see(training: Training) -> None:
    from sklearn.metrics import roc_auc_score

    frame = next(Generator.from_file().draw(5000, seed=99))
    pd = Scorer(training.bundle).score(Applications.from_columns(frame))
    assert roc_auc_score(frame["TARGET"], pd) > 0.68
    assert pd.mean() == pytest.approx(frame["TARGET"].mean(), abs=0.015)
    assert len(np.unique(pd)) > 4900


@pytest.mark.model
def test_every_plot_is_drawn(training: Training, tmp_path: Path) -> None:
    paths = plots.save(plots.training_plots(training), tmp_path)
    assert {path.name for path in paths} == {
        "roc.png",
        "precision_recall.png",
        "calibration.png",
        "cost.png",
        "scores.png",
        "importance.png",
    }
    assert all(path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000 for path in paths)


@pytest.mark.model
def test_a_run_is_recorded_and_registered_as_champion(training: Training, tmp_path: Path) -> None:
    import mlflow

    home = tmp_path / "mlflow"
    version = training.bundle.version
    assert tracking.champion_run("m", version, home) is None
    plot = tmp_path / "roc.png"
    plot.write_bytes(b"png")
    run_id = tracking.record(training.bundle, "m", [plot], home)
    second = tracking.record(training.bundle, "m", [plot], home)
    assert tracking.champion_run("m", version, home) == second != run_id
    assert tracking.champion_run("m", "another", home) is None
    client = mlflow.MlflowClient()
    registered = client.get_model_version_by_alias("m", tracking.CHAMPION)
    assert (registered.version, registered.tags["bentoml_model"]) == (2, f"m:{training.bundle.version}")
    run = client.get_run(run_id)
    assert run.data.metrics["roc_auc"] == pytest.approx(training.bundle.metadata["metrics"]["roc_auc"]["value"])
    assert {item.path for item in client.list_artifacts(run_id, "bundle")} == {f"bundle/{name}" for name in training.bundle.files()}


@pytest.mark.model
def test_the_table_for_the_guides_has_a_column_for_each_model(training: Training) -> None:
    lines = training_table([training.bundle, training.bundle]).splitlines()
    assert all(line.count("|") == 4 for line in lines)
    assert "generated data, 3,000 rows" in lines[0]


def prepared_of(with_history: int, without: int) -> Prepared:
    features = FeatureTransform(["AMT_CREDIT", "BUREAU_LOANS", "POS_LOANS"])
    matrix = np.arange(3.0 * (with_history + without)).reshape(-1, 3)
    matrix[:with_history, 2] = np.nan
    matrix[with_history:, 1:] = np.nan
    return Prepared(features, matrix, np.ones(len(matrix), dtype=np.int8), "mark", generated=True)


@pytest.mark.parametrize(
    ("with_history", "without", "copies"), [(80, 0, 20), (80, 10, 10), (80, 20, 0), (10, 90, 0), (0, 50, 0), (1, 0, 0), (9, 0, 2)]
)
def test_a_fifth_of_what_is_learned_lacks_its_history(with_history: int, without: int, copies: int, settings: Settings) -> None:
    prepared = prepared_of(with_history, without)
    matrix, defaulted = learned_from(prepared, settings, np.arange(with_history + without))
    assert len(matrix) == len(defaulted) == with_history + without + copies
    np.testing.assert_equal(matrix[: with_history + without], prepared.matrix)
    added = matrix[with_history + without :]
    assert np.isnan(added[:, 1:]).all()
    assert len(set(added[:, 0])) == copies
    assert set(added[:, 0]) <= set(prepared.matrix[:with_history, 0])


def test_what_was_said_of_the_tables_is_said_again_from_the_cache(tmp_path: Path, settings: Settings) -> None:
    generate(tmp_path / "data", 300, seed=2, history=False)
    said: list[list[str]] = [[], []]
    for lines in said:
        prepare(tmp_path / "data", settings, lines.append)
    first, second = ([line for line in lines if line.startswith(("read ", "warning"))] for lines in said)
    assert f"read {tmp_path}/data/application_train.parquet" in first[0]
    assert first == second


def test_training_needs_the_tables(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(DataError, match=r"has no application_train\.parquet"):
        prepare(tmp_path, settings, ignore)


@pytest.mark.data
@pytest.mark.model
def test_real_data_reach_the_reference(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDIT_HOME", str(tmp_path))
    monkeypatch.setenv("CREDIT_TRAINING__BOOTSTRAP_SAMPLES", "20")
    settings = load_settings()
    metadata = train(prepare(real_data, settings, ignore), settings, ignore).bundle.metadata
    assert metadata["metrics"]["roc_auc"]["fold_mean"] >= 0.757
    assert metadata["metrics"]["ece"]["value"] <= 0.01
    assert metadata["metrics"]["cost_per_client"]["value"] <= 0.538
    assert metadata["trained_on"] == metadata["data"]["fingerprint"]
