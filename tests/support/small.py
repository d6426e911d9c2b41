"""A training that takes almost no time: 300 applications, three features, three trees."""

from functools import cache

import lightgbm
import numpy as np

from features.applications import Applications
from features.transform import FeatureTransform
from monitoring.drift.psi import reference
from serving.bundle import GENERATED, Bundle
from serving.calibration import Calibration
from serving.decision import Costs, Decision, approved_counts, cost_curve
from training.evaluation import calibration_table, metrics
from training.home_credit.generator import Generator
from training.train import Training

COSTS = Costs(10, 1)


@cache
def small_training(seed: int = 0) -> Training:
    """A training whose bundle can be saved and verified. Each seed gives another model version."""
    frame = next(Generator.from_file().draw(300, seed=1))
    features = FeatureTransform(["AMT_CREDIT", "AMT_INCOME_TOTAL", "NAME_HOUSING_TYPE"])
    matrix = features.fit_transform(Applications.from_columns(frame)).matrix
    defaulted = frame["TARGET"].to_numpy(dtype=np.int8)
    options = {"objective": "binary", "seed": seed, "verbosity": -1, "num_threads": 1}
    booster = lightgbm.train(options, lightgbm.Dataset(matrix, defaulted, feature_name=list(features.names)), num_boost_round=3)
    pd = np.random.default_rng(seed).beta(1, 11, len(defaulted))
    measured = metrics(defaulted, pd, 0.1, COSTS)
    bundle = Bundle(
        model=booster.model_to_string(),
        features=features,
        calibration=Calibration(1, 0),
        decision=Decision(0.1, COSTS),
        reference={
            "features": reference(matrix, features.names, features.categorical_positions),
            "pd": reference(pd.reshape(-1, 1), ["pd"])["pd"],
        },
        metadata={
            "trained_on": GENERATED,
            "data": {"fingerprint": "0", "applications": len(pd), "default_rate": float(defaulted.mean())},
            "metrics": {name: {"value": value} for name, value in measured.items()},
            "calibration_table": calibration_table(defaulted, pd),
            "approved": dict(zip(("defaulted", "repaid"), (counts.tolist() for counts in approved_counts(defaulted, pd)), strict=True)),
            "settings": {"seed": seed},
            "libraries": {},
        },
    )
    return Training(bundle, defaulted, pd, cost_curve(defaulted, pd, COSTS), dict.fromkeys(features.names, 1.0))
