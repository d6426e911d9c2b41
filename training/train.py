"""One training run: matrices, cross-validation, calibration, threshold, final model, bundle."""

import hashlib
import importlib.metadata
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from configs.settings import CONFIGS, Settings
from features.history import Mask, Matrix
from features.schema import load_schema
from features.transform import Applications, FeatureTransform, chosen_features
from monitoring.drift import reference
from serving.bundle import GENERATED, Bundle
from serving.calibration import Calibration
from serving.decision import Choice, CostCurve, Costs, Decision, choose_threshold, cost_curve, cost_per_client
from serving.files import locked, whole_folder
from serving.thin import ThinRule, gain_parts, thin_limit
from training.constraints import constraints
from training.data.history_folder import Files, HistoryFolder, history_sources
from training.data.leakage import refusal, suspect_features, suspects
from training.data.source import DataError, Say, find_source, fingerprint, is_generated, target_of
from training.data.sufficiency import check_enough
from training.data.validation import read_table
from training.evaluation import Labels, Values, calibration_table, fit_calibration, metrics, with_intervals

LIBRARIES = ("bentoml", "lightgbm", "numpy", "pandas", "scikit-learn")
SHOWN_THRESHOLDS = (0.03, 0.05, 0.07, 0.09, 0.11, 0.13, 0.15, 0.2, 0.3, 0.5)


@dataclass(frozen=True)
class Prepared:
    """The feature matrix of a folder of tables, its target, and the transform that made it.

    Attributes
    ----------
    matrix : features of the applications as they are, by which models are judged.
    lesson : the same with some fields hidden, which models learn from.
    """

    features: FeatureTransform
    matrix: Matrix
    lesson: Matrix
    defaulted: Labels
    fingerprint: str
    generated: bool

    @property
    def with_history(self) -> NDArray[np.bool_]:
        """Whether anything of the history of each applicant is known."""
        return np.asarray(~np.isnan(self.matrix[:, self.features.history_positions]).all(axis=1))


Fold = tuple[NDArray[np.intp], NDArray[np.intp]]
Fit = Callable[[Prepared, Settings, NDArray[np.intp]], lightgbm.Booster]


@dataclass(frozen=True)
class Training:
    """What a run leaves: the bundle, and what the plots are drawn from (out-of-fold PDs, cost curve, gain by feature)."""

    bundle: Bundle
    defaulted: Labels
    pd: Values
    curve: CostCurve
    gain: dict[str, float]


def prepare(folder: Path, settings: Settings, say: Say, names: Sequence[str] | None = None) -> Prepared:
    """Load, validate and transform the applications of a folder and their history; kept in the cache by the data's fingerprint.

    Parameters
    ----------
    names : the features to compute; those of configs/features.yaml if None.

    Raises
    ------
    DataError
        The tables cannot be used, or a column of them tells the outcome.
    """
    table = load_schema()["application"]
    sources = [find_source(folder, table.files["train"]), *history_sources(folder).values()]
    mark = fingerprint(sources)
    kept = settings.home / "cache" / f"{mark}-{_code_digest(names, settings)}"
    with locked(kept.with_name(f"{kept.name}.lock")):
        if not (kept / "features.json").is_file():
            say(f"reading {', '.join(str(source) for source in sources)}")
            _prepare(folder, kept, names, settings, say)
        else:
            say(f"prepared matrix found in the cache ({kept.name}); of the tables was said:")
            for line in json.loads((kept / "said.json").read_text(encoding="utf-8")):
                say(line)
    found = json.loads((kept / "suspects.json").read_text(encoding="utf-8"))
    if refused := refusal(found, settings.training.allowed_columns):
        raise DataError(f"{folder}: {refused}")
    features = FeatureTransform.from_json((kept / "features.json").read_text(encoding="utf-8"))
    matrix, lesson, target = (np.load(kept / f"{name}.npy") for name in ("matrix", "lesson", "target"))
    return Prepared(features, matrix, lesson, target, mark, is_generated(folder))


def parameters(settings: Settings) -> dict[str, Any]:
    """LightGBM's parameters, the number of trees aside."""
    return {
        **settings.training.lightgbm.model_dump(exclude={"num_trees"}),
        "objective": "binary",
        "seed": settings.training.seed,
        "deterministic": True,
        "force_col_wise": True,  # a histogram is then summed by one thread, whatever their number
        "verbosity": -1,
    }


def fit_parameters(prepared: Prepared, settings: Settings) -> dict[str, Any]:
    """The parameters for these features, with their constraints where they are asked for."""
    constrained = {"monotone_constraints": constraints(prepared.features.names)} if settings.training.monotone else {}
    return parameters(settings) | constrained


def learned_from(prepared: Prepared, settings: Settings, rows: NDArray[np.intp]) -> tuple[Matrix, Labels]:
    """Features and outcomes that a model learns these rows from.

    Where too few applicants lack a history, copies of some without theirs come on top, so that `without_history` of all lack it: a
    model that never saw an applicant without history would score one by the accident of where its trees send what is missing.
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


def fit_here(prepared: Prepared, settings: Settings, rows: NDArray[np.intp]) -> lightgbm.Booster:
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


def folds_of(prepared: Prepared, settings: Settings) -> list[Fold]:
    """The rows to fit on and the rows to judge by, of each fold; the same wherever models are compared.

    Raises
    ------
    DataError
        There is too little to learn from.
    """
    options = settings.training
    check_enough(prepared.defaulted, options)
    return list(StratifiedKFold(options.folds, shuffle=True, random_state=options.seed).split(prepared.matrix, prepared.defaulted))


def train(prepared: Prepared, settings: Settings, say: Say, fit: Fit = fit_here) -> Training:
    """Cross-validate, calibrate, choose the threshold, and train the final model on all rows.

    Parameters
    ----------
    fit : fits the gradient boosting on some of the rows; another than `fit_here` fits elsewhere.
    """
    y, options = prepared.defaulted, settings.training
    costs = Costs.of(settings.decision)
    folds = folds_of(prepared, settings)
    margins, fold_auc = np.empty(len(y)), []
    for number, (inside, outside) in enumerate(folds, 1):
        start = time.perf_counter()
        booster = fit(prepared, settings, inside)
        margins[outside] = booster.predict(prepared.matrix[outside], raw_score=True)
        fold_auc.append(float(roc_auc_score(y[outside], margins[outside])))
        say(f"fold {number}/{options.folds}: ROC-AUC {fold_auc[-1]:.4f} ({time.perf_counter() - start:.0f} s)")
    pd = cross_fitted(margins, y, folds)
    calibration = fit_calibration(margins, y)
    choice = choose_threshold(y, pd, costs, settings.decision.min_approval_rate)
    threshold = choice.threshold
    say(f"{choice}; bootstrap of the metrics")
    intervals = with_intervals(lambda rows: metrics(y[rows], pd[rows], threshold, costs), y, options.bootstrap_samples, options.seed)
    intervals["roc_auc"] |= {"fold_mean": float(np.mean(fold_auc)), "fold_std": float(np.std(fold_auc))}
    say("final model on all rows")
    booster = fit(prepared, settings, np.arange(len(y)))
    gain = dict(zip(prepared.features.names, booster.feature_importance("gain").tolist(), strict=True))
    limit = thin_limit(prepared.matrix, gain_parts(prepared.features.names, gain.values()), prepared.features.history_positions)
    bundle = Bundle(
        model=booster.model_to_string(),
        features=prepared.features,
        calibration=calibration,
        decision=Decision(threshold, costs, ThinRule(limit, settings.decision.thin_application)),
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
            "settings": {"decision": settings.decision.model_dump(), "training": options.model_dump(mode="json")},
            "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
        },
    )
    return Training(bundle, y, pd, cost_curve(y, pd, costs), gain)


def hide(defaulted: Labels, columns: int, settings: Settings) -> Mask:
    """Which values a model does not get to see, shape (rows, columns): the share `hidden` of each column, at random, one at least.

    As large a share of them belongs to defaulters as of all, or else the model would learn that missing means more or fewer defaults.
    """
    options = settings.training
    random = np.random.default_rng(options.seed)
    rows = np.lexsort((random.random(len(defaulted)), defaulted))
    edges = np.linspace(0, len(rows), max(1, round(options.hidden * len(rows))) + 1).astype(np.intp)
    hidden = np.zeros((len(rows), columns), dtype=bool)
    for column in hidden.T:
        column[rows[random.integers(edges[:-1], edges[1:])]] = True
    return hidden


def _prepare(folder: Path, kept: Path, names: Sequence[str] | None, settings: Settings, say: Say) -> None:
    said: list[str] = []

    def note(line: str) -> None:
        said.append(line)
        say(line)

    table, files, limits = load_schema()["application"], Files(), settings.data
    frame = read_table(find_source(folder, table.files["train"]), table, with_target=True, say=note, limits=limits)
    applications = Applications.from_columns(frame, table)
    features = FeatureTransform(names)
    history = HistoryFolder(folder, frame[table.key].to_numpy(), note, files, limits)
    target = target_of(frame, table)
    hidden = hide(target, len(table.columns) + len(features.names), settings)
    matrix, lesson = features.fit_transform(applications, history.history(), hidden[:, : len(table.columns)])
    never_missing = ~np.isnan(lesson).any(axis=0)  # counts over several fields; LightGBM would take a missing one for 0
    lesson[hidden[:, len(table.columns) :] & never_missing] = np.nan
    files.tell(note)
    say(f"{len(matrix):,} applications, {matrix.shape[1]} features, default rate {target.mean():.2%}")
    found = suspects(frame, table, target)
    found |= suspect_features(matrix, features.names, features.categorical_positions, target)
    with whole_folder(kept, kept.with_name(f"{kept.name}.partial")) as partial:
        np.save(partial / "matrix.npy", matrix)
        np.save(partial / "lesson.npy", lesson)
        np.save(partial / "target.npy", target)
        (partial / "said.json").write_text(json.dumps(said), encoding="utf-8")
        (partial / "suspects.json").write_text(json.dumps(found), encoding="utf-8")
        (partial / "features.json").write_text(features.to_json(), encoding="utf-8")


def _code_digest(names: Sequence[str] | None, settings: Settings) -> str:
    """Names the code, the schema, the features and the settings that prepared matrices depend on."""
    code = [Path(__file__), *Path(__file__).parent.glob("data/*.py"), *CONFIGS.parent.glob("features/*.py")]
    files = sorted([*code, CONFIGS / "schema.yaml"])
    content = [
        *(file.read_bytes() for file in files),
        f"{settings.data} {' '.join(names or chosen_features())} {settings.training.hidden} {settings.training.seed}".encode(),
    ]
    return hashlib.sha256(b"".join(content)).hexdigest()[:12]


def cross_fitted(margins: Values, y: Labels, folds: list[Fold]) -> Values:
    """PDs whose calibration did not see their fold; the margins are out of fold already."""
    pd = np.empty(len(y))
    for inside, outside in folds:
        calibration: Calibration = fit_calibration(margins[inside], y[inside])
        pd[outside] = calibration.apply(margins[outside])
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
