from pathlib import Path

import pytest
from running import call_cli, use_models
from small import small_training

from configs.settings import Settings
from serving.bundle import Bundle
from serving.journal import journal_path
from serving.model_store import champion, save_to_store
from training import results

pytestmark = pytest.mark.model
NAME = "credit_scoring"
MIRRORED: list[str] = []


@pytest.fixture(autouse=True)
def store(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a model store with a champion and a candidate."""
    MIRRORED.clear()
    monkeypatch.setattr(results, "put_on_record", lambda bundle, *_: MIRRORED.append(bundle.version))
    path = use_models(tmp_path / "models")
    save_to_store(bundle(0), NAME, promote_first="the first")
    save_to_store(bundle(1), NAME)
    return path


def bundle(seed: int) -> Bundle:
    return small_training(seed).bundle


def done(*arguments: str) -> str:
    result = call_cli([*arguments])
    assert result.returncode == 0, result.stderr
    return result.stdout


def refused(*arguments: str) -> str:
    result = call_cli([*arguments])
    assert result.returncode == 1, result.stdout
    assert result.stderr.startswith("error: ")
    return result.stderr


def test_versions_are_shown_with_their_state_and_history() -> None:
    first, second = bundle(0).version, bundle(1).version
    shown = done("models")
    rows = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
    assert rows[first].split()[1] == "champion"
    assert rows[second].split()[1] == "candidate"
    assert "generated data, 300" in rows[first]
    assert f"{bundle(0).metadata['metrics']['roc_auc']['value']:.4f}" in rows[first]
    assert f"a service that starts now serves {first}, the champion" in shown
    assert shown.splitlines()[-1].endswith("train     " + second + "  " + shown.splitlines()[-1].split()[-1])
    done("promote", second, "--reason", "it is better")
    again = done("models")
    assert f"promote   {second}" in again
    assert "it is better" in again
    assert {line.split()[0]: line.split()[1] for line in again.splitlines() if line.split()[:1] == [first]} == {first: "former"}


def test_a_promotion_is_said_and_mirrored() -> None:
    first, second = bundle(0).version, bundle(1).version
    assert f"{second} is the champion, after {first}; start the service again to serve it" in done(
        "promote", f"{NAME}:{second}", "--reason", "b"
    )
    assert "is the champion already; nothing changes" in done("promote", second, "--reason", "b")
    assert f"{first} is the champion, after {second}" in done("rollback")
    assert [second, second, first] == MIRRORED
    assert "has had no champion before" in refused("rollback", "--reason", "worse")
    assert "`credit-scoring models` lists those that it holds" in refused("promote", "0123456789abcdef", "--reason", "b")
    assert "expected a line of text" in refused("promote", second, "--reason", " ")
    assert champion(NAME) == first


def test_settings_that_name_a_version_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDIT_MODEL__VERSION", bundle(0).version)
    assert "CREDIT_MODEL__VERSION), which is served instead" in done("promote", bundle(1).version, "--reason", "b")
    assert f"because CREDIT_MODEL__VERSION is {bundle(0).version}" in done("models")


def test_another_rule_is_a_candidate_with_its_reason(store: Path) -> None:
    said = done("decide", "--costs", "5:1", "--reason", "losses fell")
    version = said.rpartition("credit-scoring promote ")[2].split()[0]
    assert "threshold        0.1000 -> 0.1667" in said
    assert champion(NAME) == bundle(0).version
    assert [version] == MIRRORED
    assert "losses fell" in journal_path(store, NAME).read_text().splitlines()[-1]
    done("promote", version, "--reason", "b")
    assert "0.1667" in done("models")
    assert "has the threshold 0.1667 and these costs already" in refused("decide", "--costs", "5:1", "--reason", "losses fell")
    for wrong in ([], ["--costs", "5:1", "--threshold", "0.2"]):
        assert "expected either --costs or --threshold" in refused("decide", *wrong, "--reason", "b")
    assert "expected a version of credit_scoring" in refused("decide", "--costs", "4:1", "--model", "other:v1", "--reason", "b")


def test_settings_that_act_at_training_are_told_where_they_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    version = done("decide", "--costs", "5:1", "--reason", "losses fell").rpartition("promote ")[2].split()[0]
    assert "acts at training" not in call_cli(["settings"]).stderr
    done("promote", version, "--reason", "b")
    told = call_cli(["settings"])
    assert "decision.false_negative_cost is 10.0, the model has 5.0; the setting acts at training only" in told.stderr
    assert told.stdout.startswith("{")
    monkeypatch.setenv("CREDIT_DECISION__FALSE_NEGATIVE_COST", "5")
    assert "acts at training" not in call_cli(["settings"]).stderr


def test_a_damaged_version_is_shown_as_such(store: Path) -> None:
    (store / NAME / bundle(1).version / "model.txt").write_text("half")
    assert f"{bundle(1).version}  damaged" in done("models")


def test_an_empty_store_says_what_to_do(tmp_path: Path) -> None:
    use_models(tmp_path / "empty")
    shown = done("models")
    assert "0 versions of credit_scoring" in shown
    assert "a service cannot start: the BentoML model store holds no model credit_scoring; run `make train` first" in shown


def test_a_store_of_an_earlier_release_says_why_it_serves_its_latest(store: Path) -> None:
    journal_path(store, NAME).unlink()
    (store / NAME / "latest").write_text(bundle(1).version)
    assert f"a service that starts now serves {bundle(1).version}, BentoML's latest, because none was ever promoted" in done("models")
    assert f"{bundle(0).version} is the champion, after {bundle(1).version}" in done("promote", bundle(0).version, "--reason", "b")
