"""The answers of the POST routes: parse, score, record, encode."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from monitoring.metrics import Metrics
from monitoring.store.answers import keep_decisions
from monitoring.store.database import writing
from serving.contract.prediction import batch_answers, simulated
from serving.contract.requests import RequestParser
from serving.contract.rows import Row
from serving.http.exchange import IDEMPOTENCY_KEY, client_gone
from serving.http.routes import json_response, one_response
from serving.once import Keep, Made, Once
from serving.pipeline import Pipeline, Scoring
from serving.reasons.desk import Desk
from serving.recording import Recording
from serving.runner import Runner, Turns

Queue = Runner[Row, Scoring, Any] | Desk[Row, Scoring, Any]
Encode = Callable[[Sequence[Any]], tuple[object, int]]  # the content of an answer, of the answers of its rows, and the errors in it


class Answering:
    """Answers the POST routes.

    Parameters
    ----------
    runner, desk : score rows; the desk those that ask for an explanation.
    explain : scores and explains rows.
    once : answers requests with an idempotency key.
    """

    def __init__(
        self,
        parser: RequestParser,
        pipeline: Pipeline,
        recording: Recording,
        metrics: Metrics,
        *,
        runner: Runner[Row, Scoring, Any],
        desk: Desk[Row, Scoring, Any],
        explain: Callable[[list[Row]], Scoring],
        once: Once,
    ) -> None:
        self._parser, self._pipeline, self._recording, self._metrics = parser, pipeline, recording, metrics
        self._runner, self._desk, self._explain, self._once = runner, desk, explain, once
        self._turns = Turns()

    async def predict(self, body: bytes) -> Response:
        """The answer of `/predict`."""
        return await self._one("/predict", body, self._parser.parse_one)

    async def explain(self, body: bytes) -> Response:
        """The answer of `/explain`."""
        return await self._one("/explain", body, self._parser.parse_explain)

    async def predict_batch(self, body: bytes) -> Response:
        """The answer of `/predict/batch`."""
        if key := IDEMPOTENCY_KEY.get():

            def work(keep: Keep) -> Made:
                rows = [row for row in self._parser.parse_batch(body) if row is not None]
                return self._decide(rows, lambda scored: _batch(rows, scored), keep)

            return await self._once.answer(key, "/predict/batch", body, work)
        rows = await self._turns.all(self._parser.parse_batch(body))
        good = [row for row in rows if not row.errors]
        content, bad = _batch(rows, await self._queue(good).run(good, client_gone()))
        self._metrics.row_errors(bad)
        return json_response(content)

    async def outcomes(self, body: bytes) -> Response:
        """The answer of `/outcomes`."""
        desk = self._recording.desk
        if key := IDEMPOTENCY_KEY.get():

            def work(keep: Keep) -> Made:
                result = desk.keep(body, lambda connection, answer: keep(connection, msgspec.json.encode(answer), ()))
                return Made(msgspec.json.encode(result), count=lambda: desk.count(result))

            return await self._once.answer(key, "/outcomes", body, work)
        return json_response(await desk.take(body))

    async def simulate(self, body: bytes) -> Response:
        """The answer of `/simulate`."""
        return json_response(simulated(*self._pipeline.score([self._parser.parse_one(body)]).predictions))

    async def _one(self, route: str, body: bytes, parse: Callable[[bytes], Row]) -> Response:
        if key := IDEMPOTENCY_KEY.get():
            return await self._once.answer(key, route, body, lambda keep: self._decide([parse(body)], _single, keep))
        row = parse(body)
        return one_response(*await self._queue([row]).run([row], client_gone()))

    def _queue(self, rows: Sequence[Row]) -> Queue:
        return self._desk if rows and rows[0].asked else self._runner

    def _decide(self, rows: list[Row], encode: Encode, keep: Keep) -> Made:
        """Score rows and store the decisions together with their answer."""
        good = [row for row in rows if not row.errors]
        scoring = (self._explain if good and good[0].asked else self._pipeline.score)(good) if good else None
        content, bad = encode(scoring.answers if scoring else ())
        answer = msgspec.json.encode(content)
        lines = self._pipeline.records(scoring) if scoring and self._recording.keeps else []
        ids = [prediction.prediction_id for prediction in scoring.predictions] if scoring and lines else []
        with writing(self._recording.store.engine) as connection:
            keep(connection, answer, ids)
            keep_decisions(connection, lines)

        def count() -> None:
            self._metrics.row_errors(bad)
            if scoring:
                self._pipeline.count(scoring)

        return Made(answer, lines, count)


def _single(answers: Sequence[Any]) -> tuple[object, int]:
    return answers[0], 0


def _batch(rows: Sequence[Row], scored: Sequence[Any]) -> tuple[object, int]:
    answers, bad = batch_answers(rows, scored)
    return {"predictions": answers, "count": len(answers)}, bad
