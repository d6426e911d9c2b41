import math
from pathlib import Path

import httpx
import lightgbm
import numpy as np
import pytest
from running import Home, serve

from loadtests.paired import BATCH, CONNECTIONS, LINE_BYTES, PARTS, SWITCHED, Pair, bare, bare_sync, pairs, share, spread, table, vectors
from serving.bundle import Bundle
from serving.contract.requests import RequestParser


def test_the_tables_tell_spread_shares_and_what_they_are_of() -> None:
    price = {name: {connections: [Pair(90.0 * connections, 100.0 * connections)] * 3 for connections in CONNECTIONS} for name in PARTS}
    lines = table({"some": [0.5, 0.6]}, [40.2, 50.4, 44.6], price, {1: 0.2, 8: 0.25, 64: 1.5}).splitlines()
    assert "some | **0.55** (0.50 to 0.60) |" in lines[2]
    assert "**45** (40 to 50) ms" in lines[3]
    assert lines[7:-2] == [f"| {name} |" + " **0.900** (0.900 to 0.900) |" * 3 for name in PARTS]
    assert lines[-2].endswith("| 100 | 800 | 6,400 |")
    assert lines[-1].endswith("| 0.20 | 0.25 | 1.50 |")


def test_pairs_are_turns_that_follow_each_other_with_the_part_and_without() -> None:
    turns = [
        "1 9.0 3",
        "1 0.05 5",
        "0 0.05 10",
        "0 0.1 30",
        "0 0.05 20",
        "1 0.05 19",
        "1 0.05 7",
    ]  # began before the load; a pair; a lone turn; a pair; a lone one
    found = pairs("".join(f"{turn}\n" for turn in turns))
    assert [tuple(map(round, pair)) for pair in found] == [(100, 200), (380, 400)]
    assert pairs("") == []


def test_the_share_leaves_out_turns_in_which_the_machine_stood_still() -> None:
    even = [Pair(95.0, 100.0)] * 98
    assert share([*even, Pair(1.0, 100.0), Pair(95.0, 2.0)]) == "**0.950** (0.950 to 0.950)"
    assert share([Pair(0.0, 100.0), *even]).startswith("**0.950**")


def test_the_interval_of_a_share_narrows_with_the_pairs() -> None:
    def width(count: int) -> float:
        ends = (
            share([Pair(100.0, 100.0 * math.exp(0.1 * (-1) ** number)) for number in range(count)]).split("(")[1].rstrip(")").split(" to ")
        )
        return float(ends[1]) - float(ends[0])

    assert width(400) == pytest.approx(width(100) / 2, abs=0.002)


def test_a_bare_sync_takes_time_and_leaves_no_file(tmp_path: Path) -> None:
    assert bare_sync(tmp_path, 2) > 0
    assert not list(tmp_path.iterdir())


def test_the_spread_of_one_value_is_itself() -> None:
    assert spread([2.0], 1) == "**2.0** (2.0 to 2.0)"


@pytest.mark.service
def test_the_log_is_on_in_every_second_turn_and_a_bare_sync_is_of_its_size(home: Home, bundle: Bundle, tmp_path: Path) -> None:
    turns, sent = tmp_path / "turns", 0
    body = {"features": vectors(bundle)["no value missing"][0].tolist(), "client_id": "1"}
    environment = {**PARTS["log, `flush`"], "SWITCHED_TURNS": str(turns), "CREDIT_AUTH": "disabled"}
    for server in serve(home, tmp_path, target=SWITCHED, **environment):
        with httpx.Client(base_url=server.url) as client:
            while len(pairs(turns.read_text() if turns.exists() else "")) < 5:
                assert client.post("/predict", json=body).status_code == 200
                sent += 1
    lines = (tmp_path / "credit/logs/predictions.jsonl").read_bytes().splitlines()
    assert 0.2 * sent < len(lines) < 0.8 * sent
    assert len(lines[1]) == pytest.approx(LINE_BYTES, rel=0.1)


@pytest.mark.model
def test_the_vectors_are_what_the_service_takes(bundle: Bundle) -> None:
    contract = RequestParser(bundle.features, BATCH)
    with_nulls, without = vectors(bundle).values()
    assert len(with_nulls) == len(without) == BATCH
    assert np.isnan(with_nulls).any()
    assert not np.isnan(without).any()
    assert bare(lightgbm.Booster(model_str=bundle.model), without[:10], 0.01) > 0
    assert not any(row and row.errors for row in contract.parse_batch(b'{"features": %b}' % str(without.tolist()).encode()))
