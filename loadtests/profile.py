"""Profiles requests and the start of the service: time by part, memory, imports.

The parts of a request are timed one by one in this process, for a lone request and for a row in a batch of 32. The rest of the time
that a client waits is HTTP: the server, BentoML, the two sockets. py-spy draws a flame graph of a service under load.
"""

import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import psutil
import typer

from configs.settings import load_settings
from loadtests.applicants import requests
from loadtests.bench import wrk
from loadtests.load import Service, run, start
from monitoring.metrics import Metrics
from monitoring.prediction import Prediction
from serving.bundle import Bundle, read_bundle
from serving.contract.inputs import InputReader
from serving.contract.prediction import predictions
from serving.contract.requests import RequestParser
from serving.model_store import find_in_store
from serving.scorer import Scorer

BATCH = 32
ROOT = Path(__file__).parents[1]


def microseconds(work: Callable[[], Any], repeat: int = 400) -> float:
    """The median time of a call, microseconds."""
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return float(np.median(times)) * 1e6


def parts(bundle: Bundle, together: list[bytes]) -> dict[str, float]:
    """Microseconds per row of each part of handling a request, for bodies that are scored together."""
    parser, inputs = RequestParser(bundle.features, len(together)), InputReader(bundle.features)
    scorer, metrics = Scorer(bundle), Metrics()
    count = len(together)
    rows = [parser.parse_one(body) for body in together]
    matrix, warnings, *_ = inputs.read(rows)
    pds = scorer.pd(matrix).tolist()
    decision, version = bundle.decision, bundle.version

    def decide() -> list[Prediction]:
        return predictions(rows, pds, warnings, decision=decision, model_version=version, unknown=scorer.unknown(matrix).tolist())

    answers = decide()
    work: dict[str, Callable[[], Any]] = {
        "parse": lambda: [parser.parse_one(body) for body in together],
        "features": lambda: inputs.read(rows),
        "score": lambda: scorer.pd(matrix),
        "decide": decide,
        "count": lambda: metrics.predictions(answers),
        "encode": lambda: [msgspec.json.encode(answer) for answer in answers],
    }
    return {name: microseconds(call) / count for name, call in work.items()}


def imports(module: str) -> dict[str, float]:
    """Milliseconds that the import of a module spends in each package, largest first."""
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import {module}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    spent: dict[str, float] = defaultdict(float)
    for line in result.stderr.splitlines():
        own, _, name = line.removeprefix("import time:").split("|")
        if own.strip().isdigit():
            spent[name.strip().split(".")[0]] += int(own) / 1000
    return dict(sorted(spent.items(), key=lambda item: -item[1]))


def table(title: str, columns: dict[str, dict[str, float]]) -> str:
    """A Markdown table with a row per part and a column per case."""
    lines = [f"| {title} | " + " | ".join(columns) + " |", "|---" * (1 + len(columns)) + "|"]
    lines += [
        f"| {part} | " + " | ".join(f"{values[part]:,.1f}" if part in values else "" for values in columns.values()) + " |"
        for part in next(iter(columns.values()))
    ]
    return "\n".join(lines)


def main(
    seconds: Annotated[int, typer.Option(min=1, help="Seconds of load to draw the flame graph from")] = 10,
) -> None:
    """Profile a request, the start, and a service under load; write tables and a flame graph."""
    # long, because it is one sequence of measurements
    if not shutil.which("wrk"):
        raise SystemExit("the profile needs the program wrk (Debian: apt-get install wrk)")
    settings = load_settings()
    report = settings.home / "reports"
    report.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    bundle = read_bundle(find_in_store(settings.model.name, settings.model.version))
    read = time.perf_counter()
    Scorer(bundle)
    loaded = time.perf_counter()
    named, by_vector = bodies(bundle)
    typer.echo("timing the parts of a request")
    cases = {
        "named fields, alone": parts(bundle, named[:1]),
        f"named fields, {BATCH} together": parts(bundle, named),
        "vector, alone": parts(bundle, by_vector[:1]),
        f"vector, {BATCH} together": parts(bundle, by_vector),
    }
    begun = time.perf_counter()
    service = start()
    ready = time.perf_counter() - begun
    try:
        whole = {
            name: wrk(f"{service.url}/predict", body, 1, 2, {"X-API-Key": service.key}).p50 * 1e3
            for name, body in zip(cases, (named[0], b"", by_vector[0], b""), strict=True)
            if body
        }
        processes = [psutil.Process(service.process.pid), *psutil.Process(service.process.pid).children(recursive=True)]
        memory = {" ".join(process.cmdline()[1:3])[-40:]: process.memory_full_info().pss / 1e6 for process in processes}
        flame = report / "flame.svg"
        flame_graph(service, named[0], seconds, flame)
    finally:
        service.stop()
    for name, values in cases.items():
        values["all parts"] = sum(values.values())
        if name in whole:
            values["at the client"] = whole[name]
    start_up = {
        "read and verify the bundle": (read - begin) * 1e3,
        "load the model": (loaded - read) * 1e3,
        "command to /readyz": ready * 1e3,
    }
    tables = [
        table("microseconds per row", cases),
        table("start, milliseconds", {"": start_up}),
        table("imports, milliseconds", {"": dict(list(imports("service").items())[:12])}),
        table("PSS, MB", {"": memory}),
    ]
    text = "\n\n".join(tables)
    (report / "profile.md").write_text(text + "\n")
    typer.echo(f"{text}\n\nflame graph: {flame}\ntables: {report / 'profile.md'}")


def bodies(bundle: Bundle) -> tuple[list[bytes], list[bytes]]:
    """BATCH bodies of `POST /predict` with named fields, and the same applicants as vectors, with 0 for missing values."""
    named = [msgspec.json.encode(document) for document in requests(BATCH, seed=1)]
    parser = RequestParser(bundle.features, BATCH)
    matrix = InputReader(bundle.features).read([parser.parse_one(body) for body in named]).matrix
    return named, [msgspec.json.encode({"features": vector}) for vector in np.nan_to_num(matrix).tolist()]


def flame_graph(service: Service, body: bytes, seconds: int, path: Path) -> None:
    """Load a service with 8 connections while py-spy samples its process."""
    with ThreadPoolExecutor(1) as pool:
        loaded = pool.submit(wrk, f"{service.url}/predict", body, 8, seconds + 2, {"X-API-Key": service.key})
        command: list[str | Path] = [
            Path(sys.executable).with_name("py-spy"),
            "record",
            "-d",
            str(seconds),
            "-r",
            "250",
            "-o",
            path,
            "-p",
            str(psutil.Process(service.process.pid).children()[0].pid),
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        loaded.result()
    if result.returncode:
        raise SystemExit(f"py-spy could not sample the service: {result.stderr.strip()}")


if __name__ == "__main__":
    run(main)
