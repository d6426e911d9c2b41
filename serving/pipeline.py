"""The way of a decision from row to record: `score` computes it without side effects, `commit` records it once."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from features.history import Mask, Matrix
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
RecordBatch = Callable[[Callable[[], Sequence[bytes]]], "asyncio.Future[None] | None"]


@dataclass(frozen=True, slots=True, eq=False)
class Scoring:
    """Rows and everything computed from them, in the same order.

    Attributes
    ----------
    matrix : shape (rows, features), the scored values, NaN where not known.
    pds : shape (rows,), calibrated PDs, in [0, 1].
    answers : the predictions as JSON, encoded once for both the client and the record.
    sent : for each row, the JSON of its features as the client wrote them; None if it differs from the matrix.
    missed : shape (rows, fields), where a typical value took the place of an absent field; None if nowhere.
    """

    rows: Sequence[Row]
    matrix: Matrix
    pds: Values
    predictions: list[Prediction]
    answers: list[msgspec.Raw]
    sent: list[msgspec.Raw | None]
    missed: Mask | None = None


def unrecorded(records: Callable[[], Sequence[bytes]]) -> None:
    """Record nothing."""


class Pipeline:
    """Scores rows with one model, and records the decisions.

    Parameters
    ----------
    threads : number of scoring threads; see serving.scorer.Scorer.
    raw_fields : names of the fields whose values as sent are recorded too.
    model_name : name of the model in its store, for the record.
    record : takes a function that builds the records of a batch; returns a future that is done when they are kept, or None if they
        are kept already.
    count : called with each scoring that was committed.

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
        model_name: str | None = None,
        record: RecordBatch = unrecorded,
        count: Callable[[Scoring], object] = lambda scoring: None,
    ) -> None:
        self._decision, self._version = bundle.decision, bundle.version
        self._inputs = InputReader(bundle.features)
        self._scorer = Scorer(bundle, threads)
        self._writer = RecordWriter(bundle.features.table, raw_fields, model_name)
        self._record, self._count = record, count

    def pds(self, rows: Sequence[Row]) -> Values:
        """The PDs alone, shape (rows,), of rows, none of which may have errors."""
        return self._scorer.pd(self._inputs.read(rows).matrix)

    def score(self, rows: Sequence[Row]) -> Scoring:
        """Score rows, none of which may have errors."""
        matrix, warnings, sent, missed = self._inputs.read(rows)
        pds = self._scorer.pd(matrix)
        unknown = self._scorer.unknown(matrix).tolist()
        made = predictions(rows, pds.tolist(), warnings, decision=self._decision, model_version=self._version, unknown=unknown)
        return Scoring(rows, matrix, pds, made, [msgspec.Raw(encode(prediction)) for prediction in made], sent, missed)

    def commit(self, scoring: Scoring) -> Committed[msgspec.Raw]:
        """Record decisions and count them. Their answers may be sent once the record is kept.

        Raises
        ------
        ServiceError
            503: the decisions cannot be recorded, so they must not be sent.
        """
        recorded = self._record(partial(self.records, scoring))
        self.count(scoring)
        return Committed(scoring.answers, recorded)

    def records(self, scoring: Scoring) -> list[bytes]:
        """The record of each decision, with the time that it took until now."""
        return self._writer.write(scoring.rows, scoring.answers, scoring.matrix, scoring.sent)

    def count(self, scoring: Scoring) -> None:
        """Count decisions that are on record."""
        try:
            self._count(scoring)
        except Exception:  # the decisions are recorded, so an error here must not withhold the answers
            logger.exception("decisions were recorded but not counted in drift and metrics")
