"""Checks the keys of requests against the key file, and keeps the day on which each key was last used.

Hashes are compared in constant time. The running service reads the file again every second, so a revoked key stops working within a
second.
"""

import hmac
import logging
import math
import os
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

from configs.settings import Settings
from monitoring.private_files import make_private, open_private
from monitoring.service_log import LOGGER
from serving.errors import ServiceError
from serving.identity.keys import PREFIX, Key, KeysError, hash_secret, parse_keys, read_content
from serving.identity.principal import Principal

MARK = "keys.required"  # under CREDIT_HOME; its presence says that there were keys before
USED = "keys.used"  # under CREDIT_HOME; a line `ID YYYY-MM-DD` for each day on which a key was used
RECHECK_SECONDS = 1.0

logger = logging.getLogger(LOGGER)


class KeyRing:
    """Checks the keys of requests against a key file.

    Requests need a key once the file holds one, or exists but cannot be used. From then on, a missing or broken file lets nobody in.
    A second file, `mark`, keeps this true after a restart.

    Parameters
    ----------
    path : the key file. It is read on first use.
    home : folder of MARK and USED; without it, a restart forgets that there were keys, and nothing says when a key was used.
    failed : called each time the key file becomes missing or broken.
    clock : returns seconds from any origin.
    """

    def __init__(
        self,
        path: Path,
        failed: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        home: Path | None = None,
    ) -> None:
        self._path = path
        self._mark = home / MARK if home else None
        self._used = home / USED if home else None
        self._last_use: dict[str, date] = {}
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

    def check(self, authorization: bytes | None, api_key: bytes | None) -> Principal:
        """The holder of the key in `Authorization: Bearer KEY` or `X-API-Key: KEY`.

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
        same = hmac.compare_digest(hash_secret(secret), key.hash if key else hash_secret(""))
        now = datetime.now(UTC)
        if key is None or not same or prefix != PREFIX or not key.is_valid(now):
            raise ServiceError(401, "expected a valid key in the header Authorization: Bearer KEY or X-API-Key: KEY")
        if self._last_use.get(key.id) != now.date():
            self._note_use(key, now.date())
        return Principal(key.id, "key", key.scopes)

    def _refresh(self) -> None:
        """Read the file again, once a second. Its content is compared, because a restored file may have the same size and times."""
        now = self._clock()
        if now - self._looked < RECHECK_SECONDS:
            return
        self._looked = now
        problem = None
        had_keys = self._required = self._required or bool(self._mark and os.path.lexists(self._mark))
        try:
            content = read_content(self._path)
            if content is None:
                self._keys = {}
                if self._required:
                    problem = (
                        f"{self._path} is missing, although there were API keys; restore it, make a key with "
                        "`credit-scoring keys create`, or set CREDIT_AUTH=disabled to serve without authentication"
                    )
            elif content != self._content:
                self._keys = parse_keys(self._path, content)
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

    def _note_use(self, key: Key, day: date) -> None:
        """Write down that a key was used on a day, once."""
        self._last_use[key.id] = day
        if self._used is None:
            return
        try:
            make_private(self._used.parent)
            with os.fdopen(open_private(self._used, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "wb") as file:
                file.write(f"{key.id} {day}\n".encode())  # one write, so lines of several services do not mix
        except OSError as error:
            logger.warning("the last use of a key cannot be written", extra={"reason": str(error)})

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
    return KeyRing(settings.keys_path, failed, home=settings.home) if settings.auth == "required" else None


def last_uses(settings: Settings) -> dict[str, date]:
    """The day on which each key was last used, by its id, in UTC; a key that was not used is absent.

    Raises
    ------
    KeysError
        The file of the uses cannot be read.
    """
    days: dict[str, date] = {}
    path = settings.home / USED
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return days
    except (OSError, UnicodeDecodeError) as error:
        raise KeysError(f"{path} cannot be read ({error}); it lists when keys were used, and may be removed") from None
    for line in lines:
        identifier, _, day = line.partition(" ")
        try:
            days[identifier] = max(days.get(identifier, date.min), date.fromisoformat(day))
        except ValueError:
            continue  # a line that a full disk cut short
    return days
