from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from analysis.correlation import Kind, correlation_by_user, fisher_mean, user_correlation
from analysis.errors import TableError
from analysis.user_means import crossing, mean_over_users

SCIPY = {"spearman": stats.spearmanr, "pearson": stats.pearsonr}


@pytest.mark.parametrize("kind", ["spearman", "pearson"])
@pytest.mark.parametrize("digits", [None, 0])  # 0: heavy ties
def test_equals_scipy_and_influence_equals_the_jackknife(
    kind: Kind, digits: int | None, rng: np.random.Generator
) -> None:
    n = 250
    x = rng.normal(size=n)
    y = 0.5 * x + rng.normal(size=n)
    if digits is not None:
        x, y = x.round(digits), y.round(digits)
    found = user_correlation(x, y, kind)
    assert found.r == pytest.approx(SCIPY[kind](x, y)[0], abs=1e-12)
    left_out = np.array([SCIPY[kind](np.delete(x, i), np.delete(y, i))[0] for i in range(n)])
    jackknife = (n - 1) / n * (found.r - left_out)
    # they agree up to terms of order 1/n^2
    assert np.corrcoef(jackknife, found.influence)[0, 1] > 0.9999
    assert jackknife.std() / found.influence.std() == pytest.approx(1, abs=0.02)
    assert found.influence.sum() == pytest.approx(0, abs=1e-12)


def test_undefined_is_nan_and_counted() -> None:
    user = np.repeat([0, 1, 2, 3], [4, 4, 2, 4])
    truth = np.array([1, 2, 3, 4, 0.1, 0.1, 0.1, 0.1, 1, 2, 1, 2, 3, 4])
    score = np.array([1, 2, 3, 5, 1, 2, 3, 4, 1, 2, 0.3, 0.3, 0.3, 0.3])
    found = correlation_by_user(user, truth, score)
    assert found.n_undefined == 3
    assert found.r[0] == 1
    assert np.isnan(found.r[1:]).all()
    assert not found.influence[4:].any()


def test_pooling_would_show_skill_where_there_is_none(rng: np.random.Generator) -> None:
    """A predictor of users' means: pooled Spearman is high, within users nothing is defined."""
    user = np.repeat(np.arange(100), 30)
    level = rng.normal(size=100)[user]
    ratings = level + 2 * rng.normal(size=3000)
    assert stats.spearmanr(ratings, level)[0] > 0.3
    assert correlation_by_user(user, ratings, level).n_undefined == 100


def test_fisher_mean_leaves_out_what_has_no_z() -> None:
    r = np.array([0.2, 0.8, np.nan, 1.0])
    assert fisher_mean(r) == pytest.approx(math.tanh((math.atanh(0.2) + math.atanh(0.8)) / 2))
    assert math.isnan(fisher_mean(np.array([1.0, np.nan])))


def test_mean_interval_covers(rng: np.random.Generator) -> None:
    """120 studies of 25 users and 40 shared images; true mean Spearman by a large simulation.

    With coverage .95 the count has a standard deviation of 2.4; 104 is four of them below 114.
    """

    def study(n_users: int, n_images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        shared, flaw = rng.normal(size=(2, n_images))
        own = rng.normal(size=(n_users, n_images))
        truth = shared + own + rng.normal(size=(n_users, n_images))
        score = shared + 0.7 * flaw + 0.4 * own
        return np.repeat(np.arange(n_users), n_images), truth.ravel(), score.ravel()

    true = np.mean([np.mean(correlation_by_user(*study(30, 200)).r) for _ in range(60)])
    covered = 0
    for _ in range(120):
        user, truth, score = study(25, 40)
        found = correlation_by_user(user, truth, score)
        mean = mean_over_users(found.r, found.influence, crossing(user, np.tile(np.arange(40), 25)))
        covered += mean.ci_low <= true <= mean.ci_high
    assert covered >= 104


def test_bad_input_is_refused() -> None:
    with pytest.raises(TableError, match="NaN"):
        user_correlation([1.0, np.nan, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(TableError, match="one length"):
        user_correlation([1.0, 2.0], [1.0, 2.0, 3.0])
