"""PERMANOVA and Mantel's correlation against R vegan, analysis of variance, all permutations, simulated people."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import pdist, squareform

from analysis.distances import mantel, permanova, steering_distances
from analysis.errors import EstimateError

DUNE = """
100000000004000070420000000000 300203400004000050470000505000 040702000004000060560000202020
080202302004000050450050201020 200042200004000025260500322020 200030000000000065340600355060
200020200000000265450300322020 040500000040004040442020302020 030300000006004420450220203020
400042400000000063440000306120 000000000000020073400020503240 040800000000000400040240203040
050500010000000300292020202000 040000000240000000002000206004 040000000250003000002000201040
070400000080003000022000000043 202040000000020002100000200000 000002000000000023300003502160
003040000000250000000033602030 050000000040004000004005200043
"""
"""Cover of 30 plants, 0 to 9, on 20 meadows (Jongman, ter Braak & van Tongeren 1987)."""

MANAGEMENT = list("SBSSHHHHHBBSSNNSNNNN")
"""Standard, biological, hobby farming, nature conservation."""


def dune() -> np.ndarray:
    cover = np.array([list(map(int, row)) for row in DUNE.split()])
    return squareform(pdist(cover, "braycurtis"))


def test_permanova_of_the_dune_meadows(rng: np.random.Generator) -> None:
    """R vegan `adonis2(dune ~ Management)`: F 2.767243, R2 .34161, p about .004."""
    found = permanova(dune(), MANAGEMENT, rng=rng, draws=1999)
    assert found.f == pytest.approx(2.767243, abs=5e-7)
    assert found.r2 == pytest.approx(0.34161, abs=5e-6)
    assert (found.df_groups, found.df_residual) == (3, 16)
    assert 0 < found.p < 0.01


def test_on_a_line_it_is_the_analysis_of_variance(rng: np.random.Generator) -> None:
    values, groups = rng.normal(size=30), np.repeat([0, 1, 2], [12, 10, 8])
    found = permanova(squareform(pdist(values[:, None])), groups, rng=rng, draws=1999)
    expected = stats.f_oneway(*(values[groups == g] for g in range(3)))
    assert found.f == pytest.approx(expected.statistic)
    assert found.p == pytest.approx(expected.pvalue, abs=0.05)


def test_mantel_of_lichens_and_soil(run_r, rng: np.random.Generator) -> None:
    """R vegan on its lichen pastures: r .4267532."""
    text = run_r(
        "suppressMessages(library(vegan)); data(varespec); data(varechem);"
        "v <- vegdist(wisconsin(varespec)); w <- vegdist(scale(varechem), 'euclid');"
        "cat(sprintf('%.12f', c(mantel(v, w, permutations = 1)$statistic, v, w)))"
    )
    r, *entries = map(float, text.split())
    first, second = (squareform(np.array(half)) for half in np.split(np.array(entries), 2))
    found = mantel(first, second, rng=rng, draws=99)
    assert found.r == pytest.approx(0.4267532, abs=5e-8)
    assert found.r == pytest.approx(r, abs=1e-9)
    assert found.p == 0.01
    assert found.n_people == 24


def test_permutations_stay_within_strata(rng: np.random.Generator) -> None:
    """Two objects a stratum: p counts the 2^5 ways to deal labels, which are all enumerated here."""
    strata = np.repeat(np.arange(5), 2)
    groups = np.tile([0, 1], 5)
    z = rng.normal(size=(10, 3)) + 5 * strata[:, None] + 0.8 * groups[:, None]
    d = squareform(pdist(z))
    observed = permanova(d, groups, rng=rng, draws=0).f
    ways = [np.array(flips)[strata] ^ groups for flips in itertools.product([0, 1], repeat=5)]
    exact = np.mean([permanova(d, labels, rng=rng, draws=0).f >= observed - 1e-9 for labels in ways])
    assert permanova(d, groups, rng=rng, strata=strata, draws=4999).p == pytest.approx(exact, abs=0.03)
    assert np.isnan(permanova(d, groups, rng=rng, draws=0).p)


def test_mantel_p_counts_all_orders(rng: np.random.Generator) -> None:
    a, b = (squareform(pdist(rng.normal(size=(5, 2)))) for _ in range(2))
    observed = mantel(a, b, rng=rng, draws=0).r
    upper = np.triu_indices(5, 1)
    every = [np.corrcoef(a[upper], b[np.ix_(o, o)][upper])[0, 1] for o in itertools.permutations(range(5))]
    assert observed == pytest.approx(np.corrcoef(a[upper], b[upper])[0, 1])
    expected = np.mean(np.array(every) >= observed - 1e-9)
    assert mantel(a, b, rng=rng, draws=4999).p == pytest.approx(expected, abs=0.03)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), factor=st.floats(0.1, 50))
def test_properties(seed: int, factor: float) -> None:
    """The unit of distances, the order of objects and the names of groups change nothing."""
    rng = np.random.default_rng(seed)
    d = squareform(pdist(rng.normal(size=(9, 2))))
    e = squareform(pdist(rng.normal(size=(9, 2))))
    groups = rng.permutation(np.arange(9) % 3)
    order = rng.permutation(9)
    f = permanova(d, groups, rng=rng, draws=0)
    moved = permanova(factor * d[np.ix_(order, order)], [f"g{k}" for k in groups[order]], rng=rng, draws=0)
    assert (moved.f, moved.r2) == pytest.approx((f.f, f.r2), rel=1e-9)
    r = mantel(d, e, rng=rng, draws=0).r
    assert mantel(e[np.ix_(order, order)], factor * d[np.ix_(order, order)], rng=rng, draws=0).r == pytest.approx(r)


def steered_people(rng: np.random.Generator, weight: float) -> tuple[pd.DataFrame, np.ndarray]:
    """Ten users with tastes in four dimensions whose images move by `weight` times their taste; the tastes."""
    taste = rng.normal(size=(10, 4))
    rows = [
        {"user_id": f"u{u:02d}", "prompt_id": f"p{p}", "run": r, "embedding": (weight * taste[u] + noise).tolist()}
        for u in range(10)
        for p in range(6)
        for r, noise in enumerate(rng.normal(size=(2, 4)), start=1)
    ]
    return pd.DataFrame(rows), taste


def test_people_alike_in_taste_are_steered_alike(rng: np.random.Generator) -> None:
    steered, taste = steered_people(rng, 1.0)
    distances, users = steering_distances(steered)
    assert users == sorted(set(steered["user_id"]))
    found = mantel(squareform(pdist(taste)), distances, rng=rng, draws=999)
    assert found.r > 0.4
    assert found.p < 0.01


def test_permanova_by_user_within_prompts_keeps_its_level(rng: np.random.Generator) -> None:
    """200 worlds without anything personal, 99 permutations each: 5 % within three errors."""
    rejected = 0
    for _ in range(200):
        steered, _ = steered_people(rng, 0.0)
        d = squareform(pdist(np.stack(steered["embedding"].to_list())))
        found = permanova(d, steered["user_id"], rng=rng, strata=steered["prompt_id"], draws=99)
        rejected += found.p <= 0.05
    assert abs(rejected / 200 - 0.05) <= 3 * np.sqrt(0.05 * 0.95 / 200)


@pytest.mark.parametrize(
    ("distances", "groups", "message"),
    [
        (np.zeros((3, 2)), [0, 1, 1], "shape"),
        (np.array([[0, 1.0], [2, 0]]), [0, 1], "symmetric"),
        (np.ones((3, 3)) - np.eye(3), [0, 0, 0], "1 groups"),
        (np.ones((3, 3)) - np.eye(3), [0, 1, 2], "3 groups"),
        (np.ones((3, 3)) - np.eye(3), [0, 1], "2 labels"),
        (np.zeros((3, 3)), [0, 1, 1], "zero"),
    ],
)
def test_mistakes_are_refused(distances: np.ndarray, groups: list[int], message: str) -> None:
    with pytest.raises(EstimateError, match=message):
        permanova(distances, groups, rng=np.random.default_rng(0))


def test_mantel_refuses_what_has_no_correlation(rng: np.random.Generator) -> None:
    flat = np.ones((4, 4)) - np.eye(4)
    varied = squareform(pdist(rng.normal(size=(4, 2))))
    with pytest.raises(EstimateError, match="all distances are the same"):
        mantel(flat, varied, rng=rng)
    with pytest.raises(EstimateError, match="of 3 and of 4 people"):
        mantel(varied[:3, :3], varied, rng=rng)
    with pytest.raises(EstimateError, match="2 strata"):
        permanova(varied, [0, 0, 1, 1], rng=rng, strata=[0, 1])
