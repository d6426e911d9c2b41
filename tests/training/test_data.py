import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from features.schema import Table
from training.data import DataError, Source, find_source, fingerprint, is_generated, read_table, target_of, validate
from training.generator import Generator, generate


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return next(Generator.from_file().draw(300, seed=3))


def read(folder: Path, table: Table) -> pd.DataFrame:
    return read_table(find_source(folder, "application_train"), table, with_target=True)


def write_csv(frame: pd.DataFrame, folder: Path) -> None:
    frame.to_csv(folder / "application_train.csv", index=False)


def write_parquet(frame: pd.DataFrame, folder: Path) -> None:
    frame.to_parquet(folder / "application_train.parquet")


def write_zip(frame: pd.DataFrame, folder: Path) -> None:
    with zipfile.ZipFile(folder / "home-credit-default-risk.zip", "w") as archive:
        archive.writestr("application_train.csv", frame.to_csv(index=False))


@pytest.mark.parametrize("write", [write_csv, write_parquet, write_zip])
def test_every_form_of_the_file_gives_the_same_table(
    write: Callable[[pd.DataFrame, Path], None], frame: pd.DataFrame, table: Table, tmp_path: Path
) -> None:
    write(frame, tmp_path)
    result = read(tmp_path, table)
    assert {result[column.name].dtype.kind for column in table.numeric} == {"f"}
    for column in table.columns:
        same = (result[column.name] == frame[column.name]) | (result[column.name].isna() & frame[column.name].isna())
        assert same.all(), column.name
    assert target_of(result, table).tolist() == frame["TARGET"].tolist()


def test_missing_folder_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no-such is not a folder; expected the folder with application_train\.csv"):
        find_source(tmp_path / "no-such", "application_train")
    with pytest.raises(DataError, match=r"has no application_train.parquet, application_train.csv or zip archive"):
        find_source(tmp_path, "application_train")
    (tmp_path / "x.zip").write_bytes(b"PK nonsense")
    with pytest.raises(DataError, match=r"x.zip is not a readable zip archive"):
        find_source(tmp_path, "application_train")


def test_missing_columns_are_named(frame: pd.DataFrame, table: Table, tmp_path: Path) -> None:
    write_parquet(frame.drop(columns=["AMT_CREDIT", "TARGET"]), tmp_path)
    with pytest.raises(DataError, match=r"lacks columns: TARGET, AMT_CREDIT$"):
        read(tmp_path, table)
    (tmp_path / "application_train.parquet").unlink()
    write_csv(frame[["TARGET"]], tmp_path)
    with pytest.raises(DataError, match=r"lacks columns: SK_ID_CURR, .* and 116 more"):
        read(tmp_path, table)


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_wrong_types_are_named_with_an_example(
    write: Callable[[pd.DataFrame, Path], None], frame: pd.DataFrame, table: Table, tmp_path: Path
) -> None:
    write(frame.assign(AMT_CREDIT=["much", *frame["AMT_CREDIT"].astype(str)[1:]]), tmp_path)
    with pytest.raises(DataError, match="has columns of the wrong type:\n  AMT_CREDIT: expected numbers"):
        read(tmp_path, table)


def test_numbers_where_text_belongs_are_named(frame: pd.DataFrame, table: Table, tmp_path: Path) -> None:
    write_parquet(frame.assign(CODE_GENDER=1), tmp_path)
    with pytest.raises(DataError, match="CODE_GENDER: expected text, got int64"):
        read(tmp_path, table)


@pytest.mark.parametrize("content", [b"", b"PAR1 nonsense"])
def test_a_file_that_is_no_table_is_named(content: bytes, table: Table, tmp_path: Path) -> None:
    (tmp_path / "application_train.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"application_train.parquet cannot be read"):
        read(tmp_path, table)


def test_an_empty_csv_lacks_its_columns(table: Table, tmp_path: Path) -> None:
    (tmp_path / "application_train.csv").write_bytes(b"")
    with pytest.raises(DataError, match=r"lacks columns|cannot be read"):
        read(tmp_path, table)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.iloc[:0], "has no rows"),
        (lambda f: f.assign(TARGET=0), "TARGET is 0 in every row; expected both 0 and 1"),
        (lambda f: f.assign(TARGET=[2, *f["TARGET"][1:]]), "TARGET: expected 0 or 1; 1 rows differ, such as 2"),
        (lambda f: f.assign(TARGET=[None, *f["TARGET"][1:]]), "TARGET: expected no missing value"),
        (lambda f: f.assign(SK_ID_CURR=[7, 7, *f["SK_ID_CURR"][2:]]), "SK_ID_CURR: expected each value once; 2 rows differ, such as 7"),
        (lambda f: f.assign(SK_ID_CURR=[None, *f["SK_ID_CURR"][1:]]), "SK_ID_CURR: expected no missing value"),
        (
            lambda f: f.assign(CNT_CHILDREN=[0.5, *f["CNT_CHILDREN"][1:]]),
            "CNT_CHILDREN: expected whole numbers; 1 rows differ, such as 0.5",
        ),
        (
            lambda f: f.assign(AMT_CREDIT=[float("inf"), *f["AMT_CREDIT"][1:]]),
            "AMT_CREDIT: expected finite numbers; 1 rows differ, such as inf",
        ),
    ],
)
def test_a_table_that_cannot_be_used_says_why(
    change: Callable[[pd.DataFrame], pd.DataFrame], said: str, frame: pd.DataFrame, table: Table, tmp_path: Path
) -> None:
    write_parquet(change(frame), tmp_path)
    with pytest.raises(DataError, match=said):
        validate(read(tmp_path, table), table, "the table", with_target=True)


def test_what_is_implausible_or_unknown_is_a_warning(frame: pd.DataFrame, table: Table, tmp_path: Path) -> None:
    write_parquet(frame.assign(DAYS_BIRTH=[-99999, *frame["DAYS_BIRTH"][1:]], CODE_GENDER=["?", *frame["CODE_GENDER"][1:]]), tmp_path)
    assert validate(read(tmp_path, table), table, "the table", with_target=True) == [
        "CODE_GENDER: 1 rows hold values outside the schema, such as ?",
        "DAYS_BIRTH: 1 rows lie outside -29220 to -6570, from -99999 to -99999",
    ]


def test_the_fingerprint_names_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("1")
    (tmp_path / "c").write_text("2")
    marks = [fingerprint([Source(tmp_path / name)]) for name in "abc"]
    assert marks[0] == marks[1] != marks[2]


def test_generated_folders_are_marked(tmp_path: Path) -> None:
    assert not is_generated(tmp_path)
    generate(tmp_path, 10, seed=0)
    assert is_generated(tmp_path)
