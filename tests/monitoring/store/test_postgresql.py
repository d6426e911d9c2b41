"""PostgreSQL as it is found: its encoding, TLS, a pooler in front, a replica, a connection that is lost in the middle of a commit."""

import asyncio
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from records import make_records, stored, wait_for
from running import Postgres, free_port
from sqlalchemy import make_url, text

from monitoring.decision_log.sink import LogError
from monitoring.store.database import Store, StoreError, open_store, reading, writing
from monitoring.store.insertion import insert_lines
from monitoring.store.queries import find_decision
from monitoring.store.store_sink import StoreSink


def insert(url: str, client: str) -> str:
    """Put one decision into the store; returns its id."""
    (record,) = make_records(1, client_id=client)
    engine = open_store(url)
    with writing(engine) as connection:
        insert_lines(connection, record + b"\n")
    engine.dispose()
    return record.prediction_id


def test_a_database_without_an_encoding_gives_text(postgres: Postgres) -> None:
    url = postgres.new_database("-E", "SQL_ASCII", "-T", "template0", "--locale=C")
    identifier = insert(url, "Müller")
    engine = open_store(url)
    with reading(engine) as connection:
        found = find_decision(connection, identifier)
    engine.dispose()
    assert found is not None
    assert found["client_id"] == "Müller"


@pytest.fixture(scope="module")
def with_tls(need: Callable[..., str], postgres: Postgres) -> Iterator[tuple[Postgres, int, Path]]:
    """A server that takes connections by TCP with TLS only, its port, and the file of its certificate."""
    openssl = need("openssl")
    with tempfile.TemporaryDirectory() as name:
        server, port = Postgres(postgres.programs, Path(name)), free_port()
        key, certificate = server.folder / "server.key", server.folder / "server.crt"
        command = [
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=localhost",
            "-days",
            "2",
            "-addext",
            "subjectAltName=DNS:localhost",
        ]
        subprocess.run([openssl, *command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
        key.chmod(0o600)
        if server.user:
            shutil.chown(key, "nobody")
        (server.folder / "data/pg_hba.conf").write_text("local all all trust\nhostssl all all 127.0.0.1/32 trust\n")
        server.start("listen_addresses=127.0.0.1", f"port={port}", "ssl=on", f"ssl_key_file={key}", f"ssl_cert_file={certificate}")
        yield server, port, certificate
        server.stop()


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_tls_in_each_mode(mode: str, with_tls: tuple[Postgres, int, Path]) -> None:
    _, port, certificate = with_tls
    engine = open_store(f"postgresql+psycopg://credit@localhost:{port}/postgres?sslmode={mode}&sslrootcert={certificate}")
    with reading(engine) as connection:
        assert connection.execute(text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")).scalar() is True
    engine.dispose()


@pytest.mark.parametrize(
    ("host", "options", "said"),
    [
        ("localhost", "sslmode=disable", "no encryption"),
        ("127.0.0.1", "sslmode=verify-full&sslrootcert={certificate}", "does not match"),
        ("localhost", "sslmode=verify-full&sslrootcert=/no/such.crt", "does not exist"),
    ],
)
def test_what_tls_refuses_is_one_sentence(host: str, options: str, said: str, with_tls: tuple[Postgres, int, Path]) -> None:
    _, port, certificate = with_tls
    with pytest.raises(StoreError, match=said) as caught:
        open_store(f"postgresql+psycopg://credit@{host}:{port}/postgres?{options.format(certificate=certificate)}")
    assert "\n" not in str(caught.value)


@pytest.fixture
def pooled(need: Callable[..., str], postgres: Postgres, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database behind a pooler in transaction mode, with two connections to the server."""
    program, port, database = need("pgbouncer"), free_port(), make_url(postgres.new_database()).database
    folder = Path(tempfile.mkdtemp())
    (folder / "users").write_text('"credit" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n{database} = host={postgres.folder}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = trust\nauth_file = {folder / 'users'}\npool_mode = transaction\ndefault_pool_size = 2\nserver_reset_query =\n"
    )
    for path in (folder, *folder.iterdir()):
        if postgres.user:
            shutil.chown(path, "nobody")
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen([program, str(folder / "pgbouncer.ini")], **postgres.user, stdout=log, stderr=log) as process,
    ):
        wait_for(lambda: _listens(port))
        yield f"postgresql+psycopg://credit@127.0.0.1:{port}/{database}"
        process.terminate()
    shutil.rmtree(folder)


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_behind_a_pooler_in_transaction_mode_nothing_is_lost_or_mixed_up(pooled: str) -> None:
    engine = open_store(pooled, statement_seconds=5)
    batches = [make_records(1) for _ in range(120)]

    def write(batch: list) -> None:  # type: ignore[type-arg]
        with writing(engine) as connection:
            insert_lines(connection, batch[0] + b"\n")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, batches))
    engine.dispose()
    store = Store(pooled)
    assert stored(store) == sorted(batch[0].prediction_id for batch in batches)
    store.close()


def test_behind_a_pooler_a_statement_has_its_limit_and_a_report_none(pooled: str) -> None:
    limited, report = open_store(pooled, statement_seconds=1), open_store(pooled)
    start = time.monotonic()
    with pytest.raises(StoreError, match="statement timeout"), reading(limited) as connection:
        connection.execute(text("SELECT pg_sleep(30)"))
    assert time.monotonic() - start < 10
    with reading(report) as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar() == "0"
    for engine in (limited, report):
        engine.dispose()


def test_reports_read_a_replica(postgres: Postgres) -> None:
    url = postgres.new_database()
    identifier = insert(url, "one")
    database, folder = make_url(url).database, postgres.folder / "replica"
    postgres.run(
        "pg_basebackup", "-h", str(postgres.folder), "-U", "credit", "-D", str(folder), "-R", "-X", "stream", "-c", "fast", "--no-sync"
    )
    sockets = postgres.folder / "sockets"
    sockets.mkdir()
    if postgres.user:
        shutil.chown(sockets, "nobody")
    options = f"-c listen_addresses='' -c unix_socket_directories='{sockets}' -c fsync=off"
    postgres.run("pg_ctl", "-D", str(folder), "-o", options, "-l", str(postgres.folder / "replica.log"), "-w", "start")
    try:
        engine = open_store(f"postgresql+psycopg://credit@/{database}?host={sockets}")
        with reading(engine) as connection:
            assert find_decision(connection, identifier) is not None
        with pytest.raises(StoreError, match="read-only transaction"), writing(engine) as connection:
            insert_lines(connection, make_records(1)[0] + b"\n")
        engine.dispose()
    finally:
        postgres.run("pg_ctl", "-D", str(folder), "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder)


class CutOnCommit:
    """Passes bytes between clients and a server; the first COMMIT after `armed` reaches the server, its answer does not reach the client."""

    def __init__(self, server: str) -> None:
        self.server, self.armed, self.cut = server, False, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self.server)
            lost = threading.Event()
            threading.Thread(target=self._pass, args=(client, server, lost, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, lost, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, lost: threading.Event, to_server: bool) -> None:
        while data := _received(source):
            if to_server and self.armed and b"COMMIT" in data:
                self.armed, self.cut = False, self.cut + 1
                lost.set()
            if not to_server and lost.is_set():
                break  # the server has answered, and so has committed
            target.sendall(data)
        for sock in (source, target):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        source.close()

    def close(self) -> None:
        self.listener.close()


def _received(sock: socket.socket) -> bytes:
    try:
        return sock.recv(65536)
    except OSError:
        return b""


def test_a_connection_lost_in_the_middle_of_a_commit_loses_nothing_acknowledged(postgres: Postgres) -> None:
    url = make_url(postgres.new_database())
    proxy = CutOnCommit(f"{postgres.folder}/.s.PGSQL.5432")
    store = Store(f"postgresql+psycopg://credit@127.0.0.1:{proxy.port}/{url.database}?sslmode=disable")
    acknowledged: list[str] = []

    async def scenario() -> None:
        log = StoreSink(store)
        wait_for(lambda: log.ready)
        for number in range(12):
            proxy.armed = number == 5
            batch = make_records(2)
            try:
                await log.append(batch)
            except LogError:
                await asyncio.to_thread(wait_for, lambda: log.ready)
            else:
                acknowledged.extend(record.prediction_id for record in batch)
        log.close()

    asyncio.run(scenario())
    proxy.close()
    assert proxy.cut == 1
    assert len(acknowledged) >= 22
    assert set(acknowledged) <= set(stored(store))
    store.close()


def test_a_url_of_two_servers_follows_a_failover(postgres: Postgres) -> None:
    with tempfile.TemporaryDirectory() as name:
        first, folder = Postgres(postgres.programs, Path(name)), Path(name) / "second"
        first.start()
        url = f"postgresql+psycopg://credit@/postgres?host={first.folder}&host={folder}/sockets&target_session_attrs=read-write"
        first.run("pg_basebackup", "-h", name, "-U", "credit", "-D", str(folder), "-R", "-X", "stream", "-c", "fast", "--no-sync")
        (folder / "sockets").mkdir()
        if first.user:
            shutil.chown(folder / "sockets", "nobody")
        options = f"-c listen_addresses='' -c unix_socket_directories='{folder}/sockets' -c fsync=off"
        first.run("pg_ctl", "-D", str(folder), "-o", options, "-l", f"{name}/second.log", "-w", "start")
        store, given = Store(url), make_records(2)
        try:

            async def scenario() -> None:
                log = StoreSink(store)
                wait_for(lambda: log.ready)
                await log.append(given[:1])
                await asyncio.to_thread(first.stop)  # it sends the standby all before it ends
                with pytest.raises(LogError):
                    await log.append(make_records(1))
                await asyncio.to_thread(first.run, "pg_ctl", "-D", str(folder), "-w", "promote")
                await asyncio.to_thread(wait_for, lambda: log.ready)
                await log.append(given[1:])
                log.close()

            asyncio.run(scenario())
            assert stored(store) == sorted(record.prediction_id for record in given)
            store.close()
        finally:
            first.run("pg_ctl", "-D", str(folder), "-m", "immediate", "-w", "stop")
