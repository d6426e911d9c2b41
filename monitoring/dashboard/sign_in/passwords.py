"""Passwords, as argon2id hashes."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

SHORTEST, LONGEST = 12, 128  # characters
AT_ONCE = 2  # each takes 64 MiB
MOST_WAITING = 16


class BusyError(Exception):
    """Too many people are signing in at this moment."""


def fault_of(password: str, name: str) -> str | None:
    """Why a password cannot be chosen: the end of a key of the catalogue; None if it can."""
    if len(password) < SHORTEST:
        return "too_short"
    if len(password) > LONGEST:
        return "too_long"
    if name in password.casefold() or len(set(password)) < 5:
        return "too_simple"
    return None


class Passwords:
    """Hashes and verifies passwords off the event loop, two at once.

    Parameters
    ----------
    hasher : argon2id with the parameters of RFC 9106 for little memory, unless a test gives a faster one.
    """

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._dummy = self._hasher.hash("of nobody")
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="password")
        self._waiting = 0

    async def hash(self, password: str) -> str:
        """The hash to store."""
        return str(await self._run(lambda: self._hasher.hash(password)))

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether a password is the stored one. Without a stored one, this takes as long and is False."""
        return bool(await self._run(lambda: self._verify(stored, password[: LONGEST + 1])))

    async def _run(self, work: Callable[[], object]) -> object:
        if self._waiting >= MOST_WAITING:
            raise BusyError
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1

    def _verify(self, stored: str | None, password: str) -> bool:
        try:
            return self._hasher.verify(stored or self._dummy, password) and stored is not None
        except (VerificationError, InvalidHashError):
            return False
