"""The interface of everything that records decisions before they are answered."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from configs.errors import UserError

PROBE_SECONDS = 1.0  # after a failure, the time between two attempts to write again


class LogError(UserError):
    """A decision cannot be recorded now, so it must not be answered; the message says why."""


class Sink(Protocol):
    """Records decisions before they are answered."""

    @property
    def ready(self) -> bool:
        """Whether decisions can be recorded now; after a failure the sink checks again, at most once a second."""

    def append(self, records: Sequence[bytes]) -> "asyncio.Future[None] | None":
        """Record the decisions of a batch, in the event loop.

        Parameters
        ----------
        records : the JSON object of each decision, a `Record` in one line.

        Returns
        -------
        None if they are on record now; else a future that is done once they are, or that fails with LogError.

        Raises
        ------
        LogError
            They cannot be recorded; none of them is.
        """

    def close(self) -> None:
        """Finish what was begun."""


class NoLog:
    """The sink of the durability `off`: it records nothing."""

    ready = True

    def append(self, records: Sequence[bytes]) -> None:
        """Drop the decisions."""

    def close(self) -> None:
        """Do nothing."""
