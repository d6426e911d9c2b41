import numpy as np

from training.explaining.reasons import FEWEST, near_threshold


def test_the_baseline_is_who_was_approved_at_or_slightly_better_than_the_threshold() -> None:
    pd = np.concatenate([np.full(200, 0.0751), np.full(150, 0.0999), [0.0749, 0.1, 0.3]])
    assert near_threshold(pd, 0.1).tolist() == list(range(350))


def test_a_small_baseline_is_filled_with_the_approved_ones_nearest_to_the_threshold() -> None:
    pd = np.linspace(0.001, 0.2, 400)
    near = near_threshold(pd, 0.1)
    assert len(near) == FEWEST
    assert pd[near].max() < 0.1
    assert set(np.flatnonzero((pd >= 0.075) & (pd < 0.1))) <= set(near.tolist())


def test_where_nobody_was_approved_the_baseline_is_who_came_nearest() -> None:
    pd = np.linspace(0.2, 0.9, 400)
    assert near_threshold(pd, 0.1).tolist() == list(range(FEWEST))
