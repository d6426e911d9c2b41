"""Finds and saves bundles in the BentoML model store."""

from pathlib import Path
from typing import Any

import yaml

from serving.bundle import Bundle, BundleError, MissingBundleError, stored_version
from serving.whole_files import locked, whole_file, whole_folder

PARTIAL = "credit-scoring.partial"  # temporary folder in the store; BentoML does not list it, because it has no version folders


def find_in_store(name: str, version: str) -> Path:
    """The folder of an entry of the BentoML model store.

    Raises
    ------
    MissingBundleError
        The store has no such entry.
    BundleError
        The entry is incomplete, or its content is not the version that its name gives.
    """
    import bentoml

    try:
        model = bentoml.models.get(f"{name}:{version}")
    except bentoml.exceptions.NotFound:
        raise MissingBundleError(f"the BentoML model store holds no model {name}:{version}; run `make train` first") from None
    except (bentoml.exceptions.BentoMLException, ValueError) as error:
        raise BundleError(f"the BentoML model store holds no whole model {name}:{version}: {error}") from None
    folder = Path(model.path)
    if stored_version(folder) != model.tag.version:
        raise BundleError(f"the bundle in {folder} is damaged: its content is version {stored_version(folder)}")
    return folder


def save_to_store(bundle: Bundle, name: str) -> str:
    """Save a bundle and make it the latest; returns its tag. If the store already holds the bundle, its entry stays unchanged.

    The entry appears whole, so a concurrent reader sees the store either before or after the change.

    Raises
    ------
    BundleError
        The store cannot be written.
    """
    import bentoml
    from bentoml._internal.configuration.containers import BentoMLContainer

    tag = bentoml.Tag(name, bundle.version)
    store = Path(BentoMLContainer.model_store.get()._path)
    entry, latest = store / tag.path(), store / tag.latest_path()
    try:
        with locked(store / ".lock"):
            if not _holds(entry, bundle):
                with whole_folder(entry, store / PARTIAL) as folder:
                    _write_entry(folder, bundle, tag)
            if not latest.is_file() or latest.read_text(encoding="utf-8").strip() != bundle.version:
                with whole_file(latest) as file:
                    file.write_text(bundle.version, encoding="utf-8")
    except OSError as error:
        raise BundleError(f"the model cannot be saved: {error}") from None
    return str(tag)


def name_run(tag: str, run_id: str) -> None:
    """Record in an entry of the store the id of the MLflow run that produced it.

    Raises
    ------
    OSError
        The store cannot be written.
    """
    import bentoml

    path = Path(bentoml.models.get(tag).path_of("model.yaml"))
    with locked(path.parents[2] / ".lock"):
        entry = yaml.safe_load(path.read_text(encoding="utf-8"))
        labels = {**entry.get("labels", {}), "mlflow_run": run_id}
        if labels != entry.get("labels"):
            with whole_file(path) as file:
                file.write_text(yaml.safe_dump({**entry, "labels": labels}, sort_keys=False), encoding="utf-8")


def _holds(entry: Path, bundle: Bundle) -> bool:
    """Whether an entry of the store exists and is complete."""
    try:
        return (entry / "model.yaml").is_file() and all((entry / name).read_bytes() == data for name, data in bundle.files().items())
    except FileNotFoundError:
        return False


def _write_entry(folder: Path, bundle: Bundle, tag: Any) -> None:
    """Write the files that `bentoml.models.create` would write. That function copies them one by one, so the entry could be incomplete."""
    from bentoml._internal.models.model import ModelInfo
    from bentoml.models import ModelContext, ModelOptions

    for name, data in bundle.files().items():
        (folder / name).write_bytes(data)
    info = ModelInfo(
        tag=tag,
        module=Bundle.__module__,
        labels={},
        options=ModelOptions(),
        metadata={},
        context=ModelContext("", {}),
        signatures={},
        api_version="v1",
    )
    with (folder / "model.yaml").open("w", encoding="utf-8") as file:
        info.dump(file)
