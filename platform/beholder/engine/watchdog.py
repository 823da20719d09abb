"""Notices a stage from which nothing comes any more, and says what can be done about it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from beholder.engine.meter import NOTHING, Reading

TIMES = 10.0
"""Nothing for so many times what a batch takes is a stall."""
AT_LEAST = 60.0
"""... but only after so many seconds: a machine may hiccup."""
FIRST = 600.0
"""Seconds in which the first batch should be done: machines are started and weights fetched before it."""
SHOWN = 4
"""Workers named at most."""


@dataclass
class Watchdog:
    """Watches one stage. Only a result counts as progress; a stage without work handed out waits and is not stalled.

    Parameters
    ----------
    label : str
    started : float
        Time by the same clock as all others given later, in seconds.
    """

    label: str
    started: float
    _last: float = field(init=False)
    _reading: Reading = field(default=NOTHING, init=False)
    _seen: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._last = self.started

    def result(self, now: float, reading: Reading) -> None:
        """Something came back."""
        self._last, self._reading, self._seen = now, reading, True

    def pause(self, now: float) -> None:
        """Time until now does not count: the run was made to wait."""
        self._last = now

    def stall(self, now: float) -> str | None:
        """One line about a stall, with the knob to turn; None if there is none."""
        silent, batch = now - self._last, self._reading.batch_seconds
        if not self._seen:
            if silent < FIRST:
                return None
            return (
                f"{self.label} stalled: no first result for {silent:.0f} s. Workers wait for machines or load weights: "
                "look at `ray status`; ask for fewer --workers, or add machines"
            )
        limit = max(AT_LEAST, TIMES * (0.0 if math.isnan(batch) else batch))
        if silent < limit or not self._reading.under_way:
            return None
        names = ", ".join(self._reading.workers[:SHOWN]) + (", ..." if len(self._reading.workers) > SHOWN else "")
        return (
            f"{self.label} stalled: no result for {silent:.0f} s, and a batch takes {batch:.3g} s. "
            f"A worker hangs, of {names or 'none known'}: kill it (its batch goes to another), lower batch_size or a "
            "service's timeout in the plan, or cancel and start again; what is done stays done"
        )
