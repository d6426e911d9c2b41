import dataclasses
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from records import make_records, write_log
from running import Home, bundle_folder, run_cli, use_models

from features.history import UNSEEN
from monitoring.decision_log.record import Record
from serving.bundle import Bundle, BundleError
from serving.contract.requests import RequestParser
from serving.contract.rows import Row
from serving.model_store import save_to_store
from serving.pipeline import Pipeline
from serving.replay import ReplayError, replay
from serving.thin import ThinRule


def decide(bundle: Bundle, rows: list[Row], raw_fields: tuple[str, ...] = ()) -> list[bytes]:
    """The records of the decisions on these rows, as they are written."""
    lines: list[bytes] = []
    pipeline = Pipeline(bundle, raw_fields=raw_fields, record=lambda make: lines.extend(make()))
    scoring = pipeline.score(rows)
    assert not lines, "scoring changes nothing"
    answers = pipeline.commit(scoring).results
    assert all(line.startswith(bytes(answer)[:-1]) for line, answer in zip(lines, answers, strict=True)), "the answer as it is sent"
    return lines


def keep(bundle: Bundle, rows: list[Row], raw_fields: tuple[str, ...] = ()) -> list[Record]:
    """The records of the decisions on these rows."""
    return [msgspec.json.decode(line, type=Record) for line in decide(bundle, rows, raw_fields)]


def parser(bundle: Bundle) -> RequestParser:
    return RequestParser(bundle.features, 10)


@pytest.fixture(autouse=True)
def in_the_store(home: Home) -> None:
    """Let replays find the model."""
    bundle_folder(home)


@pytest.fixture(scope="module")
def record(bundle: Bundle) -> Record:
    row = parser(bundle).parse_example()
    row.request_id = "r1"
    return keep(bundle, [row], ("AMT_CREDIT", "CODE_GENDER"))[0]


def test_a_record_holds_the_answer_and_the_raw_fields_that_are_named(bundle: Bundle, record: Record) -> None:
    example = bundle.features.table.example
    assert record.raw == {name: example.get(name) for name in ("AMT_CREDIT", "CODE_GENDER")}
    vector = parser(bundle).parse_one(msgspec.json.encode({"features": [None] * len(bundle.features.names)}))
    assert keep(bundle, [vector], ("AMT_CREDIT",))[0].raw == {}
    assert keep(bundle, [vector])[0].raw is msgspec.UNSET
    with pytest.raises(ValueError, match=r"log.raw_fields names AMT_CREDI; expected fields"):
        Pipeline(bundle, raw_fields=("AMT_CREDI",))


def recorded(bundle: Bundle, numbers: str, alone: bool = True) -> Record:
    """The record of a decision on a vector, sent alone or as the last of two in a batch."""
    contract = parser(bundle)
    vector = f"[{numbers}]".encode()
    rows = (
        [contract.parse_one(b'{"features": %b}' % vector)]
        if alone
        else [row for row in contract.parse_batch(b'{"features": [%b, %b]}' % (vector, vector)) if row]
    )
    return keep(bundle, rows)[-1]


@pytest.mark.parametrize(
    "number", ["1", "-0", "1E-2", "5e-324", "1e-400", "0.1000000000000000055511151231257827", "9007199254740993", "1" + "0" * 300, "null"]
)
@pytest.mark.parametrize("alone", [True, False])
def test_a_vector_is_on_record_as_it_was_sent_and_replays(bundle: Bundle, number: str, alone: bool) -> None:
    numbers = ", ".join(["null"] * (len(bundle.features.names) - 1) + [number])
    record = recorded(bundle, numbers, alone)
    assert bytes(record.features) == f"[{numbers}]".encode()
    assert replay(msgspec.json.encode(record), "credit_scoring").startswith("the same PD to the last bit")


@pytest.mark.parametrize("space", ["\n", "\r", "\t", " " * 40], ids=["line feed", "carriage return", "tab", "much space"])
@pytest.mark.parametrize("alone", [True, False])
def test_a_vector_that_would_break_a_line_or_fill_the_disk_is_on_record_without_its_space(bundle: Bundle, space: str, alone: bool) -> None:
    numbers = ["null"] * (len(bundle.features.names) - 1) + ["0.5"]
    record = recorded(bundle, f",{space}".join(numbers), alone)
    assert bytes(record.features) == f"[{','.join(numbers)}]".encode()


def test_a_vector_with_an_unseen_code_is_on_record_as_it_was_scored(bundle: Bundle) -> None:
    place = bundle.features.names.index("CODE_GENDER")
    numbers = ["null"] * len(bundle.features.names)
    numbers[place] = "7"
    record = recorded(bundle, ", ".join(numbers))
    numbers[place] = str(float(UNSEEN))
    assert bytes(record.features) == f"[{','.join(numbers)}]".encode()
    assert [warning["code"] for warning in record.warnings] == ["unseen_category", "absent", "thin_application"]
    assert replay(msgspec.json.encode(record), "credit_scoring").startswith("the same PD to the last bit")


def test_a_replay_gives_the_same_bits(record: Record) -> None:
    assert replay(msgspec.json.encode(record), "credit_scoring").startswith("the same PD to the last bit")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda record: {"probability": float(np.nextafter(record.probability, 1))}, "the PD is .* now; the record has"),
        (lambda record: {"decision": "DECLINE" if record.decision == "APPROVE" else "APPROVE"}, "the decision is .* now; the record has"),
        (lambda record: {"threshold": 0.5}, "the decision is .* now; the record has"),
        (lambda record: {"features": msgspec.Raw(b"[1.0]")}, "the record has 1 features; model"),
        (lambda record: {"features": msgspec.Raw(b'["x"]')}, "the record cannot be read"),
    ],
)
def test_a_replay_says_where_it_differs(record: Record, change: Callable[[Record], dict[str, object]], said: str) -> None:
    with pytest.raises(ReplayError, match=said):
        replay(msgspec.json.encode(msgspec.structs.replace(record, **change(record))), "credit_scoring")


def test_a_model_that_is_not_there_is_named(record: Record) -> None:
    with pytest.raises(BundleError, match="holds no model credit_scoring:gone"):
        replay(msgspec.json.encode(msgspec.structs.replace(record, model_version="gone")), "credit_scoring")
    with pytest.raises(ReplayError, match="cannot be read"):
        replay(b"{", "credit_scoring")
    with pytest.raises(ReplayError, match="cannot be read"):
        replay(msgspec.json.encode(record).replace(b'"r1"', b'"r\xff"'), "credit_scoring")


def test_the_commands_over_what_is_on_record(home: Home, bundle: Bundle, tmp_path: Path, record: Record) -> None:
    environment = {**home.environment, "CREDIT_HOME": str(tmp_path / "credit")}

    def run(*arguments: str, code: int = 0) -> str:
        result = run_cli(list(arguments), environment)
        assert (result.returncode, "Traceback" in result.stderr) == (code, False), result.stderr
        return result.stdout + result.stderr

    assert "holds no decision log" in run("verify-log", code=1)
    assert "0 lines shipped" in run("ship", "--once")
    others = make_records(40, client_id="c")
    write_log(tmp_path / "credit" / "logs", [msgspec.json.encode(record), *others], max_bytes=5000)
    assert "the same PD to the last bit" in run("replay", record.prediction_id), "from the log"
    assert "41 lines shipped" in run("ship", "--once")
    assert "the decision log is sound: 41 lines" in run("verify-log")
    assert "the same PD to the last bit" in run("replay", record.prediction_id.upper()), "from the store"
    assert "holds no model credit_scoring:v1" in run("replay", others[0].prediction_id, code=1)
    assert "neither the store nor the decision log has a decision" in run("replay", "0" * 8 + record.prediction_id[8:], code=1)
    assert "is not a prediction id" in run("replay", "x", code=1)
    outcomes = tmp_path / "outcomes.csv"
    outcomes.write_text(f"prediction_id,defaulted\n{record.prediction_id},1\n")
    assert "1 stored, 0 repeated" in run("outcomes", "import", str(outcomes))
    outcomes.write_text(f"prediction_id,defaulted\n{record.prediction_id},0\nx,1\n{'0' * 8 + record.prediction_id[8:]},1\n")
    told = run("outcomes", "import", str(outcomes), code=1)
    assert "0 stored, 0 repeated, 1 corrected, 1 unknown, 1 invalid" in told
    assert "line 3: prediction_id expected the prediction_id of an answer" in told
    assert "line 4: there is no such decision" in told
    assert "expected prediction_id or client_id" in run(
        "outcomes", "import", str(tmp_path / "credit" / "logs" / "predictions.lock"), code=1
    )
    assert "No such file" in run("outcomes", "import", str(tmp_path / "none.csv"), code=1)
    shown = msgspec.json.decode(run("decision", record.prediction_id))
    assert ([item["defaulted"] for item in shown["outcomes"]], shown["record"]["request_id"]) == ([False, True], "r1")
    assert list(shown["record"]["features"]) == list(bundle.features.names)
    assert "the store has no decision" in run("decision", "0" * 8 + record.prediction_id[8:], code=1)
    assert len(run("decisions", "--client", "c", "--limit", "30").splitlines()) == 30
    assert "expected text in UTF-8" in run("decisions", "--client", "\udcff", code=1)
    assert "41 decisions" in run("export", "--out", str(tmp_path / "all.jsonl"))
    lines = [msgspec.json.decode(line) for line in (tmp_path / "all.jsonl").read_bytes().splitlines()]
    assert [line["outcome"] and line["outcome"]["defaulted"] for line in lines] == [None] * 40 + [False]
    assert "40 decisions" in run("export", "--out", str(tmp_path / "some.csv"), "--until", "2026-02-01T00:00:00Z")
    assert len((tmp_path / "some.csv").read_text().splitlines()) == 41
    assert "expected a time with a time zone" in run("export", "--out", str(tmp_path / "x.csv"), "--since", "2026-02-01", code=1)
    assert "expected a name that ends in" in run("export", "--out", str(tmp_path / "x.txt"), code=1)
    active = tmp_path / "credit" / "logs" / "predictions.jsonl"
    active.write_bytes(active.read_bytes().replace(b'"LOW"', b'"HIGH"', 1))
    assert "predictions.jsonl line 1 does not match its chain" in run("verify-log", code=1)
    environment["CREDIT_STORE__URL"] = "postgresql://a:secret@127.0.0.1:1/x"
    for command in (["ship", "--once"], ["decision", record.prediction_id], ["verify-log"], ["store", "upgrade"]):
        assert "secret" not in run(*command, code=1)


def test_a_thin_application_that_was_declined_for_that_is_declined_again(bundle: Bundle, tmp_path: Path) -> None:
    use_models(tmp_path / "models")
    thin = bundle.decision.thin
    assert thin is not None
    declining = dataclasses.replace(bundle, decision=dataclasses.replace(bundle.decision, thin=ThinRule(thin.limit, "decline")))
    save_to_store(declining, "declining")
    (line,) = decide(declining, [parser(declining).parse_one(b'{"application": {}}')])
    record = msgspec.json.decode(line, type=Record)
    assert (record.decision, record.prediction, record.probability < record.threshold) == ("DECLINE", 1, True)
    assert "the same decision, DECLINE" in replay(line, "declining")
    with pytest.raises(ReplayError, match="the decision is DECLINE at"):
        replay(line.replace(b'"DECLINE"', b'"APPROVE"'), "declining")
