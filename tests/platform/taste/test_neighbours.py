"""Nearest neighbours of profiles: the published formula written out, and what centring changes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from beholder.errors import UserError
from beholder.taste.base import Ratings
from beholder.taste.features import Design, FeatureMap
from beholder.taste.models import Population, UserRidge
from beholder.taste.neighbours import Neighbours
from beholder.taste.people import People

sys.path.insert(0, str(Path(__file__).parent))
from taste_worlds import World, make_world


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(np.random.default_rng(5), n_users=60, n_rated=60, private=0.5, noise=0.15)


@pytest.fixture(scope="module")
def design(world: World) -> Design:
    return FeatureMap.fit(world.features).transform(world.features)


def a_newcomer(world: World, n: int = 15) -> tuple[Ratings, Ratings]:
    """Everybody else's ratings, and the first n of one person."""
    mine = np.flatnonzero(world.ratings.user_id == "u007")
    return world.ratings.take(world.ratings.user_id != "u007"), world.ratings.take(mine[:n])


def test_as_published_the_mixture_is_the_softmax_of_the_five_nearest(world: World, design: Design) -> None:
    others, shown = a_newcomer(world)
    model = Neighbours(UserRidge(), centred=False).fit(others, design, np.random.default_rng(0))
    found = model.adapt(shown, design).predict(["u007"] * 9, design.matrix[:9])

    def profile(r: Ratings) -> np.ndarray:
        return sum(s * design.matrix[design.image_ids == i][0] for s, i in zip(r.score, r.image_id, strict=True))

    mine, users = profile(shown), others.users()
    theirs = np.stack([profile(others.take(others.user_id == u)) for u in users])
    cosine = theirs @ mine / np.linalg.norm(theirs, axis=1) / np.linalg.norm(mine)
    five = np.argsort(-cosine)[:5]
    weights = np.exp(cosine[five] / 0.1) / np.exp(cosine[five] / 0.1).sum()
    each = [model.base.predict([u] * 9, design.matrix[:9]) for u in users[five]]
    expected = sum(w * p.mean for w, p in zip(weights, each, strict=True))
    np.testing.assert_allclose(found.mean, expected, rtol=1e-10)
    second = sum(w * (p.sd**2 + p.mean**2) for w, p in zip(weights, each, strict=True))
    np.testing.assert_allclose(found.sd, np.sqrt(second - expected**2), rtol=1e-6)


def test_known_users_stay_and_strangers_are_anybody(world: World, design: Design) -> None:
    others, shown = a_newcomer(world)
    model = Neighbours(Population()).fit(others, design, np.random.default_rng(0))
    grown = model.adapt(shown, design, People(np.array(["nobody"])))
    assert {"u007", "nobody"} <= set(grown.user_ids.tolist())
    rows = design.matrix[:5]
    np.testing.assert_array_equal(grown.predict(["u001"] * 5, rows).mean, model.base.predict(["u001"] * 5, rows).mean)
    np.testing.assert_array_equal(grown.predict(["nobody"] * 5, rows).mean, model.predict_population(rows).mean)
    with pytest.raises(UserError, match="'stranger'"):
        grown.predict(["stranger"], rows[:1])
    with pytest.raises(UserError, match="temperature 0"):
        Neighbours(temperature=0.0).fit(others, design, np.random.default_rng(0))


def test_without_centring_everybody_resembles_everybody(world: World, design: Design) -> None:
    """All ratings are positive: profiles as published say what was shown, centred ones say what was liked."""
    others, _ = a_newcomer(world)
    all_shown = design.rows(world.ratings.images())
    shifted = Design(design.image_ids, design.matrix + 3 * np.abs(all_shown).max(), ("all",), (all_shown.shape[1],))
    spread = {}
    for centred in (True, False):
        model = Neighbours(Population(), centred=centred).fit(others, shifted, np.random.default_rng(0))
        unit = model.profiles / np.linalg.norm(model.profiles, axis=1, keepdims=True)
        spread[centred] = float(np.median(unit @ unit.T))
    assert spread[False] > 0.999
    # What remains is the taste that all share, a third of all taste in this world.
    assert spread[True] == pytest.approx(0.25 / (0.25 + 0.5), abs=0.1)
