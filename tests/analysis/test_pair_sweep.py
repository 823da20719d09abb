"""The sweep over scores, uncompiled and compiled, against the definition and against the version in numpy."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import pairs
from analysis.pair_sweep import (
    BLOCK_BITS,
    LARGEST_SPAN,
    WORTH_COMPILING,
    Kernels,
    compiled,
    finish,
    sweep_pays,
    swept_curves,
    tally,
)
from analysis.pairs import UserCurves, accuracy_by_user, rows_by_group

without_numba = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="install numba to compile")
KERNELS = ["python", pytest.param("numba", marks=without_numba)]


@pytest.fixture(params=KERNELS)
def kernels(request: pytest.FixtureRequest) -> Kernels:
    return compiled() if request.param == "numba" else (tally, finish)


def in_numpy(monkeypatch: pytest.MonkeyPatch, *arguments: np.ndarray) -> UserCurves:
    monkeypatch.setattr(pairs, "sweep_pays", lambda truth, n_margins: False)
    return accuracy_by_user(*arguments)


def assert_same_bits(found: tuple[np.ndarray, np.ndarray, np.ndarray], expected: UserCurves) -> None:
    np.testing.assert_array_equal(found[0], expected.accuracy)
    np.testing.assert_array_equal(found[1], expected.n_pairs)
    np.testing.assert_array_equal(found[2], expected.influence)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(-20, 40), st.integers(0, 6)), min_size=1, max_size=40),
    st.lists(st.integers(0, 70), min_size=1, max_size=4),
)
def test_every_number_is_that_of_the_definition(rows: list[tuple[int, int, int]], margins: list[int]) -> None:
    user, truth, score = (np.array(column) for column in zip(*rows, strict=True))
    by_user = rows_by_group(user, int(user.max()) + 1)
    accuracy, n_pairs, influence = swept_curves(
        (tally, finish), by_user, truth, score.astype(np.float64), np.array(margins)
    )
    for u, own in enumerate(by_user):
        y, s = truth[own], score[own]
        for m, margin in enumerate(margins):
            usable = np.abs(y[:, None] - y) > margin
            credit = usable * (np.sign(y[:, None] - y) * np.sign(s[:, None] - s) + 1) / 2
            count = usable.sum() // 2
            assert n_pairs[u, m] == count
            if not count:
                assert np.isnan(accuracy[u, m])
                assert not influence[own, m].any()
                continue
            assert accuracy[u, m] == credit.sum() / (2 * count)
            expected = (credit - accuracy[u, m] * usable).sum(axis=1) / count
            np.testing.assert_allclose(influence[own, m], expected, atol=1e-14)


@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_same_bits_as_numpy_over_several_blocks(
    kernels: Kernels, decimals: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = np.concatenate([np.zeros(3 << BLOCK_BITS, int), np.repeat([1, 2, 4], [1, 2, 40])])
    user = rng.permutation(user)
    truth = rng.integers(-300, 700, len(user))
    score = (truth / 300 + rng.normal(size=len(user))).round(decimals)
    margins = np.array([0, 10, 250, 999, 5000])
    found = swept_curves(kernels, rows_by_group(user, 5), truth, score, margins)
    assert_same_bits(found, in_numpy(monkeypatch, user, truth, score, margins))


def test_ratings_far_apart(kernels: Kernels, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, score = rng.integers(0, LARGEST_SPAN + 1, 50), rng.normal(size=50)
    user, margins = np.zeros(50, int), np.array([0, 3000, LARGEST_SPAN, 10**12])
    found = swept_curves(kernels, [np.arange(50)], truth, score, margins)
    assert_same_bits(found, in_numpy(monkeypatch, user, truth, score, margins))


def test_small_tables_and_wide_scales_stay_in_numpy() -> None:
    assert not sweep_pays(np.arange(100), 50)
    assert not sweep_pays(np.array([0, LARGEST_SPAN + 1]), WORTH_COMPILING)


@without_numba
def test_large_tables_are_swept(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    user = np.repeat(np.arange(60), 340)
    truth, score = rng.integers(0, 1001, len(user)), rng.normal(size=len(user)).round(2)
    margins = np.arange(0, 500, 10)
    assert sweep_pays(truth, len(margins))
    found = accuracy_by_user(user, truth, score, margins)
    assert_same_bits(
        (found.accuracy, found.n_pairs, found.influence), in_numpy(monkeypatch, user, truth, score, margins)
    )
