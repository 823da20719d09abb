"""Several machines: GPUs shared by stated memory, a machine lost on the way, a machine on which all fails.

Needs a cluster of its own, whose drivers are processes of their own.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stages_for_tests import notes

from beholder.engine.environment import worker_environment
from beholder.engine.inprocess import InProcess
from beholder.engine.progress import Quiet
from beholder.engine.run import Engine
from beholder.store import Store

pytestmark = [pytest.mark.ray, pytest.mark.slow]
HERE = str(Path(__file__).parent)
START = """
import sys
from beholder.engine.progress import Quiet
from beholder.engine.raypool import RayPool
from beholder.engine.run import Engine
from beholder.store import Store
from stages_for_tests import Fetching, Square, Where, working
store = Store(sys.argv[1])
pool = RayPool(store, address=sys.argv[2], workers=eval(sys.argv[3]), gpu_memory_gb=24)
engine = Engine(store, pool, Quiet(), max_failed=.5)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without cores, and two machines with two cores each, one with two (pretended) GPUs and one with one."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [HERE, os.environ.get("PYTHONPATH")])))
        # Ray reads it once a process: a private Ray of other tests has left its own, and finds this one.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        for name, value in worker_environment().items():
            patch.setenv(name, value)
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 100 * 2**20})
        made.machines = [made.add_node(num_cpus=2, num_gpus=gpus, object_store_memory=100 * 2**20) for gpus in (2, 1)]
        yield made
        made.shutdown()


def driver(cluster: Any, store: Store, code: str, workers: int | None = None) -> subprocess.Popen[str]:
    """A driver, as a user starts one."""
    command = [sys.executable, "-c", START + code, str(store.root), cluster.address, repr(workers)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    return out


def rows_of(store: Store, stage: str) -> list[dict[str, Any]]:
    shards = (store.root / "ledger" / stage).glob("*.jsonl")
    return [json.loads(line) for shard in shards for line in shard.read_text().splitlines()]


def test_stages_share_gpus_and_each_has_a_worker_on_every_one(cluster, store):
    """8 and 9 of 24 GB fit side by side; 12 more do not, and the stage used longest ago makes room."""
    code = """
for name, gb in (("a", 8), ("b", 9), ("c", 12)):
    engine.run(Where(name, gb), [{"n": n, "meet": 3} for n in range(40)])
print([len(warm.workers) for warm in pool._pools.values()])
"""
    assert finish(driver(cluster, store, code)).strip() == "[3, 3]"
    for name in "abc":
        places = {(row["machine"], row["gpu"]) for row in rows_of(store, name)}
        assert len(places) == 3, "one worker on each of the three GPUs"


def test_a_gpu_too_small_for_one_stage_or_for_two_at_once_is_refused(cluster, store):
    code = """
from beholder.engine.chain import Link, run_chain
from beholder.errors import EngineError
for attempt in (
    lambda: engine.run(Where("a", 23.5), working(4)),
    lambda: run_chain(engine, [Link(Where("a", 14), "A", lambda row: {"n": 1}), Link(Where("b", 14), "B")], working(4)),
):
    try:
        attempt()
    except EngineError as error:
        print(error)
"""
    alone, both = finish(driver(cluster, store, code)).splitlines()
    assert "states 23.5 GB of GPU memory; allowed: 95% of the 24 GB of a GPU here" in alone
    assert "stages side by side state 1.23 of a GPU's memory, the last one 'b'" in both


def test_weights_are_fetched_once_on_each_machine(cluster, store):
    code = """
engine.run(Fetching(), [{"n": n, "meet": 4} for n in range(40)])
engine.run(Fetching(), [{"n": n, "meet": 4} for n in range(80)])
"""
    finish(driver(cluster, store, code, workers=4))
    fetched = notes(store, of="fetch")
    assert len(fetched) == len(set(fetched)) == 2
    assert len(notes(store, of="setup")) == 4, "four workers, warm in the second run"


def test_a_machine_on_which_all_fails_is_left(cluster, store):
    # The second half waits until a fifth worker has loaded: one that replaced a bad one.
    code = """
items = [{"n": n, "do": "bad machine", "meet": 4 + (n > 60)} for n in range(120)]
engine.run(Where("w"), items)
"""
    finish(driver(cluster, store, code, workers=4))
    rows = rows_of(store, "w")
    failed = [row for row in rows if row["status"] == "failed"]
    # Two workers there, three batches of two in a row each; what they had in hand besides went to the others.
    assert 0 < len(failed) <= 2 * 3 * 2
    bad = (store.root / "bad").read_text()
    good = [row for row in rows if row["status"] == "ok"]
    assert len(good) == 120 - len(failed)
    assert {row["machine"] for row in good}.isdisjoint({bad})
    loaded = Counter(notes(store, "w", "at"))
    assert loaded[bad] == 2
    assert loaded.total() > 4, "others came, but not there"


def test_a_machine_lost_on_the_way_costs_what_its_workers_had_in_hand(cluster, store, tmp_path):
    count, size, lost = 300, 4, cluster.machines.pop()
    run = driver(cluster, store, f"print(engine.run(Square(), working({count})).digest)", workers=4)
    end = time.monotonic() + 120
    while len(notes(store)) < count // 4:
        assert run.poll() is None, run.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.01)
    cluster.remove_node(lost, allow_graceful=False)
    digest = finish(run).strip()
    rows = rows_of(store, "square")
    assert len(rows) == count
    assert {row["status"] for row in rows} == {"ok"}
    assert len({row["key"] for row in rows}) == count
    redone = sum(Counter(notes(store)).values()) - count
    assert redone <= 2 * 2 * size  # two batches at each of its two workers
    with Engine(clean := Store(tmp_path / "clean"), InProcess(clean), Quiet()) as engine:
        from stages_for_tests import Square, working

        assert digest == engine.run(Square(), working(count)).digest


def test_machines_that_are_started_on_demand_are_asked_for(cluster, store):
    """No core and no GPU is there when the run begins; without a number of workers it is refused."""
    while cluster.machines:
        cluster.remove_node(cluster.machines.pop())
    gone = """
import ray
from beholder.engine.cluster import connect
from stages_for_tests import wait_for
connect(sys.argv[2], None)
wait_for(lambda: not ray.cluster_resources().get("GPU"))  # a lost machine is noticed after a while
print("begins", flush=True)
engine.run(Where("g", 8), working(40))
"""
    refused = driver(cluster, store, gone)
    assert "no GPU; to do: set its device to cpu; a cluster that starts machines" in refused.communicate(timeout=120)[1]
    run = driver(cluster, store, gone, workers=1)
    assert run.stdout is not None
    assert run.stdout.readline() == "begins\n"
    cluster.machines.append(cluster.add_node(num_cpus=2, num_gpus=1, object_store_memory=100 * 2**20))
    finish(run)
    assert len(rows_of(store, "g")) == 40
