"""Turns scores into the answers that clients get."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from monitoring.prediction import Prediction
from monitoring.service_log import LOGGER
from serving.contract.ids import new_prediction_ids, now
from serving.contract.inputs import Warnings
from serving.contract.rows import Row
from serving.decision import Decision
from serving.errors import ServiceError, invalid

logger = logging.getLogger(LOGGER)

NOT_SIMULATED = ("prediction_id", "timestamp", "reasons")


def predictions(
    rows: Sequence[Row],
    pds: Sequence[float],
    warnings: Sequence[Warnings],
    *,
    decision: Decision,
    model_version: str,
    unknown: Sequence[float] | None = None,
) -> list[Prediction]:
    """The answers for scored rows, with the current time.

    Parameters
    ----------
    pds : calibrated PDs, in [0, 1].
    unknown : for each row, the share of the model's gain in unknown features, in [0, 1]. Without it, no row counts as thin.
    """
    timestamp, threshold = now(), decision.threshold
    answers = []
    shares = unknown or [0.0] * len(rows)
    for row, pd, found, share, prediction_id in zip(rows, pds, warnings, shares, new_prediction_ids(len(rows)), strict=True):
        declined = decision.declines(pd, share)
        answers.append(
            Prediction(
                prediction_id=prediction_id,
                client_id=row.client_id,
                prediction=1 if declined else 0,
                decision="DECLINE" if declined else "APPROVE",
                probability=pd,
                risk_level=decision.risk_level(pd),
                threshold=threshold,
                model_version=model_version,
                timestamp=timestamp,
                warnings=[*found, _thin(row, share)] if decision.is_thin(share) else found,
            )
        )
    return answers


def simulated(prediction: Prediction) -> dict[str, Any]:
    """A prediction that was not recorded: without id and time, so that nobody takes it for a decision."""
    return {name: value for name, value in msgspec.structs.asdict(prediction).items() if name not in NOT_SIMULATED}


def batch_answers(rows: Sequence[Row], scored: Iterable[Any]) -> tuple[list[Any], int]:
    """The answers for all rows of a batch, in order, and the number of errors among them.

    Parameters
    ----------
    scored : an answer or an exception for each row without errors, in order.
    """
    good, bad = iter(scored), 0
    answers: list[Any] = [invalid(row.errors) if row.errors else next(good) for row in rows]
    for index, answer in enumerate(answers):
        if isinstance(answer, Exception):
            answers[index] = row_error(index, rows[index], answer)
            bad += 1
    return answers, bad


def row_error(index: int, row: Row, error: Exception) -> dict[str, Any]:
    """The answer for a row of a batch that was not scored. The service's log gets the cause of a 500."""
    if isinstance(error, ServiceError):
        problem = error
    else:
        problem = ServiceError(500, "the row could not be scored")
        logger.error("a row could not be scored", extra={"row": index}, exc_info=error)
    return {"index": index, "client_id": row.client_id, "error": problem.to_dict()}


def _thin(row: Row, share: float) -> dict[str, str]:
    detail = f"features with {share:.0%} of the model's gain are missing, so the score is hardly better than the default rate"
    return {"code": "thin_application", "pointer": row.pointer, "detail": detail}
