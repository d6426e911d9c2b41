from pathlib import Path

import pytest
from sqlalchemy import make_url

from configs.settings import CONFIGS, Settings, SettingsError, load_settings


def test_defaults_need_nothing() -> None:
    settings = load_settings()
    assert settings.decision.false_negative_cost == 10
    assert settings.auth == "required"
    assert settings.home == Path(".credit")


def test_environment_overrides_the_users_file_and_that_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("decision: {false_negative_cost: 7, false_positive_cost: 2}\n")
    monkeypatch.setenv("CREDIT_CONFIG", str(file))
    monkeypatch.setenv("CREDIT_DECISION__FALSE_NEGATIVE_COST", "5")
    decision = load_settings().decision
    assert (decision.false_negative_cost, decision.false_positive_cost, decision.min_approval_rate) == (5, 2, 0)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("CREDIT_DECISION__FALSE_NEGATIVE_COST", "many", "decision.false_negative_cost .* got 'many'; input should be a valid number"),
        ("CREDIT_DECISION__FALSE_NEGATIVE_COST", "-1", "greater than 0"),
        ("CREDIT_DECISION__FALSE_NEGATIVE_COST", "inf", "finite"),
        ("CREDIT_DECISION__MIN_APPROVAL_RATE", "1.5", "less than or equal to 1"),
        ("CREDIT_DECISION__SPEED", "1", r"decision.speed \(CREDIT_DECISION__SPEED\): no such setting"),
        ("CREDIT_DECISIONS__SPEED", "1", "CREDIT_DECISIONS__SPEED: no such setting; expected one of auth"),
        ("CREDIT_LOG__DURABILITY", "often", "'off', 'flush', 'fsync' or 'database'"),
        ("CREDIT_LOG__RETENTION_DAYS", "0", "greater than 0"),
        ("CREDIT_LOG__RAW_FIELDS", "AMOUNT", "log"),
        (
            "CREDIT_STORE__URL",
            "mysql://u:secret@host/db",
            "store.url .*got a value that is not shown; .*begins with 'mysql'; expected one of",
        ),
        ("CREDIT_STORE__URL", "u:secret@host/db", "store.url .*begins with ''; expected one of"),
        ("CREDIT_STORE", "postgres://u:secret@host/db", "store"),
        ("DATABASE_URL", "nonsense", r"store.url \(DATABASE_URL\): .*not shown"),
        ("DATABASE_URL", "postgres://", "store.url .*not shown"),
        ("CREDIT_LOG__RETENTION_DAYS", "1e10", r"log.retention_days .*36500"),
        ("CREDIT_AUTH", "off", "'required' or 'disabled'"),
        ("CREDIT_DECISION", "3", "decision"),
        ("CREDIT_CONFIG", "/no/such.yaml", "CREDIT_CONFIG: /no/such.yaml is not a file"),
    ],
)
def test_a_wrong_setting_names_itself_and_what_was_expected(name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=said) as caught:
        load_settings()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("content", ["decision: [1, 2]", "a: b: c", "speed: 3"])
def test_a_broken_file_is_refused(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text(content)
    monkeypatch.setenv("CREDIT_CONFIG", str(tmp_path / "mine.yaml"))
    with pytest.raises(SettingsError):
        load_settings()


def test_the_store_is_where_its_setting_says_else_the_platform_else_under_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CREDIT_HOME", str(tmp_path))
    assert load_settings().store_url == f"sqlite:///{tmp_path}/store.db"
    monkeypatch.setenv("DATABASE_URL", "postgres://u:secret@host/db")
    assert load_settings().store_url == "postgresql+psycopg://u:secret@host/db"
    monkeypatch.setenv("CREDIT_STORE__URL", "sqlite:////tmp/other.db")
    assert load_settings().store_url == "sqlite:////tmp/other.db"


@pytest.mark.parametrize("name", ["a b", "a%20b", "a?b=c", "a#b", "ä'\"$&"])
def test_a_home_of_any_name_is_found_again_in_the_url_of_the_store(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from sqlalchemy import make_url

    monkeypatch.setenv("CREDIT_HOME", str(tmp_path / name))
    assert make_url(load_settings().store_url).database == str(tmp_path / name / "store.db")


def test_a_password_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDIT_STORE__URL", "postgresql://u:secret@host/db")
    assert "secret" not in load_settings().model_dump_json()
    monkeypatch.setenv("CREDIT_STORE__URL", "mysql://u:secret@host/db")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "secret" not in str(caught.value)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().auth = "disabled"  # type: ignore[misc]


def test_the_example_environment_file_names_real_settings() -> None:
    lines = (CONFIGS.parent / ".env.example").read_text().splitlines()
    names = [line.lstrip("# ").split("=")[0] for line in lines if "=" in line and line.lstrip("# ").startswith("CREDIT_")]
    assert names
    assert {name.removeprefix("CREDIT_").split("__")[0].lower() for name in names} <= {*Settings.model_fields, "config"}


@pytest.mark.parametrize(
    "name",
    [
        "CREDIT_SCORING_SERVICE_HOST",
        "CREDIT_SCORING_SERVICE_PORT",
        "CREDIT_SCORING_SERVICE_PORT_HTTP",
        "CREDIT_SCORING_PORT",
        "CREDIT_SCORING_PORT_3000_TCP",
        "CREDIT_SCORING_PORT_3000_TCP_PROTO",
        "CREDIT_SCORING_PORT_3000_TCP_PORT",
        "CREDIT_SCORING_PORT_3000_TCP_ADDR",
        "CREDIT_SCORING_CANARY_SERVICE_HOST",
    ],
)
def test_what_kubernetes_says_of_a_service_named_credit_scoring_is_no_setting(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "tcp://10.0.0.1:3000")
    load_settings()


@pytest.mark.parametrize(
    "name", ["CREDIT_SCORING", "CREDIT_SCORING_SERVICE", "CREDIT_SCORING_SERVICE_HOSTS", "CREDIT_SCORING_PORT_HTTP", "CREDIT_SERVICE_PORT"]
)
def test_what_only_looks_like_that_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(SettingsError, match=f"{name}: no such setting"):
        load_settings()


def test_the_password_of_the_store_may_stand_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "password"
    file.write_text("p@ss/w:rd%\n")
    monkeypatch.setenv("DATABASE_URL", "postgresql://credit@postgres/credit?sslmode=require")
    monkeypatch.setenv("CREDIT_STORE__PASSWORD_FILE", str(file))
    settings = load_settings()
    url = make_url(settings.store_url)
    assert (url.password, url.host, url.query["sslmode"]) == ("p@ss/w:rd%", "postgres", "require")
    assert "p@ss" not in settings.model_dump_json()


@pytest.mark.parametrize(("content", "said"), [(None, "cannot be read"), ("\n", "empty")])
def test_a_file_without_a_password_is_refused(content: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("DATABASE_URL", "postgresql://credit@postgres/credit")
    monkeypatch.setenv("CREDIT_STORE__PASSWORD_FILE", str(file))
    with pytest.raises(SettingsError, match=rf"store.password_file \(CREDIT_STORE__PASSWORD_FILE\): .*{said}"):
        load_settings()


def test_a_password_without_a_url_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_text("secret")
    monkeypatch.setenv("CREDIT_STORE__PASSWORD_FILE", str(tmp_path / "password"))
    with pytest.raises(SettingsError, match=r"store\.password_file .* the url beside it is not set"):
        load_settings()
