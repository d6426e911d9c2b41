"""The desk for outcomes: keeps those of requests in the store while the service runs."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from monitoring.metrics import Metrics
from monitoring.service_log import LOGGER
from monitoring.store.database import ANSWER_SECONDS, Store, StoreError, writing
from monitoring.store.queries import Outcome, add_outcomes, newest_outcome
from monitoring.store.shipper import Shipper
from serving.errors import ServiceError
from serving.outcomes import answer, parse_outcomes

log = logging.getLogger(LOGGER)

CATCH_UP_SECONDS = 5.0
MOST_SECONDS = CATCH_UP_SECONDS + 2 * ANSWER_SECONDS  # a stopped server, or one whose disk hangs, never ends a statement


class OutcomeDesk:
    """Takes outcomes while the service runs.

    Parameters
    ----------
    store : where they are kept.
    shipper : copies the decision log into the store. It catches up before outcomes are stored, since a decision may be in the log only.
        None where decisions are committed to the store.
    metrics : where they are counted.
    model_name : an outcome that names a client belongs to a decision of this model.
    """

    def __init__(self, store: Store, shipper: Shipper | None, metrics: Metrics, model_name: str) -> None:
        self._store = store
        self._shipper = shipper
        self._metrics = metrics
        self._model_name = model_name
        self._newest = 0  # outcome that this service committed

    async def take(self, body: bytes) -> dict[str, Any]:
        """Keep the outcomes of a `POST /outcomes` and answer it.

        A thread parses and keeps them, because many take longer than a score may wait.

        Raises
        ------
        ServiceError
            As parse_outcomes; 503 if the store cannot be used, or is behind the log.
        """
        try:
            result = await asyncio.wait_for(asyncio.to_thread(self.keep, body), MOST_SECONDS)
        except TimeoutError:  # the thread may still keep them; if they are sent again, they count as `repeated`
            raise _unusable() from None
        self.count(result)
        return result

    def count(self, result: dict[str, Any]) -> None:
        """Count the outcomes of an answer."""
        self._metrics.store.outcomes(result["counts"])

    def keep(self, body: bytes, also: Callable[[Connection, dict[str, Any]], None] = lambda connection, answered: None) -> dict[str, Any]:
        """Keep the outcomes of a `POST /outcomes`; returns the answer. It may take seconds.

        Parameters
        ----------
        also : called with the answer in the transaction that stores the outcomes, if there is one.

        Raises
        ------
        ServiceError
            As `take`.
        """
        given = parse_outcomes(body, datetime.now(UTC))
        good = [one for one in given if isinstance(one, Outcome)]
        if not good:
            return answer(given, [])
        if self._shipper and not self._shipper.catch_up(CATCH_UP_SECONDS):
            raise ServiceError(503, "the store is behind the decision log; try again", retry_after=5)
        try:
            with writing(self._store.engine) as connection:
                before = newest_outcome(connection)
                kept = add_outcomes(connection, good, "api", datetime.now(UTC), self._model_name)
                newest = newest_outcome(connection)
                result = answer(given, kept)
                also(connection, result)
        except StoreError as error:
            log.error("outcomes cannot be kept: %s", error)
            raise _unusable() from None
        if before < self._newest:
            self._store.note_older(f"outcome {self._newest}")
        self._newest = newest
        return result


def _unusable() -> ServiceError:
    return ServiceError(503, "the store cannot be used now; try again", retry_after=5)
