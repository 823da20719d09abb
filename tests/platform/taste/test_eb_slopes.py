"""The empirical-Bayes model against closed forms, dense linear algebra and simulated truth."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.stats import multivariate_normal

from beholder.errors import EstimateError
from beholder.taste.base import Ratings
from beholder.taste.eb_kernel import restricted_likelihood
from beholder.taste.eb_likelihood import Problem, Variances, own_covariance, solve
from beholder.taste.eb_slopes import EBSlopes, estimate_variances
from beholder.taste.features import Design, FeatureMap
from beholder.taste.linear import Belief, posterior, with_intercept
from beholder.taste.models import Population
from beholder.taste.splits import seen_splits

sys.path.insert(0, str(Path(__file__).parent))
from taste_worlds import make_world

V = Variances(noise=1.3, user=0.7, image=0.4, shared=(0.5, 0.2), own=(0.3, 0.6))


def small_problem(seed: int = 0) -> tuple[Problem, np.ndarray, np.ndarray, np.ndarray]:
    """Four users, seven images (one rated twice by the same user), three columns in two blocks."""
    rng = np.random.default_rng(seed)
    phi = rng.standard_normal((7, 3))
    images = [np.array([0, 1, 2, 3]), np.array([2, 4, 5]), np.array([6, 0, 0, 5, 1]), np.array([3])]
    scores = [3 + rng.standard_normal(len(i)) for i in images]
    problem = Problem([phi[i] for i in images], scores, images, 7, (slice(0, 2), slice(2, 3)))
    who = np.repeat(np.arange(4), [len(i) for i in images])
    return problem, who, np.concatenate(images), phi


def dense_covariance(problem: Problem, v: Variances, who: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Of all ratings, beta left out: written down entry by entry from the model."""
    x = np.vstack(problem.rows)
    shared, own = (np.array([b[0], b[0], b[1]]) for b in (v.shared, v.own))
    same_user, same_image = who[:, None] == who, image[:, None] == image
    k = (x * shared) @ x.T + same_user * ((x * own) @ x.T + v.user) + same_image * v.image
    return k + v.noise * np.eye(len(x))


def test_likelihood_is_the_dense_restricted_one() -> None:
    problem, who, image, _ = small_problem()
    k = dense_covariance(problem, V, who, image)
    y = np.concatenate(list(problem.scores))
    # Restricted likelihood = that of the ordinary one integrated over beta ~ uniform, by the GLS identity.
    weights = np.linalg.solve(k, np.ones(len(y)))
    beta = weights @ y / weights.sum()
    ordinary = multivariate_normal(np.full(len(y), beta), k).logpdf(y)
    expected = ordinary + 0.5 * np.log(2 * np.pi) - 0.5 * np.log(weights.sum())
    assert solve(problem, V).log_likelihood == pytest.approx(expected, abs=1e-10)
    assert restricted_likelihood(problem, V)[0] == pytest.approx(expected, abs=1e-10)


def test_gradient_is_the_finite_difference() -> None:
    problem, *_ = small_problem(1)
    start = np.log(V.vector())
    numeric = approx_fprime(start, lambda x: restricted_likelihood(problem, Variances.from_vector(np.exp(x)))[0], 1e-6)
    np.testing.assert_allclose(restricted_likelihood(problem, V)[1], numeric, atol=2e-5)


def test_posterior_is_gaussian_process_regression() -> None:
    """T6b: weights and dense kernel give the same means and SDs, with beta by universal kriging."""
    problem, who, image, _ = small_problem(2)
    solution = solve(problem, V)
    k = dense_covariance(problem, V, who, image)
    y, x = np.concatenate(list(problem.scores)), np.vstack(problem.rows)
    shared, own = np.array([0.5, 0.5, 0.2]), np.array([0.3, 0.3, 0.6])
    inverse = np.linalg.inv(k)
    precision = inverse.sum()
    beta = inverse.sum(axis=0) @ y / precision
    new = np.random.default_rng(9).standard_normal((5, 3))
    for u, belief in enumerate(solution.own):
        cross = (new * shared) @ x.T + (who == u) * ((new * own) @ x.T + V.user)
        prior = (new * (shared + own)) @ new.T + V.user
        mean = beta + cross @ inverse @ (y - beta)
        free = 1 - cross @ inverse.sum(axis=1)
        covariance = prior - cross @ inverse @ cross.T + np.outer(free, free) / precision
        rows = with_intercept(new)
        np.testing.assert_allclose(rows @ belief.mean, mean, atol=1e-8)
        np.testing.assert_allclose(rows @ belief.covariance @ rows.T, covariance, atol=1e-8)
    effects = V.image * (np.arange(7)[:, None] == image) @ inverse @ (y - beta)
    np.testing.assert_allclose(solution.image_effects, effects, atol=1e-8)


def test_newcomer_update_is_gaussian_process_regression() -> None:
    """T6b for somebody new: kernel Z S Z'."""
    rng = np.random.default_rng(3)
    root = rng.standard_normal((4, 4))
    prior, z, new = Belief(rng.standard_normal(4), root @ root.T), rng.standard_normal((6, 4)), np.eye(4)
    y = rng.standard_normal(6)
    k = z @ prior.covariance @ z.T + 0.5 * np.eye(6)
    mean = prior.mean + prior.covariance @ z.T @ np.linalg.solve(k, y - z @ prior.mean)
    precision = np.linalg.inv(prior.covariance) + z.T @ z / 0.5  # the other form, through information
    belief = posterior(prior, z, y, 0.5)
    np.testing.assert_allclose(new @ belief.mean, mean, atol=1e-8)
    np.testing.assert_allclose(belief.covariance, np.linalg.inv(precision), atol=1e-8)


def test_limits_of_the_prior() -> None:
    """T6c: no spread between people gives the population, unlimited spread gives least squares."""
    rng = np.random.default_rng(4)
    z, y, mean = rng.standard_normal((30, 4)), rng.standard_normal(30), rng.standard_normal(4)
    same = posterior(Belief(mean, np.zeros((4, 4))), z, y, 0.5)
    np.testing.assert_array_equal(same.mean, mean)
    # Wide enough that the prior pulls by less than 1e-8, narrow enough that rounding stays below it too.
    free = posterior(Belief(mean, 1e6 * np.eye(4)), z, y, 0.5)
    np.testing.assert_allclose(free.mean, np.linalg.lstsq(z, y, rcond=None)[0], atol=1e-6)


def test_no_own_variance_leaves_the_population() -> None:
    problem, *_ = small_problem(5)
    v = Variances(1.3, 1e-12, 0.4, V.shared, (1e-12, 1e-12))
    solution = solve(problem, v)
    for belief in solution.own:
        np.testing.assert_allclose(belief.mean, solution.shared.mean, atol=1e-9)


def simulated(rng: np.random.Generator, v: Variances, n_users: int = 60, n_images: int = 400, n_rated: int = 60):
    """Ratings drawn from the model itself; eight columns in two blocks."""
    phi = rng.standard_normal((n_images, 8))
    blocks = (slice(0, 5), slice(5, 8))
    shared, own = (np.sqrt(np.repeat(b, [5, 3])) for b in (v.shared, v.own))
    mu = shared * rng.standard_normal(8)
    effect = np.sqrt(v.image) * rng.standard_normal(n_images)
    rows, scores, images = [], [], []
    for _ in range(n_users):
        i = rng.choice(n_images, n_rated, replace=False)
        w = mu + own * rng.standard_normal(8)
        e = np.sqrt(v.noise) * rng.standard_normal(n_rated)
        rows.append(phi[i])
        images.append(i)
        scores.append(500 + phi[i] @ w + effect[i] + np.sqrt(v.user) * rng.standard_normal() + e)
    return Problem(rows, scores, images, n_images, blocks)


def test_variances_of_the_model_itself_come_back() -> None:
    truth = Variances(9000.0, 3000.0, 2000.0, (1500.0, 1500.0), (1200.0, 300.0))
    found = [estimate_variances(simulated(np.random.default_rng(s), truth, n_images=200)) for s in range(4)]
    mean = np.mean([f.vector() for f in found], axis=0)
    # Shared variances rest on 5 and 3 coefficients: only their order can come back.
    named = [0, 1, 2, 5, 6]
    np.testing.assert_allclose(mean[named], truth.vector()[named], rtol=0.2)
    assert np.all((mean[3:5] > 300) & (mean[3:5] < 6000))


def as_ratings(problem: Problem) -> tuple[Ratings, Design]:
    n = [len(s) for s in problem.scores]
    who = np.repeat(np.arange(len(n)), n)
    image = np.concatenate(list(problem.images))
    phi = np.zeros((problem.n_images, problem.columns))
    phi[image] = np.vstack(problem.rows)
    ids = np.array([f"i{i:03d}" for i in range(problem.n_images)])
    scores = np.clip(np.concatenate(list(problem.scores)), 0, 1000)
    ratings = Ratings(np.array([f"u{u:02d}" for u in who]), ids[image], ids[image], scores)
    return ratings, Design(ids, phi, ("a", "b"), (5, 3))


def test_predictive_sd_is_calibrated_for_new_images_and_newcomers() -> None:
    """T6e: standardised errors of held-out ratings have SD 1."""
    truth = Variances(9000.0, 3000.0, 2000.0, (1500.0, 1500.0), (1200.0, 300.0))
    ratings, design = as_ratings(simulated(np.random.default_rng(8), truth))
    new_image = np.isin(ratings.image_id, design.image_ids[:80])
    new_user = np.isin(ratings.user_id, ratings.users()[:15])
    model = EBSlopes().fit(ratings.take(~new_image & ~new_user), design, np.random.default_rng(0))
    model = model.adapt(ratings.take(~new_image & new_user), design)
    for group in (new_image & ~new_user, new_image & new_user):
        test = ratings.take(group)
        p = model.predict(test.user_id, design.rows(test.image_id))
        assert 0.9 < ((test.score - p.mean) / p.predictive_sd).std() < 1.1


def mean_error(model, ratings: Ratings, design: Design) -> tuple[float, float]:
    """Mean squared error and its standard error over users."""
    p = model.predict(ratings.user_id, design.rows(ratings.image_id))
    squared = (ratings.score - p.mean) ** 2
    each = np.array([squared[ratings.user_id == u].mean() for u in ratings.users()])
    return float(each.mean()), float(each.std(ddof=1) / np.sqrt(len(each)))


def test_beats_the_population_where_taste_is_private_and_only_there() -> None:
    """Simulated truth, and T6d: with user labels permuted there is nothing to gain."""
    world = make_world(np.random.default_rng(5))
    split = seen_splits(world.ratings, world.ratings.prompt_id, 5, np.random.default_rng(1))[0]
    design = FeatureMap.fit(world.features.take(split.train_ratings.images())).transform(world.features)
    rng = np.random.default_rng(2)
    shuffled = Ratings(
        rng.permutation(world.ratings.user_id), world.ratings.image_id, world.ratings.prompt_id, world.ratings.score
    )
    gains = []
    for ratings in (world.ratings, shuffled):
        train, test = ratings.take(split.train), ratings.take(split.test)
        personal = mean_error(EBSlopes().fit(train, design, rng), test, design)
        crowd = mean_error(Population(bias=True).fit(train, design, rng), test, design)
        gains.append((crowd[0] - personal[0]) / crowd[1])
    assert gains[0] > 3
    assert abs(gains[1]) < 1


def test_one_user_is_refused() -> None:
    problem, *_ = small_problem()
    alone = Problem(problem.rows[:1], problem.scores[:1], problem.images[:1], 7, problem.blocks)
    with pytest.raises(EstimateError, match="1 user"):
        estimate_variances(alone)


def test_prior_covariance_has_one_variance_a_block() -> None:
    problem, *_ = small_problem()
    np.testing.assert_array_equal(np.diag(own_covariance(problem, V)), [0.7, 0.3, 0.3, 0.6])


def test_sds_know_that_images_of_a_prompt_share_more_than_the_design_sees() -> None:
    """Prompts have effects of their own, shared and private; errors on new prompts are as large as said."""
    rng = np.random.default_rng(11)
    n_users, n_prompts, each = 40, 40, 4
    phi = rng.standard_normal((n_prompts, 24)).repeat(each, 0) + 0.3 * rng.standard_normal((n_prompts * each, 24))
    prompt = np.repeat(np.arange(n_prompts), each)
    taste = 10 * rng.standard_normal(24) + 15 * rng.standard_normal((n_users, 24))
    of_prompt = 60 * rng.standard_normal(n_prompts) + 100 * rng.standard_normal((n_users, n_prompts))
    who, what = (a.ravel() for a in np.indices((n_users, n_prompts * each)))
    score = 500 + (phi @ taste.T).T[who, what] + of_prompt[who, prompt[what]] + 80 * rng.standard_normal(len(who))
    ids = np.array([f"i{k:03d}" for k in range(n_prompts * each)])
    names = np.array([f"p{k:02d}" for k in prompt])
    users = np.array([f"u{u:02d}" for u in who])
    ratings = Ratings(users, ids[what], names[what], np.clip(score, 0, 1000))
    design = Design(ids, phi, ("components",), (24,))
    new = prompt[what] >= 30
    model = EBSlopes().fit(ratings.take(~new), design, np.random.default_rng(0))
    test = ratings.take(new)
    p = model.predict(test.user_id, design.rows(test.image_id))
    error = test.score - p.mean
    assert 0.9 < (error / p.predictive_sd).std() < 1.1
    bare = replace(model, spare_sd=0.0).predict(test.user_id, design.rows(test.image_id))
    assert (error / bare.predictive_sd).std() > 1.1
