"""Tables written to a file in the format of its name."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet


@contextmanager
def open_writer(file: Path, name: str, schema: pa.Schema) -> Iterator[Any]:
    """A pyarrow writer of tables with this schema: Parquet, CSV, or CSV packed by gzip, as the ending of `name` says."""
    if name.lower().endswith(".parquet"):
        with pa.parquet.ParquetWriter(file, schema) as writer:
            yield writer
        return
    compression = "gzip" if name.lower().endswith(".gz") else None
    with pa.output_stream(file, compression=compression) as stream, pa.csv.CSVWriter(stream, schema) as writer:
        yield writer
