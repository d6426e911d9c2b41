"""State that a server's connections share: the gate that decides on their requests, one timer, and the bytes they hold."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from starlette.types import Scope

from configs.settings import ServiceSettings
from serving.errors import PROBLEM_TYPE, ServiceError
from serving.uvicorn.limits import MOST_HEADS, memory

SWEEP_SECONDS = 1.0
MEMORY = "credit_scoring.memory"  # in the scope of a request that waited
UNREAD = 8_192  # bytes of answers that a client may leave unread without being counted
READ_ON = 4  # after a refusal, read and drop so many times max_body_bytes: many clients send the whole body before they read the answer
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


class Held:
    """The bytes that each connection holds of one kind, oldest first, and their sum."""

    def __init__(self) -> None:
        self.total = 0
        self._sizes: dict[Any, int] = {}

    def set(self, connection: Any, size: int) -> None:
        """Set the bytes that a connection holds; it keeps its place in the order until it holds none."""
        self.total += size - self._sizes.get(connection, 0)
        if size:
            self._sizes[connection] = size
        else:
            self._sizes.pop(connection, None)

    def oldest(self) -> Any:
        """The connection that has held bytes for the longest time; None if no connection holds any."""
        return next(iter(self._sizes), None)


class Door:
    """The open connections of a server, with one timer for their timeouts and the bytes of the requests that are not in work yet.

    The timer checks every connection once per SWEEP_SECONDS. A timer per request lowered throughput by a tenth at 12,000 connections.
    If bodies exceed `max_bytes_in_work`, or heads MOST_HEADS, the connection that has held some for the longest time is refused. A client
    that sends at full speed has finished by then; one that sends slowly to hold memory is refused first. Heads and bodies have separate
    limits, because a head needs no key. Unread answers have a limit too.

    Parameters
    ----------
    now : returns seconds from any origin.
    """

    def __init__(self, gate: Gate, now: Callable[[], float] = time.monotonic) -> None:
        self.gate, self.limits, self.now = gate, gate.limits, now
        self.connections: set[Any] = set()
        self.heads, self.bodies = Held(), Held()  # of requests that are incomplete or wait in a pipeline
        self.answers = Held()  # not yet read by the clients
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
        self.hold(connection, 0, ())
        self.answers.set(connection, 0)

    def hold(self, connection: Any, head: int, waiting: Sequence[Any]) -> None:
        """Set what a connection holds for requests not in work: bytes of memory for a head that is arriving, and uvicorn's cycles."""
        self.heads.set(connection, head + sum(_memory(cycle.scope) for cycle in waiting))
        self.bodies.set(connection, sum(len(cycle.body) for cycle in waiting))

    def make_room(self) -> None:
        """Refuse the oldest requests that are not in work until the bytes are within the limits."""
        while self.heads.total > MOST_HEADS:
            self.heads.oldest().give_way(ServiceError(503, "too many requests are incomplete; try again", retry_after=1))
        while self.bodies.total and self.bodies.total + self.gate.bytes_in_work > self.limits.max_bytes_in_work:
            self.bodies.oldest().give_way(ServiceError(503, "too many bytes are in work; try again", retry_after=1))

    def unread(self, connection: Any, size: int) -> None:
        """Set the bytes of an answer that wait for the client; beyond `max_bytes_in_work`, cut off the clients that have kept theirs waiting longest."""
        self.answers.set(connection, size)
        while self.answers.total > self.limits.max_bytes_in_work and (oldest := self.answers.oldest()) is not connection:
            self.answers.set(oldest, 0)
            oldest.transport.abort()

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


def _memory(scope: Scope) -> int:
    """About how many bytes of memory a request takes beside its body; computed once, because a pipeline may hold many."""
    if MEMORY not in scope:
        headers = scope["headers"]
        scope[MEMORY] = memory(len(headers), sum(len(name) + len(value) for name, value in headers))
    return int(scope[MEMORY])


def whole_answer(error: ServiceError, *headers: tuple[str, str]) -> bytes:
    """The complete HTTP answer for an error as bytes, with these headers in addition to its own."""
    body = error.to_bytes(None)
    fields = [("content-type", PROBLEM_TYPE), ("content-length", str(len(body))), *error.headers.items(), *headers]
    head = "".join(f"{name.lower()}: {value}\r\n" for name, value in fields)
    return f"HTTP/1.1 {error.status.value} {error.status.phrase}\r\n{head}\r\n".encode() + body
