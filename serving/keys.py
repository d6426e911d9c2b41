"""API keys: several, each with an id and an expiry, stored as hashes in one file that only its owner can read.

A key is `cs_ID_SECRET`. The secret has 256 random bits, so a plain SHA-256 of it cannot be guessed back; hashes are
compared in constant time. The file is read again when it changes, so a revoked key stops working within a second.
"""

import hashlib
import hmac
import json
import os
import secrets
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from configs.settings import Settings
from monitoring.files import make_private, open_private
from serving.errors import ServiceError

FORMAT = 1
PREFIX = "cs"
RECHECK_SECONDS = 1.0


class KeysError(ValueError):
    """The file of keys cannot be used, or has no such key; the message says why."""


@dataclass(frozen=True)
class Key:
    """One key as it is stored; times are ISO 8601 in UTC, None for never."""

    id: str
    hash: str
    note: str
    created: str
    expires: str | None = None
    revoked: str | None = None

    def is_valid(self, now: datetime) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked is None and (self.expires is None or now < datetime.fromisoformat(self.expires))


def read_keys(path: Path) -> dict[str, Key]:
    """The keys of a file by their id; none where there is no file.

    Raises
    ------
    KeysError
        The file is not one of keys.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise KeysError(f"{path} has format {content['format']!r}; expected {FORMAT}")
        return {entry["id"]: Key(**entry) for entry in content["keys"]}
    except FileNotFoundError:
        return {}
    except KeysError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KeysError(f"{path} is not a file of keys: {error!r}") from None


def create_key(path: Path, note: str, lifetime: timedelta | None) -> str:
    """Add a key to the file; returns it, the only time that its secret is seen."""
    keys, now = read_keys(path), datetime.now(UTC)
    identifier, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    expires = (now + lifetime).isoformat(timespec="seconds") if lifetime else None
    keys[identifier] = Key(identifier, _hash(secret), note, now.isoformat(timespec="seconds"), expires)
    _write(path, keys)
    return f"{PREFIX}_{identifier}_{secret}"


def revoke_key(path: Path, identifier: str) -> None:
    """Revoke a key; it stays in the file, so that the service never takes an emptied file for one without keys.

    Raises
    ------
    KeysError
        There is no such key.
    """
    keys = read_keys(path)
    if identifier not in keys:
        raise KeysError(f"there is no key {identifier}; `credit-scoring keys list` shows them")
    if keys[identifier].revoked is None:
        keys[identifier] = replace(keys[identifier], revoked=datetime.now(UTC).isoformat(timespec="seconds"))
    _write(path, keys)


class KeyRing:
    """Checks the keys that requests carry against a file.

    Raises
    ------
    KeysError
        The file is not one of keys.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys = read_keys(path)
        self._changed, self._checked = self._modified(), time.monotonic()

    def __bool__(self) -> bool:
        return bool(self._keys)

    def check(self, authorization: bytes | None, api_key: bytes | None) -> str:
        """The id of the key in `Authorization: Bearer KEY` or `X-API-Key: KEY`.

        Raises
        ------
        ServiceError
            401: there is none, or it is unknown, revoked or expired.
        """
        self._refresh()
        given = api_key or (authorization[7:] if authorization and authorization[:7].lower() == b"bearer " else b"")
        prefix, _, rest = given.decode("latin-1").partition("_")
        identifier, _, secret = rest.partition("_")
        key = self._keys.get(identifier)
        same = hmac.compare_digest(_hash(secret), key.hash if key else _hash(""))
        if key is None or not same or prefix != PREFIX or not key.is_valid(datetime.now(UTC)):
            raise ServiceError(401, "expected a valid key in the header Authorization: Bearer KEY or X-API-Key: KEY")
        return key.id

    def _refresh(self) -> None:
        if time.monotonic() - self._checked < RECHECK_SECONDS:
            return
        self._checked = time.monotonic()
        if (changed := self._modified()) != self._changed:
            try:
                self._keys, self._changed = read_keys(self._path), changed
            except KeysError:
                self._keys = {}  # nobody gets in by a broken file

    def _modified(self) -> int:
        try:
            return self._path.stat().st_mtime_ns
        except OSError:
            return 0


def required_keys(settings: Settings) -> KeyRing | None:
    """The keys that requests need; None where authentication is off, or there are none and only loopback is served.

    Raises
    ------
    KeysError
        The file is not one of keys.
    """
    keys = KeyRing(settings.keys_path)
    return keys if keys and settings.auth == "required" else None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _write(path: Path, keys: dict[str, Key]) -> None:
    make_private(path.parent)
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    content = json.dumps({"format": FORMAT, "keys": [asdict(key) for key in keys.values()]}, indent=1)
    descriptor = open_private(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
