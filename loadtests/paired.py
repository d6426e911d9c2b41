"""What parts of the service cost, and how a batch compares with the bare model: in pairs, since the speed of a machine drifts.

Every round measures each case once, in random order, after a rest in which the others ship what they logged; only ratios
within a round are told.
"""

import os
import random
import shutil
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import lightgbm
import msgspec
import numpy as np
import typer

from configs.settings import load_settings
from features.history import Matrix
from features.transform import Applications
from loadtests.applicants import requests
from loadtests.bench import CONNECTIONS, REST_SECONDS, wrk
from loadtests.load import Service, run, start
from serving.bundle import Bundle, find_in_store, read_bundle
from training.console import replace_between
from training.generator import Generator

BATCH = 1000
BASE = "no log, drift measured"
PARTS = {
    BASE: {"CREDIT_LOG__DURABILITY": "off"},
    "log, `flush`": {"CREDIT_LOG__DURABILITY": "flush"},
    "log, `fsync`": {"CREDIT_LOG__DURABILITY": "fsync"},
    "no log, drift not measured": {"CREDIT_LOG__DURABILITY": "off", "CREDIT_DRIFT__INTERVAL_SECONDS": "1000000"},
}
Ratios = dict[str, list[float]]


def vectors(bundle: Bundle) -> dict[str, Matrix]:
    """1,000 generated applicants as feature vectors, as they are and with 0 for what is not known."""
    frame = next(Generator.from_file().draw(BATCH, seed=5))
    matrix = bundle.features.transform(Applications.from_columns(frame)).matrix
    return {"with their nulls": matrix, "no value missing": np.nan_to_num(matrix)}


def bare(booster: lightgbm.Booster, matrix: Matrix, seconds: float) -> float:
    """Rows a second of the model alone on one thread."""
    time.sleep(REST_SECONDS)
    begin, rows = time.perf_counter(), 0
    while (passed := time.perf_counter() - begin) < seconds:
        booster.predict(matrix, num_threads=1)
        rows += len(matrix)
    return rows / passed


def batches(bundle: Bundle, service: Service, rounds: int, seconds: int) -> tuple[Ratios, list[float]]:
    """Rows a second by `/predict/batch` over those of the bare model, and the p99 of single requests meanwhile, milliseconds."""
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
            typer.echo(f"{number + 1}/{rounds} batches, {name}: {rate:,.0f} rows a second, {rate / alone:.2f} of the bare model")
        with ThreadPoolExecutor(1) as pool:
            batch = pool.submit(wrk, f"{service.url}/predict/batch", bodies["with their nulls"], 1, seconds + 1, key)
            time.sleep(0.5)
            meanwhile.append(wrk(f"{service.url}/predict", single, 4, seconds, key).p99)
            batch.result()
    return ratios, meanwhile


def parts(bundle: Bundle, services: dict[str, Service], rounds: int, seconds: int) -> dict[int, Ratios]:
    """Requests a second of each service over those of the base in the same round, by connections."""
    body = msgspec.json.encode({"features": vectors(bundle)["no value missing"][0].tolist(), "client_id": "1"})
    ratios: dict[int, Ratios] = {connections: {name: [] for name in services} for connections in CONNECTIONS}
    for number in range(rounds):
        for connections in CONNECTIONS:
            rates = {}
            for name, service in random.sample(list(services.items()), len(services)):
                time.sleep(REST_SECONDS)
                rates[name] = wrk(f"{service.url}/predict", body, connections, seconds, {"X-API-Key": service.key}).rate
            for name, rate in rates.items():
                ratios[connections][name].append(rate / rates[BASE])
            told = ", ".join(f"{name} {rate:,.0f}" for name, rate in rates.items())
            typer.echo(f"{number + 1}/{rounds} c={connections}: {told}")
    return ratios


def spread(values: list[float], digits: int = 2) -> str:
    """Median, minimum and maximum."""
    return f"**{statistics.median(values):.{digits}f}** ({min(values):.{digits}f} to {max(values):.{digits}f})"


def table(batch: Ratios, meanwhile: list[float], price: dict[int, Ratios]) -> str:
    """Two Markdown tables."""
    lines = ["| batches of 1,000 vectors at the client | median (minimum to maximum) |", "|---|---|"]
    lines += [f"| rows a second over those of the bare model, one thread; {name} | {spread(values)} |" for name, values in batch.items()]
    lines += [f"| p99 of single requests over 4 connections meanwhile | {spread(meanwhile, 0)} ms |", ""]
    lines += [
        f"| requests a second over those with {BASE} | " + " | ".join(f"c={connections}" for connections in price) + " |",
        "|---" * (1 + len(price)) + "|",
    ]
    for name in PARTS:
        if name != BASE:
            lines.append(f"| {name} | " + " | ".join(spread(ratios[name]) for ratios in price.values()) + " |")
    return "\n".join(lines)


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Paired rounds")] = 12,
    seconds: Annotated[int, typer.Option(min=1, help="Length of each measurement")] = 2,
    write: Annotated[Path, typer.Option(help="Guide whose tables between the marks are written anew")] = Path("loadtests/README.md"),
) -> None:
    """Measure batches beside the bare model, and what the decision log and live drift cost, in paired rounds."""
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
    with ExitStack() as stack:
        services = {}
        for name, environment in PARTS.items():
            services[name] = start(**environment)
            stack.callback(services[name].stop)
        price = parts(bundle, services, rounds, seconds)
    text = table(batch, meanwhile, price)
    typer.echo(text)
    replace_between(write, "paired", text)


if __name__ == "__main__":
    run(main)
