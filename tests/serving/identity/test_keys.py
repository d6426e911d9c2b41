import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from running import ROOT

from configs.settings import Settings, load_settings
from monitoring.service_log import LOGGER
from serving.errors import ServiceError
from serving.identity.key_ring import MARK, RECHECK_SECONDS, USED, KeyRing, last_uses, required_keys
from serving.identity.keys import MAX_BYTES, KeysError, create_key, read_keys, revoke_key, rotate_key
from serving.identity.principal import SCOPES


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Ring(KeyRing):
    """A ring that looks at its file every time, and counts failures."""

    def __init__(self, path: Path) -> None:
        self.failures = 0
        self.clock = Clock()
        super().__init__(path, self.fail, self.tick)

    def fail(self) -> None:
        self.failures += 1

    def tick(self) -> float:
        self.clock.now += RECHECK_SECONDS
        return self.clock.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "keys.json"


def bearer(token: str) -> bytes:
    return f"Bearer {token}".encode()


def status_of(ring: KeyRing, token: str) -> int:
    try:
        ring.check(bearer(token), None)
    except ServiceError as error:
        return int(error.status)
    return 200


def test_a_key_opens_by_either_header(path: Path) -> None:
    token = create_key(path, "tests", None)
    ring = KeyRing(path)
    assert ring.required
    assert ring.check(bearer(token), None) == ring.check(None, token.encode()) == (token.split("_")[1], "key", frozenset(SCOPES))
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
    assert status_of(KeyRing(path), create_key(path, "tests", timedelta(seconds=-1))) == 401
    assert status_of(KeyRing(path), create_key(path, "tests", timedelta(0))) == 401
    assert status_of(KeyRing(path), create_key(path, "tests", timedelta(hours=1))) == 200


def test_a_key_is_valid_until_the_moment_it_expires(path: Path) -> None:
    create_key(path, "tests", timedelta(days=1))
    (key,) = read_keys(path).values()
    assert key.expires
    assert key.is_valid(key.expires - timedelta(seconds=1))
    assert not key.is_valid(key.expires)


def test_a_file_of_the_largest_size_is_read(path: Path) -> None:
    create_key(path, "tests", None)
    path.write_bytes(path.read_bytes().ljust(MAX_BYTES))
    assert len(read_keys(path)) == 1
    with pytest.raises(KeysError, match="would become larger than 1,000,000 bytes"):
        create_key(path, "x" * MAX_BYTES, None)
    assert len(read_keys(path)) == 1


def test_a_revoked_key_stops_opening_and_the_others_go_on(path: Path) -> None:
    first, second = create_key(path, "a", None), create_key(path, "b", timedelta(days=1))
    ring = Ring(path)
    assert status_of(ring, first) == 200
    revoke_key(path, first.split("_")[1])
    assert status_of(ring, first) == 401
    assert status_of(ring, second) == 200
    assert KeyRing(path).required


def test_the_file_is_read_again_once_a_second(path: Path) -> None:
    token = create_key(path, "a", None)
    clock = Clock()
    ring = KeyRing(path, clock=clock)
    assert status_of(ring, token) == 200
    revoke_key(path, token.split("_")[1])
    clock.now = 0.999 * RECHECK_SECONDS
    assert status_of(ring, token) == 200
    clock.now = RECHECK_SECONDS
    assert status_of(ring, token) == 401


def test_a_revoked_key_stops_opening_though_size_times_and_inode_of_the_file_stay(path: Path) -> None:
    token = create_key(path, "a", timedelta(days=1))
    ring = Ring(path)
    assert status_of(ring, token) == 200
    before = path.stat()
    content = json.loads(path.read_text())
    (entry,) = content["keys"]
    entry["revoked"], entry["expires"] = entry["expires"], None
    changed = json.dumps(content, indent=1).encode()
    with path.open("r+b") as file:
        file.write(changed.ljust(before.st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)
    assert status_of(ring, token) == 401


def test_a_new_key_opens_without_a_restart(path: Path) -> None:
    create_key(path, "a", None)
    ring = Ring(path)
    assert ring.required
    assert status_of(ring, create_key(path, "b", None)) == 200


def test_keys_that_appear_after_the_start_are_asked_for_from_then_on(path: Path) -> None:
    ring = Ring(path)
    ring.start()
    assert not ring.required
    token = create_key(path, "a", None)
    assert ring.required
    assert status_of(ring, token) == 200
    assert status_of(ring, "cs_1_2") == 401
    path.unlink()
    assert ring.required
    assert status_of(ring, token) == 503


def test_a_file_without_a_key_asks_for_none_until_it_has_had_one(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('{"format": 1, "keys": []}')
    ring = Ring(path)
    assert not ring.required
    token = create_key(path, "a", None)
    assert ring.required
    path.write_text('{"format": 1, "keys": []}')
    assert status_of(ring, token) == 401
    assert ring.required


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text("{"), lambda path: path.write_bytes(b"")])
def test_a_lost_or_broken_file_lets_nobody_in_until_it_is_back(
    path: Path, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    token = create_key(path, "a", None)
    content = path.read_bytes()
    ring = Ring(path)
    assert status_of(ring, token) == 200
    damage(path)
    with caplog.at_level(logging.WARNING, LOGGER):
        assert [status_of(ring, token) for _ in range(3)] == [503] * 3
        assert ring.required
        assert (ring.failures, len(caplog.records)) == (1, 1)
        assert str(path) in caplog.records[0].reason  # type: ignore[attr-defined]
        path.write_bytes(content)
        assert status_of(ring, token) == 200
        assert caplog.records[-1].message == "the API keys can be read again"
    assert ring.failures == 1


def test_a_broken_file_that_appears_where_there_was_none_lets_nobody_in(path: Path) -> None:
    ring = Ring(path)
    assert not ring.required
    path.parent.mkdir()
    path.write_text("{")
    assert ring.required
    path.unlink()
    assert ring.required
    assert status_of(ring, "cs_1_2") == 503


def test_no_file_is_no_keys(path: Path) -> None:
    assert read_keys(path) == {}
    assert not KeyRing(path).required


def entry(**changes: Any) -> str:
    key = {"id": "ab12", "hash": "0" * 64, "note": "", "created": "2026-01-31T10:00:00+00:00", "expires": None, "revoked": None}
    return json.dumps({"format": 1, "keys": [key | changes]})


BROKEN = {
    "empty": ("", "is not a file of API keys"),
    "a list": ("[]", "is not a file of API keys"),
    "no format": ("{}", "is not a file of API keys"),
    "no fields": ('{"format": 1, "keys": [{}]}', r"is not a file of API keys: .* `\$\.keys\[0\]`"),
    "another format": ('{"format": 3, "keys": [], "more": 1}', "format 3; expected 1 or 2"),
    "a word as time": (entry(expires="soon"), r"RFC3339.*\$\.keys\[0\]\.expires"),
    "a time without offset": (entry(expires="2026-12-31T00:00:00"), r"timezone.*\$\.keys\[0\]\.expires"),
    "a number as time": (entry(revoked=1), r"\$\.keys\[0\]\.revoked"),
    "no hash": (entry(hash=None), r"Expected `str`, got `null` - at `\$\.keys\[0\]\.hash`"),
    "no hexadecimal digits": (entry(hash="ü" * 64), r"\$\.keys\[0\]\.hash"),
    "an id that no key can have": (entry(id="a_b"), r"\$\.keys\[0\]\.id"),
    "an unknown field": (entry(scope="all"), r"unknown field `scope`"),
    "an unknown scope": (entry(scopes=["predict", "all"]), r"Invalid enum value 'all' - at `\$\.keys\[0\]\.scopes"),
    "deep": ('{"format": 1, "keys": ' + "[" * 100_000, "is not a file of API keys"),
    "the same id twice": (
        json.dumps({"format": 1, "keys": 2 * json.loads(entry())["keys"]}),
        "is not a file of API keys: two keys have the same id",
    ),
    "huge": (entry(note="x" * MAX_BYTES), "is larger than 1,000,000 bytes"),
}


@pytest.mark.parametrize(("content", "said"), BROKEN.values(), ids=BROKEN)
def test_a_file_of_something_else_is_refused_at_the_start_and_lets_nobody_in_later(path: Path, content: str, said: str) -> None:
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(KeysError, match=said) as caught:
        KeyRing(path).start()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    path.unlink()
    token = create_key(path, "a", None)
    ring = Ring(path)
    assert status_of(ring, token) == 200
    path.write_text(content)
    assert status_of(ring, token) == 503


def test_a_sound_entry_is_none_of_them(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(entry(expires="2026-12-31 23:59:59.5Z"))
    assert list(read_keys(path)) == ["ab12"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (os.mkfifo, "is a folder, a pipe or a device"),
        (lambda path: path.mkdir(), "is a folder, a pipe or a device"),
        (lambda path: path.symlink_to("/dev/zero"), "is a folder, a pipe or a device"),
        (lambda path: path.symlink_to("nowhere"), "is a link to a file that is not there"),
        (lambda path: path.symlink_to(path), "cannot be read"),
    ],
    ids=["pipe", "folder", "device", "dangling link", "loop of links"],
)
def test_what_is_no_file_is_refused_without_waiting_for_it(path: Path, make: Callable[[Path], object], said: str) -> None:
    path.parent.mkdir()
    make(path)
    with pytest.raises(KeysError, match=said):
        KeyRing(path).start()
    ring = Ring(path)
    assert ring.required
    assert status_of(ring, "cs_1_2") == 503


def test_a_mounted_secret_is_a_link_to_a_file(path: Path, tmp_path: Path) -> None:
    token = create_key(tmp_path / "..data" / "keys.json", "a", None)
    path.parent.mkdir()
    path.symlink_to(tmp_path / "..data" / "keys.json")
    assert status_of(KeyRing(path), token) == 200


def test_keys_are_required_where_there_are_some_and_they_are_not_switched_off(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDIT_KEYS_FILE", str(path))
    monkeypatch.setenv("CREDIT_HOME", str(path.parent))

    def required() -> bool:
        keys = required_keys(load_settings())
        return keys is not None and keys.required

    assert not required()
    token = create_key(path, "a", None)
    assert required()
    revoke_key(path, token.split("_")[1])
    assert required(), "a file of revoked keys is no file without keys"
    path.unlink()
    assert required(), "there were keys before this start"
    monkeypatch.setenv("CREDIT_AUTH", "disabled")
    assert not required()


def test_a_start_without_the_file_is_refused_once_there_were_keys(path: Path) -> None:
    home = path.parent
    mark = home / MARK
    KeyRing(path, home=home).start()
    assert not mark.exists()
    create_key(path, "a", None)
    KeyRing(path, home=home).start()
    assert mark.stat().st_mode & 0o777 == 0o600
    path.unlink()
    later = KeyRing(path, home=home)
    with pytest.raises(KeysError, match=r"is missing, although there were API keys; .*keys create.*CREDIT_AUTH=disabled"):
        later.start()
    assert later.required
    assert status_of(later, "cs_1_2") == 503
    token = create_key(path, "b", None)
    ring = KeyRing(path, home=home)
    ring.start()
    assert status_of(ring, token) == 200


def test_a_mark_that_cannot_be_made_is_told(path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    create_key(path, "a", None)
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING, LOGGER):
        ring = KeyRing(path, home=tmp_path / "file")
        assert ring.required
    assert ["loopback would need no key" in record.message for record in caplog.records] == [True]


@pytest.mark.slow
def test_changes_by_several_processes_at_once_are_all_kept(path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from serving.identity.keys import create_key, revoke_key\n"
        "path = Path(sys.argv[1]); sys.stdin.readline()\n"
        "for _ in range(20): revoke_key(path, create_key(path, 'x', None).split('_')[1])\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", script, str(path)], cwd=ROOT, stdin=subprocess.PIPE) for _ in range(4)]
    for process in processes:
        assert process.stdin
        process.stdin.write(b"go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=120)
    assert [process.returncode for process in processes] == [0] * 4
    keys = read_keys(path)
    assert len(keys) == 80
    assert all(key.revoked for key in keys.values())


def test_an_unknown_key_cannot_be_revoked(path: Path) -> None:
    with pytest.raises(KeysError, match="there is no key abc"):
        revoke_key(path, "abc")


def test_keys_of_the_first_format_have_every_scope_and_later_ones_have_those_they_name(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(entry())
    assert read_keys(path)["ab12"].scopes == frozenset(SCOPES)
    token = create_key(path, "", None, ["predict", "read"])
    (old, new) = read_keys(path).values()
    assert (old.scopes, new.scopes) == (frozenset(SCOPES), {"predict", "read"})
    assert KeyRing(path).check(bearer(token), None).scopes == {"predict", "read"}
    path.write_text(entry().replace('"format": 1', '"format": 2'))
    assert read_keys(path)["ab12"].scopes == frozenset()


def test_a_rotated_key_is_valid_for_the_overlap_and_the_new_one_is_like_it(path: Path) -> None:
    identifier = create_key(path, "branch", timedelta(days=30), ["predict"]).split("_")[1]
    created = read_keys(path)[identifier]
    token = rotate_key(path, identifier, timedelta(hours=2))
    old, new = read_keys(path).values()
    assert (new.note, new.scopes, status_of(KeyRing(path), token)) == ("branch", {"predict"}, 200)
    assert new.expires
    assert created.expires
    assert old.expires
    assert new.expires - new.created == created.expires - created.created == timedelta(days=30)
    assert old.expires - new.created == timedelta(hours=2)
    rotate_key(path, identifier, timedelta(days=365))
    assert read_keys(path)[identifier].expires == old.expires, "an overlap does not make a key valid for longer"
    for gone, said in (("nobody", "there is no key nobody"), (identifier, f"the key {identifier} is revoked")):
        if gone == identifier:
            revoke_key(path, identifier)
        with pytest.raises(KeysError, match=said):
            rotate_key(path, gone, timedelta(0))


def test_a_key_without_an_end_ends_after_the_overlap(path: Path) -> None:
    token = create_key(path, "", None)
    new = rotate_key(path, token.split("_")[1], timedelta(0))
    ring = KeyRing(path)
    assert (status_of(ring, token), status_of(ring, new)) == (401, 200)
    assert read_keys(path)[new.split("_")[1]].expires is None


def test_the_day_of_the_last_use_is_kept_and_written_once_a_day(path: Path, settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    token, other = create_key(path, "", None), create_key(path, "", None)
    identifier, used = token.split("_")[1], settings.home / USED
    assert last_uses(settings) == {}
    for _ in range(2):  # two services with one home
        ring = KeyRing(path, home=settings.home)
        assert [status_of(ring, token), status_of(ring, token), status_of(ring, other[:-1])] == [200, 200, 401]
    assert len(used.read_text().splitlines()) == 2
    assert last_uses(settings) == {identifier: datetime.now(UTC).date()}
    used.write_text(f"{identifier} 2026-01-03\n{identifier} 2026-01-02\nhalf 20")
    assert last_uses(settings) == {identifier: date(2026, 1, 3)}
    used.write_bytes(b"\xff")
    with pytest.raises(KeysError, match=f"{USED} cannot be read"):
        last_uses(settings)
    used.unlink()
    used.mkdir()
    assert status_of(KeyRing(path, home=settings.home), token) == 200, "a use that cannot be written is no reason to refuse"
    assert "the last use of a key cannot be written" in caplog.text
