"""Replaces uvicorn's HTTP protocol by the guarded connection."""

import logging
import time
from collections.abc import Callable
from typing import Any

from monitoring.service_log import LOGGER
from serving.uvicorn.connection import Connection
from serving.uvicorn.door import Door, Gate

logger = logging.getLogger(LOGGER)

HOOKS = (  # methods of uvicorn's protocol that the connection overrides
    "connection_made",
    "connection_lost",
    "data_received",
    "on_message_begin",
    "on_header",
    "on_headers_complete",
    "on_body",
    "on_message_complete",
    "on_response_complete",
    "pause_writing",
    "resume_writing",
    "_start_asgi_task",
)


def guard(gate: Gate, now: Callable[[], float] = time.monotonic) -> Door | None:
    """Apply the gate's limits to uvicorn's connections. If uvicorn's protocol is not the expected one, log a warning and return None.

    If there is no room, a connection refuses a request before it creates a task, a scope and a call of the app. That keeps the service
    answering under overload, when each turn of the event loop reads all requests that have arrived and an answer takes three turns. At
    three times the capacity, 2,530 requests per second were answered with this early refusal and 187 without. The app itself refuses
    pipelined requests, requests with `Connection: close` and requests with `Expect: 100-continue`.
    """
    from uvicorn.protocols.http import auto  # the parent process does not need it

    base: Any = auto.AutoHTTPProtocol
    if base.__name__ != "HttpToolsProtocol" or not all(hasattr(base, hook) for hook in HOOKS):
        logger.warning(
            "connections have no size limits, timeouts or early refusal, because uvicorn's HTTP protocol is not the expected one; "
            "install the versions of uvicorn and httptools in configs/requirements",
            extra={"protocol": base.__name__},
        )
        return None
    door = Door(gate, now)
    auto.AutoHTTPProtocol = type("GuardedProtocol", (Connection, base), {"door": door})
    return door
