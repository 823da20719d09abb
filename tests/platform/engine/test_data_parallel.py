"""Several processes on one item: they sum, they fail together, and a network they train is the one of a single one."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from shared_for_tests import AddUp

from beholder.engine.environment import worker_environment
from beholder.engine.run import Engine
from beholder.errors import EngineError
from beholder.store import Store
from beholder.taste.fusion import SMALL
from beholder.taste.group import ALONE, Group
from beholder.taste.member_stage import TrainMember, read_member, write_training_set
from beholder.taste.network_fit import Draw
from beholder.taste.networks import Network, Training
from beholder.taste.train_network import Member, train_one
from beholder.taste.training_set import TrainingSet, training_set

sys.path.insert(0, str(Path(__file__).parents[1] / "taste"))
from worlds import paper_world

if TYPE_CHECKING:
    import torch

NETWORK = replace(SMALL, dropout=0.0)
TRAINING = Training(epochs=2, folds=4, ranking=0.3)
DRAW = Draw((7, 1), 1)


@dataclass(frozen=True)
class Threads:
    """A group of threads: the reference for groups of processes."""

    rank: int
    size: int
    barrier: threading.Barrier
    parts: list[list[torch.Tensor]]

    def add(self, tensors: Sequence[torch.Tensor]) -> None:
        self.parts[self.rank] = [tensor.clone() for tensor in tensors]
        self.barrier.wait(60)
        for place, tensor in enumerate(tensors):
            tensor.copy_(sum(part[place] for part in self.parts))
        self.barrier.wait(60)


@dataclass(frozen=True)
class Noting:
    """A group that keeps the first sums."""

    of: Group
    first: list[Any]

    @property
    def rank(self) -> int:
        return self.of.rank

    @property
    def size(self) -> int:
        return self.of.size

    def add(self, tensors: Sequence[torch.Tensor]) -> None:
        self.of.add(tensors)
        if not self.first:
            self.first.extend(tensor.clone().numpy() for tensor in tensors)


def small_set() -> TrainingSet:
    rng = np.random.default_rng(0)
    world = paper_world("linear", rng, n_users=12, n_images=80, raters=6, dims=5, images_per_prompt=2, told=0.5)
    return training_set(world.training(), world.design, rng, world.people, 4)


def on_threads(
    size: int, data: TrainingSet, network: Network, training: Training
) -> tuple[list[Member], list[list[Any]]]:
    """One training shared by threads: what each has in the end, and the gradients of the first step."""
    barrier, parts = threading.Barrier(size), [list[Any]() for _ in range(size)]
    found: list[Any] = [None] * size
    first = [list[Any]() for _ in range(size)]

    def work(rank: int) -> None:
        group = Noting(Threads(rank, size, barrier, parts), first[rank])
        found[rank] = train_one(data, network, training, *DRAW, group)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found, first


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("batch", [720, 33])
def test_the_gradients_of_the_parts_add_up_to_those_of_the_batch(size: int, batch: int) -> None:
    data, training, alone = small_set(), replace(TRAINING, batch=batch), list[Any]()
    one = train_one(data, NETWORK, training, *DRAW, Noting(ALONE, alone))
    each, first = on_threads(size, data, NETWORK, training)
    largest = max(float(np.abs(gradient).max()) for gradient in alone)
    for rank in range(size):
        for mine, theirs in zip(first[rank], alone, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6 * largest)
        np.testing.assert_allclose(each[rank].losses, one.losses, rtol=1e-4)
        np.testing.assert_allclose(each[rank].predicted, one.predicted, atol=1e-3 * np.std(one.predicted))
        for name, array in each[0].parameters.items():
            np.testing.assert_array_equal(each[rank].parameters[name], array)


def test_more_processes_than_users_leave_some_without_work() -> None:
    data = small_set()
    one, (each, _) = train_one(data, NETWORK, TRAINING, *DRAW), on_threads(15, data, NETWORK, TRAINING)
    np.testing.assert_allclose(each[14].losses, one.losses, rtol=1e-4)


def test_in_one_process_nothing_is_shared(store: Store, engine_of: Callable[..., Engine]) -> None:
    stage = TrainMember(processes=2)
    items = stage.items(write_training_set(store, small_set()), NETWORK, TRAINING, [DRAW])
    with pytest.raises(EngineError, match=r"2 processes for a network, and 1 here.*--in-process"):
        engine_of("inprocess").run(stage, items)


@pytest.mark.ray
def test_processes_train_the_network_of_threads_to_the_bit(
    ray_address: str, store: Store, engine_of: Callable[..., Engine]
) -> None:
    """Two numbers have one sum in either order, so gloo must give what a plain sum gives."""
    import ray

    data, dropping = small_set(), replace(TRAINING, user_dropout=0.1, told_dropout=0.1)
    stage = TrainMember(processes=2)
    items = stage.items(write_training_set(store, data), SMALL, dropping, [DRAW])
    row = engine_of("ray").run(stage, items).rows[0]
    assert row["status"] == "ok", row
    alone = ray.remote(num_cpus=0, runtime_env={"env_vars": worker_environment()})(on_threads)
    expected = ray.get(alone.remote(2, data, SMALL, dropping))[0][0]
    found = read_member(store, row)
    for name, array in expected.parameters.items():
        np.testing.assert_array_equal(found.parameters[name], array)
    np.testing.assert_array_equal(found.predicted, expected.predicted)
    assert found.losses == expected.losses


@pytest.mark.ray
def test_a_group_sums_over_its_processes_and_outlives_what_goes_wrong_in_one(
    ray_address: str, store: Store, engine_of: Callable[..., Engine]
) -> None:
    items: list[dict[str, Any]] = [{"x": x} for x in range(3)]
    items += [{"x": 3, "do": "raise in 1"}, {"x": 4, "do": "raise in 0"}, {"x": 5, "do": "die in 1, once"}, {"x": 6}]
    run = engine_of("ray", max_failed=1.0).run(AddUp(), items)
    rows = {row["item"]["x"]: row for row in run.rows}
    for x in (0, 1, 2, 5, 6):
        assert rows[x]["status"] == "ok", rows[x]
        assert rows[x]["sum"] == math.prod((2, 3)) * x * (1 + 2)
        assert rows[x]["ranks"] == 1
    for x, rank in ((3, 1), (4, 0)):
        assert rows[x]["error"] == f"ValueError: nothing to add in process {rank}"
    assert store.exists("died")


@pytest.mark.ray
def test_processes_that_find_different_results_stop_the_run(
    ray_address: str, store: Store, engine_of: Callable[..., Engine]
) -> None:
    with pytest.raises(EngineError, match="different results of stage 'add_up'"):
        engine_of("ray").run(AddUp(), [{"x": 1, "do": "differ"}])
