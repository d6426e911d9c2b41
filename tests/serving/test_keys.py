import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from configs.settings import load_settings
from serving import keys
from serving.errors import ServiceError
from serving.keys import KeyRing, KeysError, create_key, read_keys, required_keys, revoke_key


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "keys.json"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes of the file are seen at once."""
    monkeypatch.setattr(keys, "RECHECK_SECONDS", 0)


def bearer(token: str) -> bytes:
    return f"Bearer {token}".encode()


def test_a_key_opens_by_either_header(path: Path) -> None:
    token = create_key(path, "tests", None)
    ring = KeyRing(path)
    assert ring
    assert ring.check(bearer(token), None) == ring.check(None, token.encode()) == token.split("_")[1]
    assert ring.check(b"bearer " + token.encode(), None)


@pytest.mark.parametrize(
    "change",
    [
        lambda token: token[:-1],
        lambda token: token + "x",
        lambda token: token.replace("cs_", "xx_"),
        lambda token: "cs_00000000_" + token.split("_", 2)[2],
        lambda token: token.split("_", 2)[2],
        lambda token: "",
        lambda token: "é_ü_\x00",
        lambda token: "cs__",
    ],
)
def test_anything_else_does_not(path: Path, change: Callable[[str], str]) -> None:
    token = create_key(path, "tests", None)
    ring = KeyRing(path)
    with pytest.raises(ServiceError, match="expected a valid key") as caught:
        ring.check(bearer(change(token)), None)
    assert caught.value.status == 401
    with pytest.raises(ServiceError):
        ring.check(None, None)
    with pytest.raises(ServiceError):
        ring.check(b"Basic " + token.encode(), None)


def test_the_file_holds_hashes_for_its_owner_only(path: Path) -> None:
    token = create_key(path, "tests", None)
    assert token.split("_", 2)[2] not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert [item.name for item in path.parent.iterdir()] == ["keys.json"]


def test_an_expired_key_does_not_open(path: Path) -> None:
    token = create_key(path, "tests", timedelta(seconds=-1))
    with pytest.raises(ServiceError):
        KeyRing(path).check(bearer(token), None)


@pytest.mark.usefixtures("impatient")
def test_a_revoked_key_stops_opening_and_the_others_go_on(path: Path) -> None:
    first, second = create_key(path, "a", None), create_key(path, "b", timedelta(days=1))
    ring = KeyRing(path)
    ring.check(bearer(first), None)
    revoke_key(path, first.split("_")[1])
    with pytest.raises(ServiceError):
        ring.check(bearer(first), None)
    ring.check(bearer(second), None)
    assert KeyRing(path)


@pytest.mark.usefixtures("impatient")
def test_a_new_key_opens_without_a_restart(path: Path) -> None:
    create_key(path, "a", None)
    ring = KeyRing(path)
    ring.check(bearer(create_key(path, "b", None)), None)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text("{")])
def test_a_lost_or_broken_file_lets_nobody_in(path: Path, damage: Callable[[Path], object]) -> None:
    token = create_key(path, "a", None)
    ring = KeyRing(path)
    damage(path)
    with pytest.raises(ServiceError):
        ring.check(bearer(token), None)


def test_no_file_is_no_keys(path: Path) -> None:
    assert read_keys(path) == {}
    assert not KeyRing(path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 1, "keys": [{}]}'])
def test_a_file_of_something_else_is_refused(path: Path, content: str) -> None:
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(KeysError, match="is not a file of keys"):
        KeyRing(path)
    path.write_text(json.dumps({"format": 2, "keys": []}))
    with pytest.raises(KeysError, match="format 2; expected 1"):
        KeyRing(path)


def test_keys_are_required_where_there_are_some_and_they_are_not_switched_off(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDIT_KEYS_FILE", str(path))
    assert required_keys(load_settings()) is None
    token = create_key(path, "a", None)
    assert required_keys(load_settings())
    revoke_key(path, token.split("_")[1])
    assert required_keys(load_settings()), "a file of revoked keys is no file without keys"
    monkeypatch.setenv("CREDIT_AUTH", "disabled")
    assert required_keys(load_settings()) is None


def test_an_unknown_key_cannot_be_revoked(path: Path) -> None:
    with pytest.raises(KeysError, match="there is no key abc"):
        revoke_key(path, "abc")
