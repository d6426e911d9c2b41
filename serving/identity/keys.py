"""API keys. Each has an id, scopes and an optional expiry; one file, readable only by its owner, stores their hashes.

A key is `cs_ID_SECRET`. The secret has 256 random bits, so its plain SHA-256 cannot be reversed by guessing.
"""

import contextlib
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec

from configs.errors import UserError
from monitoring.private_files import make_private, open_private
from serving.identity.principal import SCOPES, Scope

FORMAT = 2  # a file of format 1 is read too; its keys have every scope, as they had then
PREFIX = "cs"
MAX_BYTES = 1_000_000  # of the key file, enough for about 3,000 keys

Time = Annotated[datetime, msgspec.Meta(tz=True)]


class KeysError(UserError):
    """The key file cannot be used, or has no such key. The message gives the reason."""


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key as the file stores it. Times are ISO 8601 with an offset; None means never."""

    id: Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z-]+$")]
    hash: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
    note: str
    created: Time
    expires: Time | None = None
    revoked: Time | None = None
    scopes: frozenset[Scope] = frozenset()

    def is_valid(self, now: datetime) -> bool:
        """Whether the key is neither revoked nor expired."""
        return self.revoked is None and (self.expires is None or now < self.expires)

    def state(self, now: datetime) -> str:
        """`valid`, `revoked` or `expired`."""
        return "valid" if self.is_valid(now) else "revoked" if self.revoked else "expired"


class _Version(msgspec.Struct):
    format: int


class _File(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    keys: list[Key]


def read_keys(path: Path) -> dict[str, Key]:
    """The keys of a file by their id; empty if there is no file.

    Raises
    ------
    KeysError
        The file is not a key file, or cannot be read.
    """
    content = read_content(path)
    return {} if content is None else parse_keys(path, content)


def create_key(path: Path, note: str, lifetime: timedelta | None, scopes: Iterable[Scope] = SCOPES) -> str:
    """Add a key to the file, and return it. The secret cannot be shown again.

    Raises
    ------
    KeysError
        The file is not a key file, cannot be read, or would exceed MAX_BYTES.
    """
    with _changing(path) as keys:
        return _add(keys, note, lifetime, frozenset(scopes))


def rotate_key(path: Path, identifier: str, overlap: timedelta) -> str:
    """Add a key with the note, scopes and lifetime of another, and return it. The other key expires after the overlap.

    Raises
    ------
    KeysError
        There is no such key, it is revoked or expired, or the file cannot be used.
    """
    with _changing(path) as keys:
        old = _find(keys, identifier)
        now = _now()
        if not old.is_valid(now):
            raise KeysError(f"the key {identifier} is {old.state(now)}; make a new one with `credit-scoring keys create`")
        new = _add(keys, old.note, old.expires - old.created if old.expires else None, old.scopes)
        end = now + overlap
        keys[identifier] = msgspec.structs.replace(old, expires=min(end, old.expires) if old.expires else end)
        return new


def revoke_key(path: Path, identifier: str) -> None:
    """Revoke a key. It stays in the file, so that revoking the last key does not switch authentication off.

    Raises
    ------
    KeysError
        There is no such key, or the file cannot be used.
    """
    with _changing(path) as keys:
        if _find(keys, identifier).revoked is None:
            keys[identifier] = msgspec.structs.replace(keys[identifier], revoked=_now())


def read_content(path: Path) -> bytes | None:
    """The bytes of the file; None if there is no file. A pipe is refused without waiting for a writer."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # follows links, since Kubernetes mounts secrets as links
    except FileNotFoundError:
        if path.is_symlink():
            raise KeysError(f"{path} is a link to a file that is not there; expected a file of API keys") from None
        return None
    except OSError as error:
        raise KeysError(f"{path} cannot be read ({error.strerror}); expected a file of API keys") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise KeysError(f"{path} is a folder, a pipe or a device; expected a file of API keys")
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise KeysError(f"{path} cannot be read ({error.strerror}); expected a file of API keys") from None
    finally:
        os.close(descriptor)
    if len(content) > MAX_BYTES:
        raise KeysError(f"{path} is larger than {MAX_BYTES:,} bytes; expected a file of API keys")
    return content


def parse_keys(path: Path, content: bytes) -> dict[str, Key]:
    """The keys in the content of a key file, by their id; raises a KeysError if it is not that of one."""
    try:
        version = msgspec.json.decode(content, type=_Version).format
        if version not in (1, FORMAT):
            raise KeysError(f"{path} has format {version}; expected 1 or {FORMAT}")
        entries = msgspec.json.decode(content, type=_File).keys
    except (msgspec.DecodeError, RecursionError) as error:
        raise KeysError(f"{path} is not a file of API keys: {error}") from None
    if version == 1:
        entries = [msgspec.structs.replace(key, scopes=frozenset(SCOPES)) for key in entries]
    keys = {key.id: key for key in entries}
    if len(keys) < len(entries):
        raise KeysError(f"{path} is not a file of API keys: two keys have the same id")
    return keys


def _find(keys: dict[str, Key], identifier: str) -> Key:
    if identifier not in keys:
        raise KeysError(f"there is no key {identifier}; `credit-scoring keys list` shows them")
    return keys[identifier]


def _add(keys: dict[str, Key], note: str, lifetime: timedelta | None, scopes: frozenset[Scope]) -> str:
    """Add a new key, and return it."""
    now = _now()
    identifier, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    keys[identifier] = Key(identifier, hash_secret(secret), note, now, now + lifetime if lifetime is not None else None, scopes=scopes)
    return f"{PREFIX}_{identifier}_{secret}"


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def hash_secret(secret: str) -> str:
    """The hash of a secret, as the file stores it."""
    return hashlib.sha256(secret.encode()).hexdigest()


@contextlib.contextmanager
def _changing(path: Path) -> Iterator[dict[str, Key]]:
    """Yield the keys of the file, and write them when the block ends. A lock makes other processes wait, so no change is lost."""
    make_private(path.parent)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        keys = read_keys(path)
        yield keys
        _write(path, keys)
        os.fsync(folder)  # so that a revocation survives a power failure
    finally:
        os.close(folder)


def _write(path: Path, keys: dict[str, Key]) -> None:
    content = msgspec.json.format(msgspec.json.encode(_File(FORMAT, list(keys.values())), order="deterministic"), indent=1)
    if len(content) >= MAX_BYTES:
        raise KeysError(f"{path} would become larger than {MAX_BYTES:,} bytes; remove revoked or expired keys from it")
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = open_private(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content + b"\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
