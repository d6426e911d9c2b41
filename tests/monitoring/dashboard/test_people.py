import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from running import call_cli
from signing import FAST, PASSWORD
from sqlalchemy import Engine

from monitoring.dashboard.sign_in.database import PeopleError, open_database
from monitoring.dashboard.sign_in.passwords import fault_of
from monitoring.dashboard.sign_in.people import People, hashed
from monitoring.dashboard.sign_in.sessions import Sessions


@pytest.fixture
def engine(store_url: str) -> Engine:
    """The database of people, on SQLite and on PostgreSQL."""
    return open_database(store_url)


def test_people_sessions_and_attempts_are_kept_in_either_database(engine: Engine) -> None:
    now = [1_000_000.0]
    people, sessions = People(engine, lambda: now[0]), Sessions(engine, 60, 600, lambda: now[0])
    link = people.create("Anna", "analyst")
    assert people.invited(link) == "anna"
    assert people.stored_password("anna") is None
    assert people.choose_password(link, FAST.hash(PASSWORD)) == "anna"
    assert people.choose_password(link, "again") is None
    token = sessions.start("anna")
    person = sessions.find(hashed(token))
    assert person is not None
    assert (person.name, person.role) == ("anna", "analyst")
    assert sessions.find(token) is None
    assert [sessions.attempt("anna", "::1") for _ in range(6)] == [True] * 5 + [False]
    sessions.forgive("anna", "::1")
    assert sessions.attempt("anna", "::1")
    (listed,) = people.all()
    assert (listed.state, listed.last_sign_in) == ("active", now[0])
    now[0] += 61
    assert sessions.find(hashed(token)) is None
    engine.dispose()


def test_attempts_at_the_same_time_are_all_counted(engine: Engine) -> None:
    sessions = Sessions(engine, 60, 600)
    with ThreadPoolExecutor(8) as threads:
        allowed = list(threads.map(lambda _: sessions.attempt("anna", "::1"), range(20)))
    assert sum(allowed) <= 5
    assert not sessions.attempt("anna", "::1")
    engine.dispose()


def test_a_link_used_twice_at_once_works_once(engine: Engine) -> None:
    people = People(engine)
    link = people.create("anna", "admin")
    with ThreadPoolExecutor(4) as threads:
        names = list(threads.map(lambda number: people.choose_password(link, f"hash {number}"), range(4)))
    assert names.count("anna") == 1
    engine.dispose()


@pytest.mark.parametrize("name", ["", " anna", "an na", "é", "-anna", "a" * 65, "a\n"])
def test_a_name_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'people.db'}")
    with pytest.raises(PeopleError, match="is not a user name"):
        People(engine).create(name, "officer")
    engine.dispose()


@pytest.mark.parametrize(
    ("password", "fault"),
    [
        ("short", "too_short"),
        ("x" * 129, "too_long"),
        ("ababababababab", "too_simple"),
        ("I am anna, hello", "too_simple"),
        (PASSWORD, None),
    ],
)
def test_weak_passwords_are_named(password: str, fault: str | None) -> None:
    assert fault_of(password, "anna") == fault


def test_another_format_and_an_unreachable_database_are_refused_in_a_sentence(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'people.db'}"
    engine = open_database(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE dashboard_format SET version = 2")
    engine.dispose()
    with pytest.raises(PeopleError, match="has format 2; this release reads 1"):
        open_database(url)
    with pytest.raises(PeopleError, match="cannot be used"):
        open_database("postgresql+psycopg://x:secret@127.0.0.1:1/none")
    (tmp_path / "folder").mkdir()
    with pytest.raises(PeopleError, match="cannot be made"):
        open_database(f"sqlite:///{tmp_path / 'folder'}")


def test_the_file_of_people_is_private(tmp_path: Path) -> None:
    open_database(f"sqlite:///{tmp_path / 'home' / 'people.db'}").dispose()
    assert (tmp_path / "home" / "people.db").stat().st_mode & 0o777 == 0o600


def test_the_commands_manage_users(tmp_path: Path) -> None:
    environment = {"CREDIT_HOME": str(tmp_path / "home"), "CREDIT_DASHBOARD__PUBLIC_URL": "https://scoring.example"}

    def call(*arguments: str) -> tuple[int, str]:
        result = call_cli(["users", *arguments], environment)
        return result.returncode, result.stdout + result.stderr

    assert "invited" not in call("list")[1]
    code, link = call("create", "Anna", "--role", "auditor")
    assert code == 0
    assert re.fullmatch(r"https://scoring\.example/auth/welcome\?token=[\w-]{43}\n", link)
    assert re.match(r"anna +auditor +invited ", call("list")[1])
    assert call("create", "anna", "--role", "admin")[1] == "error: there is a user anna already; `users link anna` makes a new link\n"
    assert "expected one of officer, analyst, admin, auditor" in call("create", "bert", "--role", "boss")[1]
    assert call("link", "ANNA")[1] != link
    assert call("disable", "anna")[0] == 0
    assert " disabled " in call("list")[1]
    assert call("enable", "anna")[0] == 0
    for command in ("link", "disable", "enable"):
        assert call(command, "nobody") == (1, "error: there is no user nobody; `users list` shows all\n")
