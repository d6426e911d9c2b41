import json
import math
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from decided import MONDAY, keep, tell
from sqlalchemy import Engine

from configs.settings import DecisionSettings
from monitoring.drift.psi import Matrix, Reference, reference
from monitoring.performance.counts import read_counts
from monitoring.performance.summary import performance
from monitoring.reports import drift_report
from monitoring.reports.drift_report import ReportError, Window, drift_table, read_window, write_drift
from monitoring.reports.evidently_report import draw, write_evidently
from monitoring.reports.performance_report import performance_lines, write_performance
from monitoring.store.database import open_store

RNG = np.random.default_rng(0)
NAMES = ["income", "flag", "word", "never", "pd"]


def people(rows: int) -> Matrix:
    """Features (a number that one in five lacks, a flag, a code, a number that nobody has) and the PD."""
    matrix = np.column_stack(
        [RNG.lognormal(size=rows), RNG.random(rows) < 0.1, RNG.integers(0, 3, rows), np.full(rows, np.nan), RNG.beta(1, 9, rows)]
    )
    matrix[RNG.random(rows) < 0.2, 0] = np.nan
    return matrix


BASE = people(20_000)
ENTRIES = reference(BASE, NAMES, [2])
COMPILED = Reference(ENTRIES, len(BASE))


@pytest.fixture
def engine(store_url: str) -> Iterator[Engine]:
    engine = open_store(store_url)
    yield engine
    engine.dispose()


def test_a_window_is_measured_from_the_records(engine: Engine) -> None:
    shifted = people(3000)
    shifted[:, 0] *= 3
    keep(engine, people(2000), MONDAY - timedelta(days=9))
    keep(engine, shifted)
    keep(engine, people(10), MONDAY + timedelta(days=9), "v2")
    newest = read_window(engine, "v1", COMPILED, rows=3000)
    assert (newest.drift.rows, newest.first, newest.last) == (3000, MONDAY, MONDAY + timedelta(minutes=2999))
    np.testing.assert_array_equal(newest.drift.psi, COMPILED.measure(COMPILED.count(shifted)).psi)
    np.testing.assert_array_equal(newest.sample, shifted[::-1])
    since = read_window(engine, "v1", COMPILED, since=MONDAY)
    np.testing.assert_array_equal(since.drift.psi, newest.drift.psi)
    table = drift_table(newest.drift, NAMES)
    assert (table[0]["feature"], table[0]["band"]) == ("income", "drift")
    assert [row["psi"] for row in table] == sorted((row["psi"] for row in table), reverse=True)
    assert read_window(engine, "v1", COMPILED).drift.rows == 5000


def test_a_window_keeps_the_newest_rows_only(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift_report, "SAMPLE", 1200)
    kept: list[Matrix] = []
    concatenate = np.concatenate

    def spy(parts: list[Matrix]) -> Matrix:
        kept.extend(part if part.base is None else part.base for part in parts)
        return concatenate(parts)

    given = people(5000)
    keep(engine, given)
    monkeypatch.setattr(np, "concatenate", spy)
    found = read_window(engine, "v1", COMPILED)
    assert (found.drift.rows, sum(map(len, kept))) == (5000, 2000)
    np.testing.assert_array_equal(found.sample, given[:-1201:-1])


def test_a_record_of_other_features_is_an_error(engine: Engine) -> None:
    keep(engine, people(1000)[:, 1:])
    with pytest.raises(ReportError, match=r"has 3 features; the model has 4"):
        read_window(engine, "v1", COMPILED)


def test_too_few_decisions_are_an_error(engine: Engine) -> None:
    with pytest.raises(ReportError, match="there are 0 decisions of the model v1; drift is measured from"):
        read_window(engine, "v1", COMPILED)
    keep(engine, people(int(COMPILED.minimum_rows) - 1))
    with pytest.raises(ReportError, match=f"there are {int(COMPILED.minimum_rows) - 1} decisions"):
        read_window(engine, "v1", COMPILED)


def test_rows_drawn_from_the_reference_have_its_distribution() -> None:
    drawn = np.column_stack([draw(entry, 4000) for entry in ENTRIES.values()])
    measured = COMPILED.measure(COMPILED.count(drawn))
    assert measured.psi.max() < 0.01
    assert np.abs(measured.missing_shift).max() < 0.001
    assert set(drawn[:, 1]) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("column", "categories"),
    [([3.0], []), ([math.nan], []), ([math.nan], [0]), ([2.0], [0]), ([1.0, math.nan], [])],
    ids=["constant", "missing", "missing code", "one code", "half missing"],
)
def test_degenerate_columns_are_drawn(column: list[float], categories: list[int]) -> None:
    drawn = draw(reference(np.array(column).reshape(-1, 1), ["x"], categories)["x"], 10)
    np.testing.assert_array_equal(np.sort(drawn), np.sort(np.repeat(column, 10 // len(column))))


def window(matrix: Matrix) -> Window:
    return Window(COMPILED.measure(COMPILED.count(matrix)), matrix, MONDAY, MONDAY)


def test_drift_is_written_as_html_and_json(tmp_path: Path) -> None:
    measured = window(people(2000))
    write_drift(measured, drift_table(measured.drift, ["<b>", *NAMES[1:]]), "v1", tmp_path)
    content = json.loads((tmp_path / "drift.json").read_text())
    assert (content["model_version"], content["rows"], len(content["columns"])) == ("v1", 2000, 5)
    text = (tmp_path / "drift.html").read_text()
    assert "&lt;b&gt;" in text
    assert "<b>" not in text


@pytest.mark.slow
def test_evidently_compares_the_columns_that_matter(tmp_path: Path) -> None:
    shifted = people(2000)
    shifted[:, 0] *= 3
    shifted[:50, 2] = -1
    measured = window(shifted)
    table = drift_table(measured.drift, NAMES)
    write_evidently(measured, table, ENTRIES, gain=np.array([0.0, 5, 1, 0]), categories={"word": ["a", "b", "c"]}, folder=tmp_path)
    metrics = json.loads((tmp_path / "evidently.json").read_text())["metrics"]
    values = {item["config"]["column"]: item["value"] for item in metrics if "column" in item["config"]}
    assert set(values) == {"income", "pd", "flag", "word"}
    assert values["income"] > 0.1 > values["pd"]
    assert (tmp_path / "evidently.html").stat().st_size > 100_000


def test_a_reference_without_quantiles_is_told(tmp_path: Path) -> None:
    old = {name: {key: value for key, value in entry.items() if key != "quantiles"} for name, entry in ENTRIES.items()}
    measured = window(people(2000))
    with pytest.raises(ReportError, match="train again"):
        write_evidently(measured, drift_table(measured.drift, NAMES), old, gain=np.zeros(4), categories={}, folder=tmp_path)


@pytest.mark.slow
def test_performance_is_printed_and_written(engine: Engine, tmp_path: Path) -> None:
    matrix = people(3000)
    ids = keep(engine, matrix)
    approved = matrix[:, -1] < 0.1
    defaulted = RNG.random(3000) < matrix[:, -1]
    tell(engine, np.array(ids)[approved].tolist(), defaulted[approved])
    keep(engine, matrix[:50], MONDAY + timedelta(weeks=3), "v2")
    rows = performance(
        read_counts(engine, "week"),
        DecisionSettings(false_negative_cost=10, false_positive_cost=1, min_approval_rate=0, thin_application="warn"),
    )
    text = "\n".join(performance_lines(rows))
    assert "(100.0% of the approved, 0.0% of the declined)" in text
    assert "of the approved; expected" in text
    assert "precision                      estimated" in text
    write_performance(rows, tmp_path)
    assert json.loads((tmp_path / "performance.json").read_text()) == rows
    assert "data:image/png;base64," in (tmp_path / "performance.html").read_text()
