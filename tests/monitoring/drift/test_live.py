import logging
import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from monitoring.drift.live import LiveDrift
from monitoring.drift.psi import Matrix, Reference, reference

RNG = np.random.default_rng(0)
BASE = RNG.random((20_000, 4))
ENTRIES = reference(BASE, ["a", "b", "c", "pd"])
LIVE = RNG.random((10_000, 4))


def live(window: int = 2000, interval: float = 3600.0) -> LiveDrift:
    return LiveDrift(Reference(ENTRIES, len(BASE)), 0.6, 0.6, window, interval)


def add(drift: LiveDrift, rows: Matrix) -> None:
    drift.add(rows[:, :-1], rows[:, -1])


def gauges(drift: LiveDrift) -> dict[str, float]:
    """name or name{label} to value."""
    drift.measure()
    samples = [sample for metric in drift.collect() for sample in metric.samples]
    return {"".join((sample.name, *(f"{{{value}}}" for value in sample.labels.values()))): sample.value for sample in samples}


def test_below_the_minimum_only_the_number_of_rows_is_published() -> None:
    drift = live()
    assert gauges(drift)["credit_drift_window_rows"] == 0
    minimum = int(gauges(drift)["credit_drift_minimum_rows"])
    add(drift, LIVE[: minimum - 1])
    assert gauges(drift) == {"credit_drift_window_rows": minimum - 1, "credit_drift_minimum_rows": minimum}
    add(drift, LIVE[:1])
    assert "credit_drift_pd_psi" in gauges(drift)


def test_unshifted_rows_are_stable_and_a_shift_is_named() -> None:
    drift = live()
    add(drift, LIVE[:2000])
    stable = gauges(drift)
    assert max(stable[f"credit_drift_psi{{{name}}}"] for name in "abc") < 0.1
    assert (stable["credit_drift_features_ratio{warning}"], stable["credit_drift_pd_psi"] < 0.1) == (0, True)
    assert stable["credit_drift_approval_rate"] == np.mean(LIVE[:2000, -1] < 0.6)
    assert stable["credit_drift_reference_approval_rate"] == 0.6
    shifted = LIVE[2000:4000].copy()
    shifted[:1000, 1] = np.nan
    shifted[:, 3] /= 2
    add(drift, shifted)
    found = gauges(drift)
    assert found["credit_drift_psi{b}"] >= 0.25
    assert max(found["credit_drift_psi{a}"], found["credit_drift_psi{c}"]) < 0.1
    assert found["credit_drift_missing_shift{b}"] == found["credit_drift_missing_shift_max"] == 0.5
    assert found["credit_drift_features_ratio{drift}"] == pytest.approx(1 / 3)
    assert found["credit_drift_pd_psi"] >= 0.25
    assert found["credit_drift_approval_rate"] == 1
    assert found["credit_drift_window_rows"] == 2000


@pytest.mark.parametrize("sizes", [[1] * 1300, [999, 999, 999], [2500], [1000, 1000, 1], [5000, 3]])
def test_the_window_holds_the_last_rows_whatever_the_batches(sizes: list[int]) -> None:
    drift, whole = live(1000), live(1000)
    start = 0
    for size in sizes:
        add(drift, LIVE[start : start + size])
        start += size
    add(whole, LIVE[start - 1000 : start])
    one, other = gauges(drift), gauges(whole)
    assert one.pop("credit_drift_measuring_seconds") > 0
    del other["credit_drift_measuring_seconds"]
    assert one == pytest.approx(other)


@pytest.mark.parametrize(
    ("before", "added"), [(0, 0), (0, 400), (300, 0), (300, 400), (900, 400), (1000, 0), (5000, 999), (5, 1000), (5, 2500)]
)
def test_earlier_rows_fill_the_window_and_leave_first(before: int, added: int) -> None:
    drift, whole = live(1000), live(1000)
    add(drift, LIVE[before : before + added])
    drift.fill(LIVE[:before])
    add(whole, LIVE[: before + added])
    for rows in (LIVE[:0], LIVE[6000:6300], LIVE[7000:7800]):
        add(drift, rows)
        add(whole, rows)
        one, other = gauges(drift), gauges(whole)
        one.pop("credit_drift_measuring_seconds", None)
        other.pop("credit_drift_measuring_seconds", None)
        assert one == other


def test_rows_are_copied() -> None:
    drift, rows = live(), LIVE[:2000].copy()
    add(drift, rows)
    rows[:] = 0
    assert gauges(drift)["credit_drift_psi{a}"] < 0.1


def test_an_empty_batch_changes_nothing() -> None:
    drift = live()
    add(drift, LIVE[:0])
    assert gauges(drift)["credit_drift_window_rows"] == 0


def test_concurrent_batches_all_arrive() -> None:
    drift = live(10_000)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda start: add(drift, LIVE[start : start + 10]), range(0, 10_000, 10)))
    whole = live(10_000)
    add(whole, LIVE)
    one, other = gauges(drift), gauges(whole)
    assert [one[f"credit_drift_psi{{{name}}}"] for name in "abc"] == [other[f"credit_drift_psi{{{name}}}"] for name in "abc"]


def test_a_window_that_is_too_small_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        drift = live(50)
    assert "the window holds 50 (drift.window)" in caplog.text
    add(drift, LIVE)
    assert set(gauges(drift)) == {"credit_drift_window_rows", "credit_drift_minimum_rows"}


def test_the_thread_measures_what_arrives_and_survives_an_error(
    caplog: pytest.LogCaptureFixture, wait_until: Callable[[Callable[[], object]], None]
) -> None:
    drift, registry = live(interval=0.01), CollectorRegistry()
    drift.start(registry)
    add(drift, LIVE[:2000])
    wait_until(lambda: registry.get_sample_value("credit_drift_pd_psi") is not None)
    measure, failed = drift.measure, threading.Event()

    def fail() -> None:
        failed.set()
        raise RuntimeError("no")

    drift.measure = fail  # type: ignore[method-assign]
    add(drift, LIVE[:1])
    assert failed.wait(60)
    drift.measure = measure  # type: ignore[method-assign]
    add(drift, np.full((2000, 4), math.nan))
    wait_until(lambda: registry.get_sample_value("credit_drift_missing_shift_max") == 1)
    drift.stop()
    assert "drift could not be measured" in caplog.text


def test_earlier_rows_are_measured_at_once(wait_until: Callable[[Callable[[], object]], None]) -> None:
    drift, registry = live(), CollectorRegistry()
    drift.start(registry, lambda: LIVE[:2000])
    wait_until(lambda: registry.get_sample_value("credit_drift_pd_psi") is not None)
    drift.stop()


def test_without_earlier_rows_the_window_begins_empty(
    caplog: pytest.LogCaptureFixture, wait_until: Callable[[Callable[[], object]], None]
) -> None:
    def fail() -> Matrix:
        raise RuntimeError("the store cannot be used")

    for earlier in (fail, lambda: np.ones((5, 3))):
        drift, registry = live(interval=0.01), CollectorRegistry()
        drift.start(registry, earlier)
        add(drift, LIVE[:2000])
        wait_until(lambda registry=registry: registry.get_sample_value("credit_drift_pd_psi") is not None)  # type: ignore[misc]
        assert registry.get_sample_value("credit_drift_window_rows") == 2000
        drift.stop()
    assert caplog.text.count("the drift window begins empty: ") == 2


def test_who_is_at_the_threshold_is_declined_and_fewer_missing_values_count_as_a_change() -> None:
    base = BASE.copy()
    base[:10_000, 0] = np.nan
    drift = LiveDrift(Reference(reference(base, ["a", "b", "c", "pd"]), len(base)), 0.6, 0.6, 2000, 3600.0)
    rows = LIVE[:2000].copy()
    rows[:, 3] = 0.6
    add(drift, rows)
    found = gauges(drift)
    assert found["credit_drift_approval_rate"] == 0
    assert found["credit_drift_missing_shift{a}"] == found["credit_drift_missing_shift_max"] == 0.5
