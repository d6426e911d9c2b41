"""Requests with an idempotency key, against a store without a service."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from records import Made as Record
from records import log_lines, make_records, stored
from sqlalchemy import func, select
from starlette.responses import Response

from configs.settings import Settings
from monitoring.metrics import Metrics
from monitoring.store.answers import keep_decisions
from monitoring.store.database import reading, writing
from monitoring.store.tables import answers
from serving.errors import ServiceError
from serving.identity.principal import OPEN, SENDER, Principal
from serving.once import Keep, Made, Once
from serving.recording import KEYED, Recording

pytestmark = pytest.mark.slow


class Worker:
    """Decides about one applicant per call, and counts the calls."""

    def __init__(self, recording: Recording) -> None:
        self.recording, self.made, self.counted = recording, list[Record](), 0
        self.go = threading.Event()
        self.go.set()

    def __call__(self, keep: Keep) -> Made:
        self.go.wait(10)
        (record,) = make_records(1)
        self.made.append(record)
        answer = record.prediction_id.encode()
        with writing(self.recording.store.engine) as connection:
            keep(connection, answer, [record.prediction_id])
            keep_decisions(connection, [record])
        return Made(answer, [record], self.count)

    def count(self) -> None:
        self.counted += 1


Ask = Callable[..., "asyncio.Future[Response]"]


@pytest.fixture
def recording(settings: Settings) -> Iterator[Recording]:
    recording = Recording(settings, Metrics())
    yield recording
    recording.close()


def asked(once: Once, worker: Worker, key: bytes = b"k", route: str = "/predict", body: bytes = b"{}") -> bytes:
    return bytes(asyncio.run(once.answer(key, route, body, worker)).body)


def refused(once: Once, worker: Worker, **request: object) -> int:
    with pytest.raises(ServiceError) as caught:
        asked(once, worker, **request)  # type: ignore[arg-type]
    return int(caught.value.status)


def test_a_request_that_is_sent_again_gets_the_same_bytes_and_is_worked_on_once(recording: Recording, settings: Settings) -> None:
    once, worker = Once(recording, 60, 5), Worker(recording)
    first = asked(once, worker)
    again = asyncio.run(once.answer(b'"k"', "/predict", b"{}", worker))
    assert (again.body, again.headers["idempotent-replayed"]) == (first, "true")
    assert asked(Once(recording, 60, 5), worker) == first, "a restart forgets nothing"
    assert (len(worker.made), worker.counted) == (1, 1)
    assert stored(recording.store) == [first.decode()]
    assert [first in line for line in log_lines(settings.log_folder)] == [True]


def test_a_key_belongs_to_its_sender_its_route_and_its_body(recording: Recording) -> None:
    once, worker = Once(recording, 60, 5), Worker(recording)
    first = asked(once, worker)
    assert refused(once, worker, body=b"{ }") == refused(once, worker, route="/explain") == 409
    token = SENDER.set(Principal("other", "key", OPEN.scopes))
    assert asked(once, worker, body=b"{ }") != first
    SENDER.reset(token)
    assert asked(once, worker) == first


@pytest.mark.parametrize("key", [b"", b'""', b"a b", b"\xc3\xa9", b"x" * 201, b'"', b'a"b', b"\x00"])
def test_what_is_no_key_is_a_400(recording: Recording, key: bytes) -> None:
    worker = Worker(recording)
    assert refused(Once(recording, 60, 5), worker, key=key) == 400
    assert not worker.made


def test_a_key_of_the_longest_length_is_one(recording: Recording) -> None:
    assert asked(Once(recording, 60, 5), Worker(recording), key=b"x" * 200)


def test_an_answer_is_forgotten_in_time_and_its_room_is_freed(recording: Recording) -> None:
    once, worker = Once(recording, 0.001, 5), Worker(recording)
    assert asked(once, worker) != asked(once, worker)
    asked(once, worker, key=b"other")
    once._cleaned = -1e9
    asked(once, worker, key=b"other")
    with reading(recording.store.engine) as connection:
        assert connection.execute(select(func.count()).select_from(answers)).scalar() == 1


def test_a_request_in_work_is_not_worked_on_twice(recording: Recording) -> None:
    once, worker = Once(recording, 60, 5), Worker(recording)
    worker.go.clear()

    async def scenario() -> None:
        first = asyncio.ensure_future(once.answer(b"k", "/predict", b"{}", worker))
        await asyncio.sleep(0.05)
        with pytest.raises(ServiceError) as caught:
            await once.answer(b"k", "/predict", b"{}", worker)
        assert (int(caught.value.status), caught.value.headers) == (409, {"Retry-After": "1"})
        worker.go.set()
        assert (await once.answer(b"other", "/predict", b"{}", worker)).body != (await first).body
        assert (await once.answer(b"k", "/predict", b"{}", worker)).body == (await first).body

    asyncio.run(scenario())


def test_an_error_is_not_kept(recording: Recording) -> None:
    once, worker = Once(recording, 60, 5), Worker(recording)

    def failing(keep: Keep) -> Made:
        raise ServiceError(422, "no")

    with pytest.raises(ServiceError, match="no"):
        asyncio.run(once.answer(b"k", "/predict", b"{}", failing))
    assert asked(once, worker, body=b"corrected")


def test_two_services_on_one_store_agree(recording: Recording) -> None:
    """The second one has looked for an answer before the first one kept its own."""
    first, second, worker, late = Once(recording, 60, 5), Once(recording, 60, 5), Worker(recording), Worker(recording)
    late.go.clear()

    async def scenario() -> None:
        waiting = asyncio.ensure_future(second.answer(b"k", "/predict", b"{}", late))
        await asyncio.sleep(0.1)
        answer = await first.answer(b"k", "/predict", b"{}", worker)
        late.go.set()
        assert (await waiting).body == answer.body
        assert (len(late.made), late.counted) == (1, 0)
        assert stored(recording.store) == [bytes(answer.body).decode()]

    asyncio.run(scenario())


def test_a_store_that_cannot_be_used_is_a_503(settings: Settings, recording: Recording) -> None:
    once, worker = Once(recording, 60, 5), Worker(recording)
    recording.store._url = "postgresql+psycopg://a@127.0.0.1:1/x"
    recording.store.close()
    assert refused(once, worker) == 503


def test_the_next_start_logs_what_the_store_has_and_the_log_lacks(settings: Settings) -> None:
    recording = Recording(settings, Metrics())
    worker = Worker(recording)
    once = Once(recording, 60, 5)
    asked(once, worker)
    taken = once._take(_asked(b"lost"), worker, time.monotonic())
    assert isinstance(taken, Made)
    mark = settings.log_folder / KEYED
    assert mark.exists()
    recording.close()
    mark.touch()  # as if it had been killed before it could log the second decision
    assert len(log_lines(settings.log_folder)) == 1
    again = Recording(settings, Metrics())
    assert [
        b'"prediction_id":"%b"' % one.prediction_id.encode() in line
        for one, line in zip(worker.made, log_lines(settings.log_folder), strict=True)
    ] == [True, True]
    again.close()
    assert not mark.exists()
    assert len(stored(again.store)) == 2
    again.store.close()


def _asked(key: bytes):  # type: ignore[no-untyped-def]
    from serving.once import _asked

    return _asked(key, "/predict", b"{}")


def test_the_time_of_an_answer_is_now(recording: Recording) -> None:
    asked(Once(recording, 60, 5), Worker(recording))
    with reading(recording.store.engine) as connection:
        kept = connection.execute(select(answers.c.time)).scalar()
    assert kept
    assert abs((datetime.now(UTC) - kept).total_seconds()) < 60
