"""Nothing listens or answers beyond loopback without authentication, unless that is switched off in so many words.

The parent process refuses by its configuration, and again when it binds. The process that serves looks at the sockets it was
given, at each server that its loop makes, and at the address on which a request arrives: not every server tells where it listens.
"""

import asyncio
import ipaddress
import socket
import sys
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import psutil

from serving.errors import ServiceError
from serving.keys import KeyRing

STARTUP_FAILURE = 3  # the exit code by which uvicorn and gunicorn know that another start would fail too


class ExposureError(RuntimeError):
    """The service would listen to the world without authentication."""


def listening_hosts() -> set[str]:
    """The addresses on which this process accepts TCP connections."""
    connections = psutil.Process().net_connections(kind="tcp")
    return {connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN}


def check_exposure(hosts: Iterable[str], keys: KeyRing | None) -> None:
    """Refuse to listen beyond loopback without authentication.

    Parameters
    ----------
    keys : None where authentication is switched off.

    Raises
    ------
    ExposureError
        A host is not loopback, there are no keys, and authentication is not switched off.
    """
    exposed = sorted(host for host in hosts if not is_loopback(host))
    if exposed and keys is not None and not keys.required:
        raise ExposureError(
            f"refusing to listen on {', '.join(exposed)} without authentication: "
            "make a key with `credit-scoring keys create`, listen on 127.0.0.1, "
            "or set CREDIT_AUTH=disabled where something in front authenticates"
        )


def needs_key(keys: KeyRing, server: tuple[str, int | None] | None) -> bool:
    """Whether a request that arrived at this address (`server` of its ASGI scope) needs a key.

    A socket in the file system has no port, and some servers tell nothing of it.

    Raises
    ------
    ServiceError
        403: there are no keys, and the address is not loopback.
    """
    if keys.required:
        return True
    if server is not None and server[1] is not None and not is_loopback(server[0]):
        raise ServiceError(
            403, "the service has no keys and answers only on loopback; the operator makes one with `credit-scoring keys create`"
        )
    return False


def guard_binds(refuse: Callable[[str], None]) -> None:
    """From now on, and for ever, call `refuse` with each host before this process binds a TCP socket to it; see PEP 578."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.bind":
            sock, address = arguments
            if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM:
                refuse(address[0])

    sys.addaudithook(hook)


def guard_servers(loop: asyncio.AbstractEventLoop, keys: KeyRing | None) -> None:
    """Have this loop end the process, before it listens, where it makes a TCP server that check_exposure refuses."""
    create_server = loop.create_server

    async def create(*arguments: Any, start_serving: bool = True, **options: Any) -> asyncio.AbstractServer:
        server = await create_server(*arguments, start_serving=False, **options)
        try:
            check_exposure((str(sock.getsockname()[0]) for sock in server.sockets if sock.family != socket.AF_UNIX), keys)
        except ExposureError as error:
            server.close()
            print(error, file=sys.stderr)  # noqa: T201 - what ends a process is told where a shell shows it
            raise SystemExit(STARTUP_FAILURE) from None
        if start_serving:
            await server.start_serving()
        return server

    loop.create_server = create  # type: ignore[method-assign, assignment]


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it; a name does not count, but `localhost`."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
