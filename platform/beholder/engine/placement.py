"""Where a stage's workers run: what each asks of its machine, and how stages share a GPU.

Ray places shares of a GPU where they fit tightest, so two workers of a stage that each ask for a quarter would lie on
one card while the next stands idle. So every GPU is held whole by a placement group of its own, a slot; a stage has one
worker in each, and several stages lie in a slot side by side as long as their stated memory fits.
"""

from __future__ import annotations

import fcntl
import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from beholder.engine.environment import worker_environment
from beholder.engine.stage import Stage
from beholder.errors import EngineError

USABLE = 0.95
"""Share of a GPU's memory that stages may state together; the rest is the driver's."""
STEP = 1e-4
"""Ray counts shares of a GPU in ten-thousandths."""
NODE = "ray.io/node-id"
GB = 10**9
SMALL_GB = 2.0
"""Main memory that a machine has for every core: workers that state no more are not counted by it."""


class Needs(Protocol):
    """What a stage may state as `needs`; each part may be missing."""

    @property
    def memory_gb(self) -> float:
        """Main memory of a worker, in 10^9 bytes."""
        ...

    @property
    def gpu_memory_gb(self) -> float:
        """Memory of a GPU at the stage's batch size, in 10^9 bytes."""
        ...

    @property
    def python(self) -> str | None:
        """The Python its workers are started with, where that is not the driver's."""
        ...


@dataclass(frozen=True)
class Demand:
    """What one worker of a stage asks of its machine.

    Attributes
    ----------
    gpu : bool
        Whether it computes on a GPU.
    gpu_memory_gb : float
        What of it; 0 asks for a whole one.
    memory_gb : float
        Main memory to set aside; 0 if the stage does not say, or is small.
    runtime_env : mapping
        As Ray takes it: variables of one thread and one instruction set, and what the stage adds.
    """

    gpu: bool = False
    gpu_memory_gb: float = 0.0
    memory_gb: float = 0.0
    runtime_env: Mapping[str, Any] = field(default_factory=dict)

    def gpu_share(self, gpu_gb: float) -> float:
        """Share of a GPU of `gpu_gb`, in steps that Ray knows; 0 without a GPU.

        Raises
        ------
        EngineError
            If one GPU is too small.
        """
        if not self.gpu:
            return 0.0
        share = self.gpu_memory_gb / (USABLE * gpu_gb) if self.gpu_memory_gb else 1.0
        if share > 1:
            raise EngineError(
                f"the stage states {self.gpu_memory_gb:g} GB of GPU memory",
                f"{USABLE:.0%} of the {gpu_gb:g} GB of a GPU here",
                "a smaller batch size (and its stated memory), or larger GPUs",
            )
        return math.ceil(round(share / STEP, 6)) * STEP


def demand_of(stage: Stage) -> Demand:
    """What a stage asks for, by its optional `needs` and `runtime_env`; a GPU by its identity's `device`, or by memory.

    `needs` is an object with any of `memory_gb`, `gpu_memory_gb` and `python`; `runtime_env()` a mapping as Ray takes
    it (`pip`, `uv`, `py_executable`, `env_vars`, ...). The engine's own variables win over the stage's.
    """
    needs: Needs | None = getattr(stage, "needs", None)
    own = dict(stage.runtime_env()) if hasattr(stage, "runtime_env") else {}
    if python := getattr(needs, "python", None):
        own.setdefault("py_executable", python)
    memory = float(getattr(needs, "memory_gb", 0.0))
    device, gpu_memory = stage.identity().get("device"), float(getattr(needs, "gpu_memory_gb", 0.0))
    return Demand(
        gpu=gpu_memory > 0 if device is None else str(device).startswith("cuda"),
        gpu_memory_gb=gpu_memory,
        memory_gb=memory if memory > SMALL_GB else 0.0,
        runtime_env={**own, "env_vars": {**own.get("env_vars", {}), **worker_environment()}},
    )


def hosts(demand: Demand, machines: Iterable[Mapping[str, float]], *, cores: float = 1.0, memory: float = 1.0) -> int:
    """How many workers the machines' cores (one each) and main memory hold together.

    Parameters
    ----------
    machines : iterable of mapping
        `CPU` and `memory` (bytes) of each, as Ray lists them.
    cores, memory : float
        Share of each machine's that is for them.
    """
    fit = 0
    for machine in machines:
        room = int(cores * machine.get("CPU", 0))
        if demand.memory_gb:
            room = min(room, int(memory * machine.get("memory", 0) // (demand.memory_gb * GB)))
        fit += room
    return fit


@contextmanager
def first_alone(name: str, machine: str, run: str) -> Iterator[None]:
    """Let the first worker on a machine load a stage alone: what it fetches, the others find.

    Parameters
    ----------
    name : str
        The stage's identity.
    machine : str
        Id of the machine in the cluster.
    run : str
        Of whom the workers are: the next driver's first worker goes ahead alone again.
    """
    folder = Path(tempfile.gettempdir()) / f"beholder-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / f"{name[:16]}-{machine[:16]}.loaded").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # the system lets go of it when its holder dies
        file.seek(0)
        if file.read() == run:
            fcntl.flock(file, fcntl.LOCK_UN)
            yield
            return
        yield
        file.truncate(0)
        file.write(run)


class Places(Protocol):
    """Where the next worker of a pool goes."""

    def choose(self, taken: Sequence[int | None], avoided: frozenset[str]) -> tuple[int | None, dict[str, Any]] | None:
        """A slot (None where there are none) and the actor's options; None if nowhere but on avoided machines.

        `taken` are the slots of the pool's other workers.
        """
        ...


class Anywhere:
    """For workers without a GPU: spread over the machines, since shares of cores would else pile up on one."""

    def choose(self, taken: Sequence[int | None], avoided: frozenset[str]) -> tuple[int | None, dict[str, Any]] | None:
        """Anywhere but on the avoided machines; on them only where no other can host it."""
        if not avoided:
            return None, {"scheduling_strategy": "SPREAD"}
        bad = ",".join(sorted(avoided))
        return None, {
            "label_selector": {NODE: f"!in({bad})"},
            "fallback_strategy": [{"label_selector": {NODE: f"in({bad})"}}],
        }


class Slots:
    """The GPUs of a cluster, each held whole; a stage has one worker in each.

    Ray gives them as they become free, or as machines are started.
    """

    def __init__(self) -> None:
        self._groups: list[Any] = []

    def grow(self, count: int) -> None:
        """Hold so many GPUs, at least."""
        from ray.util.placement_group import placement_group

        self._groups += [placement_group([{"GPU": 1}]) for _ in range(count - len(self._groups))]

    def choose(self, taken: Sequence[int | None], avoided: frozenset[str]) -> tuple[int | None, dict[str, Any]] | None:
        """The slot with fewest of the pool's workers; of an avoided machine only while none is at work elsewhere."""
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        machines = [self._machine(slot) if avoided else None for slot in range(len(self._groups))]
        slot = next_slot(machines, taken, avoided)
        if slot is None:
            return None
        strategy = PlacementGroupSchedulingStrategy(self._groups[slot], placement_group_bundle_index=0)
        return slot, {"scheduling_strategy": strategy}

    def _machine(self, slot: int) -> str | None:
        from ray.util.placement_group import placement_group_table

        nodes: Mapping[int, str] = placement_group_table(self._groups[slot]).get("bundles_to_node_id", {})
        return nodes.get(0)

    def close(self) -> None:
        """Give the GPUs back; workers in them die."""
        from ray.util.placement_group import remove_placement_group

        for group in self._groups:
            remove_placement_group(group)
        self._groups = []


def next_slot(machines: Sequence[str | None], taken: Sequence[int | None], avoided: frozenset[str]) -> int | None:
    """The slot for a pool's next worker.

    Parameters
    ----------
    machines : sequence of str or None
        Machine of each slot, None where it is not known (yet).
    taken : sequence of int
        Slots of the pool's other workers.
    avoided : frozenset of str
        Machines that went wrong.

    Returns
    -------
    int or None
        None if all good slots have a worker already: it is better to go on with those.
    """
    load = Counter(taken)
    good = [slot for slot, machine in enumerate(machines) if machine not in avoided]
    if free := [slot for slot in good if not load[slot]]:
        return free[0]
    if avoided and any(load[slot] for slot in good):
        return None
    return min(range(len(machines)), key=lambda slot: (load[slot], slot))
