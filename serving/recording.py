"""Assembles the parts that record decisions and outcomes, by the settings."""

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from configs.settings import Settings
from monitoring.decision_log.layout import log_id, sync_folder
from monitoring.decision_log.reader import newest_ids, sync_to_end
from monitoring.decision_log.record import scored
from monitoring.decision_log.sink import LogError, NoLog, Sink
from monitoring.decision_log.writer import DecisionLog
from monitoring.drift.psi import Matrix
from monitoring.metrics import Metrics
from monitoring.private_files import open_private
from monitoring.service_log import LOGGER
from monitoring.store.answers import ids_of, lines_of
from monitoring.store.database import Store, StoreError, reading
from monitoring.store.queries import newest_lines
from monitoring.store.shipper import Shipper
from monitoring.store.store_sink import StoreSink
from serving.errors import ServiceError
from serving.outcome_desk import OutcomeDesk
from serving.record_desk import RecordDesk

STOP_SECONDS = 5.0
KEYED = "predictions.keyed"  # beside the log; its presence says that the store may have decisions that the log lacks
LATE_SECONDS = 60.0  # by which the clock of a decision in the store may lag behind that of the last one in the log

logger = logging.getLogger(LOGGER)


class Status(NamedTuple):
    """The status that `GET /health` reports: a word of a closed list, and a sentence if something is wrong."""

    status: Literal["ok", "no_record", "no_store"]
    detail: str | None = None


OK = Status("ok")


class Recording:
    """The sink for decisions, the store, the shipper between them, and the desks for outcomes and for questions.

    Raises
    ------
    LogError
        The decision log cannot be opened.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        durability = settings.log.durability
        self.store = Store(settings.store_url, metrics.store.went_back)
        self.shipper: Shipper | None = None
        self._mark: Path | None = None
        self._marked = False
        self._owed: list[bytes] = []
        self.sink: Sink
        synced: Callable[[], tuple[int, int]] = partial(sync_to_end, settings.log_folder)
        if durability == "database":
            self.sink = StoreSink(self.store)
        elif durability == "off":
            self.sink = NoLog()
        else:
            self._mark = settings.log_folder / KEYED
            log = DecisionLog(settings.log_folder, durability=durability, max_bytes=settings.log.max_bytes, unlogged=self._unlogged)
            self.sink, synced = log, lambda: log.synced
        if log_id(settings.log_folder):  # also ships a log that an earlier durability setting left behind
            self.shipper = Shipper(settings.log_folder, self.store, settings.log.retention_days, metrics, synced)
            self.shipper.start()
        self.log = log_id(settings.log_folder) if self._mark else None
        self.desk = OutcomeDesk(self.store, self.shipper, metrics, settings.model.name)
        self.reader = RecordDesk(self.store, settings.model.name, settings.reasons.language)
        metrics.recording(lambda: self.sink.ready)
        metrics.store.ready(lambda: not self.store.fault)

    @property
    def ready(self) -> bool:
        """Whether decisions and outcomes can be recorded now."""
        return self.status == OK

    @property
    def status(self) -> Status:
        """`ok`, or what cannot be recorded now."""
        if not self.sink.ready:
            return Status("no_record", "decisions cannot be recorded, so requests get a 503 until they can")
        return Status("no_store", "the store cannot be used, so outcomes get a 503 until it can") if self.store.fault else OK

    def record(self, records: Callable[[], Sequence[bytes]]) -> "asyncio.Future[None] | None":
        """Record the decisions of a batch. `records` builds them, and is not called if the sink keeps nothing.

        Returns a future that is done when they are kept, or None if they are kept already; see monitoring.decision_log.sink.Sink.

        Raises
        ------
        ServiceError
            503: the decisions cannot be recorded, so they must not be sent.
        """
        try:
            return None if isinstance(self.sink, NoLog) else self.sink.append(records())
        except LogError as error:
            raise ServiceError(503, str(error), retry_after=1) from None

    @property
    def keeps(self) -> bool:
        """Whether decisions are recorded at all."""
        return not isinstance(self.sink, NoLog)

    def mark_keys(self) -> None:
        """Note that the store may get decisions before the log, which the next start looks for if this process does not end by `close`."""
        if self._mark and not self._marked:
            os.close(open_private(self._mark, os.O_WRONLY | os.O_CREAT))
            sync_folder(self._mark.parent)
            self._marked = True

    async def log_too(self, records: Sequence[bytes]) -> None:
        """Append decisions that the store has to the log, if there is one, or as soon as it can be written."""
        if self._mark and (records or self._owed):
            self._owed += records
            try:
                recorded = self.sink.append(self._owed)
                self._owed = []
                if recorded is not None:
                    await recorded
            except LogError as error:
                logger.error("decisions that the store has are not in the decision log yet: %s", error)

    def _unlogged(self) -> Sequence[bytes]:
        """The decisions under idempotency keys that the last process stored and had no time to log."""
        if self._mark is None or not self._mark.exists():
            return ()
        ids, since = newest_ids(self._mark.parent, LATE_SECONDS)
        try:
            with reading(self.store.engine) as connection:
                log = log_id(self._mark.parent) or ""
                missing = [one for one in ids_of(connection, log, since or datetime.fromtimestamp(0, UTC)) if one not in ids]
                lines = lines_of(connection, missing)
        except StoreError as error:
            logger.warning("the store cannot say which decisions the last process did not log: %s", error)
            return ()
        if lines:
            logger.warning(
                "%d decisions that the store has were added to the decision log; the last process ended before it could", len(lines)
            )
        return lines

    def scored_before(self, time: datetime, model_version: str, rows: int) -> Matrix:
        """The newest decisions of a model version before a time, at most `rows`, oldest first. Live drift starts from them.

        The shape is (decisions, features + 1) with the PD in the last column, or (0, 0) if the service keeps no decisions.

        Raises
        ------
        StoreError
            The store cannot be read now.
        """
        if isinstance(self.sink, NoLog):
            return np.empty((0, 0))
        with reading(self.store.engine) as connection:
            return np.array([scored(line) for line in newest_lines(connection, model_version, rows, time)], dtype=np.float64)

    def close(self) -> None:
        """Close the log, ship its last lines for at most STOP_SECONDS, close the store."""
        self.sink.close()
        if self._mark and not self._owed:
            self._mark.unlink(missing_ok=True)
        if self.shipper:
            self.shipper.stop(STOP_SECONDS)
        self.reader.close()
        self.store.close()
