"""The running service, by its clients."""

import asyncio
import gzip
import json
import random
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bentoml
import httpx
import numpy as np
import pandas as pd
import pytest
from running import Home, Server, as_dict, serve

from features.applications import Applications
from features.schema import Table, history_tables
from serving.bundle import Bundle
from serving.scorer import Scorer
from training.data.history_folder import HistoryFolder
from training.home_credit.generator import Generator, generate

pytestmark = pytest.mark.service

MEMBERS = [
    "prediction_id", "client_id", "prediction", "decision", "probability", "risk_level", "threshold", "model_version", "timestamp", "warnings",
]  # fmt: skip


def as_request(frame: pd.DataFrame, table: Table) -> list[dict[str, Any]]:
    """Applications as a client would send them: missing values left out."""
    columns = [column.name for column in table.columns]
    return [
        {"client_id": str(int(key)), "application": {name: value for name, value in row.items() if pd.notna(value)}}
        for key, row in zip(frame[table.key], frame[columns].to_dict("records"), strict=True)
    ]


@pytest.fixture(scope="module")
def applicants() -> pd.DataFrame:
    return pd.concat(Generator.from_file().draw(1500, seed=21), ignore_index=True)


def test_health_model_probes_and_metrics_answer(client: httpx.Client, bundle: Bundle) -> None:
    health = client.get("/health").json()
    assert (
        health.items()
        >= {"status": "ok", "detail": None, "model_loaded": True, "model_name": "credit_scoring", "trained_on": "generated"}.items()
    )
    assert health["model_version"] == bundle.version
    assert "timestamp" in health
    model = client.get("/model").json()
    assert model["features"] == bundle.features.describe()
    assert (model["threshold"], model["trained_on"]) == (bundle.decision.threshold, "generated")
    assert [band["level"] for band in model["bands"]] == ["LOW", "MEDIUM", "HIGH", "CRITICAL"]
    assert client.get("/livez").status_code == client.get("/readyz").status_code == 200
    metrics = client.get("/metrics").text
    assert f'credit_model_info{{name="credit_scoring",trained_on="generated",version="{bundle.version}"}} 1.0' in metrics
    assert "process_resident_memory_bytes" in metrics


def test_the_log_says_what_the_model_was_trained_on(server: Server) -> None:
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    assert any("trained on generated data" in line["message"] and line["level"] == "WARNING" for line in lines)


def test_served_scores_equal_offline_scores_to_the_last_bit(
    client: httpx.Client, bundle: Bundle, applicants: pd.DataFrame, table: Table
) -> None:
    transformed = bundle.features.transform(Applications.from_columns(applicants)).matrix
    offline = Scorer(bundle).pd(transformed).tolist()
    requests = as_request(applicants, table)
    served = []
    for start in range(0, len(requests), 500):
        answer = client.post("/predict/batch", json={"applications": requests[start : start + 500]}).json()
        assert answer["count"] == 500
        served += answer["predictions"]
    assert [item["probability"] for item in served] == offline
    assert [item["client_id"] for item in served] == [item["client_id"] for item in requests]
    with ThreadPoolExecutor(8) as pool:
        singles = list(pool.map(lambda item: client.post("/predict", json=item).json()["probability"], requests[:200]))
    assert singles == offline[:200]
    vectors = [[None if np.isnan(value) else value for value in row] for row in transformed[:200].tolist()]
    by_vector = client.post("/predict/batch", json={"features": vectors}).json()["predictions"]
    assert [item["probability"] for item in by_vector] == offline[:200]


def with_history(requests: list[dict[str, Any]], folder: Path, keys: list[int]) -> list[dict[str, Any]]:
    """Requests with the rows of the history tables of a folder, in any order; a table that the folder has not is left out."""
    tables = history_tables()
    histories: dict[int, dict[str, list[dict[str, Any]]]] = {key: {} for key in keys}
    owner: dict[int, int] = {}
    for table in tables:
        if not (folder / f"{table.name}.parquet").is_file():
            continue
        frame = pd.read_parquet(folder / f"{table.name}.parquet").sample(frac=1, random_state=0)
        frame = frame[frame[table.key].isin(owner if table.parent else histories)]
        for history in histories.values():
            history[table.name] = []
        for row in frame.to_dict("records"):
            key = owner[row[table.key]] if table.parent else row[table.key]
            if table.loan and table.parent is None:
                owner[row[table.loan]] = key
            histories[key][table.name].append({name: value for name, value in row.items() if pd.notna(value)})
    return [{**request, "history": histories[key]} for request, key in zip(requests, keys, strict=True)]


def test_applicants_with_generated_history_are_scored_as_offline(
    client: httpx.Client, bundle: Bundle, table: Table, tmp_path: Path
) -> None:
    generate(tmp_path, 300, seed=31)
    frame = pd.read_parquet(tmp_path / "application_train.parquet")
    keys = frame[table.key].to_numpy()
    history = HistoryFolder(tmp_path, keys, lambda _: None).history()
    offline = Scorer(bundle).score(Applications.from_columns(frame), history).tolist()
    assert offline != Scorer(bundle).score(Applications.from_columns(frame)).tolist()
    requests = with_history(as_request(frame, table), tmp_path, keys.tolist())
    served = [item["probability"] for item in client.post("/predict/batch", json={"applications": requests}).json()["predictions"]]
    assert served == offline
    with ThreadPoolExecutor(8) as pool:
        singles = list(pool.map(lambda item: client.post("/predict", json=item).json()["probability"], requests[:60]))
    assert singles == offline[:60]


def test_a_bad_history_row_is_named_and_a_large_history_answered(client: httpx.Client) -> None:
    def row(number: int) -> dict[str, Any]:
        return {"SK_ID_PREV": 1, "NUM_INSTALMENT_NUMBER": number + 1, "AMT_INSTALMENT": 100.5, "DAYS_INSTALMENT": -number % 2900 - 1}

    rows = [row(number) for number in range(3_000)]
    body = {"application": {}, "history": {"installments_payments": rows}}
    assert client.post("/predict", json=body).status_code == 200
    rows[3] = {**rows[3], "AMT_PAYMENT": "5"}
    rows[9] = rows[8]
    problem = client.post("/predict", json=body).json()
    assert [error["pointer"] for error in problem["errors"]] == ["/history/installments_payments/3/AMT_PAYMENT"]


@pytest.mark.data
def test_real_applicants_with_history_are_scored_as_offline(client: httpx.Client, bundle: Bundle, real_data: Path, table: Table) -> None:
    frame = pd.read_parquet(real_data / "application_train.parquet")
    listed = pd.read_csv(real_data / "complete_history_ids.csv")[table.key]
    frame = frame[frame[table.key].isin(listed)][:500]
    keys = frame[table.key].to_numpy()
    history = HistoryFolder(real_data, keys, lambda _: None).history()
    offline = Scorer(bundle).score(Applications.from_columns(frame), history).tolist()
    requests = with_history(as_request(frame, table), real_data, keys.tolist())
    for request in requests:
        del request["history"]["installments_payments"]  # not complete in these data
    served = [
        item["probability"]
        for start in range(0, len(requests), 100)
        for item in client.post("/predict/batch", json={"applications": requests[start : start + 100]}).json()["predictions"]
    ]
    assert served == offline


@pytest.mark.data
def test_real_applicants_are_scored_as_offline(client: httpx.Client, bundle: Bundle, real_data: Path, table: Table) -> None:
    frame = pd.read_parquet(real_data / "application_test.parquet")[:3000]
    offline = Scorer(bundle).score(Applications.from_columns(frame)).tolist()
    requests = as_request(frame, table)
    served = [
        item["probability"]
        for start in range(0, len(requests), 1000)
        for item in client.post("/predict/batch", json={"applications": requests[start : start + 1000]}).json()["predictions"]
    ]
    assert served == offline


def test_a_prediction_answers_the_contract(client: httpx.Client, table: Table) -> None:
    response = client.post("/predict", json={"client_id": "é漢", "application": dict(table.example)}, headers={"X-Request-ID": "mine-1"})
    answer = response.json()
    assert list(answer) == MEMBERS
    assert (answer["client_id"], response.headers["x-request-id"]) == ("é漢", "mine-1")
    assert [warning["code"] for warning in answer["warnings"]] == ["absent"]
    assert answer["decision"] == ("DECLINE" if answer["probability"] >= answer["threshold"] else "APPROVE")


def test_bentos_own_clients_score(server: Server, table: Table) -> None:
    application = dict(table.example)
    with bentoml.SyncHTTPClient(server.url) as client:
        one = client.predict(client_id="c", application=application)
        many = client.predict_batch(applications=[{"application": application}])

    async def by_async() -> Any:
        async with bentoml.AsyncHTTPClient(server.url) as client:
            return await client.predict(application=application)

    other = asyncio.run(by_async())
    probabilities = {as_dict(item)["probability"] for item in (one, other)} | {as_dict(many)["predictions"][0]["probability"]}
    assert len(probabilities) == 1


@pytest.mark.parametrize(
    ("method", "path", "arguments", "status"),
    [
        ("POST", "/predict", {"content": b"{"}, 400),
        ("POST", "/predict", {"content": b""}, 400),
        ("GET", "/nothing", {}, 404),
        ("GET", "/predict", {}, 405),
        ("POST", "/health", {"json": {}}, 405),
        ("POST", "/predict", {"json": {"application": {"NOPE": 1}}}, 422),
        ("POST", "/predict", {"content": b"{}", "headers": {"Content-Type": "text/plain"}}, 415),
        ("POST", "/predict", {"content": b"{}", "headers": {"Content-Type": "application/vnd.bentoml+pickle"}}, 415),
        ("POST", "/predict/batch", {"json": {"applications": [{}] * 1001}}, 413),
        ("POST", "/predict/batch", {"content": b" " * 16_000_001}, 413),
        ("POST", "/predict/batch", {"content": (b" " * 1_000_000 for _ in range(17))}, 413),
    ],
    ids=["open json", "no body", "404", "405", "405 post", "422", "415", "pickle", "rows", "announced bytes", "streamed bytes"],
)
def test_errors_are_problem_details(client: httpx.Client, method: str, path: str, arguments: dict[str, Any], status: int) -> None:
    headers = {"Content-Type": "application/json", **arguments.pop("headers", {})}
    response = client.request(method, path, headers=headers, **arguments)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["request_id"] == response.headers["x-request-id"]
    assert "Traceback" not in response.text
    if status == 405:
        assert response.headers["allow"]
    described = client.get("/docs.json").json()["paths"].get(path, {}).get(method.lower())
    assert described is None or str(status) in described["responses"]


@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/outcomes"])
def test_a_body_may_be_packed_or_have_a_byte_order_mark_and_is_refused_by_name_otherwise(client: httpx.Client, path: str) -> None:
    good = {
        "/predict": '{"client_id": "Müller", "application": {}}',
        "/predict/batch": '{"applications": [{"client_id": "Müller", "application": {}}]}',
        "/outcomes": '{"outcomes": [{"client_id": "Müllers", "defaulted": true}]}',
    }[path]
    json_type, packed = {"Content-Type": "application/json"}, {"Content-Type": "application/json", "Content-Encoding": "gzip"}

    def post(content: bytes, headers: dict[str, str]) -> tuple[int, str]:
        response = client.post(path, content=content, headers=headers)
        assert response.status_code == 200 or response.headers["content-type"] == "application/problem+json"
        return response.status_code, response.json().get("detail", "")

    for content, headers in ((good.encode("utf-8-sig"), json_type), (gzip.compress(good.encode("utf-8-sig")), packed)):
        assert post(content, headers) == (200, "")
    no_json = "The body is not valid UTF-8 JSON: "
    assert post(good.encode("utf-16"), json_type) == (400, f"{no_json}it is UTF-16.")
    assert post(good.encode("latin-1"), json_type)[1].endswith(" is 0xfc, which is not UTF-8 but may be Latin-1.")
    assert post(b"", json_type) == (400, f"{no_json}it is empty.")
    assert post(gzip.compress(good.encode()), json_type)[1] == f"{no_json}it is packed by gzip, which the header Content-Encoding must say."
    assert post(b" ", {**json_type, "Content-Encoding": "br"}) == (415, "the content encoding is 'br'; expected gzip or none")
    assert post(gzip.compress(b" " * 16_000_001), packed)[0] == 413
    assert post(good[:-1].encode() + b', "x": 1, "x": 2}', json_type)[0] == 422


def test_one_bad_applicant_among_64_at_once_spoils_only_itself(server: Server, client: httpx.Client, table: Table) -> None:
    application = dict(table.example)
    expected = client.post("/predict", json={"application": application}).json()["probability"]

    async def scenario() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=30) as many:
            bodies = [{"client_id": str(number), "application": application} for number in range(64)]
            bodies[31] = {"client_id": "31", "application": {**application, "AMT_CREDIT": "much"}}
            return await asyncio.gather(*(many.post("/predict", json=body) for body in bodies))

    for number, response in enumerate(asyncio.run(scenario())):
        if number == 31:
            assert response.status_code == 422
        else:
            assert (response.json()["client_id"], response.json()["probability"]) == (str(number), expected)


def test_rows_of_clients_that_left_are_dropped(server: Server, client: httpx.Client, table: Table) -> None:
    def scored() -> float:
        text = client.get("/metrics").text
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("credit_predictions_total"))

    before = scored()
    body = json.dumps({"applications": [{"application": dict(table.example)}] * 1000}).encode()
    head = f"POST /predict/batch HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    host, port = server.url.removeprefix("http://").split(":")
    for _ in range(6):
        with socket.create_connection((host, int(port))) as sock:
            sock.sendall(head.encode() + body)
    assert client.post("/predict", json={"application": {}}).status_code == 200
    assert scored() - before < 6 * 1000


def test_with_tracing_and_the_access_log_on_it_answers_the_same(home: Home, tmp_path: Path, client: httpx.Client, table: Table) -> None:
    document = {"application": dict(table.example)}
    switches = {"CREDIT_SERVICE__TRACING": "true", "CREDIT_SERVICE__ACCESS_LOG": "true"}
    for server in serve(home, tmp_path, **switches):
        answer = httpx.post(f"{server.url}/predict", json=document)
        assert answer.json()["probability"] == client.post("/predict", json=document).json()["probability"]
        assert httpx.post(f"{server.url}/predict", content=b"{").status_code == 400
        assert '"path": "/predict"' in server.log.read_text()


def test_metrics_have_bounded_routes(client: httpx.Client) -> None:
    for number in range(5):
        client.get(f"/scan/{number}")
    text = client.get("/metrics").text
    assert "/scan/" not in text
    assert 'route="other",status="404"' in text


def broken_requests(table: Table, count: int) -> Iterator[tuple[bytes, dict[str, str]]]:
    """Requests broken at random, each in one way at least."""
    rng = random.Random(0)
    names = [column.name for column in table.columns]
    values = ["x", True, [], {}, [1], {"a": 1}, 10**400, "\U0001f600" * 50, 1.5, -1, "1", [[[[]]]]]
    for _ in range(count):
        application = dict(table.example)
        document: Any = {"application": application}
        content_type = "application/json"
        kind = rng.randrange(9)
        if kind == 0:
            column = rng.choice([c for c in table.columns if c.type == "number"])
            application[column.name] = rng.choice([v for v in values if v not in (1.5, -1) or isinstance(v, bool)])
        elif kind == 1:
            application[rng.choice(["AMT_CREDI", "", "\x00", "a" * 5000, "é", "TARGET", "amt_credit"])] = rng.choice(values)
        elif kind == 2:
            document = rng.choice([[], 3, None, "x", [document], {"applications": 1}, {"features": "x"}, {"features": [1.0]}])
        elif kind == 3:
            document[rng.choice(["extra", "Application", "row"])] = rng.choice(values)
        elif kind == 4:
            document["client_id"] = rng.choice([1, [], {}, True, "", "x" * 201])
        text = json.dumps(document)
        if kind == 5:
            text = text[: rng.randrange(len(text))]
        elif kind == 6:
            token = rng.choice(["NaN", "Infinity", "-Infinity", "1e999", "-1e400"])
            text = text[:-2] + f', "{rng.choice([c.name for c in table.numeric if c.name not in application])}": {token}}}}}'
        elif kind == 7:
            depth = rng.choice([50, 5000, 60_000])
            text = f'{{"application": {{"{rng.choice(names)}": {"[" * depth}{"]" * depth}}}}}'
        elif kind == 8:
            content_type = rng.choice(["text/plain", "multipart/form-data", "", "application/xml", "application/vnd.bentoml+pickle"])
        yield text.encode(), {"Content-Type": content_type}


def test_2000_broken_requests_never_break_the_service(client: httpx.Client, table: Table) -> None:
    for text, headers in broken_requests(table, 2000):
        response = client.post("/predict", content=text, headers=headers)
        problem = response.json()
        assert 400 <= response.status_code < 500, (text[:300], response.text)
        assert response.headers["content-type"] == "application/problem+json"
        if response.status_code == 422:
            assert problem["errors"]
            assert all(set(error) == {"pointer", "detail"} for error in problem["errors"])
        else:
            assert problem["detail"]
    assert client.get("/readyz").status_code == 200


def test_a_client_that_leaves_in_the_middle_of_its_body_harms_nobody(server: Server, client: httpx.Client) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    for _ in range(20):
        with socket.create_connection((host, int(port))) as sock:
            sock.sendall(b'POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"appl')
    assert client.post("/predict", json={"application": {}}).status_code == 200


def test_outcomes_are_answered_one_by_one(client: httpx.Client, server: Server) -> None:
    unknown = "01a2048f-65ec-7468-814c-b56ecd0b1a45"
    sent = [{"prediction_id": unknown, "defaulted": True}, {"client_id": "c", "defaulted": "no"}]
    answer = client.post("/outcomes", json={"outcomes": sent}).json()
    assert [item["status"] for item in answer["outcomes"]] == ["unknown", "invalid"]
    assert answer["counts"] == {"stored": 0, "repeated": 0, "corrected": 0, "unknown": 1, "invalid": 1}
    assert client.post("/outcomes", json={"outcomes": 3}).status_code == 422
    assert client.post("/outcomes", json={"outcomes": [{}] * 10_001}).status_code == 413
    with bentoml.SyncHTTPClient(server.url) as own:
        assert as_dict(own.outcomes(outcomes=sent))["count"] == 2
    metrics = client.get("/metrics").text
    assert "credit_log_ready 1.0" in metrics
    assert "credit_shipper_lag_bytes 0.0" in metrics


def test_a_decision_is_found_listed_and_replayed_and_a_simulation_is_nowhere(
    client: httpx.Client, table: Table, wait_until: Callable[[Callable[[], object]], None]
) -> None:
    body = {"client_id": "looked up", "application": dict(table.example)}
    simulated = client.post("/simulate", json=body).json()
    assert client.get("/clients/looked%20up/decisions").json() == {"decisions": [], "next": None}
    made = client.post("/predict", json=body).json()
    assert {**made, **simulated} == made
    wait_until(lambda: client.get("/decisions", params={"client_id": "looked up"}).json()["decisions"])
    (row,) = client.get("/clients/looked%20up/decisions").json()["decisions"]
    assert (row["prediction_id"], row["probability"], row["sender"]) == (made["prediction_id"], made["probability"], "loopback")
    whole = client.get(f"/decisions/{made['prediction_id']}").json()
    assert {**whole["record"], **made} == whole["record"]
    replayed = client.post(f"/decisions/{made['prediction_id']}/replay")
    assert replayed.json()["result"].startswith("the same PD to the last bit")
    for response, status in (
        (client.get("/decisions?limit=0"), 422),
        (client.get("/decisions/nothing"), 404),
        (client.post("/decisions"), 405),
        (client.post("/simulate", json={"application": {"NOPE": 1}}), 422),
    ):
        assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert 'route="/decisions/{prediction_id}",status="404"' in client.get("/metrics").text


def test_openapi_tells_what_the_service_does(client: httpx.Client, table: Table) -> None:
    document = client.get("/docs.json").json()
    assert set(document["paths"]) == {
        *("/predict", "/predict/batch", "/explain", "/outcomes", "/simulate", "/decisions", "/decisions/{prediction_id}"),
        *("/decisions/{prediction_id}/reasons", "/decisions/{prediction_id}/replay", "/clients/{client_id}/decisions"),
        *("/health", "/livez", "/readyz", "/metrics", "/model", "/schema"),
    }
    assert set(document["components"]["schemas"]["Application"]["properties"]) == {c.name for c in table.columns} | {table.key}
    assert set(document["paths"]["/predict"]["post"]["responses"]) == {
        *("200", "400", "401", "403", "408", "409", "413", "414", "415", "422", "431", "500", "503", "504")
    }
    assert "409" not in document["paths"]["/decisions"]["get"]["responses"]  # it takes no idempotency key and gives no reasons
    for path in ("/predict", "/explain"):
        example = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]
        assert client.post(path, json=example).status_code == 200
    references = set()
    json.dumps(document, default=str)
    for part in json.dumps(document).split('"#/components/schemas/')[1:]:
        references.add(part.split('"')[0])
    assert references <= set(document["components"]["schemas"])


@pytest.mark.browser
def test_a_person_scores_on_the_docs_page(server: Server, need: Callable[..., str]) -> None:
    chromium = need("chromium", "chromium-browser", "google-chrome")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-background-networking"])
        page = browser.new_page()
        requested: list[str] = []
        page.on("request", lambda request: requested.append(request.url))
        page.goto(f"{server.url}/docs")
        page.locator("#operations-default-predict").click()
        page.get_by_role("button", name="Try it out").click()
        page.get_by_role("button", name="Execute").click()
        page.locator(".live-responses-table .response-col_status", has_text="200").wait_for()
        answer = page.locator(".live-responses-table .highlight-code").first.inner_text()
        browser.close()
    assert '"probability"' in answer
    assert all(url.startswith((server.url, "data:")) for url in requested), requested


def test_explain_gives_the_prediction_with_all_that_explains_it(
    client: httpx.Client, applicants: pd.DataFrame, table: Table, bundle: Bundle
) -> None:
    requests = as_request(applicants[:60], table)
    predicted = [client.post("/predict", json=request).json() for request in requests]
    for request, prediction in zip(requests, predicted, strict=True):
        answer = client.post("/explain", json={**request, "detail": "features"}).json()
        assert (answer["probability"], answer["decision"]) == (prediction["probability"], prediction["decision"])
        assert list(answer)[: len(MEMBERS)] == MEMBERS
        explanation = answer["explanation"]
        odds = np.log(answer["probability"] / (1 - answer["probability"]))
        for points in (explanation["concepts"], explanation["by_feature"]):
            assert abs(explanation["base"] + sum(item["points"] for item in points) - odds) < 1e-9
        assert explanation["baseline"] == "near_threshold"
        assert answer["interval"]["low"] < answer["probability"] < answer["interval"]["high"]
        assert isinstance(answer["borderline"], bool)
        assert all("counted against you" in reason["text"] for reason in answer["reasons"])
    described = client.get("/model").json()["reasons"]
    assert described["languages"] == ["en", "fr"]
    assert {reason["code"] for reason in answer["reasons"]} <= {concept["code"] for concept in described["concepts"]}


def test_only_declines_get_reasons_and_only_if_asked(client: httpx.Client, applicants: pd.DataFrame, table: Table) -> None:
    requests = as_request(applicants[:60], table)
    alone = [client.post("/predict", json={**request, "reasons": True}).json() for request in requests]
    batch = client.post("/predict/batch", json={"applications": requests, "reasons": True}).json()["predictions"]
    whole = [client.post("/explain", json=request).json() for request in requests]
    assert {answer["decision"] for answer in alone} == {"APPROVE", "DECLINE"}
    for one, other, explained in zip(alone, batch, whole, strict=True):
        assert ("reasons" in one) == (one["decision"] == "DECLINE")
        assert one.get("reasons") == other.get("reasons")
        assert one.get("reasons", explained["reasons"]) == explained["reasons"]
        assert "speaks_for" not in one
    assert list(client.post("/predict", json={**requests[0], "reasons": False}).json()) == MEMBERS
    french = client.post("/explain", json={**requests[0], "language": "fr"}).json()
    assert [reason["code"] for reason in french["reasons"]] == [reason["code"] for reason in whole[0]["reasons"]]
    assert all("joué contre vous" in reason["text"] for reason in french["reasons"])


@pytest.mark.parametrize(
    ("path", "more", "pointer"),
    [
        ("/predict", {"reasons": "yes"}, "/reasons"),
        ("/predict", {"reasons": True, "language": "nl"}, "/language"),
        ("/predict", {"detail": "features"}, "/detail"),
        ("/explain", {"detail": "all"}, "/detail"),
        ("/explain", {"language": 1}, "/language"),
        ("/explain", {"reasons": True}, "/reasons"),
    ],
)
def test_what_cannot_be_asked_for_is_named(client: httpx.Client, path: str, more: dict[str, Any], pointer: str) -> None:
    answer = client.post(path, json={"application": {"AMT_CREDIT": 450000}, **more})
    assert (answer.status_code, [error["pointer"] for error in answer.json()["errors"]]) == (422, [pointer])


def test_a_vector_is_explained_without_a_change(client: httpx.Client, bundle: Bundle) -> None:
    answer = client.post("/explain", json={"features": [None] * len(bundle.features.names)}).json()
    assert answer["explanation"]["concepts"]
    assert answer["smallest_change"] is None


def test_bentos_client_gets_explanations(server: Server) -> None:
    with bentoml.SyncHTTPClient(server.url) as bento:
        answer = as_dict(bento.explain(application={"AMT_CREDIT": 450000}))
    assert answer["explanation"]["concepts"]


def test_an_explained_decision_is_on_record_with_its_reasons(client: httpx.Client, server: Server) -> None:
    answer = client.post("/explain", json={"application": {"AMT_CREDIT": 450000, "EXT_SOURCE_2": 0.01}})
    lines = [line for file in server.log.parent.rglob("*.jsonl") for line in file.read_text().splitlines()]
    (line,) = [line for line in lines if answer.json()["prediction_id"] in line]
    assert line.startswith(answer.text[:-1])


def test_a_request_that_is_sent_again_with_its_idempotency_key_gets_the_same_bytes(client: httpx.Client) -> None:
    application = {"AMT_CREDIT": 450000, "EXT_SOURCE_2": 0.58}
    first = client.post("/predict", json={"client_id": "once", "application": application}).json()["prediction_id"]
    calls: dict[str, dict[str, Any]] = {
        "/predict": {"application": application},
        "/predict/batch": {"applications": [{"application": application}, {"application": {"AMT_CREDIT": "many"}}]},
        "/explain": {"application": application},
        "/outcomes": {"outcomes": [{"prediction_id": first, "defaulted": True}]},
    }
    for path, body in calls.items():
        headers = {"Idempotency-Key": f'"{path}"'}
        answer, again = (client.post(path, json=body, headers=headers) for _ in range(2))
        assert (answer.status_code, again.status_code) == (200, 200), answer.text
        assert answer.content == again.content
        assert ("idempotent-replayed" in answer.headers, "idempotent-replayed" in again.headers) == (False, True)
        other = client.post(path, json={**body, "more": 1}, headers=headers)
        assert (other.status_code, other.headers["content-type"]) == (409, "application/problem+json")
        without = client.post(path, json=body)
        assert list(without.json()) == list(answer.json())
    assert client.post("/predict", json={"application": {"AMT": 1}}, headers={"Idempotency-Key": "wrong"}).status_code == 422
    assert client.post("/predict", json=calls["/predict"], headers={"Idempotency-Key": "wrong"}).status_code == 200
    assert client.post("/predict", json=calls["/predict"], headers={"Idempotency-Key": "a b"}).status_code == 400
