"""Search for better parameters of the gradient boosting: resumable, pruned, judged by fold against the present ones."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score

from configs.settings import LightGBMSettings, Settings
from training.comparison import paired
from training.train import Prepared, Say, fit_here, folds_of

FOLDS = "folds"  # attribute of a trial: its ROC-AUC in each fold
MOST_TREES, MOST_LEAVES = 1000, 16  # what is scored within the budget of one row
CONVINCING = 2.0  # paired standard errors by which parameters must win to be worth a change


def open_study(prepared: Prepared, settings: Settings) -> optuna.Study:
    """The study of these data and folds, in a SQLite file under CREDIT_HOME; what is there already is continued."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    settings.home.mkdir(parents=True, exist_ok=True)
    return optuna.create_study(
        study_name=f"{prepared.fingerprint}-{len(prepared.features.names)}-{settings.training.folds}",
        storage=f"sqlite:///{settings.home.absolute() / 'optuna.db'}",
        sampler=optuna.samplers.TPESampler(seed=settings.training.seed, n_startup_trials=8),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=0),
        direction="maximize",
        load_if_exists=True,
    )


def search(study: optuna.Study, prepared: Prepared, settings: Settings, trials: int, say: Say) -> None:
    """Try parameters until the study has so many trials; the first of them are those of the settings."""
    folds = folds_of(prepared, settings)
    if not study.trials:
        study.enqueue_trial(settings.training.lightgbm.model_dump())

    def objective(trial: optuna.Trial) -> float:
        tried = with_parameters(settings, suggest(trial))
        aucs: list[float] = []
        for number, (inside, outside) in enumerate(folds):
            margins = fit_here(prepared, tried, inside).predict(prepared.matrix[outside], raw_score=True)
            aucs.append(float(roc_auc_score(prepared.defaulted[outside], margins)))
            trial.report(float(np.mean(aucs)), number)
            if trial.should_prune():
                raise optuna.TrialPruned
        trial.set_user_attr(FOLDS, aucs)
        return float(np.mean(aucs))

    def tell(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        outcome = f"ROC-AUC {trial.value:.4f}" if trial.state == optuna.trial.TrialState.COMPLETE else trial.state.name.lower()
        say(f"trial {trial.number + 1}/{trials}: {outcome}, {trial.params}")

    finished = sum(trial.state.is_finished() for trial in study.trials)
    study.optimize(objective, n_trials=max(0, trials - finished), callbacks=[tell])


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    """Parameters within what the scoring budget allows."""
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
    """The settings with these parameters of the boosting."""
    training = settings.training.model_copy(update={"lightgbm": LightGBMSettings(**parameters)})
    return settings.model_copy(update={"training": training})


def verdict(study: optuna.Study) -> str:
    """One sentence: whether the best parameters beat the first, those of the settings, by more than CONVINCING paired standard errors.

    Raises
    ------
    ValueError
        The trial of the settings was not finished.
    """
    first = study.trials[0] if study.trials else None
    if first is None or FOLDS not in first.user_attrs:
        raise ValueError("the study has not judged the parameters of the settings; expected them in its first trial")
    best = study.best_trial
    difference, error = paired(np.array(best.user_attrs[FOLDS]), np.array(first.user_attrs[FOLDS]))
    wins = difference > CONVINCING * error and best.number != first.number
    return (
        f"best ROC-AUC {best.value:.4f} of {len(study.trials)} trials, {difference:+.4f} ± {error:.4f} against the parameters in force: "
        f"{'worth a change' if wins else 'no reason to change'}"
    )


def study_plots(study: optuna.Study) -> Iterator[tuple[str, Figure]]:
    """File name and figure: the course of the search, what each parameter matters, values against parameters."""
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
    """Write the best parameters as a file of settings, for CREDIT_CONFIG."""
    import yaml

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"training": {"lightgbm": study.best_params}}), encoding="utf-8")
