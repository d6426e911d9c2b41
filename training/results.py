"""The results of a training run: first the model in the store, then its plots, then its record in MLflow."""

from pathlib import Path

from configs.settings import Settings
from serving.bundle import Bundle
from serving.model_store import name_run, save_to_store
from training import plots, tracking
from training.aliases import Say
from training.train import Training


def keep(training: Training, settings: Settings, say: Say) -> str:
    """Save the model, then its plots and record; if these fail, warn and keep the model. Returns its tag.

    Raises
    ------
    BundleError
        The model store cannot be written.
    """
    bundle = training.bundle
    tag = save_to_store(bundle, settings.model.name)
    try:
        plots.save(plots.training_plots(training), report_folder(bundle, settings))
    except OSError as error:
        say(f"warning: the plots could not be written: {error}; train again on the same data to write them")
    try:
        if not put_on_record(bundle, settings, say):
            say("the same data and settings gave the same model as before; nothing changes")
    except (tracking.TrackingError, OSError) as error:
        say(f"warning: {tag} is saved but not on record in MLflow: {error}; then run `credit-scoring record {bundle.version}`")
    return tag


def put_on_record(bundle: Bundle, settings: Settings, say: Say, *, champion: bool = True) -> bool:
    """Record a model of the store in MLflow with its plots, and link the two; returns whether the record is new.

    Raises
    ------
    TrackingError
        MLflow cannot record it.
    OSError
        The entry in the store cannot be written.
    """
    name = settings.model.name
    figures = sorted(report_folder(bundle, settings).glob("*.png"))
    record = tracking.record(bundle, name, figures, settings.home, say, champion=champion)
    name_run(f"{name}:{bundle.version}", record.run_id)
    return record.new


def report_folder(bundle: Bundle, settings: Settings) -> Path:
    """The folder of a model's plots."""
    return settings.home / "reports" / bundle.version
