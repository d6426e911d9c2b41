from pathlib import Path

import pytest
import yaml

from configs.settings import Settings
from training import plots, search
from training.train import Prepared


def ignore(_: str) -> None:
    pass


@pytest.mark.model
def test_a_search_is_continued_and_judged_against_the_parameters_in_force(
    prepared: Prepared, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MOST_TREES", 120)
    said: list[str] = []
    study = search.open_study(prepared, settings)
    with pytest.raises(ValueError, match="has not judged the parameters of the settings"):
        search.verdict(study)
    search.search(study, prepared, settings, 2, said.append)
    assert [trial.state.is_finished() for trial in study.trials] == [True, True]
    assert study.trials[0].params == settings.training.lightgbm.model_dump()
    again = search.open_study(prepared, settings)
    search.search(again, prepared, settings, 3, said.append)
    search.search(again, prepared, settings, 3, said.append)
    assert [trial.number for trial in again.trials] == [0, 1, 2]
    assert len(said) == 3
    assert "trial 3/3" in said[-1]
    assert "against the parameters in force" in search.verdict(again)
    paths = plots.save(search.study_plots(again), tmp_path)
    assert "history.png" in {path.name for path in paths}
    search.write_parameters(again, tmp_path / "new" / "parameters.yaml")
    written = yaml.safe_load((tmp_path / "new" / "parameters.yaml").read_text())
    assert written == {"training": {"lightgbm": again.best_params}}
    assert search.with_parameters(settings, again.best_params).training.lightgbm.model_dump() == again.best_params
