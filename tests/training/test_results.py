import contextlib
import shutil
from pathlib import Path

import bentoml
import pytest
from running import use_models
from small import small_training
from stopping import Killed, stop_at

from configs.settings import Settings
from serving.bundle import BundleError, read_bundle
from serving.model_store import find_in_store
from training import plots, tracking
from training.results import keep, record, report_folder
from training.tracking import Record, TrackingError

NAME = "credit_scoring"
pytestmark = pytest.mark.model


@pytest.fixture(autouse=True)
def store(tmp_path: Path) -> Path:
    """The folder of an empty model store of its own."""
    return use_models(tmp_path / "models")


def test_the_model_is_in_the_store_and_each_names_the_other(settings: Settings) -> None:
    import mlflow

    said: list[str] = []
    training = small_training()
    tag = keep(training, settings, said.append)
    assert said == []
    run_id = bentoml.models.get(tag).info.labels["mlflow_run"]
    run = mlflow.MlflowClient(tracking.tracking_uri(settings.home)).get_run(run_id)
    assert run.data.tags["bentoml_model"] == tag
    names = {file.name for file in report_folder(training.bundle, settings).glob("*.png")}
    assert len(names) == 6
    assert {Path(item.path).name for item in mlflow.MlflowClient().list_artifacts(run_id, "plots")} == names
    assert keep(training, settings, said.append) == tag
    assert said == ["the same data and settings gave the same model as before; nothing changes"]


def test_a_record_that_fails_loses_nothing_and_is_repeated_by_a_command(settings: Settings) -> None:
    settings.home.mkdir()
    (settings.home / "mlflow.db").write_bytes(b"no database" * 99)
    said: list[str] = []
    training = small_training()
    tag = keep(training, settings, said.append)
    version = training.bundle.version
    assert read_bundle(find_in_store(NAME, version)).version == version
    (warning,) = said
    assert warning.startswith(
        f"warning: {tag} is saved, but MLflow does not show its present state: {settings.home}/mlflow.db cannot be used"
    )
    assert warning.endswith(f"`credit-scoring record {version}`")
    assert "mlflow_run" not in bentoml.models.get(tag).info.labels
    (settings.home / "mlflow.db").unlink()
    assert record(training.bundle, settings, said.append)
    assert "mlflow_run" in bentoml.models.get(tag).info.labels
    assert not record(training.bundle, settings, said.append)


class Drawn:
    """A figure that is drawn in no time."""

    def savefig(self, path: Path, **_: object) -> None:
        path.write_bytes(b"png")


def test_a_training_that_stops_at_any_step_leaves_a_store_that_works(
    store: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recorded(*_: object, **__: object) -> Record:
        (settings.home / "mlflow.db").write_bytes(b"")
        return Record("run", new=True)

    one, other = small_training(0), small_training(1)
    monkeypatch.setattr(tracking, "record", recorded)
    monkeypatch.setattr(plots, "training_plots", lambda _: iter([("roc.png", Drawn()), ("cost.png", Drawn())]))
    for step in range(150):
        for folder in (store, settings.home):
            shutil.rmtree(folder, ignore_errors=True)
        store.mkdir()
        before = keep(one, settings, lambda _: None, promote_first="the first")
        said: list[str] = []
        with monkeypatch.context() as patch:
            done = stop_at(patch, step)
            with contextlib.suppress(BundleError, Killed):
                keep(other, settings, said.append)
        entries = {str(entry.tag): read_bundle(Path(entry.path)) for entry in bentoml.models.list()}
        assert before in entries
        assert served() == before
        assert all(line.startswith("warning: ") and "No space left on device" in line for line in said)
        assert keep(other, settings, said.append) == f"{NAME}:{other.bundle.version}"
        assert served() == before
        assert not (store / "credit-scoring.partial").exists()
        assert not list(report_folder(other.bundle, settings).glob("*.partial"))
        if not done():
            break
    assert 50 < step < 149


def served() -> str:
    return f"{NAME}:{find_in_store(NAME, 'champion').name}"


def test_a_record_that_meets_a_full_disk_at_any_step_is_an_error_in_a_sentence(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    training = small_training()
    keep(training, settings, lambda _: None)
    database = (settings.home / "mlflow.db").read_bytes()
    other = small_training(1).bundle
    failed = 0
    for step in (0, 2, 6, 10, 16, 24, 34, 46):  # the even ones are a full disk
        with monkeypatch.context() as patch:
            stop_at(patch, step)
            with contextlib.suppress(TrackingError):
                tracking.record(other, NAME, [], settings.home, lambda _: None, champion=lambda: None)
                failed -= 1
            failed += 1
        assert tracking.record(other, NAME, [], settings.home, lambda _: None, champion=lambda: None).run_id
        (settings.home / "mlflow.db").write_bytes(database)
    assert failed >= 4
