"""What workers were busy with, and stages that stall, on clocks that the test moves."""

from __future__ import annotations

import io
import math
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stages_for_tests import Square, working
from typer.testing import CliRunner

from beholder.cli_runs import runs
from beholder.engine.chain import Link, run_chain
from beholder.engine.inprocess import Outcome
from beholder.engine.meter import Meter, Prices, Reading
from beholder.engine.progress import Bars, Lines, Quiet
from beholder.engine.runlog import RunLog, run_state
from beholder.engine.watchdog import AT_LEAST, FIRST, TIMES, Watchdog
from beholder.runs import open_context, parser


class Clock:
    """Seconds, or UTC times, that the test moves."""

    now = 100.0

    def __call__(self):
        return self.now

    def utc(self):
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.now)


def batch(worker, seconds, items=2, **result):
    """Outcomes of a batch that took so long."""
    return [Outcome("k", {"square": 1, **result}, None, seconds / items, worker, "avx2") for _ in range(items)]


def test_two_workers_one_of_them_idle_half_the_time():
    clock = Clock()
    meter = Meter(clock=clock)
    clock.now += 4
    meter.record(batch("a", 4), 3)
    meter.record(batch("b", 2), 3)  # began two seconds ago
    clock.now += 4
    meter.record(batch("a", 4), 1)
    reading = meter.record(batch("b", 1), 0)
    assert reading.workers == ("a", "b")
    assert (reading.busy, reading.present) == (pytest.approx(11), pytest.approx(8 + 6))
    assert reading.idle == pytest.approx(1 - 11 / 14)
    assert reading.batch_seconds == 3.0  # the median of 4, 2, 4, 1
    assert math.isnan(reading.cost)


def test_a_worker_long_silent_is_gone_and_not_idle():
    clock = Clock()
    meter = Meter(clock=clock)
    meter.record(batch("dead", 2), 1)
    for _ in range(50):
        clock.now += 2
        reading = meter.record(batch("alive", 2), 1)
    assert reading.workers == ("alive",)
    assert reading.present == pytest.approx(2 + 100)
    assert reading.idle == pytest.approx(0)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.01, 5)), min_size=1, max_size=30))
def test_idle_share_is_what_is_left_of_every_workers_time(calls):
    """Against worker-seconds added up one by one: each worker does its batches in a row, and waits at the end."""
    clock, meter = Clock(), None
    ends: dict[str, float] = {}
    events = []
    for worker, seconds in calls:
        ends[worker] = ends.get(worker, 0.0) + seconds
        events.append((ends[worker], worker, seconds))
    start = clock.now
    meter = Meter(hourly=36.0, clock=clock)
    for end, worker, seconds in sorted(events):
        clock.now = start + end
        reading = meter.record(batch(worker, seconds), 0)
    busy, whole = sum(seconds for _, seconds in calls), max(ends.values()) * len(ends)
    assert reading.idle == pytest.approx(1 - busy / whole, abs=1e-9)
    assert reading.cost == pytest.approx(whole / 100)


def test_rows_and_hours_cost():
    clock = Clock()
    meter = Meter(hourly=3600.0, clock=clock)
    clock.now += 5
    reading = meter.record(batch("a", 5, cost=0.25), 0)
    assert reading.cost == pytest.approx(5 + 2 * 0.25)
    assert Meter(clock=clock).record(batch("a", 5, cost=0.25), 0).cost == pytest.approx(0.5)


def test_died_workers_say_nothing():
    reading = Meter().record([Outcome("k", None, "WorkerDied", 0.0, "?", "?")], 0)
    assert reading.workers == ()
    assert math.isnan(reading.idle)


def test_watchdog_barks_after_many_batch_times_and_a_minute():
    slow = Watchdog("Draw", 0.0)
    slow.result(10.0, Reading(("vm:1", "vm:2"), batch_seconds=20.0, under_way=4))
    assert slow.stall(10.0 + TIMES * 20.0 - 1) is None
    line = slow.stall(10.0 + TIMES * 20.0)
    assert line is not None
    assert "Draw stalled: no result for 200 s, and a batch takes 20 s" in line
    assert "vm:1, vm:2" in line
    assert "lower batch_size" in line
    fast = Watchdog("Draw", 0.0)
    fast.result(0.0, Reading(batch_seconds=0.01, under_way=4))
    assert fast.stall(AT_LEAST - 1) is None
    assert fast.stall(AT_LEAST) is not None


def test_watchdog_lets_wait_who_has_no_work_and_who_was_paused():
    waiting = Watchdog("Score", 0.0)
    waiting.result(0.0, Reading(batch_seconds=1.0, under_way=0))
    assert waiting.stall(1e6) is None
    paused = Watchdog("Score", 0.0)
    paused.result(0.0, Reading(batch_seconds=1.0, under_way=2))
    paused.pause(1e6)
    assert paused.stall(1e6 + AT_LEAST - 1) is None
    assert paused.stall(1e6 + AT_LEAST) is not None


def test_watchdog_says_what_holds_up_the_first_batch():
    dog = Watchdog("Draw", 0.0)
    assert dog.stall(FIRST - 1) is None
    assert "fewer --workers, or add machines" in (dog.stall(FIRST) or "")


def test_stall_is_told_once_and_stands_in_the_store_until_something_comes(store):
    clock, stream = Clock(), io.StringIO()
    with RunLog(store, "r-1", "r", "p", Lines(stream, clock), clock=clock.utc) as log, log.stage("Draw", 9, 0, 0) as go:
        go(2, 0, Reading(("vm:7",), busy=3.0, present=4.0, cost=1.5, batch_seconds=1.0, under_way=4))
        clock.now += 61
        for _ in range(3):
            log.watch()
        log._write(force=True)
        assert "vm:7" in (run_state(store, "r-1", clock.utc()).stages[0].stalled or "")
        shown = CliRunner().invoke(runs, ["show", "r-1", "--store", str(store.root)]).output
        assert "Draw stalled: no result for 61 s" in " ".join(shown.split())
        assert re.search(r"Draw +9 +0 +2 +0 .* 25% +1\.50", shown)
        go(0, 0, Reading(under_way=4))  # nothing came
        assert run_state(store, "r-1", clock.utc()).stages[0].stalled
        clock.now += 2
        go(2, 0, Reading(("vm:7",), batch_seconds=1.0))
        assert run_state(store, "r-1", clock.utc()).stages[0].stalled is None
    assert stream.getvalue().count("stalled") == 1


def test_terminal_shows_idle_share_and_cost():
    clock, lines, bars = Clock(), io.StringIO(), io.StringIO()
    reading = Reading(("a",), busy=3.0, present=4.0, cost=1.5)
    for progress in (Lines(lines, clock), Bars(bars)):
        with progress.stage("Draw", 10, 0, 0) as advance:
            advance(5, 0, reading)
            clock.now += 10
            advance(5, 0, reading)
            progress.say("a word [with brackets]")
    assert "Draw: 10/10, 0.5/s, 0 s left, 25% idle, cost 1.50" in lines.getvalue()
    assert "a word [with brackets]\n" in lines.getvalue()
    assert "25% idle cost 1.50" in bars.getvalue()
    assert "a word [with brackets]" in bars.getvalue()


def test_stages_of_a_chain_are_counted_apart(kind, engine_of, store):
    chain = [
        Link(Square(), "Square", lambda row: {"n": row["square"]} if row["item"]["n"] % 2 else None),
        Link(Square(name="again"), "Again"),
    ]
    with RunLog(store, "r-1", "r", "p", Quiet()) as log:
        run_chain(engine_of(kind, progress=log), chain, working(21))
    stages = run_state(store, "r-1", datetime.now(UTC)).stages
    assert [(stage.label, stage.done, stage.ended) for stage in stages] == [("Square", 21, True), ("Again", 10, True)]


def test_jobs_read_prices_from_the_plan(tmp_path):
    plan = tmp_path / "plan.yaml"
    plan.write_text("name: s\nprices: {gpu_hour: 2.5}\n")
    context = open_context(parser("draw", None).parse_args(["--plan", str(plan), "--store", str(tmp_path / "store")]))
    assert context.engine.prices.gpu_hour == 2.5
    assert math.isnan(context.engine.prices.cpu_hour)


def test_what_workers_did_is_in_the_store(kind, engine_of, store):
    """On both backends: ten milliseconds an item, so the busy share cannot be all idle nor more than the time."""
    with RunLog(store, "r-1", "r", "p", Quiet()) as log:
        run = engine_of(kind, progress=log, prices=Prices(cpu_hour=3600.0)).run(Square(), working(40))
    stage = run_state(store, "r-1", datetime.now(UTC)).stages[0]
    assert stage.workers == len({row["worker"] for row in run.rows})
    assert 0 <= stage.idle < 1
    busy = sum(row["seconds"] for row in run.rows)
    assert stage.cost * (1 - stage.idle) == pytest.approx(busy, rel=1e-3)
