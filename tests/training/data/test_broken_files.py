"""Every kind of file that cannot be read, and every command that reads: one sentence that names the file, and exit code 1."""

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

import serving.bundle
import serving.model_store
from features.schema import Table, history_tables
from training import portfolio, prepare
from training.cli import app
from training.data.errors import DataError
from training.data.history_folder import HistoryFolder
from training.home_credit.generator import Generator

pytestmark = pytest.mark.slow

STEM = "application_train"
COMMANDS = (
    "train",
    "score --table application_train --out {out}/scores.parquet",
    "fit-profile --out {out}/profile.json",
    "fit-profile --history --out {out}/profile.json",
    "select-features --out {out}/features.yaml",
    "explore",
    "compare",
    "interpret",
    "tune",
    "fidelity --out {out}",
    "drift-power",
)


class Content:
    """A good table in both formats."""

    def __init__(self, table: pa.Table) -> None:
        csv, parquet = io.BytesIO(), io.BytesIO()
        pa.csv.write_csv(table, csv)
        pa.parquet.write_table(table, parquet, write_page_checksum=True)
        self.csv, self.parquet = csv.getvalue(), parquet.getvalue()


Write = Callable[[Content], bytes]


def zipped(change: Callable[[bytes], bytes], method: int = zipfile.ZIP_DEFLATED) -> Write:
    def write(content: Content, stem: str = STEM) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            archive.writestr(f"{stem}.csv", content.csv)
        return change(file.getvalue())

    return write


def marked(local: int, central: int, value: int) -> Callable[[bytes], bytes]:
    """Change a byte of the headers of the one member of an archive."""

    def change(archive: bytes) -> bytes:
        changed = bytearray(archive)
        changed[local] = value
        changed[archive.index(b"PK\x01\x02") + central] = value
        return bytes(changed)

    return change


def with_hole(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[: middle - 100] + bytes(200) + content[middle + 100 :]


def with_last_line(change: Callable[[bytes], bytes]) -> Write:
    def write(content: Content) -> bytes:
        lines = content.csv.rstrip(b"\n").split(b"\n")
        return b"\n".join([*lines[:-1], change(lines[-1]), b""])

    return write


KINDS: dict[str, tuple[str, Write]] = {
    "empty": ("csv", lambda c: b""),
    "blank": ("csv", lambda c: b"\n \n"),
    "header": ("csv", lambda c: c.csv[: c.csv.index(b"\n") + 1]),
    "no header": ("csv", lambda c: c.csv[c.csv.index(b"\n") + 1 :]),
    "Git LFS": ("csv", lambda c: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
    "HTML": ("csv", lambda c: b"\n<!DOCTYPE html><html><body>Sign in</body></html>"),
    "JSON": ("csv", lambda c: b'[{"SK_ID_CURR": 1}]'),
    "UTF-16": ("csv", lambda c: c.csv.decode().encode("utf-16")),
    "UTF-16 without mark": ("csv", lambda c: c.csv.decode().encode("utf-16-le")),
    "Latin-1": ("csv", with_last_line(lambda line: line.replace(b" loans", b" loans \xe9").replace(b"Active", b"\xe9"))),
    "UTF-32": ("csv", lambda c: c.csv.decode().encode("utf-32")),
    "sep= of Excel": ("csv", lambda c: b"sep=,\n" + c.csv),
    "bzip2": ("csv", lambda c: bz2.compress(c.csv)),
    "xz": ("csv", lambda c: lzma.compress(c.csv)),
    "binary": ("csv", lambda c: bytes(range(256)) * 10),
    "zip as csv": ("csv", zipped(lambda archive: archive)),
    "gzip as csv": ("csv", lambda c: gzip.compress(c.csv)),
    "Parquet as csv": ("csv", lambda c: c.parquet),
    "quoted rows": ("csv", with_last_line(lambda line: b'"' + line.replace(b'"', b'""') + b'"')),
    "short row": ("csv", with_last_line(lambda line: line.rpartition(b",")[0])),
    "open quote": ("csv", with_last_line(lambda line: line.rpartition(b",")[0] + b',"1')),
    "text": ("csv", with_last_line(lambda line: b"x" + line)),
    "gzip cut short": ("csv.gz", lambda c: gzip.compress(c.csv)[:-20]),
    "gzip with a hole": ("csv.gz", lambda c: with_hole(gzip.compress(c.csv))),
    "csv as gzip": ("csv.gz", lambda c: c.csv),
    "zip cut short": ("csv.zip", zipped(lambda archive: archive[: len(archive) // 2])),
    "zip with a hole": ("csv.zip", zipped(with_hole)),
    "zip, stored, with a hole": ("csv.zip", zipped(with_hole, zipfile.ZIP_STORED)),
    "Deflate64": ("csv.zip", zipped(marked(8, 10, 9))),
    "password": ("csv.zip", zipped(marked(6, 8, 1))),
    "Git LFS as zip": ("csv.zip", lambda c: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
    "workbook": ("xlsx", zipped(lambda archive: archive)),
    "Parquet, empty": ("parquet", lambda c: b""),
    "Parquet cut short": ("parquet", lambda c: c.parquet[:-100]),
    "Parquet with a hole": ("parquet", lambda c: c.parquet[:200] + bytes(200) + c.parquet[400:]),
    "csv as Parquet": ("parquet", lambda c: c.csv),
}


def write(kind: str, content: Content, folder: Path, stem: str) -> None:
    ending, make = KINDS[kind]
    made = make(content, stem) if ending == "csv.zip" and kind != "Git LFS as zip" else make(content)  # type: ignore[call-arg]
    (folder / f"{stem}.{ending}").write_bytes(made)


@pytest.fixture(scope="module")
def applications() -> Content:
    frame = next(Generator.from_file().draw(60, seed=3))
    return Content(pa.Table.from_pandas(frame, preserve_index=False))


@pytest.fixture(scope="module")
def bureau() -> Content:
    table = history_tables()[0]
    columns: dict[str, pa.Array] = {table.key: pa.array(np.arange(60))}
    for column in table.columns:
        columns[column.name] = pa.array([column.categories[0]] * 60 if column.type == "category" else np.arange(60))
    return Content(pa.table(columns))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_names_the_file_that_it_cannot_read(
    command: str, kind: str, applications: Content, bureau: Content, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = SimpleNamespace(
        features=SimpleNamespace(table=table, names=None),
        version="v",
        trained_on="generated",
        reference={"features": {}},
        decision=SimpleNamespace(threshold=0.1),
    )
    monkeypatch.setattr(serving.model_store, "find_in_store", lambda *_: tmp_path)
    monkeypatch.setattr(serving.bundle, "read_bundle", lambda _: bundle)
    monkeypatch.setattr(portfolio, "Scorer", lambda *_: None)
    monkeypatch.setattr(portfolio, "prepare_chunk", lambda *_: None)
    monkeypatch.setattr(
        portfolio, "score_chunk", lambda *_: portfolio.SCORES.empty_table().rename_columns(["SK_ID_CURR", *portfolio.SCORES.names[1:]])
    )
    monkeypatch.setattr(prepare, "FeatureTransform", None)  # what was read is not learned from
    monkeypatch.setenv("CREDIT_HOME", str(tmp_path / "home"))
    data = tmp_path / "data"
    data.mkdir()
    write(kind, *((bureau, data, "bureau") if "--history" in command else (applications, data, STEM)))
    name, *options = command.format(out=tmp_path).split()
    result = CliRunner().invoke(app, [name, "--data", str(data), *options])
    assert (result.exit_code, type(result.exception)) == (1, SystemExit), result.exception
    assert "Traceback" not in result.output
    assert f"error: {data}" in result.output


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "header"])
def test_a_history_that_cannot_be_read_is_not_absent(kind: str, bureau: Content, tmp_path: Path) -> None:
    write(kind, bureau, tmp_path, "bureau")
    with pytest.raises(DataError) as refused:
        _ = HistoryFolder(tmp_path, np.arange(60), lambda _: None)["bureau"]
    assert str(refused.value).startswith(f"{tmp_path}/bureau.")
