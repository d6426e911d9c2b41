"""What the connections of a server share: the gate that decides on their requests, one clock, and the bytes that they may hold."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol

from starlette.types import Scope

from configs.settings import ServiceSettings
from serving.errors import PROBLEM_TYPE, ServiceError

SWEEP_SECONDS = 1.0
BODY_BYTES = "credit_scoring.body_bytes"  # in the scope of a request that a guarded connection brought: how much of its body is there


class Gate(Protocol):
    """What decides on requests."""

    limits: ServiceSettings
    bytes_in_work: int

    def refusal(self, method: bytes, url: bytes) -> bytes | None:
        """The whole answer to a request for which there is no room, from its status line on; None where there is."""

    def expects(self, scope: Scope) -> int:
        """How large a body has to be there before the app is called; 0 where it answers without one."""

    def admit(self, scope: Scope) -> bool:
        """Take a request into work before the app is called with it, if there is room."""

    def ended(self, status: int) -> None:
        """Count an answer that the app had no part in; its connection ends."""


class Door:
    """The open connections of a server: one clock for all of them, and the bytes of bodies that are not in work yet.

    One timer looks at every connection once in SWEEP_SECONDS: a timer for each, made and cancelled for each request, took a tenth of the
    requests a second at 12,000 connections. Where the bodies take more than `max_bytes_in_work`, the oldest unfinished one gives way: a
    client that sends at its line's speed finishes, and one that sends to hold memory goes first.

    Parameters
    ----------
    now : seconds, from any origin.
    """

    def __init__(self, gate: Gate, now: Callable[[], float] = time.monotonic) -> None:
        self.gate, self.limits, self.now = gate, gate.limits, now
        self.connections: set[Any] = set()
        self.unfinished: dict[Any, int] = {}  # bytes that a connection holds for requests not in work, the oldest first
        self.unfinished_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, connection: Any) -> None:
        """Watch a connection."""
        self.connections.add(connection)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._ring)

    def leave(self, connection: Any) -> None:
        """Forget a connection that is lost."""
        self.connections.discard(connection)
        self.hold(connection, 0)

    def hold(self, connection: Any, size: int) -> None:
        """Count the bytes that a connection now holds of bodies that are not in work."""
        self.unfinished_bytes += size - self.unfinished.get(connection, 0)
        if size:
            self.unfinished[connection] = size  # it keeps its place in the order
        else:
            self.unfinished.pop(connection, None)

    def make_room(self) -> None:
        """Let the oldest unfinished bodies give way while there are too many bytes."""
        while self.unfinished and self.unfinished_bytes + self.gate.bytes_in_work > self.limits.max_bytes_in_work:
            next(iter(self.unfinished)).end(ServiceError(503, "too many bytes are in work; try again", retry_after=1))

    def sweep(self) -> None:
        """End the connections whose clients are late."""
        now = self.now()
        for connection in [connection for connection in self.connections if connection.due <= now]:
            connection.expire()

    def _ring(self) -> None:
        self.sweep()
        self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._ring) if self.connections else None


def whole_answer(error: ServiceError, *headers: tuple[str, str]) -> bytes:
    """An error as it stands on the wire, with these headers beside its own."""
    body = error.to_bytes(None)
    fields = [("content-type", PROBLEM_TYPE), ("content-length", str(len(body))), *error.headers.items(), *headers]
    head = "".join(f"{name.lower()}: {value}\r\n" for name, value in fields)
    return f"HTTP/1.1 {error.status.value} {error.status.phrase}\r\n{head}\r\n".encode() + body
