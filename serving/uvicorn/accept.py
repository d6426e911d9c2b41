"""Accepts many new connections in one turn of the event loop.

uvloop accepts one connection per turn (since libuv 1.45; asyncio's own loop accepts up to the backlog). Under overload, a turn takes
over 100 ms, because it serves all requests that have arrived. New connections, such as health probes, would then wait for minutes.
"""

import asyncio
import socket
from typing import Any

AT_ONCE = 256


def accept_many(loop: asyncio.AbstractEventLoop) -> None:
    """Make future servers of this loop that get a socket accept up to AT_ONCE connections per turn.

    Servers with TLS and loops other than uvloop's stay unchanged.
    """
    if not type(loop).__module__.startswith("uvloop"):
        return
    create_server = loop.create_server

    async def create(factory: Any, *arguments: Any, sock: socket.socket | None = None, **options: Any) -> asyncio.AbstractServer:
        server = await create_server(factory, *arguments, sock=sock, **options)
        if sock is not None and options.get("ssl") is None:
            _help(loop, server, sock.dup(), factory)
        return server

    loop.create_server = create  # type: ignore[assignment]


def _help(loop: asyncio.AbstractEventLoop, server: asyncio.Server, listener: socket.socket, factory: Any) -> None:
    """Accept connections from the server's own queue, in addition to the server, while it is serving."""
    tasks: set[asyncio.Task[Any]] = set()

    def keep(task: "asyncio.Task[Any]") -> None:
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def stop() -> None:
        if listener.fileno() >= 0:
            loop.remove_reader(listener)
            listener.close()

    def take() -> None:
        if not server.is_serving():
            stop()
            return
        for _ in range(AT_ONCE):
            try:
                connection, _ = listener.accept()
            except OSError:  # no connection is waiting, or no file descriptor is left, which the server itself handles
                return
            keep(loop.create_task(loop.connect_accepted_socket(factory, connection)))

    async def stop_with_server() -> None:
        try:
            await server.wait_closed()
        finally:
            stop()

    listener.setblocking(False)
    loop.add_reader(listener, take)
    keep(loop.create_task(stop_with_server()))
