"""Prediction ids, client ids and the time of an answer."""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from monitoring.prediction import MAX_CLIENT_ID
from serving.contract.fields import encodable, kind
from serving.errors import Invalid

_VARIANT = {f"{digit:x}": f"{8 | digit & 3:x}" for digit in range(16)}  # two random bits below the two that mark the layout of a UUID


def now() -> str:
    """The present time, UTC, in ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def new_prediction_ids(count: int, clock: Callable[[], int] = time.time_ns) -> list[str]:
    """UUIDs of version 7 (RFC 9562, section 5.7). They are ordered by time, so an index on them stays compact.

    Parameters
    ----------
    clock : returns nanoseconds since 1970; the ids hold milliseconds.
    """
    stamp = f"{clock() // 1_000_000:012x}"
    head, noise = f"{stamp[:8]}-{stamp[8:]}-7", os.urandom(10 * count).hex()
    digits = (noise[start : start + 20] for start in range(0, 20 * count, 20))
    return [f"{head}{random[:3]}-{_VARIANT[random[3]]}{random[4:7]}-{random[7:19]}" for random in digits]


def read_client_id(value: Any, pointer: str, errors: list[Invalid]) -> str | None:
    """A client's id, or None if it is absent or invalid; appends to `errors`. U+0000 is refused because PostgreSQL cannot store it."""
    if value is None or (isinstance(value, str) and 0 < len(value) <= MAX_CLIENT_ID and encodable(value) and "\0" not in value):
        return value
    errors.append(Invalid(pointer, f"expected text of 1 to {MAX_CLIENT_ID} characters without U+0000, or null, got {kind(value)}"))
    return None
