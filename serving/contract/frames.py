"""The frame of a body: finds where the items of its arrays begin and end, step by step, so that a large body does not delay other requests."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.contract.documents import BLANKS, STEP, repeated, skip, too_many
from serving.errors import Invalid, invalid

MOST_BYTES = 1_000_000  # of one applicant or outcome of a request
MOST_FRAME_BYTES = 100_000  # of a body without the items of its arrays

_MARKS = bytes(mark in b',[]{}"' for mark in range(256))
_DELTAS = np.array([1 if mark in b"[{" else -1 if mark in b"]}" else 0 for mark in range(256)], dtype=np.int8)

Places = NDArray[np.int64]


class Items:
    """The texts of the items of an array, each cut from the body on demand.

    Parameters
    ----------
    text : the body.
    bounds : places of the array's brackets in it, and of the commas between its items.
    """

    def __init__(self, text: bytes, bounds: Places) -> None:
        self._text, self._bounds = text, bounds
        empty = len(bounds) == 2 and not text[bounds[0] + 1 : bounds[1]].translate(None, BLANKS)
        self._size = 0 if empty else len(bounds) - 1

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        bounds = self._bounds.tolist() if self._size else []
        return (self._text[start + 1 : end] for start, end in pairwise(bounds))


def too_large(item: Any, pointer: str) -> list[Invalid]:
    """The error of an item with too many values or bytes to decode in one turn of the loop.

    Raises
    ------
    DECODE_ERRORS
        The item is too large and not JSON either.
    """
    if isinstance(item, bytes) and len(item) > MOST_BYTES:
        errors = [Invalid(pointer, f"holds more than {MOST_BYTES:,} bytes")]
    else:
        errors = too_many(item, pointer)
    if errors:
        skip(item)
    return errors


def split(text: bytes) -> Iterator[Places]:
    """Where the arrays and objects in a JSON object begin and end, and the commas between their items; one step of the text at a time.

    It distinguishes only strings and brackets. Decoding the pieces, which together are the whole text, shows whether the text is JSON.
    """
    start, depth, in_string = 0, 0, False
    while start < len(text):
        piece = text[start : start + STEP]
        size = len(piece)
        if b"\\" in piece:
            piece = piece.replace(rb"\\", b"__")
            if piece.endswith(b"\\"):  # what it escapes comes next
                piece = piece[:-1] + b"__"[: len(text) - start - size + 1]
                size = len(piece)
            piece = piece.replace(rb"\"", b"__")
        places = np.flatnonzero(np.frombuffer(piece.translate(_MARKS), dtype=np.bool_))
        marks = np.frombuffer(piece, dtype=np.uint8)[places]
        quotes = marks == ord('"')
        inside = np.logical_xor.accumulate(quotes) ^ in_string
        if len(inside):
            in_string = bool(inside[-1])
        outside = ~(inside | quotes)
        places, deltas = places[outside], _DELTAS[marks[outside]]
        depths = np.cumsum(deltas, dtype=np.int32) + depth
        if len(depths):
            depth = int(depths[-1])
        yield places[np.where(deltas < 0, depths == 1, depths == 2)] + start
        start += size


def read_frame(body: bytes, places: Sequence[Places]) -> dict[str, Any]:
    """The members of a body, with arrays as Items, whose texts are not decoded yet, and objects without their members.

    Parameters
    ----------
    places : everything that `split` yields for the body.

    Raises
    ------
    ServiceError
        422: a member occurs twice, or the body is too large without the items.
    DECODE_ERRORS
        The body is not a JSON object.
    """
    bounds = np.concatenate(places) if places else np.empty(0, dtype=np.int64)
    deltas = _DELTAS[np.frombuffer(body, dtype=np.uint8)[bounds]]
    begins, ends = np.flatnonzero(deltas > 0), np.flatnonzero(deltas < 0)
    first, last = body.find(b"{"), body.rfind(b"}") + 1
    around = first < 0 or body[:first].translate(None, BLANKS) or body[last:].translate(None, BLANKS)
    if around or len(begins) > len(ends):
        raise msgspec.DecodeError
    starts, stops = bounds[begins] + 1, bounds[ends]
    if last - first - int((stops - starts).sum()) > MOST_FRAME_BYTES:
        raise invalid([Invalid("", f"holds more than {MOST_FRAME_BYTES:,} bytes beside the items of its arrays")])
    text = b"".join([body[start:end] for start, end in zip([first, *stops.tolist()], [*starts.tolist(), last], strict=True)])
    frame = msgspec.json.decode(text)
    if found := repeated(text, frame, ""):
        raise invalid(found)
    inner = iter(zip(begins.tolist(), ends.tolist(), strict=True))
    for name, value in frame.items():
        if isinstance(value, dict | list):
            begin, end = next(inner)
            frame[name] = Items(body, bounds[begin : end + 1]) if isinstance(value, list) else value
    return frame  # type: ignore[no-any-return]


def read_item(item: Any) -> tuple[Any, bytes | None]:
    """Decode an item of a frame's array; returns the value and its text. A value that is decoded already has no text.

    Raises
    ------
    DECODE_ERRORS
        The item is not JSON.
    """
    return (msgspec.json.decode(item), item) if isinstance(item, bytes) else (item, None)
