import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from configs.settings import Settings
from features.schema import Table
from training.data.errors import DataError
from training.data.source import find_source
from training.data.validation import read_table
from training.home_credit import profile
from training.home_credit.generator import BLOCK, PROFILE, Generator, generate
from training.home_credit.profile import fit_profile

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sample() -> pd.DataFrame:
    return pd.concat(Generator.from_file().draw(20_000, seed=7), ignore_index=True)


def test_the_same_seed_gives_the_same_rows_however_many_are_drawn(sample: pd.DataFrame) -> None:
    few = pd.concat(Generator.from_file().draw(12_345, seed=7), ignore_index=True)
    pd.testing.assert_frame_equal(few, sample[:12_345])
    assert not next(Generator.from_file().draw(100, seed=8)).equals(sample[:100])


def test_generated_tables_pass_their_own_validation(tmp_path: Path, table: Table) -> None:
    for file_format in ("csv", "parquet"):
        folder = tmp_path / file_format
        generate(folder, 500, seed=1, file_format=file_format)
        for role, rows in (("train", 500), ("test", 79)):
            said: list[str] = []
            frame = read_table(find_source(folder, table.files[role]), table, with_target=role == "train", say=said.append)
            assert len(frame) == rows
            assert [line for line in said if line.startswith("warning")] == []
            assert frame["SK_ID_CURR"].is_unique


def test_labelled_and_unlabelled_applicants_are_different_people(tmp_path: Path, table: Table) -> None:
    generate(tmp_path, 500, seed=1)
    train, test = (pd.read_parquet(tmp_path / f"{table.files[role]}.parquet") for role in ("train", "test"))
    assert not set(train["SK_ID_CURR"]) & set(test["SK_ID_CURR"])
    assert len(train.merge(test, on=[column.name for column in table.columns])) == 0


def test_default_rate_and_relations_hold(sample: pd.DataFrame) -> None:
    assert sample["TARGET"].mean() == pytest.approx(0.08, abs=0.007)
    retired = sample["DAYS_EMPLOYED"] == 365243
    assert (sample.loc[retired, "ORGANIZATION_TYPE"] == "XNA").all()
    assert sample.loc[retired, "OCCUPATION_TYPE"].isna().all()
    assert (sample["CNT_FAM_MEMBERS"] > sample["CNT_CHILDREN"]).all()
    assert sample.loc[sample["FLAG_OWN_CAR"] == "N", "OWN_CAR_AGE"].isna().all()
    assert (sample.loc[~retired, "DAYS_EMPLOYED"] <= 0).all()


def test_low_external_scores_default_more(sample: pd.DataFrame) -> None:
    for name in ("EXT_SOURCE_1", "EXT_SOURCE_2", "EXT_SOURCE_3"):
        assert sample[name].corr(sample["TARGET"]) < -0.05


def test_no_applications_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="applications is 0; expected at least 1"):
        generate(tmp_path, 0, seed=1)


def test_the_profile_holds_aggregates_only() -> None:
    profile: dict[str, Any] = json.loads(PROFILE.read_text())
    assert set(profile) == {"applications", "variables", "missing", "correlation", "intercept"}
    fewest = 50 / profile["applications"]
    for variable in profile["variables"]:
        assert all(share >= 0.99 * fewest for share in variable.get("shares", []))
        assert len(variable.get("quantiles", [])) in (0, 101)
        assert len(variable["points"]) == len(variable["edges"]) + 1


@pytest.mark.model  # the scorecard
def test_a_profile_fitted_on_a_sample_generates_its_like(sample: pd.DataFrame, table: Table) -> None:
    again = pd.concat(Generator(fit_profile(sample, table), table).draw(20_000, seed=1), ignore_index=True)
    assert again["TARGET"].mean() == pytest.approx(sample["TARGET"].mean(), abs=0.007)
    for column in table.columns:
        assert again[column.name].isna().mean() == pytest.approx(sample[column.name].isna().mean(), abs=0.03), column.name
    for name in ("AMT_CREDIT", "EXT_SOURCE_2", "DAYS_BIRTH"):
        assert again[name].median() == pytest.approx(sample[name].median(), rel=0.05)


def test_columns_that_too_few_know_are_no_profile_and_are_told_before_anything_is_fitted(
    sample: pd.DataFrame, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile, "marginal", lambda *_: pytest.fail("something was fitted"))
    with pytest.raises(
        DataError, match=r"^1,500 applications are too few, since no .* fewer than 50 people: \w+ gives .*; about [\d,]+ such"
    ):
        fit_profile(sample[:1500], table)
    few = sample[:4000].assign(AMT_CREDIT=sample["AMT_CREDIT"].where(np.arange(len(sample)) < 99))
    with pytest.raises(DataError, match=r"AMT_CREDIT gives 49\.5 \(and 2 more columns\); about 4,041 such applications are needed"):
        fit_profile(few, table)
    with pytest.raises(DataError, match="NAME_TYPE_SUITE is missing in all 4,000 applications; expected values that 50 people have"):
        fit_profile(sample[:4000].assign(NAME_TYPE_SUITE=None), table)
    with pytest.raises(DataError, match="NAME_CONTRACT_TYPE gives 1; about 200,000 such applications are needed"):
        fit_profile(sample[:4000].assign(NAME_CONTRACT_TYPE=[f"kind {row}" for row in range(4000)]), table)


def test_too_few_rows_are_no_profile(sample: pd.DataFrame, table: Table) -> None:
    with pytest.raises(DataError, match="expected at least 1000"):
        fit_profile(sample[:999], table)


def test_a_block_is_whole(settings: Settings) -> None:
    assert len(Generator.from_file().block(0, 3)) == BLOCK
    assert np.isfinite(Generator.from_file().logit(0, 3)).all()
