"""Makes requests of the tables of a folder, and sends them to a running service."""

import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from features.schema import Column, Table, history_tables, load_schema
from serving.whole_files import whole_file
from training.aliases import Say
from training.data.errors import DataError
from training.data.fields import Part, fields_of, key_of
from training.data.history_folder import HistoryFolder, history_sources
from training.data.reader import TableReader, read_ids
from training.data.source import find_source
from training.data.writer import open_writer
from training.portfolio import KEYS, SCORES, Summary

EXACT = 2**53  # floats hold whole numbers below it exactly
AT_ONCE = 5_000  # applicants whose history is in memory at once
MOST_ROWS, MOST_BYTES = 1_000, 12_000_000  # of a call, below the limits of the service
KEY_VARIABLE = "SCORING_API_KEY"
PATIENCE = 120.0  # seconds; repeat a call for so long while the service is busy or away
WAIT, MOST_WAIT = 0.5, 10.0  # seconds before the first and before later repetitions
TIMEOUT = 60.0  # seconds for the answer to one call
BUSY = (429, 503, 504)

Progress = Callable[[int], None]


class Sendable(NamedTuple):
    """The body of a `POST /predict`, and the key of the applicant in the table."""

    key: int | str
    body: bytes


def requests_of(folder: Path, name: str, say: Say, *, limit: int | None = None, clients: Collection[str] = ()) -> Iterator[Sendable]:
    """The applicants of a table as request bodies, each with the history that the folder holds, in the order of the table.

    Parameters
    ----------
    name : application_train or application_test.
    limit : most applicants; None for all.
    clients : keys of the applicants to take; empty for all.

    Raises
    ------
    DataError
        A table cannot be used, or one of the clients is not in it.
    """
    table = load_schema()["application"]
    wanted, left = set(clients), limit
    source = find_source(folder, name)
    for part in TableReader(source, fields_of(table)).parts(AT_ONCE):
        keys = part.keys[table.key].tolist()
        chosen = [at for at, key in enumerate(keys) if not clients or str(key) in wanted][:left]
        wanted -= {str(keys[at]) for at in chosen}
        yield from _bodies(folder, table, part.take(np.array(chosen, dtype=np.intp)), say)
        left = None if left is None else left - len(chosen)
        if left == 0 or (clients and not wanted):
            return
    if wanted:
        raise DataError(f"{source} has no {table.key} {', '.join(sorted(wanted)[:5])}")


def rows_of(folder: Path, name: str) -> int:
    """The number of applicants in a table."""
    table = load_schema()["application"]
    return len(read_ids(find_source(folder, name), key_of(table))[0])


def _bodies(folder: Path, table: Table, part: Part, say: Say) -> Iterator[Sendable]:
    keys = part.keys[table.key]
    histories: list[dict[str, list[msgspec.Raw]]] = [{} for _ in keys]
    if len(keys) and history_sources(folder):
        found = HistoryFolder(folder, keys, say)
        for name in found:
            rows: list[dict[bytes, None]] = [{} for _ in keys]  # rows alike in every column count once
            of = next(one for one in history_tables() if one.name == name)
            for clients, some in found.parts(name):
                for client, row in zip(clients.tolist(), _named(some, of.columns), strict=True):
                    rows[client][msgspec.json.encode(row)] = None
            for history, own, complete in zip(histories, rows, found.complete.tolist(), strict=True):
                if complete:
                    history[name] = [msgspec.Raw(row) for row in own]
    for key, application, history in zip(keys.tolist(), _named(part, table.columns), histories, strict=True):
        body: dict[str, Any] = {"client_id": str(key), "application": application}
        yield Sendable(key, msgspec.json.encode(body | ({"history": history} if history else {})))


def _named(part: Part, columns: Sequence[Column]) -> Iterator[dict[str, Any]]:
    """The rows of a part as named values, without those that are not known."""
    values: list[list[Any]] = [
        part.texts[column.name].rows() if column.type == "category" else part.numbers[column.name].tolist() for column in columns
    ]
    names = [column.name for column in columns]
    for row in zip(*values, strict=True):
        yield {name: _plain(value) for name, value in zip(names, row, strict=True) if value is not None and value == value}  # noqa: PLR0124 - NaN


def _plain(value: str | float) -> str | float | int:
    """A whole number as an integer, as the service expects it for columns of that type; it reads back as the same float."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < EXACT else value


def calls(requests: Iterator[Sendable]) -> Iterator[list[Sendable]]:
    """The requests in groups, each small enough for one `POST /predict/batch`."""
    group: list[Sendable] = []
    size = 0
    for one in requests:
        if group and (len(group) == MOST_ROWS or size + len(one.body) > MOST_BYTES):
            yield group
            group, size = [], 0
        group.append(one)
        size += len(one.body) + 1
    if group:
        yield group


def score_by_service(server: str, folder: Path, name: str, out: Path, say: Say, *, progress: Progress, at_once: int = 1) -> Summary:
    """Send the applicants of a table to a running service, and write key, PD, decision, risk level and number of warnings to a file.

    An applicant whom the service refuses has no PD in the file, and a warning gives the reason. The file appears once it is complete.

    Parameters
    ----------
    progress : receives the number of applicants that every call adds.
    at_once : calls at a time.

    Raises
    ------
    DataError
        A table cannot be used, or the service refuses a call or stays away.
    """
    table, start, rows, declined = load_schema()["application"], time.monotonic(), 0, 0
    schema = SCORES.set(0, pa.field(table.key, KEYS[table.key_type]))
    with whole_file(out) as file, open_writer(file, out.name, schema) as writer:
        for group, predictions in send(server, calls(requests_of(folder, name, say)), at_once):
            for one, prediction in zip(group, predictions, strict=True):
                if error := prediction.get("error"):
                    say(f"warning: {table.key} {one.key} is not scored: {msgspec.json.encode(error).decode()[:300]}")
            scores = [
                {**{name: one.get(name) for name in schema.names[1:4]}, "warnings": len(one.get("warnings", ()))} for one in predictions
            ]
            writer.write_table(pa.Table.from_pylist([{table.key: one.key, **row} for one, row in zip(group, scores, strict=True)], schema))
            rows += len(group)
            declined += sum(row["decision"] == "DECLINE" for row in scores)
            progress(len(group))
        if not rows:
            raise DataError(f"{name} in {folder} has no rows")
    return Summary(rows, declined, time.monotonic() - start)


def send(server: str, groups: Iterator[list[Sendable]], at_once: int) -> Iterator[tuple[list[Sendable], list[dict[str, Any]]]]:
    """Send groups to a running service, `at_once` of them at a time; yields each with its predictions, in order.

    A call that meets a busy or absent service is repeated for PATIENCE seconds. If only its answer was lost, its decisions are recorded twice.

    Raises
    ------
    DataError
        The service refuses a call, or stays away.
    """
    import httpx

    key = os.environ.get(KEY_VARIABLE)
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    with httpx.Client(base_url=server, headers=headers, timeout=TIMEOUT) as client, ThreadPoolExecutor(at_once) as pool:
        while some := list(islice(groups, at_once)):
            yield from zip(some, pool.map(lambda group: _send(client, group), some), strict=True)


def _send(client: Any, group: list[Sendable]) -> list[dict[str, Any]]:
    """The predictions of one call."""
    import httpx

    body = b'{"applications":[' + b",".join(one.body for one in group) + b"]}"
    until, wait = time.monotonic() + PATIENCE, WAIT
    while True:
        try:
            answer = client.post("/predict/batch", content=body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            problem, after = f"{type(error).__name__}: {error}", 0.0
            if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
                raise DataError(f"--server is {str(client.base_url)!r}: {error}; expected a URL such as http://127.0.0.1:3000") from None
        else:
            if answer.status_code == 200:
                found: list[dict[str, Any]] = answer.json()["predictions"]
                return found
            problem = f"{answer.status_code} {_detail(answer)}"
            if answer.status_code not in BUSY:
                hint = f"; put an API key into {KEY_VARIABLE}" if answer.status_code in (401, 403) else ""
                raise DataError(f"{client.base_url} refused a call of {len(group)} applicants: {problem}{hint}")
            after = float(given) if (given := answer.headers.get("Retry-After", "")).isdigit() else 0.0
        if time.monotonic() + max(wait, after) > until:
            raise DataError(f"{client.base_url} did not answer for {PATIENCE:.0f} s; at last: {problem}")
        time.sleep(max(wait, after))
        wait = min(2 * wait, MOST_WAIT)


def _detail(answer: Any) -> str:
    """What the service says of a refusal, shortened."""
    try:
        return str(answer.json().get("detail", ""))[:300]
    except (ValueError, AttributeError):
        return str(answer.text)[:300]
