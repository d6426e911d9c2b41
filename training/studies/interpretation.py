"""What a model has learned: the contributions of its features (LightGBM's SHAP values), overall and by value."""

from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure

from features.history import Matrix
from serving.scorer import Scorer
from training.aliases import Values

SAMPLE = 5_000  # applicants whose contributions are computed
SHOWN, DEPENDENCES = 25, 12


def contributions(scorer: Scorer, matrix: Matrix, seed: int) -> tuple[Matrix, Matrix]:
    """Up to SAMPLE rows of the matrix, and the contribution of each value to the margin in log-odds, in the same shape.

    The contributions of a row and the expected margin add up to the margin of the row (Lundberg and Lee 2017).
    """
    rows = np.random.default_rng(seed).permutation(len(matrix))[:SAMPLE]
    chosen = matrix[np.sort(rows)]
    return chosen, np.asarray(scorer.trees.booster.predict(chosen, pred_contrib=True))[:, :-1]


def importance(names: tuple[str, ...], values: Matrix) -> dict[str, float]:
    """Mean absolute contribution of each feature in log-odds, in descending order."""
    means = np.abs(values).mean(axis=0)
    return {names[place]: float(means[place]) for place in np.argsort(-means, kind="stable")}


def interpretation_plots(names: tuple[str, ...], matrix: Matrix, values: Matrix) -> Iterator[tuple[str, Figure]]:
    """File name and figure: the summary of all features, and contribution by value for the most important ones."""
    order = [names.index(name) for name in importance(names, values)]
    random = np.random.default_rng(0)

    figure = Figure(figsize=(8, 9), layout="constrained")
    axes = figure.subplots()
    for height, place in enumerate(reversed(order[:SHOWN])):
        jitter = random.uniform(-0.3, 0.3, len(matrix))
        axes.scatter(values[:, place], height + jitter, c=_ranks(matrix[:, place]), cmap="coolwarm", s=2, rasterized=True)
    axes.set_yticks(range(len(order[:SHOWN])), [names[place] for place in reversed(order[:SHOWN])], fontsize=7)
    axes.set(title="Contributions; red high values, blue low, grey not known", xlabel="contribution to the log-odds of default")
    axes.axvline(0, color="grey", linewidth=0.5)
    yield "shap_summary.png", figure

    figure = Figure(figsize=(13, 9), layout="constrained")
    for panel, place in zip(figure.subplots(3, 4).flat, order[:DEPENDENCES], strict=False):
        known = ~np.isnan(matrix[:, place])
        panel.scatter(matrix[known, place], values[known, place], s=2, alpha=0.4, rasterized=True)
        if not known.all():
            panel.axhline(values[~known, place].mean(), color="grey", linestyle=":", linewidth=1)
        panel.set_title(names[place], fontsize=8)
        panel.tick_params(labelsize=7)
    figure.suptitle("Contribution against value; dotted: where the value is not known")
    yield "shap_dependence.png", figure


def _ranks(column: Values) -> Values:
    """Ranks in [0, 1], NaN where not known."""
    result = np.full(len(column), np.nan)
    known = ~np.isnan(column)
    order = np.argsort(column[known], kind="stable")
    ranks = np.empty(len(order))
    ranks[order] = np.linspace(0, 1, len(order))
    result[known] = ranks
    return result
