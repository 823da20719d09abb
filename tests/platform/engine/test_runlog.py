"""What a run tells the store, and how it obeys, on both backends; a process of its own where it has to die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from stages_for_tests import AtBatch, Square, working
from typer.testing import CliRunner

from beholder.cli_runs import runs
from beholder.engine.progress import Quiet
from beholder.engine.runlog import RunCancelledError, RunLog, ask, run_state, run_states
from beholder.errors import EngineError, StoreError

START = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """Every look at it is a second later."""

    def __init__(self):
        self.now = START

    def __call__(self):
        self.now += timedelta(seconds=1)
        return self.now


def log_of(store, inner=None, **settings):
    return RunLog(store, "square-1", "square", "p", inner or Quiet(), **settings)


def test_counts_of_every_stage_are_in_the_store(kind, engine_of, store):
    engine_of(kind).run(Square(), working(8))
    items = [*working(12), {"n": 99, "do": "raise"}]
    with log_of(store) as log:
        engine_of(kind, progress=log).run(Square(), items, label="Square them")
        with log.step("Think"):
            pass
    state = run_state(store, "square-1", datetime.now(UTC))
    assert (state.state, state.attempt, state.job) == ("done", 1, "square")
    first, second = state.stages
    assert (first.label, first.total, first.found, first.done, first.failed) == ("Square them", 13, 8, 12, 1)
    assert first.ended
    assert first.rate > 0
    assert (second.label, second.total, second.ended) == ("Think", None, True)


def test_cancelled_run_keeps_what_it_did_and_goes_on_later(kind, engine_of, store):
    with (
        pytest.raises(RunCancelledError, match="was cancelled"),
        log_of(store, AtBatch(3, lambda: ask(store, "square-1", "cancel", datetime.now(UTC)))) as log,
    ):
        engine_of(kind, progress=log).run(Square(), working(80))
    state = run_state(store, "square-1", datetime.now(UTC))
    assert state.state == "cancelled"
    done = state.stages[0].done
    assert 0 < done < 80
    with log_of(store) as log:
        run = engine_of(kind, progress=log).run(Square(), working(80))
    assert run.done >= done
    assert run.done + run.computed == 80
    assert run_state(store, "square-1", datetime.now(UTC)).attempt == 2


def test_paused_run_waits_until_resumed(engine_of, store):
    seen = []

    def sleep(seconds):
        seen.append(run_state(store, "square-1", datetime.now(UTC)).state)
        if len(seen) == 3:
            ask(store, "square-1", "resume", datetime.now(UTC))

    with log_of(store, AtBatch(2, lambda: ask(store, "square-1", "pause", datetime.now(UTC))), sleep=sleep) as log:
        run = engine_of("inprocess", progress=log).run(Square(), working(20))
    assert seen == ["paused"] * 3
    assert run.computed == 20
    assert run_state(store, "square-1", datetime.now(UTC)).state == "done"


def test_same_run_is_refused_while_it_is_at_work(store):
    with (
        log_of(store),
        pytest.raises(EngineError, match=f"at work on this store \\(process {os.getpid()} on") as refused,
        log_of(store),
    ):
        pass
    assert "beholder runs cancel square-1" in str(refused.value)


def test_failure_is_told_with_its_error(store):
    with pytest.raises(ZeroDivisionError), log_of(store):
        _ = 1 / 0
    state = run_state(store, "square-1", datetime.now(UTC))
    assert (state.state, state.error) == ("failed", "ZeroDivisionError: division by zero")


def test_killed_process_counts_as_interrupted_and_may_be_started_again(store):
    code = (
        "import sys, time; from beholder.store import Store; from beholder.engine.progress import Quiet\n"
        "from beholder.engine.runlog import RunLog\n"
        f"with RunLog(Store({str(store.root)!r}), 'square-1', 'square', 'p', Quiet()): print('in', flush=True)"
        "; sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"in\n"
        assert run_state(store, "square-1", datetime.now(UTC)).state == "running"
        process.send_signal(signal.SIGKILL)
        process.wait(600)
        assert run_state(store, "square-1", datetime.now(UTC)).state == "interrupted"
    with log_of(store):
        assert run_state(store, "square-1", datetime.now(UTC)).attempt == 2


def test_run_on_another_machine_is_interrupted_after_a_minute_of_silence(store, monkeypatch):
    with log_of(store, clock=Clock()):
        monkeypatch.setattr("platform.node", lambda: "elsewhere")
        assert run_state(store, "square-1", START + timedelta(seconds=50)).state == "running"
        assert run_state(store, "square-1", START + timedelta(seconds=90)).state == "interrupted"


def test_ended_runs_cannot_be_asked(store):
    with pytest.raises(StoreError, match="runs there: none"):
        ask(store, "square-1", "pause", START)
    with log_of(store):
        pass
    with pytest.raises(StoreError, match="is done already"):
        ask(store, "square-1", "pause", datetime.now(UTC))


def test_command_lists_and_shows(engine_of, store):
    with log_of(store) as log:
        engine_of("inprocess", progress=log).run(Square(), working(5), label="Square them")
    listed = CliRunner().invoke(runs, ["--store", str(store.root)])
    assert listed.exit_code == 0
    assert "square-1" in listed.output
    shown = CliRunner().invoke(runs, ["show", "square-1", "--store", str(store.root)])
    assert "Square them" in shown.output
    assert "done, attempt 1" in shown.output
    as_json = CliRunner().invoke(runs, ["show", "square-1", "--json", "--store", str(store.root)])
    assert '"total": 5' in as_json.output
    assert run_states(store, datetime.now(UTC))[0].run_id == "square-1"
