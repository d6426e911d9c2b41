"""From scores to the answers that clients get."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from monitoring.prediction import Prediction
from monitoring.service_log import LOGGER
from serving.contract.ids import new_prediction_ids, now
from serving.contract.inputs import Warnings
from serving.contract.rows import Row
from serving.decision import Decision
from serving.errors import ServiceError, invalid

logger = logging.getLogger(LOGGER)


def predictions(
    rows: Sequence[Row],
    pds: Sequence[float],
    warnings: Sequence[Warnings],
    *,
    decision: Decision,
    model_version: str,
    unknown: Sequence[float] | None = None,
) -> list[Prediction]:
    """The answers for rows that were scored, with the present time.

    Parameters
    ----------
    unknown : of each row the share of the model's gain in features that are not known, in [0, 1]; without it no row is thin.
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


def batch_answers(rows: Sequence[Row], scored: Iterable[Any]) -> tuple[list[Any], int]:
    """The answer of each row of a batch, in order, and how many of them are errors.

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
    """The answer for one row of a batch that was not scored; the cause of a 500 goes to the service's log."""
    if isinstance(error, ServiceError):
        problem = error
    else:
        problem = ServiceError(500, "the row could not be scored")
        logger.error("a row could not be scored", extra={"row": index}, exc_info=error)
    return {"index": index, "client_id": row.client_id, "error": problem.to_dict()}


def _thin(row: Row, share: float) -> dict[str, str]:
    detail = f"features with {share:.0%} of the model's gain are not known; the score says little"
    return {"code": "thin_application", "pointer": row.pointer, "detail": detail}
