import gzip
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from training.data.errors import DataError
from training.data.source import Source, find_optional, find_source, fingerprint, is_generated
from training.home_credit.generator import generate

TABLE = "bureau"
Write = Callable[[Path], None]


def in_zip(name: str, member: str) -> Write:
    def write(folder: Path) -> None:
        with zipfile.ZipFile(folder / name, "a") as archive:
            archive.writestr(member, "x")

    return write


def as_file(name: str) -> Write:
    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(gzip.compress(b"x") if name.endswith(".gz") else b"x")

    return write


FORMS = {
    "bureau.parquet": as_file("bureau.parquet"),
    "bureau.csv": as_file("bureau.csv"),
    "Bureau.CSV": as_file("Bureau.CSV"),
    "bureau.csv.gz": as_file("bureau.csv.gz"),
    "all.zip/data/bureau.csv": in_zip("all.zip", "data/bureau.csv"),
    "ALL.ZIP/BUREAU.csv": in_zip("ALL.ZIP", "BUREAU.csv"),
    "windows.zip/data\\bureau.csv": in_zip("windows.zip", "data\\bureau.csv"),
}
ALIKE = {
    "bureau.xlsx": as_file("bureau.xlsx"),
    "bureau (1).csv": as_file("bureau (1).csv"),
    "bureau.csv.bz2": as_file("bureau.csv.bz2"),
    "bureau.snappy.parquet": as_file("bureau.snappy.parquet"),
    "bureau.csv": as_file("bureau.csv/part-0.csv"),
    "bureau": as_file("bureau/part-0.parquet"),
    "all.zip/bureau.parquet": in_zip("all.zip", "bureau.parquet"),
    "all.zip/bureau.zip": in_zip("all.zip", "bureau.zip"),
    "all.zip/data\\bureau.parquet": in_zip("all.zip", "data\\bureau.parquet"),
    "bureau.zip": in_zip("bureau.zip", "export.csv"),
    **{
        name: as_file(name)
        for name in (
            "bureau",
            "BUREAU.tgz",
            "bureau.json",
            "bureau.sas7bdat",
            "bureau.csv.lz4",
            "bureau.csv~",
            "bureau - Copy.csv",
            "bureau copy.csv",
        )
    },
}


@pytest.mark.parametrize("name", FORMS)
def test_a_table_is_found_in_every_form(name: str, tmp_path: Path) -> None:
    FORMS[name](tmp_path)
    source = find_source(tmp_path, TABLE)
    assert str(source) == str(tmp_path / name)
    assert source.head(9) == b"x"


def test_a_table_that_is_not_there_may_be_optional(tmp_path: Path) -> None:
    for name in ("bureau_balance.csv", "bureau.md", "bureau.png", "notes.txt", "._bureau.csv"):
        as_file(name)(tmp_path)
    (tmp_path / "bureau").mkdir()
    assert find_optional(tmp_path, TABLE) is None
    with pytest.raises(DataError, match=r"has no bureau\.parquet, bureau\.csv, bureau\.csv\.gz or zip archive with bureau\.csv"):
        find_source(tmp_path, TABLE)
    with pytest.raises(DataError, match=r"no-such is not a folder; expected the folder with bureau\.csv"):
        find_optional(tmp_path / "no-such", TABLE)


@pytest.mark.parametrize("name", ALIKE)
def test_a_table_in_another_form_is_named_and_not_absent(name: str, tmp_path: Path) -> None:
    ALIKE[name](tmp_path)
    with pytest.raises(DataError) as refused:
        find_optional(tmp_path, TABLE)
    assert str(refused.value).startswith(f"{tmp_path / name} cannot be read as the table bureau; expected bureau.parquet")


@pytest.mark.parametrize("name", ["POS-CASH-balance.csv", "pos cash balance.csv", "PosCashBalance.parquet", "POS_CASH_balance (2).csv"])
def test_a_name_of_other_separators_is_named_and_not_absent(name: str, tmp_path: Path) -> None:
    as_file(name)(tmp_path)
    with pytest.raises(DataError, match=r"cannot be read as the table POS_CASH_balance; expected POS_CASH_balance\.parquet"):
        find_optional(tmp_path, "POS_CASH_balance")


def test_an_archive_that_holds_a_table_twice_is_refused(tmp_path: Path) -> None:
    in_zip("all.zip", "bureau.csv")(tmp_path)
    with pytest.warns(UserWarning, match="Duplicate name"):
        in_zip("all.zip", "bureau.csv")(tmp_path)
    with pytest.raises(DataError, match="has more than one file of the table bureau"):
        find_optional(tmp_path, TABLE)


def test_a_folder_in_an_archive_is_not_the_table(tmp_path: Path) -> None:
    in_zip("all.zip", "bureau.csv/")(tmp_path)
    assert find_optional(tmp_path, TABLE) is None


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "bureau.csv")
    with pytest.raises(DataError, match=r"bureau\.csv is a pipe or a device; expected a file"):
        find_optional(tmp_path, TABLE)


@pytest.mark.parametrize("name", [name for name in FORMS if name != "bureau.csv"])
def test_two_files_of_a_table_are_named(name: str, tmp_path: Path) -> None:
    for one in ("bureau.csv", name):
        FORMS[one](tmp_path)
    with pytest.raises(DataError) as refused:
        find_optional(tmp_path, TABLE)
    assert "has more than one file of the table bureau" in str(refused.value)
    assert all(str(tmp_path / one) in str(refused.value) for one in ("bureau.csv", name))


def test_a_broken_archive_hides_no_other_and_no_table(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK nonsense")
    with pytest.raises(DataError, match=r"a\.zip cannot be read: .* remove it, if it holds no bureau"):
        find_optional(tmp_path, TABLE)
    in_zip("b.zip", "bureau.csv")(tmp_path)
    assert find_source(tmp_path, TABLE) == Source(tmp_path / "b.zip", "bureau.csv")


def test_the_fingerprint_names_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("1")
    (tmp_path / "c").write_text("2")
    marks = [fingerprint([Source(tmp_path / name)]) for name in "abc"]
    assert marks[0] == marks[1] != marks[2]


def test_generated_folders_are_marked(tmp_path: Path) -> None:
    assert not is_generated(tmp_path)
    generate(tmp_path, 10, seed=0, history=False)
    assert is_generated(tmp_path)
