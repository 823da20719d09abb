"""Stages whose items say what shall happen to them. Importable by Ray's workers through PYTHONPATH (see conftest)."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from beholder.engine.inprocess import InProcess
from beholder.engine.progress import Quiet
from beholder.engine.raypool import RayPool
from beholder.engine.run import Engine
from beholder.engine.stage import Item, Result
from beholder.errors import EngineError, OutOfMemoryError, StoppedError
from beholder.store import Store

BLOCK = 2**30


class Square:
    """Squares `n`, unless the item's `do` asks for mischief. Keeps a log of its calls in the store."""

    version = 1

    def __init__(self, name: str = "square", batch_size: int = 4, fail_setup: str = "") -> None:
        self.name, self.batch_size, self.fail_setup = name, batch_size, fail_setup

    def identity(self) -> Mapping[str, Any]:
        return {"batch_size": self.batch_size, "fail_setup": self.fail_setup}

    def setup(self, store: Store) -> None:
        self.store = store
        note(store, self.name, "setup")
        if self.fail_setup == "raise":
            raise FileNotFoundError("no weights here")
        if self.fail_setup == "die":
            os._exit(3)

    def process(self, items: Sequence[Item]) -> list[Result]:
        assert len(items) <= self.batch_size
        results = [self.one(item) for item in items]
        for item in items:
            note(self.store, self.name, f"item {item['n']}")
        return results[1:] if any(item.get("do") == "lose" for item in items) else results

    def one(self, item: Item) -> Result:
        do = item.get("do")
        if do == "raise" or (do == "raise once" and first_time(self.store, item["_key"])):
            raise ArithmeticError(f"cannot square\n{item['n']}")
        if do == "exit" or (do == "exit once" and first_time(self.store, item["_key"])):
            os._exit(7)
        if do == "broke":
            raise EngineError("the budget of 5 is used up", remedy="raise it")
        if do == "broken worker":
            time.sleep(0.01)
            if is_broken(self.store):
                raise ConnectionError("no route to the device")
        if do == "work":
            time.sleep(0.01)
        if do == "hang":
            wait_for((self.store.root / "go").exists)
        if do == "clash":
            return {"status": "fine"}
        return {"square": float("nan") if do == "nan" else item["n"] ** 2}


class Paying(Square):
    """Pays for every square; where an item would cost more than is left, brings along what is paid for."""

    def process(self, items: Sequence[Item]) -> list[Result]:
        plain = [item for item in items if item.get("do") != "broke"]
        paid = dict(zip([item["n"] for item in plain], super().process(plain), strict=True))
        if len(plain) < len(items):
            broke = EngineError("the budget of 5 is used up", remedy="raise it")
            raise StoppedError(broke, [paid.get(item["n"]) for item in items])
        return list(paid.values())


@dataclass
class Hungry:
    """Pads to its batch size, and runs out of memory above a stated one, or on a huge item, in one of three ways."""

    batch_size: int
    limit: int
    way: str = "python"
    name: str = "hungry"
    version: int = 1
    _loaded: int | None = field(default=None, repr=False)

    def identity(self) -> Mapping[str, Any]:
        return {"batch_size": self.batch_size}

    def setup(self, store: Store) -> None:
        note(store, self.name, f"setup {self.batch_size}")
        if self.limit < 0:
            raise MemoryError("no room for the weights")
        self._loaded = self.batch_size

    def process(self, items: Sequence[Item]) -> list[Result]:
        assert self._loaded == self.batch_size  # nothing left over from another size
        if self.batch_size > self.limit or any(item.get("do") == "huge" for item in items):
            self.run_out()
        return [{"square": item["n"] ** 2} for item in items]

    def run_out(self) -> None:
        if self.way == "exit":
            os._exit(9)
        if self.way == "torch":
            import torch

            raise torch.OutOfMemoryError("CUDA out of memory")
        raise OutOfMemoryError("full") if self.way == "ours" else MemoryError("full")


class Elastic(Hungry):
    """Hungry, but once loaded it can be brought to another batch size."""

    resizable = True

    def resize(self, batch_size: int) -> None:
        assert self._loaded is not None
        self.batch_size = self._loaded = batch_size


@dataclass
class Allocating:
    """Really allocates a block an item of its batch size, in a process that may have `room` blocks and a half more."""

    batch_size: int
    room: int
    name: str = "allocating"
    version: int = 1

    def identity(self) -> Mapping[str, Any]:
        return {"batch_size": self.batch_size}

    def setup(self, store: Store) -> None:
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (int(now + (self.room + 0.5) * BLOCK), resource.RLIM_INFINITY))

    def process(self, items: Sequence[Item]) -> list[Result]:
        block = np.empty(self.batch_size * BLOCK, dtype=np.uint8)  # address space only; nobody touches it
        return [{"bytes": block.nbytes} for _ in items]


class Here(Square):
    """Tells a variable of its worker's environment, which it asks for itself."""

    def __init__(self, variable: str, environment: Mapping[str, Any]) -> None:
        super().__init__("here")
        self.variable, self.environment = variable, environment

    def runtime_env(self) -> Mapping[str, Any]:
        return self.environment

    def one(self, item: Item) -> Result:
        return {"value": os.environ.get(self.variable), "python": sys.executable}


class Fetching(Square):
    """Fetches its weights to its machine if they are not there, which takes a while."""

    def setup(self, store: Store) -> None:
        import ray

        weights = store.root / f"weights-{ray.get_runtime_context().get_node_id()}"
        if not weights.exists():
            note(store, self.name, f"fetch {weights.name}")
            time.sleep(0.5)
            weights.touch()
        super().setup(store)

    def one(self, item: Item) -> Result:
        wait_for(lambda: len(notes(self.store, self.name, "setup")) >= item["meet"])
        return super().one(item)


def wait_for(condition: Callable[[], bool]) -> None:
    """Go on when something has happened; after ten minutes nothing will."""
    end = time.monotonic() + 600
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)


class Where(Square):
    """Tells machine and GPU of its worker. An item waits until `meet` workers have loaded; none succeeds on a machine
    that is in the store as `bad`."""

    def __init__(self, name: str, gpu_gb: float = 0.0, batch_size: int = 2) -> None:
        super().__init__(name, batch_size)
        self.needs = SimpleNamespace(gpu_memory_gb=gpu_gb)

    def setup(self, store: Store) -> None:
        import ray

        self.place = {"machine": ray.get_runtime_context().get_node_id(), "gpu": os.environ.get("CUDA_VISIBLE_DEVICES")}
        note(store, self.name, f"at {self.place['machine']}")
        super().setup(store)

    def one(self, item: Item) -> Result:
        wait_for(lambda: len(notes(self.store, self.name, "setup")) >= item.get("meet", 0))
        if item.get("do") == "bad machine" and self.bad() == self.place["machine"]:
            raise ConnectionError("no route to the device")
        if item.get("do") in ("work", "bad machine"):
            time.sleep(0.02)
        return {"square": item["n"] ** 2, **self.place}

    def bad(self) -> str:
        """The machine of the first worker that ever asked."""
        path = self.store.root / "bad"
        try:
            mark = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            os.write(mark, self.place["machine"].encode())
            os.close(mark)
        except FileExistsError:
            while not path.read_text():
                time.sleep(0.001)
        return path.read_text()


def note(store: Store, name: str, text: str) -> None:
    """One line in the log of what really ran, whoever ran it."""
    log = os.open(store.root / f"{name}.log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.write(log, f"{text}\n".encode())
    os.close(log)


def notes(store: Store, name: str = "square", of: str = "item") -> list[str]:
    """The log's lines that start with `of`, without it."""
    path = store.root / f"{name}.log"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.removeprefix(of).strip() for line in lines if line.startswith(of)]


def first_time(store: Store, key: str) -> bool:
    """True for the one caller that leaves the mark."""
    try:
        os.close(os.open(store.root / f"{key}.mark", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def is_broken(store: Store) -> bool:
    """True in the first process that asks, for as long as it lives."""
    path = store.root / "broken.pid"
    try:
        mark = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return path.read_text() == str(os.getpid())
    os.write(mark, str(os.getpid()).encode())
    os.close(mark)
    return True


class AtBatch(Quiet):
    """Progress that calls a function once, after the n-th batch: a fixed point in the midst of a run."""

    def __init__(self, batch: int, action: Any) -> None:
        self.left, self.action = batch, action

    def stage(self, label: str, total: int, done: int, failed: int) -> Any:
        from contextlib import nullcontext

        return nullcontext(self.advance)

    def advance(self, done: int, failed: int, *_: Any) -> None:
        self.left -= done + failed > 0
        if done + failed and self.left == 0:
            self.action()


def interrupt() -> None:
    """What Ctrl-C does, also where the tests run in the background, which ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)


def working(count: int) -> list[Item]:
    """Items that take ten milliseconds each."""
    return [{"n": n, "do": "work"} for n in range(count)]


def drive(folder: str, kind: str, address: str, workers: str, count: str) -> None:
    """A programme of its own that runs `count` items, for tests that kill it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by what is started in the background
    store = Store(folder)
    backend = InProcess(store) if kind == "inprocess" else RayPool(store, address=address, workers=int(workers))
    with Engine(store, backend, Quiet()) as engine:
        engine.run(Square(), working(int(count)))


if __name__ == "__main__":
    drive(*sys.argv[1:])


@dataclass
class Logged:
    """Cubes `n`; says in a log of the store which process begins which batch. `seconds` changes no result."""

    batch_size: int
    seconds: float = 0.01
    name: str = "logged"
    version: int = 1
    _store: Store | None = field(default=None, repr=False)

    def identity(self) -> Mapping[str, Any]:
        return {"batch_size": self.batch_size}

    def setup(self, store: Store) -> None:
        self._store = store

    def process(self, items: Sequence[Item]) -> list[Result]:
        assert self._store is not None
        note(self._store, self.name, f"{os.getpid()} {items[0]['n']}")
        time.sleep(self.seconds * len(items))
        return [{"cube": item["n"] ** 3} for item in items]
