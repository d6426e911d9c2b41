import json
from pathlib import Path

import numpy as np
import pytest

from configs.settings import Settings, load_settings
from features.applications import Applications
from features.transform import FeatureTransform
from serving.bundle import Bundle
from serving.scorer import Scorer
from training import plots
from training.data.errors import DataError
from training.fitting import learned_from
from training.home_credit.generator import Generator, generate
from training.prepare import Prepared, hide, prepare
from training.report import training_table
from training.train import Training, train

ABSENT = (
    "AMT_CREDIT", "AMT_ANNUITY", "AMT_INCOME_TOTAL", "DAYS_BIRTH", "DAYS_REGISTRATION", "CODE_GENDER", "NAME_EDUCATION_TYPE",
    "AMT_REQ_CREDIT_BUREAU_YEAR", "APARTMENTS_AVG",
)  # fmt: skip


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
    assert {"theoretical", "least", "chosen"} <= {name for row in metadata["thresholds"] for name in row["name"].split(", ")}
    assert metadata["threshold"]["threshold"] == training.bundle.decision.threshold
    assert metadata["threshold"]["reason"] in ("theoretical", "curve")
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
def test_the_table_for_the_guides_has_a_column_for_each_model(training: Training) -> None:
    lines = training_table([training.bundle, training.bundle]).splitlines()
    assert all(line.count("|") == 4 for line in lines)
    assert "generated data, 3,000 rows" in lines[0]


def prepared_of(with_history: int, without: int) -> Prepared:
    features = FeatureTransform(["AMT_CREDIT", "BUREAU_LOANS", "POS_LOANS"])
    matrix = np.arange(3.0 * (with_history + without)).reshape(-1, 3)
    matrix[:with_history, 2] = np.nan
    matrix[with_history:, 1:] = np.nan
    return Prepared(features, matrix, matrix, np.ones(len(matrix), dtype=np.int8), "mark", generated=True)


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


@pytest.mark.parametrize("rows", [30, 2000])
def test_a_share_of_each_column_is_hidden_of_defaulters_as_of_others(rows: int, settings: Settings) -> None:
    defaulted = (np.arange(rows) % 10 == 0).astype(np.int8)
    hidden = hide(defaulted, 50, settings)
    assert hidden.sum(axis=0).tolist() == [max(1, round(settings.training.hidden * rows))] * 50
    assert len({column.tobytes() for column in hidden.T}) > 15
    if rows == 2000:
        assert set(hidden[defaulted == 1].sum(axis=0)) == {2}
    assert hidden.tobytes() == hide(defaulted, 50, settings).tobytes()


@pytest.mark.model
def test_no_node_of_the_model_takes_a_missing_value_for_zero(bundle: Bundle) -> None:
    kinds = [int(kind) for line in bundle.model.splitlines() if line.startswith("decision_type=") for kind in line.split("=")[1].split()]
    numeric = [kind for kind in kinds if not kind & 1]
    assert len(numeric) > 100
    assert {kind >> 2 & 3 for kind in numeric} == {2}  # the bits of missing_type NaN in LightGBM's text


@pytest.mark.model
def test_without_a_field_the_pd_lies_among_those_that_its_values_give(bundle: Bundle) -> None:
    frame, scorer, within = next(Generator.from_file().draw(100, seed=8)), Scorer(bundle), []
    for name in ABSENT:
        shares = frame[name].value_counts(normalize=True)
        quantiles = frame[name].quantile(np.linspace(0.05, 0.95, 19), "nearest") if frame[name].dtype.kind == "f" else None
        values = shares.index[shares >= 0.05] if quantiles is None else quantiles.unique()
        pds = [scorer.score(Applications.from_columns(frame.assign(**{name: value}))) for value in values]
        without = scorer.score(Applications.from_columns(frame.assign(**{name: None if quantiles is None else np.nan})))
        within.append((np.min(pds, axis=0) <= without) & (without <= np.max(pds, axis=0)))
    assert np.mean(within) >= 0.95


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
