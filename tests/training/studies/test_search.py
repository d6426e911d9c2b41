from pathlib import Path

import pytest
import yaml

from configs.settings import Settings
from training import plots
from training.prepare import Prepared
from training.studies import search


def ignore(_: str) -> None:
    pass


@pytest.mark.model
def test_a_search_is_continued_and_judged_against_the_parameters_in_force(
    prepared: Prepared, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MOST_TREES", 120)
    said: list[str] = []
    study = search.open_study(prepared, settings)
    search.search(study, prepared, settings, 1, said.append)
    assert (
        search.verdict(study, prepared, settings, ignore) == f"best ROC-AUC {study.best_value:.4f} of 1 trials, with the current parameters"
    )
    search.search(study, prepared, settings, 2, said.append)
    assert [trial.state.is_finished() for trial in study.trials] == [True, True]
    assert study.trials[0].params == settings.training.lightgbm.model_dump()
    again = search.open_study(prepared, settings)
    search.search(again, prepared, settings, 3, said.append)
    search.search(again, prepared, settings, 3, said.append)
    assert [trial.number for trial in again.trials] == [0, 1, 2]
    assert len(said) == 3
    assert "trial 3/3" in said[-1]
    paths = plots.save(search.study_plots(again), tmp_path)
    assert "history.png" in {path.name for path in paths}
    search.write_parameters(again, tmp_path / "new" / "parameters.yaml")
    written = yaml.safe_load((tmp_path / "new" / "parameters.yaml").read_text())
    assert written == {"training": {"lightgbm": again.best_params}}
    assert search.with_parameters(settings, again.best_params).training.lightgbm.model_dump() == again.best_params


@pytest.mark.model
@pytest.mark.parametrize(
    ("in_force", "ends"),
    [
        ({"num_trees": 1, "max_depth": 2, "num_leaves": 3, "feature_fraction": 0.03}, "worth a change"),
        ({"num_trees": 60, "lambda_l2": 50.000001}, "no reason to change"),
    ],
    ids=["1-worth a change", "60-no reason to change"],
)
def test_the_best_parameters_must_win_on_folds_that_the_search_has_not_seen(
    prepared: Prepared, settings: Settings, in_force: dict[str, float], ends: str
) -> None:
    present = settings.training.lightgbm.model_dump()
    study = search.open_study(prepared, settings)
    study.enqueue_trial({**present, "num_trees": 60})
    search.search(study, prepared, settings, 1, ignore)
    said: list[str] = []
    assert search.verdict(study, prepared, search.with_parameters(settings, {**present, **in_force}), said.append).endswith(ends)
    assert len(said) == search.FRESH_SPLITS * settings.training.folds
