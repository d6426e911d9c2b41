import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from running import Home, call_cli, run_cli
from small import small_training

from configs.settings import load_settings
from features.application import EXPECTED
from features.applications import Applications
from features.schema import Table
from serving.bundle import Bundle
from serving.contract.requests import RequestParser
from serving.pipeline import Pipeline
from serving.scorer import Scorer
from serving.thin import ThinRule
from training import portfolio
from training.cluster import fit_over
from training.data.errors import DataError
from training.data.fields import Part, Texts
from training.data.history_folder import HistoryFolder
from training.data.source import find_source
from training.data.validation import read_table
from training.fitting import fit_here
from training.home_credit.generator import Generator, generate
from training.portfolio import prepare_chunk, score
from training.prepare import prepare

ROWS = 700
Again = Callable[..., pd.DataFrame]


def ignore(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    frame = next(Generator.from_file().draw(ROWS, seed=11)).drop(columns=["TARGET"])
    frame.loc[3, ["NAME_HOUSING_TYPE", "OCCUPATION_TYPE"]] = "Lighthouse"
    frame.loc[4, ["AMT_INCOME_TOTAL", "CNT_CHILDREN"]] = [1e9, 40]
    frame.loc[5, ["AMT_CREDIT", "NAME_INCOME_TYPE"]] = [np.nan, None]
    return frame


@pytest.fixture(scope="module")
def folder(frame: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("portfolio")
    frame.to_parquet(path / "application_test.parquet", row_group_size=150)
    return path


@pytest.fixture
def scored(folder: Path, bundle: Bundle, tmp_path: Path) -> pd.DataFrame:
    summary = score(folder, "application_test", bundle, tmp_path / "scores.parquet", ignore)
    result = pd.read_parquet(tmp_path / "scores.parquet")
    assert summary.applications == len(result) == ROWS
    assert summary.declined == (result["decision"] == "DECLINE").sum()
    return result


@pytest.fixture
def again(bundle: Bundle, tmp_path: Path) -> Again:
    def run(data: Path, threads: int = 1) -> pd.DataFrame:
        score(data, "application_test", bundle, tmp_path / "again.parquet", ignore, threads=threads)
        return pd.read_parquet(tmp_path / "again.parquet")

    return run


def requests(frame: pd.DataFrame) -> Iterator[bytes]:
    for row in frame.to_dict("records"):
        yield msgspec.json.encode({"application": {name: value for name, value in row.items() if not pd.isna(value)}})


def test_scores_are_the_services_to_the_last_bit(scored: pd.DataFrame, frame: pd.DataFrame, bundle: Bundle) -> None:
    parser, pipeline = RequestParser(bundle.features, max_rows=1), Pipeline(bundle)
    assert scored["SK_ID_CURR"].tolist() == frame["SK_ID_CURR"].tolist()
    whole = frame.astype({column.name: "Int64" for column in bundle.features.table.numeric if column.type == "integer"})
    for position, request in enumerate(requests(whole[:150])):
        (served,) = pipeline.score([parser.parse_one(request)]).predictions
        answer = scored.iloc[position]
        assert answer["probability"] == served.probability
        assert answer["warnings"] == len(served.warnings), served.warnings
        assert (answer["decision"], answer["risk_level"]) == (served.decision, served.risk_level)
    assert scored["warnings"][3:6].tolist() == [2, 2, 1]


@pytest.mark.parametrize("action", ["warn", "decline"])
def test_thin_applications_are_told_and_decided_as_by_the_service(
    action: Literal["warn", "decline"], frame: pd.DataFrame, bundle: Bundle, tmp_path: Path
) -> None:
    assert bundle.decision.thin
    rule = ThinRule(bundle.decision.thin.limit, action)
    bundle = replace(bundle, decision=replace(bundle.decision, thin=rule))
    few = frame[:100].copy()
    few.loc[:, few.columns.str.startswith("EXT_SOURCE")] = np.nan
    few.loc[50:, few.columns.difference(["SK_ID_CURR", "AMT_CREDIT"])] = None
    few.to_parquet(tmp_path / "application_test.parquet")
    score(tmp_path, "application_test", bundle, tmp_path / "out.parquet", ignore)
    offline = pd.read_parquet(tmp_path / "out.parquet")
    parser = RequestParser(bundle.features, max_rows=1)
    whole = few.astype({column.name: "Int64" for column in bundle.features.table.numeric if column.type == "integer"})
    answers = Pipeline(bundle).score([parser.parse_one(request) for request in requests(whole)]).predictions
    told = [[warning["code"] for warning in answer.warnings] for answer in answers]
    assert told[50:] == [["absent", "thin_application"]] * 50
    assert offline["warnings"].tolist() == [len(codes) for codes in told]
    assert offline["decision"].tolist() == [answer.decision for answer in answers]
    assert offline["probability"].tolist() == [answer.probability for answer in answers]
    assert (offline["decision"][50:] == "DECLINE").all() == (action == "decline")


def test_neither_chunks_nor_threads_nor_the_form_of_the_file_change_a_bit(
    scored: pd.DataFrame, frame: pd.DataFrame, folder: Path, again: Again, monkeypatch: pytest.MonkeyPatch
) -> None:
    pd.testing.assert_frame_equal(again(folder, threads=2), scored, check_exact=True)
    monkeypatch.setattr(portfolio, "CHUNK", 64)
    pd.testing.assert_frame_equal(again(folder), scored, check_exact=True)
    csv, zipped = folder / "csv", folder / "zip"
    csv.mkdir()
    zipped.mkdir()
    frame.to_csv(csv / "application_test.csv", index=False)
    with zipfile.ZipFile(zipped / "all.zip", "w") as archive:
        archive.write(csv / "application_test.csv", "application_test.csv")
    for data in (csv, zipped):
        pd.testing.assert_frame_equal(again(data), scored, check_exact=True)


@pytest.mark.parametrize("name", ["scores.csv", "scores.csv.gz", "SCORES.CSV"])
@pytest.mark.model
def test_the_ending_tells_the_format_and_no_bit_is_lost_in_text(name: str, folder: Path, tmp_path: Path) -> None:
    bundle = small_training().bundle
    score(folder, "application_test", bundle, tmp_path / "scores.parquet", ignore)
    score(folder, "application_test", bundle, tmp_path / name, ignore)
    first = (tmp_path / name).read_bytes()
    assert first.startswith(b"\x1f\x8b") == name.endswith(".gz")
    read = pd.read_csv(tmp_path / name, compression="gzip" if name.endswith(".gz") else None, float_precision="round_trip")
    pd.testing.assert_frame_equal(read, pd.read_parquet(tmp_path / "scores.parquet"), check_exact=True, check_dtype=False)
    score(folder, "application_test", bundle, tmp_path / name, ignore)
    assert (tmp_path / name).read_bytes() == first
    assert {path.name for path in tmp_path.iterdir()} == {"scores.parquet", name}


def test_a_place_that_cannot_be_written_is_told_before_any_work(tmp_path: Path) -> None:
    for out in ("scores.xlsx", "nowhere/scores.csv", "folder.csv"):
        (tmp_path / "folder.csv").mkdir(exist_ok=True)
        result = call_cli(["score", "--data", str(tmp_path / "nothing"), "--out", str(tmp_path / out)])
        assert result.returncode == 1
        assert result.stderr.startswith(f"error: --out is {tmp_path / out}")
        assert not (tmp_path / "nowhere").exists()


def test_ids_are_those_of_the_file_and_none_is_there_twice_in_it(
    frame: pd.DataFrame, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = np.arange(len(frame)) + 1787654321098765401
    said: list[str] = []
    monkeypatch.setattr(portfolio, "CHUNK", 100)
    frame.assign(SK_ID_CURR=big).to_csv(tmp_path / "application_test.csv", index=False)
    score(tmp_path, "application_test", bundle, tmp_path / "scores.parquet", said.append)
    assert pd.read_parquet(tmp_path / "scores.parquet")["SK_ID_CURR"].tolist() == big.tolist()
    assert f"{len(frame)} rows" in said[0]
    big[650] = big[3]
    frame.assign(SK_ID_CURR=big).to_csv(tmp_path / "application_test.csv", index=False)
    with pytest.raises(DataError, match=f"application_test.csv, line 5: SK_ID_CURR {big[3]} repeats in line 652"):
        score(tmp_path, "application_test", bundle, tmp_path / "scores.parquet", ignore)


def test_the_file_tells_by_which_model(folder: Path, bundle: Bundle, tmp_path: Path) -> None:
    score(folder, "application_test", bundle, tmp_path / "scores.parquet", ignore)
    about = pa.parquet.read_schema(tmp_path / "scores.parquet").metadata
    assert about[b"model_version"].decode() == bundle.version
    assert float(about[b"threshold"]) == bundle.decision.threshold


def test_a_run_that_breaks_off_leaves_what_was_there(folder: Path, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "scores.parquet"
    out.write_text("before")
    monkeypatch.setattr(portfolio, "CHUNK", 100)
    calls: list[int] = []

    def breaks(*arguments: Any) -> pa.Table:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return score_chunk(*arguments)

    score_chunk = portfolio.score_chunk
    monkeypatch.setattr(portfolio, "score_chunk", breaks)
    with pytest.raises(KeyboardInterrupt):
        score(folder, "application_test", bundle, out, ignore)
    assert out.read_text() == "before"
    assert list(tmp_path.iterdir()) == [out]


def test_what_cannot_be_scored_is_named(frame: pd.DataFrame, bundle: Bundle, tmp_path: Path) -> None:
    cases = {
        "has no rows": frame[:0],
        "lacks columns: AMT_CREDIT": frame.drop(columns=["AMT_CREDIT"]),
        "AMT_CREDIT: expected numbers, got": frame.assign(AMT_CREDIT="much"),
        "row 1: SK_ID_CURR 7 repeats in row 2": frame.assign(SK_ID_CURR=7),
        "row 1: SK_ID_CURR is missing": frame.assign(SK_ID_CURR=[np.nan, *frame["SK_ID_CURR"][1:]]),
        "row 2: CNT_CHILDREN: expected a whole number, got 1.5": frame.assign(CNT_CHILDREN=[1, 1.5, *frame["CNT_CHILDREN"][2:]]),
        "FLAG_OWN_CAR: 700 of 700 values are not in the schema, such as '0', '1'": frame.assign(
            FLAG_OWN_CAR=frame["FLAG_OWN_CAR"].map({"N": "0", "Y": "1"})
        ),
        "DAYS_BIRTH is missing in 100% of 700 rows, but was missing in 0% when": frame.assign(DAYS_BIRTH=None),
    }
    limits = load_settings().data
    for said, data in cases.items():
        data.to_parquet(tmp_path / "application_test.parquet")
        with pytest.raises(DataError, match=said):
            score(tmp_path, "application_test", bundle, tmp_path / "out.parquet", ignore, limits=limits)
        assert not (tmp_path / "out.parquet").exists()
    (tmp_path / "application_test.parquet").unlink()
    frame.assign(AMT_CREDIT="much").to_csv(tmp_path / "application_test.csv", index=False)
    with pytest.raises(DataError, match="line 2: AMT_CREDIT: expected a number, got 'much'"):
        score(tmp_path, "application_test", bundle, tmp_path / "out.parquet", ignore)


def test_the_history_of_the_folder_counts_whatever_the_chunks(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate(tmp_path, 300, seed=4)
    table = bundle.features.table
    frame = read_table(find_source(tmp_path, "application_train"), table, with_target=False)
    history = HistoryFolder(tmp_path, frame[table.key].to_numpy(), ignore).history()
    expected = Scorer(bundle).score(Applications.from_columns(frame), history)
    for rows in (portfolio.WITH_HISTORY, 70):
        monkeypatch.setattr(portfolio, "WITH_HISTORY", rows)
        score(tmp_path, "application_train", bundle, tmp_path / "out.parquet", ignore)
        assert pd.read_parquet(tmp_path / "out.parquet")["probability"].tolist() == expected.tolist()
    assert (Scorer(bundle).score(Applications.from_columns(frame)) != expected).mean() > 0.9


def test_one_application_all_of_it_missing_is_scored(bundle: Bundle, table: Table) -> None:
    numbers = {column.name: np.array([np.nan]) for column in table.numeric}
    texts = {column.name: Texts(np.array([-1]), []) for column in table.categorical}
    chunk = prepare_chunk(Part(np.array([0]), {table.key: np.array([7])}, numbers, texts, {}), bundle)
    assert (chunk.keys.tolist(), chunk.warnings.tolist()) == ([7], [1])
    known = {name for name, value in zip(bundle.features.names, chunk.matrix[0].tolist(), strict=True) if not np.isnan(value)}
    assert known >= {*EXPECTED, "AMT_CREDIT", "AGE_YEARS"}
    assert not {"EXT_SOURCE_1", "APARTMENTS_AVG", "BUREAU_DEBT_TO_CREDIT"} & known


def test_the_command_scores_and_says_how_fast(home: Home, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    result = run_cli(["score", "--data", str(folder), "--out", str(out)], home.environment)
    assert result.returncode == 0, result.stderr
    assert f"{ROWS} applications" in result.stdout
    for wrong, said in (
        (["--table", "bureau"], "expected application_test or application_train"),
        (["--model", "nobody:latest"], "holds no model"),
        (["--table", "application_train"], "has no application_train"),
    ):
        failed = run_cli(["score", "--data", str(folder), "--out", str(out), *wrong], home.environment)
        assert (failed.returncode, said in failed.stderr, "Traceback" in failed.stderr) == (1, True, False)


@pytest.mark.model
def test_a_cluster_of_two_workers_scores_the_same_and_trains_as_well(
    home: Home, folder: Path, scored: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import distributed
    from sklearn.metrics import roc_auc_score

    for name, value in home.environment.items():
        if name.startswith(("CREDIT_", "BENTOML_")):
            monkeypatch.setenv(name, value)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, env={"BENTOML_HOME": home.environment["BENTOML_HOME"]}
    ) as cluster:
        out = tmp_path / "cluster.parquet"
        result = run_cli(["score", "--data", str(folder), "--out", str(out), "--scheduler", cluster.scheduler_address], home.environment)
        assert result.returncode == 0, result.stderr
        pd.testing.assert_frame_equal(pd.read_parquet(out), scored, check_exact=True)

        csv = tmp_path / "csv"
        csv.mkdir()
        pd.read_parquet(folder / "application_test.parquet")[:5].to_csv(csv / "application_test.csv")
        failed = run_cli(["score", "--data", str(csv), "--out", str(out), "--scheduler", cluster.scheduler_address], home.environment)
        assert (failed.returncode, "is not Parquet" in failed.stderr) == (1, True)

        generate(tmp_path / "data", 3000, seed=2, history=False)
        monkeypatch.setenv("CREDIT_HOME", str(tmp_path / "home"))
        settings = load_settings()
        prepared = prepare(tmp_path / "data", settings, ignore)
        inside, outside = np.arange(2000), np.arange(2000, 3000)
        aucs = [
            roc_auc_score(prepared.defaulted[outside], fit(prepared, settings, inside).predict(prepared.matrix[outside]))
            for fit in (fit_here, fit_over(cluster.scheduler_address))
        ]
        assert aucs[1] == pytest.approx(aucs[0], abs=0.03)
        assert min(aucs) > 0.65
