import math
from pathlib import Path

import pytest

from loadtests.bench import CONNECTIONS, FASTAPI, Figures, parse, plot, table

REPORT = """Running 2s test @ http://127.0.0.1:1/predict
  1 threads and 8 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.60ms  300.00us   9.00ms   90.00%
  Latency Distribution
     50%  950.00us
     75%    2.70ms
     90%    2.90ms
     99%    1.20s
  6000 requests in 2.00s, 3.00MB read
  Non-2xx or 3xx responses: 7
Requests/sec:   2999.50
"""


def test_wrks_report_is_read() -> None:
    assert parse(REPORT) == pytest.approx(Figures(2999.5, 0.95, 1200.0, 7))


@pytest.mark.parametrize("report", ["", "unable to connect to 127.0.0.1:1 Connection refused"])
def test_a_report_without_figures_is_a_rate_of_zero(report: str) -> None:
    figures = parse(report)
    assert (figures.rate, figures.failed) == (0, 0)
    assert math.isnan(figures.p50)


def results() -> dict[str, dict[int, list[Figures]]]:
    return {
        name: {c: [Figures(rate, 1, 2, failed), Figures(2 * rate, 3, 4, 0)] for c in CONNECTIONS}
        for name, rate, failed in (("ours", 300.0, 0), (FASTAPI, 100.0, 5))
    }


def test_the_table_shows_spread_ratio_and_failures() -> None:
    lines = table(results()).splitlines()
    assert "**450** (300 to 600), 3.00 x, p50 2.0, p99 3.0 ms |" in lines[2]
    assert "1.00 x" in lines[3]
    assert "5 failed" in lines[3]


def test_the_plot_is_drawn(tmp_path: Path) -> None:
    plot(results(), tmp_path / "new" / "bench.png")
    assert (tmp_path / "new" / "bench.png").stat().st_size > 5000
