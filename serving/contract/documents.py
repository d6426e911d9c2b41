"""Checks of a body's text as JSON. A text that is not JSON gets one sentence that says why and where.

An object with a repeated member is refused, because nobody knows which of the two values counts.
"""

import codecs
import json
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from serving.contract.fields import escape
from serving.errors import MOST_ERRORS, Invalid, ServiceError, invalid

NOT_JSON = "The body is not valid UTF-8 JSON"
DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
MOST_VALUES = 25_000  # of one applicant or outcome, absent values of history rows included; the longest real history has 13,000
MOST_BATCH_VALUES = 1_000_000  # of a request; a full body of applicants with their histories has 800,000
STEP = 256_000  # bytes to process at once
MAX_EXPLAINED = 1_000_000  # bytes of a text that is not JSON, up to which the invalid value is searched for
MOST_EXPLAINED = 100_000  # values of such a text
MAX_SEARCHED = 300_000  # bytes of a text up to which repeated members are searched for, which takes at most 50 ms
LONG = 8_000  # bytes from which on numpy counts faster than Python
FEW = 2  # up to this many colons, finding them is faster than counting
GZIP = b"\x1f\x8b"
BLANKS = b" \t\n\r"

encode = msgspec.json.Encoder().encode
skip = msgspec.json.Decoder(msgspec.Raw).decode  # checks a text without making a document of it


def values_in(text: bytes) -> int:
    """How many values a text holds at most, counted before it is decoded.

    Each value but the first follows a comma or stands first in an array or object. Commas and brackets in strings count too.
    """
    array = np.frombuffer(text, dtype=np.uint8)
    steps = (array[start : start + STEP] for start in range(0, len(array), STEP))  # a step stays in the processor's cache
    return sum(int(np.count_nonzero(step == ord(mark))) for step in steps for mark in ",[{")


def too_many(text: Any, pointer: str, most: int = MOST_VALUES) -> list[Invalid]:
    """The error of a text with too many values to read in one turn of the loop; a value that is decoded already has no text."""
    if not isinstance(text, bytes) or len(text) <= most or values_in(text) <= most:
        return []
    return [Invalid(pointer, f"holds more than {most:,} values, counted by commas and opening brackets")]


def repeated(text: bytes, document: Any, pointer: str, members: int = 0) -> list[Invalid]:
    """The repeated members of the objects in a text. The decoder silently keeps the last of them.

    Each member has one colon. If the text has as many colons as the document has members, none was dropped. If it has more, the others
    are inside strings, so the document encoded again has as many, unless a member was dropped. The text is searched only in that case,
    or if it escapes a colon.

    Parameters
    ----------
    document : what was decoded from the text.
    pointer : JSON pointer to the document.
    members : number of members of all objects in the document, or fewer.
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

    NaN, Infinity, 1e999 and half a surrogate pair are not JSON, but Python reads them, so the answer can name the field.

    Parameters
    ----------
    errors_of : returns the invalid values of a document that may hold such values; may raise a ServiceError.
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
    skip(body)
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
    """The repeated members of all objects in a text; for a long text, only that there are some."""
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
