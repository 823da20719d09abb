"""What only workers in processes of their own can do: die, and be replaced without losing or doubling a row."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime

import numpy as np
import pytest
from stages_for_tests import AtBatch, Square, notes, working

from beholder.engine.environment import worker_environment
from beholder.engine.progress import Quiet
from beholder.engine.runlog import RunCancelledError, RunLog, ask
from beholder.errors import EngineError
from beholder.store import Store

MANY = [{"n": n} for n in range(40)]


def complete_lines(store):
    shards = (store.root / "ledger" / "square").glob("*.jsonl")
    return [json.loads(line) for shard in shards for line in shard.read_bytes().split(b"\n")[:-1]]


def doubled(store):
    """Keys with more than one ok row."""
    counts = Counter(row["key"] for row in complete_lines(store) if row["status"] == "ok")
    return [key for key, count in counts.items() if count > 1]


def pids(store):
    return {int(row["worker"].rpartition(":")[2]) for row in complete_lines(store)}


@pytest.mark.ray
def test_item_that_kills_its_worker_is_quarantined(ray_address, engine_of, store):
    items, place = [*MANY], 17
    items[place] = {"n": 99, "do": "exit"}
    run = engine_of("ray").run(Square(), items)
    assert (run.computed, run.failed) == (39, 1)
    assert run.rows[place]["error"].startswith("WorkerDied: 2 times alone with this item")
    assert [row["square"] for row in run.ok_rows()] == [item["n"] ** 2 for item in items if "do" not in item]
    assert not doubled(store)


@pytest.mark.ray
def test_item_that_kills_one_worker_only_is_done(ray_address, engine_of, store):
    items = [*MANY[:20], {"n": 99, "do": "exit once"}, *MANY[20:]]
    run = engine_of("ray").run(Square(batch_size=1), items)
    assert (run.computed, run.failed) == (41, 0)


@pytest.mark.ray
def test_workers_killed_from_outside_are_replaced(ray_address, engine_of, store):
    killed = []

    def kill():
        killed.extend(pids(store))
        for pid in killed:
            os.kill(pid, signal.SIGKILL)

    run = engine_of("ray", progress=AtBatch(4, kill)).run(Square(), working(80))
    assert killed
    assert (run.computed, run.failed) == (80, 0)
    assert [row["square"] for row in run.rows] == [n * n for n in range(80)]
    assert not doubled(store)
    assert pids(store) - set(killed)  # somebody else went on


@pytest.mark.ray
def test_warm_workers_killed_between_runs_are_replaced(ray_address, engine_of, store):
    engine = engine_of("ray")
    engine.run(Square(), MANY)
    for pid in pids(store):
        os.kill(pid, signal.SIGKILL)
    run = engine.run(Square(), working(20))
    assert (run.computed, run.failed) == (20, 0)


@pytest.mark.parametrize(("blow", "seed"), [(signal.SIGKILL, 1), (signal.SIGKILL, 2), (signal.SIGINT, 3)])
def test_run_killed_anywhere_is_finished_by_another_number_of_workers(
    kind, engine_of, store, tmp_path, seed, blow, request
):
    count = 120
    address = request.getfixturevalue("ray_address") if kind == "ray" else ""
    script = sys.modules["stages_for_tests"].__file__
    arguments = [sys.executable, script, str(store.root), kind, address, "2", str(count)]
    enough = int(np.random.default_rng(seed).integers(1, count // 2))
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
        deadline = time.monotonic() + 600
        while len(complete_lines(store)) < enough and driver.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        driver.send_signal(blow)
        driver.wait(600)
    assert driver.returncode == -blow
    kept = len(complete_lines(store))
    assert enough <= kept < count
    run = engine_of(kind, workers=1).run(Square(), working(count))
    assert (run.done, run.computed, run.failed) == (kept, count - kept, 0)
    assert not doubled(store)
    redone = sum(Counter(notes(store)).values()) - count
    assert redone <= 2 * 2 * Square().batch_size  # two batches in flight at each of two workers
    clean = engine_of("inprocess", at=Store(tmp_path / "clean")).run(Square(), working(count))
    assert run.digest == clean.digest


@pytest.mark.ray
def test_workers_that_die_while_loading_stop_the_run(ray_address, engine_of):
    with pytest.raises(EngineError, match="3 workers died while they loaded"):
        engine_of("ray").run(Square(fail_setup="die"), MANY)


@pytest.mark.ray
def test_workers_have_one_thread_and_one_instruction_set(ray_address, engine_of):
    import ray

    seen = ray.get(ray.remote(runtime_env={"env_vars": worker_environment()})(lambda: dict(os.environ)).remote())
    assert {name: seen[name] for name in worker_environment()} == worker_environment()
    row = engine_of("ray").run(Square(), [{"n": 1}]).rows[0]
    expected = worker_environment().get("ATEN_CPU_CAPABILITY", "native")
    assert row["versions"].endswith(f"-{expected}")


@pytest.mark.ray
def test_private_cluster_asks_for_a_token(ray_address):
    assert os.environ["RAY_AUTH_MODE"] == "token"
    stranger = f"from ray._raylet import GcsClient; GcsClient(address={ray_address!r}).get_all_node_info()"
    friend = subprocess.run([sys.executable, "-c", stranger], capture_output=True, text=True)
    assert friend.returncode == 0, friend.stderr
    environment = os.environ | {"RAY_AUTH_TOKEN": "0" * 64}
    refused = subprocess.run([sys.executable, "-c", stranger], env=environment, capture_output=True, text=True)
    assert refused.returncode != 0
    assert "InvalidAuthToken" in refused.stderr


@pytest.mark.ray
def test_missing_cluster_names_the_remedy():
    code = (
        "import sys; from beholder.engine.cluster import connect; from beholder.errors import EngineError\n"
        "try: connect('127.0.0.1:1', None)\n"
        "except EngineError as error: sys.exit(0 if 'ray start --head' in str(error) else 4)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


SLOW_START = """
import sys
import time
from types import SimpleNamespace

import ray
from ray._private import node, services

from beholder.engine.cluster import connect
from beholder.errors import EngineError

slow, found, tries = int(sys.argv[1]), services.get_node, []


def get_node(*arguments):
    tries.append(arguments)
    if len(tries) <= slow:
        raise RuntimeError("not there yet")
    return found(*arguments)


def seconds():
    return time.monotonic() + (1000 * len(tries) if len(tries) <= slow else 0)


services.get_node = get_node
node.time = SimpleNamespace(sleep=time.sleep, time=time.time, monotonic=seconds)
try:
    connect(None, 1)
    print(ray.cluster_resources()["CPU"])
except EngineError as error:
    print(error)
"""


@pytest.mark.ray
@pytest.mark.parametrize(
    ("slow", "said"), [("1", "1.0"), pytest.param("3", "did not start in 3 tries: The cur", marks=pytest.mark.slow)]
)
def test_private_cluster_that_is_slow_to_start_is_started_again(slow, said):
    """To Ray, whose clock runs ahead, its own first processes take longer than it waits for them."""
    done = subprocess.run([sys.executable, "-c", SLOW_START, slow], capture_output=True, text=True)
    assert said in done.stdout, done.stderr


@pytest.mark.ray
def test_worker_that_only_fails_is_replaced(ray_address, engine_of, store):
    """The first process to touch the mark is broken for good; whoever replaces it is not."""
    items = [{"n": n, "do": "broken worker"} for n in range(60)]
    run = engine_of("ray", max_failed=0.5).run(Square(batch_size=2), items)
    assert 0 < run.failed <= 3 * 2  # three batches, then it was gone
    assert run.computed == 60 - run.failed
    assert {row["trace"] for row in run.rows if row["status"] == "failed"} != {None}
    assert len({row["trace"] for row in run.rows if row["status"] == "failed"}) == 1
    again = engine_of("ray").run(Square(batch_size=2), items)
    assert (again.computed, again.failed) == (run.failed, 0)


@pytest.mark.ray
def test_a_run_can_be_cancelled_while_a_batch_hangs(ray_address, engine_of, store):
    class WhileNothingComes(Quiet):
        came = 0

        @contextmanager
        def stage(self, label, total, done, failed):
            def advance(done, failed, *_):
                self.came += done
                if not done and self.came == 8:
                    ask(store, "square-1", "cancel", datetime.now(UTC))

            yield advance

    with (
        pytest.raises(RunCancelledError),
        RunLog(store, "square-1", "square", "p", WhileNothingComes()) as log,
    ):
        engine_of("ray", progress=log).run(Square(), [*working(8), {"n": 9, "do": "hang"}])
    (store.root / "go").touch()
    assert len(complete_lines(store)) == 8
    assert engine_of("ray").run(Square(), working(9)).done == 8
