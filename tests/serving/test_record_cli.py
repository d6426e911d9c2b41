"""What the commands over the record say where they cannot do their work."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import typer
from records import TIME, make_records, write_log
from running import Home, run_cli

from configs.settings import Settings
from monitoring.decision_log import reader
from monitoring.store.queries import Outcome
from serving.outcomes import read_csv
from serving.record_cli import export, import_outcomes, list_decisions, ship, write_csv, write_lines


@pytest.fixture
def environment(home: Home, tmp_path: Path) -> dict[str, str]:
    return {**home.environment, "CREDIT_HOME": str(tmp_path / "credit")}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["export", "--out", "/nonexistent/x.csv"], "--out is /nonexistent/x.csv, whose folder does not exist; make /nonexistent first"),
        (["export", "--out", "x.csv", "--until", "0001-01-01T00:00:00+14:00"], "expected a time between the years 1 and 9999 in UTC"),
        (["decisions", "--client", "x", "--limit", "100000000000000000000"], "Invalid value"),
    ],
)
@pytest.mark.model
def test_what_cannot_be_done_is_told_in_a_sentence(command: list[str], said: str, environment: dict[str, str]) -> None:
    result = run_cli(command, environment)
    assert result.returncode != 0
    assert said in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("variable", "value", "command", "said"),
    [
        ("CREDIT_STORE__URL", "sqlite:////etc/passwd/store.db", ["store", "upgrade"], "the file of the store cannot be made"),
        ("CREDIT_STORE__URL", "postgresql://u:hidden@localhost:port/db", ["store", "upgrade"], "URL"),
        (
            "CREDIT_STORE__URL",
            "postgresql://u@127.0.0.1:1/db?password=hidden",
            ["store", "upgrade"],
            "postgresql+psycopg://127.0.0.1/db cannot",
        ),
        ("CREDIT_HOME", "/etc/passwd", ["ship", "--once"], "Not a directory"),
        ("CREDIT_HOME", "/etc/passwd", ["verify-log"], "Not a directory"),
    ],
)
@pytest.mark.model
def test_a_wrong_place_is_told_in_a_sentence(variable: str, value: str, command: list[str], said: str, environment: dict[str, str]) -> None:
    result = run_cli(command, {**environment, variable: value})
    assert result.returncode == 1
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert "hidden" not in result.stderr


def test_ship_once_ends_though_decisions_are_made_meanwhile(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    end = reader.sync_to_end

    def busy(folder: Path) -> tuple[int, int]:
        write_log(folder, make_records(2))
        return end(folder)

    monkeypatch.setattr(reader, "sync_to_end", busy)
    write_log(settings.log_folder, make_records(3))
    ship(once=True)
    ship(once=True)
    assert capsys.readouterr().out == "5 lines shipped\n2 lines shipped\n"


IDS = ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)", "\tx", "\rx", "\nx", "\uff1d1", "'", "'=1", "''", "it's", "c", "a=b", " =1", 'q"=,', "1"]


def exported(identifiers: list[str]) -> list[dict[str, Any]]:
    """Rows as the store gives them to an export."""
    records = make_records(len(identifiers))
    names = ("prediction_id", "model_version", "probability", "threshold", "decision", "risk_level", "latency_ms", "request_id")
    rows = []
    for record, client_id in zip(records, identifiers, strict=True):
        members = json.loads(record)
        line = json.dumps({**members, "client_id": client_id})
        outcome = {"defaulted": True, "observed_at": TIME}
        rows.append({**{name: members[name] for name in names}, "client_id": client_id, "time": TIME, "line": line, **outcome})
    return rows


def test_no_cell_of_an_export_begins_like_a_formula_and_an_import_reads_what_was_sent() -> None:
    file = io.StringIO(newline="")
    assert write_csv(file, iter(exported(IDS))) == len(IDS)
    cells = list(csv.reader(io.StringIO(file.getvalue(), newline="")))
    assert not [cell for row in cells for cell in row if cell[:1] in {"=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"}]
    assert [row[cells[0].index("client_id")] for row in cells[1:4]] == ["'=HYPERLINK(1)", "'+1", "'-1"]
    back = io.StringIO(newline="")
    writer = csv.writer(back)
    writer.writerow(["client_id", "defaulted"])
    writer.writerows([row[cells[0].index("client_id")], "1"] for row in cells[1:])
    back.seek(0)
    read = [one.client_id if isinstance(one, Outcome) else one for _, one in read_csv(back, TIME)]
    assert read == IDS


def test_an_export_of_json_lines_is_exact() -> None:
    file = io.StringIO()
    write_lines(file, iter(exported(IDS)))
    assert [json.loads(line)["client_id"] for line in file.getvalue().splitlines()] == IDS


def test_what_export_wrote_is_imported_once_it_is_filled_in(settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(settings.log_folder, make_records(4))
    ship(once=True)
    file = tmp_path / "decisions.csv"
    export(file)
    with file.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    for row, outcome in zip(rows, ("1.0", "False", "", ""), strict=True):
        row["defaulted"] = outcome
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    capsys.readouterr()
    import_outcomes(file)
    import_outcomes(file)
    said = capsys.readouterr().out
    assert "2 stored, 0 repeated, 0 corrected, 0 unknown, 0 invalid, 2 without an outcome yet\n" in said
    assert "0 stored, 2 repeated" in said
    export(file)
    with file.open(newline="") as opened:
        assert [row["defaulted"] for row in csv.DictReader(opened)] == ["True", "False", "", ""]
    import_outcomes(file)
    assert "0 stored, 2 repeated, 0 corrected, 0 unknown, 0 invalid, 2 without an outcome yet\n" in capsys.readouterr().out


def test_exported_json_lines_are_imported_once_they_are_filled_in(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_log(settings.log_folder, make_records(4))
    ship(once=True)
    file = tmp_path / "decisions.jsonl"
    export(file)
    import_outcomes(file)
    assert capsys.readouterr().out.endswith("0 stored, 0 repeated, 0 corrected, 0 unknown, 0 invalid, 4 without an outcome yet\n")
    records = [json.loads(line) for line in file.read_text().splitlines()]
    records[0]["outcome"], records[1]["outcome"] = {"defaulted": True}, {"defaulted": False, "observed_at": TIME.isoformat()}
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    import_outcomes(file)
    assert "2 stored, 0 repeated, 0 corrected, 0 unknown, 0 invalid, 2 without an outcome yet\n" in capsys.readouterr().out
    for ending in (".jsonl", ".JSONL", ".csv"):  # what the store holds comes back as it was
        again = tmp_path / f"again{ending}"
        export(again)
        import_outcomes(again)
        assert "0 stored, 2 repeated, 0 corrected, 0 unknown, 0 invalid, 2 without" in capsys.readouterr().out
    list_decisions("c1", 10)
    listed = tmp_path / "listed.jsonl"
    listed.write_text(capsys.readouterr().out)
    import_outcomes(listed)
    assert "0 stored, 1 repeated, 0 corrected, 0 unknown, 0 invalid\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["outcomes.csv", "outcomes.jsonl"])
@pytest.mark.parametrize("content", ["client_id,defaulted\n".encode("utf-16"), b"\x1f\x8b\x08\x00\xff", b"client_id,defaulted\n\xe9,1\n"])
def test_outcomes_that_are_not_utf_8_are_told_in_a_sentence(
    name: str, content: bytes, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(typer.Exit):
        import_outcomes(tmp_path / name)
    assert capsys.readouterr().err == f"error: {tmp_path / name}: the file is not UTF-8 text; save it as UTF-8, uncompressed\n"


@pytest.mark.parametrize("home", ["a b", "a%20b", "a?b=c", "a#b", "it's", 'a "b" $c;&'])
def test_the_log_and_the_store_lie_under_a_home_of_any_name(home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "homes" / home
    monkeypatch.setenv("CREDIT_HOME", str(folder))
    write_log(folder / "logs", make_records(2))
    ship(once=True)
    export(tmp_path / "all.csv")
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 3
    assert {path.name for path in folder.iterdir()} >= {"logs", "store.db"}
    assert [path.name for path in folder.parent.iterdir()] == [home]


def test_an_export_goes_to_a_file_only(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(typer.Exit):
        export(tmp_path / "folder.csv")
    assert not settings.home.exists()
