"""What a client was answered is on record, whatever breaks: processes, databases, disks. Slow: `make test-fault`."""

import asyncio
import os
import random
import subprocess
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil
import pytest
from running import Home, Postgres, Server, run_cli, serve
from sqlalchemy import create_engine, text

from features.schema import Table

pytestmark = pytest.mark.fault
CONNECTIONS = 64
BUSY = 60  # seconds that an answer may take on a busy machine
Wait = Callable[[Callable[[], object]], None]


class Load:
    """Clients that score one applicant after the other in a thread of their own, and keep what they were answered."""

    def __init__(self, server: Server, table: Table) -> None:
        self.url, self.document = server.url, {"client_id": "c", "application": dict(table.example)}
        self.answered: list[str] = []
        self.statuses: Counter[int] = Counter()
        self._stopped = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._thread.join()

    async def _run(self) -> None:
        limits = httpx.Limits(max_connections=CONNECTIONS)
        async with httpx.AsyncClient(base_url=self.url, limits=limits, timeout=BUSY) as client:
            await asyncio.gather(*(self._one(client) for _ in range(CONNECTIONS)))

    async def _one(self, client: httpx.AsyncClient) -> None:
        while not self._stopped:
            try:
                response = await client.post("/predict", json=self.document)
            except httpx.TransportError:
                return
            self.statuses[response.status_code] += 1
            if response.status_code == 200:
                self.answered.append(response.json()["prediction_id"])
            else:
                await asyncio.sleep(0.05)


def kill(server: Server) -> None:
    """End the parent and the worker at once; the worker has a process group of its own."""
    parent = psutil.Process(server.process.pid)
    processes = [parent, *parent.children(recursive=True)]
    for process in processes:
        process.kill()
    psutil.wait_procs(processes)


def stored(url: str) -> list[str]:
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return [str(row[0]) for row in connection.execute(text("SELECT prediction_id FROM records"))]
    finally:
        engine.dispose()


def logged(folder: Path) -> list[str]:
    command = ["grep", "-ohP", '"prediction_id":"\\K[^"]+', *map(str, folder.glob("credit/logs/predictions*.jsonl"))]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()


def check(home: Home, folder: Path, url: str, answered: list[str]) -> None:
    """Every answer is in the log and, once it is shipped, exactly once in the store; the chain is whole."""
    environment = {**home.environment, "CREDIT_HOME": str(folder / "credit"), "CREDIT_STORE__URL": url}
    assert len(answered) == len(set(answered))
    log = logged(folder)
    assert len(log) == len(set(log))
    assert set(answered) <= set(log)
    shipped = run_cli(["ship", "--once"], environment)
    assert shipped.returncode == 0, shipped.stderr
    assert sorted(identifier.replace("-", "") for identifier in stored(url)) == sorted(i.replace("-", "") for i in log)
    verified = run_cli(["verify-log"], environment)
    assert verified.returncode == 0, verified.stdout + verified.stderr


@pytest.mark.parametrize("durability", ["flush", "fsync"])
def test_no_answer_is_lost_when_the_service_is_killed(
    home: Home, tmp_path: Path, table: Table, store_url: str, durability: str, wait_until: Wait
) -> None:
    answered: list[str] = []
    rng, kills = random.Random(durability), int(os.environ.get("KILLS", "20"))
    for _ in range(kills):
        for server in serve(home, tmp_path, CREDIT_STORE__URL=store_url, CREDIT_LOG__DURABILITY=durability):
            with Load(server, table) as load:
                wait_until(lambda: load.answered)
                time.sleep(rng.uniform(0, 1.5))
                kill(server)
            answered += load.answered
    assert len(answered) > 10 * kills
    check(home, tmp_path, store_url, answered)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 16 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("durability", ["flush", "fsync"])
def test_a_full_disk_stops_decisions_and_loses_none(
    home: Home, tmp_path: Path, small_disk: Path, table: Table, durability: str, wait_until: Wait
) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    filler = small_disk / "filler"
    filler.write_bytes(bytes(12_000_000))
    environment = {"CREDIT_HOME": str(small_disk / "credit"), "CREDIT_STORE__URL": url, "CREDIT_LOG__DURABILITY": durability}
    for server in serve(home, tmp_path, **environment):
        with Load(server, table) as load:
            wait_until(lambda: load.statuses[503] > 100)
            assert httpx.get(f"{server.url}/readyz", timeout=BUSY).status_code == 503
            assert httpx.get(f"{server.url}/livez", timeout=BUSY).status_code == 200
            refused = httpx.post(f"{server.url}/predict", json=load.document, timeout=BUSY)
            assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")
            before = len(load.answered)
            filler.unlink()
            wait_until(lambda: len(load.answered) > before + 500)
            assert httpx.get(f"{server.url}/readyz", timeout=BUSY).status_code == 200
        assert set(load.statuses) == {200, 503}
    check(home, small_disk, url, load.answered)


def metric(server: Server, name: str) -> float:
    lines = httpx.get(f"{server.url}/metrics", timeout=BUSY).text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.split()[0] == name)


OUTAGE = float(os.environ.get("OUTAGE", "60"))


def test_a_database_that_is_away_for_a_minute_is_caught_up_with(
    home: Home, tmp_path: Path, table: Table, postgres: Postgres, wait_until: Wait
) -> None:
    url = postgres.new_database()
    for server in serve(home, tmp_path, CREDIT_STORE__URL=url):
        with Load(server, table) as load:
            wait_until(lambda: len(load.answered) > 200)
            postgres.stop()
            try:
                time.sleep(OUTAGE)
                during = metric(server, "credit_shipper_lag_bytes")
                memory = metric(server, "process_resident_memory_bytes")
            finally:
                postgres.start()
            assert during > 0
            assert memory < 400e6
        assert set(load.statuses) == {200}
        wait_until(lambda: metric(server, "credit_shipper_lag_bytes") == 0)
    check(home, tmp_path, url, load.answered)


def test_where_decisions_are_committed_to_the_database_none_is_made_while_it_is_away(
    home: Home, tmp_path: Path, table: Table, postgres: Postgres, wait_until: Wait
) -> None:
    url = postgres.new_database()
    for server in serve(home, tmp_path, CREDIT_STORE__URL=url, CREDIT_LOG__DURABILITY="database"):
        with Load(server, table) as load:
            wait_until(lambda: len(load.answered) > 200)
            postgres.stop()
            try:
                wait_until(lambda: load.statuses[503] > 100)
                before = len(load.answered)
                time.sleep(min(OUTAGE, 10))
                assert len(load.answered) == before
                assert httpx.get(f"{server.url}/readyz", timeout=BUSY).status_code == 503
            finally:
                postgres.start()
            wait_until(lambda: len(load.answered) > before + 200)
        assert set(load.statuses) == {200, 503}
    kept = Counter(identifier.replace("-", "") for identifier in stored(url))
    assert set(kept.values()) == {1}
    assert {identifier.replace("-", "") for identifier in load.answered} <= set(kept)


def test_a_database_whose_disk_is_full_is_caught_up_with(
    home: Home, tmp_path: Path, table: Table, need: Callable[..., str], wait_until: Wait
) -> None:
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    search = os.pathsep.join([*map(str, programs), os.environ["PATH"]])
    folder = Path(tempfile.mkdtemp())
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", folder], check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    database = None
    try:
        database = Postgres(Path(need("initdb", path=search)).parent, folder)
        database.start()
        url = database.new_database()
        for server in serve(home, tmp_path, CREDIT_STORE__URL=url):
            with Load(server, table) as load:
                wait_until(lambda: metric(server, "credit_shipper_lines_total") > 0)
                filler = folder / "filler"
                fill(filler)
                wait_until(lambda: metric(server, "credit_shipper_errors_total") > 0)
                time.sleep(2)
                filler.unlink()
            assert set(load.statuses) == {200}
            wait_until(lambda: metric(server, "credit_shipper_lag_bytes") == 0)
        check(home, tmp_path, url, load.answered)
    finally:
        if database:
            database.stop()
        subprocess.run(["umount", "-l", folder], check=True)
        folder.rmdir()


def fill(path: Path) -> None:
    """Write until the disk is full."""
    file: Any
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(1 << 16)):
                pass
        except OSError:
            pass


class Retrying:
    """Clients that send each request with an idempotency key, to any of the services, until it is answered."""

    def __init__(self, table: Table, seed: object) -> None:
        self.document = {"client_id": "c", "application": dict(table.example)}
        self.servers: list[str] = []
        self.answers: dict[str, set[bytes]] = {}
        self._rng, self._stopped = random.Random(str(seed)), False
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(8)]

    def __enter__(self) -> "Retrying":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        count = 0
        with httpx.Client(timeout=BUSY) as client:
            while not self._stopped:
                count += 1
                key = f"{number}-{count}"
                wanted = 2 if count % 5 == 0 else 1  # some are sent again though they were answered
                while len(got := self.answers.setdefault(key, set())) == 0 or wanted:
                    try:
                        answer = client.post(
                            f"{self._rng.choice(self.servers)}/predict", json=self.document, headers={"Idempotency-Key": key}
                        )
                    except (httpx.TransportError, IndexError):
                        time.sleep(0.02)
                        continue
                    if answer.status_code == 200:
                        got.add(answer.content)
                        wanted = max(0, wanted - 1)
                    else:
                        assert answer.status_code in (409, 503), answer.text
                        time.sleep(0.02)


@pytest.mark.parametrize("durability", ["flush", "fsync", "database"])
def test_each_idempotency_key_has_one_decision_whoever_is_killed(
    home: Home, tmp_path: Path, table: Table, store_url: str, durability: str, wait_until: Wait
) -> None:
    """On PostgreSQL, two services share the store."""
    folders = [tmp_path / name for name in ("one", "two")[: 1 + store_url.startswith("postgresql")]]
    for folder in folders:
        folder.mkdir()
    environment = {"CREDIT_STORE__URL": store_url, "CREDIT_LOG__DURABILITY": durability}
    started = {folder: serve(home, folder, **environment) for folder in folders}
    running = {folder: next(started[folder]) for folder in folders}
    rng, kills = random.Random(durability), int(os.environ.get("KILLS", "4"))
    with Retrying(table, durability) as load:
        load.servers[:] = [server.url for server in running.values()]
        for turn in range(kills):
            before = len(load.answers)
            wait_until(lambda: len(load.answers) > before + 20)
            time.sleep(rng.uniform(0, 0.5))
            folder = folders[turn % len(folders)]
            kill(running[folder])
            list(started[folder])
            started[folder] = serve(home, folder, **environment)
            running[folder] = next(started[folder])
            load.servers[:] = [server.url for server in running.values()]
    for each in started.values():
        list(each)
    assert {len(answers) for answers in load.answers.values()} == {1}, "a key has one answer"
    ids = sorted(msgspec.json.decode(answer)["prediction_id"] for (answer,) in load.answers.values())
    for folder in folders:
        own = {**home.environment, **environment, "CREDIT_HOME": str(folder / "credit")}
        assert run_cli(["ship", "--once"], own).returncode == 0
    assert sorted(str(uuid.UUID(one)) for one in stored(store_url)) == ids
    if durability != "database":
        assert sorted(one for folder in folders for one in logged(folder)) == ids
