"""The simulated worlds are what they say: variances, splits, and tastes of the kind they are named after."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from worlds import MIDDLE, PARTS, TICKS, TRUTHS, PaperWorld, Truth, pairwise_accuracy, paper_world


@pytest.fixture(scope="module", params=TRUTHS)
def world(request: pytest.FixtureRequest) -> PaperWorld:
    truth: Truth = request.param
    return paper_world(truth, np.random.default_rng(3), n_users=60, n_images=2000)


def test_variances_are_those_stated(world: PaperWorld) -> None:
    test = world.ratings
    unseen = np.var(test.score - world.truth(test)) / TICKS**2
    assert unseen == pytest.approx(PARTS["image"] + PARTS["hidden"] + PARTS["noise"], rel=0.04)
    private = world.shown - MIDDLE - (world.shown - MIDDLE).mean(axis=0)
    assert 0.6 < np.mean(private.var(axis=1)) / TICKS**2 / PARTS["private"] < 1.05


def test_who_knows_the_person_beats_who_knows_the_crowd(world: PaperWorld) -> None:
    test = world.test()
    accuracy = [pairwise_accuracy(v, test) for v in (world.truth(test), world.crowd(test), test.score)]
    assert accuracy[2] == 1.0
    assert accuracy[0] > accuracy[1] > 0.6


def test_splits_have_nothing_in_common(world: PaperWorld) -> None:
    train, test, new = world.training(), world.test(), world.new_test()
    assert not np.intersect1d(train.image_id, test.image_id).size
    assert not np.intersect1d(train.prompt_id, test.prompt_id).size
    assert not np.intersect1d(train.user_id, new.user_id).size
    context = world.context(7, np.random.default_rng(0))
    assert set(np.unique(context.user_id, return_counts=True)[1]) == {7}
    assert np.isin(context.image_id, world.training_images).all()


def test_only_nonlinear_tastes_are_beyond_a_line(world: PaperWorld, request: pytest.FixtureRequest) -> None:
    """What least squares on the design leaves of the private tastes."""
    private = world.shown - world.shown.mean(axis=0)
    x = np.hstack([np.ones((len(world.design.matrix), 1)), world.design.matrix])
    left = private.T - x @ np.linalg.lstsq(x, private.T, rcond=None)[0]
    share = left.var() / private.var()
    assert (share > 0.1) == request.node.name.endswith("[nonlinear]")
    assert share > 0.1 or share < 1e-9
