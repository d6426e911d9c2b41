import asyncio
import contextlib
import socket

import pytest
import uvloop

from serving.uvicorn.accept import accept_many


class Greeter(asyncio.Protocol):
    def connection_made(self, transport: asyncio.WriteTransport) -> None:  # type: ignore[override]
        transport.write(b"hello")
        transport.close()


async def crowd(loop: asyncio.AbstractEventLoop, turns: int) -> tuple[int, asyncio.Server, socket.socket]:
    """How many of 50 clients that came in one turn of the loop are greeted within this many turns of it."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)
    server = await loop.create_server(Greeter, sock=listener, backlog=1000)
    clients = [socket.create_connection(listener.getsockname()) for _ in range(50)]  # on loopback each is in the queue when this returns
    for _ in range(turns):
        await asyncio.sleep(0)
    greeted = 0
    for client in clients:
        client.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            greeted += client.recv(10) == b"hello"
        client.close()
    return greeted, server, listener


def test_connections_that_came_together_are_taken_together() -> None:
    async def scenario() -> int:
        loop = asyncio.get_running_loop()
        accept_many(loop)
        greeted, server, listener = await crowd(loop, turns=8)
        server.close()
        listener.close()
        await server.wait_closed()
        return greeted

    assert uvloop.run(scenario()) == 50


def test_a_closed_server_takes_no_more_connections() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        accept_many(loop)
        _, server, listener = await crowd(loop, turns=8)
        address = listener.getsockname()
        server.close()
        listener.close()
        await server.wait_closed()
        late = socket.create_connection(address)
        for _ in range(5):
            await asyncio.sleep(0)
        late.settimeout(1)
        with contextlib.suppress(ConnectionResetError):
            assert late.recv(10) == b""
        late.close()

    uvloop.run(scenario())


def test_a_server_that_stops_listening_takes_those_who_wait_and_the_system_refuses_later_ones() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        stop = accept_many(loop)
        with socket.create_server(("127.0.0.1", 0)) as listener, listener.dup():  # the second as in another process
            await loop.create_server(Greeter, sock=listener, backlog=1000)
            address = listener.getsockname()
            clients = [socket.create_connection(address) for _ in range(600)]
            stop()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address)
            for client in clients:
                client.setblocking(False)
                assert await loop.sock_recv(client, 10) == b"hello"
                client.close()
            stop()  # a second time changes nothing

    uvloop.run(scenario())


def test_loops_that_take_many_by_themselves_are_left_alone() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        before = loop.create_server
        accept_many(loop)
        assert loop.create_server == before

    asyncio.run(scenario())
