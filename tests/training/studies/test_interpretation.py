import numpy as np
import pytest

from features.applications import Applications
from serving.bundle import Bundle
from serving.scorer import Scorer
from training import plots
from training.home_credit.generator import Generator
from training.studies import interpretation


@pytest.mark.model
def test_contributions_add_up_to_the_margin(bundle: Bundle) -> None:
    matrix = bundle.features.transform(Applications.from_columns(next(Generator.from_file().draw(300, seed=3)))).matrix
    scorer = Scorer(bundle)
    chosen, values = interpretation.contributions(scorer, matrix, seed=0)
    np.testing.assert_array_equal(chosen, matrix)
    margins = scorer.trees.booster.predict(chosen, raw_score=True)
    base = scorer.trees.booster.predict(chosen[:1], pred_contrib=True)[0, -1]
    np.testing.assert_allclose(values.sum(axis=1) + base, margins, atol=1e-6)


@pytest.mark.model
def test_the_foremost_features_are_shown(bundle: Bundle, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpretation, "SAMPLE", 200)
    matrix = bundle.features.transform(Applications.from_columns(next(Generator.from_file().draw(300, seed=3)))).matrix
    chosen, values = interpretation.contributions(Scorer(bundle), matrix, seed=0)
    assert len(chosen) == 200
    ranked = interpretation.importance(bundle.features.names, values)
    assert list(ranked.values()) == sorted(ranked.values(), reverse=True)
    assert any(name.startswith("EXT_SOURCE") for name in list(ranked)[:10])
    paths = plots.save(interpretation.interpretation_plots(bundle.features.names, chosen, values), tmp_path)
    assert {path.name for path in paths} == {"shap_summary.png", "shap_dependence.png"}
