"""From the text of a body to a JSON document: a text that is not JSON is answered by one sentence that says why and where.

An object that gives a member twice is refused: nobody knows which of the two counts.
"""

import codecs
import json
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.contract.fields import escape
from serving.errors import MOST_ERRORS, Invalid, ServiceError, invalid

NOT_JSON = "The body is not valid UTF-8 JSON"
DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
MOST_VALUES = (
    25_000  # of one applicant or outcome, absent ones of its history counted: 13,000 would hold the longest history in every table
)
MOST_BATCH_VALUES = 1_000_000  # of all of a request: a full body of applicants with their histories has 800,000
MOST_BYTES = 1_000_000  # of one applicant or outcome of a request
MOST_FRAME_BYTES = 100_000  # of a body without the items of its arrays
STEP = 256_000  # bytes that are split in one go
MAX_EXPLAINED = 1_000_000  # bytes of a text that is not JSON, within which the value that makes it so is looked for
MOST_EXPLAINED = 100_000  # values of such a text
MAX_SEARCHED = 300_000  # bytes of a text within which repeated members are looked for, in 50 ms at most
LONG = 8_000  # bytes from which on numpy counts faster than Python
FEW = 2  # up to so many, colons are found faster than counted
GZIP = b"\x1f\x8b"
BLANKS = b" \t\n\r"

encode = msgspec.json.Encoder().encode
_skip = msgspec.json.Decoder(msgspec.Raw).decode
_MARKS = bytes(mark in b',[]{}"' for mark in range(256))
_DELTAS = np.array([1 if mark in b"[{" else -1 if mark in b"]}" else 0 for mark in range(256)], dtype=np.int8)

Places = NDArray[np.int64]


class Items:
    """The items of an array as texts, each made once it is asked for.

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


def too_many(text: Any, pointer: str, most: int = MOST_VALUES) -> list[Invalid]:
    """The error of a text that may hold more values than are read in one turn of the loop, found before it is decoded.

    Each value but the first follows a comma or stands first in an array or object; those in strings count too. A value that is
    decoded already has no text.
    """
    if not isinstance(text, bytes) or len(text) <= most:
        return []
    array = np.frombuffer(text, dtype=np.uint8)
    steps = (array[start : start + STEP] for start in range(0, len(array), STEP))  # which stay in the processor's cache
    if sum(int(np.count_nonzero(step == ord(mark))) for step in steps for mark in ",[{") <= most:
        return []
    return [Invalid(pointer, f"holds more than {most:,} values, counted by commas and opening brackets")]


def too_large(item: Any, pointer: str) -> list[Invalid]:
    """The error of an item that has too many values or bytes to be decoded in one turn of the loop.

    Raises
    ------
    DECODE_ERRORS
        It has, and does not look like JSON either.
    """
    if isinstance(item, bytes) and len(item) > MOST_BYTES:
        errors = [Invalid(pointer, f"holds more than {MOST_BYTES:,} bytes")]
    else:
        errors = too_many(item, pointer)
    if errors:
        _skip(item)
    return errors


def split(text: bytes) -> Iterator[Places]:
    """The places at which the arrays and objects in a JSON object begin, part their items, and end; a step of the text at a time.

    Only strings and brackets are told apart. Whether the text is JSON shows when its pieces are decoded: together they are all of it.
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
    """The object that a body is, as far as a frame is looked at: the items of its arrays are not decoded, an object in it has no members.

    Parameters
    ----------
    places : what `split` gave for the body.

    Raises
    ------
    ServiceError
        422: it gives a member twice, or is too large.
    DECODE_ERRORS
        It is no JSON object.
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
    """An item of a frame's array decoded, and its text; a value that is decoded already has none.

    Raises
    ------
    DECODE_ERRORS
        It is not JSON.
    """
    return (msgspec.json.decode(item), item) if isinstance(item, bytes) else (item, None)


def repeated(text: bytes, document: Any, pointer: str, members: int = 0) -> list[Invalid]:
    """The members that an object in a text gives more than once; a decoder takes the last of them in silence.

    Each member has one colon. Where a document was made of as many members as its text has colons, none was dropped. Where there are
    more, some stand in strings: as many as in the document written anew, unless a member was dropped. Only then, or where a colon was
    sent in disguise, the text is searched.

    Parameters
    ----------
    document : what was decoded from the text.
    pointer : JSON pointer to the document.
    members : how many members all objects of the document have together, or fewer.
    """
    if members <= FEW:
        place = -1
        for _ in range(members):
            place = text.find(b":", place + 1)
        if text.find(b":", place + 1) < 0:
            return []
    given = _colons(text)
    if given == members:
        return []
    try:
        if given == _colons(encode(document)) and (b"\\" not in text or b"\\u003a" not in text.lower()):
            return []
    except OverflowError:  # a whole number beyond 64 bits is read, but not written
        pass
    return _search(text, pointer)


def explained(body: bytes, errors_of: Callable[[Any], Sequence[Invalid]]) -> ServiceError:
    """The answer to a body that cannot be decoded.

    NaN, Infinity, 1e999 and half a surrogate pair are no JSON either, but Python reads them, and so the field that holds one is named.

    Parameters
    ----------
    errors_of : the bad values of a document, which may hold such; it may raise a ServiceError for its frame.
    """
    why, errors = _wrong_encoding(body), []
    if not why:
        why = "it holds NaN, Infinity, a number beyond 64-bit floats or half a surrogate pair"
        try:
            errors = (
                list(errors_of(json.loads(body)))
                if len(body) <= MAX_EXPLAINED and not too_many(body, "", MOST_EXPLAINED)
                else _skimmed(body, errors_of)
            )
        except ServiceError as error:
            errors = error.errors
        except RecursionError:
            why = "it is nested too deeply"
        except json.JSONDecodeError as error:
            why = f"{_sentence(error.msg)} at line {error.lineno}, column {error.colno}"
        except msgspec.DecodeError as error:
            why = _sentence(str(error).removeprefix("JSON is malformed: ")).replace("expected '\"'", "object keys must be strings")
        except ValueError:  # Python's own limit
            why = "it holds a number of too many digits"
    return invalid(errors) if errors else ServiceError(400, f"{NOT_JSON}: {why}.")


def _wrong_encoding(body: bytes) -> str | None:
    """Why a body is not UTF-8, and where."""
    if not body.strip():
        return "it is empty"
    if body.startswith(GZIP):
        return "it is packed by gzip, which the header Content-Encoding must say"
    encoding = json.detect_encoding(body)  # by the first four bytes
    if not encoding.startswith("utf-8"):
        return f"it is {encoding[:6].upper()}"
    start = 0
    try:
        while start < len(body):  # in steps that stay in the processor's cache
            start += codecs.utf_8_decode(body[start : start + STEP], "strict", start + STEP >= len(body))[1]
    except UnicodeDecodeError as error:
        place = start + error.start
        return f"byte {place} is 0x{body[place]:02x}, which is not UTF-8 but may be Latin-1"
    return None


def _skimmed(body: bytes, errors_of: Callable[[Any], Sequence[Invalid]]) -> list[Invalid]:
    """The errors of a long text that is a value of the wrong kind; what else it holds is not decoded, but it must look like JSON."""
    _skip(body)
    first = body.lstrip(BLANKS)[:1]
    if first == b"{":
        return []
    return list(errors_of([] if first == b"[" else "" if first == b'"' else msgspec.json.decode(body)))


def _sentence(text: str) -> str:
    """The message of a parser as a part of a sentence."""
    return f"{text[0].lower()}{text[1:]}"


def _colons(text: bytes) -> int:
    if len(text) < LONG:
        return text.count(b":")
    return int(np.count_nonzero(np.frombuffer(text, dtype=np.uint8) == ord(":")))


class _Repeating(dict[str, Any]):
    """An object that was given some of its members more than once."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated = {name: times for name, times in Counter(name for name, _ in pairs).items() if times > 1}


def _search(text: bytes, pointer: str) -> list[Invalid]:
    """The repeated members of all objects in a text, or only that there are some where it is long."""
    if len(text) > MAX_SEARCHED:
        return [Invalid(pointer, "gives a member of an object twice; expected once")]
    met = 0

    def keep(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal met
        made = dict(pairs)
        if len(made) == len(pairs) or met == MOST_ERRORS:
            return made
        met += 1
        return _Repeating(pairs)

    found: list[Invalid] = []
    left = deque([(pointer, json.loads(text, object_pairs_hook=keep, parse_int=str, parse_float=str))])
    while left and len(found) < MOST_ERRORS:
        place, value = left.popleft()
        if isinstance(value, _Repeating):
            found += [
                Invalid(f"{place}/{escape(name)}", f"is given {times} times; expected once") for name, times in value.repeated.items()
            ]
        if isinstance(value, dict):
            left += [(f"{place}/{escape(name)}", inner) for name, inner in value.items() if isinstance(inner, dict | list)]
        elif isinstance(value, list):
            left += [(f"{place}/{index}", inner) for index, inner in enumerate(value) if isinstance(inner, dict | list)]
    return found[:MOST_ERRORS]
