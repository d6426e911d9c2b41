"""One training run: cross-validation, calibration, threshold, final model, bundle."""

import importlib.metadata
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from configs.settings import Settings
from monitoring.drift.psi import reference
from serving.bundle import GENERATED, Bundle
from serving.decision import Choice, CostCurve, Costs, Decision, approved_counts, choose_threshold, cost_curve, cost_per_client
from serving.thin import ThinRule, gain_parts, thin_limit
from training.aliases import Labels, Say, Values
from training.evaluation import bootstrap_intervals, calibration_table, fit_calibration, metrics
from training.explaining.reasons import make_reasons
from training.fitting import Fit, Fold, fit_here, folds_of
from training.prepare import Prepared
from training.sanity import check_sanity

LIBRARIES = ("bentoml", "lightgbm", "numpy", "pandas", "scikit-learn")
SHOWN_THRESHOLDS = (0.03, 0.05, 0.07, 0.09, 0.11, 0.13, 0.15, 0.2, 0.3, 0.5)


@dataclass(frozen=True)
class Training:
    """The result of a run: the bundle, and what the plots show.

    Attributes
    ----------
    pd : out-of-fold PDs, shape (rows,), in [0, 1].
    curve : cost and approval rate by threshold.
    gain : LightGBM's gain of each feature.
    """

    bundle: Bundle
    defaulted: Labels
    pd: Values
    curve: CostCurve
    gain: dict[str, float]


def train(prepared: Prepared, settings: Settings, say: Say, fit: Fit = fit_here) -> Training:
    """Cross-validate, calibrate, choose the threshold, and train the final model on all rows.

    Parameters
    ----------
    fit : fits the gradient boosting on some of the rows, on this machine or on a cluster.

    Raises
    ------
    DataError
        There is too little to learn from, or nothing can be learned.
    UserError
        No threshold approves as many applicants as the settings require.
    """
    y, options, costs = prepared.defaulted, settings.training, Costs.of(settings.decision)
    folds = folds_of(prepared, settings)
    margins, fold_auc, fold_models = _cross_validate(prepared, settings, folds, say, fit)
    pd = calibrate_out_of_fold(margins, y, folds)
    calibration = fit_calibration(margins, y)
    choice = choose_threshold(y, pd, costs, settings.decision.min_approval_rate)
    say(f"{choice}; bootstrap of the metrics")
    intervals = bootstrap_intervals(
        lambda rows: metrics(y[rows], pd[rows], choice.threshold, costs), y, options.bootstrap_samples, options.seed
    )
    intervals["roc_auc"] |= {"fold_mean": float(np.mean(fold_auc)), "fold_std": float(np.std(fold_auc))}
    say("final model on all rows")
    booster = fit(prepared, settings, np.arange(len(y)))
    gain = dict(zip(prepared.features.names, booster.feature_importance("gain").tolist(), strict=True))
    limit = thin_limit(prepared.matrix, gain_parts(prepared.features.names, gain.values()), prepared.features.history_positions)
    model = booster.model_to_string()
    own_pd = calibration.apply(np.asarray(booster.predict(prepared.matrix, raw_score=True)))
    reasons = make_reasons(
        model, prepared.features, calibration, say, matrix=prepared.matrix, pd=own_pd, threshold=choice.threshold, folds=fold_models
    )
    bundle = Bundle(
        model=model,
        features=prepared.features,
        calibration=calibration,
        decision=Decision(choice.threshold, costs, ThinRule(limit, settings.decision.thin_application)),
        reference={
            "features": reference(prepared.matrix, prepared.features.names, prepared.features.categorical_positions),
            "pd": reference(pd.reshape(-1, 1), ["pd"])["pd"],
        },
        metadata={
            "trained_on": GENERATED if prepared.generated else prepared.fingerprint,
            "data": {"fingerprint": prepared.fingerprint, "applications": len(y), "default_rate": float(np.mean(y))},
            "metrics": intervals,
            "calibration_table": calibration_table(y, pd),
            "threshold": choice._asdict(),
            "thresholds": _threshold_table(y, pd, choice, costs),
            "approved": dict(zip(("defaulted", "repaid"), (counts.tolist() for counts in approved_counts(y, pd)), strict=True)),
            "settings": {"decision": settings.decision.model_dump(), "training": options.model_dump(mode="json")},
            "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
        },
        reasons=reasons,
    )
    sanity = check_sanity(bundle, prepared.matrix, monotone=options.monotone)
    say(f"{'' if sanity.sound else 'warning: '}{sanity}")
    bundle = replace(bundle, metadata={**bundle.metadata, "sanity": sanity._asdict()})
    return Training(bundle, y, pd, cost_curve(y, pd, costs), gain)


def _cross_validate(prepared: Prepared, settings: Settings, folds: list[Fold], say: Say, fit: Fit) -> tuple[Values, list[float], list[str]]:
    """Out-of-fold margins in log-odds, shape (rows,), and the ROC-AUC and the model of each fold."""
    y = prepared.defaulted
    margins, aucs, models = np.empty(len(y)), [], []
    for number, (inside, outside) in enumerate(folds, 1):
        start = time.perf_counter()
        booster = fit(prepared, settings, inside)
        margins[outside] = booster.predict(prepared.matrix[outside], raw_score=True)
        models.append(booster.model_to_string())
        aucs.append(float(roc_auc_score(y[outside], margins[outside])))
        say(f"fold {number}/{len(folds)}: ROC-AUC {aucs[-1]:.4f} ({time.perf_counter() - start:.0f} s)")
    return margins, aucs, models


def calibrate_out_of_fold(margins: Values, y: Labels, folds: list[Fold]) -> Values:
    """PDs of out-of-fold margins, each calibrated on the other folds."""
    pd = np.empty(len(y))
    for inside, outside in folds:
        pd[outside] = fit_calibration(margins[inside], y[inside]).apply(margins[outside])
    return pd


def _threshold_table(y: Labels, pd: Values, choice: Choice, costs: Costs) -> list[dict[str, Any]]:
    named = {"theoretical": costs.theoretical_threshold, "least": choice.least, "chosen": choice.threshold}
    return [
        {
            "threshold": threshold,
            "name": ", ".join(name for name, value in named.items() if value == threshold),
            "cost_per_client": cost_per_client(y, pd, threshold, costs),
            "approval_rate": float(np.mean(pd < threshold)),
        }
        for threshold in sorted({*SHOWN_THRESHOLDS, *named.values()})
    ]
