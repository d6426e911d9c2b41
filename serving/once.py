"""Requests with an `Idempotency-Key`: each is worked on once, and sent again gets the same bytes.

The answer is kept in the store in the transaction that stores the decisions or outcomes (monitoring.store.answers), so it survives
whatever they survive, and services on one database agree. A decision log gets the decisions after that; see serving.recording.
"""

import asyncio
import contextvars
import hashlib
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection
from starlette.responses import Response

from monitoring.store.answers import Asked, Given, GivenError, RefusedError, find_answer, keep_answer, remove_answers
from monitoring.store.database import ANSWER_SECONDS, StoreError, reading, writing
from serving.errors import ServiceError
from serving.http.body import JSON
from serving.identity.principal import sender_name
from serving.recording import Recording

REPLAYED = {"Idempotent-Replayed": "true"}
VALID = re.compile(rb"[!#-\[\]-~]{1,200}")  # visible ASCII without quotation mark and backslash
THREADS = 2
CLEAN_SECONDS = 60.0  # between two removals of old answers
MOST_SECONDS = 3.0 * ANSWER_SECONDS  # for the store, after which the client hears that it may ask again


@dataclass(frozen=True, slots=True)
class Made:
    """What a request led to.

    Attributes
    ----------
    answer : its bytes.
    lines : the records of its decisions, which the store has.
    count : counts them.
    """

    answer: bytes
    lines: Sequence[bytes] = ()
    count: Callable[[], object] = lambda: None


Keep = Callable[[Connection, bytes, Sequence[str]], None]  # an answer and the ids of its decisions, in the transaction that stores them
Work = Callable[[Keep], Made]


class Once:
    """Answers requests with a key, in threads of its own. It holds in memory only the keys that are in work.

    Parameters
    ----------
    recording : the store, and the log that gets the decisions too.
    seconds : age at which an answer is forgotten.
    deadline : seconds that a request may wait for its turn.
    """

    def __init__(self, recording: Recording, seconds: float, deadline: float) -> None:
        self._recording, self._seconds, self._deadline = recording, seconds, deadline
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="once")
        self._in_work: set[str] = set()
        self._cleaned = 0.0

    async def answer(self, key: bytes, route: str, body: bytes, work: Work) -> Response:
        """The answer to a request with a key: the one that was given before, else that of `work`, which is called in a thread.

        An error is not kept, so the same key may be sent again with a corrected body.

        Raises
        ------
        ServiceError
            400: the key is not valid. 409: the key was used for another request, or its request is in work. 503: the store cannot be
            used now. 504: the request waited too long. And what `work` raises.
        """
        asked = _asked(key, route, body)
        if asked.key in self._in_work:
            raise ServiceError(409, "a request with this Idempotency-Key is in work; try again", retry_after=1)
        self._in_work.add(asked.key)
        task = asyncio.ensure_future(self._finish(asked, work))
        task.add_done_callback(lambda _: self._in_work.discard(asked.key))
        try:
            return await asyncio.wait_for(asyncio.shield(task), self._deadline + MOST_SECONDS)
        except TimeoutError:  # the thread may still keep the answer; the next request with the key gets it then
            task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            raise _unusable() from None

    def close(self) -> None:
        """Finish what is in work."""
        self._threads.shutdown()

    async def _finish(self, asked: Asked, work: Work) -> Response:
        """Have the request worked on, then record its decisions in the log too and count them, whether or not the client still waits."""
        turn = contextvars.copy_context().run  # the row notes the sender and the id of the request
        made = await asyncio.get_running_loop().run_in_executor(self._threads, turn, self._take, asked, work, time.monotonic())
        if isinstance(made, Given):
            return Response(made.answer, headers=REPLAYED, media_type=JSON)
        made.count()
        await self._recording.log_too(made.lines)
        return Response(made.answer, media_type=JSON)

    def _take(self, asked: Asked, work: Work, since: float) -> Made | Given:
        if time.monotonic() - since > self._deadline:
            raise ServiceError(504, f"the request was not worked on within {self._deadline:g} seconds")
        now = datetime.now(UTC)
        try:
            self._clean(now)
            with reading(self._recording.store.engine) as connection:
                given = find_answer(connection, asked.key, now - timedelta(seconds=self._seconds))
            return _same(asked, given) if given else work(self._keep(asked, now))
        except GivenError as error:
            return _same(asked, error.given)
        except StoreError:
            raise _unusable() from None
        except RefusedError:
            raise ServiceError(500, "the store refuses the decision") from None

    def _keep(self, asked: Asked, now: datetime) -> Keep:
        """A function that keeps the answer to a request, after a check that its decisions can be recorded."""
        if not self._recording.sink.ready:
            raise ServiceError(503, "decisions cannot be recorded now", retry_after=1)
        self._recording.mark_keys()

        def keep(connection: Connection, answer: bytes, ids: Sequence[str]) -> None:
            keep_answer(connection, asked, answer, now=now, seconds=self._seconds, log=self._recording.log, ids=ids)

        return keep

    def _clean(self, now: datetime) -> None:
        """Remove old answers, once in a while."""
        if time.monotonic() - self._cleaned > CLEAN_SECONDS:
            self._cleaned = time.monotonic()
            with writing(self._recording.store.engine, may_be_lost=True) as connection:
                remove_answers(connection, now - timedelta(seconds=self._seconds))


def _asked(key: bytes, route: str, body: bytes) -> Asked:
    """The hashes that stand for a request. The key may be quoted, as in the IETF draft, or not."""
    bare = key.strip()
    if len(bare) > 1 and bare[:1] == bare[-1:] == b'"':
        bare = bare[1:-1]
    if not VALID.fullmatch(bare):
        raise ServiceError(
            400, "the Idempotency-Key is not valid; expected 1 to 200 visible ASCII characters without quotation marks inside"
        )
    owner = hashlib.sha256(b"%b %b" % (sender_name().encode(), bare))
    return Asked(owner.hexdigest(), hashlib.sha256(b"%b %b" % (route.encode(), body)).hexdigest())


def _same(asked: Asked, given: Given) -> Given:
    """The answer, if it was given to the same request; else a ServiceError 409."""
    if given.request != asked.request:
        raise ServiceError(409, "this Idempotency-Key was used for another request; expected a new key, or the same route and body")
    return given


def _unusable() -> ServiceError:
    return ServiceError(503, "the store cannot be used now, which a request with an Idempotency-Key needs; try again", retry_after=1)
