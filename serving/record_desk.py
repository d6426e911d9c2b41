"""The routes that read what is on record: decisions, their outcomes, and their replay."""

import asyncio
import base64
import contextlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec
from sqlalchemy import Connection

from configs.errors import UserError
from monitoring.prediction import Prediction
from monitoring.store.database import Store, StoreError, reading
from monitoring.store.queries import Place, Wanted, find_decision, list_decisions
from serving.contract.ids import read_client_id
from serving.errors import Invalid, ServiceError
from serving.outcomes import IDENTIFIER
from serving.reasons.recorded import reasons_of
from serving.replay import replay

PAGE, MOST = 50, 200  # decisions of a page: by default, and at most
THREADS = 2
MOST_WAITING = 32  # requests
CHOICES: dict[str, tuple[str, ...]] = {name: get_args(get_type_hints(Prediction)[name]) for name in ("decision", "risk_level")}
PARAMETERS = ("client_id", *CHOICES, "model_version", "since", "until", "limit", "cursor")
Found = TypeVar("Found")


class RecordDesk:
    """Answers questions about the record of a model, in a few threads of its own.

    Parameters
    ----------
    store : where the record is.
    model_name : the model; decisions of other models in the store are not shown.
    language : of reasons, if a question names none.
    """

    def __init__(self, store: Store, model_name: str, language: str = "en") -> None:
        self._store, self._model_name, self._language = store, model_name, language
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="record")
        self._waiting = 0

    async def answer(self, route: str, path: Mapping[str, str], query: Sequence[tuple[str, str]]) -> object:
        """The content of the answer.

        Parameters
        ----------
        route : one of RECORD_ROUTES.
        path : its parameters.
        query : names and values of the query.

        Raises
        ------
        ServiceError
            404: there is no such decision. 409: its model cannot say, or gives another result. 422: a parameter is invalid.
            503: the store cannot be read now, or too many questions wait.
        """
        if self._waiting >= MOST_WAITING:
            raise ServiceError(503, "too many questions about the record are waiting; try again", retry_after=1)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._answer, route, path, query)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(cancel_futures=True)

    def _answer(self, route: str, path: Mapping[str, str], query: Sequence[tuple[str, str]]) -> object:
        if "prediction_id" in path:
            given = _once(query, ("language",) if route.endswith("/reasons") else ())
            found = self._find(path["prediction_id"])
            if route.endswith("/reasons"):
                return self._said_by_model(
                    lambda: reasons_of(found["line"].encode(), self._model_name, given.get("language"), self._language)
                )
            if route.endswith("/replay"):
                return self._said_by_model(lambda: {"result": replay(found["line"].encode(), self._model_name)})
            return _whole(found)
        given = _once([*query, *path.items()])
        limit = _limit(given.pop("limit", str(PAGE)))
        wanted = _wanted(self._model_name, given)
        rows = self._read(lambda connection: list_decisions(connection, wanted, limit + 1))
        return {
            "decisions": [_listed(row) for row in rows[:limit]],
            "next": _cursor(rows[limit - 1]) if len(rows) > limit else None,
        }

    def _find(self, prediction_id: str) -> dict[str, Any]:
        """A decision of this model; a ServiceError 404 if the store has none."""
        missing = ServiceError(404, f"the store has no decision {prediction_id}; a new decision reaches it within seconds")
        if not IDENTIFIER.fullmatch(prediction_id):
            raise missing
        found = self._read(lambda connection: find_decision(connection, prediction_id.lower()))
        if found is None or found["model_name"] not in (None, self._model_name):
            raise missing
        return found

    def _read(self, query: Callable[[Connection], Found]) -> Found:
        """What a query finds; a ServiceError 503 if the store cannot be read now."""
        try:
            with reading(self._store.engine) as connection:
                return query(connection)
        except StoreError as error:
            raise ServiceError(503, str(error), retry_after=1) from None

    @staticmethod
    def _said_by_model(answer: Callable[[], object]) -> object:
        """What the model of a decision says; a ServiceError 409 if it cannot."""
        try:
            return answer()
        except UserError as error:
            raise ServiceError(409, str(error)) from None


def _once(given: Sequence[tuple[str, str]], known: Sequence[str] = PARAMETERS) -> dict[str, str]:
    """The parameters of a query; each may be given once."""
    values: dict[str, str] = {}
    for name, value in given:
        if name not in known:
            raise ServiceError(422, f"there is no parameter {name}; expected {', '.join(known) or 'none'}")
        if name in values:
            raise ServiceError(422, f"the parameter {name} is given twice")
        values[name] = value
    return values


def _limit(value: str) -> int:
    if not (value.isascii() and value.isdigit() and 1 <= int(value[:9]) <= MOST):
        raise ServiceError(422, f"limit is {value[:50]!r}; expected a whole number from 1 to {MOST}")
    return int(value)


def _wanted(model_name: str, given: Mapping[str, str]) -> Wanted:
    for name, choices in CHOICES.items():
        if name in given and given[name] not in choices:
            raise ServiceError(422, f"{name} is {given[name][:50]!r}; expected {' or '.join(choices)}")
    errors: list[Invalid] = []
    read_client_id(given.get("client_id"), "", errors)
    if errors:
        raise ServiceError(422, f"client_id: {errors[0].detail}")
    times = {name: _time(name, given[name]) for name in ("since", "until") if name in given}
    texts = {name: given[name] for name in ("client_id", *CHOICES, "model_version") if name in given}
    after = _place(given["cursor"]) if "cursor" in given else None
    return Wanted(model_name, **texts, **times, after=after)  # type: ignore[arg-type]


def _time(name: str, value: str) -> datetime:
    with contextlib.suppress(ValueError):
        time = datetime.fromisoformat(value.replace(" ", "+"))  # a plus that was not encoded in the URL
        if time.tzinfo is not None:
            return time
    raise ServiceError(422, f"{name} is {value[:50]!r}; expected a time with its zone such as 2026-01-31T12:00:00Z")


def _cursor(row: Mapping[str, Any]) -> str:
    """The cursor of the page that begins after a decision."""
    place = Place(row["time"], str(row["prediction_id"]))
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def _place(cursor: str) -> Place:
    with contextlib.suppress(ValueError, msgspec.MsgspecError):
        place = msgspec.json.decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=Place)
        if place.time.tzinfo is not None and IDENTIFIER.fullmatch(place.prediction_id):
            return place
    raise ServiceError(422, "cursor is not valid; expected the `next` of an answer")


def _listed(row: Mapping[str, Any]) -> dict[str, Any]:
    """A decision of the list, with its current outcome or null."""
    content = {name: value for name, value in row.items() if name not in ("defaulted", "observed_at")}
    known = row["defaulted"] is not None
    return {**content, "outcome": {"defaulted": bool(row["defaulted"]), "observed_at": row["observed_at"]} if known else None}


def _whole(found: dict[str, Any]) -> dict[str, Any]:
    """A decision with its record, as it was written, and all its outcomes."""
    outcomes = [{name: value for name, value in row.items() if name not in ("id", "prediction_id")} for row in found["outcomes"]]
    columns = {name: value for name, value in found.items() if name not in ("line", "outcomes")}
    return {**columns, "outcomes": outcomes, "record": msgspec.Raw(found["line"].encode())}
