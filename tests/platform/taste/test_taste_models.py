"""Baselines against closed forms, saved models in another process, rows that do not depend on their neighbours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from beholder.errors import StoreError, UserError
from beholder.taste.base import Ratings
from beholder.taste.features import Design, FeatureMap
from beholder.taste.models import Constant, Population, UserMean
from beholder.taste.people import People
from beholder.taste.population import fit_head, user_offsets
from beholder.taste.registry import known_models, load_model, save_model, taste_model

sys.path.insert(0, str(Path(__file__).parent))
from taste_worlds import World, make_world


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(np.random.default_rng(0), n_users=12, n_images=80, n_rated=25)


@pytest.fixture(scope="module")
def design(world: World) -> Design:
    return FeatureMap.fit(world.features).transform(world.features)


def test_population_is_ridge_on_user_centred_ratings(world: World, design: Design) -> None:
    r = world.ratings
    head = fit_head(r, design, np.random.default_rng(0))
    _, who = np.unique(r.user_id, return_inverse=True)
    offsets = user_offsets(r.score, who, 12)
    reference = Ridge(alpha=head.penalty).fit(design.rows(r.image_id), r.score - offsets.of_user[who])
    np.testing.assert_allclose(head.belief.mean[0], reference.intercept_, rtol=1e-8)
    np.testing.assert_allclose(head.belief.mean[1:], reference.coef_, rtol=1e-6, atol=1e-8)


def test_crossfitted_values_are_of_prompts_left_out(world: World, design: Design) -> None:
    """Changing the ratings of one prompt leaves the head's cross-fitted values of that prompt alone."""
    r = world.ratings
    own = r.prompt_id == r.prompt_id[0]
    changed = Ratings(r.user_id, r.image_id, r.prompt_id, np.where(own, r.score[::-1], r.score))
    same = [fit_head(x, design, np.random.default_rng(0)) for x in (r, changed)]
    # The users' means are taken over all training ratings, so they shift the target a little; the values do not follow.
    shift = np.abs(same[0].crossfitted - same[1].crossfitted)[own].max()
    assert shift < 0.1 * np.abs(changed.score - r.score)[own].max()


def test_user_offsets_recover_known_components() -> None:
    rng = np.random.default_rng(1)
    who = np.repeat(np.arange(400), 20)
    levels = 80 * rng.standard_normal(400)
    found = user_offsets(500 + levels[who] + 150 * rng.standard_normal(len(who)), who, 400)
    # Against the levels drawn, not the law they came from: 15 % are three standard errors.
    assert found.between == pytest.approx(levels.var(ddof=1), rel=0.15)
    assert found.within == pytest.approx(150**2, rel=0.05)


def test_baselines_say_what_their_names_say(world: World, design: Design) -> None:
    r, rng = world.ratings, np.random.default_rng(0)
    matrix = design.matrix[:7]
    first, second = r.users()[:2].tolist()
    constant = Constant().fit(r, design, rng).predict([first] * 7, matrix)
    np.testing.assert_allclose(constant.mean, r.score.mean())
    mean = UserMean().fit(r, design, rng).predict([first] * 7, matrix).mean
    assert np.ptp(mean) < 1e-9
    plain = Population().fit(r, design, np.random.default_rng(0))
    np.testing.assert_array_equal(plain.predict([first] * 7, matrix).mean, plain.predict([second] * 7, matrix).mean)
    biased = Population(bias=True).fit(r, design, np.random.default_rng(0))
    gap = biased.predict([first] * 7, matrix).mean - biased.predict([second] * 7, matrix).mean
    assert np.ptp(gap) < 1e-9
    assert abs(gap[0]) > 1e-3


@pytest.mark.parametrize("name", sorted(known_models()))
def test_the_same_bits_after_loading_in_a_new_process(name: str, world: World, design: Design, tmp_path: Path) -> None:
    model = taste_model(name).fit(world.ratings, design, np.random.default_rng(0))
    save_model(model, tmp_path / "m")
    np.save(tmp_path / "x.npy", design.matrix)
    users = np.resize(world.ratings.users(), len(design.matrix))
    here = model.predict(users, design.matrix)
    code = (
        "import sys, numpy as np; from pathlib import Path; from beholder.taste.registry import load_model;"
        "f = Path(sys.argv[1]); m = load_model(f / 'm'); x = np.load(f / 'x.npy');"
        "p = m.predict(np.resize(m.user_ids, len(x)), x); q = m.predict_population(x);"
        "np.save(f / 'y.npy', np.stack([p.mean, p.sd, q.mean, q.sd]))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    population = model.predict_population(design.matrix)
    expected = np.stack([here.mean, here.sd, population.mean, population.sd])
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected)


@pytest.mark.parametrize("name", ["population_bias", "eb_slopes"])
def test_an_image_has_one_reward_whatever_its_neighbours(name: str, world: World, design: Design) -> None:
    model = taste_model(name).fit(world.ratings, design, np.random.default_rng(0))
    user = str(world.ratings.users()[3])
    together = model.predict([user] * len(design.matrix), design.matrix)
    alone = [model.predict([user], design.matrix[i : i + 1]) for i in range(len(design.matrix))]
    np.testing.assert_array_equal(together.mean, np.concatenate([p.mean for p in alone]))
    np.testing.assert_array_equal(together.sd, np.concatenate([p.sd for p in alone]))
    order = np.random.default_rng(1).permutation(len(design.matrix))
    mixed = model.predict([user] * len(order), design.matrix[order])
    np.testing.assert_array_equal(together.mean[order], mixed.mean)


def test_adapting_replaces_a_user_and_keeps_the_others(world: World, design: Design) -> None:
    model = taste_model("eb_slopes").fit(world.ratings, design, np.random.default_rng(0))
    some = world.ratings.take(world.ratings.user_id == world.ratings.users()[0])
    new = Ratings(np.full(len(some), "newcomer"), some.image_id, some.prompt_id, some.score)
    grown = model.adapt(new, design)
    assert grown.user_ids.tolist() == sorted([*model.user_ids.tolist(), "newcomer"])
    users = np.resize(world.ratings.users(), 20)
    np.testing.assert_array_equal(
        model.predict(users, design.matrix[:20]).mean, grown.predict(users, design.matrix[:20]).mean
    )
    known = model.adapt(new.take(np.arange(0)), design, People(np.array(["nobody"])))
    np.testing.assert_allclose(
        known.predict(["nobody"] * 20, design.matrix[:20]).mean, model.predict_population(design.matrix[:20]).mean
    )
    more, less = (
        m.predict(["newcomer"] * 20, design.matrix[:20]).sd
        for m in (grown, grown.adapt(new.take(np.arange(3)), design))
    )
    assert np.all(more <= less)


def test_unknown_users_and_models_are_named(world: World, design: Design, tmp_path: Path) -> None:
    for name in ("constant", "user_ridge", "eb_slopes", "factors", "lore", "ideal_points", "neighbours"):
        model = taste_model(name).fit(world.ratings, design, np.random.default_rng(0))
        with pytest.raises(UserError, match="'stranger'"):
            model.predict(["stranger"], design.matrix[:1])
    with pytest.raises(UserError, match="eb_slopes"):
        taste_model("oracle_of_delphi")
    with pytest.raises(StoreError, match="holds no model"):
        load_model(tmp_path)
