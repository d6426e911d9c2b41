"""Fits the gradient boosting: its training data, its parameters, and the folds."""

from collections.abc import Callable
from typing import Any

import lightgbm
import numpy as np
from sklearn.model_selection import StratifiedKFold

from configs.settings import Settings
from features.history import Matrix
from training.aliases import Labels, Positions
from training.constraints import constraints
from training.data.sufficiency import check_enough
from training.prepare import Prepared

Fold = tuple[Positions, Positions]
Fit = Callable[[Prepared, Settings, Positions], lightgbm.Booster]


def folds_of(prepared: Prepared, settings: Settings) -> list[Fold]:
    """For each fold the rows to fit on and the rows to judge by. All comparisons of models use these folds.

    Raises
    ------
    DataError
        There are too few applications or outcomes.
    """
    options = settings.training
    check_enough(prepared.defaulted, options)
    return list(StratifiedKFold(options.folds, shuffle=True, random_state=options.seed).split(prepared.matrix, prepared.defaulted))


def learned_from(prepared: Prepared, settings: Settings, rows: Positions) -> tuple[Matrix, Labels]:
    """Features and outcomes of these rows as a model learns them.

    If fewer than `training.without_history` of the applicants lack a history, copies of some are added without theirs. A model that never
    saw an applicant without history would score one by the accident of where its trees send missing values.
    """
    matrix, defaulted = prepared.lesson[rows], prepared.defaulted[rows]
    known = np.flatnonzero(prepared.with_history[rows])
    share = settings.training.without_history
    wanted = round((share * len(rows) - (len(rows) - len(known))) / (1 - share))
    if wanted <= 0:
        return matrix, defaulted
    copied = known[np.linspace(0, len(known), wanted, endpoint=False).astype(np.intp)]
    copies = matrix[copied]
    copies[:, prepared.features.history_positions] = np.nan
    return np.concatenate([matrix, copies]), np.concatenate([defaulted, defaulted[copied]])


def parameters(settings: Settings) -> dict[str, Any]:
    """LightGBM's parameters, without the number of trees."""
    return {
        **settings.training.lightgbm.model_dump(exclude={"num_trees"}),
        "objective": "binary",
        "seed": settings.training.seed,
        "deterministic": True,
        "force_col_wise": True,  # one thread sums each histogram, so the number of threads changes no bit
        "verbosity": -1,
    }


def fit_parameters(prepared: Prepared, settings: Settings) -> dict[str, Any]:
    """The parameters for these features, with monotone constraints if the settings ask for them."""
    constrained = {"monotone_constraints": constraints(prepared.features.names)} if settings.training.monotone else {}
    return parameters(settings) | constrained


def fit_here(prepared: Prepared, settings: Settings, rows: Positions) -> lightgbm.Booster:
    """Fit the gradient boosting on these rows, on this machine."""
    matrix, defaulted = learned_from(prepared, settings, rows)
    options = fit_parameters(prepared, settings)
    data = lightgbm.Dataset(
        matrix,
        defaulted,
        feature_name=list(prepared.features.names),
        categorical_feature=list(prepared.features.categorical_positions),
        params=options,
    )
    return lightgbm.train(options, data, num_boost_round=settings.training.lightgbm.num_trees)
