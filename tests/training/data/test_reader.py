"""The one reader: small tables of its own, as CSV and as Parquet."""

import bz2
import lzma
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from configs.settings import DataSettings
from features.schema import Column, Table
from training.data.errors import DataError
from training.data.source import Source, find_source
from training.data.validation import read_rows, read_table

TABLE = Table(
    "loans",
    "ID",
    (
        Column("COUNT", "integer", "", "count", 0, 9),
        Column("AMOUNT", "number", "", "currency", 0, 1000),
        Column("KIND", "category", "", categories=("cash", "card"), unknown=("XNA",)),
        Column("LOAN", "integer", "", "id", 0, 10**12),
    ),
    target="BAD",
)
ROWS = "ID,BAD,COUNT,AMOUNT,KIND,LOAN\n1,0,1,0.5,cash,7\n2,1,2,1.5,card,8\n"
BIG = 1787654321098765401


def csv(folder: Path, text: str | bytes) -> Source:
    (folder / "loans.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return find_source(folder, "loans")


def parquet(folder: Path, **columns: Any) -> Source:
    two = {"ID": [1, 2], "BAD": [0, 1], "COUNT": [1, 2], "AMOUNT": [0.5, 1.5], "KIND": ["cash", "card"], "LOAN": [7, 8]}
    pa.parquet.write_table(pa.table({**two, **columns}), folder / "loans.parquet")
    return find_source(folder, "loans")


def read(source: Source, table: Table = TABLE) -> tuple[dict[str, list[Any]], list[str]]:
    said: list[str] = []
    frame = read_table(source, table, with_target=True, say=said.append)
    return {name: [None if pd.isna(value) else value for value in frame[name].tolist()] for name in frame}, said


EXPECTED = {"ID": [1, 2], "BAD": [0, 1], "COUNT": [1, 2], "AMOUNT": [0.5, 1.5], "KIND": ["cash", "card"], "LOAN": [7, 8]}


@pytest.mark.parametrize(
    "text",
    [
        ROWS,
        ROWS.replace("\n", "\r\n"),
        ROWS.replace("\n", "\r"),
        ROWS.rstrip("\n"),
        "\ufeff" + ROWS,
        ROWS.replace("1,0,", " 1.0 ,0,"),
        ROWS.replace(",", ";"),
        ROWS.replace(",", "\t"),
        ROWS.replace(",", ";").replace(".", ","),
        ROWS.replace("cash", '"cash"'),
        ROWS.replace("\n2", "\n\n  \n2"),
        "row," + ROWS.replace("\n1", '\n"a\nb",1').replace("\n2", '\n"c, ""d""",2'),
    ],
)
def test_a_csv_file_is_read_however_it_is_written(text: str, tmp_path: Path) -> None:
    assert read(csv(tmp_path, text))[0] == EXPECTED


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"BAD": [False, True], "COUNT": pa.array([1, 2], pa.int8())},
        {"AMOUNT": [Decimal("0.5"), Decimal("1.5")], "ID": pa.array([Decimal(1), Decimal(2)], pa.decimal128(38, 0))},
        {"ID": [1.0, 2.0], "LOAN": pa.array([7, 8], pa.uint64()), "AMOUNT": pa.array([0.5, 1.5], pa.float32())},
        {"KIND": pa.array(["cash", "card"], pa.string_view())},
        {"KIND": pa.array(["cash", "card"], pa.large_string()).dictionary_encode()},
        {"KIND": pa.array([b"cash", b"card"], pa.binary())},
    ],
)
def test_a_parquet_file_is_read_whatever_its_types(columns: dict[str, Any], tmp_path: Path) -> None:
    assert read(parquet(tmp_path, **columns))[0] == EXPECTED


def test_what_was_read_is_told_with_its_size_and_form(tmp_path: Path) -> None:
    source = csv(tmp_path, ROWS.replace(",", ";").replace(".", ",") + ";;;;;\n;;;;;\n")
    assert read(source)[1] == [f"read {source}: 0.1 kB, separated by semicolons, decimal comma, 2 rows and 2 blank ones at the end"]


@pytest.mark.parametrize("ids", [[BIG, BIG + 1], [-1, 2**63 - 1]])
def test_ids_of_64_bits_stay_what_they_are(ids: list[int], tmp_path: Path) -> None:
    first, second = map(str, ids)
    assert read(csv(tmp_path, ROWS.replace("\n1", f"\n{first}").replace("\n2", f"\n{second}")))[0]["ID"] == ids
    assert read(parquet(tmp_path, ID=ids) if (tmp_path / "loans.csv").unlink() is None else None)[0]["ID"] == ids  # type: ignore[arg-type, func-returns-value]


@pytest.mark.parametrize("value", ["1.5", "1e3", "9223372036854775808", "007", "0x1F", "one", "1 000", "100.000", '"100,000"'])
def test_an_id_that_would_become_another_is_refused_with_its_line(value: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"loans\.csv, line 3: ID: expected a whole number that is kept exactly, got "):
        read(csv(tmp_path, ROWS.replace("\n2", f"\n{value}")))


@pytest.mark.parametrize(
    "ids", [[1.0, 2.5], [1.0, float(2**53)], [1.0, np.inf], pa.array([1, 2**63], pa.uint64()), pa.array([1, 2**24], pa.float32())]
)
def test_an_id_that_parquet_does_not_keep_is_refused_with_its_row(ids: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"loans\.parquet, row 2: ID: expected a whole number that is kept exactly"):
        read(parquet(tmp_path, ID=ids))


def test_ids_are_texts_where_the_schema_says_so(tmp_path: Path) -> None:
    table = Table("loans", "ID", TABLE.columns, target="BAD", key_type="text")
    assert read(csv(tmp_path, ROWS.replace("\n1", "\n007").replace("\n2", "\nA-7")), table)[0]["ID"] == ["007", "A-7"]
    with pytest.raises(DataError, match=r"line 2: ID 007 repeats in line 3"):
        read(csv(tmp_path, ROWS.replace("\n1", "\n007").replace("\n2", "\n007")), table)


def test_a_loan_id_beyond_what_a_float_keeps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"line 3: LOAN: expected an id of at most 9007199254740991, got {BIG}"):
        read(csv(tmp_path, ROWS.replace(",8", f",{BIG}")))
    by_loan = Table("months", "LOAN", TABLE.columns)
    with pytest.raises(DataError, match=rf"line 3: LOAN: expected an id of at most 9007199254740991, got {BIG}"):
        read_rows(csv(tmp_path, ROWS.replace(",8", f",{BIG}")), by_loan)


def test_an_id_is_found_again_anywhere_in_the_file(tmp_path: Path) -> None:
    rows = "".join(f"{number},{number % 2},1,1.5,cash,1\n" for number in range(10, 30_000))
    text = ROWS.replace("\n1,", '\n"1",') + rows + "2,1,2,1.5,card,8\n"
    with pytest.raises(DataError, match=r"loans\.csv, line 3: ID 2 repeats in line 29994; expected each once$"):
        read(csv(tmp_path, text))


@pytest.mark.parametrize("word", ["NA", "nan", "NaN", "NULL", "N/A", "None", "\\N"])
def test_words_for_missing_are_missing_and_told(word: str, tmp_path: Path) -> None:
    for old, name in (("0.5", "AMOUNT"), ("cash", "KIND"), ("1,0.5", "COUNT"), ("7", "LOAN")):
        values, said = read(csv(tmp_path, ROWS.replace(old, word + old.removeprefix("1") if old == "1,0.5" else word)))
        assert values[name] == [None, EXPECTED[name][1]]
        told = [f"warning: {tmp_path}/loans.csv: {name}: 1 rows hold a word such as NA, nan or NULL; they count as missing"]
        assert said[1:] == (told if name != "LOAN" else [])


def test_booleans_are_numbers_where_whole_numbers_belong(tmp_path: Path) -> None:
    assert read(csv(tmp_path, ROWS.replace("1,0.5", "True,0.5").replace("2,1.5", "false,1.5")))[0]["COUNT"] == [1, 0]
    assert read(csv(tmp_path, ROWS.replace("1,1,1", "1,False,1").replace("2,1,2", "2,True,2")))[0]["BAD"] == [0, 1]
    with pytest.raises(DataError, match="AMOUNT: expected a number, got 'true'"):
        read(csv(tmp_path, ROWS.replace("0.5", "true")))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.replace("0.5", "inf"), "line 2: AMOUNT: expected a finite number, got inf"),
        (lambda t: t.replace("1.5", "1e999"), "line 3: AMOUNT: expected a finite number, got inf"),
        (lambda t: t.replace("1,0.5", "1.5,0.5"), "line 2: COUNT: expected a whole number, got 1.5"),
        (lambda t: t.replace("1.5", "much"), "line 3: AMOUNT: expected a number, got 'much'"),
        (lambda t: t.replace("1.5", '"1.5, cash, and the rest of a row"'), "line 3: AMOUNT: expected a number, got 32 characters of text"),
        (lambda t: t.replace("1.5", '"x\ny"').replace("2,1", "\n2,1"), "line 4: AMOUNT: expected a number, got 3 characters of text"),
        (lambda t: t.replace("2,1,", "2,5,"), "line 3: BAD: expected 0 or 1, got 5"),
        (lambda t: t.replace("2,1,", "2,,"), "line 3: BAD: expected 0 or 1, got a missing value"),
        (lambda t: t.replace("2,1,", "2,0,"), "BAD is 0 in every row; expected both 0 and 1"),
        (lambda t: t.replace("\n2,", "\n,"), "line 3: ID is missing; expected a value in each row"),
        (lambda t: t.replace("\n2,", "\n1,"), "line 2: ID 1 repeats in line 3"),
        (lambda t: t.replace("\n2,", "\n,,,,,\n2,"), "line 3: ID is missing"),
        (lambda t: t.replace("card,8", "card"), "line 3: expected 6 values, as many as there are columns, got 5"),
        (lambda t: t.replace("2,1,2,1.5,card,8", '"2,1,2,1.5,card,8"'), "line 3: the row is one quoted field, as spreadsheets write it"),
        (lambda t: '"' + t.replace("\n", '"\n"'), "its first line is one quoted field"),
        (lambda t: t.replace("card", '"card'), "line 3: a quoted field does not end"),
        (lambda t: t[: t.index("\n") + 1], "has no rows"),
        (lambda t: t.replace("AMOUNT", "amount"), "lacks columns: AMOUNT; it has them in another letter case"),
        (lambda t: t.replace("AMOUNT", "'AMOUNT'"), "lacks columns: AMOUNT; it has them in another letter case, or with spaces or quotes"),
        (lambda t: "\ufeff\ufeff" + t, "lacks columns: ID; it has them in another letter case, or with spaces or quotes"),
        (lambda t: "sep=,\n" + t, "begins with a line that only Excel reads"),
        (lambda t: t.encode("utf-7").replace(b"ID", b"+/v8-ID"), "UTF-7"),
        (lambda t: t.encode("utf-32"), "is text in UTF-32"),
        (lambda t: bz2.compress(t.encode()), "is packed by bzip2"),
        (lambda t: lzma.compress(t.encode()), "is packed by xz"),
        (lambda t: b"Rar!\x1a\x07" + t.encode(), "is a RAR archive"),
        (lambda t: b"SQLite format 3\0" + t.encode(), "is an SQLite database"),
        (lambda t: t.encode() + bytes(9), "is not text; expected CSV in UTF-8"),
        (lambda t: t.replace(",", "^"), "its first line is not separated by commas, semicolons, tabs or vertical bars"),
        (lambda t: t.replace(",", " "), "its first line is not separated by commas, semicolons, tabs or vertical bars"),
        (lambda t: t[t.index("\n") + 1 :], "lacks columns: .*is its first line the names of the columns"),
        (lambda t: t.replace("KIND", "AMOUNT,KIND").replace("c", "1,c"), "has more than one column AMOUNT"),
        (lambda t: t.replace(",", ";").replace("0.5", "1,500").replace("1.5", "2,500"), "line 2: AMOUNT has a comma that may be"),
        (lambda t: t.replace(",", ";").replace("0.5", "0,5"), "line 2: AMOUNT: expected a number, got 3 characters of text"),
        (lambda t: t.replace("cash", "c\xe9sh").encode("latin-1"), "line 2: KIND is not text in UTF-8"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_line(change: Callable[[str], str | bytes], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"loans\.csv.*{said}"):
        read(csv(tmp_path, change(ROWS)))


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"AMOUNT": ["a", "b"], "KIND": [1, 2]}, r"wrong type:\n  AMOUNT: expected numbers, got string\n  KIND: expected text, got int64"),
        ({"ID": ["1", "2"]}, "ID: expected whole numbers, got string"),
        ({"AMOUNT": [0.5, np.inf]}, "row 2: AMOUNT: expected a finite number, got inf"),
        ({"COUNT": [1, 2.5]}, "row 2: COUNT: expected a whole number, got 2.5"),
        ({"ID": [1, None]}, "row 2: ID is missing"),
        ({"ID": [3, 3]}, "row 1: ID 3 repeats in row 2"),
        ({"KIND": pa.array([b"cash", b"c\xe9"], pa.binary())}, "row 2: KIND: expected text in UTF-8, got other bytes"),
    ],
)
def test_what_parquet_holds_wrongly_is_named_with_its_row(columns: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"(?s)loans.parquet.*{said}"):
        read(parquet(tmp_path, **columns))


def test_a_value_past_the_first_part_is_read_as_text_without_loss(tmp_path: Path) -> None:
    rows = [f"{number},{number % 2},1,{number}.5,cash,1\n" for number in range(10, 40_000)]
    rows[30_000] = rows[30_000].replace("cash", "cash").replace("30010.5", "NA")
    source = csv(tmp_path, ROWS.splitlines(keepends=True)[0] + "".join(rows))
    values, said = read(source)
    assert values["ID"] == list(range(10, 40_000))
    assert [place for place, value in enumerate(values["AMOUNT"]) if value is None] == [30_000]
    assert sum(values["AMOUNT"][:30_000]) == sum(number + 0.5 for number in range(10, 30_010))
    assert "AMOUNT: 1 rows hold a word" in said[1]


def test_what_is_implausible_or_unseen_is_a_warning_with_its_count(tmp_path: Path) -> None:
    source = csv(tmp_path, ROWS.replace("cash", "gold").replace("1,0.5", "40,0.5").replace("card", "XNA"))
    assert [line.removeprefix(f"warning: {source}: ") for line in read(source)[1][1:]] == [
        "COUNT: 1 rows lie outside 0 to 9, from 40 to 40",
        "KIND: 1 rows hold values outside the schema, such as 'gold'",
    ]


def test_a_category_that_is_coded_in_another_way_is_one_error(tmp_path: Path) -> None:
    rows = "".join(f"{number},{number % 2},1,1.5,{number % 2},1\n" for number in range(30))
    source = csv(tmp_path, ROWS.splitlines(keepends=True)[0] + rows)
    with pytest.raises(DataError, match=r"KIND: 30 of 30 values are not in the schema, such as '0', '1'; the limit is 50% .*max_unseen"):
        read_table(source, TABLE, with_target=True, limits=DataSettings(max_unseen=0.5, max_missing_rise=0.5))
    said: list[str] = []
    read_table(source, TABLE, with_target=True, say=said.append, limits=DataSettings(max_unseen=1, max_missing_rise=0.5))
    assert "KIND: 30 rows hold values outside the schema" in said[1]


def test_a_number_of_another_unit_or_sign_is_one_error(tmp_path: Path) -> None:
    def rows(outside: int) -> str:
        return "".join(f"{number},{number % 2},{40 if number < outside else 1},1.5,cash,1\n" for number in range(30))

    head, limits = ROWS.splitlines(keepends=True)[0], DataSettings(max_unseen=0.5, max_missing_rise=0.5)
    source = csv(tmp_path, head + rows(16))
    with pytest.raises(DataError, match=r"COUNT: 16 of 30 values are implausible, from 40 to 40; the limit is 50% .*another unit or sign"):
        read_table(source, TABLE, with_target=True, limits=limits)
    said: list[str] = []
    read_table(csv(tmp_path, head + rows(15)), TABLE, with_target=True, say=said.append, limits=limits)
    assert "COUNT: 15 rows lie outside 0 to 9" in said[1]


def test_blanks_are_missing_in_every_kind_of_column(tmp_path: Path) -> None:
    values, said = read(csv(tmp_path, ROWS.replace("cash", "  ").replace("0.5", " ")))
    assert (values["KIND"][0], values["AMOUNT"][0]) == (None, None)
    assert len(said) == 1
