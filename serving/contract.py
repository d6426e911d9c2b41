"""The JSON of the HTTP contract: bytes to rows, and rows with their scores to bytes."""

import logging
import math
import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.applications import Applications
from features.history import UNSEEN, Mask, Matrix
from features.schema import Column
from features.transform import FeatureTransform
from monitoring.log import feature_json
from monitoring.logs import LOGGER, REQUEST_ID
from serving.decision import Decision
from serving.documents import DECODE_ERRORS, encode, explained, read_frame, read_item, repeated
from serving.errors import MOST_ERRORS, Errors, Invalid, ServiceError, invalid, most_errors
from serving.fields import Fields, encodable, escape, kind, read_number, shown
from serving.history import HistoryReader, Tables

log = logging.getLogger(LOGGER)

MAX_CLIENT_ID = 200
MAX_OUTCOMES = 10_000  # of one call
MAX_NUMBER_BYTES = 32  # of a number of a vector and what surrounds it, on average, for the vector to be kept as it was sent
ABSENT = "not known, though the model learned from no such applicant without it"
ODD = (  # code and detail of the warnings that features.absence.Odd gives rise to
    ("absent", f"{ABSENT}. Typical values are used instead; send it if you can"),
    ("lone", "not used, because the model learned from no applicant with it but without the fields that belong to it; send those too"),
)
MOST_NAMED = 10  # fields in one warning
_VARIANT = {f"{digit:x}": f"{8 | digit & 3:x}" for digit in range(16)}  # two random bits beneath those that say how a UUID is laid out


class Row(msgspec.Struct, eq=False):  # made in less than half the time of a dataclass
    """One applicant of a request: named values or a feature vector, or the errors in what was sent.

    `pointer` is the JSON pointer of the place where the values stand in the request, `history` are the tables given
    beside named values, `sent` is the JSON of the vector where that is what is scored and can be kept, `notes` are the
    warnings known from parsing, `warnings` all that go with the score, `since` is when it was parsed.
    """

    pointer: str
    client_id: str | None = None
    named: tuple[list[float], list[str | None]] | None = None
    history: Tables | None = None
    vector: NDArray[np.float64] | None = None
    sent: msgspec.Raw | None = None
    notes: list[dict[str, str]] = msgspec.field(default_factory=list)
    warnings: list[dict[str, str]] = msgspec.field(default_factory=list)
    errors: Errors = msgspec.field(default_factory=Errors)
    request_id: str | None = msgspec.field(default_factory=REQUEST_ID.get)
    since: float = msgspec.field(default_factory=time.perf_counter)


class _Vector(msgspec.Struct, forbid_unknown_fields=True):
    """A `POST /predict` by vector, as it mostly comes."""

    features: msgspec.Raw
    client_id: str | msgspec.UnsetType | None = msgspec.UNSET


class _Vectors(msgspec.Struct, forbid_unknown_fields=True):
    """A `POST /predict/batch` by vectors, as it mostly comes."""

    features: list[msgspec.Raw]
    client_ids: list[str | None] | msgspec.UnsetType | None = msgspec.UNSET


_ONE, _MANY = msgspec.json.Decoder(_Vector), msgspec.json.Decoder(_Vectors)
_NUMBERS = msgspec.json.Decoder(list[float | None])
Document = TypeVar("Document")


class Contract:
    """Parses requests against the schema and the features of one model.

    Parameters
    ----------
    features : the model's fitted transform.
    max_rows : most rows of one batch.
    raw_fields : names of the fields that are kept on record as they were sent.

    Raises
    ------
    ValueError
        The schema has no such raw field.
    """

    def __init__(self, features: FeatureTransform, max_rows: int, raw_fields: Sequence[str] = ()) -> None:
        self.features = features
        self.max_rows = max_rows
        table = self._table = features.table
        refused = {str(table.target): "is the outcome; it cannot be part of an application"}
        self._fields = Fields(table, table.key, refused)
        self._history = HistoryReader(features.history)
        places = {column.name: place for place, column in enumerate(table.numeric)}
        places |= {column.name: -1 - place for place, column in enumerate(table.categorical)}
        if unknown := set(raw_fields) - set(places):
            raise ValueError(f"log.raw_fields names {', '.join(sorted(unknown))}; expected fields of GET /docs.json")
        self._raw = {name: places[name] for name in raw_fields}
        self._numeric = {column.name: column for column in table.numeric}
        ranges = [self._numeric.get(name) for name in features.names]
        self._vector_low = np.array([column.min if column else -np.inf for column in ranges], dtype=np.float64)
        self._vector_high = np.array([column.max if column else np.inf for column in ranges], dtype=np.float64)
        self._names = [column.name for column in table.columns]
        always = {self._names[place] for place in features.absence_.always} if features.absence_ else set()
        self._always_names = [name for name in features.names if name in always]
        self._always_positions = np.array([features.names.index(name) for name in self._always_names], dtype=np.intp)
        self._packer = struct.Struct(f"{len(features.names)}d")
        self._code_positions = np.array(features.categorical_positions, dtype=np.intp)
        self._code_counts = np.array([len(features.categories_[features.names[place]]) for place in features.categorical_positions])

    def parse_one(self, body: bytes) -> Row:
        """The row of a `POST /predict`.

        Raises
        ------
        ServiceError
            400 where the body is no JSON, 422 with a pointer to each bad value otherwise.
        """
        row = self._vector_at_a_glance(body)
        if row is None:
            try:
                row = self._single(msgspec.json.decode(body), body)
            except DECODE_ERRORS:
                raise explained(body, lambda document: self._single(document).errors) from None
        if row.errors:
            raise invalid(row.errors)
        return row

    def parse_example(self) -> Row:
        """The row of the schema's example applicant, with its history."""
        return self.parse_one(msgspec.json.encode(example_request(self.features)))

    def parse_batch(self, body: bytes) -> Iterator[Row]:
        """The rows of a `POST /predict/batch`, in order, one by one, so that whoever asks for them can do other things between; a bad row carries its errors.

        Raises
        ------
        ServiceError
            400 where the body is no JSON, 413 for too many rows, 422 where the frame around the rows is bad; in part before the first row.
        """
        if rows := self._vectors_at_a_glance(body):
            return iter(rows)
        try:
            frame = read_frame(body)
        except DECODE_ERRORS:
            raise self._explained(body) from None
        return self._batch(frame, body)

    def matrix(self, rows: list[Row]) -> Matrix:
        """The feature matrix of rows without errors, in their order; writes their warnings."""
        for row in rows:
            row.warnings = list(row.notes)
        if not rows:
            return np.empty((0, len(self.features.names)))
        named = [index for index, row in enumerate(rows) if row.named is not None]
        if not named:
            return self._vectors(rows)
        applications = Applications.from_rows(self._table, [rows[index].named for index in named])  # type: ignore[misc]
        transformed = self.features.transform(applications, self._history.join([rows[index].history for index in named]))
        for unseen in transformed.unseen:
            row = rows[named[unseen.row]]
            detail = f"{unseen.column} {shown(unseen.value)} is not a value the model knows; scored as unseen"
            row.warnings.append(_warning("unseen_category", f"{row.pointer}/{unseen.column}", detail))
        if transformed.odd:
            for places, (code, happened) in zip(transformed.odd, ODD, strict=True):
                _warn_of_fields([rows[index] for index in named], code, self._names, places, happened)
        implausible = applications.implausible()
        if np.count_nonzero(implausible):
            for index, place in np.argwhere(implausible).tolist():
                column = self._table.numeric[place]
                self._warn_of_range(rows[named[index]], column, applications.numeric[index, place], column.name)
        if len(named) == len(rows):
            return transformed.matrix
        matrix = np.empty((len(rows), len(self.features.names)))
        matrix[named] = transformed.matrix
        vectors = [index for index, row in enumerate(rows) if row.vector is not None]
        matrix[vectors] = self._vectors([rows[index] for index in vectors])
        return matrix

    def records(self, rows: Sequence[Row], answers: Sequence[bytes], matrix: Matrix) -> list[bytes]:
        """The `monitoring.lines.Record` of each decision as JSON: the members of its answer and what else is kept.

        Parameters
        ----------
        answers : JSON objects, as they are sent.
        matrix : the one that the rows were scored by.
        """
        ended = time.perf_counter()
        return [
            b'%b,"format":2,"latency_ms":%.3f,"request_id":%b,"features":%b%b}'
            % (
                answer[:-1],
                (ended - row.since) * 1e3,
                encode(row.request_id),
                row.sent or feature_json(matrix[index]),
                b',"raw":%b' % encode(self._raw_values(row)) if self._raw else b"",
            )
            for index, (row, answer) in enumerate(zip(rows, answers, strict=True))
        ]

    def _raw_values(self, row: Row) -> dict[str, Any]:
        if row.named is None:
            return {}
        numeric, categorical = row.named
        return {name: numeric[place] if place >= 0 else categorical[-1 - place] for name, place in self._raw.items()}

    def _warn_of_range(self, row: Row, column: Column, value: float, place: str | int) -> None:
        detail = f"{column.name} is {value:.12g}; plausible is {column.min} to {column.max}"
        row.warnings.append(_warning("implausible", f"{row.pointer}/{place}", detail))

    def _vectors(self, rows: list[Row]) -> Matrix:
        """The matrix of rows with vectors, unseen codes written as such; warns of these and of implausible values."""
        block = np.concatenate([row.vector for row in rows]).reshape(-1, len(self.features.names))
        codes = block.take(self._code_positions, axis=1)
        unseen = (codes < 0) | (codes >= self._code_counts)
        if np.count_nonzero(unseen):
            for index, position in np.argwhere(unseen).tolist():
                place = self._code_positions[position]
                detail = f"{self.features.names[place]} code {codes[index, position]:.12g} is not one of the model; scored as unseen"
                rows[index].warnings.append(_warning("unseen_category", f"{rows[index].pointer}/{place}", detail))
                block[index, place] = UNSEEN
                rows[index].sent = None
        _warn_of_fields(rows, "absent", self._always_names, np.isnan(block.take(self._always_positions, axis=1)), ABSENT)
        implausible = (block < self._vector_low) | (block > self._vector_high)
        if np.count_nonzero(implausible):
            for index, place in np.argwhere(implausible).tolist():
                self._warn_of_range(rows[index], self._numeric[self.features.names[place]], block[index, place], place)
        return block

    def _vector_at_a_glance(self, body: bytes) -> Row | None:
        """The row of a vector in which nothing is wrong; None for anything else."""
        document = _decoded(_ONE, body)
        if document is None or (rows := self._rows([document.features], ["/features"], body)) is None:
            return None
        client_id = _given(document.client_id)
        if repeated(body, document, "", 1 if client_id is None else 2):
            return None
        rows[0].client_id = read_client_id(client_id, "/client_id", rows[0].errors)
        return rows[0]

    def _vectors_at_a_glance(self, body: bytes) -> list[Row] | None:
        """The rows of vectors in which nothing is wrong; None for anything else."""
        if (document := _decoded(_MANY, body)) is None:
            return None
        vectors = document.features
        given = _given(document.client_ids)
        ids = given if given is not None else [None] * len(vectors)
        if not 0 < len(vectors) == len(ids) <= self.max_rows or repeated(body, document, "", 1 if given is None else 2):
            return None
        if (rows := self._rows(vectors, [f"/features/{index}" for index in range(len(vectors))], body)) is None:
            return None
        for index, (row, client_id) in enumerate(zip(rows, ids, strict=True)):
            row.client_id = read_client_id(client_id, f"/client_ids/{index}", row.errors)
        return rows

    def _rows(self, vectors: list[msgspec.Raw], pointers: list[str], body: bytes) -> list[Row] | None:
        """Rows of the vectors of a body, null as NaN; None where one has another length or a category that is no whole number.

        Each list of numbers is freed before the next one is read: the memory that one of them needs stays in the processor's cache.
        """
        block = np.empty((len(vectors), len(self.features.names)))
        nulls, size = False, self._packer.size
        for index, vector in enumerate(vectors):
            values = _decoded(_NUMBERS, vector)
            if values is None or len(values) != block.shape[1]:
                return None
            try:
                self._packer.pack_into(block.data, index * size, *(_without_null(values) if nulls else values))
            except struct.error:  # the first null; where one is, more will be
                nulls = True
                self._packer.pack_into(block.data, index * size, *_without_null(values))
        codes = block.take(self._code_positions, axis=1)
        if np.count_nonzero(np.floor(codes) < codes):
            return None
        # a line of the log has no line break within, nor the tab that fills its room, and is no longer than it need be
        kept = len(body) <= MAX_NUMBER_BYTES * block.size and not (b"\n" in body or b"\r" in body or b"\t" in body)
        sent = vectors if kept else [None] * len(vectors)
        return [Row(pointer, vector=row, sent=raw) for pointer, row, raw in zip(pointers, block, sent, strict=True)]

    def _explained(self, body: bytes) -> ServiceError:
        """What is wrong with the body of a batch that cannot be decoded."""
        return explained(body, lambda document: [error for row in self._batch(document, body) for error in row.errors])

    def _batch(self, document: Any, body: bytes) -> Iterator[Row]:
        """The rows of a document of `body`, whose items may not be decoded yet."""
        errors = frame_errors(document, "", ("applications", "features", "client_ids"))
        if errors:
            raise invalid(errors)
        given = [name for name in ("applications", "features") if document.get(name) is not None]
        if len(given) != 1:
            raise invalid([Invalid("", "expected exactly one of applications, features")])
        name = given[0]
        items, ids = document[name], document.get("client_ids")
        if not isinstance(items, list):
            raise invalid([Invalid(f"/{name}", f"expected an array, got {kind(items)}")])
        if len(items) > self.max_rows:
            raise ServiceError(413, f"/{name} has {len(items)} rows; at most {self.max_rows} are allowed in one request")
        if name == "applications" and ids is not None:
            raise invalid([Invalid("/client_ids", "goes with features; an application carries its own client_id")])
        if ids is None:
            ids = [None] * len(items)
        elif not isinstance(ids, list) or len(ids) != len(items):
            raise invalid([Invalid("/client_ids", f"expected an array of {len(items)} items, one for each row of features")])
        return self._batch_rows(name, items, ids, body)

    def _batch_rows(self, name: str, items: list[Any], ids: list[Any], body: bytes) -> Iterator[Row]:
        told = 0
        for index, (item, client_id) in enumerate(zip(items, ids, strict=True)):
            try:
                (document, text), (read_id, _) = read_item(item), read_item(client_id)
            except DECODE_ERRORS:
                raise self._explained(body) from None
            errors = Errors(most_errors(told))
            if name == "applications":
                row = self._row(document, f"/applications/{index}", ("application",), errors, text)
            else:
                row = Row(f"/features/{index}", errors=errors)
                row.client_id = read_client_id(read_id, f"/client_ids/{index}", row.errors)
                self._read_vector(document, row)
            yield row
            told += len(errors)

    def _single(self, document: Any, text: bytes | None = None) -> Row:
        return self._row(document, "", ("application", "features"), Errors(), text)

    def _row(self, document: Any, pointer: str, forms: tuple[str, ...], errors: Errors, text: bytes | None) -> Row:
        """The row of a document; no member may repeat in the text that it was decoded from, where that is given."""
        row = self._read_row(document, pointer, forms, errors)
        if text is not None and (found := repeated(text, document, pointer, 0 if errors else _members(document))):
            errors += found[: errors.room]
        return row

    def _read_row(self, document: Any, pointer: str, forms: tuple[str, ...], errors: Errors) -> Row:
        row = Row(pointer, errors=errors)
        row.errors += frame_errors(document, pointer, ("client_id", "history", *forms), errors.room)
        if not isinstance(document, dict):
            return row
        row.client_id = read_client_id(document.get("client_id"), f"{pointer}/client_id", row.errors)
        given = [name for name in forms if document.get(name) is not None]
        history = document.get("history")
        if len(given) != 1:
            row.errors.append(Invalid(pointer, f"expected {'exactly one of ' if len(forms) > 1 else ''}{', '.join(forms)}"))
            return row
        row.pointer = f"{pointer}/{given[0]}"
        if given[0] == "features":
            self._read_vector(document["features"], row)
        else:
            row.named = self._fields.read(document["application"], row.pointer, row.errors)
        if history is not None:
            if given[0] == "features":
                row.errors.append(Invalid(f"{pointer}/history", "expected an application beside it; a vector holds its history already"))
            else:
                row.history = self._history.read(history, f"{pointer}/history", row.errors, row.notes)
        return row

    def _read_vector(self, values: Any, row: Row) -> None:
        expected = len(self.features.names)
        if not isinstance(values, list):
            row.errors.append(Invalid(row.pointer, f"expected an array of {expected} numbers, got {kind(values)}"))
            return
        if len(values) != expected:
            row.errors.append(Invalid(row.pointer, f"expected {expected} numbers in the order of GET /model, got {len(values)}"))
            return
        row.vector = np.full(expected, math.nan)
        for position, value in enumerate(values):
            try:
                row.vector[position] = math.nan if value is None else read_number(value)
            except ValueError as error:
                row.errors.append(Invalid(f"{row.pointer}/{position}", str(error)))
                if not row.errors.room:
                    return
        if row.errors:
            return
        codes = row.vector[self._code_positions]
        for position in self._code_positions[np.floor(codes) < codes].tolist()[: row.errors.room]:
            row.errors.append(Invalid(f"{row.pointer}/{position}", "expected the whole number of a category, as GET /model lists it"))


def predictions(
    rows: Sequence[Row], pds: Sequence[float], decision: Decision, model_version: str, unknown: Sequence[float] | None = None
) -> list[dict[str, Any]]:
    """The answers for rows that were scored, with the present time.

    Parameters
    ----------
    unknown : the share of the model's gain in features of each row that are not known; without it no row is thin.
    """
    timestamp, threshold = now(), decision.threshold
    answers = []
    for row, pd, share, prediction_id in zip(rows, pds, unknown or [0.0] * len(rows), new_prediction_ids(len(rows)), strict=True):
        declined = decision.declines(pd, share)
        answers.append(
            {
                "prediction_id": prediction_id,
                "client_id": row.client_id,
                "prediction": int(declined),
                "decision": "DECLINE" if declined else "APPROVE",
                "probability": pd,
                "risk_level": decision.risk_level(pd),
                "threshold": threshold,
                "model_version": model_version,
                "timestamp": timestamp,
                "warnings": [*row.warnings, _thin(row, share)] if decision.is_thin(share) else row.warnings,
            }
        )
    return answers


def _thin(row: Row, share: float) -> dict[str, str]:
    return _warning("thin_application", row.pointer, f"features with {share:.0%} of the model's gain are not known; the score says little")


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
        log.error("a row could not be scored", extra={"row": index}, exc_info=error)
    return {"index": index, "client_id": row.client_id, "error": problem.to_dict()}


def now() -> str:
    """The present time, UTC, in ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def new_prediction_ids(count: int, clock: Callable[[], int] = time.time_ns) -> list[str]:
    """UUIDs of version 7 (RFC 9562, section 5.7): ordered by time, in milliseconds of a clock of nanoseconds, so an index on them stays compact."""
    stamp = f"{clock() // 1_000_000:012x}"
    head, noise = f"{stamp[:8]}-{stamp[8:]}-7", os.urandom(10 * count).hex()
    digits = (noise[start : start + 20] for start in range(0, 20 * count, 20))
    return [f"{head}{random[:3]}-{_VARIANT[random[3]]}{random[4:7]}-{random[7:19]}" for random in digits]


def example_request(features: FeatureTransform) -> dict[str, Any]:
    """An invented applicant with a history, as a client would send them."""
    return {"application": dict(features.table.example), "history": {table.name: list(table.examples) for table in features.history}}


def frame_errors(document: Any, pointer: str, allowed: tuple[str, ...], most: int = MOST_ERRORS) -> list[Invalid]:
    """What is wrong with an object that may have these members only."""
    if not isinstance(document, dict):
        return [Invalid(pointer, f"expected an object, got {kind(document)}")]
    unknown = islice((name for name in document if name not in allowed), most)
    return [Invalid(f"{pointer}/{escape(name)}", f"no such member; expected {', '.join(allowed)}") for name in unknown]


def read_client_id(value: Any, pointer: str, errors: list[Invalid]) -> str | None:
    """A client's id or None; U+0000 is refused, since PostgreSQL keeps no such text."""
    if value is None or (isinstance(value, str) and 0 < len(value) <= MAX_CLIENT_ID and encodable(value) and "\0" not in value):
        return value
    errors.append(Invalid(pointer, f"expected text of 1 to {MAX_CLIENT_ID} characters without U+0000, or null, got {kind(value)}"))
    return None


def _decoded(decoder: msgspec.json.Decoder[Document], text: bytes | msgspec.Raw) -> Document | None:
    """The document, where it is one of the decoder's kind."""
    try:
        return decoder.decode(text)
    except DECODE_ERRORS:
        return None


def _given(value: Document | msgspec.UnsetType) -> Document | None:
    return None if isinstance(value, msgspec.UnsetType) else value


def _members(document: dict[str, Any]) -> int:
    """How many members the objects of a document without errors have together, as far as they count."""
    members = len(document) + len(document.get("application") or ())
    if history := document.get("history"):
        members += len(history) + sum(sum(map(len, table)) for table in history.values() if table)
    return members


def _without_null(values: list[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


def _warn_of_fields(rows: list[Row], code: str, names: list[str], places: Mask, happened: str) -> None:
    """One warning for each row in which any place, shape (rows, names), is marked; it names the first MOST_NAMED of them."""
    if not np.count_nonzero(places):
        return
    for index in np.flatnonzero(places.any(axis=1)).tolist():
        found = [names[place] for place in np.flatnonzero(places[index]).tolist()]
        more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        rows[index].warnings.append(_warning(code, rows[index].pointer, f"{', '.join(found[:MOST_NAMED])}{more}: {happened}"))


def _warning(code: str, pointer: str, detail: str) -> dict[str, str]:
    return {"code": code, "pointer": pointer, "detail": detail}
