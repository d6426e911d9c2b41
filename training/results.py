"""The results of a training run: first the model in the store, then its plots, then its record in MLflow."""

from functools import partial
from pathlib import Path

from configs.settings import Settings
from serving.bundle import Bundle
from serving.model_store import champion, name_run, save_to_store
from training import plots, tracking
from training.aliases import Say
from training.train import Training


def keep(training: Training, settings: Settings, say: Say, *, promote_first: str | None = None) -> str:
    """Save the model as a candidate, then its plots and record; if these fail, warn and keep the model. Returns its tag.

    Parameters
    ----------
    promote_first : reason for which the model becomes the champion if there is none.

    Raises
    ------
    BundleError
        The model store cannot be written.
    """
    bundle = training.bundle
    tag = save_to_store(bundle, settings.model.name, promote_first=promote_first)
    try:
        plots.save(plots.training_plots(training), report_folder(bundle, settings))
    except OSError as error:
        say(f"warning: the plots could not be written: {error}; train again on the same data to write them")
    if put_on_record(bundle, settings, say) is False:
        say("the same data and settings gave the same model as before; nothing changes")
    return tag


def put_on_record(bundle: Bundle, settings: Settings, say: Say) -> bool | None:
    """`record` a model; if MLflow cannot, warn with the command that repeats it. Returns whether the record is new, None if it failed."""
    try:
        return record(bundle, settings, say)
    except (tracking.TrackingError, OSError) as error:
        tag = f"{settings.model.name}:{bundle.version}"
        say(
            f"warning: {tag} is saved, but MLflow does not show its present state: {error}; then run `credit-scoring record {bundle.version}`"
        )
        return None


def record(bundle: Bundle, settings: Settings, say: Say) -> bool:
    """Record a model of the store in MLflow with its plots, link the two, and set the alias of the champion; returns whether the record is new.

    Raises
    ------
    TrackingError
        MLflow cannot record it.
    OSError
        The entry in the store cannot be written.
    """
    name = settings.model.name
    figures = sorted(report_folder(bundle, settings).glob("*.png"))
    recorded = tracking.record(bundle, name, figures, settings.home, say, champion=partial(champion, name))
    name_run(f"{name}:{bundle.version}", recorded.run_id)
    return recorded.new


def report_folder(bundle: Bundle, settings: Settings) -> Path:
    """The folder of a model's plots."""
    return settings.home / "reports" / bundle.version
