"""API keys. Each has an id and an optional expiry; one file, readable only by its owner, stores their hashes.

A key is `cs_ID_SECRET`. The secret has 256 random bits, so its plain SHA-256 cannot be reversed by guessing. Hashes are compared in
constant time. The running service reads the file again every second, so a revoked key stops working within a second.
"""

import contextlib
import fcntl
import hashlib
import hmac
import logging
import math
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec

from configs.errors import UserError
from configs.settings import Settings
from monitoring.private_files import make_private, open_private
from monitoring.service_log import LOGGER
from serving.errors import ServiceError

FORMAT = 1
PREFIX = "cs"
MARK = "keys.required"  # under CREDIT_HOME; its presence says that there were keys before
RECHECK_SECONDS = 1.0
MAX_BYTES = 1_000_000  # of the key file, enough for about 4,000 keys

logger = logging.getLogger(LOGGER)
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

    def is_valid(self, now: datetime) -> bool:
        """Whether the key is neither revoked nor expired."""
        return self.revoked is None and (self.expires is None or now < self.expires)


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
    content = _content(path)
    return {} if content is None else _parse(path, content)


def create_key(path: Path, note: str, lifetime: timedelta | None) -> str:
    """Add a key to the file, and return it. The secret cannot be shown again.

    Raises
    ------
    KeysError
        The file is not a key file, cannot be read, or would exceed MAX_BYTES.
    """
    now = _now()
    identifier, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    with _changing(path) as keys:
        keys[identifier] = Key(identifier, _hash(secret), note, now, now + lifetime if lifetime is not None else None)
    return f"{PREFIX}_{identifier}_{secret}"


def revoke_key(path: Path, identifier: str) -> None:
    """Revoke a key. It stays in the file, so that revoking the last key does not switch authentication off.

    Raises
    ------
    KeysError
        There is no such key, or the file cannot be used.
    """
    with _changing(path) as keys:
        if identifier not in keys:
            raise KeysError(f"there is no key {identifier}; `credit-scoring keys list` shows them")
        if keys[identifier].revoked is None:
            keys[identifier] = msgspec.structs.replace(keys[identifier], revoked=_now())


class KeyRing:
    """Checks the keys of requests against a key file.

    Requests need a key once the file holds one, or exists but cannot be used. From then on, a missing or broken file lets nobody in.
    A second file, `mark`, keeps this true after a restart.

    Parameters
    ----------
    path : the key file. It is read on first use.
    mark : file to create once there are keys; without it, a restart forgets that there were keys.
    failed : called each time the key file becomes missing or broken.
    clock : returns seconds from any origin.
    """

    def __init__(
        self,
        path: Path,
        failed: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        mark: Path | None = None,
    ) -> None:
        self._path = path
        self._mark = mark
        self._failed = failed
        self._clock = clock
        self._looked = -math.inf
        self._content: bytes | None = None
        self._keys: dict[str, Key] = {}
        self._problem: str | None = None
        self._required = False

    @property
    def required(self) -> bool:
        """Whether requests need a key. Once true, it stays true."""
        if not self._required:
            self._refresh()
        return self._required

    def start(self) -> None:
        """Read the file.

        Raises
        ------
        KeysError
            The file is not a key file, or cannot be read.
        """
        self._refresh()
        if self._problem:
            raise KeysError(self._problem)

    def check(self, authorization: bytes | None, api_key: bytes | None) -> str:
        """The id of the key in `Authorization: Bearer KEY` or `X-API-Key: KEY`.

        Raises
        ------
        ServiceError
            401: the key is missing, unknown, revoked or expired. 503: the key file is missing or broken.
        """
        self._refresh()
        if self._problem:
            raise ServiceError(503, "the API keys cannot be read; the service's log has the reason", retry_after=1)
        given = api_key or (authorization[7:] if authorization and authorization[:7].lower() == b"bearer " else b"")
        prefix, _, rest = given.decode("latin-1").partition("_")
        identifier, _, secret = rest.partition("_")
        key = self._keys.get(identifier)
        same = hmac.compare_digest(_hash(secret), key.hash if key else _hash(""))
        if key is None or not same or prefix != PREFIX or not key.is_valid(datetime.now(UTC)):
            raise ServiceError(401, "expected a valid key in the header Authorization: Bearer KEY or X-API-Key: KEY")
        return key.id

    def _refresh(self) -> None:
        """Read the file again, once a second. Its content is compared, because a restored file may have the same size and times."""
        now = self._clock()
        if now - self._looked < RECHECK_SECONDS:
            return
        self._looked = now
        problem = None
        had_keys = self._required = self._required or bool(self._mark and os.path.lexists(self._mark))
        try:
            content = _content(self._path)
            if content is None:
                self._keys = {}
                if self._required:
                    problem = (
                        f"{self._path} is missing, although there were API keys; restore it, make a key with "
                        "`credit-scoring keys create`, or set CREDIT_AUTH=disabled to serve without authentication"
                    )
            elif content != self._content:
                self._keys = _parse(self._path, content)
            self._content = content
        except KeysError as error:
            self._keys, self._content, problem = {}, None, str(error)
        self._required = self._required or bool(self._keys) or problem is not None
        if self._mark and self._keys and not had_keys:
            self._remember(self._mark)
        if problem and problem != self._problem:
            self._failed()
            logger.error("the API keys cannot be read; requests that need one get a 503", extra={"reason": problem})
        elif self._problem and not problem:
            logger.warning("the API keys can be read again")
        self._problem = problem

    def _remember(self, mark: Path) -> None:
        """Create the mark that there were keys."""
        try:
            make_private(mark.parent)
            os.close(open_private(mark, os.O_WRONLY | os.O_CREAT))
        except OSError as error:
            logger.warning(
                "the mark of the API keys cannot be written; after a restart without the key file, loopback would need no key",
                extra={"reason": str(error)},
            )


def required_keys(settings: Settings, failed: Callable[[], object] = lambda: None) -> KeyRing | None:
    """The key ring of the settings, not read yet; None if authentication is switched off."""
    return KeyRing(settings.keys_path, failed, mark=settings.home / MARK) if settings.auth == "required" else None


def _content(path: Path) -> bytes | None:
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


def _parse(path: Path, content: bytes) -> dict[str, Key]:
    try:
        version = msgspec.json.decode(content, type=_Version).format
        if version != FORMAT:
            raise KeysError(f"{path} has format {version}; expected {FORMAT}")
        entries = msgspec.json.decode(content, type=_File).keys
    except (msgspec.DecodeError, RecursionError) as error:
        raise KeysError(f"{path} is not a file of API keys: {error}") from None
    keys = {key.id: key for key in entries}
    if len(keys) < len(entries):
        raise KeysError(f"{path} is not a file of API keys: two keys have the same id")
    return keys


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _hash(secret: str) -> str:
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
    content = msgspec.json.format(msgspec.json.encode(_File(FORMAT, list(keys.values()))), indent=1)
    if len(content) >= MAX_BYTES:
        raise KeysError(f"{path} would become larger than {MAX_BYTES:,} bytes; remove revoked or expired keys from it")
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = open_private(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content + b"\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
