"""Drains the connections before the server ends, so that no request fails when a replica is replaced.

While it drains, `/readyz` answers 503, so load balancers choose another replica, and each answer carries `Connection: close`, so clients
connect anew. uvicorn alone would close connections without a request in work, though a request may be on its way.
"""

import asyncio
import logging
import signal
import threading
from collections.abc import Callable
from typing import Any

from monitoring.service_log import LOGGER
from serving.uvicorn.door import Door

logger = logging.getLogger(LOGGER)


LINGER = 0.5  # seconds after the last connection was accepted, for its request to arrive


def drain_first(loop: asyncio.AbstractEventLoop, door: Door, seconds: float, stop_listening: Callable[[], None]) -> None:
    """Make SIGTERM drain the door for this long before the server's own handler runs. SIGINT ends the server at once.

    Call it in the main thread, after the server has set its handlers.
    """
    if threading.current_thread() is not threading.main_thread():  # it receives no signals
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    if all(callable(handler) for handler in handlers.values()):
        drain = _Drain(loop, door, seconds, stop_listening, handlers)
        for number in handlers:
            signal.signal(number, lambda number, _: loop.call_soon_threadsafe(drain.begin, number))


class _Drain:
    def __init__(
        self, loop: asyncio.AbstractEventLoop, door: Door, seconds: float, stop_listening: Callable[[], None], handlers: dict[Any, Any]
    ) -> None:
        self.loop, self.door, self.seconds, self.stop_listening, self.handlers = loop, door, seconds, stop_listening, handlers
        self.timer: asyncio.TimerHandle | None = None
        self.ended = False

    def begin(self, number: int) -> None:
        """Drain after a signal. A second SIGTERM changes nothing: if all processes were signalled, the parent sends another one."""
        if self.timer is not None and number == signal.SIGTERM:
            return
        if self.ended:  # the server takes a second SIGINT as an order not to wait
            self.handlers[number](number, None)
            return
        if self.timer is not None:
            self.timer.cancel()
        seconds = self.seconds if number == signal.SIGTERM else 0.0
        logger.info("draining", extra={"seconds": seconds})
        self.door.drain()
        self.timer = self.loop.call_later(seconds, self.leave if seconds else self.end)

    def leave(self) -> None:
        """Refuse new connections."""
        self.stop_listening()
        self.timer = self.loop.call_later(LINGER, self.end)

    def end(self) -> None:
        """End the server, which closes the idle connections and waits for the others. Its handler of SIGINT would end with a traceback."""
        self.ended = True
        self.door.refuse_late()
        self.handlers[signal.SIGTERM](signal.SIGTERM, None)
