"""How far a run is: bars on a terminal, a plain line now and then elsewhere, nothing where nobody looks."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

from beholder.engine.meter import NOTHING, Reading

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

EVERY_SECONDS = 10.0
"""A plain log gets at most one line of a stage in this time, apart from its first and its last."""


class Advance(Protocol):
    """Told after every batch."""

    def __call__(self, done: int, failed: int, reading: Reading = NOTHING) -> None:
        """So many more items are done, so many more have failed; what the workers were busy with."""
        ...


class Progress(Protocol):
    """Where a run reports to."""

    def stage(self, label: str, total: int, done: int, failed: int) -> AbstractContextManager[Advance]:
        """A stage of `total` items, of which `done` and `failed` were in the ledger already."""
        ...

    def step(self, label: str) -> AbstractContextManager[None]:
        """Work that has no items to count, such as training."""
        ...

    def say(self, text: str) -> None:
        """A line that nobody should miss. May come from another thread."""
        ...


class Quiet:
    """Says nothing."""

    @contextmanager
    def stage(self, label: str, total: int, done: int, failed: int) -> Generator[Advance, None, None]:
        """Take the counts and drop them."""
        yield lambda done, failed, reading=NOTHING: None

    @contextmanager
    def step(self, label: str) -> Generator[None, None, None]:
        """Do nothing."""
        yield

    def say(self, text: str) -> None:
        """Do nothing."""


class Lines:
    """Plain lines for logs.

    Parameters
    ----------
    stream : text file
        Where to write; standard error by default, since a job's last line of standard output is its result.
    clock : callable
        Seconds on a clock that does not go back.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream or sys.stderr, clock

    @contextmanager
    def stage(self, label: str, total: int, done: int, failed: int) -> Generator[Advance, None, None]:
        """A line at the start, one every ten seconds, one at the end."""
        started = spoken = self._clock()
        counts, first, latest = [done, failed], (0.0, 0), NOTHING
        self.say(f"{label}: {total} items, {done} in the ledger" + (f", {failed} failed before" if failed else ""))

        def advance(done: int, failed: int, reading: Reading = NOTHING) -> None:
            nonlocal spoken, first, latest
            counts[0] += done
            counts[1] += failed
            latest = reading
            now = self._clock()
            # The rate counts from the first batch on: workers that load their weights say nothing about what is left.
            first = first if first[1] or not done + failed else (now, sum(counts))
            if now - spoken >= EVERY_SECONDS:
                spoken = now
                rate = (sum(counts) - first[1]) / (now - first[0]) if now > first[0] else 0.0
                pace = f", {rate:.3g}/s, {_duration((total - sum(counts)) / rate)} left" if rate > 0 else ""
                self.say(f"{label}: {_counts(counts, total)}{pace}{_spent(reading)}")

        try:
            yield advance
        finally:
            ended = "done" if sum(counts) >= total else "stopped"
            spent = f"{_duration(self._clock() - started)}{_spent(latest)}"
            self.say(f"{label}: {ended}, {_counts(counts, total)}, {spent}")

    @contextmanager
    def step(self, label: str) -> Generator[None, None, None]:
        """A line at the start and one at the end."""
        started = self._clock()
        self.say(f"{label} ...")
        ended = "stopped"
        try:
            yield
            ended = "done"
        finally:
            self.say(f"{label}: {ended}, {_duration(self._clock() - started)}")

    def say(self, text: str) -> None:
        """A line at once."""
        self._stream.write(text + "\n")
        self._stream.flush()


class Bars:
    """A line a stage on a terminal: name, bar, done of total, failed, rate and time left. Old lines stay."""

    def __init__(self, stream: TextIO | None = None) -> None:
        from rich.console import Console

        self._console = Console(file=stream or sys.stderr)

    def say(self, text: str) -> None:
        """A line above the bars."""
        self._console.print(text, style="yellow", highlight=False, markup=False)

    @contextmanager
    def stage(self, label: str, total: int, done: int, failed: int) -> Generator[Advance, None, None]:
        """A bar that counts failed items as gone through."""
        failures = failed
        with self._display() as display:
            task = display.add_task(label, total=total, completed=done + failed, failed=failed, spent="")

            def advance(done: int, failed: int, reading: Reading = NOTHING) -> None:
                nonlocal failures
                failures += failed
                display.update(task, advance=done + failed, failed=failures, spent=_spent(reading))

            yield advance

    @contextmanager
    def step(self, label: str) -> Generator[None, None, None]:
        """A moving bar and the time gone."""
        with self._display() as display:
            task = display.add_task(label, total=None, failed=0, spent=None)
            yield
            display.update(task, total=1, completed=1)

    def _display(self) -> RichProgress:
        from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress
        from rich.text import Text

        class Counts(ProgressColumn):
            def render(self, task: Task) -> Text:
                if task.fields["spent"] is None:
                    return Text("")
                failed = task.fields["failed"]
                text = Text(f"{int(task.completed)}/{int(task.total or 0)}", "green")
                if failed:
                    text.append(f" {failed} failed", "red")
                if task.speed and not task.finished:
                    text.append(f" {task.speed:.3g}/s", "default")
                if task.time_remaining is not None and not task.finished:
                    text.append(f" {_duration(task.time_remaining)} left", "cyan")
                return text.append(task.fields["spent"].replace(",", ""), "default")

        columns = (TextColumn("[bold]{task.description:<24}"), BarColumn(12), TimeElapsedColumn(), Counts())
        return RichProgress(*columns, console=self._console)


def progress_for(stream: TextIO) -> Progress:
    """Bars if the stream is a terminal, else plain lines."""
    return Bars(stream) if stream.isatty() else Lines(stream)


def _spent(reading: Reading) -> str:
    """Idle share and cost, where they are known."""
    idle = "" if math.isnan(reading.idle) else f", {reading.idle:.0%} idle"
    return idle + ("" if math.isnan(reading.cost) else f", cost {reading.cost:.2f}")


def _counts(counts: list[int], total: int) -> str:
    return f"{counts[0]}/{total}" + (f", {counts[1]} failed" if counts[1] else "")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
