"""Scoring changes nothing; what is scored is put on record once."""

import asyncio
import json
import logging
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from monitoring.service_log import LOGGER
from serving.bundle import Bundle
from serving.contract.requests import RequestParser
from serving.contract.rows import Row
from serving.errors import ServiceError
from serving.pipeline import Pipeline, Scoring


@pytest.fixture
def rows(bundle: Bundle) -> list[Row]:
    """An example, a vector of which nothing is known, an application of which nothing is known."""
    parser = RequestParser(bundle.features, 5)
    vector = json.dumps({"features": [None] * len(bundle.features.names), "client_id": "v"}).encode()
    return [parser.parse_example(), parser.parse_one(vector), parser.parse_one(b'{"application": {}}')]


def test_scoring_again_gives_the_same_and_records_nothing(bundle: Bundle, rows: list[Row]) -> None:
    written: list[bytes] = []
    counted: list[Scoring] = []
    pipeline = Pipeline(bundle, record=lambda make: written.extend(make()), count=counted.append)
    first, again = pipeline.score(rows), pipeline.score(rows)
    assert not written
    assert not counted
    assert first.matrix.tobytes() == again.matrix.tobytes()
    assert first.pds.tobytes() == again.pds.tobytes()
    assert [prediction.warnings for prediction in first.predictions] == [prediction.warnings for prediction in again.predictions]
    assert pipeline.commit(first).results == first.answers
    assert counted == [first]
    assert [json.loads(line)["prediction_id"] for line in written] == [prediction.prediction_id for prediction in first.predictions]


def test_a_row_has_the_same_bits_alone_and_in_a_batch(bundle: Bundle, rows: list[Row]) -> None:
    pipeline = Pipeline(bundle)
    together = pipeline.score(rows)
    alone = [pipeline.score([row]) for row in rows]
    assert np.concatenate([one.pds for one in alone]).tobytes() == together.pds.tobytes()
    assert np.concatenate([one.matrix for one in alone]).tobytes() == together.matrix.tobytes()
    assert [one.predictions[0].warnings for one in alone] == [prediction.warnings for prediction in together.predictions]


def test_no_rows_give_no_answers(bundle: Bundle) -> None:
    pipeline = Pipeline(bundle)
    scoring = pipeline.score([])
    assert (scoring.answers, scoring.predictions, scoring.matrix.shape) == ([], [], (0, len(bundle.features.names)))
    assert pipeline.commit(scoring).results == []


def test_decisions_that_cannot_be_recorded_are_not_counted(bundle: Bundle, rows: list[Row]) -> None:
    def refuse(make: Callable[[], Sequence[bytes]]) -> None:
        raise ServiceError(503, "the disk is full")

    counted: list[Scoring] = []
    pipeline = Pipeline(bundle, record=refuse, count=counted.append)
    with pytest.raises(ServiceError, match="the disk is full"):
        pipeline.commit(pipeline.score(rows))
    assert not counted


def test_an_error_after_the_record_takes_no_answer_away(bundle: Bundle, rows: list[Row], caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        future = asyncio.get_running_loop().create_future()

        def fail(scoring: Scoring) -> None:
            raise ArithmeticError("no such bucket")

        pipeline = Pipeline(bundle, record=lambda make: future, count=fail)
        scoring = pipeline.score(rows)
        committed = pipeline.commit(scoring)
        assert (committed.results, committed.recorded, committed.error) == (scoring.answers, future, None)

    with caplog.at_level(logging.ERROR, LOGGER):
        asyncio.run(scenario())
    assert [record.message for record in caplog.records] == ["decisions were recorded but not counted in drift and metrics"]
