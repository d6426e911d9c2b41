import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pandas as pd
import pytest
from running import Server, call_cli

from serving.bundle import Bundle
from serving.contract.requests import RequestParser
from serving.pipeline import Pipeline
from training import requests
from training.data.errors import DataError
from training.home_credit.generator import generate
from training.portfolio import score
from training.requests import Sendable, calls, requests_of, score_by_service

TABLE = "application_train"


def ignore(_: object) -> None:
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 applicants with history; those after the hundredth count as not looked up."""
    path = tmp_path_factory.mktemp("tables")
    generate(path, 300, seed=7)
    frame = pd.read_parquet(path / f"{TABLE}.parquet")
    frame.loc[3, "NAME_HOUSING_TYPE"] = "Lighthouse"
    frame.to_parquet(path / f"{TABLE}.parquet")
    bureau = pd.read_parquet(path / "bureau.parquet")
    pd.concat([bureau, bureau[:5]]).to_parquet(path / "bureau.parquet")  # rows alike in every column
    return path


def test_a_request_scores_the_same_to_the_last_bit_as_its_tables(folder: Path, bundle: Bundle, tmp_path: Path) -> None:
    score(folder, TABLE, bundle, tmp_path / "scores.parquet", ignore)
    offline = pd.read_parquet(tmp_path / "scores.parquet")
    parser, pipeline = RequestParser(bundle.features, 1), Pipeline(bundle)
    sent = list(requests_of(folder, TABLE, ignore))
    assert [one.key for one in sent] == offline.iloc[:, 0].tolist()
    online = pipeline.score([parser.parse_one(one.body) for one in sent]).pds
    assert online.tolist() == offline["probability"].tolist()
    bodies = [json.loads(one.body) for one in sent]
    assert {body["client_id"] for body in bodies} == {str(one.key) for one in sent}
    assert sum(len(body["history"]["installments_payments"]) for body in bodies) > 1000
    assert bodies[3]["application"]["NAME_HOUSING_TYPE"] == "Lighthouse"


def test_the_history_of_clients_who_were_not_looked_up_is_left_out(folder: Path, tmp_path: Path) -> None:
    for file in folder.glob("*.parquet"):
        (tmp_path / file.name).symlink_to(file)
    ids = pd.read_parquet(folder / f"{TABLE}.parquet")["SK_ID_CURR"]
    bureau = pd.read_parquet(folder / "bureau.parquet")
    (tmp_path / "bureau.parquet").unlink()
    bureau[bureau["SK_ID_CURR"].isin(ids[:100])].to_parquet(tmp_path / "bureau.parquet")
    for name in ("previous_application", "POS_CASH_balance", "installments_payments", "credit_card_balance"):
        (tmp_path / f"{name}.parquet").unlink()
    ids[:100].to_frame().to_csv(tmp_path / "complete_history_ids.csv", index=False)
    bodies = [json.loads(one.body) for one in requests_of(tmp_path, TABLE, ignore)]
    assert all(set(body["history"]) == {"bureau", "bureau_balance"} for body in bodies[:100])
    assert not any("history" in body for body in bodies[100:])


def test_some_applicants_can_be_chosen(folder: Path, tmp_path: Path) -> None:
    keys = [one.key for one in requests_of(folder, TABLE, ignore)]
    assert [one.key for one in requests_of(folder, TABLE, ignore, limit=7)] == keys[:7]
    assert [one.key for one in requests_of(folder, TABLE, ignore, clients=[str(keys[250]), str(keys[9])])] == [keys[9], keys[250]]
    with pytest.raises(DataError, match=r"application_train\.parquet has no SK_ID_CURR 1"):
        list(requests_of(folder, TABLE, ignore, clients=["1"]))
    out = tmp_path / "requests.jsonl"
    result = call_cli(["request", "--data", str(folder), "--table", TABLE, "--limit", "3", "--out", str(out)])
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1].startswith(f"3 requests in {out}; to send one: ")
    assert [json.loads(line)["client_id"] for line in out.read_text().splitlines()] == [str(key) for key in keys[:3]]
    wrong = call_cli(["request", "--data", str(folder), "--table", "bureau", "--out", str(out)])
    assert (wrong.returncode, "expected application_test or application_train" in wrong.stderr) == (1, True)


@pytest.mark.parametrize(
    ("sizes", "groups"), [([], []), ([10] * 2500, [1000, 1000, 500]), ([5_000_000] * 5, [2, 2, 1]), ([13_000_000] * 2, [1, 1])]
)
def test_calls_stay_below_the_limits_of_the_service(sizes: list[int], groups: list[int]) -> None:
    body = bytes(max(sizes, default=0))
    assert [len(group) for group in calls(Sendable(number, body[:size]) for number, size in enumerate(sizes))] == groups


@pytest.mark.service
def test_a_folder_is_scored_by_a_running_service(folder: Path, bundle: Bundle, server: Server, tmp_path: Path) -> None:
    out = tmp_path / "online.parquet"
    result = call_cli(["score", "--data", str(folder), "--table", TABLE, "--server", server.url, "--out", str(out), "--threads", "2"])
    assert result.returncode == 0, result.stderr
    assert "300 applications" in result.stdout
    score(folder, TABLE, bundle, tmp_path / "scores.parquet", ignore)
    online, offline = pd.read_parquet(out), pd.read_parquet(tmp_path / "scores.parquet")
    columns = ["SK_ID_CURR", "probability", "decision", "risk_level"]
    assert online[columns].equals(offline[columns])
    assert (online["warnings"] >= offline["warnings"]).all()
    both = call_cli(["score", "--data", str(folder), "--server", server.url, "--model", "x", "--out", str(out)])
    assert (both.returncode, "expected neither --model nor --scheduler" in both.stderr) == (1, True)


class Stub(BaseHTTPRequestHandler):
    """A service that is busy at first."""

    answers: ClassVar[list[tuple[int, Any]]] = []
    keys: ClassVar[list[str | None]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.keys.append(self.headers["Authorization"])
        status, content = self.answers.pop(0)
        body = msgspec.json.encode(content)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stub() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Stub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        Stub.keys.clear()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def online(stub: str, folder: Path, out: Path, said: list[str]) -> pd.DataFrame:
    summary = score_by_service(stub, folder, TABLE, out, said.append, progress=ignore)
    assert summary.applications == 300
    return pd.read_parquet(out)


def prediction(number: int) -> dict[str, Any]:
    return {"probability": number / 300, "decision": "APPROVE", "risk_level": "LOW", "warnings": []}


def test_a_busy_service_is_asked_again_and_refused_applicants_are_told(
    stub: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "WAIT", 0.01)
    monkeypatch.setenv(requests.KEY_VARIABLE, "secret")
    some = [prediction(number) for number in range(300)]
    some[5] = {"index": 5, "client_id": "x", "error": {"detail": "invalid"}}
    Stub.answers[:] = [(503, {}), (504, {}), (200, {"predictions": some})]
    said: list[str] = []
    scores = online(stub, folder, tmp_path / "out.parquet", said)
    assert Stub.keys == ["Bearer secret"] * 3
    assert scores["probability"].isna().sum() == 1
    assert next(line for line in said if "is not scored" in line).endswith('is not scored: {"detail":"invalid"}')


@pytest.mark.parametrize(
    ("answer", "told"),
    [((401, {"detail": "no key"}), "401 no key; put an API key into SCORING_API_KEY"), ((413, {"detail": "large"}), "413 large")],
)
def test_a_refusal_ends_the_run_and_leaves_no_file(stub: str, folder: Path, tmp_path: Path, answer: tuple[int, Any], told: str) -> None:
    Stub.answers[:] = [answer]
    with pytest.raises(DataError, match=told):
        online(stub, folder, tmp_path / "out.parquet", [])
    assert list(tmp_path.iterdir()) == []


def test_a_service_that_stays_away_is_told(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "PATIENCE", 0.05)
    monkeypatch.setattr(requests, "WAIT", 0.01)
    with pytest.raises(DataError, match=r"did not answer for 0 s; at last: ConnectError"):
        online("http://127.0.0.1:1", folder, tmp_path / "out.parquet", [])
    with pytest.raises(DataError, match="expected a URL such as http://"):
        online("localhost:3000", folder, tmp_path / "out.parquet", [])
