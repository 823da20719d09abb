"""Members of an ensemble on workers: side by side, resumed after a kill, with the bits of one process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from beholder.engine.environment import worker_environment
from beholder.engine.run import Engine
from beholder.store import Store
from beholder.taste.fusion import SMALL
from beholder.taste.member_stage import TrainMember, read_member, write_training_set
from beholder.taste.network_fit import Draw, in_turn
from beholder.taste.networks import Training
from beholder.taste.train_network import Member
from beholder.taste.training_set import TrainingSet, training_set

sys.path.insert(0, str(Path(__file__).parents[1] / "taste"))
from worlds import paper_world

QUICK = Training(epochs=2, folds=4, ranking=0.3, user_dropout=0.1, told_dropout=0.1)
DRAWS = [Draw((7, k), k) for k in range(4)]


def small_set() -> TrainingSet:
    rng = np.random.default_rng(0)
    world = paper_world("linear", rng, n_users=12, n_images=80, raters=6, dims=5, images_per_prompt=2, told=0.5)
    return training_set(world.training(), world.design, rng, world.people, 4)


def trained_in_turn(kind: str, data: TrainingSet) -> list[Member]:
    """By one process that computes as the workers do."""
    if kind == "inprocess":
        return in_turn(data, SMALL, QUICK, DRAWS)
    import ray

    alone = ray.remote(num_cpus=0, runtime_env={"env_vars": worker_environment()})(in_turn)
    found: list[Member] = ray.get(alone.remote(data, SMALL, QUICK, DRAWS))
    return found


def assert_same(mine: Member, theirs: Member) -> None:
    for name, array in theirs.parameters.items():
        np.testing.assert_array_equal(mine.parameters[name], array, strict=True)
    np.testing.assert_array_equal(mine.predicted, theirs.predicted)
    assert mine.losses == theirs.losses


def test_members_have_the_bits_of_one_process_and_a_stopped_run_goes_on(
    kind: str, store: Store, engine_of: Callable[..., Engine]
) -> None:
    data, stage = small_set(), TrainMember()
    items = stage.items(write_training_set(store, data), SMALL, QUICK, DRAWS)
    assert engine_of(kind).run(stage, items[:1]).computed == 1
    run = engine_of(kind).run(stage, items)
    assert (run.done, run.computed, run.failed) == (1, 3, 0)
    for row, member in zip(run.rows, trained_in_turn(kind, data), strict=True):
        assert_same(read_member(store, row), member)
    workers = {row["worker"] for row in run.rows[1:]}
    assert len(workers) == (2 if kind == "ray" else 1), "one beside the other"
