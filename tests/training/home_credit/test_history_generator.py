import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from training.data.errors import DataError
from training.home_credit import history_profile
from training.home_credit.draws import factor
from training.home_credit.generator import BLOCK, Generator, generate
from training.home_credit.history_generator import CLIENTS, MOST_LOANS, PROFILE, TABLES, HistoryGenerator, covariates
from training.home_credit.history_profile import fit_history_profile, read_and_fit

pytestmark = pytest.mark.slow

Frames = dict[str, pd.DataFrame]


def applications() -> pd.DataFrame:
    ((_, frame),) = Generator.from_file().blocks(BLOCK, seed=5, start=0)
    return frame


def draw(frame: pd.DataFrame, clients: int = CLIENTS, **options: Any) -> Frames:
    chosen = {"seed": 5, "stream": 0, "role": "test", **options}
    return HistoryGenerator.from_file().draw(frame[:CLIENTS], clients, chosen["seed"], chosen["stream"], role=chosen["role"])


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return applications()


@pytest.fixture(scope="module")
def tables(frame: pd.DataFrame) -> Frames:
    return draw(frame)


def test_a_client_has_the_same_history_however_many_clients_are_wanted(frame: pd.DataFrame, tables: Frames) -> None:
    for clients in (1, 400):
        few = draw(frame, clients)
        last = frame["SK_ID_CURR"].iloc[clients - 1]
        loans = tables["bureau"].loc[tables["bureau"]["SK_ID_CURR"] <= last, "SK_ID_BUREAU"]
        for name in TABLES:
            whole = tables[name]
            kept = whole["SK_ID_CURR"] <= last if "SK_ID_CURR" in whole else whole["SK_ID_BUREAU"].isin(loans)
            pd.testing.assert_frame_equal(few[name], whole[kept])


def test_streams_and_seeds_differ(frame: pd.DataFrame, tables: Frames) -> None:
    for other in (draw(frame, seed=6), draw(frame, stream=1)):
        assert not other["bureau"]["AMT_CREDIT_SUM"].equals(tables["bureau"]["AMT_CREDIT_SUM"])


def test_keys_are_unique_and_lead_to_their_tables(frame: pd.DataFrame, tables: Frames) -> None:
    other = draw(frame, stream=1)
    for name, key in (("bureau", "SK_ID_BUREAU"), ("previous_application", "SK_ID_PREV")):
        keys = tables[name][key]
        assert keys.is_unique
        assert not set(keys) & set(other[name][key])
        assert tables[name].groupby("SK_ID_CURR").size().max() < MOST_LOANS
        assert set(tables[name]["SK_ID_CURR"]) <= set(frame["SK_ID_CURR"][:CLIENTS])
    assert set(tables["bureau_balance"]["SK_ID_BUREAU"]) <= set(tables["bureau"]["SK_ID_BUREAU"])
    previous = tables["previous_application"].set_index("SK_ID_PREV")
    assert set(tables["POS_CASH_balance"]["SK_ID_PREV"]) <= set(previous.index)
    for name in ("POS_CASH_balance", "installments_payments", "credit_card_balance"):
        known = tables[name][tables[name]["SK_ID_PREV"].isin(previous.index)]
        assert (previous["SK_ID_CURR"].reindex(known["SK_ID_PREV"]).to_numpy() == known["SK_ID_CURR"].to_numpy()).all()
        kinds = set(previous["NAME_CONTRACT_TYPE"].reindex(known["SK_ID_PREV"]))
        assert kinds == {"Revolving loans"} if name == "credit_card_balance" else kinds >= {"Cash loans", "Consumer loans"}


def test_no_rows_are_fully_alike_but_instalments_repeat(tables: Frames) -> None:
    for name in TABLES:
        assert not tables[name].duplicated().any(), name
    instalments = tables["installments_payments"]
    repeated = instalments.duplicated(["SK_ID_PREV", "NUM_INSTALMENT_VERSION", "NUM_INSTALMENT_NUMBER"], keep=False)
    assert 0.05 < repeated.mean() < 0.4
    parts = instalments[repeated & (instalments["NUM_INSTALMENT_VERSION"] == 1)]
    paid = parts.groupby(["SK_ID_PREV", "NUM_INSTALMENT_NUMBER"])["AMT_PAYMENT"].sum()
    due = parts.groupby(["SK_ID_PREV", "NUM_INSTALMENT_NUMBER"])["AMT_INSTALMENT"].first()
    np.testing.assert_allclose(paid, due, atol=0.01)


def test_time_runs_as_it_must(tables: Frames) -> None:
    bureau, previous = tables["bureau"], tables["previous_application"]
    assert (bureau["DAYS_CREDIT"] <= 0).all()
    ended = bureau["DAYS_ENDDATE_FACT"]
    assert ((ended >= bureau["DAYS_CREDIT"]) | ended.isna() | (ended == -1)).all()
    assert (previous["DAYS_DECISION"] < 0).all()
    for name in ("bureau_balance", "POS_CASH_balance", "credit_card_balance"):
        rows, key = tables[name], "SK_ID_BUREAU" if name == "bureau_balance" else "SK_ID_PREV"
        months = rows.groupby(key)["MONTHS_BALANCE"].agg(["min", "max", "size"])
        assert (months["max"] - months["min"] + 1 == months["size"]).all(), name
        assert months["min"].min() >= -96
        assert months["max"].max() <= (0 if name == "bureau_balance" else -1)
    assert (tables["installments_payments"][["DAYS_INSTALMENT", "DAYS_ENTRY_PAYMENT"]] <= -1).all().all()
    card = tables["credit_card_balance"]
    assert (card["AMT_BALANCE"] <= 1.4 * card["AMT_CREDIT_LIMIT_ACTUAL"]).all()
    drawn = card["AMT_DRAWINGS_ATM_CURRENT"] + card["AMT_DRAWINGS_POS_CURRENT"]
    np.testing.assert_allclose(drawn.dropna(), card.loc[drawn.notna(), "AMT_DRAWINGS_CURRENT"])


def test_history_tells_of_default_beyond_the_application(frame: pd.DataFrame) -> None:
    generator = HistoryGenerator.from_file()
    few = frame[:CLIENTS]
    means = {}
    for outcome in (0, 1):
        drawn = [generator.draw(few.assign(TARGET=outcome), CLIENTS, 5, stream, role="test") for stream in range(3)]
        previous = pd.concat([tables["previous_application"] for tables in drawn])
        bureau = pd.concat([tables["bureau"] for tables in drawn])
        means[outcome] = ((previous["NAME_CONTRACT_STATUS"] == "Refused").mean(), bureau["AMT_CREDIT_SUM_DEBT"].gt(0).mean())
    assert all(bad > good for bad, good in zip(means[1], means[0], strict=True))


def test_balances_are_known_of_fewer_labelled_clients(frame: pd.DataFrame, tables: Frames) -> None:
    labelled = draw(frame, role="train")["bureau_balance"]
    assert 0.2 < len(labelled) / len(tables["bureau_balance"]) < 0.5


def test_what_is_not_known_of_an_application_counts_as_the_mean(frame: pd.DataFrame) -> None:
    blank = frame[:3].assign(TARGET=np.nan, EXT_SOURCE_1=np.nan, AMT_CREDIT=np.nan)
    known = covariates(blank, 0.08)
    assert (known[:, [0, 3, 4]] == 0).all()
    assert np.isfinite(known).all()


def test_a_factor_gives_its_covariance_back() -> None:
    covariance = np.array([[1.0, 0.6, 0], [0.6, 0.5, 0], [0, 0, 0]])
    np.testing.assert_allclose(factor(covariance) @ factor(covariance).T, covariance, atol=1e-9)


def test_generated_folders_hold_the_history(tmp_path: Path) -> None:
    generate(tmp_path / "with", 60, seed=1)
    assert {path.stem for path in (tmp_path / "with").glob("*.parquet")} == {"application_train", "application_test", *TABLES}
    generate(tmp_path / "csv", 60, seed=1, file_format="csv")
    for name in TABLES:
        text, binary = pd.read_csv(tmp_path / "csv" / f"{name}.csv"), pd.read_parquet(tmp_path / "with" / f"{name}.parquet")
        assert len(text) == len(binary) > 0
        assert text.columns.tolist() == binary.columns.tolist()
    generate(tmp_path / "without", 60, seed=1, history=False)
    assert {path.stem for path in (tmp_path / "without").glob("*.parquet")} == {"application_train", "application_test"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("history")
    generate(path, 4000, seed=3)
    return path


def test_a_profile_fitted_on_generated_tables_generates_their_like(folder: Path, frame: pd.DataFrame) -> None:
    profile = read_and_fit(folder)
    again = HistoryGenerator(profile).draw(frame[:CLIENTS], CLIENTS, 1, 0, role="train")
    clients = {name: 4634 if name != "bureau_balance" else 4000 for name in TABLES}
    for name in TABLES:
        rows = len(pd.read_parquet(folder / f"{name}.parquet"))
        assert len(again[name]) / CLIENTS == pytest.approx(rows / clients[name], rel=0.35), name
    first = pd.read_parquet(folder / "bureau.parquet")
    for column in ("CREDIT_ACTIVE", "CREDIT_TYPE"):
        shares = [frame[column].value_counts(normalize=True) for frame in (first, again["bureau"])]
        assert shares[0].sub(shares[1], fill_value=0).abs().sum() / 2 < 0.06
    assert again["bureau"].isna().mean().to_numpy() == pytest.approx(first.isna().mean().to_numpy(), abs=0.05)


def test_too_few_clients_are_no_profile(folder: Path, frame: pd.DataFrame) -> None:
    tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in TABLES}
    with pytest.raises(DataError, match="expected at least 1000"):
        fit_history_profile(frame[:900], frame[:0], tables)


def test_the_profile_holds_aggregates_only() -> None:
    profile = json.loads(PROFILE.read_text())
    for name in ("bureau", "previous_application"):
        for segment in profile[name]["segments"]:
            for column, marginal in segment["marginals"].items():
                assert set(marginal) in ({"values", "shares"}, {"quantiles"}), column
                assert all(share > 0 for share in marginal.get("shares", []))
    assert not {"rows", "ids"} & set(profile)


def test_a_profile_is_not_fitted_on_tables_of_too_few_clients(frame: pd.DataFrame, tables: Frames, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_profile, "covariates", lambda *_: pytest.fail("something was fitted"))
    clients = frame.iloc[:CLIENTS]
    for name in TABLES:
        key = "SK_ID_BUREAU" if name == "bureau_balance" else "SK_ID_CURR"
        few = tables[name][tables[name][key].isin(tables[name][key].unique()[:99])]
        with pytest.raises(DataError, match=rf"^{name} has rows of \d\d clients; expected at least 100"):
            fit_history_profile(clients, clients[:0].drop(columns="TARGET"), {**tables, name: few})


def test_an_applicant_in_both_tables_is_told(frame: pd.DataFrame, tables: Frames, tmp_path: Path) -> None:
    for name, table in tables.items():
        table.to_parquet(tmp_path / f"{name}.parquet")
    frame[:200].to_parquet(tmp_path / "application_train.parquet")
    frame[199:300].to_parquet(tmp_path / "application_test.parquet")
    with pytest.raises(DataError, match="1 values of SK_ID_CURR are in application_train and in application_test"):
        read_and_fit(tmp_path)
