"""A decision from row to record: `score` computes and changes nothing, `commit` puts it on record, once."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from features.history import Matrix
from monitoring.prediction import Prediction
from monitoring.service_log import LOGGER
from serving.bundle import Bundle
from serving.contract.documents import encode
from serving.contract.inputs import InputReader
from serving.contract.prediction import predictions
from serving.contract.record import RecordWriter
from serving.contract.rows import Row
from serving.runner import Committed
from serving.scorer import Scorer, Values

logger = logging.getLogger(LOGGER)
Record = Callable[[Callable[[], Sequence[bytes]]], "asyncio.Future[None] | None"]


@dataclass(frozen=True, slots=True, eq=False)
class Scoring:
    """Rows with all that was computed from them, in one order.

    Attributes
    ----------
    matrix : shape (rows, features), what was scored.
    pds : shape (rows,), calibrated PDs.
    answers : the predictions as JSON, encoded once for the client and for the record.
    sent : of each row the JSON of its features as the client wrote them, None where it differs from what was scored.
    """

    rows: Sequence[Row]
    matrix: Matrix
    pds: Values
    predictions: list[Prediction]
    answers: list[msgspec.Raw]
    sent: list[msgspec.Raw | None]


def unrecorded(records: Callable[[], Sequence[bytes]]) -> None:
    """Keep nothing."""


class Pipeline:
    """Scores rows by one model, and puts the decisions on record.

    Parameters
    ----------
    threads : of the scorer; see serving.scorer.Scorer.
    raw_fields : names of the fields that the record keeps as they were sent.
    record : takes a function that makes the records of a batch; gives a future for when they are kept, None where they are already.
    count : called with what was committed.

    Raises
    ------
    ValueError
        The schema has no such raw field, or the model was trained on other features than the bundle lists.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        threads: int = 1,
        raw_fields: Sequence[str] = (),
        record: Record = unrecorded,
        count: Callable[[Scoring], object] = lambda scoring: None,
    ) -> None:
        self._decision, self._version = bundle.decision, bundle.version
        self._inputs = InputReader(bundle.features)
        self._scorer = Scorer(bundle, threads)
        self._writer = RecordWriter(bundle.features.table, raw_fields)
        self._record, self._count = record, count

    def score(self, rows: Sequence[Row]) -> Scoring:
        """Score rows without errors."""
        matrix, warnings, sent = self._inputs.read(rows)
        pds = self._scorer.pd(matrix)
        unknown = self._scorer.unknown(matrix).tolist()
        made = predictions(rows, pds.tolist(), warnings, decision=self._decision, model_version=self._version, unknown=unknown)
        return Scoring(rows, matrix, pds, made, [msgspec.Raw(encode(prediction)) for prediction in made], sent)

    def commit(self, scoring: Scoring) -> Committed[msgspec.Raw]:
        """Put decisions on record and count them; their answers may leave when the record is kept.

        Raises
        ------
        ServiceError
            503: they cannot be recorded, so they must not be answered.
        """
        recorded = self._record(partial(self._writer.write, scoring.rows, scoring.answers, scoring.matrix, scoring.sent))
        try:
            self._count(scoring)
        except Exception:  # they are on record: an error here must not take the answers away
            logger.exception("decisions were made and recorded, but not counted")
        return Committed(scoring.answers, recorded)
