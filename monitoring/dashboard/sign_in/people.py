"""People who may sign in: made by the command line, which prints a link to choose a password."""

import hashlib
import re
import secrets
import time
from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy import Connection, Engine, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from monitoring.dashboard.sign_in.database import PeopleError, failures, links, people, sessions, using
from monitoring.dashboard.sign_in.roles import Role

NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}")
LINK_HOURS = 24


class Listed(NamedTuple):
    """A person, as lists show them; times are seconds since 1970."""

    name: str
    role: Role
    state: str
    created: float
    last_sign_in: float | None


def hashed(token: str) -> str:
    """What is stored of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def checked_name(name: str) -> str:
    """The name in lower case.

    Raises
    ------
    PeopleError
        It is no name.
    """
    if not NAME.fullmatch(name.lower()):
        raise PeopleError(f"{name!r} is not a user name; expected at most 64 letters a to z, digits and . _ @ + -, a letter or digit first")
    return name.lower()


class People:
    """The people of a dashboard.

    Parameters
    ----------
    clock : seconds since 1970.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine, self._clock = engine, clock

    def create(self, name: str, role: Role) -> str:
        """Add a person without a password; returns the token of a link to choose one.

        Raises
        ------
        PeopleError
            The name is taken or invalid.
        """
        name = checked_name(name)
        values = {"name": name, "role": role, "disabled": False, "created": self._clock()}
        try:
            with using(self._engine) as connection:
                connection.execute(insert(people).values(values))
                return self._link(connection, name)
        except IntegrityError:
            raise PeopleError(f"there is a user {name} already; `users link {name}` makes a new link") from None

    def new_link(self, name: str) -> str:
        """Forget a person's password, sessions and failed attempts; returns the token of a link to choose a password."""
        with using(self._engine) as connection:
            self._known(connection, name)
            connection.execute(update(people).where(people.c.name == name).values(password=None))
            connection.execute(delete(sessions).where(sessions.c.name == name))
            connection.execute(delete(failures).where(failures.c.place == f"name {name}"))
            return self._link(connection, name)

    def disable(self, name: str, disabled: bool = True) -> None:
        """Keep a person out, and end their sessions and links; or let them in again."""
        with using(self._engine) as connection:
            self._known(connection, name)
            connection.execute(update(people).where(people.c.name == name).values(disabled=disabled))
            if disabled:
                for table in (sessions, links):
                    connection.execute(delete(table).where(table.c.name == name))

    def all(self) -> list[Listed]:
        """Everybody, by name."""
        with using(self._engine) as connection:
            rows = connection.execute(select(people).order_by(people.c.name)).all()
        return [
            Listed(
                row.name,
                row.role,
                "disabled" if row.disabled else "active" if row.password else "invited",
                row.created,
                row.last_sign_in,
            )
            for row in rows
        ]

    def stored_password(self, name: str) -> str | None:
        """The hash of a person's password; None if there is no such person, or they may not sign in."""
        with using(self._engine) as connection:
            query = select(people.c.password).where(people.c.name == name, people.c.disabled.is_(False))
            return connection.scalar(query)

    def invited(self, token: str) -> str | None:
        """The name of the person to whom a link belongs; None if it was used or has expired."""
        with using(self._engine) as connection:
            return connection.scalar(select(links.c.name).where(links.c.token == hashed(token), links.c.expires > self._clock()))

    def choose_password(self, token: str, password: str) -> str | None:
        """Use a link to store a hash, once; returns the person's name, or None if the link is not valid."""
        with using(self._engine) as connection:
            used = delete(links).where(links.c.token == hashed(token), links.c.expires > self._clock()).returning(links.c.name)
            name = connection.scalar(used)
            if name:
                connection.execute(update(people).where(people.c.name == name).values(password=password))
                connection.execute(delete(sessions).where(sessions.c.name == name))
            return name

    def _link(self, connection: Connection, name: str) -> str:
        token = secrets.token_urlsafe(32)
        connection.execute(delete(links).where(links.c.name == name))
        connection.execute(insert(links).values(token=hashed(token), name=name, expires=self._clock() + LINK_HOURS * 3600))
        return token

    @staticmethod
    def _known(connection: Connection, name: str) -> None:
        if not connection.scalar(select(func.count()).where(people.c.name == name)):
            raise PeopleError(f"there is no user {name}; `users list` shows all")
