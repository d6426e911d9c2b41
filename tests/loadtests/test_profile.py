import msgspec

from features.schema import Table
from loadtests import profile
from loadtests.profile import imports, microseconds, parts
from serving.bundle import Bundle


def test_every_part_of_a_request_takes_time(bundle: Bundle, table: Table) -> None:
    body = msgspec.json.encode({"application": dict(table.example)})
    for bodies in ([body], [body] * 4):
        spent = parts(bundle, bodies)
        assert list(spent) == ["parse", "features", "score", "decide", "count", "encode"]
        assert all(value > 0 for value in spent.values())


def test_the_median_leaves_out_a_slow_first_call() -> None:
    calls = iter([10**6])
    assert microseconds(lambda: sum(range(next(calls, 1))), repeat=9) < 1000


def test_imports_are_summed_by_package() -> None:
    spent = imports("configs.settings")
    assert {"configs", "pydantic", "yaml"} <= set(spent)
    assert list(spent.values()) == sorted(spent.values(), reverse=True)


def test_a_part_that_a_case_has_not_is_left_empty() -> None:
    shown = profile.table("us", {"a": {"x": 1.0, "y": 2000.0}, "b": {"x": 3.0}})
    assert shown.splitlines()[2:] == ["| x | 1.0 | 3.0 |", "| y | 2,000.0 |  |"]
