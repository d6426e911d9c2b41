"""Scoring of whole portfolios, larger than memory: chunk by chunk on this machine, or over the workers of a Dask cluster."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from features.history import History, Matrix
from features.transform import Applications
from serving.bundle import Bundle, find_in_store, read_bundle
from serving.files import whole_file
from serving.scorer import Scorer
from training.data import DataError, Source, find_source, read_chunks
from training.folder import HistoryFolder, history_sources

CHUNK = 20_000  # applications in memory at once, twice: one chunk is read while another is scored
WITH_HISTORY = 300_000  # the same where there is a history, whose tables are read through once for each chunk
AHEAD = 2  # chunks a worker of a cluster has waiting
ENDINGS = (".parquet", ".csv", ".csv.gz")
SAY_EVERY = 5.0  # seconds between two words on the progress
SCORES = pa.schema(
    [("key", pa.int64()), ("probability", pa.float64()), ("decision", pa.string()), ("risk_level", pa.string()), ("warnings", pa.int32())]
)

Say = Callable[[str], None]


class Chunk(NamedTuple):
    """Applications ready to be scored: their keys, feature matrix, and how many warnings each has before its score."""

    keys: NDArray[np.int64]
    matrix: Matrix
    warnings: NDArray[np.int64]


class Summary(NamedTuple):
    """What a run did."""

    applications: int
    declined: int
    seconds: float


def score(folder: Path, name: str, bundle: Bundle, out: Path, say: Say, *, threads: int = 1) -> Summary:
    """Score the applications of a table and write key, PD, decision, risk level and number of warnings to a file.

    The history tables of the folder count, as in training. The warnings are those of the application. The file appears when it is complete and not before; a file of that name is replaced.

    Parameters
    ----------
    name : application_train or application_test.
    out : ends in one of ENDINGS; the metadata of a Parquet file name the model and its threshold.
    threads : of the scoring; reading and the features of the next chunk run beside it.

    Raises
    ------
    DataError
        The table cannot be used, or has no rows.
    """
    source, scorer = find_source(folder, name), Scorer(bundle, threads)

    def scored() -> Iterator[pa.Table]:
        chunks = _chunks(folder, source, bundle, say)
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(next, chunks, None)
            while (chunk := coming.result()) is not None:
                coming = reader.submit(next, chunks, None)
                yield score_chunk(chunk, scorer)

    return _write(scored(), bundle, source, out, say)


def score_on_cluster(folder: Path, name: str, tag: tuple[str, str], out: Path, say: Say, *, scheduler: str) -> Summary:
    """As `score`, by the workers of a Dask cluster, one task for each row group of the Parquet file.

    Every worker needs this package, the folder under the same path, and the model in its store; each scores with one thread.

    Raises
    ------
    DataError
        As `score`, or the table is not one Parquet file.
    """
    import distributed

    bundle = read_bundle(find_in_store(*tag))
    source = find_source(folder, name)
    if source.path.suffix != ".parquet":
        raise DataError(f"{source} is not Parquet; a cluster reads row groups of {name}.parquet")
    groups = pa.parquet.read_metadata(source.path).num_row_groups

    def scored(client: distributed.Client) -> Iterator[pa.Table]:
        most = AHEAD * max(1, sum(client.nthreads().values()))
        waiting: deque[Any] = deque()
        for group in range(groups):
            waiting.append(
                client.submit(_score_row_group, folder.absolute(), source.path.name, group, (tag[0], bundle.version), pure=False)
            )
            if len(waiting) >= most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    with distributed.Client(scheduler, set_as_default=False) as client:
        return _write(scored(client), bundle, source, out, say)


def prepare_chunk(data: pa.Table, bundle: Bundle, name: str, history: Callable[[NDArray[Any]], History] | None = None) -> Chunk:
    """Keys, features and number of warnings of applications as they were read.

    Parameters
    ----------
    history : gives the history of the clients with these keys; without it that of none is known.

    Raises
    ------
    DataError
        A key is missing, not a whole number, or there twice.
    """
    table = bundle.features.table
    keys = data[table.key].to_numpy()
    if not np.all(np.isfinite(keys) & (keys % 1 == 0)):
        raise DataError(f"{name}: {table.key} is missing or not a whole number in some row")
    if len(np.unique(keys)) < len(keys):
        raise DataError(f"{name}: {table.key} repeats; expected each value once")
    numeric = np.column_stack([data[column.name].to_numpy() for column in table.numeric])
    applications = Applications(table, numeric, [data[column.name].to_pylist() for column in table.categorical])
    transformed = bundle.features.transform(applications, history(keys) if history else None)
    warnings = applications.implausible().sum(axis=1)
    warnings += np.bincount([unseen.row for unseen in transformed.unseen], minlength=len(keys)).astype(np.int64)
    for places in transformed.odd or ():
        warnings += places.any(axis=1)
    return Chunk(keys.astype(np.int64), transformed.matrix, warnings)


def score_chunk(chunk: Chunk, scorer: Scorer) -> pa.Table:
    """The rows of the answer, in order."""
    pds, unknown = scorer.pd(chunk.matrix), scorer.unknown(chunk.matrix)
    decision = scorer.bundle.decision
    declined = np.where(decision.declines(pds, unknown), "DECLINE", "APPROVE")
    levels = [decision.risk_level(pd) for pd in pds.tolist()]
    warnings = chunk.warnings + decision.is_thin(unknown)
    return pa.table([chunk.keys, pds, declined, levels, warnings.astype(np.int32)], schema=SCORES)


def _chunks(folder: Path, source: Source, bundle: Bundle, say: Say, row_groups: list[int] | None = None) -> Iterator[Chunk]:
    def history(keys: NDArray[Any]) -> History:
        return HistoryFolder(folder, keys, say).history()

    given = history if history_sources(folder) else None
    for data in read_chunks(source, bundle.features.table, WITH_HISTORY if given else CHUNK, row_groups):
        yield prepare_chunk(data, bundle, str(source), given)


def _write(scored: Iterator[pa.Table], bundle: Bundle, source: Source, out: Path, say: Say) -> Summary:
    start = told = time.monotonic()
    rows = declined = 0
    about = {"model_version": bundle.version, "threshold": repr(bundle.decision.threshold), "trained_on": bundle.trained_on}
    schema = SCORES.with_metadata(about)
    schema = schema.set(0, schema.field(0).with_name(bundle.features.table.key))
    with whole_file(out) as file, _writer(file, out.name, schema) as writer:
        for part in scored:
            writer.write_table(part.rename_columns(schema.names).cast(schema))
            rows += len(part)
            declined += int(np.count_nonzero(part["decision"].to_numpy() == "DECLINE"))
            if time.monotonic() - told > SAY_EVERY:
                told = time.monotonic()
                say(f"{rows:,} applications, {rows / (told - start):,.0f} a second")
        if not rows:
            raise DataError(f"{source} has no rows")
    return Summary(rows, declined, time.monotonic() - start)


@contextmanager
def _writer(file: Path, name: str, schema: pa.Schema) -> Iterator[Any]:
    """Writes tables as the ending of the name says."""
    if name.lower().endswith(".parquet"):
        with pa.parquet.ParquetWriter(file, schema) as writer:
            yield writer
        return
    compression = "gzip" if name.lower().endswith(".gz") else None
    with pa.output_stream(file, compression=compression) as stream, pa.csv.CSVWriter(stream, schema) as writer:
        yield writer


def _score_row_group(folder: Path, file: str, group: int, tag: tuple[str, str]) -> pa.Table:
    """What a worker does."""
    scorer = _scorer(*tag)
    chunks = _chunks(folder, Source(folder / file), scorer.bundle, logging.getLogger(__name__).warning, [group])
    return pa.concat_tables([score_chunk(chunk, scorer) for chunk in chunks])


@cache
def _scorer(name: str, version: str) -> Scorer:
    return Scorer(read_bundle(find_in_store(name, version)))
