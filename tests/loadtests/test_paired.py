import lightgbm
import numpy as np
import pytest

from loadtests.paired import BASE, BATCH, CONNECTIONS, PARTS, bare, spread, table, vectors
from serving.bundle import Bundle
from serving.contract import Contract


def test_the_tables_tell_median_and_spread_of_ratios() -> None:
    price = {connections: {name: [0.5, 1.0, 0.75] for name in PARTS} for connections in CONNECTIONS}
    lines = table({"some": [0.5, 0.6]}, [40.2, 50.4, 44.6], price).splitlines()
    assert "some | **0.55** (0.50 to 0.60) |" in lines[2]
    assert "**45** (40 to 50) ms" in lines[3]
    assert lines[7:] == [f"| {name} |" + " **0.75** (0.50 to 1.00) |" * 3 for name in PARTS if name != BASE]


def test_the_spread_of_one_value_is_itself() -> None:
    assert spread([2.0], 1) == "**2.0** (2.0 to 2.0)"


@pytest.mark.model
def test_the_vectors_are_what_the_service_takes(bundle: Bundle) -> None:
    contract = Contract(bundle.features, BATCH)
    with_nulls, without = vectors(bundle).values()
    assert len(with_nulls) == len(without) == BATCH
    assert np.isnan(with_nulls).any()
    assert not np.isnan(without).any()
    assert bare(lightgbm.Booster(model_str=bundle.model), without[:10], 0.01) > 0
    assert not any(row.errors for row in contract.parse_batch(b'{"features": %b}' % str(without.tolist()).encode()))
