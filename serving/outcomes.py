"""Outcomes: parses those of a request or file, keeps them in the store, and answers the status of each."""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TextIO

import msgspec

from monitoring.spreadsheet import unshield
from monitoring.store.queries import Kept, Outcome
from monitoring.store.tables import decisions
from serving.contract.documents import DECODE_ERRORS, MOST_BATCH_VALUES, explained, repeated, too_many
from serving.contract.fields import kind
from serving.contract.frames import Items, read_frame, read_item, split, too_large
from serving.contract.ids import read_client_id
from serving.contract.requests import MAX_OUTCOMES
from serving.contract.rows import frame_errors
from serving.errors import MOST_ERRORS, Invalid, ServiceError, invalid, most_errors

CLOCK_SKEW = timedelta(minutes=5)
STATUSES = ("stored", "repeated", "corrected", "unknown", "invalid")
COLUMNS = ("prediction_id", "client_id", "defaulted", "observed_at")
IDENTIFIER = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
BOOLEANS = {"0": False, "1": True, "0.0": False, "1.0": True, "0,0": False, "1,0": True, "false": False, "true": True}
EXPORTED = {name for name in decisions.c.keys() if name not in COLUMNS}  # noqa: SIM118 - of SQLAlchemy's columns

Parsed = Outcome | list[Invalid]


def parse_outcomes(body: bytes, now: datetime) -> list[Parsed]:
    """The outcomes of a `POST /outcomes`, in order, with the errors of a bad one in its place.

    Raises
    ------
    ServiceError
        400 if the body is not JSON, 413 for too many outcomes, 422 for too many values or a bad frame around the outcomes.
    """
    if many := too_many(body, "", MOST_BATCH_VALUES):
        raise invalid(many)
    try:
        return _parse(read_frame(body, list(split(body))), now)
    except DECODE_ERRORS:
        raise explained(body, lambda document: frame_errors(document, "", ("outcomes",))) from None


def _parse(document: Any, now: datetime) -> list[Parsed]:
    """The outcomes of a document whose items may not be decoded yet."""
    errors = frame_errors(document, "", ("outcomes",))
    items = document.get("outcomes") if isinstance(document, dict) else None
    if not errors and not isinstance(items, list | Items):
        errors = [Invalid("/outcomes", f"expected an array, got {kind(items)}")]
    if errors or not isinstance(items, list | Items):
        raise invalid(errors)
    if len(items) > MAX_OUTCOMES:
        raise ServiceError(413, f"/outcomes has {len(items)} items; at most {MAX_OUTCOMES} are allowed in one request")
    parsed: list[Parsed] = []
    told = 0
    for index, item in enumerate(items):
        one = _read(item, f"/outcomes/{index}", now, most_errors(told))
        told += len(one) if isinstance(one, list) else 0
        parsed.append(one)
    return parsed


def _read(item: Any, pointer: str, now: datetime, most: int) -> Parsed:
    if many := too_large(item, pointer):
        return many
    document, text = read_item(item)
    one = read_outcome(document, pointer, now, most)
    if text is None or not (found := repeated(text, document, pointer)):
        return one
    return [*(one if isinstance(one, list) else ()), *found][:most]


def read_outcome(item: Any, pointer: str, now: datetime, most: int = MOST_ERRORS) -> Parsed:
    """One outcome, or about `most` of its errors; without `observed_at` it was observed now."""
    errors = frame_errors(item, pointer, COLUMNS, most)
    if not isinstance(item, dict):
        return errors
    prediction_id, client_id, defaulted = item.get("prediction_id"), item.get("client_id"), item.get("defaulted")
    if (prediction_id is None) == (client_id is None):
        errors.append(Invalid(pointer, "expected exactly one of prediction_id, client_id"))
    if prediction_id is not None:
        prediction_id = _read_identifier(prediction_id, f"{pointer}/prediction_id", errors)
    client_id = read_client_id(client_id, f"{pointer}/client_id", errors)
    if not isinstance(defaulted, bool):
        errors.append(Invalid(f"{pointer}/defaulted", f"expected true or false, got {kind(defaulted)}"))
    observed_at = _read_time(item.get("observed_at"), f"{pointer}/observed_at", now, errors)
    return errors[:most] or Outcome(prediction_id, client_id, bool(defaulted), observed_at)


def read_csv(file: TextIO, now: datetime) -> Iterator[tuple[int, Parsed | None]]:
    """The outcomes of a CSV file, separated by `,`, `;` or tabs, with their line numbers.

    A bad one is replaced by its errors. The apostrophe that an export puts before a formula is removed. A file that `credit-scoring export`
    wrote is read by its prediction_id; a row of it without an outcome is None.

    Raises
    ------
    ValueError
        The header is not one of outcomes.
    """
    header = file.readline()
    file.seek(0)
    reader = csv.DictReader(file, delimiter=max(",;\t", key=header.count))
    names = reader.fieldnames or []
    exported = not {"prediction_id", *EXPORTED} - set(names)
    unknown = [name for name in names if name not in COLUMNS and not (exported and name in EXPORTED)]
    identified = {"prediction_id", "client_id"} & set(names)
    if unknown or len(set(names)) < len(names) or not identified or "defaulted" not in names:
        raise ValueError(
            f"line 1 {_header_problem(names, unknown)}; expected prediction_id or client_id, defaulted, and perhaps observed_at, "
            "or the columns of an export"
        )
    for line, row in _numbered(reader):
        if not any(row.values()):
            continue  # spreadsheets leave such rows at the end
        if None in row or None in row.values():
            yield line, [Invalid("", f"expected {len(names)} columns")]
            continue
        if exported and not row["defaulted"]:
            yield line, None
            continue
        item: dict[str, Any] = {name: unshield(value) for name, value in row.items() if value and name not in EXPORTED}
        if exported:
            item.pop("client_id", None)  # the prediction_id says it all
        item["defaulted"] = BOOLEANS.get(row["defaulted"].strip().lower(), row["defaulted"])
        yield line, read_outcome(item, "", now)


def _numbered(reader: "csv.DictReader[str]") -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a CSV file with the line on which each begins.

    Raises
    ------
    ValueError
        A row cannot be read as CSV.
    """
    try:
        for row in reader:
            # a quote mark that is not closed takes the last line break, too
            breaks = sum(value.rstrip("\n").count("\n") for value in row.values() if isinstance(value, str))
            yield reader.line_num - breaks, row
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num} cannot be read as CSV: {error}; is there a single quote mark before it?") from None


def read_json_lines(file: TextIO, now: datetime) -> Iterator[tuple[int, Parsed | None]]:
    """The outcomes of JSON lines with their line numbers, with the errors of a bad one in its place.

    A line is one outcome as in `POST /outcomes`, or a decision that `credit-scoring export` or `credit-scoring decisions` wrote, read by its
    prediction_id; a decision without an outcome is None.
    """
    for number, line in enumerate(file, 1):
        if text := line.strip().encode(errors="surrogatepass"):
            yield number, _read_line(text, now)


def _read_line(text: bytes, now: datetime) -> Parsed | None:
    try:
        item = msgspec.json.decode(text)
    except DECODE_ERRORS:
        return [Invalid("", explained(text, lambda _: ()).detail)]
    if found := repeated(text, item, ""):
        return found
    if isinstance(item, dict) and {"prediction_id", "outcome"} <= item.keys():
        if item["outcome"] is None:
            return None
        if not isinstance(item["outcome"], dict):
            return [Invalid("/outcome", f"expected an object, got {kind(item['outcome'])}")]
        item = {"prediction_id": item["prediction_id"], **item["outcome"]}
    elif isinstance(item, dict) and {"prediction_id", *EXPORTED} <= item.keys():
        item = {name: item.get(name) for name in COLUMNS if name != "client_id"}
    else:
        return read_outcome(item, "", now)
    return None if item.get("defaulted") is None else read_outcome(item, "", now)


def _header_problem(names: Sequence[str], unknown: Sequence[str]) -> str:
    """What is wrong with a header. A line that is not a header may hold a person's values, so it is not shown."""
    if not set(COLUMNS) & set(names):
        return "is not a header of outcomes"
    if unknown:
        return f"has unknown columns: {', '.join(unknown)}"
    if len(set(names)) < len(names):
        return "names a column twice"
    return f"names {', '.join(names)} alone"


def answer(given: Sequence[Parsed], kept: Sequence[Kept]) -> dict[str, Any]:
    """The answer to a call: a status for each outcome, in order, and how many there are of each."""
    results = iter(kept)
    items = [_describe(index, one, None if isinstance(one, list) else next(results)) for index, one in enumerate(given)]
    counts = Counter(item["status"] for item in items)
    return {"outcomes": items, "counts": {status: counts[status] for status in STATUSES}, "count": len(items)}


def _describe(index: int, one: Parsed, kept: Kept | None) -> dict[str, Any]:
    if isinstance(one, list):
        return {"index": index, "status": "invalid", "error": invalid(one).to_dict()}
    if kept is None or kept.prediction_id is None:
        name = "client_id" if one.prediction_id is None else "prediction_id"
        return {"index": index, "status": "unknown", name: one.prediction_id or one.client_id}
    return {"index": index, "status": kept.status, "prediction_id": kept.prediction_id}


def _read_identifier(value: Any, pointer: str, errors: list[Invalid]) -> str | None:
    if isinstance(value, str) and IDENTIFIER.fullmatch(value):
        return value.lower()
    errors.append(Invalid(pointer, "expected the prediction_id of an answer"))
    return None


def _read_time(value: Any, pointer: str, now: datetime, errors: list[Invalid]) -> datetime:
    if value is None:
        return now
    try:
        time = datetime.fromisoformat(value)
        late = time.astimezone(UTC) > now + CLOCK_SKEW
    except (TypeError, ValueError, OverflowError):
        errors.append(Invalid(pointer, f"expected a time in ISO 8601, got {kind(value)}"))
        return now
    if time.tzinfo is None:
        errors.append(Invalid(pointer, "expected a time with its zone, such as 2026-01-31T12:00:00+00:00"))
    elif late:
        errors.append(Invalid(pointer, "expected a time that is not in the future"))
    return time
