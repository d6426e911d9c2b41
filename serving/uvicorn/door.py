"""State that a server's connections share: the gate that decides on their requests, one timer, and the bytes of their bodies."""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any, Protocol

from starlette.types import Scope

from configs.settings import ServiceSettings
from serving.errors import PROBLEM_TYPE, ServiceError

SWEEP_SECONDS = 1.0
BODY_BYTES = "credit_scoring.body_bytes"  # in a request's scope, set by a guarded connection: bytes of its body that have arrived


class Gate(Protocol):
    """Decides which requests to admit."""

    limits: ServiceSettings
    bytes_in_work: int

    def refusal(self, method: bytes, url: bytes) -> bytes | None:
        """The complete answer that refuses a request for lack of room, as bytes on the wire; None if there is room."""

    def expects(self, scope: Scope) -> int:
        """The largest body, in bytes, to wait for before calling the app; 0 if the app will answer without a body."""

    def admit(self, scope: Scope) -> bool:
        """Admit a request if there is room; called before the app."""

    def ended(self, status: int) -> None:
        """Count an answer that a connection sends without calling the app, before it closes."""


class Door:
    """The open connections of a server, with one timer for their timeouts and the number of body bytes that are not in work yet.

    The timer checks every connection once per SWEEP_SECONDS. A timer per request lowered throughput by a tenth at 12,000 connections.
    If bodies exceed `max_bytes_in_work`, the oldest unfinished one is refused. A client that sends at full speed has finished by then;
    one that sends slowly to hold memory is refused first.

    Parameters
    ----------
    now : returns seconds from any origin.
    """

    def __init__(self, gate: Gate, now: Callable[[], float] = time.monotonic) -> None:
        self.gate, self.limits, self.now = gate, gate.limits, now
        self.connections: set[Any] = set()
        self.unfinished: dict[Any, int] = {}  # for each connection, body bytes of requests not in work; oldest first
        self.unfinished_bytes = 0
        self.draining = False  # whether each answer is the last of its connection
        self._closes = math.inf  # when requests that are still incomplete are refused
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, connection: Any) -> None:
        """Add a new connection."""
        self.connections.add(connection)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._ring)

    def leave(self, connection: Any) -> None:
        """Remove a closed connection."""
        self.connections.discard(connection)
        self.hold(connection, 0)

    def hold(self, connection: Any, size: int) -> None:
        """Set the number of body bytes that a connection holds for requests not in work."""
        self.unfinished_bytes += size - self.unfinished.get(connection, 0)
        if size:
            self.unfinished[connection] = size  # an existing entry keeps its place in the order
        else:
            self.unfinished.pop(connection, None)

    def make_room(self) -> None:
        """Refuse the oldest unfinished bodies until the bytes are within the limit."""
        while self.unfinished and self.unfinished_bytes + self.gate.bytes_in_work > self.limits.max_bytes_in_work:
            next(iter(self.unfinished)).end(ServiceError(503, "too many bytes are in work; try again", retry_after=1))

    def drain(self) -> None:
        """Make the next answer of each connection its last."""
        self.draining = True
        for connection in self.connections:
            connection.close_after(connection.at_work)

    def refuse_late(self) -> None:
        """Give requests that are still incomplete, and answers that are not read yet, another `deadline_seconds`."""
        self._closes = self.now() + self.limits.deadline_seconds

    def sweep(self) -> None:
        """Expire the connections whose time is over."""
        now = self.now()
        for connection in [connection for connection in self.connections if min(connection.due, self._closes) <= now]:
            connection.expire()

    def _ring(self) -> None:
        self.sweep()
        self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._ring) if self.connections else None


def whole_answer(error: ServiceError, *headers: tuple[str, str]) -> bytes:
    """The complete HTTP answer for an error as bytes, with these headers in addition to its own."""
    body = error.to_bytes(None)
    fields = [("content-type", PROBLEM_TYPE), ("content-length", str(len(body))), *error.headers.items(), *headers]
    head = "".join(f"{name.lower()}: {value}\r\n" for name, value in fields)
    return f"HTTP/1.1 {error.status.value} {error.status.phrase}\r\n{head}\r\n".encode() + body
