"""Running batches on Ray: a thin dispatcher over actors that are kept warm, one pool a stage.

Ray restarts nothing here (`max_restarts=0`): a restart would hide which batch was running when a worker died.

A worker asks Ray for a quarter of a core although it uses a whole one. Only one stage of a driver runs at a time, so
four stages' workers can wait side by side with their weights loaded, on as many cores as one stage needs. A steering
round (rewrite, generate, score) then starts no process at all.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from beholder.engine.environment import worker_environment
from beholder.engine.inprocess import Outcome, identity_of, run_batch, worker_name
from beholder.engine.stage import Keyed, Stage
from beholder.errors import EngineError
from beholder.store import Store

IN_FLIGHT = 2
"""Batches with one worker: the next one waits there, so that the worker does not wait for the driver."""
DEATHS_ALONE = 2
"""An item that was alone with its worker this often when it died is put in quarantine."""
STARTS = 3
"""So many workers dying one after the other while they load stop the run."""
WARM_POOLS = 4
"""Stages whose workers are kept between runs."""
OBJECT_STORE_BYTES = 200 * 2**20


class _Actor:
    """What runs in a worker's process."""

    def __init__(self, stage: Stage, store: Store) -> None:
        self._stage, self._store, self._ready = stage, store, False

    def start(self) -> str:
        """Load the stage at the first call; answers with the worker's name."""
        if not (self._store.root / "store.json").exists():
            raise EngineError(
                f"worker {worker_name()} does not see the store {self._store.root}",
                "a folder that all machines of the cluster share",
                "give --store on a shared file system",
            )
        if not self._ready:
            self._stage.setup(self._store)
            self._ready = True
        return worker_name()

    def run(self, batch: list[Keyed]) -> list[Outcome]:
        """Outcomes of one batch; errors of items come back as outcomes."""
        return run_batch(self._stage, batch)


@dataclass(frozen=True)
class Work:
    """A batch, or what is left of one after a death."""

    batch: Sequence[Keyed]
    deaths: int = 0


@dataclass(eq=False)
class Worker:
    """The driver's view of an actor: the batches it has, in the order in which it runs them."""

    handle: Any
    name: str | None = None
    flight: deque[tuple[Any, Work]] = field(default_factory=deque)


class Pool:
    """The actors of one stage: those that answered, and those still loading."""

    def __init__(self, stage: Stage, store: Store, gpus: float) -> None:
        import ray

        self._new = ray.remote(
            num_cpus=1 / WARM_POOLS,
            num_gpus=gpus,
            max_restarts=0,
            scheduling_strategy="SPREAD",  # shares of cores would else pile up on one machine
            runtime_env={"env_vars": worker_environment()},
        )(_Actor)
        self._stage, self._store, self.gpus = stage, store, gpus
        self.workers: list[Worker] = []
        self.starting: dict[Any, Worker] = {}

    @property
    def size(self) -> int:
        """Workers asked for, loaded or not."""
        return len(self.workers) + len(self.starting)

    def spawn(self) -> None:
        """Ask Ray for one more worker; it counts once its `start` has answered."""
        worker = Worker(self._new.remote(self._stage, self._store))
        self.starting[worker.handle.start.remote()] = worker

    def ensure(self, size: int) -> None:
        """Ask the workers kept from earlier runs whether they are alive, and for as many new ones as are missing."""
        for worker in self.workers:
            self.starting[worker.handle.start.remote()] = worker
        self.workers = []
        while len(self.starting) < size:
            self.spawn()

    def drop(self, worker: Worker) -> None:
        """Make sure a worker is gone."""
        import ray

        if worker in self.workers:
            self.workers.remove(worker)
        with contextlib.suppress(Exception):  # it is dead already, or Ray itself is
            ray.kill(worker.handle, no_restart=True)

    def close(self) -> None:
        """Kill all workers."""
        for worker in [*self.workers, *self.starting.values()]:
            self.drop(worker)
        self.starting.clear()


class Dispatch:
    """One run over one pool: who has which batch, and what is left to do."""

    def __init__(self, pool: Pool, batches: Sequence[Sequence[Keyed]], patience: float) -> None:
        self._pool, self._patience = pool, patience
        self._queue = deque(Work(batch) for batch in batches)
        self._refs: dict[Any, Worker] = {}
        self._failed_starts = 0

    def outcomes(self) -> Generator[list[Outcome], None, None]:
        """Hand out batches until all have come back."""
        import ray

        while self._queue or self._refs:
            waiting = [*self._refs, *self._pool.starting]
            done, _ = ray.wait(waiting, num_returns=1, timeout=self._patience)
            if not done and not self._pool.workers:
                raise EngineError(
                    f"no worker was ready within {self._patience:.0f} s",
                    remedy=f"the cluster has {_resources()}; ask for fewer workers or add machines",
                )
            for ref in done:
                if ref in self._pool.starting:
                    self._admit(ref)
                elif outcomes := self._collect(ref):
                    yield outcomes

    def _admit(self, ref: Any) -> None:
        """Take a worker into service once it answered: one that no machine can host is never given a batch."""
        import ray

        worker = self._pool.starting.pop(ref)
        was_warm = worker.name is not None
        try:
            worker.name = ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            raise _original(error) from error
        except ray.exceptions.RayError as error:
            self._failed_starts += not was_warm
            if self._failed_starts >= STARTS:
                raise EngineError(
                    f"{STARTS} workers died while they loaded the stage: {_reason(error)}",
                    remedy="memory for the weights? Try fewer workers, or --in-process to see the error itself",
                ) from error
            self._pool.drop(worker)
            self._pool.spawn()
            return
        self._failed_starts = 0
        self._pool.workers.append(worker)
        self._feed()

    def _feed(self) -> None:
        """Give batches out, first one to each free worker. A second waits there only while there are plenty."""
        for depth in range(1, IN_FLIGHT + 1):
            for worker in self._pool.workers:
                plenty = depth == 1 or len(self._queue) > self._pool.size
                if self._queue and plenty and len(worker.flight) < depth:
                    work = self._queue.popleft()
                    ref = worker.handle.run.remote(list(work.batch))
                    worker.flight.append((ref, work))
                    self._refs[ref] = worker

    def _collect(self, ref: Any) -> list[Outcome]:
        import ray

        worker = self._refs[ref]
        try:
            outcomes = ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            raise _original(error) from error
        except ray.exceptions.RayError as error:
            outcomes = self._bury(worker, error)
        else:
            del self._refs[ref]
            worker.flight = deque(entry for entry in worker.flight if entry[0] != ref)
        self._feed()
        return outcomes

    def _bury(self, worker: Worker, error: Exception) -> list[Outcome]:
        """Replace a dead worker. The first of its batches without an answer was running; the others are innocent."""
        import ray

        self._pool.drop(worker)
        self._pool.spawn()
        outcomes, unanswered = [], []
        for ref, work in worker.flight:
            del self._refs[ref]
            try:
                outcomes += ray.get(ref)
            except ray.exceptions.RayTaskError as broken:
                raise _original(broken) from broken
            except ray.exceptions.RayError:
                unanswered.append(work)
        suspect, *innocent = unanswered
        self._queue.extendleft(reversed(innocent))
        return outcomes + self._blame(suspect, worker, error)

    def _blame(self, work: Work, worker: Worker, error: Exception) -> list[Outcome]:
        """Halve the batch that was running, strike an item that was alone, quarantine it at the second strike.

        Halving keeps the price of an innocent death (a machine taken away) at two calls instead of one an item.
        """
        half, deaths = len(work.batch) // 2, work.deaths + 1
        if half:
            self._queue.extendleft([Work(work.batch[half:]), Work(work.batch[:half])])
            return []
        if deaths < DEATHS_ALONE:
            self._queue.appendleft(Work(work.batch, deaths))
            return []
        text = f"WorkerDied: {DEATHS_ALONE} times alone with this item: {_reason(error)}"
        return [Outcome(work.batch[0].key, None, text, 0.0, worker.name or "?", "")]


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

    def outcomes(self, stage: Stage, batches: Sequence[Sequence[Keyed]]) -> Generator[list[Outcome], None, None]:
        """Process the batches; yields outcomes as they come. If stopped early, the stage's workers are killed."""
        if self._started is None:
            self._started = connect(self._address, self._workers)
        identity = identity_of(stage)
        gpus = self._gpus if str(stage.identity().get("device", "cpu")).startswith("cuda") else 0.0
        size = min(self._limit(gpus), len(batches))
        pool = self._pools.pop(identity, None) or self._make(stage, gpus, size)
        try:
            pool.ensure(size)
            yield from Dispatch(pool, batches, self._patience).outcomes()
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
        return Pool(stage, self.store, gpus)


def connect(address: str | None, workers: int | None) -> bool:
    """Join a Ray cluster, or start a private one. Returns whether Ray was started or joined here.

    A private cluster listens on all interfaces, and whoever reaches it may run code. So unless the user chose
    otherwise by `RAY_AUTH_MODE`, it asks for a token, which is made for this process and written nowhere.

    Raises
    ------
    EngineError
        If there is no cluster at the address.
    """
    import ray

    if ray.is_initialized():
        return False
    address = address or os.environ.get("RAY_ADDRESS")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None or address == "local":
        if "RAY_AUTH_MODE" not in os.environ:
            os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        cores = workers or len(os.sched_getaffinity(0))
        ray.init("local", num_cpus=cores, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **quiet)
        return True
    try:
        ray.init(address, runtime_env=_code(), **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise EngineError(
            f"no Ray cluster at {address!r}: {_reason(error)}",
            remedy="start one with `ray start --head`, give another --address, or leave it out for a private one; "
            "RAY_AUTH_MODE and RAY_AUTH_TOKEN must be those of the cluster",
        ) from error
    return True


def _code() -> dict[str, Any]:
    """Our packages for the workers, unless the job was submitted, with its own copy of them."""
    import analysis
    import beholder

    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        return {}
    return {"py_modules": [str(Path(str(package.__file__)).parent) for package in (beholder, analysis)]}


def _original(error: Any) -> BaseException:
    """The error as the worker raised it, where it could be sent."""
    return error.cause if isinstance(error.cause, Exception) else error


def _reason(error: BaseException) -> str:
    """Ray's own account of a death, which it gives after a line of boilerplate."""
    text = " ".join(str(error).split())
    for mark in ("Worker exit detail:", "The actor died because"):
        if mark in text:
            text = text[text.index(mark) + len(mark) :].strip()
    return text[:200]


def _resources() -> str:
    import ray

    return ", ".join(f"{value:g} {name}" for name, value in ray.cluster_resources().items() if name in ("CPU", "GPU"))
