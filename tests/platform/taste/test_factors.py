"""Factors for images that were rated, on data with and without them."""

from __future__ import annotations

import numpy as np
import pytest

from beholder.errors import UserError
from beholder.taste.base import Ratings
from beholder.taste.eb_slopes import EBSlopes
from beholder.taste.factors import Factors, factorise
from beholder.taste.features import Design
from beholder.taste.models import Population

USERS, IMAGES, COLUMNS, EACH, NOISE = 60, 150, 6, 70, 50.0
QUICK = Factors(slopes=EBSlopes(exact_images=50))
"""Slopes as for many images: seconds in place of minutes."""


def world(rng: np.random.Generator, hidden: float):
    """Slopes on the design, and two hidden factors of SD `hidden` in all, which the design knows nothing of."""
    phi = rng.standard_normal((IMAGES, COLUMNS))
    own = 12 * rng.standard_normal(COLUMNS) + 12 * rng.standard_normal((USERS, COLUMNS))
    factors = rng.standard_normal((USERS, 2)) @ rng.standard_normal((2, IMAGES)) * hidden / np.sqrt(2)
    utility = 500 + 30 * rng.standard_normal((USERS, 1)) + own @ phi.T + factors
    ids = np.array([f"i{i:03d}" for i in range(IMAGES)])
    who = np.repeat(np.arange(USERS), EACH)
    which = np.concatenate([rng.choice(IMAGES - 30, EACH, replace=False) for _ in range(USERS)])
    score = np.clip(utility[who, which] + NOISE * rng.standard_normal(len(who)), 0, 1000)
    ratings = Ratings(np.array([f"u{u:02d}" for u in who]), ids[which], ids[which], score)
    unrated = np.ones((USERS, IMAGES), dtype=bool)
    unrated[who, which] = False
    return ratings, Design(ids, phi, ("components",), (COLUMNS,)), utility, unrated


def errors(model, design: Design, utility: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Errors of the pairs `where`, users' levels apart."""
    who, which = np.nonzero(where)
    error = model.predict([f"u{u:02d}" for u in who], design.matrix[which]).mean - utility[who, which]
    return error - (np.bincount(who, error) / np.bincount(who))[who]


@pytest.fixture(scope="module")
def hidden():
    ratings, design, utility, unrated = world(np.random.default_rng(0), 70.0)
    return QUICK.fit(ratings, design, np.random.default_rng(1)), ratings, design, utility, unrated


def test_hidden_factors_come_back_for_pairs_nobody_rated(hidden) -> None:
    model, ratings, design, utility, unrated = hidden
    warm = unrated.copy()
    warm[:, -30:] = False
    error = np.mean(errors(model, design, utility, warm) ** 2)
    # Least squares of 2 x (60 + 120) factors and 60 x 7 slopes: noise variance times parameters over ratings,
    # twice over since users and images are learnt from one another.
    allowed = 2 * NOISE**2 * (2 * (USERS + 120) + 7 * USERS) / len(ratings)
    assert error < allowed
    assert np.mean(errors(model.slopes, design, utility, warm) ** 2) > 3 * error
    crowd = Population().fit(ratings, design, np.random.default_rng(1))
    assert np.mean(errors(crowd, design, utility, warm) ** 2) > 3 * error
    assert model.noise_sd == pytest.approx(NOISE, rel=0.12)


def test_new_images_are_left_to_the_slopes(hidden) -> None:
    model, _, design, _, _ = hidden
    users, cold = ["u00"] * 30, design.matrix[-30:]
    np.testing.assert_array_equal(model.predict(users, cold).mean, model.slopes.predict(users, cold).mean)
    np.testing.assert_allclose(model.predict(users, cold).sd, model.slopes.predict(users, cold).sd)


def test_sds_of_known_images_are_as_large_as_errors(hidden) -> None:
    model, _, design, utility, unrated = hidden
    who, which = np.nonzero(unrated & (np.arange(IMAGES) < 120))
    p = model.predict([f"u{u:02d}" for u in who], design.matrix[which])
    rating = utility[who, which] + NOISE * np.random.default_rng(2).standard_normal(len(who))
    assert 0.9 < np.std((rating - p.mean) / p.predictive_sd) < 1.1


def test_without_factors_none_are_found() -> None:
    ratings, design, utility, unrated = world(np.random.default_rng(3), 0.0)
    model = QUICK.fit(ratings, design, np.random.default_rng(1))
    warm = unrated & (np.arange(IMAGES) < 120)
    plain = np.mean(errors(model.slopes, design, utility, warm) ** 2)
    assert np.mean(errors(model, design, utility, warm) ** 2) < 1.1 * plain
    assert sum(model.settings["factor_variances"]) < 0.02 * NOISE**2


def test_a_newcomer_gets_factors_from_images_that_others_rated(hidden) -> None:
    model, ratings, design, utility, unrated = hidden
    mine = ratings.user_id == "u07"
    shown = ratings.take(mine)
    new = Ratings(np.full(len(shown), "newcomer"), shown.image_id, shown.prompt_id, shown.score)
    grown = model.adapt(new, design)
    which = np.flatnonzero(unrated[7] & (np.arange(IMAGES) < 120))
    found = grown.predict(["newcomer"] * len(which), design.matrix[which]).mean - utility[7, which]
    plain = grown.slopes.predict(["newcomer"] * len(which), design.matrix[which]).mean - utility[7, which]
    assert found.std() < 0.8 * plain.std()
    same = ["u03"] * len(which)
    np.testing.assert_array_equal(
        grown.predict(same, design.matrix[which]).mean, model.predict(same, design.matrix[which]).mean
    )


def test_a_full_table_gives_its_singular_vectors() -> None:
    rng = np.random.default_rng(4)
    table = 5 * rng.standard_normal((30, 2)) @ rng.standard_normal((2, 40)) + 0.01 * rng.standard_normal((30, 40))
    who, which = (a.ravel() for a in np.indices(table.shape))
    found = factorise(table.ravel(), who, which, 30, rng.standard_normal((40, 4)), 100)
    left, sizes, right = np.linalg.svd(table)
    np.testing.assert_allclose(found.users @ found.images.T, left[:, :2] * sizes[:2] @ right[:2], atol=0.05)


def test_no_factors_are_refused(hidden) -> None:
    _, ratings, design, _, _ = hidden
    with pytest.raises(UserError, match="factors=0"):
        Factors(factors=0).fit(ratings, design, np.random.default_rng(0))
