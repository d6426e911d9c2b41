"""This service with one part switched on and off in short turns, to measure the part's cost even if the machine's speed drifts.

The file `SWITCHED_TURNS` gets a line per turn: 1 if the part was on, else 0; seconds; rows scored.
"""

import os
import random
import time
from typing import Any

from monitoring.decision_log.sink import NoLog
from service import CreditScoring

__all__ = ["CreditScoring"]

TURN_SECONDS = 0.05
served = CreditScoring.inner  # type: ignore[attr-defined] # BentoML makes a service of the class
init = served.__init__


class Turns:
    """Pairs of turns: one with the part and one without, in random order."""

    def __init__(self) -> None:
        self.file = os.open(os.environ["SWITCHED_TURNS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.next: list[bool] = []
        self.on = True
        self.rows = 0
        self.begin = time.perf_counter()

    def take(self, rows: int) -> bool:
        """Count a batch of rows; returns whether the part is on for it."""
        now = time.perf_counter()
        if now - self.begin >= TURN_SECONDS:
            os.write(self.file, b"%d %f %d\n" % (self.on, now - self.begin, self.rows))
            self.next = self.next or random.sample([True, False], 2)
            self.on, self.rows, self.begin = self.next.pop(), 0, now
        self.rows += rows
        return self.on


def start(self: Any) -> None:
    init(self)
    sinks = {True: self.recording.sink, False: NoLog()}
    adds = {True: self.drift.add, False: lambda *_: None}
    turns, score = Turns(), self.pipeline.score

    def switched(rows: list[Any]) -> Any:
        on = turns.take(len(rows))
        if os.environ["SWITCHED_PART"] == "log":
            self.recording.sink = sinks[on]
        else:
            self.drift.add = adds[on]
        return score(rows)

    self.runner.score = switched


served.__init__ = start
