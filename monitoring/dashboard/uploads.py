"""Applications in an uploaded file: CSV, or JSON lines. Every line is read before any is scored."""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from monitoring.dashboard.form import Field
from monitoring.spreadsheet import shield

CLIENT = "client_id"
MEMBERS = {CLIENT, "application", "history"}
CALL_ROWS, CALL_BYTES = 500, 8_000_000  # of one call of /predict/batch


class Line(NamedTuple):
    """An application, and the line of the file on which it begins."""

    number: int
    body: dict[str, Any]


class Problem(NamedTuple):
    """Why a line cannot be scored.

    Attributes
    ----------
    field : the column or the JSON pointer; empty if the whole line is meant.
    code : `problem.CODE` of the catalogue; empty for a sentence of the API in `detail`.
    """

    number: int
    field: str
    code: str
    detail: str = ""


class Upload(NamedTuple):
    """The lines that can be sent, and the problems of the others."""

    lines: list[Line]
    problems: list[Problem]


def read_upload(name: str, content: bytes, fields: Sequence[Field], key: str) -> Upload:
    """Read a file.

    Parameters
    ----------
    name : of the file; the ending `.csv` says that it is CSV, all others are read as JSON lines.
    key : the column that names the applicant, beside `client_id`.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        return Upload([], [Problem(line, "", "not_utf8")])
    upload = Upload([], [])
    lines = _csv(text, fields, key, upload.problems) if name.lower().endswith(".csv") else _json_lines(text, key, upload.problems)
    upload.lines.extend(lines)
    if not upload.lines and not upload.problems:
        upload.problems.append(Problem(1, "", "empty"))
    return upload


def calls(lines: Sequence[Line]) -> Iterator[tuple[list[Line], bytes]]:
    """The bodies of /predict/batch for all lines, each with its lines."""
    part: list[Line] = []
    written: list[bytes] = []
    size = 0
    for line in lines:
        text = json.dumps(line.body, ensure_ascii=False).encode()
        if part and (len(part) >= CALL_ROWS or size + len(text) > CALL_BYTES):
            yield part, _body(written)
            part, written, size = [], [], 0
        part.append(line)
        written.append(text)
        size += len(text)
    if part:
        yield part, _body(written)


def as_csv(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A CSV file in which no text is a formula."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(heads)
    writer.writerows([shield(value) for value in row] for row in rows)
    return file.getvalue()


def _body(written: Sequence[bytes]) -> bytes:
    return b'{"applications":[' + b",".join(written) + b"]}"


def _csv(text: str, fields: Sequence[Field], key: str, problems: list[Problem]) -> Iterator[Line]:
    known = {field.name: field for field in fields}
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    heads: list[str] = []
    try:
        for row in reader:
            if not row:
                continue
            if not heads:
                heads = [head.strip() for head in row]
                problems += _problems_of_heads(heads, {*known, CLIENT, key})
                if problems:
                    return
            elif len(row) != len(heads):
                problems.append(Problem(reader.line_num, "", "columns", f"{len(row)} / {len(heads)}"))
            elif (body := _row(dict(zip(heads, row, strict=True)), known, key, reader.line_num, problems)) is not None:
                yield Line(reader.line_num, body)
    except csv.Error as error:
        problems.append(Problem(reader.line_num, "", "not_csv", str(error)))


def _delimiter(text: str) -> str:
    """The one of comma, semicolon and tab that the first line has most of."""
    first = text.partition("\n")[0]
    return max((",", ";", "\t"), key=first.count)


def _problems_of_heads(heads: Sequence[str], known: set[str]) -> list[Problem]:
    unknown = [Problem(1, head, "unknown_column") for head in heads if head not in known]
    twice = [Problem(1, head, "twice") for head in sorted(set(heads)) if heads.count(head) > 1]
    return unknown + twice


def _row(cells: Mapping[str, str], known: Mapping[str, Field], key: str, number: int, problems: list[Problem]) -> dict[str, Any] | None:
    application: dict[str, Any] = {}
    client, bad = None, False
    for name, cell in cells.items():
        value = cell.strip()
        if not value:
            continue
        if name in (CLIENT, key):
            client = value if client is None or name == CLIENT else client
        elif known[name].type == "category":
            application[name] = value
        else:
            converted = _number(value, known[name])
            if converted is None:
                problems.append(Problem(number, name, f"not_{known[name].type}", value[:50]))
                bad = True
            application[name] = converted
    return None if bad else {"application": application, **({CLIENT: client} if client else {})}


def _number(text: str, field: Field) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    if not math.isfinite(value):
        return None
    if field.type == "integer":
        return int(value) if value.is_integer() else None
    return value


def _json_lines(text: str, key: str, problems: list[Problem]) -> Iterator[Line]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)
        except (ValueError, RecursionError) as error:
            problems.append(Problem(number, "", "not_json", str(error)[:150]))
            continue
        if not isinstance(document, dict):
            problems.append(Problem(number, "", "not_object"))
        elif "application" in document:
            unknown = sorted(set(document) - MEMBERS)
            problems += [Problem(number, name, "unknown_member") for name in unknown]
            if not unknown:
                yield Line(number, document)
        else:
            client = document.pop(CLIENT, document.get(key))
            named = {CLIENT: str(client)} if client is not None else {}
            yield Line(number, {"application": document, **named})
