from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.errors import EstimateError, TableError
from analysis.pairs import PairCounts, accuracy_by_user, calibrate_epsilon, item_tallies, pair_counts, user_accuracy

small = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12).map(lambda k: k * 0.1)), min_size=1, max_size=40)


def counts_by_definition(y: list[int], s: list[float], margin: int, epsilon: float) -> PairCounts:
    found = [0, 0, 0, 0, 0]
    for i, j in itertools.combinations(range(len(y)), 2):
        truth_ties, score_ties = abs(y[i] - y[j]) <= margin, abs(s[i] - s[j]) <= epsilon
        if truth_ties:
            found[4 if score_ties else 3] += 1
        elif score_ties:
            found[2] += 1
        else:
            found[0 if (y[i] > y[j]) == (s[i] > s[j]) else 1] += 1
    return PairCounts(*found)


@settings(deadline=None)
@given(small, st.integers(0, 12), st.integers(0, 6))
def test_counts_equal_their_definition(rows: list[tuple[int, float]], margin: int, step: int) -> None:
    y, s = [r[0] for r in rows], [r[1] for r in rows]
    # epsilons that are themselves differences of scores, where s - epsilon rounds to the wrong side
    epsilon = abs(s[0] - s[-1]) if step == 6 else step * 0.1
    assert pair_counts(y, s, margin, epsilon) == counts_by_definition(y, s, margin, epsilon)


def test_published_tie_calibration_examples() -> None:
    """The worked examples of Deutsch, Foster & Freitag's own software: metric 0, 2, 6, 8."""
    metric, epsilons = [0.0, 2.0, 6.0, 8.0], (0, 2, 4, 6, 8)
    distinct = [pair_counts([1, 2, 3, 4], metric, 0, e).acc_eq for e in epsilons]
    np.testing.assert_allclose(distinct, [1, 4 / 6, 3 / 6, 1 / 6, 0])
    tied = [pair_counts([1, 1, 1, 4], metric, 0, e).acc_eq for e in epsilons]
    np.testing.assert_allclose(tied, [3 / 6, 3 / 6, 4 / 6, 4 / 6, 3 / 6])
    assert calibrate_epsilon([([1, 1, 1, 4], metric)], epsilons) == 4
    assert calibrate_epsilon([([1, 2, 3, 4], metric)], epsilons) == 0


def test_tau_b_equals_scipy_and_is_undefined_for_constants(rng: np.random.Generator) -> None:
    y, s = rng.integers(0, 50, 200), rng.normal(size=200).round(1)
    assert pair_counts(y, s).tau_b == pytest.approx(stats.kendalltau(y, s)[0], abs=1e-12)
    assert math.isnan(pair_counts([5, 5, 5], [1.0, 2.0, 3.0]).tau_b)
    assert math.isnan(pair_counts([1, 2, 3], [7.0, 7.0, 7.0]).tau_b)


def test_margin_is_exact_in_ticks() -> None:
    """In floats .8 - .7 > .1 and .55 - .3 > .25 are true."""
    assert pair_counts([800, 700], [1.0, 0.0], 100).usable == 0
    assert pair_counts([550, 300], [1.0, 0.0], 250).usable == 0
    assert pair_counts([801, 700], [1.0, 0.0], 100).usable == 1


def test_shares_of_an_example_by_hand() -> None:
    """Ratings 0 100 200 200, scores 1 1 2 0: the tie of truth is one of six pairs, one score tie is usable."""
    c = pair_counts([0, 100, 200, 200], [1.0, 1.0, 2.0, 0.0])
    assert c == PairCounts(2, 2, 1, 1, 0)
    assert c.acc_excl == pytest.approx(2.5 / 5)
    assert c.retained == pytest.approx(5 / 6)
    assert c.acc_eq == pytest.approx(2 / 6)


def influences_by_definition(y: np.ndarray, s: np.ndarray, margin: int) -> tuple[float, int, np.ndarray]:
    usable = np.abs(y[:, None] - y) > margin
    right = usable * (np.sign(y[:, None] - y) * np.sign(s[:, None] - s) + 1) / 2
    pairs = usable.sum() // 2
    accuracy = right.sum() / (2 * pairs)
    return accuracy, pairs, ((right - accuracy * usable).sum(axis=1)) / pairs


@pytest.mark.parametrize("n", [7, 60, 600, 2300])  # both algorithms: table of signs and rank index
@pytest.mark.parametrize("margins", [[0], [30, 0, 200]])
def test_accuracy_and_influence_equal_their_definition(n: int, margins: list[int], rng: np.random.Generator) -> None:
    y, s = rng.integers(0, 1001, n), rng.integers(0, max(n // 2, 3), n) * 0.1
    for k, margin in enumerate(margins):
        curves = accuracy_by_user(np.zeros(n, int), y, s, margins)
        accuracy, pairs, influence = influences_by_definition(y, s, margin)
        assert curves.n_pairs[0, k] == pairs
        assert curves.accuracy[0, k] == pytest.approx(accuracy, abs=1e-13)
        np.testing.assert_allclose(curves.influence[:, k], influence, atol=1e-13)
    assert pair_counts(y, s, margins[-1]).acc_excl == pytest.approx(curves.accuracy[0, -1], abs=1e-13)


def test_both_algorithms_agree_on_ties(rng: np.random.Generator) -> None:
    y, s = rng.integers(0, 20, 450), rng.integers(0, 9, 450).astype(float)
    by_index = item_tallies(y, s, np.array([2]))
    by_table = item_tallies(y, s, np.array([2, 0, 5, 7]))
    np.testing.assert_array_equal(by_index[0][:, 0], by_table[0][:, 0])
    np.testing.assert_array_equal(by_index[1][:, 0], by_table[1][:, 0])


@settings(deadline=None)
@given(small, st.integers(0, 12))
def test_invariances(rows: list[tuple[int, float]], margin: int) -> None:
    y, s = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    found = user_accuracy(y, s, margin)
    assert found.influence.sum() == pytest.approx(0, abs=1e-12)
    if found.n_pairs == 0:
        assert math.isnan(found.accuracy)
        return
    assert user_accuracy(y + 137, s, margin).accuracy == found.accuracy
    assert user_accuracy(y, np.exp(3 * s) - 5, margin).accuracy == found.accuracy
    assert user_accuracy(y, -s, margin).accuracy == pytest.approx(1 - found.accuracy, abs=1e-14)
    assert user_accuracy(y, np.zeros(len(y)), margin).accuracy == 0.5
    back = user_accuracy(y[::-1], s[::-1], margin)
    assert back.accuracy == found.accuracy
    np.testing.assert_allclose(back.influence[::-1], found.influence, atol=1e-15)


def test_users_do_not_mix_and_row_order_does_not_matter(rng: np.random.Generator) -> None:
    user = np.repeat([0, 1, 2], [40, 9, 1])
    y, s = rng.integers(0, 1001, 50), rng.normal(size=50)
    together = accuracy_by_user(user, y, s, [0, 100])
    shuffled = rng.permutation(50)
    again = accuracy_by_user(user[shuffled], y[shuffled], s[shuffled], [0, 100])
    np.testing.assert_array_equal(again.accuracy, together.accuracy)
    np.testing.assert_allclose(again.influence, together.influence[shuffled], atol=1e-15)
    for u in (0, 1):
        assert together.accuracy[u, 1] == user_accuracy(y[user == u], s[user == u], 100).accuracy
    assert np.isnan(together.accuracy[2]).all()
    assert together.n_items.tolist() == [40, 9, 1]


@pytest.mark.parametrize(
    ("truth", "score", "margin"),
    [([0.5, 1], [1, 2], 0), ([1, 2], [1, np.nan], 0), ([1, 2], [1, 2, 3], 0), ([1, 2], [1, 2], -1)],
)
def test_what_cannot_be_counted_is_refused(truth: list[float], score: list[float], margin: int) -> None:
    with pytest.raises(TableError):
        pair_counts(truth, score, margin)
    with pytest.raises(TableError):
        user_accuracy(truth, score, margin)


def test_calibration_needs_users() -> None:
    with pytest.raises(EstimateError, match="0 users"):
        calibrate_epsilon([], [0.0])
