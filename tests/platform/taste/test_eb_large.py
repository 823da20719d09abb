"""The posterior for many images against the exact one; variances from moments against restricted likelihood."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from beholder.errors import EstimateError, UserError
from beholder.taste.base import Ratings
from beholder.taste.eb_large import approximate_solution
from beholder.taste.eb_likelihood import Prior, Problem, Variances, solve_prior
from beholder.taste.eb_moments import Freedom, estimate_prior, factor_analytic, noise_law
from beholder.taste.eb_slopes import EBSlopes, estimate_variances
from beholder.taste.features import Design
from beholder.taste.linear import with_intercept
from beholder.taste.people import People
from beholder.taste.registry import load_model, save_model

sys.path.insert(0, str(Path(__file__).parent))
from test_eb_slopes import as_ratings, simulated

DATA = Path(os.environ.get("BEHOLDER_DATA", Path(__file__).parents[3].parent / "shared" / "data"))
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


def sleepstudy() -> Problem:
    """Reaction times of 18 people on ten days, lme4's example."""
    path = DATA / "stats_reference" / "lme4_sleepstudy.csv"
    if not path.exists():
        pytest.skip("no reference data: set BEHOLDER_DATA")
    table = pd.read_csv(path)
    parts = [part for _, part in table.groupby("Subject")]
    rows = [part["Days"].to_numpy(float)[:, None] for part in parts]
    scores = [part["Reaction"].to_numpy(float) for part in parts]
    return Problem(rows, scores, [part["Days"].to_numpy() for part in parts], 10, (slice(0, 1),))


def test_variances_are_those_of_lme4() -> None:
    """T6a. R 4, lme4: lmer(Reaction ~ Days + (1|Subject) + (0+Days|Subject) + (1|factor(Days))), REML.

    There the common slope is fixed, here it has a wide prior; the image effect's variance is 0 in both.
    """
    user, own, noise = 627.5690508, 35.8583796, 653.5835007
    found = estimate_variances(sleepstudy())
    np.testing.assert_allclose([found.user, found.own[0], found.noise], [user, own, noise], rtol=0.01)
    assert found.image < 0.01 * noise


def dense(problem: Problem, prior: Prior) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """All ratings' covariance without beta, their users, rows (1, phi) and scores: from the model, entry by entry."""
    who = np.repeat(np.arange(len(problem.scores)), [len(s) for s in problem.scores])
    x, y = with_intercept(np.vstack(list(problem.rows))), np.concatenate(list(problem.scores))
    image = np.concatenate(list(problem.images))
    q = x.shape[1]
    k = (who[:, None] == who) * (x @ prior.own @ x.T) + (image[:, None] == image) * prior.image
    for g, member in enumerate(problem.membership.T):
        variances = np.where(np.isfinite(prior.shared), prior.shared, 0.0)[g * q : (g + 1) * q]
        k = k + np.outer(member[who], member[who]) * ((x * variances) @ x.T)
    return k + np.diag(prior.noise[who]), who, x, y


def test_posterior_with_factors_groups_and_own_noise_is_gaussian_process_regression() -> None:
    """T6b: with every freedom the prior has, means and covariances are those of the dense kernel."""
    plain = with_repeats(simulated(np.random.default_rng(6), TRUTH, n_users=6, n_images=12, n_rated=8))
    member = np.random.default_rng(7).integers(0, 2, (6, 2)).astype(float)
    problem = Problem(plain.rows, plain.scores, plain.images, 12, plain.blocks, member)
    prior = rich_prior(problem, 2)
    k, who, x, y = dense(problem, prior)
    inverse = np.linalg.inv(k)
    one = inverse.sum(axis=0)
    beta = one @ y / one.sum()
    new = with_intercept(np.random.default_rng(8).standard_normal((5, 8)))
    q = new.shape[1]
    finite = np.where(np.isfinite(prior.shared), prior.shared, 0.0).reshape(3, q)
    scale = float(y.std())
    for u, belief in enumerate(solve_prior(problem, prior).own):
        both = problem.membership[u][:, None] * problem.membership.T[:, who]  # (groups, ratings)
        cross = (who == u) * (new @ prior.own @ x.T)
        before = new @ prior.own @ new.T
        for g in range(3):
            cross = cross + both[g] * ((new * finite[g]) @ x.T)
            before = before + problem.membership[u, g] ** 2 * ((new * finite[g]) @ new.T)
        mean = beta + cross @ inverse @ (y - beta)
        free = 1 - cross @ one
        covariance = before - cross @ inverse @ cross.T + np.outer(free, free) / one.sum()
        np.testing.assert_allclose(new @ belief.mean / scale, mean / scale, atol=1e-8)
        np.testing.assert_allclose(new @ belief.covariance @ new.T / scale**2, covariance / scale**2, atol=1e-8)


def grouped(seed: int):
    """Ratings of 120 people of two genders and three countries, whose groups carry half of what tastes differ in."""
    rng = np.random.default_rng(seed)
    users, images, columns = 120, 300, 6
    gender, country = rng.integers(0, 2, users), rng.integers(0, 3, users)
    phi = rng.standard_normal((images, columns))
    taste = 25 * (rng.standard_normal((2, columns))[gender] + rng.standard_normal((3, columns))[country])
    taste += 25 * rng.standard_normal((users, columns))
    who = np.repeat(np.arange(users), 40)
    which = np.concatenate([rng.choice(images, 40, replace=False) for _ in range(users)])
    score = 500 + np.einsum("np,np->n", phi[which], taste[who]) + 60 * rng.standard_normal(len(who))
    ids, names = np.array([f"i{i:03d}" for i in range(images)]), np.array([f"u{u:03d}" for u in range(users)])
    told = {"gender": np.array(["f", "m"])[gender], "nationality": np.array(["x", "y", "z"])[country]}
    ratings = Ratings(names[who], ids[which], ids[which], np.clip(score, 0, 1000))
    return ratings, Design(ids, phi, ("components",), (columns,)), People(names, told)


def test_demographics_say_what_a_newcomer_likes_before_any_rating(tmp_path: Path) -> None:
    ratings, design, people = grouped(9)
    new = ratings.user_id >= "u090"
    recipe = EBSlopes(demographics=True, exact_images=50)
    model = recipe.fit(ratings.take(~new), design, np.random.default_rng(0), people)
    test = ratings.take(new)
    rows = design.rows(test.image_id)
    strangers = people.of(test.users())
    nothing = ratings.take(np.arange(0))
    told = model.adapt(nothing, design, strangers).predict(test.user_id, rows)
    untold = model.adapt(nothing, design, People(test.users())).predict(test.user_id, rows)
    # Of what tastes differ in, groups carry two parts and people one; half of a group's part is worth this much.
    assert np.mean((test.score - told.mean) ** 2) < 0.75 * np.mean((test.score - untold.mean) ** 2)
    assert 0.9 < np.std((test.score - told.mean) / told.predictive_sd) < 1.1
    assert np.mean(told.sd) < np.mean(untold.sd)
    assert model.inputs == ("components", "user", "demographics")
    save_model(model, tmp_path / "m")
    again = load_model(tmp_path / "m").adapt(nothing, design, strangers).predict(test.user_id, rows)
    np.testing.assert_array_equal(again.mean, told.mean)
    np.testing.assert_array_equal(again.sd, told.sd)
    with pytest.raises(EstimateError, match="no groups"):
        recipe.fit(ratings.take(~new), design, np.random.default_rng(0))


def test_users_noise_is_found_and_makes_everybodys_sd_honest(tmp_path: Path) -> None:
    problem = simulated(np.random.default_rng(10), TRUTH, n_users=80, n_images=300, n_rated=60)
    rng = np.random.default_rng(11)
    scale = np.exp(0.4 * rng.standard_normal(80))
    noisy = [s + 90 * (k**2 - 0.3) * rng.standard_normal(60) for s, k in zip(problem.scores, scale, strict=True)]
    ratings, design = as_ratings(replace(problem, scores=noisy))
    out = np.isin(ratings.image_id, design.image_ids[:60])
    model = EBSlopes(own_noise=True, exact_images=10).fit(ratings.take(~out), design, np.random.default_rng(0))
    plain = EBSlopes(exact_images=10).fit(ratings.take(~out), design, np.random.default_rng(0))
    test = ratings.take(out)
    spread = []
    for m in (model, plain):
        p = m.predict(test.user_id, design.rows(test.image_id))
        z = ((test.score - p.mean) / p.predictive_sd) ** 2
        spread.append(np.std([np.sqrt(z[test.user_id == u].mean()) for u in test.users()]))
        assert 0.9 < np.sqrt(z.mean()) < 1.1
    # About 12 test ratings a user scatter a root mean square by 1 / sqrt(24) = .2 where SDs are right.
    assert spread[0] < 0.25
    assert spread[0] < 0.75 * spread[1]
    truth = np.sqrt(9000 + (90 * (scale**2 - 0.3)) ** 2)
    assert np.corrcoef(np.log(model.noise_sds), np.log(truth))[0, 1] > 0.9
    mine = ratings.user_id == "u05"
    again = model.adapt(ratings.take(~out & mine), design)
    assert again.noise_sds[5] == pytest.approx(model.noise_sds[5], rel=0.15)
    save_model(again, tmp_path / "m")
    loaded, saved = (m.predict(test.user_id, design.rows(test.image_id)) for m in (load_model(tmp_path / "m"), again))
    np.testing.assert_array_equal(loaded.predictive_sd, saved.predictive_sd)


def test_options_with_given_variances_are_refused() -> None:
    ratings, design = as_ratings(small())
    with pytest.raises(UserError, match="let them be estimated"):
        EBSlopes(variances=TRUTH, factors=2).fit(ratings, design, np.random.default_rng(0))
    with pytest.raises(UserError, match="factors=-1"):
        EBSlopes(factors=-1).fit(ratings, design, np.random.default_rng(0))
