"""Judges a canary by its metrics, then promotes it or takes it away. The Job of this overlay runs it in the image of the service.

Both tracks serve for BAKE_SECONDS, a quarter of an hour or more. Then it asks Prometheus for the share of failed and of slow
requests, the mean PD and the share approved of each track in that time. The canary passes if it has scored MINIMUM applicants
and exceeds no limit in MEASURES. A new model may well approve more: raise its limits on purpose, for that one rollout. It
prints one line for each measure. Exit code 0: promoted, 1: taken away, 2: not judged, nothing changed.
"""

import json
import math
import os
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
STABLE, CANARY = "credit-scoring", "credit-scoring-canary"
SELECT = 'job="credit-scoring", track="{track}"'
SCORED = "sum(increase(credit_probability_of_default_count{{{select}}}[{window}s]))"
MEASURES = {  # name: query, largest excess of the canary over the stable track
    "failed requests": (
        (
            'sum(rate(credit_requests_total{{{select}, status=~"5..", route=~"/predict.*"}}[{window}s]) or vector(0)) / '
            'sum(rate(credit_requests_total{{{select}, route=~"/predict.*"}}[{window}s]))'
        ),
        0.001,
    ),
    "slower than 100 ms": (
        (
            '1 - sum(rate(credit_request_duration_seconds_bucket{{{select}, route="/predict", le="0.1"}}[{window}s]))'
            ' / sum(rate(credit_request_duration_seconds_count{{{select}, route="/predict"}}[{window}s]))'
        ),
        0.01,
    ),
    "shift of the mean PD": (
        "sum(rate(credit_probability_of_default_sum{{{select}}}[{window}s])) / sum(rate(credit_probability_of_default_count{{{select}}}[{window}s]))",
        0.02,
    ),
    "shift of the approval rate": (
        'sum(rate(credit_predictions_total{{{select}, decision="APPROVE"}}[{window}s])) / sum(rate(credit_predictions_total{{{select}}}[{window}s]))',
        0.05,
    ),
}


class JudgeError(RuntimeError):
    """Prometheus or Kubernetes does not answer as expected; the message says how."""


def ask(prometheus: str, query: str) -> float | None:
    """The one value of a query; None if there is none."""
    try:
        with urllib.request.urlopen(f"{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': query})}", timeout=30) as answer:
            result = json.load(answer)["data"]["result"]
    except (OSError, KeyError, ValueError) as error:
        raise JudgeError(f"Prometheus at {prometheus} does not answer: {error}") from None
    value = float(result[0]["value"][1]) if result else None
    return None if value is None or math.isnan(value) else value  # not a number: nothing was counted


def compare(prometheus: str, window: int, minimum: int) -> list[str]:
    """Why the canary fails; empty if it passes. Prints each measure."""
    scored = ask(prometheus, SCORED.format(select=SELECT.format(track="canary"), window=window)) or 0.0
    if scored < minimum:
        raise JudgeError(f"the canary scored {scored:.0f} applicants, fewer than {minimum}; give it more time or more share")
    failures = []
    for name, (query, limit) in MEASURES.items():
        stable, canary = (ask(prometheus, query.format(select=SELECT.format(track=track), window=window)) for track in ("stable", "canary"))
        if stable is None or canary is None:
            raise JudgeError(f"{name}: nothing was counted of the {'stable track' if stable is None else 'canary'}")
        excess = abs(canary - stable) if name.startswith("shift") else canary - stable
        print(f"{name}: stable {stable:.4f}, canary {canary:.4f}, limit of the excess {limit:g}")
        if excess > limit:
            failures.append(name)
    return failures


class Cluster:
    """The Deployments of this namespace, by the API of Kubernetes."""

    def __init__(self, server: str, account: Path) -> None:
        self.base = f"{server}/apis/apps/v1/namespaces/{(account / 'namespace').read_text().strip()}/deployments"
        self.token = (account / "token").read_text().strip()
        authority = account / "ca.crt"
        self.context = ssl.create_default_context(cafile=str(authority)) if server.startswith("https") else None

    def call(self, name: str, patch: dict[str, Any] | None = None) -> dict[str, Any]:
        """Read a Deployment, or patch it."""
        request = urllib.request.Request(
            f"{self.base}/{name}",
            data=None if patch is None else json.dumps(patch).encode(),
            method="GET" if patch is None else "PATCH",
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/strategic-merge-patch+json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30, context=self.context) as answer:
                result: dict[str, Any] = json.load(answer)
        except (OSError, ValueError) as error:
            raise JudgeError(f"Kubernetes does not {'show' if patch is None else 'change'} the Deployment {name}: {error}") from None
        return result

    def promote(self, seconds: float) -> None:
        """Give the stable Deployment the image of the canary and wait until all its pods have it."""
        image = self.call(CANARY)["spec"]["template"]["spec"]["containers"][0]["image"]
        self.call(STABLE, {"spec": {"template": {"spec": {"containers": [{"name": STABLE, "image": image}]}}}})
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.call(STABLE)
            status, wanted = found["status"], found["spec"]["replicas"]
            seen = status.get("observedGeneration", 0) >= found["metadata"]["generation"]
            if seen and status.get("updatedReplicas") == status.get("availableReplicas") == status.get("replicas") == wanted:
                print(f"promoted: all {wanted} pods of {STABLE} run {image}")
                return
            time.sleep(2)
        raise JudgeError(f"{STABLE} has {image}, but not all its pods are available after {seconds:.0f} s; the canary stays")

    def take_away(self) -> None:
        """Leave the canary without pods."""
        self.call(CANARY, {"spec": {"replicas": 0}})


def main() -> int:
    """Wait, judge, act."""
    bake = int(os.environ.get("BAKE_SECONDS", "1800"))
    time.sleep(bake)
    try:
        cluster = Cluster(os.environ.get("KUBERNETES_API", "https://kubernetes.default.svc"), Path(os.environ.get("ACCOUNT", ACCOUNT)))
        failures = compare(os.environ["PROMETHEUS_URL"], max(bake, 60), int(os.environ.get("MINIMUM", "1000")))
        if not failures:
            cluster.promote(float(os.environ.get("ROLLOUT_SECONDS", "900")))
        cluster.take_away()
    except JudgeError as error:
        print(f"not judged: {error}", file=sys.stderr)
        return 2
    if failures:
        print(f"rolled back: {', '.join(failures)}")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
