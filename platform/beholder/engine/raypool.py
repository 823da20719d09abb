"""The backend on Ray: for each stage a pool of actors, kept warm between runs.

A worker asks Ray for a quarter of a core although it uses a whole one. Only one stage of a driver runs at a time, so
four stages' workers can wait side by side with their weights loaded, on as many cores as one stage needs. A steering
round (rewrite, generate, score) then starts no process at all.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from beholder.engine.cluster import connect
from beholder.engine.dispatch import Dispatch, Pool, side_by_side
from beholder.engine.environment import worker_environment
from beholder.engine.inprocess import Outcome, identity_of, run_batch, worker_name
from beholder.engine.stage import Keyed, Source, Stage
from beholder.errors import EngineError
from beholder.store import Store

WARM_POOLS = 4
"""Stages whose workers are kept between runs."""


class _Actor:
    """What runs in a worker's process."""

    def __init__(self, stage: Stage, store: Store) -> None:
        self._stage, self._store, self._ready = stage, store, False

    def start(self) -> tuple[str, str]:
        """Load the stage at the first call; answers with the worker's name and its machine's id in the cluster."""
        import ray

        if not (self._store.root / "store.json").exists():
            raise EngineError(
                f"worker {worker_name()} does not see the store {self._store.root}",
                "a folder that all machines of the cluster share",
                "give --store on a shared file system",
            )
        if not self._ready:
            self._stage.setup(self._store)
            self._ready = True
        return worker_name(), ray.get_runtime_context().get_node_id()

    def run(self, batch: list[Keyed]) -> list[Outcome]:
        """Outcomes of one batch; errors of items come back as outcomes."""
        return run_batch(self._stage, batch)


class RayPool:
    """The backend on Ray. Joins or starts a cluster at the first batch, so that a run with nothing to do needs none.

    Parameters
    ----------
    store : Store
        Must be the same folder on every machine of the cluster; each worker checks that it sees it.
    address : str, optional
        Cluster to join; `RAY_ADDRESS` if not given; without either, a private one is started on this machine.
    workers : int, optional
        Workers of a stage: one for each core of the cluster if not given, or for each GPU where a stage uses them.
    gpus_per_worker : float
        For stages whose identity has a `device` that starts with "cuda". Several may share a GPU, as 0.5 does.
    patience : float
        Seconds to wait for the first worker: starting machines and loading weights.
    """

    def __init__(
        self,
        store: Store,
        *,
        address: str | None = None,
        workers: int | None = None,
        gpus_per_worker: float = 1.0,
        patience: float = 900.0,
    ) -> None:
        if workers is not None and workers < 1:
            raise EngineError(f"{workers} workers", "1 or more")
        self.store = store
        self._address, self._workers, self._gpus, self._patience = address, workers, gpus_per_worker, patience
        self._pools: dict[str, Pool] = {}
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
            pools = [stack.enter_context(self._pool_of(stage, None)) for stage, _ in parts]
            yield from side_by_side(
                [Dispatch(pool, part[1].take, self._patience) for pool, part in zip(pools, parts, strict=True)]
            )

    @contextmanager
    def _pool_of(self, stage: Stage, count: int | None) -> Iterator[Pool]:
        """The stage's workers, at most one a batch; kept warm afterwards unless something went wrong."""
        if self._started is None:
            self._started = connect(self._address, self._workers)
        identity = identity_of(stage)
        gpus = self._gpus if str(stage.identity().get("device", "cpu")).startswith("cuda") else 0.0
        size = self._limit(gpus) if count is None else min(self._limit(gpus), count)
        pool = self._pools.pop(identity, None) or self._make(stage, gpus, size)
        try:
            pool.ensure(size)
            yield pool
            self._pools[identity] = pool
        finally:
            if identity not in self._pools:
                pool.close()

    def close(self) -> None:
        """Kill the workers, and leave the cluster; one that was started here ends."""
        for identity in list(self._pools):
            self._pools.pop(identity).close()
        if self._started:
            import ray

            ray.shutdown()
        self._started = None

    def _limit(self, gpus: float) -> int:
        """Most workers of a stage."""
        import ray

        resources = ray.cluster_resources()
        if gpus and not resources.get("GPU"):
            raise EngineError("the stage computes on cuda, and the cluster has no GPU", remedy="set its device to cpu")
        return self._workers or max(1, int(resources["GPU"] / gpus if gpus else resources["CPU"]))

    def _make(self, stage: Stage, gpus: float, size: int) -> Pool:
        """A new pool; the ones used longest ago make room: at most four, and no more GPUs than there are."""
        import ray

        free = ray.cluster_resources().get("GPU", 0.0) - sum(pool.gpus * pool.size for pool in self._pools.values())
        for identity, pool in list(self._pools.items()):
            if len(self._pools) >= WARM_POOLS or (pool.gpus and free < gpus * size):
                free += pool.gpus * pool.size
                self._pools.pop(identity).close()
        actor = ray.remote(
            num_cpus=1 / WARM_POOLS, num_gpus=gpus, max_restarts=0, runtime_env={"env_vars": worker_environment()}
        )(_Actor)
        return Pool(
            lambda avoided: actor.options(scheduling_strategy=_placement(avoided)).remote(stage, self.store), gpus
        )


def _placement(avoided: frozenset[str]) -> Any:
    """Spread over the machines (shares of cores would else pile up on one), or on one that is not avoided."""
    import ray

    if avoided:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        others = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeID"] not in avoided]
        if others:
            return NodeAffinitySchedulingStrategy(min(others), soft=True)
    return "SPREAD"
