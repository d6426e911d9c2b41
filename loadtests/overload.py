"""Tests the service above its capacity with an open loop: requests are sent at a fixed rate without waiting for answers.

h2load opens enough connections that one is free whenever a request is due. It spreads their starts evenly over some seconds, because
each connection then sends at the same fraction of each second; otherwise the requests would arrive in bursts.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, NamedTuple

import httpx
import msgspec
import numpy as np
import typer

from loadtests.applicants import requests
from loadtests.bench import wrk
from loadtests.load import run, start

RAMP = 15  # seconds over which connections start; all at once would overflow the listening socket's queue, which is not tested here
TICKS = 100  # times per second that connections start; those that start together keep sending together
EACH = 1.0  # requests per second of a connection; at this rate, most have their answer before the next request is due
MOST_CONNECTIONS = 12_000
TIMES_WELL = 1.5
AS_BEFORE = 1.3  # most times its idle median that a lone client's median may reach


class Answers(NamedTuple):
    """The answers with one status: number per second, latencies in milliseconds."""

    rate: float
    p50: float
    p99: float


def offer(url: str, body: Path, headers: list[str], rate: float, seconds: int) -> dict[int, Answers]:
    """Send requests at a rate for `seconds` after the ramp; returns the answers by status, -1 for no answer."""
    connections = min(MOST_CONNECTIONS, round(rate / EACH))
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        begin = max(1, round(connections / RAMP / TICKS))
        command = ["h2load", "--h1", f"-c{connections}", f"--rps={rate / connections:.6f}", f"-r{begin}"]
        command += [f"--rate-period={1000 // TICKS}ms", f"-n{round(rate * (seconds + RAMP))}", f"-d{body}", f"--log-file={log}"]
        for header in headers:
            command += ["-H", header]
        subprocess.run([*command, url], stdout=subprocess.DEVNULL, check=True)
        return judge(log.read_text(), RAMP, seconds)


def judge(log: str, skip: float, seconds: float) -> dict[int, Answers]:
    """The answers by status, from h2load's log, to requests sent in the `seconds` after the first `skip` seconds."""
    rows = np.array([line.split()[:3] for line in log.splitlines()], dtype=np.int64).reshape(-1, 3)
    if not len(rows):
        return {}
    since = (rows[:, 0] - rows[:, 0].min()) / 1e6
    rows = rows[(since >= skip) & (since < skip + seconds)]
    times = defaultdict(list)
    for _, status, duration in rows.tolist():
        times[status].append(duration / 1e3)
    return {
        status: Answers(len(some) / seconds, float(np.quantile(some, 0.5)), float(np.quantile(some, 0.99)))
        for status, some in sorted(times.items())
    }


def memory(client: httpx.Client) -> float:
    """Resident memory of the service's process, MB."""
    lines = client.get("/metrics").text.splitlines()
    return next(float(line.split()[1]) / 1e6 for line in lines if line.startswith("process_resident_memory_bytes"))


def single(client: httpx.Client, body: bytes, count: int = 300) -> float:
    """The median latency of `count` requests sent one after the other, milliseconds."""
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        client.post("/predict", content=body).raise_for_status()
        times.append(time.perf_counter() - begin)
    return float(np.median(times)) * 1e3


def after_burst(url: str, body: bytes, headers: dict[str, str]) -> tuple[float, float]:
    """The p50 at one connection: idle, and one second after a burst of 64 connections for 10 s. Milliseconds, medians of five pairs."""
    pairs = []
    for _ in range(5):
        idle = wrk(url, body, 1, 2, headers).p50
        wrk(url, body, 64, 10, headers)
        time.sleep(1)
        pairs.append((idle, wrk(url, body, 1, 2, headers).p50))
        time.sleep(5)
    return tuple(np.median(pairs, axis=0).tolist())


def main(
    seconds: Annotated[int, typer.Option(min=5, help="Length of each overload after its ramp, in seconds")] = 60,
    host: Annotated[str | None, typer.Option(help="URL of a running service; by default the test starts one")] = None,
) -> None:
    """Send 1.5 and 3 times the requests that the service can answer; exit code 0 if it keeps its promises, else 1.

    Under overload, every answer is a 200 or a 503, memory grows by less than 5 %, and a lone client is served as before within 5 s.
    At 1.5 times the capacity, at least half of it is still answered, with a p99 below 1 s. One second after a burst within capacity,
    a lone client's p50 is at most 1.3 times the idle p50.
    """
    # long, because it is one experiment from start to end
    for program in ("h2load", "wrk"):
        if not shutil.which(program):
            raise SystemExit(f"the overload test needs the program {program} (Debian: apt-get install nghttp2-client wrk)")
    service = None if host else start()
    url, key = (service.url, service.key) if service else (str(host), os.environ.get("LOADTEST_KEY"))
    sent = {"Content-Type": "application/json", **({"X-API-Key": key} if key else {})}
    headers = [f"{name}: {value}" for name, value in sent.items()]
    failed = []
    with tempfile.TemporaryDirectory() as folder, httpx.Client(base_url=url, headers=sent) as client:
        body = Path(folder) / "body.json"
        body.write_bytes(msgspec.json.encode(requests(1, seed=1)[0]))
        try:
            capacity = wrk(f"{url}/predict", body.read_bytes(), 64, 5, sent).rate
            idle = single(client, body.read_bytes())
            typer.echo(f"capacity {capacity:,.0f} requests per second (64 connections); a lone client's p50 is {idle:.2f} ms")
            before, after = after_burst(f"{url}/predict", body.read_bytes(), sent)
            typer.echo(
                f"a lone client's p50 one second after a burst is {after:.2f} ms, {after / before:.2f} times the idle {before:.2f} ms"
            )
            if after > AS_BEFORE * before:
                failed.append(f"after a burst, a lone client's p50 is at most {AS_BEFORE} times the idle one")
            for times in (TIMES_WELL, 3):
                with ThreadPoolExecutor(1) as pool:
                    offered = pool.submit(offer, f"{url}/predict", body, headers, times * capacity, seconds)
                    time.sleep(RAMP + 2)
                    early = memory(client)
                    answers = offered.result()
                late = memory(client)
                begin = time.monotonic()
                while (again := single(client, body.read_bytes(), 100)) > AS_BEFORE * idle and time.monotonic() - begin < 10:
                    pass
                recovered = time.monotonic() - begin
                for status, some in answers.items():
                    typer.echo(f"{times} x: {status} {some.rate:8,.0f} per second, p50 {some.p50:.0f}, p99 {some.p99:.0f} ms")
                typer.echo(f"{times} x: {early:.0f} MB after the ramp, {late:.0f} MB at the end; {again:.2f} ms after {recovered:.1f} s")
                failed += [f"{times} x: {promise}" for promise in broken(answers, times, capacity, late / early, recovered)]
        finally:
            if service:
                service.stop()
    for promise in failed:
        typer.echo(f"not kept: {promise}", err=True)
    sys.exit(bool(failed))


def broken(answers: dict[int, Answers], times: float, capacity: float, growth: float, recovered: float) -> list[str]:
    """The promises that the service did not keep under an overload of `times` its capacity.

    Parameters
    ----------
    growth : memory at the end over memory after the ramp.
    recovered : seconds until a lone client was served as before.
    """
    good = answers.get(200, Answers(0, 0, 0))
    promises = {
        "every answer is a 200 or a 503": set(answers) <= {200, 503},
        "memory grows by less than 5 %": growth < 1.05,
        "back to normal within 5 s": recovered < 5,
    }
    if times == TIMES_WELL:
        promises["half of the capacity is answered"] = good.rate >= capacity / 2
        promises["the p99 of 200 answers is below 1 s"] = good.p99 < 1000
    return [promise for promise, kept in promises.items() if not kept]


if __name__ == "__main__":
    run(main)
