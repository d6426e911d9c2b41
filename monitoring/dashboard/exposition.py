"""The figures of GET /metrics: counts and times since the service started, and drift of its latest applicants."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families


class Figures:
    """The samples of an exposition.

    Parameters
    ----------
    text : in Prometheus's format.

    Raises
    ------
    ValueError
        It is not in that format.
    """

    def __init__(self, text: str) -> None:
        self._samples: dict[str, list[tuple[Mapping[str, str], float]]] = defaultdict(list)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._samples[sample.name].append((sample.labels, sample.value))

    def one(self, name: str) -> float | None:
        """The value of a metric without labels; None if there is none."""
        return next((value for _, value in self._samples.get(name, ())), None)

    def by(self, name: str, label: str) -> dict[str, float]:
        """The sums of a metric for each value of a label."""
        sums: dict[str, float] = defaultdict(float)
        for labels, value in self._samples.get(name, ()):
            sums[labels.get(label, "")] += value
        return dict(sums)

    def routes(self) -> "list[RouteFigures]":
        """What each route answered, the busiest first."""
        statuses: dict[str, dict[str, float]] = defaultdict(dict)
        for labels, value in self._samples.get("credit_requests_total", ()):
            statuses[labels["route"]][labels["status"]] = value
        rows = [RouteFigures(route, counts, self._buckets(route)) for route, counts in statuses.items()]
        return sorted(rows, key=lambda row: (-row.requests, row.route))

    def _buckets(self, route: str) -> list[tuple[float, float]]:
        samples = self._samples.get("credit_request_duration_seconds_bucket", ())
        return sorted((float(labels["le"]), value) for labels, value in samples if labels["route"] == route)


class RouteFigures(NamedTuple):
    """Requests of a route by status, and the cumulated buckets of their times in seconds."""

    route: str
    statuses: Mapping[str, float]
    buckets: Sequence[tuple[float, float]]

    @property
    def requests(self) -> float:
        """All requests."""
        return sum(self.statuses.values())

    @property
    def failed(self) -> float:
        """Requests that ended in a status from 500 on."""
        return sum(count for status, count in self.statuses.items() if status.startswith("5"))

    @property
    def refused(self) -> float:
        """Requests that ended in a status from 400 to 499."""
        return sum(count for status, count in self.statuses.items() if status.startswith("4"))

    def within(self, share: float) -> float | None:
        """The bound in seconds below which this share of the answers came; infinity beyond the last one, None without answers."""
        total = self.buckets[-1][1] if self.buckets else 0.0
        if not total:
            return None
        return next((bound for bound, count in self.buckets if count >= share * total), math.inf)
