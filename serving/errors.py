"""The errors a caller can see: problem details after RFC 9457."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec

PROBLEM_TYPE = "application/problem+json"
MOST_ERRORS = 100  # of one object, an applicant with its history above all; after so many the rest of it is not looked at
MOST_OF_CALL = (
    1000  # of the rows of a call; after so many, of each row only the first: a thousand rows of a hundred held up all others for a second
)


@dataclass(frozen=True)
class Invalid:
    """One bad value: the JSON pointer (RFC 6901) to it, and what was expected."""

    pointer: str
    detail: str


def most_errors(told: int) -> int:
    """How many bad values of the next object are named in a call that has named so many of others."""
    return MOST_ERRORS if told < MOST_OF_CALL else 1


class Errors(list[Invalid]):
    """The bad values of one object; whoever adds to them stops once they are full."""

    def __init__(self, most: int = MOST_ERRORS) -> None:
        super().__init__()
        self._most = most

    @property
    def room(self) -> int:
        """How many more are named."""
        return max(0, self._most - len(self))


class ServiceError(Exception):
    """An answer other than 200: a status, a sentence, the bad values, the seconds after which to try again."""

    def __init__(self, status: int, detail: str, errors: list[Invalid] | None = None, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.status = HTTPStatus(status)
        self.detail = detail
        self.errors = errors or []
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """The headers that go with the answer."""
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
    """The 422 for these bad values."""
    first = errors[0]
    rest = f", and {len(errors) - 1} more" if len(errors) > 1 else ""
    return ServiceError(422, f"{first.pointer or 'the body'}: {first.detail}{rest}", errors)
