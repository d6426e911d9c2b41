"""What happens above capacity: an open loop of requests that does not wait for answers, judged answer by answer.

h2load opens so many connections that one is free whenever a request is due, and spreads their beginnings evenly over some
seconds: each sends at the same fraction of a second ever after, and requests that come in bursts are another matter.
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

RAMP = 15  # seconds over which the connections begin: a flood of new ones overflows the queue of the listening socket, another matter
TICKS = 100  # times a second that connections begin: those that begin together send together ever after
EACH = 1.0  # requests a second of one connection: most are free again when the next is due
MOST_CONNECTIONS = 12_000
TIMES_WELL = 1.5
AS_BEFORE = 1.3  # times its median on an idle service is what a lone client may need


class Answers(NamedTuple):
    """The answers of one status: how many a second, milliseconds."""

    rate: float
    p50: float
    p99: float


def offer(url: str, body: Path, headers: list[str], rate: float, seconds: int) -> dict[int, Answers]:
    """Offer requests at a rate for a while after the ramp; the answers by status, -1 where there was none."""
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
    """The answers in h2load's log to requests made in the `seconds` after the first `skip`, by status."""
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
    """Resident megabytes of the service's process."""
    lines = client.get("/metrics").text.splitlines()
    return next(float(line.split()[1]) / 1e6 for line in lines if line.startswith("process_resident_memory_bytes"))


def single(client: httpx.Client, body: bytes, count: int = 300) -> float:
    """The median time of one request after the other, milliseconds."""
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        client.post("/predict", content=body).raise_for_status()
        times.append(time.perf_counter() - begin)
    return float(np.median(times)) * 1e3


def after_burst(url: str, body: bytes, headers: dict[str, str]) -> tuple[float, float]:
    """The median time at one connection, idle and one second after ten seconds of 64 connections, milliseconds; medians of five."""
    pairs = []
    for _ in range(5):
        idle = wrk(url, body, 1, 2, headers).p50
        wrk(url, body, 64, 10, headers)
        time.sleep(1)
        pairs.append((idle, wrk(url, body, 1, 2, headers).p50))
        time.sleep(5)
    return tuple(np.median(pairs, axis=0).tolist())


def main(
    seconds: Annotated[int, typer.Option(min=5, help="Length of each overload after its ramp")] = 60,
    host: Annotated[str | None, typer.Option(help="A running service; without it one is started for the test")] = None,
) -> None:
    """Offer 1.5 and 3 times what the service can answer; the exit code says whether it kept its promises.

    They are: what is not answered is refused with 503, memory stays, and within 5 seconds a lone client is served as
    before; at 1.5 times, half of the capacity is still answered with a p99 under 1 s. And one second after a burst
    within capacity, the median time of a lone client is at most 1.3 times what it is on an idle service.
    """
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
            typer.echo(f"capacity {capacity:,.0f} requests a second (64 connections); a lone client's p50 {idle:.2f} ms")
            before, after = after_burst(f"{url}/predict", body.read_bytes(), sent)
            typer.echo(f"p50 of a lone client one second after a burst {after:.2f} ms, {after / before:.2f} of {before:.2f} ms when idle")
            if after > AS_BEFORE * before:
                failed.append(f"a lone client after a burst: at most {AS_BEFORE} of its idle p50")
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
                    typer.echo(f"{times} x: {status} {some.rate:8,.0f} a second, p50 {some.p50:.0f}, p99 {some.p99:.0f} ms")
                typer.echo(f"{times} x: {early:.0f} MB after the ramp, {late:.0f} MB at the end; {again:.2f} ms after {recovered:.1f} s")
                good = answers.get(200, Answers(0, 0, 0))
                promises = {
                    "nothing but 200 and 503": set(answers) <= {200, 503},
                    "memory flat": late < 1.05 * early,
                    "back to normal within 5 s": recovered < 5,
                }
                if times == TIMES_WELL:
                    promises["half of capacity answered"] = good.rate >= capacity / 2
                    promises["p99 of the answered under 1 s"] = good.p99 < 1000
                failed += [f"{times} x: {promise}" for promise, kept in promises.items() if not kept]
        finally:
            if service:
                service.stop()
    for promise in failed:
        typer.echo(f"not kept: {promise}", err=True)
    sys.exit(bool(failed))


if __name__ == "__main__":
    run(main)
