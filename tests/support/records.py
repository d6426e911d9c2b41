"""Records of decisions, and logs to write them to."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from sqlalchemy import select

from monitoring.decision_log.record import Record, feature_json
from monitoring.decision_log.writer import DecisionLog
from monitoring.store.database import Store, reading
from monitoring.store.tables import decisions
from serving.contract.ids import new_prediction_ids

TIME = datetime(2026, 1, 1, tzinfo=UTC)


class Made(bytes):
    """The JSON of a record, with the ids that tests look up."""

    prediction_id: str
    client_id: str


def make_records(count: int, **given: Any) -> list[Made]:
    """Records of decisions one second apart, of clients c0, c1, …; `given` overrides members of all of them."""
    records = []
    for row in range(count):
        values: dict[str, Any] = {
            "prediction_id": new_prediction_ids(1)[0],
            "timestamp": (TIME + timedelta(seconds=row)).isoformat(timespec="milliseconds"),
            "client_id": f"c{row}",
            "prediction": 0,
            "format": 3,
            "model_name": "credit_scoring",
            "by": "loopback",
            "model_version": "v1",
            "probability": 0.1,
            "threshold": 0.3,
            "decision": "APPROVE",
            "risk_level": "LOW",
            "warnings": [],
            "latency_ms": 1.5,
            "request_id": None,
            "features": feature_json(np.array([0.1 + row, np.nan, -0.0, 1e-300])),
        }
        values |= given
        record = Made(msgspec.json.encode(Record(**values)))
        record.prediction_id, record.client_id = values["prediction_id"], values["client_id"]
        records.append(record)
    return records


class Clock:
    """A clock that stands still until a test sets `now`, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def open_log(
    folder: Path,
    durability: str = "flush",
    max_bytes: int = 10**9,
    sync: Callable[[int], None] = os.fdatasync,
    clock: Callable[[], float] | None = None,
) -> DecisionLog:
    """Open a log. Its default clock stands still, so every sync counts as quick, even on a busy machine."""
    return DecisionLog(folder, durability=durability, max_bytes=max_bytes, sync=sync, clock=clock or Clock())  # type: ignore[arg-type]


def log_lines(folder: Path) -> list[bytes]:
    """The lines of the active file, without the reserved space after them."""
    return (folder / "predictions.jsonl").read_bytes().rstrip(b"\t\0").splitlines()


def write_log(folder: Path, records: Sequence[bytes], max_bytes: int = 10**9, batch: int = 10) -> None:
    """Append decisions to the log in a folder."""

    async def append() -> None:
        log = DecisionLog(folder, durability="flush", max_bytes=max_bytes)
        for start in range(0, len(records), batch):
            log.append(records[start : start + batch])
        log.close()

    asyncio.run(append())


def stored(store: Store) -> list[str]:
    with reading(store.engine) as connection:
        return list(connection.execute(select(decisions.c.prediction_id).order_by(decisions.c.prediction_id)).scalars())


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited for {seconds:g} seconds"
        time.sleep(0.01)
