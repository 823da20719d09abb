"""Thirty kills -9 of driver, worker and machine: nothing lost, nothing twice, little done again, the same digest.

    pytest -m slow -s tests/platform/engine/test_chaos.py

Needs a cluster of its own, whose machines come and go. Prints what was killed and what was done again.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from stages_for_tests import Logged

from beholder.engine.environment import worker_environment
from beholder.engine.inprocess import InProcess
from beholder.engine.progress import Quiet
from beholder.engine.run import Engine
from beholder.store import Store

HERE = str(Path(__file__).parent)
KILLS, WORKERS, LAST_WORKERS, ITEMS, BATCH = 30, 4, 3, 12_000, 4
PATIENCE = 120.0
DRIVER = """
import sys
from beholder.engine.progress import Quiet
from beholder.engine.raypool import RayPool
from beholder.engine.run import Engine
from beholder.store import Store
from stages_for_tests import Logged
root, address, workers, items, batch = sys.argv[1:]
store = Store(root)
with Engine(store, RayPool(store, address=address, workers=int(workers)), Quiet()) as engine:
    print(engine.run(Logged(int(batch)), [{"n": n} for n in range(int(items))]).digest)
"""


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head without cores and two machines."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [HERE, os.environ.get("PYTHONPATH")])))
        # Ray reads it once a process: a private Ray of other tests has left its own, and finds this one.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        for name, value in worker_environment().items():
            patch.setenv(name, value)
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 100 * 2**20})
        yield made
        made.shutdown()


@dataclass
class Havoc:
    """The run under way, and how to hurt it."""

    store: Store
    cluster: Any
    rng: random.Random
    machines: list[Any] = field(default_factory=list)
    driver: subprocess.Popen[str] | None = None

    def add_machine(self) -> None:
        """One more machine with two cores."""
        self.machines.append(self.cluster.add_node(num_cpus=2, object_store_memory=100 * 2**20))

    def start(self, workers: int) -> subprocess.Popen[str]:
        """A driver, as a user starts one."""
        command = [sys.executable, "-c", DRIVER, str(self.store.root), self.cluster.address]
        command += [str(workers), str(ITEMS), str(BATCH)]
        self.driver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        return self.driver

    def started(self) -> list[tuple[int, int]]:
        """Process and first item of every batch that any worker ever began."""
        log = self.store.root / "logged.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [(int(pid), int(n)) for pid, n in (line.split() for line in lines)]

    def after(self, batches: int) -> None:
        """Wait for so many more batches to begin; by events in the log, however fast the machine is."""
        assert self.driver is not None
        wanted, end = len(self.started()) + batches, time.monotonic() + PATIENCE
        while len(self.started()) < wanted:
            assert self.driver.poll() is None, "the run ended before it was killed often enough"
            assert time.monotonic() < end, f"no progress for {PATIENCE:g} s"
            time.sleep(0.02)

    def kill_driver(self) -> None:
        """As the out-of-memory killer does; then the same command again."""
        assert self.driver is not None
        self.driver.send_signal(signal.SIGKILL)
        self.driver.wait()
        self.start(WORKERS)

    def kill_worker(self) -> None:
        """One of those that began a batch last."""
        latest = list(dict.fromkeys(pid for pid, _ in reversed(self.started())))[:WORKERS]
        alive = [pid for pid in latest if is_worker(pid)]
        os.kill(self.rng.choice(alive), signal.SIGKILL)

    def kill_machine(self) -> None:
        """All processes of a machine; another one comes up."""
        self.cluster.remove_node(self.machines.pop(self.rng.randrange(len(self.machines))), allow_graceful=False)
        self.add_machine()


def is_worker(pid: int) -> bool:
    """Whether the process lives and is a worker of Ray."""
    try:
        return b"ray::" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def ok_rows(store: Store) -> Counter[str]:
    """How often each key is there with a result, over all complete lines of all shards."""
    found: Counter[str] = Counter()
    for shard in (store.root / "ledger" / "logged").glob("*.jsonl"):
        for line in shard.read_bytes().split(b"\n")[:-1]:
            row = json.loads(line)
            found[row["key"]] += row["status"] == "ok"
    return found


@pytest.mark.slow
def test_thirty_kills_lose_and_double_nothing(cluster: Any, tmp_path: Path) -> None:
    whole = Store(tmp_path / "whole")
    with Engine(whole, InProcess(whole), Quiet()) as engine:
        expected = engine.run(Logged(BATCH, seconds=0.0), [{"n": n} for n in range(ITEMS)]).digest

    havoc = Havoc(Store(tmp_path / "store"), cluster, random.Random(11))
    for _ in range(2):
        havoc.add_machine()
    havoc.start(WORKERS)
    ways: dict[str, Callable[[], None]] = {
        "driver": havoc.kill_driver,
        "worker": havoc.kill_worker,
        "machine": havoc.kill_machine,
    }
    killed = [*ways] * (KILLS // len(ways))
    havoc.rng.shuffle(killed)
    for way in killed:
        havoc.after(havoc.rng.randrange(4, 24))
        ways[way]()
    havoc.after(10)
    assert havoc.driver is not None
    havoc.driver.send_signal(signal.SIGKILL)
    havoc.driver.wait()
    last = havoc.start(LAST_WORKERS)
    digest = last.communicate()[0].strip()

    assert last.returncode == 0
    assert digest == expected
    rows = ok_rows(havoc.store)
    assert len(rows) == ITEMS
    assert set(rows.values()) == {1}
    again = len(havoc.started()) - ITEMS // BATCH
    per_way = {"driver": 2 * WORKERS, "worker": 2, "machine": 2 * WORKERS}
    most = sum(per_way[way] for way in killed) + 2 * WORKERS  # the last kill is of a driver, too
    told = f"{ITEMS} rows once each, {again} batches begun again, {most} allowed"
    print(f"\n{dict(Counter(killed))} and one more driver: {told}")  # noqa: T201
    assert 0 < again <= most
