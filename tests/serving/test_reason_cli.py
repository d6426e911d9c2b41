import json
from pathlib import Path

import httpx
import pytest
from running import Home, Server, run_cli


@pytest.fixture
def application(tmp_path: Path) -> Path:
    file = tmp_path / "application.json"
    file.write_text('{"application": {"AMT_CREDIT": 450000, "EXT_SOURCE_2": 0.01}, "language": "fr"}')
    return file


def test_an_application_in_a_file_is_explained(home: Home, application: Path) -> None:
    result = run_cli(["explain", str(application)], home.environment)
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["explanation"]["concepts"]
    assert all("joué" in reason["text"] for reason in answer["reasons"])


@pytest.mark.parametrize(
    ("text", "said"), [("{", "not valid UTF-8 JSON"), ('{"application": {"A": 1}}', "/application/A: no such"), (None, "cannot be read")]
)
def test_a_file_that_cannot_be_explained_is_named(home: Home, tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "wrong.json"
    if text:
        file.write_text(text)
    result = run_cli(["explain", str(file)], home.environment)
    assert result.returncode == 1
    assert said in result.stderr
    assert "wrong.json" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.service
def test_the_reasons_of_a_recorded_decision_are_those_that_were_given(home: Home, server: Server, application: Path) -> None:
    given = httpx.post(f"{server.url}/explain", content=application.read_bytes(), headers={"Content-Type": "application/json"}).json()
    environment = {**home.environment, "CREDIT_HOME": str(server.log.parent / "credit")}
    result = run_cli(["reasons", given["prediction_id"]], environment)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {
        **{name: given[name] for name in ("prediction_id", "decision", "model_version", "reasons")}, "given": True,
    }  # fmt: skip
    result = run_cli(["reasons", "01a2048f-65ec-7468-814c-b56ecd0b1a45"], environment)
    assert result.returncode == 1
    assert "neither the store nor the decision log" in result.stderr
