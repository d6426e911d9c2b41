"""Runs a server in a network namespace of its own, and prints its exit code and where it listened as JSON. Linux, as root.

Arguments: the server's module, its function, and its arguments. File descriptor 3 of the server is a socket that listens on all
interfaces, as systemd passes one.
"""

import contextlib
import ctypes
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

NEW_NETWORK = 0x40000000  # CLONE_NEWNET of sched.h
LISTENING = "0A"  # state in /proc/net/tcp
LOOPBACK = ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")
SECONDS = 60.0
ADDRESS = "10.1.2.3"
PASSED = 3  # first file descriptor that systemd passes (sd_listen_fds)
PASSED_PORT = 3999


def beyond_loopback() -> set[int]:
    """The ports of this namespace that listen beyond loopback."""
    ports = set()
    for name in ("tcp", "tcp6"):
        for line in Path("/proc/self/net", name).read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            address, port = local.split(":")
            if state == LISTENING and address not in LOOPBACK:
                ports.add(int(port, 16))
    return ports


def main(module: str, function: str, *arguments: str) -> Any:
    """Run the server in a child; watch it until it ends."""
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "a network namespace cannot be made")
    for command in (["link", "set", "lo", "up"], ["address", "add", f"{ADDRESS}/24", "dev", "lo"]):
        subprocess.run(["ip", *command], check=True)
    with socket.create_server(("0.0.0.0", PASSED_PORT)) as passed:  # noqa: S104 - what the tests are about
        child = os.fork()
        if child == 0:
            os.setsid()
            os.dup2(passed.fileno(), PASSED, inheritable=True)
            sys.argv = [module, *arguments]
            sys.path += os.environ.get("PYTHONPATH", "").split(os.pathsep)  # the interpreter that was forked has another
            return getattr(importlib.import_module(module), function)()
    listened: set[int] = set()
    deadline = time.monotonic() + SECONDS
    ended = status = 0
    while not ended and time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        listened |= beyond_loopback() - {PASSED_PORT}
        time.sleep(0.01)
    code = os.waitstatus_to_exitcode(status) if ended else None
    left = beyond_loopback()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    print(json.dumps({"code": code, "listened": sorted(listened), "left": sorted(left)}))  # noqa: T201 - its result
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
