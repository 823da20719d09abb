"""What the workers of a stage were busy with: counted from what they answer, so it is the same on every backend."""

from __future__ import annotations

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from beholder.engine.inprocess import Outcome

RECENT = 64
"""Batches that say what one takes now."""
GONE = 20.0
"""A worker silent for so many times what a batch takes counts as gone, and no longer as idle."""
HOUR = 3600.0


class Prices(NamedTuple):
    """What an hour costs, in the plan's currency; NaN where the plan does not say."""

    cpu_hour: float = math.nan
    gpu_hour: float = math.nan


UNPRICED = Prices()


@dataclass(frozen=True)
class Reading:
    """What a meter shows; `NOTHING` before the first batch.

    Attributes
    ----------
    workers : tuple of str
        Those at work, by name.
    busy, present : float
        Worker-seconds with a batch, and in all since each one's first batch began.
    batch_seconds : float
        What a batch takes, the median of the latest; NaN before the first.
    under_way : int
        Items handed out that have not come back.
    cost : float
        Of workers by the hour and of what rows say they cost; NaN without prices.
    """

    workers: tuple[str, ...] = ()
    busy: float = 0.0
    present: float = 0.0
    batch_seconds: float = math.nan
    under_way: int = 0
    cost: float = math.nan

    @property
    def idle(self) -> float:
        """Share of the workers' time without a batch; NaN before the first."""
        return max(0.0, 1 - self.busy / self.present) if self.present > 0 else math.nan


NOTHING = Reading()


class Meter:
    """Adds up outcomes of one stage.

    Parameters
    ----------
    hourly : float
        What a worker costs an hour; NaN if nobody says.
    clock : callable
        Seconds on a clock that does not go back.
    """

    def __init__(self, hourly: float = math.nan, clock: Callable[[], float] = time.monotonic) -> None:
        self._hourly, self._clock = hourly, clock
        self._first: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._busy = 0.0
        self._spent = math.nan
        self._batches: deque[float] = deque(maxlen=RECENT)

    def record(self, outcomes: Sequence[Outcome], under_way: int) -> Reading:
        """Count what came back just now."""
        now = self._clock()
        seconds: dict[str, float] = defaultdict(float)
        for outcome in outcomes:
            if outcome.instructions != "?":  # a worker that died says nothing about its time
                seconds[outcome.worker] += outcome.seconds
            cost = (outcome.result or {}).get("cost")
            if isinstance(cost, int | float):
                self._spent = cost + (0.0 if math.isnan(self._spent) else self._spent)
        for worker, taken in seconds.items():
            self._first.setdefault(worker, now - taken)
            self._last[worker] = now
            self._busy += taken
            self._batches.append(taken)
        return self._reading(now, under_way)

    def _reading(self, now: float, under_way: int) -> Reading:
        typical = median(self._batches) if self._batches else math.nan
        until = {w: now if now - last <= max(HOUR / 60, GONE * typical) else last for w, last in self._last.items()}
        present = sum(until[worker] - first for worker, first in self._first.items())
        machines = present * self._hourly / HOUR
        parts = [part for part in (machines, self._spent) if not math.isnan(part)]
        return Reading(
            workers=tuple(sorted(worker for worker, end in until.items() if end == now)),
            busy=self._busy,
            present=present,
            batch_seconds=typical,
            under_way=under_way,
            cost=sum(parts) if parts else math.nan,
        )
