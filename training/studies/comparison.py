"""Compares the gradient boosting with simpler models on the same features, folds and costs."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from configs.settings import Settings
from features.history import Matrix
from serving.decision import Costs, choose_threshold, cost_per_client
from training.aliases import Labels, Say, Values
from training.fitting import Fold, fit_here, folds_of, learned_from
from training.prepare import Prepared
from training.train import calibrate_out_of_fold

BINS = 10
TREES = 200  # of the random forest
SMOOTHING = 20.0  # applicants of the average default rate added to each bin
Predict = Callable[[Matrix], Values]


class Result(NamedTuple):
    """A model judged out of fold: PDs, ROC-AUC and cost per client in each fold, PR-AUC, and the seconds to fit it."""

    name: str
    pd: Values
    auc: Values
    cost: Values
    pr_auc: float
    seconds: float


class WeightOfEvidence:
    """Replaces each feature by the weight of evidence of its bin: the log-odds of default in the bin minus those of all applicants.

    A number has ten bins of equal mass, a category one for each value, and both have one for missing values. A value that fitting did not
    see has weight 0. Bins with few applicants are shrunk towards 0.
    """

    def __init__(self, categories: Sequence[int]) -> None:
        self.categories = frozenset(categories)

    def fit(self, matrix: Matrix, defaulted: Labels) -> Self:
        """Learn the bins, shape (rows, features), and their weights."""
        rate = float(defaulted.mean())
        self.edges_, self.weights_ = [], []
        for position, column in enumerate(matrix.T):
            known = column[~np.isnan(column)]
            edges = (
                np.unique(known)
                if position in self.categories
                else np.unique(np.quantile(known, np.arange(1, BINS) / BINS))
                if len(known)
                else known
            )
            bins = self._bins(column, edges)
            counts = np.bincount(bins, minlength=len(edges) + 2)
            share = (np.bincount(bins, defaulted, minlength=len(edges) + 2) + SMOOTHING * rate) / (counts + SMOOTHING)
            self.edges_.append(edges)
            self.weights_.append(np.log(share / (1 - share)) - np.log(rate / (1 - rate)))
        return self

    def transform(self, matrix: Matrix) -> Matrix:
        """The weights, in the shape of the matrix."""
        pairs = zip(matrix.T, self.edges_, self.weights_, strict=True)
        return np.column_stack([weights[self._bins(column, edges)] for column, edges, weights in pairs])

    @staticmethod
    def _bins(column: Values, edges: Values) -> NDArray[np.intp]:
        return np.where(np.isnan(column), len(edges) + 1, np.searchsorted(edges, column, side="left"))


def _logistic(prepared: Prepared, settings: Settings, rows: NDArray[np.intp]) -> Predict:
    matrix, defaulted = learned_from(prepared, settings, rows)
    weights = WeightOfEvidence(prepared.features.categorical_positions).fit(matrix, defaulted)
    model = LogisticRegression(C=0.01, max_iter=500).fit(weights.transform(matrix), defaulted)
    return lambda matrix: np.asarray(model.decision_function(weights.transform(matrix)))


def _forest(prepared: Prepared, settings: Settings, rows: NDArray[np.intp]) -> Predict:
    model = RandomForestClassifier(TREES, min_samples_leaf=30, max_features=0.15, n_jobs=-1, random_state=settings.training.seed)
    matrix, defaulted = learned_from(prepared, settings, rows)
    model.fit(matrix.astype(np.float32), defaulted)

    def predict(matrix: Matrix) -> Values:
        share = np.clip(model.predict_proba(matrix.astype(np.float32))[:, 1], 1e-6, 1 - 1e-6)
        return np.asarray(np.log(share / (1 - share)))

    return predict


def _boosting(prepared: Prepared, settings: Settings, rows: NDArray[np.intp]) -> Predict:
    booster = fit_here(prepared, settings, rows)
    return lambda matrix: np.asarray(booster.predict(matrix, raw_score=True))


MODELS: dict[str, Callable[[Prepared, Settings, NDArray[np.intp]], Predict]] = {
    "logistic regression on weights of evidence": _logistic,
    "random forest": _forest,
    "LightGBM": _boosting,
}


def compare(prepared: Prepared, settings: Settings, say: Say) -> list[Result]:
    """Cross-validate MODELS, each calibrated as in training, and a dummy that knows only the default rate."""
    y, folds = prepared.defaulted, folds_of(prepared, settings)
    rates = np.empty(len(y))
    for inside, outside in folds:
        rates[outside] = y[inside].mean()
    results = [judge("dummy", rates, y, folds, settings, 0.0)]
    for name, model in MODELS.items():
        start, margins = time.perf_counter(), np.empty(len(y))
        for inside, outside in folds:
            margins[outside] = model(prepared, settings, inside)(prepared.matrix[outside])
        seconds = time.perf_counter() - start
        results.append(judge(name, calibrate_out_of_fold(margins, y, folds), y, folds, settings, seconds))
        say(f"{name}: ROC-AUC {results[-1].auc.mean():.4f}, {seconds:.0f} s")
    return results


def judge(name: str, pd: Values, defaulted: Labels, folds: list[Fold], settings: Settings, seconds: float) -> Result:  # noqa: PLR0917
    """Judge out-of-fold PDs. The cost of each fold uses the threshold chosen on the other folds."""
    costs = Costs.of(settings.decision)
    cost = []
    for inside, outside in folds:
        threshold = choose_threshold(defaulted[inside], pd[inside], costs, settings.decision.min_approval_rate).threshold
        cost.append(cost_per_client(defaulted[outside], pd[outside], threshold, costs))
    auc = np.array([roc_auc_score(defaulted[outside], pd[outside]) for _, outside in folds])
    return Result(name, pd, auc, np.array(cost), float(average_precision_score(defaulted, pd)), seconds)


def paired(one: Values, other: Values) -> tuple[float, float]:
    """The mean difference of two models over the folds, and its standard error; both of shape (folds,)."""
    difference = one - other
    return float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference)))


def comparison_table(results: list[Result]) -> str:
    """A Markdown table that compares each model with the last one."""
    head = ["out of fold", "ROC-AUC", "PR-AUC", "cost per client", "ROC-AUC less the last model's", "cost less the last model's", "seconds"]
    rows = [head, ["---"] * len(head)]
    last = results[-1]
    for result in results:
        differences = ["{:+.4f} ± {:.4f}".format(*paired(getattr(result, what), getattr(last, what))) for what in ("auc", "cost")]
        rows.append(
            [
                result.name,
                f"{result.auc.mean():.4f} ± {result.auc.std():.4f}",
                f"{result.pr_auc:.4f}",
                f"{result.cost.mean():.4f} ± {result.cost.std():.4f}",
                *(differences if result is not last else ["", ""]),
                f"{result.seconds:.0f}",
            ]
        )
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def comparison_plot(results: list[Result]) -> Figure:
    """ROC-AUC and cost of each model in each fold. Lines join the points of a fold, to show paired differences."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes: Any = figure.subplots(1, 2)
    names = [result.name for result in results]
    for panel, what, title in zip(axes, ("auc", "cost"), ("ROC-AUC by fold", "cost per client by fold"), strict=True):
        values = np.array([getattr(result, what) for result in results])
        for fold in values.T:
            panel.plot(range(len(names)), fold, marker="o", markersize=4, color="C0", alpha=0.5)
        panel.set_xticks(range(len(names)), names, rotation=15, ha="right", fontsize=8)
        panel.set_title(title)
    return figure
