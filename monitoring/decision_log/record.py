"""The format of a line: the record of a decision, its chain, and the room behind the last line.

A line is a JSON object that ends with its `chain`: the SHA-256 sum of the chain of the line before (64 hexadecimal digits) and of this
line's bytes up to the member `chain`. The first line of a file names the chain before it as `previous`; in the very first line of a log
this is the log's id. With `fsync` the active file ends in tabs, room that was written ahead. Lines hold no tabs, since JSON escapes them.
"""

import re
from datetime import datetime
from typing import Any, Literal

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from monitoring.prediction import Prediction

CHAIN = b',"chain":"'
END = re.compile(rb'(?:,"previous":"([0-9a-f]{64})")?,"chain":"([0-9a-f]{64})"\}\n\Z')
END_BYTES = 200  # longer than any match of END
ROOM = b"\t"
NO_LINE = ROOM + b"\0"  # bytes that may follow the lines; after a loss of power, pages that were not synced hold zeros


class Record(Prediction, kw_only=True):
    """One decision: the members of the answer, byte for byte as they were sent, and what a replay needs besides.

    `features` is the JSON array of the model's features in their order, null if unknown. The numbers stand as the client wrote them or in
    the shortest form; either reads back as the bits that were scored. `raw` holds the raw fields that the settings name.
    """

    format: Literal[2]
    latency_ms: float
    request_id: str | None
    features: msgspec.Raw
    raw: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class _Scored(msgspec.Struct):
    features: list[float | None]
    probability: float


_SCORED = msgspec.json.Decoder(_Scored)


def feature_json(values: NDArray[np.float64]) -> msgspec.Raw:
    """The JSON array of a row of features, shape (features,), NaN as null, for `Record.features`."""
    return msgspec.Raw(orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY))


def scored(line: str | bytes) -> list[float | None]:
    """The features of a line, with null as None, followed by its PD.

    Raises
    ------
    msgspec.MsgspecError
        The line is not that of a decision.
    """
    found = _SCORED.decode(line)
    return [*found.features, found.probability]


def line_time(line: bytes) -> datetime | None:
    """The time of a line; None if it is not a line of the log."""
    try:
        return datetime.fromisoformat(msgspec.json.decode(line)["timestamp"])
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        return None


def whole_lines(lines: bytes) -> bytes:
    """The whole lines before the first byte of room. Lines behind that byte belong to an append that is only partly visible yet."""
    room = lines.find(ROOM)
    return lines[: lines.rfind(b"\n", 0, room if room >= 0 else len(lines)) + 1]
