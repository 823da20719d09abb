from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from analysis.retest import repeated_pairs, retest_of, shrunken_correlations


def test_repeats_are_paired_with_the_next_occasion() -> None:
    table = pd.DataFrame(
        {
            "user_id": list("aaabba"),
            "image_id": list("xxxxyy"),
            "occasion": [2, 1, 3, 1, 1, 1],
            "score": [20, 10, 30, 1, 2, 3],
            "rated_at": ["2026-01-15", "2026-01-01", "2026-01-16T12:00:00Z", "2026-01-01", "2026-01-01", "2026-01-01"],
        }
    )
    pairs = repeated_pairs(table)
    assert pairs.first.tolist() == [10, 20]
    assert pairs.later.tolist() == [20, 30]
    np.testing.assert_allclose(pairs.weeks, [2.0, 1.5 / 7])
    assert retest_of(repeated_pairs(table.drop(columns="occasion").drop_duplicates(["user_id", "image_id"]))) is None
    assert np.isnan(repeated_pairs(table.assign(rated_at="last week")).weeks).all()


def test_retest_reaches_the_closed_forms(rng: np.random.Generator) -> None:
    """Reliability .6: own first ratings order .705 of the pairs as the later ones; four standard errors."""
    users, images = 200, 60
    taste = rng.normal(0, math.sqrt(0.6), (users, images))
    user, image = (codes.ravel() for codes in np.indices(taste.shape))
    rows = [
        pd.DataFrame(
            {
                "user_id": user.astype(str),
                "image_id": image.astype(str),
                "occasion": k,
                "score": np.rint(500 + 120 * (taste + rng.normal(0, math.sqrt(0.4), taste.shape)).ravel()).astype(int),
            }
        )
        for k in (1, 2)
    ]
    found = retest_of(repeated_pairs(pd.concat(rows)))
    assert found is not None
    assert found.agreement == pytest.approx(0.7048, abs=4 * 0.0033 * math.sqrt(80 / users))
    assert found.correlation == pytest.approx(0.6, abs=4 * 0.64 / math.sqrt(users * images))
    assert found.implied_correlation == pytest.approx(found.correlation, abs=0.02)
    assert found.noise_sd == pytest.approx(120 * math.sqrt(0.4), rel=0.03)
    assert found.correlation_low < 0.6 < found.correlation_high
    assert len(found.users) == users
    assert len(found.images) == images
    assert found.by_gap == ()


def test_taste_that_drifts_shows_by_weeks_between(rng: np.random.Generator) -> None:
    users, images = 60, 40
    taste = rng.normal(0, 1, (users, images))
    drifted = np.where(np.arange(images) < 20, taste, 0.3 * taste + math.sqrt(1 - 0.09) * rng.normal(0, 1, taste.shape))
    user, image = (codes.ravel() for codes in np.indices(taste.shape))
    late = np.where(image < 20, "2026-01-04", "2026-03-01")
    rows = [
        pd.DataFrame(
            {"user_id": user.astype(str), "image_id": image.astype(str), "occasion": k, "rated_at": when,
             "score": np.rint(500 + 120 * values.ravel()).astype(int)}
        )
        for k, values, when in ((1, taste, "2026-01-01"), (2, drifted, late))
    ]  # fmt: skip
    found = retest_of(repeated_pairs(pd.concat(rows)))
    assert found is not None
    gaps = {gap.gap: gap for gap in found.by_gap}
    assert gaps["up to 1 week"].correlation == pytest.approx(1.0, abs=0.001)
    assert gaps["8 weeks or more"].correlation == pytest.approx(0.3, abs=0.06)
    assert sum(gap.n_pairs for gap in found.by_gap) == found.n_pairs


def test_users_correlations_are_shrunk_by_their_uncertainty(rng: np.random.Generator) -> None:
    """300 users, true z with SD .3 around .8 and 20 images each: shrunken values lie nearer to the truth."""
    z = rng.normal(0.8, 0.3, 300)
    r = np.tanh(rng.normal(z, 1 / math.sqrt(17)))
    shrunk = shrunken_correlations(r, np.full(300, 20))
    assert np.mean((shrunk - np.tanh(z)) ** 2) < 0.8 * np.mean((r - np.tanh(z)) ** 2)
    alike = shrunken_correlations(np.tanh(rng.normal(0.8, 1e-3, 50)), np.full(50, 10))
    assert np.ptp(alike) < 1e-12  # differ by less than chance: all get the mean
    mixed = shrunken_correlations(np.array([0.9, np.nan, 0.2]), np.array([30, 3, 30]))
    assert 0.2 <= mixed[2] < mixed[1] < mixed[0] <= 0.9
