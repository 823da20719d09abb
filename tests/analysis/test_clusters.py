"""Cluster variances against hand numbers, statsmodels, brute force and simulated truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.clusters import (
    cell_codes,
    cluster_mean,
    dyadic_mean,
    integer_codes,
    largest_source_share,
    t_quantile,
    three_way_mean,
    two_sided_p,
)
from analysis.errors import EstimateError
from analysis.results import Population

HAND = np.array([[1, 1, 0, 1], [1, 0, 0, 1], [1, 1, 1, 0]], dtype=float)


def crossed(y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    people, items = np.indices(y.shape)
    return y.ravel(), people.ravel(), items.ravel()


def test_hand_example() -> None:
    mean = cluster_mean(*crossed(HAND))
    assert mean.estimate == pytest.approx(2 / 3)
    assert mean.variances == pytest.approx((0.0069444, 0.0185185, 0.0202020), abs=5e-8)
    assert mean.variance == pytest.approx(0.0185185, abs=5e-8)
    t, p = mean.test(0.5)
    assert (mean.df, t, p) == (2, pytest.approx(1.2247449), pytest.approx(0.3453463))
    combined = mean.variances[0] + mean.variances[1] - mean.variances[2]
    assert combined == pytest.approx(0.005260942760942761, rel=1e-12)  # statsmodels


def test_statsmodels_two_groups(rng: np.random.Generator) -> None:
    sm = pytest.importorskip("statsmodels.api")
    people, items = rng.integers(0, 15, 900), rng.integers(0, 9, 900)
    y = rng.normal(size=15)[people] + rng.normal(size=9)[items] + rng.normal(size=900)
    groups = np.column_stack([people, items])
    fit = sm.OLS(y, np.ones(900)).fit(cov_type="cluster", cov_kwds={"groups": groups, "use_correction": True})
    v_people, v_items, v_cells = cluster_mean(y, people, items).variances
    # statsmodels scales each term by (n-1)/(n-1) * G/(G-1), as here
    assert v_people + v_items - v_cells == pytest.approx(float(np.squeeze(fit.cov_params())), rel=1e-10)


def test_three_way_is_the_sum_over_pairs_that_share_a_factor(rng: np.random.Generator) -> None:
    p, i, s = (rng.integers(0, k, 60) for k in (5, 6, 4))
    y = rng.normal(size=60)
    mean = three_way_mean(y, p, i, s)
    r = y - y.mean()

    def term(*factors: np.ndarray) -> float:
        keys = list(zip(*factors, strict=True))
        totals: dict[tuple, float] = {}
        for key, value in zip(keys, r, strict=True):
            totals[key] = totals.get(key, 0) + value
        g = len(totals)
        return g / (g - 1) * sum(v * v for v in totals.values()) / 60**2

    brute = term(p) + term(i) + term(s) - term(p, i) - term(p, s) - term(i, s) + term(p, i, s)
    assert mean.variance == pytest.approx(max(brute, term(p), term(i), term(s)))
    assert mean.df == 3


def test_dyadic_counts_every_pair_that_shares_a_person_once(rng: np.random.Generator) -> None:
    n, users = 40, 6
    u = rng.integers(0, users, n)
    v = (u + rng.integers(1, users, n)) % users
    i = rng.integers(0, 5, n)
    y = rng.normal(size=n)
    r = y - y.mean()
    share = np.array([[len({u[a], v[a]} & {u[b], v[b]}) > 0 for b in range(n)] for a in range(n)])
    product = np.outer(r, r)
    # the total over persons counts a pair of rows once for each shared person: twice within a dyad, less the dyads
    brute = (product * share).sum() / n**2 * users / (users - 1)
    assert dyadic_mean(y, u, v, i).variances[0] == pytest.approx(brute)


def test_fixed_sides_use_the_other_side_only() -> None:
    y, people, items = crossed(HAND)
    both = cluster_mean(y, people, items)
    fixed_people = cluster_mean(y, people, items, Population("these", "new"))
    fixed_items = cluster_mean(y, people, items, Population("new", "these"))
    assert (fixed_people.variance, fixed_people.df) == (both.variances[1], 3)
    assert (fixed_items.variance, fixed_items.df) == (both.variances[0], 2)
    assert cluster_mean(y, people, items, Population("these", "these")).df == 11


def test_refusals() -> None:
    y, people, items = crossed(HAND)
    with pytest.raises(EstimateError, match="1 people"):
        cluster_mean(y, np.zeros_like(people), items)
    with pytest.raises(EstimateError, match="1 items"):
        cluster_mean(y, people, np.zeros_like(items))
    with pytest.raises(EstimateError, match="all 12 values are 1"):
        cluster_mean(np.ones(12), people, items)
    with pytest.raises(EstimateError, match="same total"):
        cluster_mean(*crossed(np.array([[1.0, 0], [0, 1]])))
    with pytest.raises(EstimateError, match="2 rows have no cluster"):
        integer_codes(np.array(["a", None, None], dtype=object))


def test_student_t_matches_scipy_stats() -> None:
    assert t_quantile(0.975, 7) == pytest.approx(stats.t.ppf(0.975, 7))
    assert two_sided_p(-2.1, 7) == pytest.approx(2 * stats.t.sf(2.1, 7))


def test_cells_dense_and_sorted_agree(rng: np.random.Generator) -> None:
    first, second = rng.integers(0, 40, 500), rng.integers(0, 30, 500)
    dense, n_dense = cell_codes(first, second, 30)
    sparse, n_sparse = cell_codes(first, second, 10**9)
    assert n_dense == n_sparse
    assert np.array_equal(dense, sparse)


def test_source_share() -> None:
    assert largest_source_share(np.array([0, 1, 2, 3]), 4) == 1
    assert largest_source_share(np.array([0, 0, 0, 1]), 8) == 6


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_properties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    people, items = rng.integers(0, 6, 80), rng.integers(0, 7, 80)
    people, items = integer_codes(people)[0], integer_codes(items)[0]
    y = rng.integers(0, 3, 80) / 2 + 0.1 * rng.normal(size=6)[people]
    mean = cluster_mean(y, people, items)
    order = rng.permutation(80)
    shuffled = cluster_mean(y[order], people[order], items[order])
    doubled = cluster_mean(*(np.concatenate([a, a]) for a in (y, people, items)))
    flipped = cluster_mean(1 - y, people, items)
    assert shuffled.se == pytest.approx(mean.se, rel=1e-9)
    assert doubled.se == pytest.approx(mean.se, rel=1e-9)
    assert flipped.test(0.5)[0] == pytest.approx(-mean.test(0.5)[0], rel=1e-7)


def crossed_null(rng: np.random.Generator, sds: tuple[float, float, float]) -> np.ndarray:
    """Wins of 40 people x 20 prompts with no effect on average over people and prompts."""
    person = sds[0] * rng.normal(size=(40, 1))
    prompt = sds[1] * rng.normal(size=(1, 20))
    logit = person + prompt + sds[2] * rng.normal(size=(40, 20))
    return (rng.random((40, 20)) < 1 / (1 + np.exp(-logit))).astype(float)


def test_false_positives_hold_where_the_binomial_fails() -> None:
    rng = np.random.default_rng(101)
    replicates, rejected, naive = 1000, 0, 0
    people, items = (a.ravel() for a in np.indices((40, 20)))
    for _ in range(replicates):
        y = crossed_null(rng, (0.3, 0.6, 0.3)).ravel()
        rejected += cluster_mean(y, people, items).test(0.5)[1] < 0.05
        naive += abs(y.mean() - 0.5) / math.sqrt(0.25 / 800) > 1.959964
    assert 0.035 <= rejected / replicates <= 0.075  # 1,000 replicates: Monte Carlo SE .007
    assert naive / replicates > 0.25
