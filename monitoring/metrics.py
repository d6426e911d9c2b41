"""Prometheus metrics of the service, named by the conventions of prometheus.io/docs/practices/naming."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from http import HTTPStatus
from typing import Any

import prometheus_client.values
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from monitoring.prediction import Prediction

LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
ROWS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
PD_BUCKETS = (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1)


class Metrics:
    """The metrics of one service process, in their own registry.

    Attributes
    ----------
    registry : of all of them.
    store : those of the store and the shipper.
    """

    def __init__(self) -> None:
        # BentoML keeps values in memory-mapped files, which workers can share. They cost 4 % of a request, and here is only one worker
        prometheus_client.values.ValueClass = prometheus_client.values.MutexValue
        self.registry = registry = CollectorRegistry()
        self.store = StoreMetrics(registry)
        # looking labels up costs more than counting
        self._labelled: Callable[..., Any] = cache(lambda metric, *labels: metric.labels(*labels))
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
        self._requests = Counter("credit_requests", "Requests answered, by route and status.", ("route", "status"), registry=registry)
        self._latency = Histogram(
            "credit_request_duration_seconds",
            "Time from the head of a request to the end of its answer, of all but those answered 503.",
            ("route",),
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self._predictions = Counter(
            "credit_predictions", "Applicants scored, by decision and risk level.", ("decision", "risk_level"), registry=registry
        )
        self._pd = Histogram(
            "credit_probability_of_default", "Calibrated PD of the applicants scored.", buckets=PD_BUCKETS, registry=registry
        )
        self._warnings = Counter("credit_warnings", "Warnings in answers, by code.", ("code",), registry=registry)
        self._batch_rows = Histogram("credit_batch_rows", "Rows scored together.", buckets=ROWS_BUCKETS, registry=registry)
        self._queue = Gauge("credit_queue_rows", "Rows waiting to be scored.", registry=registry)
        self._waiting = Histogram("credit_waiting_seconds", "Time of a call in the queue.", buckets=LATENCY_BUCKETS, registry=registry)
        self._scoring = Histogram("credit_scoring_seconds", "Time to score a batch.", buckets=LATENCY_BUCKETS, registry=registry)
        self._row_errors = Counter("credit_row_errors", "Rows of batches that could not be scored.", registry=registry)
        self._model = Gauge("credit_model_info", "1 for the model that is served.", ("name", "version", "trained_on"), registry=registry)
        self._keys_failures = Counter(
            "credit_keys_failures", "Times that the file of API keys was found gone or broken.", registry=registry
        )
        self._log_ready = Gauge("credit_log_ready", "1 while decisions can be put on record.", registry=registry)
        self._guarded = Gauge(
            "credit_connections_guarded",
            "1 while connections have limits, clocks and early refusal; 0 behind another server.",
            registry=registry,
        )

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request; `route` is one of the known routes, never a raw path.

        The histogram leaves out refusals (4xx, 503): they are answered at once and would lower the latency.
        """
        self._labelled(self._requests, route, str(status)).inc()
        if not HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.SERVICE_UNAVAILABLE:
            self._labelled(self._latency, route).observe(seconds)

    def predictions(self, predictions: Iterable[Prediction]) -> None:
        """Count predictions and the warnings they carry."""
        for prediction in predictions:
            self._labelled(self._predictions, prediction.decision, prediction.risk_level).inc()
            self._pd.observe(prediction.probability)
            for warning in prediction.warnings:
                self._labelled(self._warnings, warning["code"]).inc()

    def queue(self, rows: Callable[[], int]) -> None:
        """Show how many rows wait; each scrape calls `rows`."""
        self._queue.set_function(rows)

    def batch(self, rows: int, waited: Sequence[float], seconds: float) -> None:
        """Record a scored batch: its rows, how long its calls waited, how long it took."""
        self._batch_rows.observe(rows)
        for wait in waited:
            self._waiting.observe(wait)
        self._scoring.observe(seconds)

    def row_errors(self, count: int) -> None:
        """Count the bad rows of a batch."""
        self._row_errors.inc(count)

    def model(self, name: str, version: str, trained_on: str) -> None:
        """Show which model is served."""
        self._model.labels(name, version, trained_on).set(1)

    def guarded(self, is_guarded: Callable[[], bool]) -> None:
        """Show whether the connections are guarded; each scrape calls `is_guarded`."""
        self._guarded.set_function(is_guarded)

    def recording(self, ready: Callable[[], bool]) -> None:
        """Show whether decisions can be recorded; each scrape calls `ready`."""
        self._log_ready.set_function(ready)

    def keys_failed(self) -> None:
        """Count that the file of API keys was found gone or broken."""
        self._keys_failures.inc()

    def exposition(self) -> bytes:
        """The metrics in Prometheus's text format."""
        return generate_latest(self.registry)


class StoreMetrics:
    """The metrics of the store, the shipper and the outcomes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._store_ready = Gauge(
            "credit_store_ready", "1 while the file of the store is the one that was opened, and whole.", registry=registry
        )
        self._went_back = Counter(
            "credit_store_went_back", "Times that the store was found to be an older copy of itself.", registry=registry
        )
        self._lag_seconds = Gauge("credit_shipper_lag_seconds", "Age of the oldest decision that is in the log only.", registry=registry)
        self._lag_bytes = Gauge("credit_shipper_lag_bytes", "Size of what is in the log only.", registry=registry)
        self._shipped = Counter("credit_shipper_lines", "Lines of the log that the store has taken.", registry=registry)
        self._refused = Counter("credit_shipper_refused", "Lines of the log that the store refused; set aside.", registry=registry)
        self._shipping_errors = Counter("credit_shipper_errors", "Failed attempts to ship to the store.", registry=registry)
        self._outcomes = Counter("credit_outcomes", "Outcomes received, by what became of them.", ("status",), registry=registry)

    def ready(self, is_ready: Callable[[], bool]) -> None:
        """Show whether the file of the store is the one that was opened; each scrape calls `is_ready`."""
        self._store_ready.set_function(is_ready)

    def went_back(self) -> None:
        """Count that the store was found to lack something it had committed."""
        self._went_back.inc()

    def shipping(self, lag: Callable[[], tuple[float, int]]) -> None:
        """Show how far the store is behind the decision log; each scrape calls `lag`, which returns seconds and bytes."""

        def value(index: int) -> float:
            try:
                return lag()[index]
            except OSError:  # the log cannot be read; the other metrics must be served all the same
                return math.nan

        self._lag_seconds.set_function(lambda: value(0))
        self._lag_bytes.set_function(lambda: value(1))

    def shipped(self, lines: int, refused: int) -> None:
        """Count the lines that the store took or had already, and those that it refused."""
        self._shipped.inc(lines)
        self._refused.inc(refused)

    def shipping_failed(self) -> None:
        """Count a failed attempt to ship."""
        self._shipping_errors.inc()

    def outcomes(self, counts: Mapping[str, int]) -> None:
        """Count outcomes by their status."""
        for status, count in counts.items():
            self._outcomes.labels(status).inc(count)
