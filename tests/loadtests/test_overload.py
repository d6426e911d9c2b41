import pytest

from loadtests.overload import Answers, judge


def test_answers_are_judged_by_status_within_the_time_that_counts() -> None:
    log = "\n".join(
        [f"{1_000_000 * second} 200 {100_000 * second}" for second in range(10)] + ["5000000 503 2000", "6000000 503 4000\textra"]
    )
    assert judge(log, skip=5, seconds=4) == {200: Answers(1.0, 650, pytest.approx(797)), 503: Answers(0.5, 3, pytest.approx(3.98))}


def test_a_log_without_answers_has_none() -> None:
    assert judge("", skip=5, seconds=4) == {}
