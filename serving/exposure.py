"""Refuses to listen or answer beyond loopback without authentication, unless CREDIT_AUTH=disabled.

The parent process checks its configuration, and again each address that it binds. The worker process checks the sockets it inherits,
each server that its event loop creates, and the address at which a request arrives, because some servers do not report their addresses.
"""

import asyncio
import ipaddress
import socket
import sys
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from serving.errors import ServiceError
from serving.identity.key_ring import KeyRing
from serving.identity.keys import KeysError


class ExposureError(PermissionError):
    """The service would listen beyond loopback without authentication."""


def bound_hosts() -> set[str]:
    """The addresses on which this process listens or is about to: those of its TCP sockets that are bound and have no peer."""
    hosts = set()
    for descriptor in Path("/dev/fd").iterdir():
        try:
            sock = socket.socket(fileno=int(descriptor.name))
        except OSError:  # not a socket, or the list of descriptors itself
            continue
        if _is_tcp(sock) and not _has_peer(sock) and sock.getsockname()[1]:
            hosts.add(str(sock.getsockname()[0]))
        sock.detach()  # its owner closes it
    return hosts


def check_exposure(hosts: Iterable[str], keys: KeyRing | None) -> None:
    """Refuse to listen beyond loopback without authentication, and to listen at all if the key file is broken.

    Parameters
    ----------
    keys : None if authentication is switched off.

    Raises
    ------
    ExposureError
        A host is not loopback, there are no keys, and authentication is not switched off.
    KeysError
        The key file cannot be used.
    """
    if keys is not None:
        keys.start()
    exposed = sorted(host for host in hosts if not is_loopback(host))
    if exposed and keys is not None and not keys.required:
        raise ExposureError(
            f"refusing to listen on {', '.join(exposed)} without authentication: "
            "make a key with `credit-scoring keys create`, listen on 127.0.0.1, "
            "or set CREDIT_AUTH=disabled if a proxy authenticates the requests"
        )


def needs_key(keys: KeyRing, server: tuple[str, int | None] | None) -> bool:
    """Whether a request that arrived at this address (`server` of its ASGI scope) needs a key.

    The address has no port for a Unix socket, and some servers give none at all.

    Raises
    ------
    ServiceError
        403: there are no keys, and the address is not loopback.
    """
    if keys.required:
        return True
    if server is not None and server[1] is not None and not is_loopback(server[0]):
        raise ServiceError(
            403, "the service has no keys, so it answers only on loopback; the operator makes a key with `credit-scoring keys create`"
        )
    return False


def guard_binds(refuse: Callable[[str], None]) -> None:
    """Call `refuse` with each host before this process binds a TCP socket to it. An audit hook (PEP 578) cannot be removed."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.bind":
            sock, address = arguments
            if _is_tcp(sock):
                refuse(address[0])

    sys.addaudithook(hook)


def guard_servers(loop: asyncio.AbstractEventLoop, keys: KeyRing | None) -> None:
    """Make this loop call check_exposure for each new TCP server before the server listens."""
    create_server = loop.create_server

    async def create(*arguments: Any, start_serving: bool = True, **options: Any) -> asyncio.AbstractServer:
        server = await create_server(*arguments, start_serving=False, **options)
        names = [sock.getsockname() for sock in server.sockets]  # a socket may report the wrong family
        try:
            check_exposure((str(name[0]) for name in names if isinstance(name, tuple)), keys)
        except (ExposureError, KeysError):
            server.close()
            raise
        if start_serving:
            await server.start_serving()
        return server

    loop.create_server = create  # type: ignore[method-assign, assignment]


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host. `localhost` is the only name that is accepted."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _is_tcp(sock: socket.socket) -> bool:
    return sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM


def _has_peer(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True
