"""The reward basis and the ideal points, each on data of its own kind, against the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import subspace_angles
from scipy.optimize import approx_fprime, minimize

from beholder.errors import EstimateError, UserError
from beholder.taste.base import Floats, Ratings
from beholder.taste.features import Design
from beholder.taste.ideal_points import IdealPoints, _Distances
from beholder.taste.lore import LoRe
from beholder.taste.models import Population
from beholder.taste.people import People
from beholder.taste.simplex_taste import simplex_minimum, to_simplex

USERS, IMAGES, COLUMNS, EACH, NOISE = 60, 400, 10, 100, 60.0


def study(rng: np.random.Generator, utility: Floats) -> tuple[Ratings, Ratings, np.ndarray, np.ndarray]:
    """Ratings of some images by everybody, and which images and users the held-out pairs are; ids sort as numbers."""
    ids = np.array([f"i{i:03d}" for i in range(utility.shape[1])])
    who = np.repeat(np.arange(USERS), EACH)
    which = np.concatenate([rng.choice(IMAGES - 100, EACH, replace=False) for _ in range(USERS)])
    score = np.clip(utility[who, which] + NOISE * rng.standard_normal(len(who)), 0, 1000)
    return Ratings(np.array([f"u{u:02d}" for u in who]), ids[which], ids[which], score), ids


def unexplained(model, utility: Floats, phi: Floats) -> float:
    """Mean squared error, users' levels apart, of the last 100 images: nobody rated them."""
    users = np.repeat([f"u{u:02d}" for u in range(USERS)], 100)
    found = model.predict_mean(users, np.tile(phi[-100:], (USERS, 1))).reshape(USERS, 100)
    error = found - utility[:, -100:]
    return float(np.mean((error - error.mean(axis=1, keepdims=True)) ** 2))


def basis_world(rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    phi = rng.standard_normal((IMAGES, COLUMNS))
    tastes = 35 * rng.standard_normal((COLUMNS, 3))
    weights = rng.dirichlet(np.full(3, 0.5), USERS)
    return phi, tastes, 500 + 40 * rng.standard_normal((USERS, 1)) + weights @ tastes.T @ phi.T


def test_the_basis_comes_back_from_ratings_made_by_one() -> None:
    rng = np.random.default_rng(0)
    phi, tastes, utility = basis_world(rng)
    ratings, ids = study(rng, utility)
    design = Design(ids, phi, ("components",), (COLUMNS,))
    model = LoRe(tastes=3).fit(ratings, design, rng)
    # Least squares loses noise variance times (parameters / ratings); here 3 x 10 tastes and 60 x 2 free weights,
    # three times over for a likelihood that is not quadratic.
    allowed = NOISE**2 * (3 * COLUMNS + 2 * USERS) / len(ratings)
    assert unexplained(model, utility, phi) < 3 * allowed
    crowd = Population().fit(ratings, design, np.random.default_rng(1))
    assert unexplained(crowd, utility, phi) > 10 * allowed
    # Each taste rests on a third of the ratings: error of a coefficient 60 / sqrt(2000), of a taste 35 each.
    assert np.max(subspace_angles(model.tastes, tastes)) < 3 * np.sqrt(COLUMNS) * (NOISE / np.sqrt(2000)) / 35
    assert model.noise_sd == pytest.approx(NOISE, rel=0.05)


def ideal_world(rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    phi = rng.standard_normal((IMAGES, COLUMNS))
    metric = np.linalg.qr(rng.standard_normal((COLUMNS, 2)))[0].T * 5.0
    points = 7.0 * np.array([[1.0, -0.5, -0.5], [0.0, 0.9, -0.9]])
    ideal = rng.dirichlet(np.full(3, 0.4), USERS) @ points.T
    distance = np.sum(((phi @ metric.T)[None] - ideal[:, None]) ** 2, axis=2)
    return phi, metric, 740 + 30 * rng.standard_normal((USERS, 1)) - distance


def test_metric_and_ideal_points_come_back_from_ratings_made_by_them() -> None:
    rng = np.random.default_rng(2)
    phi, metric, utility = ideal_world(rng)
    ratings, ids = study(rng, utility)
    design = Design(ids, phi, ("components",), (COLUMNS,))
    model = IdealPoints(prototypes=3, dimensions=2).fit(ratings, design, rng)
    allowed = NOISE**2 * (2 * COLUMNS + 6 + 2 * USERS) / len(ratings)
    assert unexplained(model, utility, phi) < 3 * allowed
    crowd = Population().fit(ratings, design, np.random.default_rng(1))
    assert unexplained(crowd, utility, phi) > 10 * allowed
    # An entry of A is known to noise / (2 |p| sqrt(n)) at worst, |p| about 5: .08 of 5 each in 10 columns.
    assert np.max(subspace_angles(model.metric.T, metric.T)) < 0.1
    np.testing.assert_allclose(np.linalg.svd(model.metric)[1], np.linalg.svd(metric)[1], rtol=0.1)


def test_the_gradient_of_distances_is_the_finite_difference() -> None:
    rng = np.random.default_rng(3)
    who = np.repeat([0, 1, 2], [4, 3, 5])
    scores = rng.standard_normal(12)
    scores -= (np.bincount(who, scores) / np.bincount(who))[who]
    problem = _Distances(rng.standard_normal((12, 4)), scores, who, (2, 4, 3, 3), 0.7)
    x = rng.standard_normal(2 * 4 + 2 * 3 + 3 * 3)
    np.testing.assert_allclose(problem.loss(x)[1], approx_fprime(x, lambda z: problem.loss(z)[0], 1e-7), atol=1e-4)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_weights_are_the_constrained_minimum(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    root, g = rng.standard_normal((k + 2, k)), 3 * rng.standard_normal(k)
    h = root.T @ root + 0.1 * np.eye(k)
    found = simplex_minimum(h[None], g[None], steps=3000)[0]
    value = lambda w: w @ h @ w / 2 - g @ w  # noqa: E731
    other = minimize(value, np.full(k, 1 / k), jac=lambda w: h @ w - g, method="SLSQP", bounds=[(0, 1)] * k,
                     constraints={"type": "eq", "fun": lambda w: w.sum() - 1}, options={"ftol": 1e-12})  # fmt: skip
    assert value(found) <= other.fun + 1e-6
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1)


def test_projection_leaves_points_of_the_simplex_alone() -> None:
    points = np.random.default_rng(4).dirichlet(np.ones(5), 20)
    np.testing.assert_allclose(to_simplex(points), points, atol=1e-12)
    np.testing.assert_array_equal(to_simplex(np.array([[3.0, 0.0, -1.0]])), [[1.0, 0.0, 0.0]])


def test_newcomers_go_from_the_mean_person_to_themselves() -> None:
    rng = np.random.default_rng(5)
    phi, _, utility = basis_world(rng)
    ratings, ids = study(rng, utility)
    design = Design(ids, phi, ("components",), (COLUMNS,))
    new = ratings.user_id == "u00"
    model = LoRe(tastes=3).fit(ratings.take(~new), design, rng)
    nobody = model.adapt(ratings.take(np.arange(0)), design, People(np.array(["u00"])))
    np.testing.assert_allclose(nobody.predict(["u00"] * 50, phi[:50]).mean, model.predict_population(phi[:50]).mean)
    errors = []
    for n in (0, 5, 80):
        known = model.adapt(ratings.take(np.flatnonzero(new)[:n]), design, People(np.array(["u00"])))
        p = known.predict(["u00"] * 100, phi[-100:])
        errors.append((np.std(p.mean - utility[0, -100:]), np.mean(p.sd)))
    assert errors[0][0] > errors[1][0] > errors[2][0]
    assert errors[0][1] > errors[1][1] > errors[2][1]


def test_settings_and_data_that_cannot_work_are_named() -> None:
    rng = np.random.default_rng(6)
    phi, _, utility = basis_world(rng)
    ratings, ids = study(rng, utility)
    design = Design(ids, phi, ("components",), (COLUMNS,))
    with pytest.raises(UserError, match="tastes=1"):
        LoRe(tastes=1).fit(ratings, design, rng)
    with pytest.raises(EstimateError, match="100 tastes of 60 users"):
        LoRe(tastes=100).fit(ratings, design, rng)
    with pytest.raises(UserError, match="1 prototypes"):
        IdealPoints(prototypes=1).fit(ratings, design, rng)
    flat = Ratings(ratings.user_id, ratings.image_id, ratings.prompt_id, np.full(len(ratings), 500.0))
    for recipe in (LoRe(), IdealPoints()):
        with pytest.raises(EstimateError, match="do not vary"):
            recipe.fit(flat, design, rng)
    with pytest.raises(UserError, match="'stranger'"):
        LoRe(tastes=2).fit(ratings, design, rng).predict(["stranger"], phi[:1])
