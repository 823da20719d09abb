"""The backend on Ray: for each stage a pool of actors, kept warm between runs.

A worker asks Ray for a quarter of a core although it uses a whole one. Only one stage of a driver runs at a time, so
four stages' workers can wait side by side with their weights loaded, on as many cores as one stage needs. A steering
round (rewrite, generate, score) then starts no process at all. Stages on GPUs share them by the memory they state.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import uuid4

from beholder.engine.cluster import connect, one_line
from beholder.engine.data_parallel import Gang, processes_of, worker_of
from beholder.engine.dispatch import Dispatch, Pool, original, side_by_side
from beholder.engine.environment import worker_environment
from beholder.engine.inprocess import Outcome, Worker, identity_of, worker_name
from beholder.engine.memory import does_not_fit
from beholder.engine.placement import GB, STEP, Anywhere, Demand, Places, Slots, demand_of, first_alone, hosts
from beholder.engine.stage import Keyed, Source, Stage
from beholder.errors import EngineError
from beholder.store import Store

WARM_POOLS = 4
"""Stages whose workers are kept between runs."""
MANY = 10**6


class _Actor:
    """What runs in a worker's process."""

    def __init__(self, stage: Stage, store: Store, gpu_share: float, run: str, options: Mapping[str, Any]) -> None:
        self._stage, self._store, self._gpu_share, self._run = stage, store, gpu_share, run
        self._options = options
        self._worker: Worker | Gang | None = None

    def start(self) -> tuple[str, str]:
        """Load the stage at the first call; answers with the worker's name and its machine's id in the cluster."""
        import ray

        if not self._store.is_there():
            raise EngineError(
                f"worker {worker_name()} does not see the store {self._store.url}",
                "a folder or bucket that all machines of the cluster share",
                "give --store on a shared file system, or a bucket's URL",
            )
        machine = ray.get_runtime_context().get_node_id()
        if self._worker is None:
            _stay_within(self._gpu_share)
            with first_alone(identity_of(self._stage), machine, self._run):
                self._worker = worker_of(self._stage, self._store, self._options)
        return worker_name(), machine

    def run(self, batch: list[Keyed]) -> list[Outcome]:
        """Outcomes of one batch; errors of items come back as outcomes."""
        return self._started().run(batch)

    def try_out(self, batch: list[Keyed]) -> None:
        """Process one batch and drop what comes out."""
        self._started().try_out(batch)

    def _started(self) -> Worker | Gang:
        if self._worker is None:
            raise RuntimeError("start was not called")
        return self._worker


class RayPool:
    """The backend on Ray. Joins or starts a cluster at the first batch, so that a run with nothing to do needs none.

    Parameters
    ----------
    store : Store
        Must be the same folder on every machine of the cluster; each worker checks that it sees it.
    address : str, optional
        Cluster to join; `RAY_ADDRESS` if not given; without either, a private one is started on this machine.
    workers : int, optional
        Workers of a stage: one for each core if not given, as far as the stage's stated memory allows, or
        one for each GPU where it uses them. With a number, a cluster that starts machines on demand is asked for them.
    gpu_memory_gb : float, optional
        Memory of a GPU of the cluster, in 10^9 bytes; one of them is asked if it is needed and not given.
    patience : float
        Seconds to wait for the first worker: starting machines and loading weights.
    """

    def __init__(
        self,
        store: Store,
        *,
        address: str | None = None,
        workers: int | None = None,
        gpu_memory_gb: float | None = None,
        patience: float = 900.0,
    ) -> None:
        if workers is not None and workers < 1:
            raise EngineError(f"{workers} workers", "1 or more")
        self.store = store
        self._address, self._workers, self._gpu_gb, self._patience = address, workers, gpu_memory_gb, patience
        self._pools: dict[str, Pool] = {}
        self._busy: dict[str, Pool] = {}
        self._slots, self._name = Slots(), uuid4().hex
        self._started: bool | None = None

    def outcomes(
        self, stage: Stage, batches: Iterable[Sequence[Keyed]], count: int
    ) -> Generator[list[Outcome], None, None]:
        """Process the batches; yields outcomes as they come. If stopped early, the stage's workers are killed."""
        given = iter(batches)
        with self._pool_of(stage, count) as pool:
            yield from Dispatch(pool, lambda: next(given, None), self._patience).outcomes()

    def stream(self, parts: Sequence[tuple[Stage, Source]]) -> Generator[tuple[int, list[Outcome]], None, None]:
        """Process the batches of several stages side by side. If stopped early, their workers are killed."""
        wanted = {identity_of(stage) for stage, _ in parts}
        for identity in self._pools.keys() - wanted:  # they would hold the shares of cores that these stages need
            self._pools.pop(identity).close()
        with ExitStack() as stack:
            pools = [stack.enter_context(self._pool_of(stage, None, beside=len(parts))) for stage, _ in parts]
            yield from side_by_side(
                [Dispatch(pool, part[1].take, self._patience) for pool, part in zip(pools, parts, strict=True)]
            )

    def try_out(self, stage: Stage, batch: Sequence[Keyed], *, fresh: bool = True) -> None:
        """Process one batch on one worker; all others are let go, since they may hold the memory it needs.

        A worker that dies counts as one that ran out of memory: that is how a system says so. One that fails is let go.
        """
        import ray

        for identity in self._pools.keys() - (set() if fresh else {identity_of(stage)}):
            self._pools.pop(identity).close()
        try:
            with self._pool_of(stage, 1) as pool:
                worker = pool.first(self._patience)
                ray.get(worker.try_out.remote(list(batch)))
        except ray.exceptions.RayTaskError as error:
            raise original(error) from error
        except ray.exceptions.RayError as error:
            raise does_not_fit(
                stage, f"on {len(batch)} items, as it seems: its worker died", one_line(error)
            ) from error

    @contextmanager
    def _pool_of(self, stage: Stage, count: int | None, beside: int = 1) -> Iterator[Pool]:
        """The stage's workers, at most one a batch; kept warm afterwards unless something went wrong.

        `beside` is the number of stages that share the machines at the same time.
        """
        if self._started is None:
            self._started = connect(self._address, self._workers)
        identity = identity_of(stage)
        demand = demand_of(stage)
        limit = max(1, self._limit(demand, beside) // processes_of(stage))
        size = limit if count is None else min(limit, count)
        pool = self._pools.pop(identity, None) or self._make(stage, demand, size)
        self._busy[identity] = pool
        try:
            pool.ensure(size)
            yield pool
            self._pools[identity] = pool
        finally:
            del self._busy[identity]
            if identity not in self._pools:
                pool.close()

    def close(self) -> None:
        """Kill the workers, and leave the cluster; one that was started here ends."""
        for identity in list(self._pools):
            self._pools.pop(identity).close()
        self._slots.close()
        if self._started:
            import ray

            ray.shutdown()
        self._started = None

    def _limit(self, demand: Demand, beside: int) -> int:
        """Most workers of a stage.

        Raises
        ------
        EngineError
            If nothing in the cluster can host one, and no more machines were asked for.
        """
        import ray

        grows = self._workers is not None and bool(self._address or os.environ.get("RAY_ADDRESS"))
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if demand.gpu:
            gpus = int(sum(machine.get("GPU", 0) for machine in machines))
            if not gpus and not grows:
                raise EngineError(
                    "the stage computes on cuda, and the cluster has no GPU",
                    remedy="set its device to cpu; a cluster that starts machines on demand wants --workers N",
                )
            return min(self._workers or gpus, gpus if not grows else MANY)
        room = hosts(demand, machines, cores=min(1.0, WARM_POOLS / beside), memory=1 / beside)
        if (
            not hosts(demand, machines)
            and demand.memory_gb
            and not grows
            and any(machine.get("CPU") for machine in machines)
        ):
            largest = max(machine.get("memory", 0.0) for machine in machines) / GB
            raise EngineError(
                f"the stage states {demand.memory_gb:g} GB of main memory",
                f"at most the {largest:.1f} GB of the largest machine here",
                "a smaller batch size (and its stated memory), or larger machines",
            )
        return min(self._workers or max(1, room), max(1, room) if not grows else MANY)

    def _make(self, stage: Stage, demand: Demand, size: int) -> Pool:
        """A new pool; warm ones that were used longest ago make room for it."""
        import ray

        share = demand.gpu_share(self._gpu_memory()) if demand.gpu and demand.gpu_memory_gb else float(demand.gpu)
        memory = 0.0 if demand.gpu else demand.memory_gb * GB
        self._make_room(stage, share, memory * size)
        if demand.gpu:
            self._slots.grow(size)
        places: Places = self._slots if demand.gpu else Anywhere()
        asked: dict[str, Any] = {
            "num_cpus": 0 if demand.gpu else 1 / WARM_POOLS,
            "num_gpus": share,
            "memory": memory,
            "max_restarts": 0,
            "runtime_env": dict(demand.runtime_env),
        }
        actor = ray.remote(**asked)(_Actor)

        def make(options: Mapping[str, Any]) -> Any:
            return actor.options(**options).remote(stage, self.store, share, self._name, asked)

        return Pool(make, places, share, memory)

    def _make_room(self, stage: Stage, share: float, memory: float) -> None:
        """Close warm pools while a new one does not fit beside them: four, a whole GPU, the machines' memory.

        Raises
        ------
        EngineError
            If it does not fit beside the pools at work now.
        """
        import ray

        taken = sum(pool.gpus for pool in self._busy.values())
        if share and taken + share > 1 + STEP / 2:
            raise EngineError(
                f"stages side by side state {taken + share:.2f} of a GPU's memory, the last one {stage.name!r}",
                "at most 1",
                "run them one after the other, with smaller batches, or on larger GPUs",
            )
        total = ray.cluster_resources().get("memory", 0.0)
        for identity in list(self._pools):
            pools = [*self._pools.values(), *self._busy.values()]
            if (
                len(self._pools) >= WARM_POOLS
                or (share and share + sum(pool.gpus for pool in pools) > 1 + STEP / 2)
                or (memory and memory + sum(pool.memory * pool.size for pool in pools) > total)
            ):
                self._pools.pop(identity).close()

    def _gpu_memory(self) -> float:
        """Memory of a GPU here, as a worker on one sees it; asked once."""
        import ray

        if self._gpu_gb is None:
            ask = ray.remote(num_cpus=0, num_gpus=STEP, runtime_env={"env_vars": worker_environment()})(_see_gpu)
            try:
                self._gpu_gb = float(ray.get(ask.remote(), timeout=self._patience))
            except ray.exceptions.RayError as error:
                raise EngineError(
                    f"no worker sees a GPU: {one_line(getattr(error, 'cause', None) or error)}",
                    remedy="install torch for CUDA on the GPU machines, or tell the pool its gpu_memory_gb",
                ) from error
        return self._gpu_gb


def _stay_within(share: float) -> None:
    """Let torch take no more of a shared GPU than the stage stated: it runs out itself, and not its neighbours."""
    if 0 < share < 1:
        import torch

        if torch.cuda.is_available():
            torch.cuda.set_per_process_memory_fraction(share)


def _see_gpu() -> float:
    import torch

    return torch.cuda.get_device_properties(0).total_memory / GB
