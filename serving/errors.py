"""The errors that a client sees: problem details (RFC 9457)."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec

PROBLEM_TYPE = "application/problem+json"
SPLIT = "send fewer applicants or outcomes in a call, and of a single applicant fewer rows of history"  # what to do about a large body
MOST_ERRORS = 100  # stop validating an object, such as an applicant with its history, after this many errors
MOST_OF_CALL = 1000  # after this many errors in a call, report only the first of each row: 1,000 rows with 100 each took a second


@dataclass(frozen=True)
class Invalid:
    """An invalid value: the JSON pointer (RFC 6901) to it, and what was expected."""

    pointer: str
    detail: str


def most_errors(reported: int) -> int:
    """The most errors to report for the next object of a call that has `reported` this many so far."""
    return MOST_ERRORS if reported < MOST_OF_CALL else 1


class Errors(list[Invalid]):
    """The invalid values of one object. Stop adding to it when `room` is 0."""

    def __init__(self, most: int = MOST_ERRORS) -> None:
        super().__init__()
        self._most = most

    @property
    def room(self) -> int:
        """How many more errors it takes."""
        return max(0, self._most - len(self))


class ServiceError(Exception):
    """An answer other than 200.

    Parameters
    ----------
    status : HTTP status.
    detail : one sentence for the client.
    errors : the invalid values.
    retry_after : seconds after which the client may try again.
    """

    def __init__(self, status: int, detail: str, errors: list[Invalid] | None = None, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.status = HTTPStatus(status)
        self.detail = detail
        self.errors = errors or []
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer that the error determines."""
        if self.status == HTTPStatus.UNAUTHORIZED:
            return {"WWW-Authenticate": "Bearer"}
        return {"Retry-After": str(self.retry_after)} if self.retry_after is not None else {}

    def to_dict(self) -> dict[str, Any]:
        """The members of the problem details object."""
        problem: dict[str, Any] = {"type": "about:blank", "title": self.status.phrase, "status": self.status.value}
        problem["detail"] = self.detail
        if self.errors:
            problem["errors"] = [{"pointer": error.pointer, "detail": error.detail} for error in self.errors]
        return problem

    def to_bytes(self, request_id: str | None) -> bytes:
        """The response body."""
        return msgspec.json.encode({**self.to_dict(), **({"request_id": request_id} if request_id else {})})


def invalid(errors: list[Invalid]) -> ServiceError:
    """The 422 for these invalid values, at least one."""
    first = errors[0]
    rest = f", and {len(errors) - 1} more" if len(errors) > 1 else ""
    return ServiceError(422, f"{first.pointer or 'the body'}: {first.detail}{rest}", errors)
