"""Accepts many new connections in one turn of the event loop.

uvloop accepts one connection per turn (since libuv 1.45; asyncio's own loop accepts up to the backlog). Under overload, a turn takes
over 100 ms, because it serves all requests that have arrived. New connections, such as health probes, would then wait for minutes.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

AT_ONCE = 256


def accept_many(loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
    """Make each server that this loop creates from now on, on a given socket, accept up to AT_ONCE connections per turn.

    Servers with TLS and loops other than uvloop's stay unchanged.

    Returns
    -------
    stop : a function that makes these servers accept the connections that are waiting, and the system refuse later ones. Closing a
        server alone would reset the waiting connections, and new ones would still queue while another process holds the socket.
    """
    helpers: list[_Helper] = []

    def stop() -> None:
        for helper in helpers:
            helper.stop()

    if not type(loop).__module__.startswith("uvloop"):
        return stop
    create_server = loop.create_server

    async def create(factory: Any, *arguments: Any, sock: socket.socket | None = None, **options: Any) -> asyncio.AbstractServer:
        server = await create_server(factory, *arguments, sock=sock, **options)
        if sock is not None and options.get("ssl") is None:
            helpers.append(_Helper(loop, server, sock.dup(), factory))
        return server

    loop.create_server = create  # type: ignore[assignment]
    return stop


class _Helper:
    """Accepts connections from a server's own queue, in addition to the server, while it is serving."""

    def __init__(self, loop: asyncio.AbstractEventLoop, server: asyncio.Server, listener: socket.socket, factory: Any) -> None:
        self.loop, self.server, self.listener, self.factory = loop, server, listener, factory
        self.tasks: set[asyncio.Task[Any]] = set()
        listener.setblocking(False)
        loop.add_reader(listener, self.take)
        self.keep(loop.create_task(self.close_with_server()))

    def keep(self, task: "asyncio.Task[Any]") -> None:
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def take(self) -> None:
        """Accept up to AT_ONCE connections."""
        if not self.server.is_serving():
            self.close()
            return
        for _ in range(AT_ONCE):
            if not self.take_one():
                return

    def take_one(self) -> bool:
        """Accept a connection; whether there was one."""
        try:
            connection, _ = self.listener.accept()
        except OSError:  # no connection is waiting, or no file descriptor is left, which the server itself handles
            return False
        self.keep(self.loop.create_task(self.loop.connect_accepted_socket(self.factory, connection)))
        return True

    def stop(self) -> None:
        """Accept the connections that wait, and let the system refuse others."""
        if not self.server.is_serving():
            return
        self.server.close()
        while self.take_one():
            pass
        with contextlib.suppress(OSError):  # where the system cannot do it, they wait until all processes have closed the socket
            self.listener.shutdown(socket.SHUT_RD)
        self.close()

    def close(self) -> None:
        """Let go of the socket."""
        if self.listener.fileno() >= 0:
            self.loop.remove_reader(self.listener)
            self.listener.close()

    async def close_with_server(self) -> None:
        try:
            await self.server.wait_closed()
        finally:
            self.close()
