import asyncio
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import uvloop

from serving.errors import ServiceError
from serving.exposure import ExposureError, bound_hosts, check_exposure, guard_servers, needs_key
from serving.identity.key_ring import KeyRing
from serving.identity.keys import create_key


@pytest.fixture
def no_keys(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path / "none.json")


@pytest.fixture
def some_keys(tmp_path: Path) -> KeyRing:
    create_key(tmp_path / "keys.json", "", None)
    return KeyRing(tmp_path / "keys.json")


LOOPBACK = ["127.0.0.1", "::1", "127.9.9.9", "::ffff:127.0.0.1", "localhost"]
BEYOND = ["0.0.0.0", "::", "192.168.0.1", "::ffff:10.0.0.1", "fe80::1%eth0", "example.org", "localhost.example.org", ""]  # noqa: S104


@pytest.mark.parametrize("host", LOOPBACK)
def test_loopback_needs_no_authentication(host: str, no_keys: KeyRing) -> None:
    check_exposure([host], no_keys)
    assert not needs_key(no_keys, (host, 3000))


@pytest.mark.parametrize("host", BEYOND)
def test_beyond_loopback_it_must_be_switched_off_in_so_many_words(host: str, no_keys: KeyRing, some_keys: KeyRing) -> None:
    with pytest.raises(ExposureError, match=f"refusing to listen on {host} without authentication"):
        check_exposure(["127.0.0.1", host], no_keys)
    check_exposure([host], some_keys)
    check_exposure([host], None)


@pytest.mark.parametrize("host", BEYOND)
def test_a_request_that_arrives_beyond_loopback_is_refused_without_keys(host: str, no_keys: KeyRing, some_keys: KeyRing) -> None:
    with pytest.raises(ServiceError, match="answers only on loopback") as caught:
        needs_key(no_keys, (host, 3000))
    assert caught.value.status == 403
    assert needs_key(some_keys, (host, 3000))
    assert needs_key(some_keys, ("127.0.0.1", 3000))


@pytest.mark.parametrize("server", [None, ("/run/credit.sock", None)])
def test_a_socket_in_the_file_system_is_reached_from_this_machine_only(server: Any, no_keys: KeyRing, some_keys: KeyRing) -> None:
    assert not needs_key(no_keys, server)
    assert needs_key(some_keys, server)


def test_bound_sockets_are_found_whether_they_listen_or_not() -> None:
    with socket.socket() as sock, socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.4", 0))
        sock.bind(("127.0.0.2", 0))
        assert bound_hosts() >= {"127.0.0.2"}
        sock.listen()
        with socket.create_connection(sock.getsockname(), source_address=("127.0.0.3", 0)):
            assert bound_hosts() >= {"127.0.0.2"}
            assert not bound_hosts() & {"127.0.0.3", "127.0.0.4", "0.0.0.0"}  # noqa: S104
    assert "127.0.0.2" not in bound_hosts()


def given(host: str, family: socket.AddressFamily = socket.AF_INET) -> dict[str, Any]:
    sock = socket.socket(family)
    sock.bind((host, 0))
    return {"sock": sock}


def disguised(sock: socket.socket) -> socket.socket:
    """As `uvicorn --fd` makes one of an inherited socket."""
    with sock:
        return socket.fromfd(sock.fileno(), socket.AF_UNIX, socket.SOCK_STREAM)


SERVERS: dict[str, Any] = {
    "by address": lambda: {"host": "0.0.0.0", "port": 0},  # noqa: S104
    "by no address": lambda: {"host": None, "port": 0},
    "one of several": lambda: {"host": ["127.0.0.1", "0.0.0.0"], "port": 0},  # noqa: S104
    "by a bound socket": lambda: given("0.0.0.0"),  # noqa: S104
    "by a bound socket of IPv6": lambda: given("::", socket.AF_INET6),
    "by a socket that says it is of another family": lambda: {"sock": disguised(given("0.0.0.0")["sock"])},  # noqa: S104
}


@pytest.mark.parametrize("loops", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
def test_a_server_beyond_loopback_is_refused_before_it_listens(server: Any, loops: Any, no_keys: KeyRing, some_keys: KeyRing) -> None:
    async def listen(keys: KeyRing | None) -> set[str]:
        loop = asyncio.get_running_loop()
        guard_servers(loop, keys)
        made = await loop.create_server(asyncio.Protocol, **server())
        hosts = bound_hosts()
        made.close()
        return hosts

    before = bound_hosts()
    with pytest.raises(OSError, match="refusing to listen on "), asyncio.Runner(loop_factory=loops) as runner:
        runner.run(listen(no_keys))
    assert bound_hosts() == before
    for keys in (some_keys, None):
        with asyncio.Runner(loop_factory=loops) as runner:
            assert runner.run(listen(keys)) & {"0.0.0.0", "::"}  # noqa: S104


@pytest.mark.parametrize("loops", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_server_on_loopback_serves(loops: Any, no_keys: KeyRing, tmp_path: Path) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        guard_servers(loop, no_keys)
        server = await loop.create_server(asyncio.Protocol, host="localhost", port=0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        writer.close()
        server.close()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(tmp_path / "socket"))
            (await loop.create_server(asyncio.Protocol, sock=sock.dup())).close()

    with asyncio.Runner(loop_factory=loops) as runner:
        runner.run(scenario())


def test_a_process_that_guards_its_binds_asks_before_each_of_them() -> None:
    program = """
import socket
from serving.exposure import guard_binds
seen = []
def refuse(host):
    seen.append(host)
    if host != "127.0.0.1":
        raise SystemExit(f"refused {host}")
guard_binds(refuse)
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind(("0.0.0.0", 0))
socket.create_server(("127.0.0.1", 0))
assert seen == ["127.0.0.1"], seen
socket.create_server(("0.0.0.0", 0))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (1, "refused 0.0.0.0\n")
