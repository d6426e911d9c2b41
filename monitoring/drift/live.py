"""Drift of the applicants that a running service scores, as Prometheus gauges."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from monitoring.drift.psi import DRIFT, WARNING, Matrix, Measurement, Reference, Values
from monitoring.service_log import LOGGER

logger = logging.getLogger(LOGGER)

STOP_SECONDS = 5.0


class _Measured(NamedTuple):
    drift: Measurement
    approval_rate: float
    seconds: float


class LiveDrift(Collector):
    """Compares the last scored rows with the reference every few seconds, in a thread.

    Below the minimum of the reference it publishes the number of rows only.

    Parameters
    ----------
    reference : distributions of the features in the model's order, followed by that of the PD.
    threshold : PD from which an applicant is declined.
    approval_rate : share of the training applicants below the threshold.
    window : number of the last rows that are kept.
    interval_seconds : time between two measurements.
    """

    def __init__(self, reference: Reference, threshold: float, approval_rate: float, window: int, interval_seconds: float) -> None:
        self._reference = reference
        self._threshold, self._approval_rate = threshold, approval_rate
        self._interval = interval_seconds
        self._ring = np.empty((window, len(reference.names)))
        self._added = 0
        self._lock = threading.Lock()
        self._measured: _Measured | None = None
        self._earlier: Callable[[], Matrix] | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drift", daemon=True)
        if reference.minimum_rows > window:
            logger.warning(
                "drift is not measured: it needs %s rows, and the window holds %d (drift.window)", reference.minimum_rows, window
            )

    def add(self, matrix: Matrix, pds: Values) -> None:
        """Add scored rows: features, shape (rows, features), and PDs, shape (rows,); they are copied."""
        window = len(self._ring)
        matrix, pds = matrix[-window:], pds[-window:]
        with self._lock:
            start = self._added % window
            fits = min(len(pds), window - start)
            self._ring[start : start + fits, :-1], self._ring[start : start + fits, -1] = matrix[:fits], pds[:fits]
            if fits < len(pds):
                self._ring[: len(pds) - fits, :-1], self._ring[: len(pds) - fits, -1] = matrix[fits:], pds[fits:]
            self._added += len(pds)

    def fill(self, earlier: Matrix) -> None:
        """Put as many earlier rows as fit before those of the window; shape (rows, features + 1), PD in the last column, oldest first."""
        with self._lock:
            room = max(0, len(self._ring) - self._added)
            earlier = earlier[max(0, len(earlier) - room) :]
            if len(earlier):
                self._ring[len(earlier) : len(earlier) + self._added] = self._ring[: self._added].copy()
                self._ring[: len(earlier)] = earlier
                self._added += len(earlier)

    def measure(self) -> None:
        """Compare the window with the reference now."""
        started = time.perf_counter()
        with self._lock:
            window = self._ring[: self._added].copy()
        if len(window) >= self._reference.minimum_rows:
            drift = self._reference.measure(self._reference.count(window))
            approved = float(np.mean(window[:, -1] < self._threshold))
            self._measured = _Measured(drift, approved, time.perf_counter() - started)

    def start(self, registry: CollectorRegistry, earlier: Callable[[], Matrix] | None = None) -> None:
        """Measure from now on and publish in this registry.

        Parameters
        ----------
        earlier : returns rows that were scored before this run, for `fill`; called in the thread. If it fails, the window begins empty.
        """
        registry.register(self)
        self._earlier = earlier
        self._thread.start()

    def stop(self) -> None:
        """End the thread. If it still reads earlier rows, it is left to end with the process."""
        self._stopped.set()
        self._thread.join(STOP_SECONDS)

    def collect(self) -> Iterator[Metric]:
        """The gauges of the last measurement."""
        yield GaugeMetricFamily("credit_drift_window_rows", "Rows in the drift window.", min(self._added, len(self._ring)))
        yield GaugeMetricFamily("credit_drift_minimum_rows", "Rows from which drift is published.", self._reference.minimum_rows)
        if self._measured is None:
            return
        drift, approval_rate, seconds = self._measured
        features = self._reference.names[:-1]
        shift = np.abs(drift.missing_shift[:-1])
        psi = GaugeMetricFamily("credit_drift_psi", "Population stability index of a feature.", labels=["feature"])
        missing = GaugeMetricFamily("credit_drift_missing_shift", "Absolute change of a missing rate.", labels=["feature"])
        for name, value, change in zip(features, drift.psi.tolist(), shift.tolist(), strict=False):
            psi.add_metric([name], value)
            missing.add_metric([name], change)
        yield psi
        yield missing
        share = GaugeMetricFamily("credit_drift_features_ratio", "Share of the features whose PSI has reached a band.", labels=["band"])
        for band, limit in (("warning", WARNING), ("drift", DRIFT)):
            share.add_metric([band], float(np.mean(drift.psi[:-1] >= limit)))
        yield share
        yield GaugeMetricFamily("credit_drift_pd_psi", "Population stability index of the PD.", float(drift.psi[-1]))
        yield GaugeMetricFamily("credit_drift_missing_shift_max", "Largest change of a missing rate.", float(shift.max()))
        yield GaugeMetricFamily("credit_drift_approval_rate", "Share approved in the drift window.", approval_rate)
        yield GaugeMetricFamily("credit_drift_reference_approval_rate", "Share approved of the training data.", self._approval_rate)
        yield GaugeMetricFamily("credit_drift_measuring_seconds", "Time that the last measurement took.", seconds)

    def _run(self) -> None:
        try:
            if self._earlier:
                self.fill(self._earlier())
        except Exception as error:  # new rows must be measured all the same
            logger.warning("the drift window begins empty: %s", error)
        measured = 0
        while True:
            if self._added != measured:
                measured = self._added
                try:
                    self.measure()
                except Exception:
                    logger.exception("drift could not be measured")
            if self._stopped.wait(self._interval):
                return
