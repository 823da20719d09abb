"""One run over the workers of one stage: who has which batch, and what becomes of it when a worker dies.

Ray restarts nothing here (`max_restarts=0`): a restart would hide which batch was running when a worker died.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from beholder.engine.cluster import one_line, resources
from beholder.engine.inprocess import Outcome
from beholder.engine.placement import Places
from beholder.engine.stage import Keyed
from beholder.errors import EngineError

IN_FLIGHT = 2
"""Batches with one worker: the next one waits there, so that the worker does not wait for the driver."""
DEATHS_ALONE = 2
"""An item that was alone with its worker this often when it died is put in quarantine."""
FAILURES_IN_A_ROW = 3
"""A worker none of whose items succeeded in so many batches in a row is replaced: something is wrong there."""
TICK = 2.0
"""Seconds after which whoever waits for outcomes is asked whether to go on waiting."""
STARTS = 3
"""So many workers dying one after the other while they load stop the run."""
MACHINE_LOST = "its node has died"
"""How Ray says that a worker went down with its machine; its errors have no field that says so."""


@dataclass(frozen=True)
class Work:
    """A batch, or what is left of one after a death."""

    batch: Sequence[Keyed]
    deaths: int = 0
    suspect: bool = False
    """Whether a worker died with it. It shares no worker with another batch until it has come back: a death during the
    next one can swallow the answer of one that was finished, and would be counted against it."""


@dataclass(eq=False)
class Worker:
    """The driver's view of an actor: the batches it has, in the order in which it runs them."""

    handle: Any
    slot: int | None = None
    """The GPU slot it lies in."""
    name: str | None = None
    node: str | None = None
    failures: int = 0
    """Batches in a row without a single result."""
    flight: deque[tuple[Any, Work]] = field(default_factory=deque)


class Pool:
    """The actors of one stage: those that answered, and those still loading.

    Parameters
    ----------
    make : callable
        Makes an actor with the options given.
    places : Places
    gpus : float
        Share of a GPU of each actor.
    memory : float
        Main memory of each, in bytes.
    """

    def __init__(
        self, make: Callable[[Mapping[str, Any]], Any], places: Places, gpus: float = 0.0, memory: float = 0.0
    ) -> None:
        self._make, self._places = make, places
        self.gpus, self.memory = gpus, memory
        self.avoided: set[str] = set()
        """Machines on which a worker went wrong; new ones are sent elsewhere, where there is an elsewhere."""
        self.workers: list[Worker] = []
        self.starting: dict[Any, Worker] = {}

    @property
    def size(self) -> int:
        """Workers asked for, loaded or not."""
        return len(self.workers) + len(self.starting)

    def spawn(self) -> None:
        """Ask Ray for one more worker, if there is a place for it; it counts once its `start` has answered."""
        taken = [worker.slot for worker in [*self.workers, *self.starting.values()]]
        if place := self._places.choose(taken, frozenset(self.avoided)):
            slot, options = place
            worker = Worker(self._make(options), slot)
            self.starting[worker.handle.start.remote()] = worker

    def ensure(self, size: int) -> None:
        """Ask the workers kept from earlier runs whether they are alive, and for as many new ones as are missing."""
        for worker in self.workers:
            self.starting[worker.handle.start.remote()] = worker
        self.workers = []
        for _ in range(size - len(self.starting)):
            self.spawn()

    def drop(self, worker: Worker) -> None:
        """Make sure a worker is gone."""
        import ray

        if worker in self.workers:
            self.workers.remove(worker)
        with contextlib.suppress(Exception):  # it is dead already, or Ray itself is
            ray.kill(worker.handle, no_restart=True)

    def first(self, patience: float) -> Any:
        """The first worker, once it is ready.

        Raises
        ------
        EngineError
            If none is in time; else as the worker raised it while loading, or Ray's error if it died.
        """
        import ray

        ready, _ = ray.wait(list(self.starting), num_returns=1, timeout=patience)
        if not ready:
            raise no_worker(patience)
        ray.get(ready[0])
        return self.starting[ready[0]].handle

    def close(self) -> None:
        """Kill all workers."""
        for worker in [*self.workers, *self.starting.values()]:
            self.drop(worker)
        self.starting.clear()


class Dispatch:
    """One run over one pool: who has which batch, and what is left to do."""

    def __init__(self, pool: Pool, take: Callable[[], Sequence[Keyed] | None], patience: float) -> None:
        self._pool, self._patience = pool, patience
        self._take = take
        self._queue: deque[Work] = deque()
        self._refs: dict[Any, Worker] = {}
        self._failed_starts = 0

    def outcomes(self) -> Generator[list[Outcome], None, None]:
        """Hand out batches until all have come back."""
        for _, outcomes in side_by_side([self]):
            yield outcomes

    def waiting(self) -> list[Any]:
        """What Ray will answer next: batches under way, and workers that load while there is work for them."""
        self.feed()
        return [*self._refs, *self._pool.starting] if self._queue or self._refs else []

    def answer(self, ref: Any) -> list[Outcome] | None:
        """Deal with one answer; None if it belongs to somebody else."""
        if ref in self._pool.starting:
            self._admit(ref)
            return []
        return self._collect(ref) if ref in self._refs else None

    def require_worker(self) -> None:
        """Raise if nobody came into service in all the time that one is waited for."""
        if not self._pool.workers:
            raise no_worker(self._patience)

    def _admit(self, ref: Any) -> None:
        """Take a worker into service once it answered: one that no machine can host is never given a batch."""
        import ray

        worker = self._pool.starting.pop(ref)
        was_warm = worker.name is not None
        try:
            worker.name, worker.node = ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            raise original(error) from error
        except ray.exceptions.RayError as error:
            # New workers may still be sent to a machine that is gone already: its loss says nothing of the stage.
            self._failed_starts += not (was_warm or MACHINE_LOST in str(error))
            if self._failed_starts >= STARTS:
                raise EngineError(
                    f"{STARTS} workers died while they loaded the stage: {one_line(error)}",
                    remedy="memory for the weights? Try fewer workers, or --in-process to see the error itself",
                ) from error
            self._pool.drop(worker)
            self._pool.spawn()
            return
        self._failed_starts = 0
        self._pool.workers.append(worker)
        self.feed()

    def _refill(self) -> None:
        """Take new batches, never more than the workers can hold: the plan may be longer than memory."""
        while len(self._queue) <= (IN_FLIGHT + 1) * self._pool.size and (batch := self._take()):
            self._queue.append(Work(batch))

    def feed(self) -> None:
        """Give batches out, first one to each free worker. A second waits there only while there are plenty."""
        self._refill()
        for depth in range(1, IN_FLIGHT + 1):
            for worker in self._pool.workers:
                plenty = depth == 1 or len(self._queue) > self._pool.size
                if self._queue and plenty and len(worker.flight) < depth and self._may_join(worker):
                    work = self._queue.popleft()
                    ref = worker.handle.run.remote(list(work.batch))
                    worker.flight.append((ref, work))
                    self._refs[ref] = worker

    def _may_join(self, worker: Worker) -> bool:
        """Whether the next batch may wait behind what the worker has."""
        return not worker.flight or not (self._queue[0].suspect or any(work.suspect for _, work in worker.flight))

    def _collect(self, ref: Any) -> list[Outcome]:
        import ray

        worker = self._refs[ref]
        try:
            outcomes = ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            raise original(error) from error
        except ray.exceptions.RayError as error:
            outcomes = self._bury(worker, error)
        else:
            del self._refs[ref]
            worker.flight = deque(entry for entry in worker.flight if entry[0] != ref)
            self._judge(worker, outcomes)
        self.feed()
        return outcomes

    def _judge(self, worker: Worker, outcomes: Sequence[Outcome]) -> None:
        """Replace a worker that only fails while others may not; its machine is avoided. Its next batch goes to them.

        Where everything fails everywhere this changes nothing, and the limit of failed items ends the run.
        """
        if all(outcome.refused for outcome in outcomes):  # it was not even tried
            return
        worker.failures = 0 if any(outcome.result is not None for outcome in outcomes) else worker.failures + 1
        if worker.failures < FAILURES_IN_A_ROW:
            return
        for ref, work in reversed(worker.flight):
            del self._refs[ref]
            self._queue.appendleft(work)
        worker.flight.clear()
        self._pool.drop(worker)
        if worker.node:
            self._pool.avoided.add(worker.node)
        self._pool.spawn()

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
                raise original(broken) from broken
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
            self._queue.extendleft([Work(part, suspect=True) for part in (work.batch[half:], work.batch[:half])])
            return []
        if deaths < DEATHS_ALONE:
            self._queue.appendleft(Work(work.batch, deaths, suspect=True))
            return []
        text = f"WorkerDied: {DEATHS_ALONE} times alone with this item: {one_line(error)}"
        return [Outcome(work.batch[0].key, None, text, 0.0, worker.name or "?", "?")]


def side_by_side(dispatches: Sequence[Dispatch]) -> Generator[tuple[int, list[Outcome]], None, None]:
    """Outcomes of several stages' runs as they come, with the number of the run; ends when none has anything left.

    Now and then an empty list while none come: the consumer can obey a wish to cancel although a batch hangs.
    """
    import ray

    patience, silent = max(dispatch._patience for dispatch in dispatches), 0.0
    while waiting := [ref for dispatch in dispatches for ref in dispatch.waiting()]:
        done, _ = ray.wait(waiting, num_returns=1, timeout=min(TICK, patience))
        silent = 0.0 if done else silent + TICK
        if silent >= patience:
            for dispatch in dispatches:
                dispatch.require_worker()
        if not done:
            yield 0, []
        for ref in done:
            for number, dispatch in enumerate(dispatches):
                if (outcomes := dispatch.answer(ref)) is not None:
                    if outcomes:
                        yield number, outcomes
                    break


def no_worker(patience: float) -> EngineError:
    """The error of a stage that nobody could be found for."""
    return EngineError(
        f"no worker was ready within {patience:.0f} s",
        remedy=f"the cluster has {resources()}; ask for fewer workers or add machines",
    )


def original(error: Any) -> BaseException:
    """The error as the worker raised it, where it could be sent."""
    return error.cause if isinstance(error.cause, Exception) else error
