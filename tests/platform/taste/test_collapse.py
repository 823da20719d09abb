"""The collapse check on predictions whose spread is known, against closed forms and least squares."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.user_means import crossing
from beholder.errors import TableError, UserError
from beholder.taste.collapse import LEAST_KEPT, collapse, spread_frame, vector_spread, without_levels
from beholder.taste.designs import Pictures
from beholder.taste.evaluate import Folds, evaluate
from beholder.taste.registry import taste_model

sys.path.insert(0, str(Path(__file__).parent))
from taste_worlds import make_world


def study(rng: np.random.Generator, n_users: int = 40, n_images: int = 60) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ratings of two thirds of the pairs: levels, private taste (variance 1), noise (variance 1); and the taste."""
    private = rng.standard_normal((n_users, n_images))
    level = 2 * rng.standard_normal((n_users, 1)) + rng.standard_normal((1, n_images))
    rated = rng.random((n_users, n_images)) < 2 / 3
    users, images = np.nonzero(rated)
    frame = pd.DataFrame({"user_id": [f"u{u}" for u in users], "image_id": [f"i{i}" for i in images]})
    noise = rng.standard_normal(rated.shape)
    ratings = frame.assign(score=(level + private + noise)[rated])
    return ratings, frame.assign(score=private[rated], level=level[rated])


def told(truth: pd.DataFrame, **factors: float) -> pd.DataFrame:
    """Predictions: people's and images' levels, and private taste times a factor."""
    return pd.concat(
        [truth.assign(model=m, score=truth["level"] + f * truth["score"], split="seen") for m, f in factors.items()]
    )


def test_levels_are_those_of_least_squares() -> None:
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, 7, 60), rng.integers(0, 9, 60)
    y = rng.standard_normal(60)
    x = np.hstack([np.eye(7)[user], np.eye(9)[item]])
    expected = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    np.testing.assert_allclose(without_levels(y, crossing(user, item)), expected, atol=1e-7)


def test_known_spreads_are_found_and_drifted_models_flagged() -> None:
    ratings, truth = study(np.random.default_rng(1))
    predictions = told(truth, oracle=1.0, half=0.5, tenth=0.1, nobody=0.0)
    names = ["oracle", "half", "tenth", "nobody"]
    found = {s.model: s for s in collapse(predictions, ratings, names, against=dict.fromkeys(names[1:], "oracle"))}
    for name, factor in (("oracle", 1.0), ("half", 0.5), ("tenth", 0.1)):
        one = found[name]
        assert one.spread.ci_low < factor**2 / 2 < one.spread.ci_high  # private taste is half of what is left
        assert one.slope.ci_low < 1 / factor < one.slope.ci_high
    assert found["tenth"].kept.estimate == pytest.approx(0.01)
    assert found["half"].kept.estimate == pytest.approx(0.25)
    assert {name: one.finding for name, one in found.items()} == {
        "oracle": "apart", "half": "drifted", "tenth": "drifted", "nobody": "drifted",
    }  # fmt: skip
    alone = {s.model: s.finding for s in collapse(predictions, ratings, names)}
    assert alone == {"oracle": "apart", "half": "apart", "tenth": "average", "nobody": "average"}
    assert found["nobody"].spread.estimate == 0


def test_shrinking_too_far_shows_without_a_model_to_compare_with() -> None:
    ratings, truth = study(np.random.default_rng(2))
    (one,) = collapse(told(truth, third=0.3), ratings, ["third"])
    assert one.finding == "shrunken"
    assert one.collapsed


def test_random_private_scores_have_spread_but_no_slope() -> None:
    rng, covered = np.random.default_rng(3), []
    for _ in range(40):
        ratings, truth = study(rng, 20, 30)
        noise = truth.assign(score=rng.standard_normal(len(truth)))
        (one,) = collapse(told(noise, lucky=1.0), ratings, ["lucky"])
        assert one.spread.estimate > 0.3
        covered.append(one.slope.ci_low < 0 < one.slope.ci_high)
    assert np.mean(covered) >= 0.85


def test_the_interval_of_what_is_kept_covers() -> None:
    """Two models whose private parts have variances 1 and .6 in the long run: the ratio is covered in 95 %."""
    rng = np.random.default_rng(4)
    covered = []
    for _ in range(100):
        loadings, other = rng.standard_normal((2, 30, 3))
        images = rng.standard_normal((40, 3))
        one, two = loadings @ images.T, (np.sqrt(0.6) * other) @ images.T
        users, items = np.divmod(np.arange(1200), 40)
        frame = pd.DataFrame({"user_id": users, "image_id": items, "split": "seen"})
        ratings = frame.assign(score=(one + rng.standard_normal(one.shape)).ravel()).drop(columns="split")
        both = pd.concat([frame.assign(model=m, score=s.ravel()) for m, s in (("one", one), ("two", two))])
        (found,) = collapse(both, ratings, ["two"], against={"two": "one"})
        covered.append(found.kept.ci_low < 0.6 < found.kept.ci_high)
    assert np.mean(covered) >= 0.9


@pytest.fixture(scope="module")
def evaluated() -> tuple[pd.DataFrame, pd.DataFrame]:
    world = make_world(np.random.default_rng(5), n_users=24, n_images=120, n_rated=50)
    r = world.ratings
    pictures = Pictures(world.features, np.array([f"p{k // 2:04d}" for k in range(120)]))
    folds = Folds(3, 2, 12, splits=("seen",))
    models = [taste_model("population"), taste_model("eb_slopes")]
    found = evaluate(r, pictures, models, folds, np.random.default_rng(1))
    return found.predictions, pd.DataFrame({"user_id": r.user_id, "image_id": r.image_id, "score": r.score})


def test_an_honest_model_is_not_flagged_and_its_drift_is(evaluated: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    predictions, ratings = evaluated
    key = ["user_id", "image_id"]
    own = predictions[predictions["model"] == "eb_slopes"].set_index(key)
    mean = predictions[predictions["model"] == "eb_population"].set_index(key)["score"].reindex(own.index)
    drifted = own.assign(model="joint", score=mean + 0.3 * (own["score"] - mean)).reset_index()
    both = pd.concat([predictions, drifted])
    found = {s.model: s for s in collapse(both, ratings, ["eb_slopes", "joint"], against={"joint": "eb_slopes"})}
    assert not found["eb_slopes"].collapsed
    assert found["eb_slopes"].slope.ci_low < 1 < found["eb_slopes"].slope.ci_high
    assert found["joint"].finding == "drifted"
    assert found["joint"].kept.estimate == pytest.approx(0.09, rel=1e-3)
    assert found["joint"].kept.ci_high < LEAST_KEPT
    frame = spread_frame(list(found.values()))
    assert list(frame["model"]) == ["eb_slopes", "joint"]
    assert frame["kept"].isna().tolist() == [True, False]


def test_vectors_that_are_one_differ_in_nothing() -> None:
    rng = np.random.default_rng(6)
    mean, own = 3 * rng.standard_normal(50), rng.standard_normal((400, 50))
    expected = 50 / (50 + float(mean @ mean))
    assert vector_spread(mean + own) == pytest.approx(expected, rel=0.05)
    assert vector_spread(np.tile(mean, (5, 1))) < 1e-12
    assert vector_spread(7 * (mean + own)) == pytest.approx(vector_spread(mean + own))
    assert np.isnan(vector_spread(own[:1]))


def test_mistakes_are_named(evaluated: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    predictions, ratings = evaluated
    with pytest.raises(UserError, match="no predictions of oracle"):
        collapse(predictions, ratings, ["oracle"])
    with pytest.raises(TableError, match="none of the predictions has a rating"):
        collapse(predictions, ratings.assign(user_id="nobody"), ["eb_slopes"])
