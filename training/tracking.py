"""The record of a training run in MLflow: parameters, metrics, plots, the bundle, and the registered model."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException

from monitoring.files import make_private
from serving.bundle import Bundle

EXPERIMENT = "credit-scoring"
STUDIES = "credit-scoring-studies"
CHAMPION = "champion"


def tracking_uri(home: Path) -> str:
    """The SQLite database under CREDIT_HOME."""
    return f"sqlite:///{home.absolute() / 'mlflow.db'}"


def record(bundle: Bundle, name: str, plots: Iterable[Path], home: Path) -> str:
    """Log a run, register its bundle and give it the champion alias; returns the run's id."""
    make_private(home)
    mlflow.set_tracking_uri(tracking_uri(home))
    client = mlflow.MlflowClient()
    _experiment(EXPERIMENT, home)
    version = bundle.version
    with mlflow.start_run(run_name=version, log_system_metrics=False) as run:
        mlflow.set_tags({"bentoml_model": f"{name}:{version}", "trained_on": bundle.trained_on})
        mlflow.log_params(_flat(bundle.metadata["settings"]))
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
        source = f"{run.info.artifact_uri}/bundle"
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    registered = client.create_model_version(name, source, run.info.run_id, tags={"bentoml_model": f"{name}:{version}"})
    client.set_registered_model_alias(name, CHAMPION, registered.version)
    return str(run.info.run_id)


def record_study(kind: str, data: str, metrics: dict[str, float], files: Iterable[Path], home: Path) -> str:
    """Log what a study of data or models made, in an experiment of its own; returns the run's id."""
    make_private(home)
    mlflow.set_tracking_uri(tracking_uri(home))
    _experiment(STUDIES, home)
    with mlflow.start_run(run_name=kind, log_system_metrics=False) as run:
        mlflow.set_tags({"study": kind, "data": data})
        mlflow.log_metrics(metrics)
        for file in files:
            mlflow.log_artifact(str(file))
    return str(run.info.run_id)


def _experiment(name: str, home: Path) -> None:
    client = mlflow.MlflowClient()
    if client.get_experiment_by_name(name) is None:
        client.create_experiment(name, artifact_location=(home.absolute() / "mlartifacts").as_uri())
    mlflow.set_experiment(name)


def champion_run(name: str, version: str, home: Path) -> str | None:
    """The id of the run that made this bundle version, if it holds the champion alias."""
    mlflow.set_tracking_uri(tracking_uri(home))
    try:
        champion = mlflow.MlflowClient().get_model_version_by_alias(name, CHAMPION)
    except MlflowException:
        return None
    return str(champion.run_id) if champion.tags.get("bentoml_model") == f"{name}:{version}" else None


def _flat(tree: dict[str, object], prefix: str = "") -> dict[str, object]:
    result: dict[str, object] = {}
    for key, value in tree.items():
        result |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return result
