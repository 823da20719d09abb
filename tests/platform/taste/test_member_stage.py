"""Members as items: packed and back to the bit, trained once, and an ensemble like the one trained in turn."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from beholder.engine.inprocess import InProcess
from beholder.engine.progress import Quiet
from beholder.engine.run import Engine
from beholder.errors import EngineError, StoreError
from beholder.plans import Plan
from beholder.runs import Context
from beholder.store import Store
from beholder.taste.eb_slopes import EBSlopes
from beholder.taste.fusion import SMALL, Fusion
from beholder.taste.member_stage import (
    TrainMember,
    pack_member,
    pack_training_set,
    read_member,
    read_training_set,
    trained_by,
    unpack_member,
    write_training_set,
)
from beholder.taste.mlp import MLP, MLPNetwork
from beholder.taste.network_fit import Draw, in_turn
from beholder.taste.networks import Network, Training
from beholder.taste.people import People
from beholder.taste.stack import Stack
from beholder.taste.train_network import Member
from beholder.taste.training_set import TrainingSet, training_set
from beholder.training import EngineTrainer

sys.path.insert(0, str(Path(__file__).parent))
from worlds import PaperWorld, paper_world

QUICK = Training(seeds=2, epochs=2, folds=4, ranking=0.3, user_dropout=0.1, told_dropout=0.1)
DRAWS = [Draw((7, 0), 0), Draw((7, 1), 1)]


@pytest.fixture(scope="module")
def world() -> PaperWorld:
    rng = np.random.default_rng(0)
    return paper_world("linear", rng, n_users=12, n_images=80, raters=6, dims=5, images_per_prompt=2, told=0.5)


@pytest.fixture(scope="module")
def data(world: PaperWorld) -> TrainingSet:
    """With demographics, two data sets and profiles, one of which is missing."""
    sets = np.where(np.arange(len(world.people)) % 2, "a", "b")
    profiles = np.random.default_rng(1).standard_normal((len(sets), 3))
    profiles[0] = 0
    people = People(world.people.user_ids, world.people.demographics, sets, profiles)
    return training_set(world.training(), world.design, np.random.default_rng(1), people, 4)


def context_on(store: Store) -> Context:
    return Context(Plan(name="tiny"), store, Engine(store, InProcess(store), Quiet()), Quiet(), "models")


def assert_same(mine: Member, theirs: Member) -> None:
    assert mine.parameters.keys() == theirs.parameters.keys()
    for name, array in mine.parameters.items():
        np.testing.assert_array_equal(array, theirs.parameters[name], strict=True)
    np.testing.assert_array_equal(mine.held_out, theirs.held_out)
    np.testing.assert_array_equal(mine.predicted, theirs.predicted, strict=True)
    assert mine.losses == theirs.losses


def test_a_training_set_comes_back_to_the_bit(data: TrainingSet, tmp_path: Path) -> None:
    store = Store(tmp_path)
    digest = write_training_set(store, data)
    back = read_training_set(store, digest)
    assert write_training_set(store, back) == digest
    for name in ("images", "levels", "who", "which", "target", "folds", "user_ids"):
        np.testing.assert_array_equal(getattr(back, name), getattr(data, name), strict=True)
    for part in ("told", "scaling"):
        for name, array in vars(getattr(data, part)).items():
            np.testing.assert_array_equal(getattr(getattr(back, part), name), array, strict=True)
    assert back.block_sizes == data.block_sizes
    assert back.vocabulary.demographics == data.vocabulary.demographics
    assert back.vocabulary.datasets == data.vocabulary.datasets == ("", "a", "b")
    np.testing.assert_array_equal(back.vocabulary.profile_centre, data.vocabulary.profile_centre)


def test_without_anything_told_it_comes_back_too(world: PaperWorld) -> None:
    bare = training_set(world.training(), world.design, np.random.default_rng(1), None, 4)
    assert bare.told.categories.shape == (len(bare.user_ids), 0)
    again = pack_training_set(bare)
    assert pack_training_set(bare) == again


@pytest.mark.parametrize("network", [SMALL, MLPNetwork(width=8)])
def test_the_stage_trains_what_a_call_trains(data: TrainingSet, tmp_path: Path, network: Network) -> None:
    store, stage = Store(tmp_path), TrainMember()
    items = stage.items(write_training_set(store, data), network, QUICK, DRAWS)
    with Engine(store, InProcess(store), Quiet()) as engine:
        rows = engine.run(stage, items).rows
    for row, member in zip(rows, in_turn(data, network, QUICK, DRAWS), strict=True):
        assert_same(read_member(store, row), member)
        assert row["losses"] == list(member.losses)
        assert_same(unpack_member(pack_member(member)), member)


def test_a_version_gives_the_losses_it_has_always_given(data: TrainingSet) -> None:
    """Of the first epochs of one member. Where they change on purpose, `TrainMember.version` is raised too."""
    assert TrainMember.version == 2
    losses = in_turn(data, SMALL, QUICK, DRAWS[:1])[0].losses
    np.testing.assert_allclose(losses, (1.1774385, 1.1751029), rtol=1e-4)


def test_an_ensemble_of_the_engine_is_the_one_trained_in_turn(world: PaperWorld, tmp_path: Path) -> None:
    recipe = Fusion(SMALL, QUICK)
    plain = recipe.fit(world.training(), world.design, np.random.default_rng(3), world.people)
    staged = trained_by(recipe, EngineTrainer(context_on(Store(tmp_path)), "Train fusion"))
    assert (staged, repr(staged), staged.name) == (recipe, repr(recipe), recipe.name)
    found = staged.fit(world.training(), world.design, np.random.default_rng(3), world.people)
    one, two = plain.state(), found.state()
    assert one.settings == two.settings
    assert one.arrays.keys() == two.arrays.keys()
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, two.arrays[name])


def test_networks_in_a_stack_are_trained_by_the_engine_too(world: PaperWorld, tmp_path: Path) -> None:
    context = context_on(Store(tmp_path))
    recipe = Stack((EBSlopes(), MLP(MLPNetwork(width=8), replace(QUICK, ranking=0.0))))
    staged = trained_by(recipe, EngineTrainer(context, "Train the stack"))
    found = staged.fit(world.training(), world.design, np.random.default_rng(3))
    plain = recipe.fit(world.training(), world.design, np.random.default_rng(3))
    assert context.counts == {"computed": 2, "found": 0, "quarantined": 0}, "two members, each of them once"
    users = np.resize(plain.user_ids, len(world.design.matrix))
    mine, theirs = (model.predict(users, world.design.matrix) for model in (found, plain))
    np.testing.assert_array_equal(mine.mean, theirs.mean)
    assert trained_by(EBSlopes(), EngineTrainer(context, "")) == EBSlopes()


def test_a_second_training_finds_its_members_and_a_larger_ensemble_only_adds(data: TrainingSet, tmp_path: Path) -> None:
    context = context_on(Store(tmp_path))
    trainer = EngineTrainer(context, "Train")
    first = trainer(data, SMALL, QUICK, DRAWS[:1])
    both = trainer(data, SMALL, replace(QUICK, seeds=3), DRAWS)
    assert (context.counts["computed"], context.counts["found"]) == (2, 1)
    assert_same(first[0], both[0])
    trainer(data, SMALL, replace(QUICK, rate=2e-3), DRAWS[:1])
    trainer(replace(data, target=data.target + 1), SMALL, QUICK, DRAWS[:1])
    assert context.counts["computed"] == 4, "another setting or another rating is another member"


def test_a_member_that_diverges_is_named(data: TrainingSet, tmp_path: Path) -> None:
    trainer = EngineTrainer(context_on(Store(tmp_path)), "Train")
    with pytest.raises(EngineError, match=r"2 of 2 members .* training diverged"):
        trainer(replace(data, target=data.target * np.nan), SMALL, QUICK, DRAWS)


@pytest.mark.parametrize("where", ["training_sets", "members"])
def test_files_that_changed_or_are_gone_are_refused(data: TrainingSet, tmp_path: Path, where: str) -> None:
    store, stage = Store(tmp_path), TrainMember()
    digest = write_training_set(store, data)
    with Engine(store, InProcess(store), Quiet()) as engine:
        row = engine.run(stage, stage.items(digest, SMALL, QUICK, DRAWS[:1])).rows[0]
    path = store.names(where, ".safetensors")[0]

    def read() -> object:
        return read_member(store, row) if where == "members" else read_training_set(store, digest)

    store.write_file(path, store.read(path) + b"x")
    with pytest.raises(StoreError, match="not what was written"):
        read()
    (tmp_path / path).unlink()
    with pytest.raises(StoreError, match="is gone"):
        read()


def test_a_trainer_of_ones_own_is_asked_for_every_member(world: PaperWorld) -> None:
    asked: list[Draw] = []

    def trainer(data: TrainingSet, network: Network, training: Training, draws: Sequence[Draw]) -> list[Member]:
        asked.extend(draws)
        return in_turn(data, network, training, draws)

    Fusion(SMALL, replace(QUICK, seeds=5), trainer).fit(world.training(), world.design, np.random.default_rng(3))
    assert [draw.fold for draw in asked] == [0, 1, 2, 3, 0]
    assert len({draw.seed for draw in asked}) == 5
