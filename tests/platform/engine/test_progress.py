"""What a log gets to see of a run, on a clock that the test moves."""

from __future__ import annotations

import io

import pytest

from beholder.engine.progress import Bars, Lines, progress_for


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_plain_log_gets_a_line_every_ten_seconds_at_most():
    clock, stream = Clock(), io.StringIO()
    with Lines(stream, clock).stage("Generate", 100, 20, 0) as advance:
        for _ in range(8):
            clock.now += 4
            advance(9, 1)
    lines = stream.getvalue().splitlines()
    assert lines == [
        "Generate: 100 items, 20 in the ledger",
        "Generate: 47/100, 3 failed, 2.5/s, 20 s left",
        "Generate: 74/100, 6 failed, 2.5/s, 8 s left",
        "Generate: done, 92/100, 8 failed, 32 s",
    ]


def test_time_until_the_first_batch_is_not_part_of_the_rate():
    clock, stream = Clock(), io.StringIO()
    with Lines(stream, clock).stage("Generate", 100, 0, 0) as advance:
        clock.now += 60
        advance(10, 0)
        for _ in range(3):
            clock.now += 4
            advance(10, 0)
    assert stream.getvalue().splitlines()[1:3] == ["Generate: 10/100", "Generate: 40/100, 2.5/s, 24 s left"]


def test_plain_log_says_what_was_stopped():
    clock, stream = Clock(), io.StringIO()
    lines = Lines(stream, clock)

    def interrupted():
        with lines.stage("Score", 10, 0, 2) as advance:
            advance(1, 0)
            clock.now += 3700
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with lines.step("Train"):
        clock.now += 61
    assert stream.getvalue().splitlines() == [
        "Score: 10 items, 0 in the ledger, 2 failed before",
        "Score: stopped, 1/10, 2 failed, 1 h 1 min",
        "Train ...",
        "Train: done, 1 min 1 s",
    ]


def test_bars_name_stage_and_counts():
    stream = io.StringIO()
    with Bars(stream).stage("Embed", 12, 4, 0) as advance:
        advance(7, 1)
    with Bars(stream).step("Train"):
        pass
    text = stream.getvalue()
    assert "Embed" in text
    assert "12/12 1 failed" in text
    assert "Train" in text


def test_bars_are_for_terminals():
    assert isinstance(progress_for(io.StringIO()), Lines)
