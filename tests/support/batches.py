"""A score that remembers its batches, and a runner of it."""

from monitoring.metrics import Metrics
from serving.runner import Committed, Runner


class Recorder:
    """Doubles numbers, remembers the batches, and fails at negative ones."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __call__(self, items: list[int]) -> Committed[int]:
        self.batches.append(list(items))
        if any(item < 0 for item in items):
            raise ValueError("negative")
        return Committed([2 * item for item in items])


def as_it_is(committed: Committed[int]) -> Committed[int]:
    """What commits nothing."""
    return committed


def make(score: Recorder, size: int = 8, waiting: int = 10_000, deadline: float = 10) -> Runner[int, Committed[int], int]:
    return Runner(score, as_it_is, max_batch_size=size, max_waiting=waiting, deadline=deadline, metrics=Metrics())
