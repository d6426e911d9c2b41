"""Finds and saves bundles in the BentoML model store, and knows which of them is the champion."""

from pathlib import Path
from typing import Any

import yaml

from serving.bundle import Bundle, BundleError, MissingBundleError, stored_version
from serving.journal import Event, add_events, champions, journal_path, new_event, read_journal
from serving.whole_files import locked, whole_file, whole_folder

CHAMPION = "champion"
LATEST = "latest"
NOTHING = "the BentoML model store holds no model {}; run `make train` first"
PARTIAL = "credit-scoring.partial"  # temporary folder in the store; BentoML does not list it, because it has no version folders


def model_store() -> Path:
    """The folder of the BentoML model store."""
    from bentoml._internal.configuration.containers import BentoMLContainer

    return Path(BentoMLContainer.model_store.get()._path)


def find_in_store(name: str, version: str) -> Path:
    """The folder of an entry of the BentoML model store.

    Parameters
    ----------
    version : a version, or "champion".

    Raises
    ------
    MissingBundleError
        The store has no such entry; for "champion", it has none at all.
    BundleError
        No version is the champion, or the entry is incomplete, or its content is not the version that its name gives.
    """
    import bentoml

    if version == CHAMPION:
        version = _served(name)
    try:
        model = bentoml.models.get(f"{name}:{version}")
    except bentoml.exceptions.NotFound:
        raise MissingBundleError(
            NOTHING.format(name)
            if version == LATEST
            else f"the BentoML model store holds no model {name}:{version}; `credit-scoring models` lists those that it holds"
        ) from None
    except (bentoml.exceptions.BentoMLException, ValueError) as error:
        raise BundleError(f"the BentoML model store holds no whole model {name}:{version}: {error}") from None
    folder = Path(model.path)
    if stored_version(folder) != model.tag.version:
        raise BundleError(f"the bundle in {folder} is damaged: its content is version {stored_version(folder)}")
    return folder


def champion(name: str) -> str | None:
    """The version that the journal names as the champion; None if it names none.

    Raises
    ------
    JournalError
        The journal cannot be read.
    """
    return next(reversed(champions(read_journal(journal_path(model_store(), name)) or [])), None)


def has_journal(name: str) -> bool:
    """Whether the store has a journal of the model. A store of an earlier release has none; then BentoML's latest version is served."""
    return journal_path(model_store(), name).is_file()


def save_to_store(bundle: Bundle, name: str, event: Event | None = None, *, promote_first: str | None = None) -> str:
    """Save a bundle as a candidate; returns its tag. If the store already holds the bundle, nothing changes.

    The entry appears whole, so a concurrent reader sees the store either before or after the change.

    Parameters
    ----------
    event : how the version was made, by default by training.
    promote_first : reason for which the bundle becomes the champion if there is none.

    Raises
    ------
    BundleError
        The store cannot be written.
    """
    import bentoml

    tag = bentoml.Tag(name, bundle.version)
    store = model_store()
    entry, journal = store / tag.path(), journal_path(store, name)
    try:
        with locked(store / ".lock"):
            begin_journal(name)
            if not _holds(entry, bundle):
                with whole_folder(entry, store / PARTIAL) as folder:
                    _write_entry(folder, bundle, tag)
            past = read_journal(journal) or []
            new = [] if any(one.version == bundle.version for one in past) else [event or new_event("train", bundle.version)]
            if promote_first and not champions(past):
                new.append(new_event("promote", bundle.version, promote_first))
            if new:
                add_events(journal, new)
            point_latest(name)
    except OSError as error:
        raise BundleError(f"the model cannot be saved: {error}") from None
    return str(tag)


def point_latest(name: str) -> None:
    """Make the champion BentoML's latest version, which `bentoml build` packs. Hold the lock of the store.

    Raises
    ------
    OSError
        The store cannot be written.
    """
    standing, latest = champion(name), model_store() / name / LATEST
    if standing and latest.parent.is_dir() and (not latest.is_file() or latest.read_text(encoding="utf-8").strip() != standing):
        with whole_file(latest) as file:
            file.write_text(standing, encoding="utf-8")


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


def begin_journal(name: str) -> None:
    """Begin the journal of a store that has none: the version that has been served stays the champion. Hold the lock of the store."""
    import bentoml

    if has_journal(name):
        return
    try:
        served = [str(bentoml.models.get(f"{name}:{LATEST}").tag.version)]
    except (bentoml.exceptions.BentoMLException, ValueError):
        served = []
    events = [new_event("adopt", version, "was served when the journal began") for version in served]
    add_events(journal_path(model_store(), name), events)


def _served(name: str) -> str:
    """The version to serve: the champion, or BentoML's latest if there is no journal."""
    store = model_store()
    events = read_journal(journal_path(store, name))
    if events is None:
        return LATEST
    standing = champions(events)[-1:]
    if not standing:
        made = [event.version for event in events if (store / name / event.version).is_dir()]
        if made:
            raise BundleError(
                f"no version of {name} is promoted; to serve the newest, run `credit-scoring promote {made[-1]} --reason TEXT`"
            )
        raise MissingBundleError(NOTHING.format(name))
    if not (store / name / standing[0]).is_dir():
        raise BundleError(f"the champion {name}:{standing[0]} is not in the model store; promote another version (`credit-scoring models`)")
    return standing[0]


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
