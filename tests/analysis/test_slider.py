from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from analysis.slider import anchoring, five_answers, scale_variation, slider_use, standardised
from analysis.tables import Scale


def table(rng: np.random.Generator, pull: float = 0.0, users: int = 40, images: int = 30) -> pd.DataFrame:
    user, image = (codes.ravel() for codes in np.indices((users, images)))
    start = rng.integers(0, 1001, len(user))
    y = 500 + 80 * rng.normal(size=users)[user] + 80 * rng.normal(size=images)[image] + 90 * rng.normal(size=len(user))
    score = np.clip(np.rint(y + pull * (start - 500)), 0, 1000).astype(int)
    return pd.DataFrame(
        {"user_id": user.astype(str), "image_id": image.astype(str), "score": score, "start_position": start}
    )


def test_heaping_is_measured_against_evenly_spread_answers(rng: np.random.Generator) -> None:
    even = table(rng).assign(score=rng.integers(0, 1001, 1200))
    found = slider_use(even)
    assert found.near_marks_by_chance == pytest.approx((21 * 3 + 11 * 2) / 1001)
    assert found.near_marks == pytest.approx(found.near_marks_by_chance, abs=0.03)
    snapped = even["score"].where(even["user_id"].astype(int) % 2 == 0, 250 * np.rint(even["score"] / 250).astype(int))
    heaped = slider_use(even.assign(score=snapped))
    assert heaped.near_marks == pytest.approx(0.5 + found.near_marks / 2, abs=0.03)
    assert any("20 users answer at the marks only" in w for w in heaped.warnings)
    own = heaped.users.set_index("user_id")
    assert own.loc["1", "near_marks"] == 1
    assert own.loc["1", "n_values"] <= 5


def test_ends_and_few_values_are_told(rng: np.random.Generator) -> None:
    wide = table(rng)
    ends = wide.assign(score=np.clip((wide["score"] - 500) * 4 + 500, 0, 1000))
    found = slider_use(ends)
    assert found.at_low + found.at_high > 0.15
    assert any("ends of the slider" in w for w in found.warnings)
    likert = slider_use(wide.assign(score=five_answers(wide["score"]) + 1), Scale(1, 5))
    assert likert.n_values <= 5
    assert any("ordinal" in w for w in likert.warnings)
    assert slider_use(wide).warnings == ()


def test_five_answers_are_the_nearest_marks() -> None:
    assert five_answers([0, 124, 125, 374, 375, 500, 875, 1000]).tolist() == [0, 0, 1, 1, 2, 2, 4, 4]
    assert five_answers([1, 2, 4, 7], Scale(1, 7)).tolist() == [0, 1, 2, 4]


@pytest.mark.parametrize("pull", [0.0, 0.15])
def test_anchoring_equals_least_squares_with_dummies(rng: np.random.Generator, pull: float) -> None:
    """Slope of the regression with a dummy for every user and image, by another program; unbalanced rows."""
    rows = table(rng, pull, users=15, images=12).sample(frac=0.6, random_state=3)
    found = anchoring(rows)
    design = pd.concat(
        [rows[["start_position"]], pd.get_dummies(rows[["user_id", "image_id"]], drop_first=True)], axis=1
    )
    fit = sm.OLS(rows["score"].astype(float), sm.add_constant(design.astype(float))).fit()
    assert found.slope == pytest.approx(fit.params["start_position"], abs=1e-8)
    assert found.ci_low < pull < found.ci_high
    assert found.n == len(rows)


def test_anchoring_is_told_when_it_is_there(rng: np.random.Generator) -> None:
    found = slider_use(table(rng, 0.15))
    assert found.anchoring is not None
    assert found.anchoring.slope == pytest.approx(0.15, abs=0.03)
    assert any("start position" in w for w in found.warnings)
    fixed = anchoring(table(rng).assign(start_position=500))
    assert math.isnan(fixed.slope)
    assert "at random" in str(fixed.reason)
    assert anchoring(table(rng).assign(start_position=np.nan)).reason == "no start positions"
    assert slider_use(table(rng).drop(columns="start_position")).anchoring is None


def test_false_anchoring_is_rare(rng: np.random.Generator) -> None:
    """200 studies without pull: 5 % or less within three standard errors."""
    rejected = sum(anchoring(table(rng, users=20, images=20)).p < 0.05 for _ in range(200))
    assert rejected / 200 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)


def test_scale_variation_without_the_noise_of_few_ratings(rng: np.random.Generator) -> None:
    for cv, n in ((0.0, 15), (0.3, 15), (0.6, 60)):
        spread = math.sqrt(math.log(1 + cv**2))
        stretch = np.exp(spread * rng.standard_normal(3000))
        sd = stretch * np.sqrt(rng.chisquare(n - 1, 3000) / (n - 1))
        assert scale_variation(sd, np.full(3000, n)) == pytest.approx(cv, abs=0.08)
    assert math.isnan(scale_variation(np.array([1.0]), np.array([50])))


def test_standardised_ratings(rng: np.random.Generator) -> None:
    user = np.repeat(np.arange(50), 40)
    y = rng.normal(size=2000) * np.exp(0.4 * rng.standard_normal(50))[user] + rng.normal(size=50)[user]
    plain = standardised(y, user, shrink=False)
    grouped = pd.Series(plain).groupby(user)
    np.testing.assert_allclose(grouped.mean(), 0, atol=1e-12)
    np.testing.assert_allclose(grouped.std(), 1)
    shrunk = pd.Series(standardised(y, user)).groupby(user).std()
    assert 0 < shrunk.std() < 0.2
    # three ratings say next to nothing of a spread: all users are divided by nearly the same number
    three = np.repeat(np.arange(300), 3)
    drawn = rng.normal(size=900)
    ratio = pd.Series(drawn).groupby(three).std() / pd.Series(standardised(drawn, three)).groupby(three).std()
    assert np.std(np.log(ratio)) < 0.1
    assert np.isnan(standardised([1.0, 5.0, 5.0], np.array([0, 1, 1]), shrink=False)).all()
