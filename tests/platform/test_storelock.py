"""One run a store, in a folder and in a bucket: real processes that live, end and are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from beholder import storelock
from beholder.errors import EngineError
from beholder.store import Store
from beholder.storelock import SILENCE, StoreLock, process_began

HOLD = (
    "import sys; from beholder.store import Store; from beholder.storelock import StoreLock\n"
    "with StoreLock(Store(sys.argv[1]), 'draw-1', 'draw', 'p' * 64): print('in', flush=True); sys.stdin.read()"
)


@pytest.fixture(params=["folder", "bucket"])
def store(request, tmp_path):
    return Store(tmp_path / "store" if request.param == "folder" else request.getfixturevalue("bucket_url"))


def lock_of(store, run="score-2", job="score", plan="q" * 64, **options):
    return StoreLock(store, run, job, plan, **options)


def test_second_run_is_refused_in_one_line_until_the_first_has_ended(store):
    with lock_of(store) as holder:
        with pytest.raises(EngineError) as refused, lock_of(store, "embed-3", "embed"):
            pass
        text = str(refused.value)
        assert f"run score-2 is at work on {store.url}: process {os.getpid()} of {holder.user} on {holder.host}" in text
        assert f"since {holder.started_at}" in text
        assert f"beholder runs cancel score-2 --store {store.url}" in text
        assert "\n" not in text
        assert "another plan" not in text
    with lock_of(store, "embed-3", "embed"):
        pass
    assert store.names("lock") == ["lock/00000002.json"]


def test_changed_plan_of_a_running_job_is_named(store):
    with (
        lock_of(store),
        pytest.raises(EngineError, match=r"under another plan \(hash q{12}, this one has r{12}\)"),
        lock_of(store, "score-3", plan="r" * 64),
    ):
        pass


def test_lock_of_a_killed_process_is_taken_over(store):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, store.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"in\n"
        with pytest.raises(EngineError, match=f"run draw-1 is at work on .*process {process.pid} "), lock_of(store):
            pass
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with lock_of(store):  # its parent has not asked for it yet: a zombie holds nothing
            pass
        process.wait(60)


def test_of_many_that_find_a_dead_lock_one_gets_it(store):
    subprocess.run(
        [sys.executable, "-c", HOLD.replace("sys.stdin.read()", "import os; os._exit(1)"), store.url], check=False
    )
    start, inside = threading.Barrier(5), []

    def contender(number):
        start.wait()
        try:
            with lock_of(store, f"score-{number}"):
                inside.append(number)
                start.wait()  # until all have tried
        except EngineError:
            start.wait()

    with ThreadPoolExecutor(5) as threads:
        list(threads.map(contender, range(5)))
    assert len(inside) == 1


def test_force_takes_over_and_the_former_holder_leaves_it_alone(store):
    former = lock_of(store)
    former.__enter__()
    with lock_of(store, "score-3", force=True):
        former.__exit__(None, None, None)
        with pytest.raises(EngineError, match="run score-3 is at work"), lock_of(store):
            pass


def test_id_of_a_process_that_was_used_again_holds_nothing(store):
    with lock_of(store):
        content = json.loads(store.read("lock/00000001.json"))
        store.write_file("lock/00000001.json", json.dumps(content | {"process": "1"}).encode())
        with lock_of(store, "score-3"):
            pass


def test_run_elsewhere_is_gone_after_silence(store, monkeypatch):
    began = datetime(2026, 1, 1, tzinfo=UTC)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(storelock.platform, "node", lambda: "elsewhere")
        lock_of(store, clock=lambda: began).__enter__()
    told = began + timedelta(minutes=30)
    store.write_file("runs/score-2/state.json", json.dumps({"heartbeat": told.isoformat()}).encode())
    with (
        pytest.raises(EngineError, match="on elsewhere, since 2026-01-01"),
        lock_of(store, "embed-3", clock=lambda: told + SILENCE),
    ):
        pass
    with lock_of(store, "embed-3", clock=lambda: told + SILENCE + timedelta(seconds=1)):
        pass


def test_beginning_of_a_process_is_its_own():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        assert process_began(other.pid)
        assert process_began(other.pid) != process_began(os.getpid()) == process_began(os.getpid())
    assert process_began(other.pid) is None
