"""Measures the cost of parts of the service, and compares batches with the bare model. It measures in pairs, because machines drift.

A part is switched on and off within one service, in turns of 50 ms, because two services, or one service in two different seconds,
differ by more than the part costs. The threads of the shipper and of live drift run during both kinds of turns.
"""

import math
import os
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, NamedTuple

import lightgbm
import msgspec
import numpy as np
import typer

from configs.settings import load_settings
from features.applications import Applications
from features.history import Matrix
from loadtests.applicants import requests
from loadtests.bench import CONNECTIONS, REST_SECONDS, wrk
from loadtests.load import Service, run, start
from serving.bundle import Bundle, read_bundle
from serving.model_store import find_in_store
from training.console import replace_between
from training.home_credit.generator import Generator

BATCH = 1000
SWITCHED = "loadtests.rivals.switched:CreditScoring"
PARTS = {
    "log, `flush`": {"SWITCHED_PART": "log", "CREDIT_LOG__DURABILITY": "flush"},
    "log, `fsync`": {"SWITCHED_PART": "log", "CREDIT_LOG__DURABILITY": "fsync"},
    "live drift": {"SWITCHED_PART": "drift", "CREDIT_LOG__DURABILITY": "off"},
}
TRIMMED = 0.05  # share of the pairs to drop at either end, such as turns in which the machine stalled
LINE_BYTES = 1900  # approximate length of a decision's log line
SYNCS = 300
Ratios = dict[str, list[float]]


class Pair(NamedTuple):
    """Rows per second in two consecutive turns: with a part and without it."""

    on: float
    off: float


def vectors(bundle: Bundle) -> dict[str, Matrix]:
    """1,000 generated applicants as feature vectors, shape (rows, features): with their missing values, and with 0 instead."""
    frame = next(Generator.from_file().draw(BATCH, seed=5))
    matrix = bundle.features.transform(Applications.from_columns(frame)).matrix
    return {"with their nulls": matrix, "no value missing": np.nan_to_num(matrix)}


def bare(booster: lightgbm.Booster, matrix: Matrix, seconds: float) -> float:
    """Rows per second of the model alone, on one thread."""
    time.sleep(REST_SECONDS)
    begin, rows = time.perf_counter(), 0
    while (passed := time.perf_counter() - begin) < seconds:
        booster.predict(matrix, num_threads=1)
        rows += len(matrix)
    return rows / passed


def batches(bundle: Bundle, service: Service, rounds: int, seconds: int) -> tuple[Ratios, list[float]]:
    """Rows per second of `/predict/batch` relative to the bare model, and the p99 of single requests during batches, milliseconds."""
    booster = lightgbm.Booster(model_str=bundle.model)
    key = {"X-API-Key": service.key}
    single = msgspec.json.encode(requests(1, seed=1)[0])
    bodies = {
        name: msgspec.json.encode({"features": [[None if np.isnan(value) else value for value in row] for row in matrix.tolist()]})
        for name, matrix in vectors(bundle).items()
    }
    ratios: Ratios = {name: [] for name in bodies}
    meanwhile = []
    for number in range(rounds):
        for name, matrix in vectors(bundle).items():
            alone = bare(booster, matrix, seconds)
            rate = wrk(f"{service.url}/predict/batch", bodies[name], 1, seconds, key).rate * BATCH
            ratios[name].append(rate / alone)
            typer.echo(f"{number + 1}/{rounds} batches, {name}: {rate:,.0f} rows per second, {rate / alone:.2f} of the bare model")
        with ThreadPoolExecutor(1) as pool:
            batch = pool.submit(wrk, f"{service.url}/predict/batch", bodies["with their nulls"], 1, seconds + 1, key)
            time.sleep(0.5)
            meanwhile.append(wrk(f"{service.url}/predict", single, 4, seconds, key).p99)
            batch.result()
    return ratios, meanwhile


def parts(bundle: Bundle, rounds: int, seconds: int) -> dict[str, dict[int, list[Pair]]]:
    """Pairs of turns with and without each part, by part and number of connections."""
    body = msgspec.json.encode({"features": vectors(bundle)["no value missing"][0].tolist(), "client_id": "1"})
    found: dict[str, dict[int, list[Pair]]] = {name: {connections: [] for connections in CONNECTIONS} for name in PARTS}
    for number in range(rounds):  # new services in each round, because two starts of a service differ by 2 to 3 %
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            services = {}
            for place, (name, environment) in enumerate(PARTS.items()):
                services[name] = start(SWITCHED, **environment, SWITCHED_TURNS=str(folder / str(place))), folder / str(place)
                stack.callback(services[name][0].stop)
            for connections in CONNECTIONS:
                for name, (service, turns) in services.items():
                    time.sleep(REST_SECONDS)
                    turns.write_text("")
                    wrk(f"{service.url}/predict", body, connections, seconds, {"X-API-Key": service.key})
                    found[name][connections] += pairs(turns.read_text())
                    kept = share(found[name][connections])
                    typer.echo(f"{number + 1}/{rounds} c={connections:<2} {name}: {kept} of the throughput without it")
    return found


def pairs(turns: str) -> list[Pair]:
    """Rows per second with and without the part, in consecutive turns, from the file that loadtests.rivals.switched writes."""
    found = []
    lines = [line.split() for line in turns.splitlines()]
    place = 1  # skip the first turn, which began before the load
    while place + 1 < len(lines):
        rates = {on: int(rows) / float(passed) for on, passed, rows in lines[place : place + 2]}
        if len(rates) == 2:
            found.append(Pair(rates["1"], rates["0"]))
        place += len(rates)
    return found


def share(found: list[Pair]) -> str:
    """The geometric mean of the trimmed ratios of pairs, with its 95 % interval by the normal distribution."""
    logs = np.sort([math.log(pair.on / pair.off) for pair in found if pair.on and pair.off])
    cut = int(len(logs) * TRIMMED)
    logs = logs[cut : len(logs) - cut]
    mean, error = float(np.mean(logs)), 1.96 * float(np.std(logs)) / math.sqrt(len(logs))
    return f"**{math.exp(mean):.3f}** ({math.exp(mean - error):.3f} to {math.exp(mean + error):.3f})"


def bare_sync(folder: Path, lines: int) -> float:
    """The median time of an fdatasync after writing this many log lines into preallocated space, milliseconds."""
    size = lines * LINE_BYTES
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        os.pwrite(file.fileno(), b"\t" * (size * SYNCS), 0)
        os.fdatasync(file.fileno())
        times = []
        for number in range(SYNCS):
            os.pwrite(file.fileno(), b"x" * size, number * size)
            begin = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e3


def spread(values: list[float], digits: int = 2) -> str:
    """Median, minimum and maximum."""
    return f"**{statistics.median(values):.{digits}f}** ({min(values):.{digits}f} to {max(values):.{digits}f})"


def table(batch: Ratios, meanwhile: list[float], price: dict[str, dict[int, list[Pair]]], syncs: dict[int, float]) -> str:
    """Two Markdown tables: batches against the bare model, and throughput with each part relative to that without."""
    lines = ["| batches of 1,000 vectors at the client | median (minimum to maximum) |", "|---|---|"]
    lines += [f"| rows per second relative to the bare model, one thread; {name} | {spread(values)} |" for name, values in batch.items()]
    lines += [f"| p99 of single requests over 4 connections during batches | {spread(meanwhile, 0)} ms |", ""]
    heads = " | ".join(f"c={connections}" for connections in CONNECTIONS)
    lines += [f"| throughput with a part relative to that without, 95 % interval | {heads} |", "|---" * (1 + len(CONNECTIONS)) + "|"]
    lines += [f"| {name} | " + " | ".join(share(found[connections]) for connections in CONNECTIONS) + " |" for name, found in price.items()]
    without = [statistics.median(pair.off for found in price.values() for pair in found[connections]) for connections in CONNECTIONS]
    lines.append("| requests per second without the part | " + " | ".join(f"{rate:,.0f}" for rate in without) + " |")
    lines.append(
        "| fdatasync of c log lines alone, milliseconds | " + " | ".join(f"{syncs[connections]:.2f}" for connections in CONNECTIONS) + " |"
    )
    return "\n".join(lines)


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds")] = 8,
    seconds: Annotated[int, typer.Option(min=1, help="Length of each measurement in seconds")] = 4,
    write: Annotated[Path, typer.Option(help="Guide whose tables between the paired marks are replaced")] = Path("loadtests/README.md"),
) -> None:
    """Compare batches with the bare model, and measure the cost of the decision log and of live drift, in pairs."""
    if not shutil.which("wrk"):
        raise SystemExit("the measurement needs the program wrk (Debian: apt-get install wrk)")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    settings = load_settings()
    bundle = read_bundle(find_in_store(settings.model.name, settings.model.version))
    service = start()
    try:
        batch, meanwhile = batches(bundle, service, rounds, seconds)
    finally:
        service.stop()
    price = parts(bundle, rounds, seconds)
    with tempfile.TemporaryDirectory() as folder:
        syncs = {connections: bare_sync(Path(folder), connections) for connections in CONNECTIONS}
    text = table(batch, meanwhile, price, syncs)
    typer.echo(text)
    replace_between(write, "paired", text)


if __name__ == "__main__":
    run(main)
