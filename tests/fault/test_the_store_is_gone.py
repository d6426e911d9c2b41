"""The file of the store is removed, replaced, cut or protected under load: what was answered is somewhere. Slow: `make test-fault`."""

import contextlib
import os
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from running import Home, Server, run_cli, serve

from features.schema import Table
from monitoring.store.database import open_store

pytestmark = pytest.mark.fault
CLIENTS = 8
ROUNDS = int(os.environ.get("ROUNDS", "1"))
Wait = Callable[[Callable[[], object]], None]


class Clients:
    """Score an applicant, tell its outcome, again and again; keep what was answered, and when it was asked."""

    def __init__(self, server: Server, table: Table) -> None:
        self._url, self._document = server.url, {"client_id": "c", "application": dict(table.example)}
        self.decisions: dict[str, float] = {}
        self.outcomes: dict[str, float] = {}
        self.statuses: Counter[tuple[str, int]] = Counter()
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        limits = httpx.Limits(keepalive_expiry=1)  # before the service closes the idle connection, while this thread waits for a core
        with httpx.Client(base_url=self._url, timeout=60, limits=limits) as client:
            known = ""
            while not self._stopped.is_set():
                begun = time.monotonic()
                answer = self._post(client, "/predict", self._document)
                if answer.status_code == 200:
                    known = answer.json()["prediction_id"]
                    self.decisions[known] = begun
                outcome = {"prediction_id": known, "defaulted": True}
                answer = self._post(client, "/outcomes", {"outcomes": [outcome]})
                if answer.status_code == 200 and answer.json()["outcomes"][0]["status"] == "stored":
                    self.outcomes[known] = begun

    def _post(self, client: httpx.Client, route: str, document: object) -> httpx.Response:
        response = client.post(route, json=document)
        self.statuses[route, response.status_code] += 1
        if response.status_code != 200:
            self._stopped.wait(0.05)
        return response


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    other = path.with_name("other.db")
    open_store(f"sqlite:///{other}").dispose()
    other.replace(path)


def cut(path: Path) -> None:
    os.truncate(path, 0)


def protect(path: Path) -> None:
    path.chmod(0o400)


@contextlib.contextmanager
def kept(path: Path) -> Iterator[Path]:
    """A second name of the file of the store and of its log, under which they can be read after they lost the first."""
    folder = path.with_name("kept")
    folder.mkdir()
    for name in ("store.db", "store.db-wal"):
        os.link(path.with_name(name), folder / name)
    yield folder / "store.db"
    for name in folder.iterdir():
        name.unlink()
    folder.rmdir()


def rows(path: Path, table: str) -> set[str]:
    with contextlib.closing(sqlite3.connect(path)) as connection, contextlib.suppress(sqlite3.OperationalError):  # it is empty
        return {row[0] for row in connection.execute(f"SELECT prediction_id FROM {table}")}  # noqa: S608
    return set()


def logged(home: Path) -> set[str]:
    command = ["grep", "-ohP", '"prediction_id":"\\K[^"]+', *map(str, home.glob("logs/predictions*.jsonl"))]
    return set(subprocess.run(command, capture_output=True, text=True, check=False).stdout.split())


@pytest.mark.parametrize("harm", [remove, replace, cut, protect])
@pytest.mark.parametrize("durability", ["flush", "fsync", "database"])
def test_no_answer_is_in_a_file_that_nobody_can_open(
    home: Home, tmp_path: Path, table: Table, durability: str, harm: Callable[[Path], None], wait_until: Wait
) -> None:
    credit = tmp_path / "credit"
    path = credit / "store.db"
    for _ in range(ROUNDS):
        for server in serve(home, tmp_path, CREDIT_LOG__DURABILITY=durability):
            with Clients(server, table) as clients:
                wait_until(lambda: len(clients.outcomes) > 50)
                with kept(path) as before:
                    harm(path)
                    harmed = time.monotonic()
                    wait_until(lambda: httpx.get(f"{server.url}/readyz", timeout=60).status_code == 503)
                    assert "credit_store_ready 0.0" in httpx.get(f"{server.url}/metrics", timeout=60).text
                    refused = clients.statuses["/outcomes", 503]
                    wait_until(lambda: clients.statuses["/outcomes", 503] > refused + 20)
                    assert (clients.statuses["/predict", 503] > 0) == (durability == "database")
                    clients.__exit__()
                    copies = {table: rows(before, table) for table in ("records", "outcomes")} if harm is not cut else {}
        if harm is protect:
            path.chmod(0o600)
        environment = {**home.environment, "CREDIT_HOME": str(credit)}
        shipped = run_cli(["ship", "--once"], environment)
        if harm is cut and shipped.returncode:  # a checkpoint may make a cut file long again, with a hole in it
            assert "put back a whole one" in shipped.stderr
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            shipped = run_cli(["ship", "--once"], environment)
        assert shipped.returncode == 0, shipped.stderr
        # a cut may destroy decisions that were answered before it; only later ones count
        since = harmed if harm is cut else 0.0
        decisions = {identifier for identifier, begun in clients.decisions.items() if begun >= since or durability != "database"}
        assert decisions <= rows(path, "records") | logged(credit) | copies.get("records", set())
        if durability != "database":
            assert decisions <= rows(path, "records"), "the log was shipped into the new file"
        outcomes = {identifier for identifier, begun in clients.outcomes.items() if begun >= since}
        assert outcomes <= rows(path, "outcomes") | copies.get("outcomes", set())
        assert set(clients.statuses) <= {(route, status) for route in ("/predict", "/outcomes") for status in (200, 503)}
