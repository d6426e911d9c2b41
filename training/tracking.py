"""The record of a training run in MLflow: parameters, metrics, plots, the bundle, and the registered model."""

import contextlib
import logging
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import mlflow
from alembic.util import CommandError
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from configs.errors import UserError
from serving.bundle import Bundle, flat
from serving.whole_files import locked
from training.aliases import Say

EXPERIMENT = "credit-scoring"
STUDIES = "credit-scoring-studies"
CHAMPION = "champion"
MODEL_TAG = "bentoml_model"
Champion = Callable[[], str | None]


class Record(NamedTuple):
    """A recorded run, and whether it is new."""

    run_id: str
    new: bool


class TrackingError(UserError):
    """MLflow cannot record a run; the message says why in one sentence."""


def tracking_uri(home: Path) -> str:
    """The SQLite database under CREDIT_HOME."""
    return _uri(home.absolute() / "mlflow.db")


def _uri(path: Path) -> str:
    # from a URI that begins with sqlite:/// MLflow would create the parent folder with the escapes in its name
    return URL.create("sqlite+pysqlite", database=str(path)).render_as_string(hide_password=False)


def record(bundle: Bundle, name: str, plots: Iterable[Path], home: Path, say: Say, *, champion: Champion) -> Record:
    """Log the run of a bundle and register the bundle, unless both are done. Then give the champion's registered model the alias `champion`.

    Parameters
    ----------
    champion : returns the version of the champion, None if there is none. It is called while no other process records.

    Raises
    ------
    TrackingError
        MLflow cannot record it.
    """
    with _recording(home) as client:
        experiment = _experiment(client, EXPERIMENT, home, say)
        for run in client.search_runs([experiment], f"tags.{MODEL_TAG} LIKE '{name}:%' AND attributes.status != 'FINISHED'"):
            client.delete_run(run.info.run_id)  # left by a killed training; only one process records at a time
        registered = _registered(client, name, bundle.version)
        found = registered or _register(client, bundle, name, plots, experiment)
        standing = champion()
        if standing and (served := _registered(client, name, standing)):
            client.set_registered_model_alias(name, CHAMPION, served.version)
    return Record(str(found.run_id), new=registered is None)


def record_study(kind: str, data: str, metrics: dict[str, float], files: Iterable[Path], home: Path, *, say: Say) -> str:
    """Log the results of a study in the experiment of studies; returns the run's id.

    Raises
    ------
    TrackingError
        MLflow cannot record it.
    """
    with (
        _recording(home) as client,
        mlflow.start_run(
            experiment_id=_experiment(client, STUDIES, home, say),
            run_name=kind,
            tags={"study": kind, "data": data},
            log_system_metrics=False,
        ) as run,
    ):
        mlflow.log_metrics(metrics)
        for file in files:
            mlflow.log_artifact(str(file))
    return str(run.info.run_id)


def make_database(home: Path) -> None:
    """Create MLflow's database if it is missing. It appears complete or not at all.

    Raises
    ------
    TrackingError
        The database cannot be created, or is broken.
    """
    with _recording(home):
        pass


@contextlib.contextmanager
def _recording(home: Path) -> Iterator[mlflow.MlflowClient]:
    """Let one process at a time use the database, and turn every error into one sentence."""
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it logs each error with its traceback before raising it
    path = home.absolute() / "mlflow.db"
    try:
        with locked(home / "mlflow.lock"):
            _check(path) if path.is_file() and path.stat().st_size else _make(path)
            mlflow.set_tracking_uri(_uri(path))
            yield mlflow.MlflowClient()
    except (SQLAlchemyError, CommandError, sqlite3.DatabaseError) as error:
        raise TrackingError(f"{path} cannot be used ({_first_line(error)}); if it is broken, move it away or restore a copy") from None
    except (MlflowException, OSError) as error:
        raise TrackingError(f"{path} cannot be used: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _make(path: Path) -> None:
    partial = path.with_name(f".{path.name}.partial")
    for leftover in path.parent.glob(f"{partial.name}*"):  # its journal too
        leftover.unlink()
    SqlAlchemyStore(_uri(partial), (path.parent / "mlartifacts").as_uri()).engine.dispose()  # type: ignore[no-untyped-call]
    partial.replace(path)


def _check(path: Path) -> None:
    """Refuse an incomplete database, or another file. MLflow would try for minutes to create its tables."""
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True)) as database:
        database.execute("SELECT version_num FROM alembic_version")


def _experiment(client: mlflow.MlflowClient, name: str, home: Path, say: Say) -> str:
    """The id of an experiment. A missing one is created, a deleted one restored, because its name stays taken."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return str(client.create_experiment(name, artifact_location=(home.absolute() / "mlartifacts").as_uri()))
    if experiment.lifecycle_stage == "deleted":
        say(f"warning: MLflow's experiment {name} was deleted; restoring it")
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


def _registered(client: mlflow.MlflowClient, name: str, version: str) -> ModelVersion | None:
    """The registered model of a version, None if there is none."""
    return next(iter(client.search_model_versions(f"name = '{name}' AND tags.{MODEL_TAG} = '{name}:{version}'")), None)


def _register(client: mlflow.MlflowClient, bundle: Bundle, name: str, plots: Iterable[Path], experiment: str) -> ModelVersion:
    tags = {MODEL_TAG: f"{name}:{bundle.version}"}
    run_tags = {**tags, "trained_on": bundle.trained_on}
    with mlflow.start_run(experiment_id=experiment, run_name=bundle.version, tags=run_tags, log_system_metrics=False) as run:
        mlflow.log_params(flat(bundle.metadata["settings"]))
        mlflow.log_params({f"data.{key}": value for key, value in bundle.metadata["data"].items()})
        mlflow.log_metric("threshold", bundle.decision.threshold)
        for metric, values in bundle.metadata["metrics"].items():
            mlflow.log_metrics({metric if key == "value" else f"{metric}_{key}": value for key, value in values.items()})
        for plot in plots:
            mlflow.log_artifact(str(plot), "plots")
        with tempfile.TemporaryDirectory() as folder:
            for file, content in bundle.files().items():
                (Path(folder) / file).write_bytes(content)
            mlflow.log_artifacts(folder, "bundle")
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    return client.create_model_version(name, f"{run.info.artifact_uri}/bundle", run.info.run_id, tags=tags)
