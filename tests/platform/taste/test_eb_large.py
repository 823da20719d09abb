"""The posterior for many images against the exact one; variances from moments against restricted likelihood."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from beholder.taste.eb_large import approximate_solution
from beholder.taste.eb_likelihood import Prior, Problem, Variances, solve_prior
from beholder.taste.eb_moments import Freedom, estimate_prior, factor_analytic, noise_law
from beholder.taste.eb_slopes import EBSlopes, estimate_variances
from beholder.taste.linear import with_intercept

sys.path.insert(0, str(Path(__file__).parent))
from test_eb_slopes import as_ratings, simulated

TRUTH = Variances(9000.0, 3000.0, 2000.0, (1500.0, 1500.0), (1200.0, 300.0))
START = Variances(8000.0, 2000.0, 1500.0, (500.0, 500.0), (500.0, 500.0))


def small(seed: int = 0) -> Problem:
    """Forty users, 300 images, each rated by 8 of them."""
    return simulated(np.random.default_rng(seed), TRUTH, n_users=40, n_images=300, n_rated=60)


def with_repeats(problem: Problem) -> Problem:
    """The first user rates the first image again."""
    again = [np.r_[a, a[:1]] if u == 0 else a for u, a in enumerate(problem.rows)]
    scores = [np.r_[a, a[0] + 50] if u == 0 else a for u, a in enumerate(problem.scores)]
    images = [np.r_[a, a[0]] if u == 0 else a for u, a in enumerate(problem.images)]
    return Problem(again, scores, images, problem.n_images, problem.blocks)


def rich_prior(problem: Problem, groups: int) -> Prior:
    """Correlated own slopes, noise of each user, groups with tastes."""
    rng = np.random.default_rng(3)
    q, users = 1 + problem.columns, len(problem.scores)
    root = 20 * rng.standard_normal((q, q))
    shared = np.r_[np.inf, np.full(q - 1, 1500.0), np.full(groups * q, 400.0)]
    return Prior(rng.uniform(4000, 16000, users), 2000.0, shared, root @ root.T + 100 * np.eye(q))


@pytest.mark.parametrize("groups", [0, 2])
def test_means_are_the_exact_ones_and_variances_nearly(groups: int) -> None:
    plain = with_repeats(small())
    member = np.random.default_rng(1).integers(0, 2, (40, groups)).astype(float) if groups else None
    problem = Problem(plain.rows, plain.scores, plain.images, 300, plain.blocks, member)
    prior = rich_prior(problem, groups)
    exact, fast = solve_prior(problem, prior), approximate_solution(problem, prior)
    # Conjugate gradients stop at 1e-7 of scores that differ by hundreds.
    np.testing.assert_allclose(fast.shared.mean, exact.shared.mean, atol=1e-2)
    np.testing.assert_allclose(fast.image_effects, exact.image_effects, atol=1e-2)
    rows = with_intercept(np.random.default_rng(2).standard_normal((50, problem.columns)))
    ratios = []
    for a, b in zip(fast.own, exact.own, strict=True):
        np.testing.assert_allclose(a.mean, b.mean, atol=1e-2)
        variances = [np.einsum("np,pq,nq->n", rows, belief.covariance, rows) for belief in (a, b)]
        ratios.append(variances[0] / variances[1])
    # What is left out makes variances too small, never too large: SDs by 5 per cent at most.
    assert np.min(ratios) > 0.9
    assert np.max(ratios) < 1.01
    effects = fast.image_variances / exact.image_variances
    assert effects.min() > 0.9
    assert effects.max() < 1.01


def test_moments_reach_the_maximum_of_the_restricted_likelihood() -> None:
    problem = small(1)
    found = estimate_prior(problem, START, Freedom()).variances.vector()
    best = estimate_variances(problem).vector()
    # The standard errors of the components themselves are about ten per cent here.
    np.testing.assert_allclose(found, best, rtol=0.05)


def test_a_start_far_away_leads_to_the_same_variances() -> None:
    problem = small(2)
    near = estimate_prior(problem, START, Freedom()).variances.vector()
    far = Variances(500.0, 20000.0, 100.0, (50.0, 9000.0), (9000.0, 20.0))
    np.testing.assert_allclose(estimate_prior(problem, far, Freedom()).variances.vector(), near, rtol=0.03)


def test_the_model_for_many_images_predicts_as_the_exact_one() -> None:
    ratings, design = as_ratings(small(3))
    fits = [EBSlopes(exact_images=n).fit(ratings, design, np.random.default_rng(0)) for n in (1000, 100)]
    exact, fast = (f.predict(np.resize(f.user_ids, 300), design.matrix) for f in fits)
    assert np.corrcoef(exact.mean, fast.mean)[0, 1] > 0.999
    np.testing.assert_allclose(fast.predictive_sd, exact.predictive_sd, rtol=0.03)
    assert "log_likelihood" not in fits[1].settings


def test_noise_law_of_equal_users_is_a_point_and_of_unequal_ones_comes_back() -> None:
    rng = np.random.default_rng(4)
    df = np.full(4000, 30.0)
    equal = noise_law(9.0 * rng.chisquare(df), df)
    assert equal.df > 200
    assert equal.variance == pytest.approx(9.0, rel=0.03)
    variances = 9.0 * 8.0 / rng.chisquare(8.0, 4000)
    law = noise_law(variances * rng.chisquare(df), df)
    # Smyth's moments at 4,000 users: three standard errors of df are about 8 per cent.
    assert law.df == pytest.approx(8.0, rel=0.1)
    assert law.variance == pytest.approx(9.0, rel=0.04)


def test_factors_and_blocks_of_a_covariance_come_back() -> None:
    rng = np.random.default_rng(5)
    loadings = np.vstack([np.zeros((1, 2)), rng.standard_normal((12, 2))])
    truth = loadings @ loadings.T + np.diag(np.r_[3.0, np.full(7, 0.5), np.full(5, 0.1)])
    columns = [np.arange(1), np.arange(1, 8), np.arange(8, 13)]
    found = factor_analytic(truth, columns, 2, np.full(3, 1e-9), steps=2000)
    np.testing.assert_allclose(found, truth, atol=1e-3)
