from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.errors import EstimateError
from analysis.pairs import accuracy_by_user
from analysis.results import Population
from analysis.user_means import MeanOverUsers, clustered_value, crossing, estimand_for, mean_over_users


def test_variance_parts_equal_the_double_sums(rng: np.random.Generator) -> None:
    """Each part written as a sum over pairs of rows that share the cluster; one user is left out."""
    user = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 3])
    item = np.array([0, 1, 2, 0, 1, 1, 3, 2, 3, 0, 2, 3])
    value, influence = np.array([0.6, 0.7, np.nan, 0.4]), rng.normal(size=12)
    found = mean_over_users(value, influence, crossing(user, item))
    live = [k for k in range(12) if user[k] != 2]
    part = influence / 3
    v_item = sum(part[i] * part[j] for i in live for j in live if item[i] == item[j])
    v_cell = sum(part[i] * part[j] for i in live for j in live if (user[i], item[i]) == (user[j], item[j]))
    v_user = np.var([0.6, 0.7, 0.4], ddof=1) / 3
    np.testing.assert_allclose([found.v_user, found.v_item, found.v_cell], [v_user, v_item, v_cell])
    assert (found.n_users, found.n_items, found.df) == (3, 4, 2)
    assert found.estimate == pytest.approx(1.7 / 3)
    assert found.se == pytest.approx(math.sqrt(max(v_user + v_item - v_cell, v_user, v_item)))
    # t quantile .975 with 2 degrees of freedom, from a printed table
    assert found.ci_high - found.estimate == pytest.approx(4.3027 * found.se, rel=1e-4)


def test_population_chooses_what_varies(rng: np.random.Generator) -> None:
    user, item = np.repeat(np.arange(8), 10), np.tile(np.arange(10), 8)
    value, influence, rows = rng.normal(size=8), rng.normal(size=80), crossing(user, item)

    def at(people: str, items: str) -> MeanOverUsers:
        return mean_over_users(value, influence, rows, population=Population(people, items))  # type: ignore[arg-type]

    assert at("new", "these").se == pytest.approx(value.std(ddof=1) / math.sqrt(8))
    assert at("new", "these").df == 7
    assert at("these", "new").se ** 2 == pytest.approx(at("new", "new").v_item)
    assert at("these", "new").df == 9
    assert at("these", "these").se ** 2 == pytest.approx(at("new", "new").v_cell)
    assert at("new", "new").se >= max(at("new", "these").se, at("these", "new").se)


def test_too_few_clusters_give_no_interval() -> None:
    one = mean_over_users([0.7], np.array([0.1, -0.1]), crossing(np.array([0, 0]), np.array([0, 1])))
    assert one.estimate == 0.7
    assert math.isnan(one.se)
    assert math.isnan(one.ci_low)
    none = mean_over_users([np.nan], np.zeros(2), crossing(np.array([0, 0]), np.array([0, 1])))
    assert none.n_users == 0
    assert math.isnan(none.estimate)
    assert math.isnan(clustered_value(0.5, np.zeros(3), [np.zeros(3, int)]).se)


def test_nested_clusters_take_the_larger_variance() -> None:
    influence = np.array([0.1, 0.1, -0.1, -0.1])
    images, prompts = np.arange(4), np.array([0, 0, 1, 1])
    found = clustered_value(0.6, influence, [images, prompts], null=0.5)
    assert found.df == 1
    assert found.se**2 == pytest.approx(2 * (0.2**2 + 0.2**2))
    alone = clustered_value(0.6, influence, [images])
    assert alone.se**2 == pytest.approx(4 / 3 * 4 * 0.01)


def test_estimand_speaks_for_new_ones_only_with_enough() -> None:
    estimand, warnings = estimand_for("x", Population(), 5, 40, "images")
    assert estimand.text == "x, for these users and new images"
    assert "only 5 users" in warnings[0]


def test_confidence_is_checked() -> None:
    with pytest.raises(EstimateError, match="confidence"):
        mean_over_users([0.1, 0.2], np.array([1.0, -1.0]), crossing(np.array([0, 1]), np.array([0, 1])), confidence=95)


class Study:
    """The simulation of the methods note: shared and private taste, a model with errors shared by all users."""

    def __init__(self, rng: np.random.Generator, n_users: int, n_images: int, each: int) -> None:
        a, flaw, flaw2 = rng.normal(size=(3, n_images))
        own, noise, luck = rng.normal(size=(3, n_users, n_images))
        insight = 0.25 + 0.15 * rng.normal(size=(n_users, 1))
        truth = np.rint(100_000 * (0.55 * a + 0.55 * own + 0.63 * noise)).astype(np.int64)
        personal = 0.55 * (a + flaw) + insight * own + 0.2 * luck
        shared = np.broadcast_to(0.55 * (a + flaw2), own.shape)
        self.image = np.concatenate([rng.choice(n_images, each, replace=False) for _ in range(n_users)])
        self.user = np.repeat(np.arange(n_users), each)
        at = (self.user, self.image)
        self.truth, self.personal, self.shared = truth[at], personal[at], shared[at]

    def intervals(self) -> tuple[MeanOverUsers, MeanOverUsers, float]:
        """Personal model, its difference to the shared one, and the naive standard error over pairs."""
        rows = crossing(self.user, self.image)
        one = accuracy_by_user(rows.user, self.truth, self.personal, [0])
        two = accuracy_by_user(rows.user, self.truth, self.shared, [0])
        mean = mean_over_users(one.accuracy[:, 0], one.influence[:, 0], rows)
        gap = mean_over_users(one.accuracy[:, 0] - two.accuracy[:, 0], (one.influence - two.influence)[:, 0], rows)
        pairs, p = one.n_pairs.sum(), mean.estimate
        return mean, gap, math.sqrt(p * (1 - p) / pairs)


def coverage(rng: np.random.Generator, replicates: int) -> tuple[float, float, float]:
    """Share of intervals that hold the truth: accuracy, difference of models, naive over pairs."""
    true = np.mean([[x.estimate for x in Study(rng, 60, 120, 60).intervals()[:2]] for _ in range(120)], axis=0)
    hits = np.zeros(3)
    for _ in range(replicates):
        mean, gap, naive = Study(rng, 20, 60, 30).intervals()
        hits += [
            mean.ci_low <= true[0] <= mean.ci_high,
            gap.ci_low <= true[1] <= gap.ci_high,
            abs(mean.estimate - true[0]) <= 1.96 * naive,
        ]
    found = hits / replicates
    return float(found[0]), float(found[1]), float(found[2])


def test_two_way_interval_covers_and_the_naive_one_does_not(rng: np.random.Generator) -> None:
    """Nominal .95; with 100 replicates three Monte Carlo standard errors are .065. The naive interval covers .42."""
    accuracy, difference, naive = coverage(rng, 100)
    assert accuracy >= 0.95 - 0.065
    assert difference >= 0.95 - 0.065
    assert naive < 0.65


@pytest.mark.slow
def test_coverage_in_four_hundred_replicates(rng: np.random.Generator) -> None:
    accuracy, difference, naive = coverage(rng, 400)
    assert accuracy >= 0.92
    assert difference >= 0.92
    assert naive < 0.55
