"""One item by several processes at once: data-parallel training for stages that can share a batch out.

A stage says how many `processes` work on an item, and its `join` is given the group before `setup`. The worker that the
engine sees is the first of them; it starts the others as actors of its own, so what is done about a dead worker, a full
machine or a bad item stays as it is. All processes get every item; only the first one's outcomes count, and what the
others found must be the same. torch.distributed sums the tensors: gloo on CPUs, NCCL on GPUs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, cast, runtime_checkable

from beholder.engine.cluster import one_line, resources
from beholder.engine.dispatch import original
from beholder.engine.inprocess import Outcome, Worker
from beholder.engine.placement import demand_of
from beholder.engine.stage import Keyed, Stage
from beholder.errors import EngineError
from beholder.store import Store

if TYPE_CHECKING:
    import torch

PATIENCE = 600.0
"""Seconds to wait for the other processes: to start, and in one sum."""


class GroupError(RuntimeError):
    """A process of the group is gone, or did not answer in time: no property of an item."""


class TorchGroup:
    """Processes that add up tensors.

    Parameters
    ----------
    rank, size : int
        Number of this process, and of all.
    host, port : str, int
        Where the first process waits for the others; it takes a free port if given 0.
    gpu : bool
        Whether tensors lie on GPUs, one a process.
    """

    def __init__(self, rank: int, size: int, host: str, port: int, *, gpu: bool) -> None:
        import torch.distributed as dist

        patience = timedelta(seconds=PATIENCE)
        self.rank, self.size = rank, size
        self._meeting = dist.TCPStore(  # type: ignore[attr-defined]  # documented, but not in the module's __all__
            host, port, size, rank == 0, patience, wait_for_workers=False
        )
        self._backend = "nccl" if gpu else "gloo"

    @property
    def port(self) -> int:
        """Where the first process waits."""
        return int(self._meeting.port)

    def meet(self) -> None:
        """Wait until all processes are there."""
        import torch.distributed as dist

        patience = timedelta(seconds=PATIENCE)
        dist.init_process_group(
            self._backend, store=self._meeting, rank=self.rank, world_size=self.size, timeout=patience
        )

    def add(self, tensors: Sequence[torch.Tensor]) -> None:
        """Put the sum over all processes in place of each tensor; they have one device and one type.

        Every process gets the same bits.

        Raises
        ------
        GroupError
            If another process is gone or does not answer.
        """
        import torch
        import torch.distributed as dist

        together = torch.cat([tensor.reshape(-1) for tensor in tensors])
        try:
            dist.all_reduce(together)
        except (RuntimeError, ValueError) as error:  # ValueError: this process has left the group
            raise GroupError(one_line(error)) from error
        start = 0
        for tensor in tensors:
            tensor.copy_(together[start : start + tensor.numel()].view_as(tensor))
            start += tensor.numel()

    def leave(self) -> None:
        """Leave, so that nobody waits for this process; nothing if it never met the others."""
        import torch.distributed as dist

        if dist.is_initialized():
            dist.destroy_process_group()


@runtime_checkable
class Shared(Protocol):
    """What a stage has whose items several processes share."""

    processes: int

    def join(self, group: TorchGroup) -> None:
        """Be told of the group before the next item."""
        ...


def processes_of(stage: Stage) -> int:
    """How many processes work on an item of this stage."""
    return stage.processes if isinstance(stage, Shared) else 1


class Follower:
    """What runs in the processes of a group other than the first."""

    def __init__(self, stage: Stage, store: Store, rank: int) -> None:
        self._stage, self._store, self._rank = stage, store, rank
        self._group: TorchGroup | None = None
        self._worker: Worker | None = None

    def ready(self) -> None:
        """Answers once the process runs."""

    def meet(self, host: str, port: int) -> None:
        """Join the group, and load the stage."""
        self._group = _group_of(self._stage, self._rank, host, port)
        self._group.meet()
        self._worker = self._worker or Worker(self._stage, self._store)

    def run(self, batch: list[Keyed]) -> list[Outcome]:
        """Do this process's part of a batch; leaves the group if that fails, or the others would wait."""
        if self._worker is None or self._group is None:
            raise RuntimeError("meet was not called")
        return _leaving(self._group, self._worker, batch)


class Gang:
    """The first process of a group, with the interface of `beholder.engine.inprocess.Worker`.

    Parameters
    ----------
    stage : Stage
        One that is `Shared`, with a batch size of 1.
    store : Store
    options : mapping
        What Ray is asked for each of the other processes: what it was asked for this one.
    """

    def __init__(self, stage: Stage, store: Store, options: Mapping[str, Any]) -> None:
        if stage.batch_size != 1:
            raise ValueError(f"stage {stage.name!r} shares batches of {stage.batch_size}: 1 is what can be shared")
        import ray

        self._sent = ray.put(stage)  # as it is now: what has joined a group and loaded cannot be sent
        self._stage, self._store, self._options = stage, store, dict(options)
        self._group: TorchGroup | None = None
        self._worker: Worker | None = None
        self._followers: list[Any] = []
        self._gather()

    def run(self, batch: Sequence[Keyed]) -> list[Outcome]:
        """Outcomes of one batch. Ends this process, to be replaced, if another one of the group is gone.

        Raises
        ------
        EngineError
            If the processes found different results.
        """
        group, worker = self._gather()
        calls = [follower.run.remote(list(batch)) for follower in self._followers]
        mine = _leaving(group, worker, batch)
        theirs = self._answers(calls)
        failed = [o for outcomes in (mine, *theirs) for o in outcomes if o.result is None and not o.refused]
        if not failed:
            for outcomes in theirs:
                if [o.result for o in outcomes] != [o.result for o in mine]:
                    raise EngineError(f"processes of one group found different results of stage {self._stage.name!r}")
            return mine
        self._dissolve()
        causes = [o for o in failed if not str(o.error).startswith(GroupError.__name__)]
        if not causes:
            _die()
        return causes[:1]

    def try_out(self, batch: Sequence[Keyed]) -> None:
        """Process one batch and drop what comes out."""
        group, worker = self._gather()
        calls = [follower.run.remote(list(batch)) for follower in self._followers]
        try:
            worker.try_out(batch)
        finally:
            group.leave()
            self._answers(calls)
            self._dissolve()

    def _gather(self) -> tuple[TorchGroup, Worker]:
        """The group and this process's worker; made anew after a failure.

        Raises
        ------
        EngineError
            If the cluster has no room for the other processes.
        """
        import ray

        if self._group is not None and self._worker is not None:
            return self._group, self._worker
        size = processes_of(self._stage)
        make = ray.remote(**self._options)(Follower)
        self._followers = [make.remote(self._sent, self._store, rank) for rank in range(1, size)]
        host = ray.util.get_node_ip_address()
        try:
            ray.get([follower.ready.remote() for follower in self._followers], timeout=PATIENCE)
        except ray.exceptions.GetTimeoutError as error:
            raise EngineError(
                f"{size} processes for an item of stage {self._stage.name!r} were not ready in {PATIENCE:.0f} s",
                remedy=f"the cluster has {resources()}; ask for fewer processes or add machines",
            ) from error
        self._group = _group_of(self._stage, 0, host, 0)
        calls = [follower.meet.remote(host, self._group.port) for follower in self._followers]
        self._group.meet()
        self._worker = self._worker or Worker(self._stage, self._store)
        self._answers(calls)
        return self._group, self._worker

    def _answers(self, calls: Sequence[Any]) -> list[Any]:
        """What the other processes answer; if one is gone, so is this one."""
        import ray

        try:
            return list(ray.get(list(calls), timeout=PATIENCE))
        except ray.exceptions.RayTaskError as error:
            self._dissolve()
            raise original(error) from error
        except ray.exceptions.RayError:
            _die()

    def _dissolve(self) -> None:
        import ray

        if self._group is not None:
            self._group.leave()
        for follower in self._followers:
            ray.kill(follower, no_restart=True)
        self._group, self._followers = None, []


def worker_of(stage: Stage, store: Store, options: Mapping[str, Any]) -> Worker | Gang:
    """Who does the work of a worker's process: the process alone, or a group that it leads."""
    return Gang(stage, store, options) if processes_of(stage) > 1 else Worker(stage, store)


def _group_of(stage: Stage, rank: int, host: str, port: int) -> TorchGroup:
    """A group that the stage has joined."""
    group = TorchGroup(rank, processes_of(stage), host, port, gpu=demand_of(stage).gpu)
    cast(Shared, stage).join(group)
    return group


def _leaving(group: TorchGroup, worker: Worker, batch: Sequence[Keyed]) -> list[Outcome]:
    """Outcomes of a batch; the group is left unless all went well."""
    well = False
    try:
        outcomes = worker.run(batch)
        well = all(outcome.result is not None or outcome.refused for outcome in outcomes)
    finally:
        if not well:
            group.leave()
    return outcomes


def _die() -> NoReturn:
    """End this process at once; Ray ends the actors it started, and the engine replaces it."""
    os._exit(1)
