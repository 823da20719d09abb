"""The engine beside Ray Data and ActorPool on the same work, and on 64 simulated GPUs of a cluster of several nodes.

    python tests/benchmarks/bench_engine.py [small] [--items 400]
    python tests/benchmarks/bench_engine.py gpus [--gpus 64] [--rounds 24] [--seconds 4]

`small`: 50 ms items (a sleep, and a 200 kB file written whole) in batches of 4 on 2 workers, by each tool as its
documentation shows, one after the other; wall seconds from the first call to the last result, start of workers
included, and for the engine and ActorPool once more with workers that are there already. `gpus`: items that sleep, one
at a time, on workers that hold one simulated GPU each; the share of time that workers are at work between the moment
when all are ready and the moment when the last item is handed out. Sleeping is what a driver sees of a GPU at work; the
figures say what the engine adds, nothing about a card.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from beholder.engine.progress import Quiet
from beholder.engine.raypool import RayPool
from beholder.engine.run import Engine
from beholder.store import Store

HERE = str(Path(__file__).parent)
BLOB = b"\x89" * 200_000
CPUS, GPUS_PER_NODE = 2, 8


def work(folder: Path, n: int, seconds: float) -> None:
    """What every tool does an item."""
    time.sleep(seconds)
    temporary = folder / f"{n}.tmp"
    temporary.write_bytes(BLOB)
    os.replace(temporary, folder / f"{n}.bin")


@dataclass
class Sleep:
    """The work as a stage."""

    folder: str
    seconds: float
    batch_size: int
    device: str = "cpu"
    name: str = "sleep"
    version: int = 1
    _ready: bool = field(default=False, repr=False)

    def identity(self) -> Mapping[str, Any]:
        """Everything that makes a difference."""
        return {"folder": self.folder, "seconds": self.seconds, "device": self.device}

    def setup(self, store: Store) -> None:
        """Nothing to load."""
        self._ready = True

    def process(self, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """One after the other, as on a card."""
        for item in items:
            work(Path(self.folder), item["n"], self.seconds)
        return [{"n": item["n"]} for item in items]


def engine_seconds(store: Store, folder: str, items: int, seconds: float, batch: int) -> tuple[float, float]:
    """Cold and warm."""
    stage = Sleep(folder, seconds, batch)
    with Engine(store, RayPool(store, workers=CPUS), Quiet()) as engine:
        found = []
        for first in (0, items):
            started = time.perf_counter()
            run = engine.run(stage, [{"n": n} for n in range(first, first + items)])
            found.append(time.perf_counter() - started)
            if run.computed != items:
                raise RuntimeError(f"{run.computed} of {items} items")
    return found[0], found[1]


def ray_data_seconds(folder: str, items: int, seconds: float, batch: int) -> float:
    """`map_batches` over a class, on as many actors."""
    import ray.data

    class Worker:
        def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
            for n in rows["n"]:
                work(Path(folder), int(n), seconds)
            return rows

    ray.data.DataContext.get_current().enable_progress_bars = False
    started = time.perf_counter()
    data = ray.data.from_items([{"n": n} for n in range(items)], override_num_blocks=items // batch // 2)
    done = data.map_batches(Worker, batch_size=batch, concurrency=CPUS, num_cpus=1).materialize()
    if done.count() != items:
        raise RuntimeError("rows lost")
    return time.perf_counter() - started


def actor_pool_seconds(folder: str, items: int, seconds: float, batch: int) -> tuple[float, float]:
    """`map_unordered` over batches; cold and warm."""
    import ray
    from ray.util import ActorPool

    @ray.remote(num_cpus=1)
    class Worker:
        def run(self, rows: list[int]) -> list[int]:
            for n in rows:
                work(Path(folder), n, seconds)
            return rows

    found = []
    workers: list[Any] = []
    for _ in range(2):
        started = time.perf_counter()
        workers = workers or [Worker.remote() for _ in range(CPUS)]
        batches = [list(range(k, min(k + batch, items))) for k in range(0, items, batch)]
        done = sum(len(rows) for rows in ActorPool(workers).map_unordered(lambda a, rows: a.run.remote(rows), batches))
        if done != items:
            raise RuntimeError("rows lost")
        found.append(time.perf_counter() - started)
    for worker in workers:
        ray.kill(worker)
    return found[0], found[1]


def small(items: int, seconds: float = 0.05, batch: int = 4) -> None:
    """Print wall seconds of each tool beside the ideal."""
    import ray

    ray.init("local", num_cpus=CPUS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ideal = items * seconds / CPUS
    print(f"{items} items of {seconds * 1000:g} ms, batches of {batch}, {CPUS} workers; ideal {ideal:.2f} s")
    with tempfile.TemporaryDirectory() as folder:
        print(f"  {'Ray Data':28}{ray_data_seconds(folder, items, seconds, batch):8.2f} s with start")
        pool_cold, pool_warm = actor_pool_seconds(folder, items, seconds, batch)
        cold, warm = engine_seconds(Store(folder + "/store"), folder, items, seconds, batch)
        for name, value in (("ActorPool", pool_cold), ("engine", cold)):
            print(f"  {name:28}{value:8.2f} s with start")
        for name, value in (("ActorPool, workers ready", pool_warm), ("engine, workers ready", warm)):
            print(f"  {name:28}{value:8.2f} s, {ideal / value:6.1%} of the ideal")
    ray.shutdown()


def gpus(count: int, rounds: int, seconds: float) -> None:
    """Print the share of time that workers on simulated GPUs are busy."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 100 * 2**20})
    for _ in range(count // GPUS_PER_NODE):
        cluster.add_node(num_cpus=GPUS_PER_NODE, num_gpus=GPUS_PER_NODE, object_store_memory=100 * 2**20)
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder + "/store")
        with Engine(store, RayPool(store, workers=count, gpu_memory_gb=24), Quiet()) as engine:
            items = [{"n": n} for n in range(count * rounds)]
            run = engine.run(Sleep(folder, seconds, 1, "cuda"), items)
            rows = [row for row in run.rows if row["status"] == "ok"]
    ray.shutdown()
    cluster.shutdown()
    print(busy_share(rows, count, seconds))


def busy_share(rows: Sequence[Mapping[str, Any]], count: int, seconds: float) -> str:
    """Of ledger rows, whose time is that of the driver's writing and whose seconds are the worker's own."""
    spans: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        end = datetime.fromisoformat(row["written_at"]).timestamp()
        spans.setdefault(row["worker"], []).append((end - row["seconds"], end))
    ready = max(min(start for start, _ in mine) for mine in spans.values())
    last = max(start for mine in spans.values() for start, _ in mine)
    inside = sum(max(0.0, min(end, last) - max(start, ready)) for mine in spans.values() for start, end in mine)
    least = min(len(mine) for mine in spans.values())
    return (
        f"{len(rows)} items of {seconds:g} s on {len(spans)} of {count} simulated GPUs, at least {least} each: "
        f"busy {inside / (len(spans) * (last - ready)):.2%} of the {last - ready:.1f} s between all ready and last "
        "handed out"
    )


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("small", "gpus"), default="small")
    parser.add_argument("--items", type=int, default=400)
    parser.add_argument("--gpus", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=4.0)
    chosen = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [HERE, os.environ.get("PYTHONPATH")]))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if chosen.part == "small":
        small(chosen.items)
    else:
        gpus(chosen.gpus, chosen.rounds, chosen.seconds)


if __name__ == "__main__":
    import bench_engine  # so that workers find the stage by its module's name

    bench_engine.main()
