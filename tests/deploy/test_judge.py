"""The judge of a canary against a Prometheus and a Kubernetes that a test plays."""

import json
import os
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from running import ROOT

pytestmark = pytest.mark.slow

JUDGE = ROOT / "configs/deploy/kubernetes/overlays/canary/judge.py"
GOOD = {"scored": 5000.0, "failed": 0.0, "slow": 0.001, "pd": 0.08, "approve": 0.72}


class World:
    """What both answer: measures by track, and the Deployments."""

    def __init__(self) -> None:
        self.stable, self.canary = dict(GOOD), dict(GOOD)
        self.image, self.available, self.replicas = "old", True, 1
        self.patches: list[tuple[str, dict[str, Any]]] = []

    def measure(self, query: str) -> float | None:
        track = self.canary if 'track="canary"' in query else self.stable
        for word, name in (("increase", "scored"), ("5..", "failed"), ("le=", "slow"), ("_sum{", "pd"), ("APPROVE", "approve")):
            if word in query:
                return track[name]
        raise AssertionError(query)

    def deployment(self, name: str) -> dict[str, Any]:
        if name == "credit-scoring-canary":
            return {"spec": {"template": {"spec": {"containers": [{"image": "new"}]}}}}
        ready = 3 if self.available else 2
        return {
            "metadata": {"generation": 2},
            "spec": {"replicas": 3},
            "status": {"observedGeneration": 2, "updatedReplicas": 3, "replicas": 3, "availableReplicas": ready},
        }


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[World, dict[str, str]]]:
    """It, and the environment of the Job."""
    found = World()

    class Handler(BaseHTTPRequestHandler):
        def answer(self, document: object) -> None:
            body = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            if self.path.startswith("/api/v1/query"):
                value = found.measure(urllib.parse.parse_qs(self.path.partition("?")[2])["query"][0])
                self.answer({"data": {"result": [] if value is None else [{"value": [0, str(value)]}]}})
            else:
                assert self.headers["Authorization"] == "Bearer token"
                self.answer(found.deployment(self.path.rpartition("/")[2]))

        def do_PATCH(self) -> None:
            patch = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found.patches.append((self.path.rpartition("/")[2], patch))
            self.answer({})

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, content in {"token": "token", "namespace": "credit-scoring", "ca.crt": ""}.items():
        (tmp_path / name).write_text(content)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    settings = {"PROMETHEUS_URL": url, "KUBERNETES_API": url, "ACCOUNT": str(tmp_path), "BAKE_SECONDS": "0", "ROLLOUT_SECONDS": "1"}
    yield found, {**os.environ, **settings}
    server.shutdown()
    server.server_close()


def judge(environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-I", str(JUDGE)], env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_a_canary_like_the_stable_track_is_promoted(world: tuple[World, dict[str, str]]) -> None:
    result = judge(world[1])
    assert result.returncode == 0, result.stderr
    promoted, taken_away = world[0].patches
    assert promoted[0] == "credit-scoring"
    assert promoted[1]["spec"]["template"]["spec"]["containers"] == [{"name": "credit-scoring", "image": "new"}]
    assert taken_away == ("credit-scoring-canary", {"spec": {"replicas": 0}})


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("failed", 0.002, "failed requests"),
        ("slow", 0.02, "slower than 100 ms"),
        ("pd", 0.11, "shift of the mean PD"),
        ("pd", 0.05, "shift of the mean PD"),
        ("approve", 0.8, "shift of the approval rate"),
    ],
)
def test_a_canary_that_is_worse_or_decides_otherwise_is_taken_away(
    name: str, value: float, said: str, world: tuple[World, dict[str, str]]
) -> None:
    world[0].canary[name] = value
    result = judge(world[1])
    assert result.returncode == 1
    assert f"rolled back: {said}\n" in result.stdout
    assert world[0].patches == [("credit-scoring-canary", {"spec": {"replicas": 0}})]


@pytest.mark.parametrize(
    ("name", "value", "said"), [("scored", 999.0, "fewer than 1000"), ("pd", float("nan"), "nothing was counted of the canary")]
)
def test_without_enough_to_judge_nothing_is_changed(name: str, value: float, said: str, world: tuple[World, dict[str, str]]) -> None:
    world[0].canary[name] = value
    result = judge(world[1])
    assert (result.returncode, world[0].patches) == (2, [])
    assert said in result.stderr


def test_a_promotion_that_does_not_come_up_keeps_the_canary(world: tuple[World, dict[str, str]]) -> None:
    world[0].available = False
    result = judge(world[1])
    assert result.returncode == 2
    assert "not all its pods are available" in result.stderr
    assert [name for name, _ in world[0].patches] == ["credit-scoring"]


def test_a_prometheus_that_is_away_is_one_sentence(world: tuple[World, dict[str, str]]) -> None:
    result = judge({**world[1], "PROMETHEUS_URL": "http://127.0.0.1:1"})
    assert result.returncode == 2
    assert result.stderr.startswith("not judged: Prometheus at http://127.0.0.1:1 does not answer")
    assert "Traceback" not in result.stderr
