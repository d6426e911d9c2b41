"""What the commands over the record say where they cannot do their work."""

from pathlib import Path

import pytest
from records import make_records, write_log
from running import Home, run_cli

from configs.settings import Settings
from monitoring import lines
from serving.record_cli import ship


@pytest.fixture
def environment(home: Home, tmp_path: Path) -> dict[str, str]:
    return {**home.environment, "CREDIT_HOME": str(tmp_path / "credit")}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["export", "--out", "/nonexistent/x.csv"], "No such file or directory: '/nonexistent/x.csv.partial'"),
        (["export", "--out", "x.csv", "--until", "0001-01-01T00:00:00+14:00"], "expected a time that there is in UTC"),
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
    end = lines.sync_to_end

    def busy(folder: Path) -> tuple[int, int]:
        write_log(folder, make_records(2))
        return end(folder)

    monkeypatch.setattr(lines, "sync_to_end", busy)
    write_log(settings.log_folder, make_records(3))
    ship(once=True)
    ship(once=True)
    assert capsys.readouterr().out == "5 lines shipped\n2 lines shipped\n"
