import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from features.aggregates import AGGREGATES
from features.expressions import EXPRESSIONS, WINDOWS
from features.history import Aggregator, History, Rows
from features.schema import Table, history_tables
from training.data import history_folder
from training.data.errors import DataError
from training.data.history_folder import Files, HistoryFolder

TABLES = {table.name: table for table in history_tables()}
KEYS = np.array([30, 10, 20])  # clients 0, 1, 2


def frame_of(table: Table, **columns: Any) -> pd.DataFrame:
    """A table of these columns; the others are missing."""
    rows = len(next(iter(columns.values())))
    names = dict.fromkeys([table.key, *(column.name for column in table.columns)])
    kinds = {column.name: "str" if column.type == "category" else "float64" for column in table.columns}
    return pd.DataFrame({name: pd.Series(columns.get(name, [None] * rows), dtype=kinds.get(name, "int64")) for name in names})


@pytest.fixture
def bureau() -> pd.DataFrame:
    return frame_of(
        TABLES["bureau"],
        SK_ID_CURR=[10, 20, 10, 99],
        SK_ID_BUREAU=[1, 2, 3, 4],
        AMT_CREDIT_SUM=[1.5, 2.5, None, 4.5],
        CREDIT_ACTIVE=["Active", "Closed", None, "odd"],
    )


def write_csv(frame: pd.DataFrame, folder: Path, name: str = "bureau") -> None:
    frame.to_csv(folder / f"{name}.csv", index=False)


def write_parquet(frame: pd.DataFrame, folder: Path, name: str = "bureau") -> None:
    frame.to_parquet(folder / f"{name}.parquet")


def write_zip(frame: pd.DataFrame, folder: Path, name: str = "bureau") -> None:
    with zipfile.ZipFile(folder / "all.zip", "a") as archive:
        archive.writestr(f"{name}.csv", frame.to_csv(index=False))


def ignore(_: str) -> None:
    pass


def column(rows: Rows, name: str) -> list[float]:
    return rows.values[[column.name for column in rows.table.columns].index(name)].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("write", [write_csv, write_parquet, write_zip])
@pytest.mark.parametrize("chunk", [1, 1000])
def test_every_form_of_the_file_gives_the_rows_of_the_clients(
    write: Callable[..., None], chunk: int, bureau: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_folder, "CHUNK", chunk)
    write(bureau, tmp_path)
    history = HistoryFolder(tmp_path, KEYS, ignore).history()
    rows = history.rows["bureau"]
    assert list(history.rows) == ["bureau"]
    assert rows.client.tolist() == [1, 2, 1]
    np.testing.assert_equal(column(rows, "AMT_CREDIT_SUM"), [1.5, 2.5, np.nan])
    np.testing.assert_equal(column(rows, "CREDIT_ACTIVE"), [0, 2, np.nan])
    assert history.given["bureau"].tolist() == [True] * 3


def test_months_find_their_client_through_their_loan(bureau: pd.DataFrame, tmp_path: Path) -> None:
    months = frame_of(TABLES["bureau_balance"], SK_ID_BUREAU=[3, 2, 4, 77], MONTHS_BALANCE=[-1, -2, -3, -4], STATUS=["0", "C", "X", "1"])
    write_parquet(months, tmp_path, "bureau_balance")
    said: list[str] = []
    assert list(HistoryFolder(tmp_path, KEYS, said.append)) == []
    assert "bureau_balance.parquet needs bureau, which is missing; the table is ignored" in said[0]
    write_parquet(bureau, tmp_path)
    rows = HistoryFolder(tmp_path, KEYS, ignore)["bureau_balance"]
    assert (rows.client.tolist(), column(rows, "MONTHS_BALANCE")) == ([1, 2], [-1, -2])


def test_a_loan_of_two_clients_is_refused(bureau: pd.DataFrame, tmp_path: Path) -> None:
    write_csv(frame_of(TABLES["bureau_balance"], SK_ID_BUREAU=[3], MONTHS_BALANCE=[-1], STATUS=["0"]), tmp_path, "bureau_balance")
    write_csv(bureau.assign(SK_ID_BUREAU=[1, 2, 1, 4]), tmp_path)  # of one client: that is not confused
    assert HistoryFolder(tmp_path, KEYS, ignore)["bureau_balance"].client.tolist() == []
    write_csv(bureau.assign(SK_ID_BUREAU=[1, 3, 3, 4]), tmp_path)
    with pytest.raises(
        DataError, match=r"bureau\.csv, line 3 and line 4: SK_ID_BUREAU 3 belongs to two clients; expected each loan to have one"
    ):
        _ = HistoryFolder(tmp_path, KEYS, ignore)["bureau_balance"]


def test_a_list_of_complete_histories_says_whose_history_is_known(bureau: pd.DataFrame, tmp_path: Path) -> None:
    pd.DataFrame({"SK_ID_CURR": [10, 20]}).to_csv(tmp_path / "complete_history_ids.csv", index=False)
    write_parquet(bureau[:3], tmp_path)
    write_parquet(frame_of(TABLES["POS_CASH_balance"], SK_ID_CURR=[10, 30], SK_ID_PREV=[1, 2]), tmp_path, "POS_CASH_balance")
    said: list[str] = []
    history = HistoryFolder(tmp_path, KEYS, said.append).history()
    assert list(history.rows) == ["bureau"]
    assert history.given["bureau"].tolist() == [False, True, True]
    assert "POS_CASH_balance.parquet has rows of clients that" in said[0]


def test_repeated_rows_count_once_and_are_told(bureau: pd.DataFrame, tmp_path: Path) -> None:
    write_parquet(pd.concat([bureau, bureau[:2], bureau[1:2]]), tmp_path)
    said: list[str] = []
    rows = HistoryFolder(tmp_path, KEYS, said.append)["bureau"]
    assert rows.client.tolist() == [1, 2, 1]
    assert any("3 rows repeat another row in every column; each counts once" in line for line in said)


def test_what_is_implausible_or_unseen_is_a_warning(bureau: pd.DataFrame, tmp_path: Path) -> None:
    write_parquet(bureau.assign(SK_ID_CURR=10, DAYS_CREDIT=[5.0, 6.0, None, -1.0]), tmp_path)
    said: list[str] = []
    _ = HistoryFolder(tmp_path, KEYS, said.append)["bureau"]
    assert [line.split("parquet: ")[1] for line in said] == [
        "CREDIT_ACTIVE: 1 rows hold values outside the schema, such as 'odd'",
        "DAYS_CREDIT: 2 rows lie outside -3000 to 0, from 5 to 6",
    ]


@pytest.mark.parametrize("write", [write_csv, write_parquet])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.drop(columns=["AMT_ANNUITY"]), "lacks columns: AMT_ANNUITY"),
        (lambda f: f.assign(AMT_ANNUITY="much"), "AMT_ANNUITY: expected (numbers, got large_string|a number, got 'much')"),
        (lambda f: f.assign(SK_ID_CURR=[10, None, 10, 10]), "(line 3|row 2): SK_ID_CURR is missing; expected a value in each row"),
        (lambda f: f.assign(DAYS_CREDIT=-1.5), "(line 2|row 1): DAYS_CREDIT: expected a whole number, got -1.5"),
        (
            lambda f: f.assign(SK_ID_CURR=[99, 99, 99, 20], AMT_ANNUITY=float("inf")),
            "(line 5|row 4): AMT_ANNUITY: expected a finite number, got inf",
        ),
    ],
)
def test_a_table_that_cannot_be_used_says_why(
    write: Callable[..., None], change: Callable[[pd.DataFrame], pd.DataFrame], said: str, bureau: pd.DataFrame, tmp_path: Path
) -> None:
    write(change(bureau), tmp_path)
    with pytest.raises(DataError, match=f"(?s)bureau.*{said}"):
        _ = HistoryFolder(tmp_path, KEYS, ignore)["bureau"]


def test_numbers_where_text_belongs_are_named(bureau: pd.DataFrame, tmp_path: Path) -> None:
    write_parquet(bureau.assign(CREDIT_ACTIVE=1), tmp_path)
    with pytest.raises(DataError, match=r"(?s)wrong type.*CREDIT_ACTIVE: expected text, got int64"):
        _ = HistoryFolder(tmp_path, KEYS, ignore)["bureau"]


def test_a_file_that_is_no_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "bureau.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(DataError, match=r"bureau.parquet cannot be read: it is damaged or cut short"):
        _ = HistoryFolder(tmp_path, KEYS, ignore)["bureau"]


def test_a_folder_without_history_and_an_empty_table_differ(bureau: pd.DataFrame, tmp_path: Path) -> None:
    pool = Aggregator(AGGREGATES, TABLES.values(), EXPRESSIONS, WINDOWS)
    place = [aggregate.name for aggregate in AGGREGATES].index("BUREAU_LOANS")
    assert np.isnan(pool.compute(HistoryFolder(tmp_path, KEYS, ignore).history())).all()
    write_csv(bureau[:0], tmp_path)
    assert pool.compute(HistoryFolder(tmp_path, KEYS, ignore).history())[:, place].tolist() == [0, 0, 0]


def test_files_are_told_with_the_applicants_they_match(bureau: pd.DataFrame, tmp_path: Path) -> None:
    write_csv(bureau, tmp_path)
    files = Files()
    said: list[str] = []
    for keys in (KEYS, np.array([11, 12])):
        _ = HistoryFolder(tmp_path, keys, ignore, files)["bureau"]
    files.tell(said.append)
    assert said == [f"read {tmp_path}/bureau.csv: 0.4 kB, 4 rows, of 2 of 5 applicants"]


def test_a_table_without_rows_is_a_warning(bureau: pd.DataFrame, tmp_path: Path) -> None:
    write_csv(bureau[:0], tmp_path)
    said: list[str] = []
    for applicants in (99, 100):
        files = Files()
        _ = HistoryFolder(tmp_path, np.arange(applicants), ignore, files)["bureau"]
        files.tell(said.append)
    warnings = [line for line in said if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"warning: {tmp_path}/bureau.csv has no rows; all applicants count as looked up")


@pytest.mark.parametrize(("matched", "word"), [(0, "none"), (4, "few"), (5, None)])
def test_a_history_of_few_or_none_of_the_applicants_is_a_warning(
    matched: int, word: str | None, bureau: pd.DataFrame, tmp_path: Path
) -> None:
    write_csv(pd.concat([bureau.assign(SK_ID_CURR=1000 + number) for number in range(10)]), tmp_path)
    files = Files()
    said: list[str] = []
    _ = HistoryFolder(tmp_path, np.arange(1000 + 10 - matched, 1100 + 10 - matched), ignore, files)["bureau"]
    files.tell(said.append)
    warning = f"warning: {tmp_path}/bureau.csv has rows of {word} of the applicants; is it their history, with the same ids?"
    assert said[1:] == ([warning] if word else [])


def test_ids_of_clients_and_loans_are_not_confused_with_their_neighbours(bureau: pd.DataFrame, tmp_path: Path) -> None:
    big = 1787654321098765401
    write_csv(bureau.assign(SK_ID_CURR=[big, big + 1, big, big + 2]), tmp_path)
    assert HistoryFolder(tmp_path, np.array([big + 1, big]), ignore)["bureau"].client.tolist() == [1, 0, 1]


@pytest.mark.data
def test_real_clients_have_the_same_bits_alone_and_together(real_data: Path) -> None:
    ids = pd.read_csv(real_data / "complete_history_ids.csv")["SK_ID_CURR"].to_numpy()[::10]
    pool = Aggregator(AGGREGATES, TABLES.values(), EXPRESSIONS, WINDOWS)
    history = HistoryFolder(real_data, ids, ignore).history()
    tables = dict(history.rows)
    whole = pool.compute(History(len(ids), tables, history.given))
    rng = np.random.default_rng(0)
    for number in range(0, len(ids), 50):
        alone = {}
        for name, rows in tables.items():
            own = rng.permutation(np.flatnonzero(rows.client == number))
            alone[name] = Rows(rows.table, np.zeros(len(own), dtype=np.intp), rows.values[:, own])
        one = History(1, alone, dict.fromkeys(alone, np.ones(1, dtype=bool)))
        assert pool.compute(one)[0].tobytes() == whole[number].tobytes()
