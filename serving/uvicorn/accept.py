"""Between the listening socket and the connections: new ones are taken many at a time.

libuv, beneath uvloop, accepts one connection a turn of the loop. Above capacity a turn takes 100 ms and more, since it serves
everything that has arrived: then new connections, a prober's among them, wait for minutes while the old ones are served.
(Since libuv 1.45, which no longer accepts in a loop; asyncio's own loop accepts up to the backlog at once.)
"""

import asyncio
import socket
from typing import Any

AT_ONCE = 256


def accept_many(loop: asyncio.AbstractEventLoop) -> None:
    """Let the servers that this loop will make from a socket take many connections a turn.

    Servers with TLS, and loops other than uvloop's, are left as they are.
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
    """Take connections beside the server, from the same queue, while it serves."""
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
            except OSError:  # nobody is waiting, or no descriptor is left: the server's own affair
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
