import sqlite3
from pathlib import Path

import mlflow
import pytest
from small import small_training

from serving.bundle import Bundle
from training import tracking
from training.tracking import TrackingError, make_database, record, record_study, tracking_uri

pytestmark = pytest.mark.model


def ignore(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A fresh database of MLflow."""
    home = tmp_path_factory.mktemp("mlflow")
    make_database(home)
    assert {path.name for path in home.iterdir()} == {"mlflow.db", "mlflow.lock"}
    return (home / "mlflow.db").read_bytes()


@pytest.fixture
def home(tmp_path: Path, database: bytes) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "mlflow.db").write_bytes(database)
    return tmp_path / "home"


def one() -> Bundle:
    return small_training(0).bundle


def other() -> Bundle:
    return small_training(1).bundle


def champion() -> str:
    return str(mlflow.MlflowClient().get_model_version_by_alias("m", tracking.CHAMPION).tags["bentoml_model"])


def test_a_run_is_recorded_once_and_the_alias_follows_the_champion(home: Path, tmp_path: Path) -> None:
    plot = tmp_path / "roc.png"
    plot.write_bytes(b"png")
    first = record(one(), "m", [plot], home, ignore, champion=lambda: one().version)
    assert first.new
    assert champion() == f"m:{one().version}"
    assert record(other(), "m", [plot], home, ignore, champion=lambda: one().version).new
    assert champion() == f"m:{one().version}"
    assert record(one(), "m", [plot], home, ignore, champion=lambda: other().version) == (first.run_id, False)
    assert champion() == f"m:{other().version}"
    assert record(one(), "m", [plot], home, ignore, champion=lambda: "unregistered").new is False
    assert champion() == f"m:{other().version}"
    client = mlflow.MlflowClient()
    run = client.get_run(first.run_id)
    assert run.data.metrics["roc_auc"] == pytest.approx(one().metadata["metrics"]["roc_auc"]["value"])
    assert {item.path for item in client.list_artifacts(first.run_id, "bundle")} == {f"bundle/{name}" for name in one().files()}
    assert [item.path for item in client.list_artifacts(first.run_id, "plots")] == ["plots/roc.png"]


def test_a_deleted_experiment_is_restored_and_said(home: Path) -> None:
    said: list[str] = []
    record(one(), "m", [], home, said.append, champion=lambda: None)
    client = mlflow.MlflowClient()
    client.delete_experiment(client.get_experiment_by_name(tracking.EXPERIMENT).experiment_id)
    assert record(other(), "m", [], home, said.append, champion=lambda: None).new
    assert said == ["warning: MLflow's experiment credit-scoring was deleted; restoring it"]
    record_study("kind", "data", {"a": 1.0}, [], home, say=said.append)
    client.delete_experiment(client.get_experiment_by_name(tracking.STUDIES).experiment_id)
    record_study("kind", "data", {"a": 2.0}, [], home, say=said.append)
    assert len(said) == 2


def test_the_run_of_a_training_that_was_killed_is_not_listed_and_recorded_anew(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(mlflow, "log_artifacts", kill)
        patch.setattr(mlflow.ActiveRun, "__exit__", lambda *_: None)
        with pytest.raises(Killed):
            record(one(), "m", [], home, ignore, champion=lambda: None)
    mlflow.end_run("RUNNING")
    assert record(one(), "m", [], home, ignore, champion=lambda: None).new
    client = mlflow.MlflowClient()
    runs = client.search_runs([client.get_experiment_by_name(tracking.EXPERIMENT).experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"]


@pytest.mark.parametrize("content", [b"no database at all" * 99, "half"], ids=["no database", "half of its tables"])
def test_a_broken_database_is_named_with_what_to_do(content: bytes | str, tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        database = sqlite3.connect(path)
        database.execute("CREATE TABLE spans (a)")
        database.close()
    before = path.read_bytes()
    with pytest.raises(TrackingError) as caught:
        record(one(), "m", [], tmp_path, ignore, champion=lambda: None)
    assert str(path) in str(caught.value)
    assert "if it is broken, move it away or restore a copy" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    path.unlink()
    assert record(one(), "m", [], tmp_path, ignore, champion=lambda: None).new


def test_what_a_killed_training_left_of_a_new_database_is_not_used(tmp_path: Path) -> None:
    (tmp_path / ".mlflow.db.partial").write_bytes(b"half")
    (tmp_path / ".mlflow.db.partial-journal").write_bytes(b"half")
    (tmp_path / "mlflow.db").touch()  # as a full disk leaves it
    make_database(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", "mlflow.lock"}


@pytest.mark.parametrize("name", ["a b", "a%20b", "a?b=c", "a#b", "it's", 'ä "b" $c;&'])
def test_a_home_may_have_any_name(name: str, tmp_path: Path, database: bytes) -> None:
    home = tmp_path / "homes" / name
    home.mkdir(parents=True)
    (home / "mlflow.db").write_bytes(database)
    run = record(one(), "m", [], home, ignore, champion=lambda: None)
    client = mlflow.MlflowClient(tracking_uri=tracking_uri(home))
    assert {item.path for item in client.list_artifacts(run.run_id, "bundle")} == {f"bundle/{file}" for file in one().files()}
    assert {path.name for path in home.iterdir()} == {"mlflow.db", "mlflow.lock", "mlartifacts"}
    assert [path.name for path in home.parent.iterdir()] == [name]
