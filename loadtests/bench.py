"""Measures requests per second and latency of this service and of other servers, interleaved in one run.

Each server is one process with the same model. wrk sends the same applicant to each server in turn, round after round, so that a
change in the machine's speed affects all of them alike.
"""

import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

import matplotlib as mpl
import msgspec
import numpy as np
import typer
from matplotlib.figure import Figure

from configs.settings import load_settings
from features.applications import Applications
from loadtests.load import own_home, run
from serving.bundle import Bundle, read_bundle
from serving.identity.keys import create_key
from serving.model_store import find_in_store
from training.home_credit.generator import Generator

ROOT = Path(__file__).parents[1]
RIVALS = Path(__file__).parent / "rivals"
FIRST_PORT = 3210
CONNECTIONS = (1, 8, 64)
REST_SECONDS = 2.0
FASTAPI = "FastAPI, def"
OURS = "this service, vector"


class Contestant(NamedTuple):
    """A server and the request to send to it."""

    name: str
    command: list[str]
    path: str
    body: Any
    environment: Mapping[str, str] = MappingProxyType({})
    headers: Mapping[str, str] = MappingProxyType({})


class Figures(NamedTuple):
    """The result of one run of wrk: requests per second, latencies in milliseconds, number of answers without a 2xx status."""

    rate: float
    p50: float
    p99: float
    failed: int


def contestants(bundle: Bundle, folder: Path, rivals: Path) -> list[Contestant]:
    """The servers. The model is written where each of them reads it. The function is long because it is one table of servers.

    Parameters
    ----------
    folder : empty folder for models, settings and state.
    rivals : virtual environment with the other servers.
    """
    frame = next(Generator.from_file().draw(1, seed=1))
    matrix = np.nan_to_num(bundle.features.transform(Applications.from_columns(frame)).matrix, nan=0.0)
    vector = matrix[0].tolist()
    columns = [column.name for column in bundle.features.table.columns]
    row = frame[columns].astype(object).where(frame[columns].notna(), None).iloc[0].to_dict()
    (folder / "model.txt").write_text(bundle.model)
    settings = {"name": "credit", "implementation": "mlserver_lightgbm.LightGBMModel", "max_batch_size": 128, "max_batch_time": 0.001}
    (folder / "model-settings.json").write_text(json.dumps({**settings, "parameters": {"uri": "./model.txt", "version": "v1"}}))
    server = {
        "http_port": FIRST_PORT + 4,
        "grpc_port": FIRST_PORT + 20,
        "metrics_port": FIRST_PORT + 21,
        "parallel_workers": 0,
        "debug": False,
    }
    (folder / "settings.json").write_text(json.dumps({**server, "host": "127.0.0.1"}))
    save = "import lightgbm, mlflow, sys; mlflow.lightgbm.save_model(lightgbm.Booster(model_file=sys.argv[1]), sys.argv[2])"
    mlflow_model = folder / "mlflow"
    subprocess.run([rivals / "bin/python", "-c", save, folder / "model.txt", mlflow_model], check=True, capture_output=True)
    own, other = str(Path(sys.executable).parent), str(rivals / "bin")
    ports = [str(FIRST_PORT + number) for number in range(12)]
    model = {"BENCH_MODEL": str(folder / "model.txt"), "BENCH_THRESHOLD": str(bundle.decision.threshold)}
    uvicorn = [f"{other}/uvicorn", "fastapi_app:app", "--app-dir", str(RIVALS), "--no-access-log", "--port"]
    by_vector = {"features": vector, "client_id": "1"}
    bentoml = f"{own}/bentoml"
    tensor = {"inputs": [{"name": "features", "shape": [1, len(vector)], "datatype": "FP64", "data": vector}]}
    keys = folder / "keys.json"
    key = {"X-API-Key": create_key(keys, "bench", None)}

    def ours(name: str, port: str, target: str = ".", **environment: str) -> Contestant:
        command = [bentoml, "serve", target, "--working-dir", str(ROOT), "--port", port]
        return Contestant(name, command, f":{port}/predict", by_vector, {**own_home(folder / f"home{port}", keys), **environment}, key)

    def batchable(name: str, port: str, service: str) -> Contestant:
        command = [bentoml, "serve", f"bento_stock:{service}", "--working-dir", str(RIVALS), "--port", port]
        home = {"BENTOML_HOME": str(folder / "home")}  # with a shared home, a second service would erase the first one's metrics
        return Contestant(f"BentoML batchable, {name}", command, f":{port}/predict", {"features": [vector]}, {**model, **home})

    return [
        ours(OURS, ports[0]),
        Contestant("this service, 120 named fields", [], f":{ports[0]}/predict", {"application": row}, headers=key),
        ours("- without keys", ports[7], CREDIT_AUTH="disabled"),
        ours("- without metrics", ports[8], target="loadtests.rivals.without_metrics:CreditScoring"),
        ours("- without the decision log", ports[9], CREDIT_LOG__DURABILITY="off"),
        ours("- with the log synced to the disk", ports[10], CREDIT_LOG__DURABILITY="fsync"),
        ours("- without measuring drift", ports[11], CREDIT_DRIFT__INTERVAL_SECONDS="1000000"),
        Contestant(FASTAPI, [*uvicorn, ports[1]], f":{ports[1]}/def", by_vector, model),
        Contestant("FastAPI, async def", [*uvicorn, ports[2]], f":{ports[2]}/async", by_vector, model),
        batchable("as it comes", ports[3], "Stock"),
        Contestant(
            "MLServer, LightGBM runtime", [f"{other}/mlserver", "start", str(folder)], f":{ports[4]}/v2/models/credit/infer", tensor
        ),
        Contestant(
            "mlflow models serve",
            [f"{other}/mlflow", "models", "serve", "-m", str(mlflow_model), "--env-manager", "local", "-h", "127.0.0.1", "-p", ports[5]],
            f":{ports[5]}/invocations",
            {"inputs": [vector]},
        ),
        batchable("tuned", ports[6], "Tuned"),
    ]


@contextmanager
def running(contestant: Contestant, folder: Path) -> Iterator[None]:
    """Start a server in its own process group and wait until it answers; stop it after the block."""
    if not contestant.command:
        yield
        return
    environment = {**os.environ, **contestant.environment, "PATH": f"{Path(contestant.command[0]).parent}:{os.environ['PATH']}"}
    log = (folder / f"{contestant.name.replace(' ', '-')}.log").open("w")
    process = subprocess.Popen(
        contestant.command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 60
        while (result := measure(contestant, 1, 0.2)).rate == 0 or result.failed:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{contestant.name} does not answer; its log:\n{Path(log.name).read_text()[-2000:]}")
            time.sleep(0.5)
        yield
    finally:
        for step in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, step)
                process.wait(10)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        log.close()


def measure(contestant: Contestant, connections: int, seconds: float) -> Figures:
    """Load the contestant over this many connections, after a pause in which the other servers ship their logs."""
    time.sleep(REST_SECONDS)
    return wrk(f"http://127.0.0.1{contestant.path}", msgspec.json.encode(contestant.body), connections, seconds, contestant.headers)


def wrk(url: str, body: bytes, connections: int, seconds: float, headers: Mapping[str, str] = MappingProxyType({})) -> Figures:
    """Post a JSON body over and over on this many connections."""
    lines = [f'wrk.headers["{name}"] = "{value}"' for name, value in {"Content-Type": "application/json", **headers}.items()]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write("\n".join(['wrk.method = "POST"', f"wrk.body = [==[{body.decode()}]==]", *lines]))
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", "-s", script.name, url]
        return parse(subprocess.run(command, capture_output=True, text=True, check=False).stdout)


def parse(output: str) -> Figures:
    """The figures in wrk's report. If the report has none, the rate is 0 and the latencies are NaN."""
    units = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}

    def latency(share: int) -> float:
        found = re.search(rf"^\s+{share}%\s+([\d.]+)(us|ms|s|m)$", output, re.MULTILINE)
        return float(found[1]) * units[found[2]] if found else float("nan")

    rate = re.search(r"^Requests/sec:\s+([\d.]+)", output, re.MULTILINE)
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    return Figures(float(rate[1]) if rate else 0.0, latency(50), latency(99), int(failed[1]) if failed else 0)


def table(results: dict[str, dict[int, list[Figures]]]) -> str:
    """A Markdown table: requests per second as median (minimum to maximum), the ratio to FastAPI's `def`, p50 and p99."""
    lines = ["| server | " + " | ".join(f"c={c}" for c in CONNECTIONS) + " |", "|---" * (1 + len(CONNECTIONS)) + "|"]
    for name, figures in results.items():
        cells = []
        for connections in CONNECTIONS:
            runs = figures[connections]
            rates = [run.rate for run in runs]
            ratio = statistics.median(
                run.rate / base.rate for run, base in zip(runs, results[FASTAPI][connections], strict=True) if base.rate
            )
            p50, p99 = (statistics.median(getattr(run, key) for run in runs) for key in ("p50", "p99"))
            failed = sum(run.failed for run in runs)
            cells.append(
                f"**{statistics.median(rates):,.0f}** ({min(rates):,.0f} to {max(rates):,.0f}), {ratio:.2f} x, p50 {p50:.1f}, p99 {p99:.1f} ms"
                + (f", {failed:,} failed" if failed else "")
            )
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(results: dict[str, dict[int, list[Figures]]], path: Path) -> None:
    """Draw the median requests per second of each server at each number of connections."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for place, connections in enumerate(CONNECTIONS):
        medians = [statistics.median(run.rate for run in figures[connections]) for figures in results.values()]
        axes.barh(np.arange(len(results)) - 0.27 * (place - 1), medians, height=0.25, label=f"{connections} connections")
    axes.set_yticks(range(len(results)), list(results))
    axes.invert_yaxis()
    axes.set(xlabel="requests per second, median", title="One process each, one applicant per request")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main(
    rivals: Annotated[Path, typer.Option(help="Virtual environment with the other servers; make bench creates it")] = Path(".venv-bench"),
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each server")] = 5,
    seconds: Annotated[int, typer.Option(min=1, help="Length of a run in seconds")] = 3,
    write: Annotated[Path, typer.Option(help="Guide whose table between the bench marks is replaced")] = Path("README.md"),
) -> None:
    """Compare this service with FastAPI, BentoML's own batching, MLServer and mlflow models serve."""
    from training.console import replace_between

    mpl.use("Agg")
    if not shutil.which("wrk"):
        raise SystemExit("the benchmark needs the program wrk (Debian: apt-get install wrk)")
    settings = load_settings()
    bundle = read_bundle(find_in_store(settings.model.name, settings.model.version))
    results: dict[str, dict[int, list[Figures]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        entries = contestants(bundle, folder, rivals.absolute())
        with ExitStack() as stack:
            for contestant in entries:
                typer.echo(f"starting {contestant.name}")
                stack.enter_context(running(contestant, folder))
            for contestant in entries:
                results[contestant.name] = {connections: [] for connections in CONNECTIONS}
                measure(contestant, 8, seconds)
            for number in range(rounds):
                for connections in CONNECTIONS:
                    for contestant in entries:
                        figures = measure(contestant, connections, seconds)
                        results[contestant.name][connections].append(figures)
                        typer.echo(
                            f"{number + 1}/{rounds} c={connections:<3} {contestant.name:32} {figures.rate:8,.0f}/s p99 {figures.p99:.1f} ms"
                        )
    report = settings.home / "reports" / "bench"
    plot(results, report / "bench.png")
    (report / "bench.json").write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    text = table(results)
    typer.echo(text)
    replace_between(write, "bench", text)


if __name__ == "__main__":
    run(main)
