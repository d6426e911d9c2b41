"""Scores portfolios larger than memory: chunk by chunk on this machine, or on the workers of a Dask cluster."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from configs.settings import DataSettings
from features.application import SIMPLE
from features.applications import Applications
from features.history import History, Matrix
from serving.bundle import Bundle, read_bundle
from serving.model_store import find_in_store
from serving.scorer import Scorer
from serving.whole_files import whole_file
from training.aliases import Say
from training.data.errors import DataError
from training.data.fields import Part, fields_of
from training.data.history_folder import Files, HistoryFolder, history_sources
from training.data.parquet_table import count_row_groups
from training.data.reader import TableReader
from training.data.source import Source, find_source
from training.data.validation import Validator
from training.data.writer import open_writer

CHUNK = 20_000  # applications in a chunk; one chunk is read while another is scored
WITH_HISTORY = 300_000  # the same for a folder with history, whose tables are read once for every chunk
AHEAD = 2  # chunks that wait for each worker of a cluster
SAY_EVERY = 5.0  # seconds between reports of progress
SCORES = pa.schema(
    [("key", pa.int64()), ("probability", pa.float64()), ("decision", pa.string()), ("risk_level", pa.string()), ("warnings", pa.int32())]
)
KEYS = {"integer": pa.int64(), "text": pa.string()}


class Chunk(NamedTuple):
    """Applications ready to be scored: keys, feature matrix, and the number of warnings of each, without those of its score."""

    keys: NDArray[Any]
    matrix: Matrix
    warnings: NDArray[np.int64]


class Summary(NamedTuple):
    """The counts of a run."""

    applications: int
    declined: int
    seconds: float


def score(folder: Path, name: str, bundle: Bundle, out: Path, say: Say, *, threads: int = 1, limits: DataSettings | None = None) -> Summary:
    """Score the applications of a table and write key, PD, decision, risk level and number of warnings to a file.

    The history tables of the folder are used, as in training. The warnings are those of the application, not of its history. The file
    appears once it is complete, and replaces a file of that name.

    Parameters
    ----------
    name : application_train or application_test.
    out : ends in one of `source.ENDINGS`; the metadata of a Parquet file name the model and its threshold.
    threads : that score; one more reads the next chunk and computes its features.
    limits : on unseen and missing values; None for no limit.

    Raises
    ------
    DataError
        A table cannot be used, or has no applications.
    """
    source, scorer = find_source(folder, name), Scorer(bundle, threads)
    whole = _Whole(folder, source, bundle, say, limits)

    def scored() -> Iterator[pa.Table]:
        chunks = whole.chunks()
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(next, chunks, None)
            while (chunk := coming.result()) is not None:
                coming = reader.submit(next, chunks, None)
                yield score_chunk(chunk, scorer)
        whole.finish()

    return _write(scored(), bundle, source, out, say)


def score_on_cluster(
    folder: Path, name: str, tag: tuple[str, str], out: Path, say: Say, *, scheduler: str, limits: DataSettings | None = None
) -> Summary:
    """As `score`, on the workers of a Dask cluster, with one task for each row group of the Parquet file.

    Each worker needs this package, the folder under the same path, and the model in its store. It scores with one thread.

    Raises
    ------
    DataError
        As `score`, or the table is not one Parquet file.
    """
    from training.cluster import connected

    bundle = read_bundle(find_in_store(*tag))
    source = find_source(folder, name)
    if not source.is_parquet:
        raise DataError(f"{source} is not Parquet; a cluster scores the row groups of {name}.parquet")
    whole = _Whole(folder, source, bundle, say, limits)
    groups = count_row_groups(source)

    def results(client: Any) -> Iterator[tuple[pa.Table, Validator, Files]]:
        most = AHEAD * max(1, sum(client.nthreads().values()))
        waiting: deque[Any] = deque()
        for group in range(groups):
            waiting.append(
                client.submit(_score_row_group, folder.absolute(), source.path.name, group, (tag[0], bundle.version), limits, pure=False)
            )
            if len(waiting) >= most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def scored(client: Any) -> Iterator[pa.Table]:
        for table, validator, files in results(client):
            whole.add(validator, files)
            yield table
        whole.finish()

    with connected(scheduler, set_as_default=False) as client:
        return _write(scored(client), bundle, source, out, say)


def prepare_chunk(part: Part, bundle: Bundle, history: Callable[[NDArray[Any]], History] | None = None) -> Chunk:
    """Compute the features of applications as they were read, and count their warnings.

    Parameters
    ----------
    history : gives the history of clients by their keys; without it nobody's history is known.
    """
    table = bundle.features.table
    keys = part.keys[table.key]
    numeric = np.column_stack([part.numbers[column.name] for column in table.numeric])
    applications = Applications(table, numeric, [part.texts[column.name].rows() for column in table.categorical])
    transformed = bundle.features.transform(applications, history(keys) if history else None)
    warnings = applications.implausible().sum(axis=1)
    warnings += np.bincount([unseen.row for unseen in transformed.unseen], minlength=len(keys)).astype(np.int64)
    for fields in transformed.odd or ():
        warnings += fields.any(axis=1)
    return Chunk(keys, transformed.matrix, warnings)


def score_chunk(chunk: Chunk, scorer: Scorer) -> pa.Table:
    """The scores of a chunk, with the columns of SCORES, in order."""
    pds, unknown = scorer.pd(chunk.matrix), scorer.unknown(chunk.matrix)
    decision = scorer.bundle.decision
    declined = np.where(decision.declines(pds, unknown), "DECLINE", "APPROVE")
    levels = [decision.risk_level(pd) for pd in pds.tolist()]
    warnings = chunk.warnings + decision.is_thin(unknown)
    schema = SCORES.set(0, pa.field("key", KEYS[scorer.bundle.features.table.key_type]))
    return pa.table([chunk.keys, pds, declined, levels, warnings.astype(np.int32)], schema=schema)


class _Whole:
    """Reads, checks and prepares the applications of a file, or of some of its row groups, chunk by chunk."""

    def __init__(self, folder: Path, source: Source, bundle: Bundle, say: Say, limits: DataSettings | None) -> None:
        self._folder, self._bundle, self._say, self._limits = folder, bundle, say, limits
        self._with_history = bool(history_sources(folder))
        self._reader = TableReader(source, fields_of(bundle.features.table))
        self.validator = Validator(bundle.features.table, unique=True)
        self.files = Files()

    def chunks(self, row_groups: Sequence[int] | None = None) -> Iterator[Chunk]:
        """The chunks, in order."""
        for part in self._reader.parts(WITH_HISTORY if self._with_history else CHUNK, row_groups):
            self.validator.add(part, self._reader)
            yield prepare_chunk(part, self._bundle, self._history if self._with_history else None)

    def add(self, validator: Validator, files: Files) -> None:
        """Add what a worker found in the next row groups."""
        self.validator.merge(validator)
        self.files.merge(files)
        self._reader.rows = self.validator.rows

    def finish(self) -> None:
        """Report what was read, and the warnings.

        Raises
        ------
        DataError
            A key repeats, or a column exceeds a limit.
        """
        warnings = self.validator.finish(self._reader, self._limits, _missing_in_training(self._bundle))
        self._say(f"read {self._reader}")
        self.files.tell(self._say)
        for warning in warnings:
            self._say(f"warning: {warning}")

    def _history(self, keys: NDArray[Any]) -> History:
        return HistoryFolder(self._folder, keys, self._say, self.files, self._limits).history()


def _missing_in_training(bundle: Bundle) -> dict[str, float]:
    """The share of rows that lacked a value in training, for each column that is a feature or the only operand of one."""
    made_of = {column.name: column.name for column in bundle.features.table.columns}
    made_of |= {derived.name: derived.columns[0] for derived in SIMPLE if len(derived.columns) == 1}
    return {made_of[name]: entry["missing"] for name, entry in bundle.reference["features"].items() if name in made_of}


def _write(scored: Iterator[pa.Table], bundle: Bundle, source: Source, out: Path, say: Say) -> Summary:
    start = reported = time.monotonic()
    rows = declined = 0
    about = {"model_version": bundle.version, "threshold": repr(bundle.decision.threshold), "trained_on": bundle.trained_on}
    schema = SCORES.with_metadata(about)
    schema = schema.set(0, pa.field(bundle.features.table.key, KEYS[bundle.features.table.key_type]))
    with whole_file(out) as file, open_writer(file, out.name, schema) as writer:
        for part in scored:
            writer.write_table(part.rename_columns(schema.names).cast(schema))
            rows += len(part)
            declined += int(np.count_nonzero(part["decision"].to_numpy() == "DECLINE"))
            if time.monotonic() - reported > SAY_EVERY:
                reported = time.monotonic()
                say(f"{rows:,} applications, {rows / (reported - start):,.0f} per second")
        if not rows:
            raise DataError(f"{source} has no rows")
    return Summary(rows, declined, time.monotonic() - start)


def _score_row_group(
    folder: Path, file: str, group: int, tag: tuple[str, str], limits: DataSettings | None
) -> tuple[pa.Table, Validator, Files]:
    """Score one row group, on a worker."""
    scorer = _scorer(*tag)
    whole = _Whole(folder, Source(folder / file), scorer.bundle, logging.getLogger(__name__).warning, limits)
    table = pa.concat_tables([score_chunk(chunk, scorer) for chunk in whole.chunks([group])])
    return table, whole.validator, whole.files


@cache
def _scorer(name: str, version: str) -> Scorer:
    return Scorer(read_bundle(find_in_store(name, version)))
