"""Replicas behind a load balancer are replaced one after the other under load, and no request fails. Slow: `make test-fault`.

A whole run is ROLLOUT_ROUNDS=5 ROLLOUT_SECONDS=180.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from running import Home, Server, bentoml_serve, free_port
from steady import SteadyLoad

from features.schema import Table

pytestmark = pytest.mark.fault
ROUNDS = int(os.environ.get("ROLLOUT_ROUNDS", "1"))
SECONDS = float(os.environ.get("ROLLOUT_SECONDS", "20"))  # of load; each round replaces every replica at least once
REPLICAS = 3
Wait = Callable[[Callable[[], object]], None]
CONFIGURATION = """
global
    stats socket {folder}/control
defaults
    mode tcp
    timeout connect 60s
    timeout client 120s
    timeout server 120s
    timeout check 5s
    retries 0
frontend service
    bind 127.0.0.1:{port}
    default_backend replicas
backend replicas
    balance roundrobin
    option httpchk
    http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host service
    http-check expect status 200
    default-server check inter 500ms fall 2 rise 1
"""


class Replica:
    """A service with a port and a decision log of its own, which can be replaced."""

    def __init__(self, home: Home, folder: Path) -> None:
        self.home, self.folder, self.port = home, folder, free_port()
        folder.mkdir()
        self.start()

    def start(self) -> None:
        self.run: Any = bentoml_serve(self.home, self.folder, port=self.port, CREDIT_SERVICE__DRAIN_SECONDS="5")
        self.server: Server = next(self.run)

    def stop(self) -> float:
        """Stop it as an orchestrator does; returns the seconds that it took."""
        begun = time.monotonic()
        os.kill(self.server.process.pid, signal.SIGTERM)
        assert self.server.process.wait(60) == 0
        return time.monotonic() - begun

    def close(self) -> None:
        """Stop it, whatever its state."""
        self.run.close()


class Balancer:
    """HAProxy in TCP mode. It knows of a replica only what the replica's `/readyz` answers, and tries no connection again."""

    def __init__(self, program: str, folder: Path, replicas: list[Replica]) -> None:
        self.port, self.control = free_port(), folder / "control"
        servers = "".join(f"    server s{number} 127.0.0.1:{replica.port}\n" for number, replica in enumerate(replicas))
        (folder / "haproxy.cfg").write_text(CONFIGURATION.format(folder=folder, port=self.port) + servers)
        self.process = subprocess.Popen([program, "-db", "-q", "-f", str(folder / "haproxy.cfg")])

    def up(self) -> int:
        """The number of replicas that it sends connections to."""
        with socket.socket(socket.AF_UNIX) as control, contextlib.suppress(OSError):
            control.connect(str(self.control))
            control.sendall(b"show stat\n")
            shown = b"".join(iter(lambda: control.recv(65_536), b"")).decode()
            return len(re.findall(r"^replicas,s\d+,.*,UP,", shown, re.MULTILINE))
        return 0

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(60)


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_no_request_fails_in_a_rollout_and_every_answer_is_on_record(
    home: Home, tmp_path: Path, table: Table, need: Callable[..., str], wait_until: Wait, round_number: int
) -> None:
    with contextlib.ExitStack() as stack:
        replicas = [stack.enter_context(contextlib.closing(Replica(home, tmp_path / f"replica{number}"))) for number in range(REPLICAS)]
        balancer = stack.enter_context(contextlib.closing(Balancer(need("haproxy"), tmp_path, replicas)))
        wait_until(lambda: balancer.up() == REPLICAS)
        taken: list[float] = []
        with SteadyLoad("127.0.0.1", balancer.port, table, kept=16, new=8, pause=0.05) as load:
            until = time.monotonic() + SECONDS
            while time.monotonic() < until or len(taken) < REPLICAS:
                replica = replicas[len(taken) % REPLICAS]
                taken.append(replica.stop())
                replica.close()
                replica.start()
                wait_until(lambda: balancer.up() == REPLICAS)
                assert load.failures == []
    recorded = [found for log in tmp_path.glob("*/credit/logs/predictions*.jsonl") for found in _ids(log)]
    closed = sum(load.closed.values())
    print(f"{len(taken)} replaced, {len(load.answered)} answered, {closed} connections moved, ended within {max(taken):.1f} s")  # noqa: T201
    assert (load.failures, set(load.statuses)) == ([], {200})
    assert len(recorded) == len(set(recorded))
    assert set(load.answered) <= set(recorded)
    assert closed >= len(taken)


def _ids(log: Path) -> list[str]:
    return re.findall(r'"prediction_id":"([^"]+)', log.read_text())
