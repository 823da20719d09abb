"""How long a run takes to find out what is left to do, and how much memory a plan costs.

    python tests/benchmarks/bench_ledger.py [--items 1000000]

Writes a ledger of that many rows, opens it, and runs a plan that is all done; then a run that computes so many items in
this process, against one of 10,000. Prints seconds (of this process's CPU, and of the clock in brackets: the first do
not depend on who else is at work), bytes an item and memory.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from beholder.engine.inprocess import InProcess
from beholder.engine.ledger import Ledger
from beholder.engine.progress import Quiet
from beholder.engine.run import Engine
from beholder.store import Store


class Numbers(Sequence[dict[str, Any]]):
    """A plan that is not in memory: item n is made when it is asked for."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: Any) -> Any:
        if not 0 <= place < self.count:
            raise IndexError(place)
        return {"prompt": f"a picture of number {place}", "seed": place}


class Name:
    """A stage without work."""

    name, version, batch_size = "name", 1, 16

    def identity(self) -> Mapping[str, Any]:
        return {"batch_size": 16}

    def setup(self, store: Store) -> None:
        pass

    def process(self, items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"prompt": item["prompt"], "score": item["seed"] % 7} for item in items]


def peak() -> float:
    """Most memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def compute(folder: str, count: int) -> None:
    """One run in a process of its own: seconds, and the peak above the start."""
    store, before = Store(folder), peak()
    started, began = time.perf_counter(), time.process_time()
    with Engine(store, InProcess(store), Quiet()) as engine:
        run = engine.run(Name(), Numbers(count))
    seconds, wall = time.process_time() - began, time.perf_counter() - started
    print(f"{seconds:.2f} {wall:.2f} {run.done} {run.computed} {peak() - before:.0f} {before:.0f}")


def main() -> None:
    """Run from a command line."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--items", type=int, default=1_000_000)
    arguments.add_argument("--compute", nargs=2, metavar=("FOLDER", "COUNT"))
    given = arguments.parse_args()
    if given.compute:
        compute(given.compute[0], int(given.compute[1]))
        return
    few, many = 10_000, given.items
    with tempfile.TemporaryDirectory() as folder:
        runs = {
            (what, count): measured(str(Path(folder) / str(count)), count)
            for count in (few, many)
            for what in ("compute", "find all done")
        }
        began = time.process_time()
        ledger = Ledger(Store(Path(folder) / str(many)), "name")
        seconds = time.process_time() - began
    for (what, count), run in runs.items():
        print(
            f"{count:>9,} items, {what:<13}: {run.seconds:>7.2f} s ({run.wall:.2f}), {run.found} found, "
            f"{run.computed} computed, {run.above:.0f} MB above {run.start:.0f} MB"
        )
    entry, short = ledger._entries.itemsize, np.dtype("S16").itemsize
    print(f"opening the ledger of {len(ledger):,} rows: {seconds:.2f} s")
    print(f"key set: {entry + short} bytes an item ({entry} in the index, {short} in the plan's keys); allowed 64")
    for what in ("compute", "find all done"):
        grown = runs[what, many].above - runs[what, few].above
        rest = grown - (entry + short) * (many - few) / 2**20
        print(f"{what}: {grown:.0f} MB more than for {few:,} items, {rest:.0f} beyond the key set; allowed 100")
    last = runs["find all done", many]
    print(f"start-up: {last.seconds:.2f} s and {last.start + last.above:.0f} MB; allowed 5 s and 1,000 MB")


class Measured(NamedTuple):
    """One run: seconds of CPU and of the clock, items, and MB."""

    seconds: float
    wall: float
    found: int
    computed: int
    above: float
    start: float


def measured(place: str, count: int) -> Measured:
    """Run in a process of its own."""
    line = subprocess.run(
        [sys.executable, __file__, "--compute", place, str(count)], capture_output=True, text=True, check=True
    ).stdout.split()
    return Measured(float(line[0]), float(line[1]), int(line[2]), int(line[3]), float(line[4]), float(line[5]))


if __name__ == "__main__":
    main()
