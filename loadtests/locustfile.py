"""Locust users and load shapes: single requests with realistic applicants, batches, invalid input.

`python -m loadtests.load` starts the service and runs this file headless. To use Locust's web page, run
`locust -f loadtests/locustfile.py --host http://127.0.0.1:3000`.
"""

import os
from typing import Any

import msgspec
from locust import FastHttpUser, LoadTestShape, between, events, task
from locust.env import Environment

from configs.settings import load_settings
from loadtests.applicants import requests
from loadtests.shapes import SHAPES

SINGLE, BATCH, BAD = "/predict", "/predict/batch of 50", "/predict, bad input"
HEADERS = {"Content-Type": "application/json", **({"X-API-Key": os.environ["LOADTEST_KEY"]} if "LOADTEST_KEY" in os.environ else {})}
APPLICANTS = requests(500, seed=1)
SINGLES = [msgspec.json.encode(request) for request in APPLICANTS]
BATCHES = [msgspec.json.encode({"applications": APPLICANTS[start : start + 50]}) for start in range(0, 500, 50)]
BAD_BODIES = [b"{", b'{"application": {"AMT_CREDIT": "much"}}', b'{"application": {"NO_SUCH_FIELD": 1}}', b'{"features": [1, 2]}']


class Branch(FastHttpUser):
    """A branch office. It sends mostly single applicants, sometimes a batch or invalid input."""

    wait_time = between(0.02, 0.1)
    place = 0

    def body(self, bodies: list[bytes]) -> Any:
        """The next of these bodies, typed Any because Locust accepts bytes but does not declare it."""
        self.place += 1
        return bodies[self.place % len(bodies)]

    @task(20)
    def single(self) -> None:
        """Score one applicant."""
        self.client.post("/predict", data=self.body(SINGLES), headers=HEADERS, name=SINGLE)

    @task(1)
    def batch(self) -> None:
        """Score a batch of fifty applicants."""
        self.client.post("/predict/batch", data=self.body(BATCHES), headers=HEADERS, name=BATCH)

    @task(1)
    def bad(self) -> None:
        """Send an invalid body; the correct answer is a 400 or a 422."""
        with self.client.post("/predict", data=self.body(BAD_BODIES), headers=HEADERS, name=BAD, catch_response=True) as response:
            if response.status_code in (400, 422):
                response.success()
            else:
                response.failure(f"answered {response.status_code}; expected 400 or 422")


class Shape(LoadTestShape):
    """The stages of the shape that LOADTEST_SHAPE names."""

    stages = SHAPES[os.environ.get("LOADTEST_SHAPE", "steady")]

    def tick(self) -> tuple[int, float] | None:
        """Number of users and users to start per second, at this time; None at the end."""
        elapsed: float = self.get_run_time()  # type: ignore[no-untyped-call]
        for seconds, users, rate in self.stages:
            if elapsed < seconds:
                return users, rate
            elapsed -= seconds
        return None


@events.quitting.add_listener
def judge(environment: Environment, **_: Any) -> None:
    """Set the exit code by the latency target."""
    target, stats = load_settings().latency_target, environment.stats
    single, total = stats.get(SINGLE, "POST"), stats.total
    p95, p99 = (single.get_response_time_percentile(share) or 0.0 for share in (0.95, 0.99))
    met = single.num_requests > 0 and p95 <= target.p95_ms and p99 <= target.p99_ms and total.fail_ratio <= target.max_failures
    print(  # noqa: T201
        f"{total.num_requests:,} requests, {total.total_rps:,.0f}/s, {total.num_failures} failed; single requests: "
        f"p95 {p95:.0f} ms (target {target.p95_ms:g}), p99 {p99:.0f} ms (target {target.p99_ms:g}): {'met' if met else 'MISSED'}"
    )
    environment.process_exit_code = 0 if met else 1
