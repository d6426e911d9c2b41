"""The questions about the record: lists, pages, filters, one decision, replay."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from records import TIME, make_records
from running import Home, bundle_folder
from sqlalchemy import text

from monitoring.store.database import Store, reading, writing
from monitoring.store.insertion import insert_lines
from monitoring.store.queries import Outcome, add_outcomes
from serving import record_desk
from serving.bundle import Bundle
from serving.contract.prediction import NOT_SIMULATED, simulated
from serving.contract.requests import RequestParser
from serving.errors import ServiceError
from serving.pipeline import Pipeline
from serving.reasons.recorded import reasons_of
from serving.record_desk import MOST, MOST_WAITING, RecordDesk

REASONS = "/decisions/{prediction_id}/reasons"
LIST, ONE, REPLAY, CLIENT = (
    "/decisions",
    "/decisions/{prediction_id}",
    "/decisions/{prediction_id}/replay",
    "/clients/{client_id}/decisions",
)


@pytest.fixture
def desk(store: Store) -> Iterator[RecordDesk]:
    desk = RecordDesk(store, "credit_scoring")
    yield desk
    desk.close()


def insert(store: Store, *records: bytes) -> None:
    with writing(store.engine) as connection:
        assert insert_lines(connection, b"".join(record + b"\n" for record in records)) == []


def ask(desk: RecordDesk, route: str = LIST, path: dict[str, str] | None = None, **query: object) -> Any:
    """The answer as a client reads it."""
    given = [(name, str(value)) for name, value in query.items()]
    return msgspec.json.decode(msgspec.json.encode(asyncio.run(desk.answer(route, path or {}, given))))


def test_no_decisions_are_an_empty_page(desk: RecordDesk) -> None:
    assert ask(desk) == ask(desk, CLIENT, {"client_id": "nobody"}) == {"decisions": [], "next": None}


def test_pages_hold_each_decision_once_newest_first_even_among_equal_times(desk: RecordDesk, store: Store) -> None:
    records = make_records(5) + make_records(4, timestamp=TIME.isoformat(timespec="milliseconds"))
    insert(store, *records)
    for limit in (1, 2, 4, 9, MOST):
        seen, cursor, pages = [], {}, 0
        while True:
            page = ask(desk, limit=limit, **cursor)
            seen += [(row["time"], row["prediction_id"]) for row in page["decisions"]]
            pages += 1
            if page["next"] is None:
                break
            cursor = {"cursor": page["next"]}
        assert seen == sorted(seen, reverse=True)
        assert {identifier for _, identifier in seen} == {record.prediction_id for record in records}
        assert (len(seen), pages) == (9, -(-9 // limit))


def test_filters_choose_and_hold_together(desk: RecordDesk, store: Store) -> None:
    declined = make_records(2, decision="DECLINE", risk_level="HIGH", model_version="v2", client_id="one")
    (other,) = make_records(1, client_id="one", model_name="another")
    insert(store, *make_records(3), *declined, other)
    for query, count in (
        ({}, 5),
        ({"decision": "DECLINE"}, 2),
        ({"risk_level": "LOW"}, 3),
        ({"model_version": "v2", "decision": "APPROVE"}, 0),
        ({"client_id": "one"}, 2),
        ({"since": (TIME + timedelta(seconds=1)).isoformat()}, 3),
        ({"since": "2000-01-01T00:00:00Z", "until": TIME.isoformat()}, 0),
        ({"until": (TIME + timedelta(seconds=1)).isoformat().replace("+", " ")}, 2),
    ):
        assert len(ask(desk, **query)["decisions"]) == count, query
    assert ask(desk, CLIENT, {"client_id": "one"}) == ask(desk, client_id="one")


def test_a_decision_is_listed_with_its_outcome_and_shown_with_its_record(desk: RecordDesk, store: Store) -> None:
    first, second = make_records(2)
    insert(store, first, second)
    with writing(store.engine) as connection:
        for defaulted in (False, True):
            add_outcomes(connection, [Outcome(first.prediction_id, None, defaulted, TIME)], "api", TIME, "credit_scoring")
    newest, oldest = ask(desk)["decisions"]
    assert newest["outcome"] is None
    assert oldest["outcome"] == {"defaulted": True, "observed_at": TIME.isoformat().replace("+00:00", "Z")}
    assert (oldest["sender"], oldest["model_name"], oldest["probability"]) == ("loopback", "credit_scoring", 0.1)
    whole = ask(desk, ONE, {"prediction_id": first.prediction_id.upper()})
    assert whole["record"] == msgspec.json.decode(first)
    assert [one["defaulted"] for one in whole["outcomes"]] == [True, False]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ([("limit", "0")], "limit is '0'; expected a whole number from 1 to 200"),
        ([("limit", "201")], "limit is '201'"),
        ([("limit", "9" * 99)], "limit is '999"),
        ([("limit", "²")], "limit is"),
        ([("colour", "red")], "there is no parameter colour; expected client_id, decision"),
        ([("limit", "1"), ("limit", "2")], "the parameter limit is given twice"),
        ([("decision", "approve")], "decision is 'approve'; expected APPROVE or DECLINE"),
        ([("risk_level", "")], "risk_level is ''; expected LOW or MEDIUM"),
        ([("since", "yesterday")], "since is 'yesterday'; expected a time with its zone"),
        ([("until", "2026-01-31T12:00:00")], "until is .* expected a time with its zone"),
        ([("client_id", "a\0")], "client_id: expected text of 1 to 200 characters without"),
        ([("client_id", "")], "client_id: expected text"),
        ([("cursor", "x")], "cursor is not valid; expected the `next` of an answer"),
        ([("cursor", "W10")], "cursor is not valid; expected the `next` of an answer"),
        ([("cursor", "é")], "cursor is not valid; expected the `next` of an answer"),
    ],
)
def test_an_invalid_parameter_is_named(desk: RecordDesk, query: list[tuple[str, str]], said: str) -> None:
    with pytest.raises(ServiceError, match=said) as caught:
        asyncio.run(desk.answer(LIST, {}, query))
    assert caught.value.status == 422


def test_what_is_not_there_is_a_404_and_so_is_another_models(desk: RecordDesk, store: Store) -> None:
    (other,) = make_records(1, model_name="another")
    insert(store, other)
    for identifier in (other.prediction_id, "01a2048f-65ec-7468-814c-b56ecd0b1a45", "x", "'; drop table decisions"):
        for route in (ONE, REPLAY):
            with pytest.raises(ServiceError, match="the store has no decision") as caught:
                asyncio.run(desk.answer(route, {"prediction_id": identifier}, []))
            assert caught.value.status == 404
    with pytest.raises(ServiceError, match="there is no parameter limit; expected none"):
        asyncio.run(desk.answer(ONE, {"prediction_id": other.prediction_id}, [("limit", "1")]))


def test_a_replay_confirms_the_bits_or_says_why_not(desk: RecordDesk, store: Store, home: Home, bundle: Bundle) -> None:
    bundle_folder(home)
    lines: list[bytes] = []
    pipeline = Pipeline(bundle, model_name="credit_scoring", record=lambda make: lines.extend(make()))  # type: ignore[func-returns-value]
    scoring = pipeline.score([RequestParser(bundle.features, 1).parse_example()])
    pipeline.commit(scoring)
    (made,) = scoring.predictions
    (gone,) = make_records(1, model_version="0" * 16)
    insert(store, *lines, gone)
    assert ask(desk, REPLAY, {"prediction_id": made.prediction_id})["result"].startswith("the same PD to the last bit")
    with pytest.raises(ServiceError, match="holds no model") as caught:
        asyncio.run(desk.answer(REPLAY, {"prediction_id": gone.prediction_id}, []))
    assert caught.value.status == 409
    assert set(msgspec.structs.asdict(made)) - set(simulated(made)) == set(NOT_SIMULATED)


def test_reasons_of_a_decision_are_those_of_its_model_in_the_language_asked_for(
    desk: RecordDesk, store: Store, home: Home, bundle: Bundle
) -> None:
    bundle_folder(home)
    lines: list[bytes] = []
    pipeline = Pipeline(bundle, model_name="credit_scoring", record=lambda make: lines.extend(make()))  # type: ignore[func-returns-value]
    scoring = pipeline.score([RequestParser(bundle.features, 1).parse_example()])
    pipeline.commit(scoring)
    insert(store, *lines)
    path = {"prediction_id": scoring.predictions[0].prediction_id}
    english, french = ask(desk, REASONS, path), ask(desk, REASONS, path, language="fr")
    assert english == reasons_of(lines[0], "credit_scoring", None, "en")
    assert (english["given"], english["decision"]) == (False, scoring.predictions[0].decision)
    assert [reason["code"] for reason in english["reasons"]] == [reason["code"] for reason in french["reasons"]]
    assert {reason["text"] for reason in english["reasons"]}.isdisjoint(reason["text"] for reason in french["reasons"])
    for query, status in (({"language": "nl"}, 409), ({"limit": "1"}, 422)):
        with pytest.raises(ServiceError) as caught:
            ask(desk, REASONS, path, **query)
        assert caught.value.status == status


def test_a_store_that_cannot_be_read_is_a_503() -> None:
    desk = RecordDesk(Store("postgresql+psycopg://nobody@127.0.0.1:1/none"), "m")
    for route, path in ((LIST, {}), (ONE, {"prediction_id": "01a2048f-65ec-7468-814c-b56ecd0b1a45"})):
        with pytest.raises(ServiceError, match="cannot be used") as caught:
            asyncio.run(desk.answer(route, path, []))
        assert caught.value.status == 503
    desk.close()


def test_questions_beyond_the_most_that_wait_are_refused(desk: RecordDesk, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()
    real: Callable[..., Any] = record_desk.list_decisions
    monkeypatch.setattr(record_desk, "list_decisions", lambda *given: free.wait(60) and real(*given))

    async def scenario() -> list[Any]:
        waiting = [asyncio.create_task(desk.answer(LIST, {}, [])) for _ in range(MOST_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(ServiceError, match="too many questions") as caught:
            await desk.answer(LIST, {}, [])
        assert caught.value.status == 503
        free.set()
        return await asyncio.gather(*waiting)

    assert asyncio.run(scenario()) == [{"decisions": [], "next": None}] * MOST_WAITING
    assert ask(desk) == {"decisions": [], "next": None}


def test_a_reading_transaction_cannot_write(store: Store) -> None:
    with writing(store.engine) as connection:
        connection.execute(text("DELETE FROM outcomes"))
    with pytest.raises(Exception, match=r"read-?only"), reading(store.engine) as connection:
        connection.execute(text("DELETE FROM outcomes"))
    with writing(store.engine) as connection:
        connection.execute(text("DELETE FROM outcomes"))
