import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from decided import MONDAY, THRESHOLD, keep, tell
from scipy.stats import chi2
from sklearn.metrics import average_precision_score, roc_auc_score
from sqlalchemy import Engine

from configs.settings import DecisionSettings
from monitoring.performance import figures as performance_module
from monitoring.performance.counts import ALL, merge, read_counts
from monitoring.performance.figures import Values, figures, figures_with_intervals
from monitoring.performance.summary import performance
from monitoring.store.database import open_store

pytestmark = pytest.mark.slow

COSTS = DecisionSettings(false_negative_cost=10, false_positive_cost=1, min_approval_rate=0, thin_application="warn")
RNG = np.random.default_rng(0)
PDS = RNG.beta(0.8, 8, 6000)
DEFAULTED = RNG.random(6000) < PDS


@pytest.fixture
def engine(store_url: str) -> Iterator[Engine]:
    engine = open_store(store_url)
    yield engine
    engine.dispose()


def decide(engine: Engine, pds: Values, time: datetime = MONDAY, version: str = "v1") -> list[str]:
    """Store decisions with these PDs, all at this time; returns their ids."""
    return keep(engine, pds.reshape(-1, 1), time, version, apart=timedelta(0))


def rows_of(engine: Engine, by: Any = "week", **limits: datetime) -> list[dict[str, Any]]:
    rows = performance(read_counts(engine, by, **limits), COSTS)
    assert json.loads(json.dumps(rows)) == rows
    return rows


def value(row: dict[str, Any], kind: str, figure: str) -> float:
    result: float = row[kind][figure]["value"]
    return result


def test_an_empty_store_has_no_rows(engine: Engine) -> None:
    assert rows_of(engine) == []


def test_realised_figures_equal_those_of_scikit_learn(engine: Engine) -> None:
    tell(engine, decide(engine, PDS), DEFAULTED)
    row = rows_of(engine)[0]
    declined = PDS >= THRESHOLD
    assert (row["period"], row["decisions"], row["realised"]["of"]) == ("2026-03-02", 6000, "all with outcomes")
    assert row["outcomes"] == {"count": 6000, "defaulted": DEFAULTED.sum(), "approved": 1, "declined": 1}
    exact = {
        "roc_auc": roc_auc_score(DEFAULTED, PDS),
        "pr_auc": average_precision_score(DEFAULTED, PDS),
        "precision": DEFAULTED[declined].mean(),
        "recall": declined[DEFAULTED].mean(),
        "default_rate": DEFAULTED.mean(),
        "default_rate_of_approved": DEFAULTED[~declined].mean(),
        "observed_to_expected": DEFAULTED.sum() / PDS.sum(),
        "cost_per_client": np.mean(10 * (DEFAULTED & ~declined) + (~DEFAULTED & declined)),
    }
    assert value(row, "estimated", "approval_rate") == np.mean(~declined)
    assert "approval_rate" not in row["realised"]
    for name, expected in exact.items():
        assert value(row, "realised", name) == pytest.approx(expected, rel=2e-3), name
        assert row["realised"][name]["low"] < expected < row["realised"][name]["high"], name
    assert 0 <= value(row, "realised", "ece") < 0.02


def test_the_estimate_before_outcomes_is_near_the_figures_they_bring(engine: Engine) -> None:
    ids = decide(engine, PDS)
    before = rows_of(engine)[0]
    assert before["realised"] is before["expected"] is None
    assert before["outcomes"] == {"count": 0, "defaulted": 0, "approved": 0, "declined": 0}
    assert "ece" not in before["estimated"]
    tell(engine, ids, DEFAULTED)
    after = rows_of(engine)[0]
    for name in ("roc_auc", "pr_auc", "precision", "recall", "default_rate", "cost_per_client"):
        assert before["estimated"][name] == after["expected"][name]
        interval = before["estimated"][name]
        assert interval["low"] < value(after, "realised", name) < interval["high"], name


@pytest.mark.parametrize("tied", [False, True])
def test_expected_figures_are_the_means_of_what_outcomes_bring(tied: bool) -> None:
    random = np.random.default_rng(3)
    people = random.integers(1, 9, 200).astype(float) if tied else np.ones(1000)
    pds = np.sort(random.beta(0.8, 8, len(people)))
    declined = pds >= THRESHOLD
    expected = figures(pds, declined, people * pds, people * (1 - pds), COSTS, expected=True)
    outcomes = random.binomial(people.astype(int), pds, (5000, len(people))).astype(float)
    drawn = figures(pds, declined, outcomes, people - outcomes, COSTS)
    for name in ("roc_auc", "pr_auc", "precision", "recall", "default_rate", "default_rate_of_approved", "cost_per_client"):
        assert expected[name] == pytest.approx(np.nanmean(drawn[name]), rel=0.025), name


def test_without_outcomes_of_the_declined_figures_are_of_the_approved(engine: Engine) -> None:
    ids = np.array(decide(engine, PDS))
    approved = PDS < THRESHOLD
    tell(engine, ids[approved].tolist(), DEFAULTED[approved])
    row = rows_of(engine)[0]
    assert row["realised"]["of"] == row["expected"]["of"] == "the approved"
    assert (row["outcomes"]["approved"], row["outcomes"]["declined"]) == (1, 0)
    assert value(row, "realised", "precision") is value(row, "realised", "recall") is None
    assert value(row, "realised", "roc_auc") == pytest.approx(roc_auc_score(DEFAULTED[approved], PDS[approved]), abs=1e-3)
    assert value(row, "expected", "roc_auc") == pytest.approx(value(row, "realised", "roc_auc"), abs=0.05)
    assert value(row, "estimated", "roc_auc") > value(row, "expected", "roc_auc") + 0.05


@pytest.mark.parametrize("declined_known", [1, 30])
def test_a_few_outcomes_of_the_declined_are_left_aside(engine: Engine, declined_known: int) -> None:
    ids = np.array(decide(engine, PDS))
    approved = PDS < THRESHOLD
    known = approved.copy()
    known[np.flatnonzero(~approved)[:declined_known]] = True
    tell(engine, ids[known].tolist(), DEFAULTED[known])
    row = rows_of(engine)[0]
    assert row["realised"]["of"] == row["expected"]["of"] == "the approved"
    assert row["outcomes"]["count"] == approved.sum() + declined_known
    assert row["outcomes"]["declined"] > 0
    assert value(row, "realised", "recall") is None
    assert value(row, "realised", "default_rate") == pytest.approx(DEFAULTED[approved].mean())


@pytest.mark.parametrize("count", [6, 20, 100])
def test_intervals_of_shares_of_few_people_cover_them(count: int) -> None:
    rng = np.random.default_rng(2)
    hits = []
    for _ in range(300):
        bad = rng.binomial(count, 0.08)
        row = figures_with_intervals(np.array([0.08]), np.array([False]), np.array([float(bad)]), np.array([float(count - bad)]), COSTS)
        interval = row["default_rate"]
        assert interval["low"] is not None
        assert interval["high"] is not None
        hits.append(interval["low"] <= 0.08 <= interval["high"])
        assert (row["cost_per_client"]["low"] is None) == (min(bad, count - bad) < 20)
    assert np.mean(hits) > 0.9


@pytest.mark.parametrize("expected", [False, True])
def test_intervals_of_cells_put_together_are_those_of_all(monkeypatch: pytest.MonkeyPatch, expected: bool) -> None:
    pds = np.sort(PDS[:3000])
    monkeypatch.setattr(performance_module, "SAMPLES", 4000)
    bad = pds if expected else (np.random.default_rng(4).random(len(pds)) < pds).astype(float)
    both = []
    for cells in (performance_module.CELLS, 10**9):
        monkeypatch.setattr(performance_module, "CELLS", cells)
        both.append(figures_with_intervals(pds, pds >= THRESHOLD, bad, 1 - bad, COSTS, expected=expected))
    for name, found in both[0].items():
        exact = both[1][name]
        assert found["value"] == exact["value"]
        for end in ("low", "high"):
            if exact[end] is None:
                assert found[end] is None
            else:
                assert found[end] - found["value"] == pytest.approx(exact[end] - exact["value"], rel=0.15), (name, end)  # type: ignore[operator]


def test_the_newest_outcome_counts(engine: Engine) -> None:
    ids = decide(engine, PDS[:100])
    tell(engine, ids, [True] * 100)
    tell(engine, ids[:60], [False] * 60)
    assert value(rows_of(engine)[0], "realised", "default_rate") == 0.4


def test_periods_model_versions_and_limits(engine: Engine) -> None:
    for days, version in ((0, "v1"), (6, "v1"), (6, "v2"), (7, "v2"), (31, "v2")):
        decide(engine, PDS[:50], MONDAY + timedelta(days=days, hours=23), version)
    keys = [(row["period"], row["model_version"], row["decisions"]) for row in rows_of(engine)]
    weeks = [("2026-03-02", "v1", 100), ("2026-03-02", "v2", 50), ("2026-03-09", "v2", 50), ("2026-03-30", "v2", 50)]
    assert keys == [*weeks, (ALL, "v1", 100), (ALL, "v2", 150)]
    months = [(row["period"], row["decisions"]) for row in rows_of(engine, "month")]
    assert months == [("2026-03-01", 100), ("2026-03-01", 100), ("2026-04-01", 50), (ALL, 100), (ALL, 150)]
    limited = rows_of(engine, since=MONDAY + timedelta(days=6, hours=23), until=MONDAY + timedelta(days=7, hours=23))
    assert [(row["period"], row["decisions"]) for row in limited] == [("2026-03-02", 50), ("2026-03-02", 50), (ALL, 50), (ALL, 50)]


@pytest.mark.parametrize("outcome", [True, False])
@pytest.mark.parametrize("pds", [[0.05], [0.0, 1.0], [0.2, 0.2, 0.2]])
def test_few_or_equal_outcomes_leave_undetermined_figures_empty(engine: Engine, pds: list[float], outcome: bool) -> None:
    tell(engine, decide(engine, np.array(pds)), [outcome] * len(pds))
    row = rows_of(engine)[0]
    assert row["realised"]["roc_auc"] == {"value": None, "low": None, "high": None}
    assert value(row, "realised", "default_rate") == outcome


def test_all_periods_together_equal_one_period_of_all(engine: Engine) -> None:
    for week in range(4):
        tell(engine, decide(engine, PDS[week::4], MONDAY + timedelta(weeks=week)), DEFAULTED[week::4])
    parts = list(read_counts(engine, "week"))
    whole = merge(parts)
    (month,) = read_counts(engine, "month")
    assert whole.step.tolist() == month.step.tolist()
    np.testing.assert_allclose([whole.pd, whole.outcomes_pd, whole.defaulted], [month.pd, month.outcomes_pd, month.defaulted])


@pytest.mark.parametrize("count", [0, 1, 2, 5, 20, 100, 5000])
def test_the_interval_of_observed_over_expected_is_that_of_a_poisson_count(count: int) -> None:
    repaid = 10 * count + 10.0
    pd = np.array([0.1])
    figures = figures_with_intervals(pd, np.array([False]), np.array([float(count)]), np.array([repaid]), COSTS)
    expected = 0.1 * (count + repaid)
    exact = chi2.ppf(0.025, 2 * count) / 2 if count else 0.0, chi2.ppf(0.975, 2 * count + 2) / 2
    found = figures["observed_to_expected"]
    assert (found["low"], found["high"]) == pytest.approx((exact[0] / expected, exact[1] / expected), rel=0.03, abs=0.01)
    assert figures["ece"]["value"] is not None
    assert figures["ece"]["low"] is None
