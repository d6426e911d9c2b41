"""What a training run leaves behind: the model in the store first, then its plots, then its record in MLflow."""

from pathlib import Path

from configs.settings import Settings
from serving.bundle import Bundle, name_run, save_to_store
from training import plots, tracking
from training.aliases import Say
from training.train import Training


def keep(training: Training, settings: Settings, say: Say) -> str:
    """Save the model, and say what else could not be written: nothing after it can lose it. Returns its tag.

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
        say(f"warning: the plots are not written: {error}; train again on the same data to write them")
    try:
        if not put_on_record(bundle, settings, say):
            say("the same data and settings gave the same model as before; nothing changes")
    except (tracking.TrackingError, OSError) as error:
        say(f"warning: {tag} is saved but not on record in MLflow: {error}; then run `credit-scoring record {bundle.version}`")
    return tag


def put_on_record(bundle: Bundle, settings: Settings, say: Say, *, champion: bool = True) -> bool:
    """Record a model of the store in MLflow, with its plots, and let each name the other; returns whether that is new.

    Raises
    ------
    TrackingError
        MLflow cannot take it.
    OSError
        The entry in the store cannot be written.
    """
    name = settings.model.name
    figures = sorted(report_folder(bundle, settings).glob("*.png"))
    record = tracking.record(bundle, name, figures, settings.home, say, champion=champion)
    name_run(f"{name}:{bundle.version}", record.run_id)
    return record.new


def report_folder(bundle: Bundle, settings: Settings) -> Path:
    """Where the plots of a model are."""
    return settings.home / "reports" / bundle.version
