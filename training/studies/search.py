"""A resumable search for better parameters of the gradient boosting, judged on fresh folds."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score
from sqlalchemy import URL

from configs.settings import LightGBMSettings, Settings
from monitoring.private_files import make_private
from training.aliases import Say
from training.fitting import Fold, fit_here, folds_of
from training.prepare import Prepared
from training.studies.comparison import paired

FRESH_SPLITS = 2  # into folds that the search has not seen; on its own folds the best of many trials owes something to luck
MOST_TREES, MOST_LEAVES = 1000, 16  # more would exceed the time budget of scoring a row
CONVINCING = 2.0  # paired standard errors by which new parameters must win


def open_study(prepared: Prepared, settings: Settings) -> optuna.Study:
    """Open or continue the study of these data and folds, in a SQLite file under CREDIT_HOME."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    make_private(settings.home)
    return optuna.create_study(
        study_name=f"{prepared.fingerprint}-{len(prepared.features.names)}-{settings.training.folds}",
        storage=URL.create("sqlite", database=str(settings.home.absolute() / "optuna.db")).render_as_string(),
        sampler=optuna.samplers.TPESampler(seed=settings.training.seed, n_startup_trials=8),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=0),
        direction="maximize",
        load_if_exists=True,
    )


def search(study: optuna.Study, prepared: Prepared, settings: Settings, trials: int, say: Say) -> None:
    """Run trials until the study has `trials` of them. The first tries the parameters of the settings."""
    folds = folds_of(prepared, settings)
    if not study.trials:
        study.enqueue_trial(settings.training.lightgbm.model_dump())

    def objective(trial: optuna.Trial) -> float:
        tried = with_parameters(settings, suggest(trial))
        aucs: list[float] = []
        for number, fold in enumerate(folds):
            aucs.append(_auc(prepared, tried, fold))
            trial.report(float(np.mean(aucs)), number)
            if trial.should_prune():
                raise optuna.TrialPruned
        return float(np.mean(aucs))

    def tell(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        outcome = f"ROC-AUC {trial.value:.4f}" if trial.state == optuna.trial.TrialState.COMPLETE else trial.state.name.lower()
        say(f"trial {trial.number + 1}/{trials}: {outcome}, {trial.params}")

    finished = sum(trial.state.is_finished() for trial in study.trials)
    study.optimize(objective, n_trials=max(0, trials - finished), callbacks=[tell])


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    """Suggest parameters within the budget of scoring."""
    return {
        "num_trees": trial.suggest_int("num_trees", 20, MOST_TREES),
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.2, log=True),
        "max_depth": trial.suggest_int("max_depth", 2, 7),
        "num_leaves": trial.suggest_int("num_leaves", 3, MOST_LEAVES),
        "feature_fraction": trial.suggest_float("feature_fraction", 0.03, 0.5, log=True),
        "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 20, 1000, log=True),
        "lambda_l2": trial.suggest_float("lambda_l2", 0.1, 300, log=True),
    }


def with_parameters(settings: Settings, parameters: dict[str, Any]) -> Settings:
    """The settings with other parameters of the boosting."""
    training = settings.training.model_copy(update={"lightgbm": LightGBMSettings(**parameters)})
    return settings.model_copy(update={"training": training})


def verdict(study: optuna.Study, prepared: Prepared, settings: Settings, say: Say) -> str:
    """Say whether the best parameters beat those of the settings by more than CONVINCING paired standard errors on fresh splits."""
    best = with_parameters(settings, study.best_params)
    found = f"best ROC-AUC {study.best_value:.4f} of {len(study.trials)} trials"
    if best == settings:
        return f"{found}, with the current parameters"
    pairs = []
    for split in range(1, FRESH_SPLITS + 1):
        training = settings.training.model_copy(update={"seed": settings.training.seed + split})
        for number, fold in enumerate(folds_of(prepared, settings.model_copy(update={"training": training})), 1):
            pairs.append((_auc(prepared, best, fold), _auc(prepared, settings, fold)))
            say(
                f"split {split}/{FRESH_SPLITS}, fold {number}: ROC-AUC {pairs[-1][0]:.4f} with the best parameters, {pairs[-1][1]:.4f} with the current ones"
            )
    difference, error = paired(*np.array(pairs).T)
    return (
        f"{found}; on {FRESH_SPLITS} fresh splits {difference:+.4f} ± {error:.4f} compared with the current parameters: "
        f"{'worth a change' if difference > CONVINCING * error else 'no reason to change'}"
    )


def _auc(prepared: Prepared, settings: Settings, fold: Fold) -> float:
    inside, outside = fold
    margins = fit_here(prepared, settings, inside).predict(prepared.matrix[outside], raw_score=True)
    return float(roc_auc_score(prepared.defaulted[outside], margins))


def study_plots(study: optuna.Study) -> Iterator[tuple[str, Figure]]:
    """File name and figure: the course of the search, the importance of each parameter, and values by parameter."""
    from optuna.visualization import matplotlib as drawings

    done = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls these drawings experimental; matplotlib warns of its axes
        yield "history.png", _figure(drawings.plot_optimization_history(study))
        if len(done) > 1:
            yield "importances.png", _figure(drawings.plot_param_importances(study))
            yield "slices.png", _figure(drawings.plot_slice(study))


def _figure(axes: Any) -> Any:
    return np.ravel(np.array(axes, dtype=object))[0].figure


def write_parameters(study: optuna.Study, path: Path) -> None:
    """Write the best parameters as a settings file for CREDIT_CONFIG."""
    import yaml

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"training": {"lightgbm": study.best_params}}), encoding="utf-8")
