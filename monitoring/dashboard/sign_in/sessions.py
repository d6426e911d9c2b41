"""Sessions of people who are signed in, and the lock after failed attempts."""

import secrets
import time
from collections.abc import Callable
from contextlib import suppress

from sqlalchemy import Engine, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from monitoring.dashboard.sign_in.database import PeopleError, failures, people, sessions, using
from monitoring.dashboard.sign_in.people import hashed
from monitoring.dashboard.sign_in.roles import Person

LOCK_SECONDS = 900  # failed attempts count for so long after the first
MOST_FAILURES = {"name": 5, "address": 30}  # an office may share an address
NOTED_SECONDS = 15  # how often an action of a session is noted


class Sessions:
    """The sessions in the database.

    Parameters
    ----------
    idle_seconds : without an action for so long, a session ends.
    most_seconds : after so long, it ends in any case.
    clock : seconds since 1970.
    """

    def __init__(self, engine: Engine, idle_seconds: float, most_seconds: float, clock: Callable[[], float] = time.time) -> None:
        self._engine, self._idle, self._most, self._clock = engine, idle_seconds, most_seconds, clock

    def start(self, name: str) -> str:
        """Sign a person in; returns the token for their cookie."""
        token, now = secrets.token_urlsafe(32), self._clock()
        with using(self._engine) as connection:
            ended = (sessions.c.started <= now - self._most) | (sessions.c.seen <= now - self._idle)
            connection.execute(delete(sessions).where(ended))
            connection.execute(insert(sessions).values(token=hashed(token), name=name, started=now, seen=now))
            connection.execute(update(people).where(people.c.name == name).values(last_sign_in=now))
        return token

    def find(self, key: str, *, acts: bool = True) -> Person | None:
        """Who is signed in by a session; None if nobody is.

        Parameters
        ----------
        key : SHA-256 of the session's token.
        acts : whether the person does something, so that the session's idle time begins anew.
        """
        now = self._clock()
        query = (
            select(sessions.c.seen, people.c.name, people.c.role)
            .join(people, people.c.name == sessions.c.name)
            .where(sessions.c.token == key, people.c.disabled.is_(False))
            .where(sessions.c.started > now - self._most, sessions.c.seen > now - self._idle)
        )
        with using(self._engine) as connection:
            row = connection.execute(query).one_or_none()
            if row is None:
                return None
            if acts and now - row.seen > min(NOTED_SECONDS, self._idle / 4):
                connection.execute(update(sessions).where(sessions.c.token == key).values(seen=now))
        return Person(row.name, row.role, key)

    def end(self, key: str) -> None:
        """Sign a session out."""
        with using(self._engine) as connection:
            connection.execute(delete(sessions).where(sessions.c.token == key))

    def attempt(self, name: str, address: str) -> bool:
        """Count an attempt for its name and its address, before the password is verified; False if either has had too many."""
        now = self._clock()
        with using(self._engine) as connection:
            connection.execute(delete(failures).where(failures.c.since <= now - LOCK_SECONDS))
        counts = {kind: self._count(f"{kind} {value}", now) for kind, value in (("name", name), ("address", address))}
        return all(count <= MOST_FAILURES[kind] for kind, count in counts.items())

    def forgive(self, name: str, address: str) -> None:
        """The attempt was successful: forget those of the name, and take this one from the address."""
        with using(self._engine) as connection:
            connection.execute(delete(failures).where(failures.c.place == f"name {name}"))
            one_less = update(failures).where(failures.c.place == f"address {address}").values(count=failures.c.count - 1)
            connection.execute(one_less)

    def _count(self, place: str, now: float) -> int:
        """Add one to the attempts of a place; returns their number."""
        more = update(failures).where(failures.c.place == place).values(count=failures.c.count + 1).returning(failures.c.count)
        for _ in range(2):
            with suppress(IntegrityError), using(self._engine) as connection:  # another request may make it at the same time
                if count := connection.scalar(more):
                    return int(count)
                connection.execute(insert(failures).values(place=place, count=1, since=now))
                return 1
        raise PeopleError("attempts to sign in cannot be counted")
