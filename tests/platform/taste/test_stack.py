"""Stacks: weights against a grid, folds predicted as by fits by hand, and nothing that a fold tells of itself."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from beholder.errors import EstimateError, UserError
from beholder.taste.base import Floats, Prediction, Ratings, State, Strings
from beholder.taste.cross_fit import CrossFit, cross_fit
from beholder.taste.eb_sized import SizedSlopes
from beholder.taste.eb_slopes import EBSlopes
from beholder.taste.features import Design, FeatureMap
from beholder.taste.fusion import SMALL, Fusion
from beholder.taste.models import Population, UserMean
from beholder.taste.networks import Training
from beholder.taste.people import People
from beholder.taste.registry import load_model, save_model
from beholder.taste.splits import group_folds
from beholder.taste.stack import Stack, StackTaste, convex_weights, gain_over_first, held_out_errors
from beholder.taste.training_set import training_set

sys.path.insert(0, str(Path(__file__).parent))
from taste_worlds import make_world
from worlds import PaperWorld, paper_world

FUSION = Fusion(SMALL, Training(seeds=3, epochs=1, folds=5, ranking=0.2))


@pytest.fixture(scope="module")
def world() -> PaperWorld:
    return paper_world("linear", np.random.default_rng(0), n_users=24, n_images=240, raters=10, dims=6)


@pytest.fixture(scope="module")
def folds(world: PaperWorld) -> np.ndarray:
    return group_folds(world.training().prompt_id, 5, np.random.default_rng(3))


@pytest.fixture(scope="module")
def fitted(world: PaperWorld) -> StackTaste:
    models = (EBSlopes(factors=2), FUSION)
    return Stack(models, folds=5, tested=3, confidence=0.0).fit(
        world.training(), world.design, np.random.default_rng(1), world.people
    )


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_convex_weights_match_a_grid(seed: int) -> None:
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((3, 5))
    gram = root @ root.T
    grid = np.array([(a, b, 1 - a - b) for a in np.linspace(0, 1, 101) for b in np.linspace(0, 1 - a, 101)])
    found = convex_weights(gram)
    assert found @ gram @ found <= np.min(np.einsum("ij,jk,ik->i", grid, gram, grid)) + 1e-9
    assert np.all(found >= 0)
    assert found.sum() == pytest.approx(1, abs=1e-12)


def test_the_best_alone_has_all_the_weight() -> None:
    truth = np.random.default_rng(0).standard_normal(50)
    errors = np.stack([truth, truth + 1]) - truth
    np.testing.assert_allclose(convex_weights(errors @ errors.T / 50), [1, 0], atol=1e-6)


def test_errors_of_a_member_are_turned_into_those_of_the_ensemble() -> None:
    """Five members that depart from what they share: the mean's products of errors, from one member's."""
    rng = np.random.default_rng(2)
    n, depart = 200_000, 0.6
    other, shared = rng.multivariate_normal([0, 0], [[1.0, 0.5], [0.5, 0.8]], n).T
    members = shared + depart * rng.standard_normal((5, n))
    whole = np.stack([other, members.mean(axis=0)])
    ambiguity = float(np.mean(members.var(axis=0, ddof=1))) * (1 - 1 / 5)
    found = held_out_errors(np.stack([other, members[0]]), np.array([0.0, ambiguity]))
    # Means of 200,000 products of variance about 1: a standard error of .003.
    np.testing.assert_allclose(found, whole @ whole.T / n, atol=0.015)
    uncorrected = np.stack([other, members[0]])
    assert (uncorrected @ uncorrected.T / n)[1, 1] > found[1, 1] + 0.25


def test_folds_are_predicted_as_by_fits_without_them(world: PaperWorld, folds: np.ndarray) -> None:
    r, model = world.training(), Population(bias=True)
    found = cross_fit(model, r, world.design, folds, 2, np.random.default_rng(7))
    seed = int(np.random.default_rng(7).integers(2**62))
    for fold in (0, 1):
        test = r.take(folds == fold)
        alone = model.fit(r.take(folds != fold), world.design, np.random.default_rng([seed, fold]))
        expected = alone.predict_mean(test.user_id, world.design.rows(test.image_id))
        np.testing.assert_array_equal(found.predicted[folds == fold], expected)
    assert np.isnan(found.predicted[folds >= 2]).all()
    assert found.ambiguity == 0


@pytest.mark.parametrize("model", [EBSlopes(factors=2), FUSION], ids=["slopes", "fusion"])
def test_what_is_said_of_a_fold_does_not_come_from_it(
    model: EBSlopes | Fusion, world: PaperWorld, folds: np.ndarray
) -> None:
    """Every person's ratings of one fold change places among each other: that fold's predictions stay, others move."""
    r, rng = world.training(), np.random.default_rng(4)
    score = r.score.copy()
    for user in r.users().tolist():
        mine = np.flatnonzero((r.user_id == user) & (folds == 1))
        score[mine] = score[rng.permutation(mine)]
    assert np.mean(score[folds == 1] != r.score[folds == 1]) > 0.5
    one, other = (
        cross_fit(model, x, world.design, folds, 3, np.random.default_rng(5)).predicted
        for x in (r, replace(r, score=score))
    )
    np.testing.assert_allclose(one[folds == 1], other[folds == 1], atol=0.01)
    assert np.abs(one[folds == 0] - other[folds == 0]).max() > 1
    assert np.isfinite(one[folds < 3]).all()


def test_levels_without_a_fold_are_shrunken_means_of_the_rest(world: PaperWorld) -> None:
    data = training_set(world.training(), world.design, np.random.default_rng(0), None, 5)
    score = world.training().score
    mine = data.levelled_without(2)
    for user in range(5):
        rest = score[(data.who == user) & (data.folds != 2)] - data.scaling.centre[0]
        between, within = data.scaling.level_variance[0], data.scaling.scale[0] ** 2
        expected = between / (between + within / len(rest)) * rest.mean()
        assert mine.levels[user] == pytest.approx(expected, rel=1e-4)
    back = data.scaling.centre[0] + mine.levels[data.who] + data.scaling.scale[0] * mine.target
    np.testing.assert_allclose(back, score, atol=0.01)


@dataclass(frozen=True, eq=False)
class _Remembered:
    """Knows every rating it was fitted on by heart, and says 0 of all others."""

    seen: dict[tuple[str, bytes], float]
    name: str = "memory"
    inputs: tuple[str, ...] = ("user",)

    @property
    def user_ids(self) -> Strings:
        return np.array(["nobody"])

    def predict(self, user_ids: Strings, matrix: Floats) -> Prediction:
        keys = zip(user_ids.tolist(), (row.tobytes() for row in matrix), strict=True)
        mean = np.array([self.seen.get(key, 0.0) for key in keys])
        return Prediction(mean, np.full(len(mean), np.nan), 1.0)

    def state(self) -> State:
        return State({}, {})


@dataclass(frozen=True)
class _Memory:
    name: str = "memory"

    def fit(
        self, ratings: Ratings, design: Design, rng: np.random.Generator, people: People | None = None
    ) -> _Remembered:
        rows = design.rows(ratings.image_id)
        keys = zip(ratings.user_id.tolist(), (row.tobytes() for row in rows), strict=True)
        return _Remembered(dict(zip(keys, ratings.score.tolist(), strict=True)))


def test_a_model_that_knows_by_heart_gets_no_weight(world: PaperWorld) -> None:
    """On the ratings it was fitted on it has no error at all: one fold predicted by who has seen it would show."""
    r = world.training()
    fitted = Stack((_Memory(), UserMean())).fit(r, world.design, np.random.default_rng(0))
    by_heart = fitted.parts[0].predict(r.user_id, world.design.rows(r.image_id)).mean
    np.testing.assert_array_equal(by_heart, r.score)
    assert fitted.weights[0] < 0.01  # a trace, to pull means towards the middle
    assert fitted.settings["held_out_rmse"]["memory"] == pytest.approx(np.sqrt(np.mean(r.score**2)), rel=0.05)


def test_weights_and_errors_are_those_of_the_folds(world: PaperWorld, fitted: StackTaste) -> None:
    """All of it again by hand: the folds, the fits, the best pair of weights on a grid."""
    r, rng = world.training(), np.random.default_rng(1)
    folds = group_folds(r.prompt_id, 5, rng)
    seed = int(rng.integers(2**62))
    each: list[CrossFit] = [
        cross_fit(m, r, world.design, folds, 3, np.random.default_rng(seed), world.people)
        for m in (EBSlopes(factors=2), FUSION)
    ]
    rows = folds < 3
    errors = np.stack([one.predicted[rows] - r.score[rows] for one in each])
    assert each[1].ambiguity > 0

    def loss(w: float) -> float:
        square = np.mean(((1 - w) * errors[0] + w * errors[1]) ** 2)
        return float(square - w**2 * each[1].ambiguity)

    grid = np.linspace(0, 1, 1001)
    assert fitted.weights[1] == pytest.approx(grid[np.argmin([loss(w) for w in grid])], abs=0.001)
    assert fitted.settings["held_out_rmse_stack"] ** 2 == pytest.approx(loss(fitted.weights[1]), rel=1e-9)
    assert fitted.settings["n_held_out"] == rows.sum()


def test_the_interval_of_the_gain_is_that_of_a_regression_with_clusters() -> None:
    rng = np.random.default_rng(6)
    prompts = np.r_[np.arange(12), rng.integers(0, 12, 300)]
    errors = rng.standard_normal((2, 312)) + rng.standard_normal((2, 12))[:, prompts]
    weights = np.array([0.3, 0.7])
    gain, half = gain_over_first(errors, errors @ errors.T / 312, weights, prompts, 0.95)
    each = errors[0] ** 2 - (weights @ errors) ** 2
    regression = sm.OLS(each, np.ones(312)).fit(cov_type="cluster", cov_kwds={"groups": prompts}, use_t=True)
    low, high = regression.conf_int()[0]
    assert (gain - half, gain + half) == pytest.approx((low, high), rel=1e-9)
    assert np.isnan(gain_over_first(errors, errors @ errors.T / 312, weights, np.zeros(312, dtype=int), 0.95)[1])


@pytest.mark.parametrize("seed", range(3))
def test_few_prompts_leave_the_weight_with_the_first(seed: int) -> None:
    """A dozen prompts say nothing of a network trained for one epoch on a few images."""
    small = paper_world("linear", np.random.default_rng(seed), n_users=24, n_images=60, dims=6, images_per_prompt=5)
    made = Stack((EBSlopes(), FUSION)).fit(small.training(), small.design, np.random.default_rng(seed), small.people)
    assert made.weights.tolist() == [1.0, 0.0]
    assert made.settings["gain"]["taken"] is False
    assert made.settings["gain"]["estimate"] < made.settings["gain"]["half_width"]


def test_the_stack_is_its_parts_by_weight_and_honest(world: PaperWorld, fitted: StackTaste, tmp_path: Path) -> None:
    test = world.test()
    rows = world.design.rows(test.image_id)
    found = fitted.predict(test.user_id, rows)
    each = [part.predict_mean(test.user_id, rows) for part in fitted.parts]
    np.testing.assert_allclose(found.mean, fitted.weights @ np.stack(each), rtol=1e-12)
    assert 0.9 < np.std((test.score - found.mean) / found.predictive_sd) < 1.1
    save_model(fitted, tmp_path / "m")
    np.testing.assert_array_equal(load_model(tmp_path / "m").predict(test.user_id, rows).mean, found.mean)


def test_a_stack_gives_the_useful_part_its_weight(world: PaperWorld) -> None:
    r, rng = world.training(), np.random.default_rng(0)
    fitted = Stack((UserMean(), Population(bias=True))).fit(r, world.design, rng)
    assert fitted.weights[1] > 0.9
    assert fitted.inputs in (("user", "components"), ("components", "user"))


def test_what_cannot_be_stacked_is_refused() -> None:
    with pytest.raises(UserError, match="each once"):
        Stack((UserMean(), UserMean()))
    with pytest.raises(UserError, match="confidence = 1"):
        Stack((UserMean(), Population()), confidence=1.0)
    with pytest.raises(UserError, match="9 of 8 folds"):
        Stack((UserMean(), Population()), tested=9)


@pytest.mark.parametrize("second", [Population(bias=True), FUSION], ids=["head", "fusion"])
def test_people_with_one_prompt_each_cannot_be_weighed(world: PaperWorld, second: Population | Fusion) -> None:
    """Ratings vary and models can be fitted, but who is held out is unknown to the rest."""
    r = world.training()
    alone = replace(r, prompt_id=np.char.add("of ", r.user_id))
    with pytest.raises(EstimateError, match="inside and outside the folds"):
        Stack((UserMean(), second), folds=4, tested=2).fit(alone, world.design, np.random.default_rng(0))


def test_a_study_gets_factors_by_its_size(world: PaperWorld) -> None:
    recipe, r = SizedSlopes(), world.training()
    assert len(r.users()) == 19
    median = np.median(np.unique(r.user_id, return_counts=True)[1])
    assert [recipe.factors_for(r, columns) for columns in (6, int(median / 2), int(median / 2) + 1)] == [1, 1, 0]
    assert replace(recipe, people_a_factor=4).factors_for(r, 6) == 4
    assert replace(recipe, people_a_factor=1).factors_for(r, 6) == 6
    with pytest.raises(UserError, match="factors -1"):
        SizedSlopes(factors=-1)
    fitted = recipe.fit(r, world.design, np.random.default_rng(0))
    plain = EBSlopes(factors=1).fit(r, world.design, np.random.default_rng(0))
    np.testing.assert_array_equal(fitted.predict_population(world.design.matrix).mean,
                                  plain.predict_population(world.design.matrix).mean)  # fmt: skip
    assert (fitted.name, fitted.settings["factors"]) == ("eb_factors", 1)


@pytest.mark.parametrize(("n_users", "n_rated"), [(12, 25), (20, 12), (30, 45)])
def test_slopes_to_size_can_be_fitted_where_factors_cannot(n_users: int, n_rated: int) -> None:
    small = make_world(np.random.default_rng(0), n_users=n_users, n_images=120, n_rated=n_rated)
    design = FeatureMap.fit(small.features).transform(small.features)
    fitted = SizedSlopes().fit(small.ratings, design, np.random.default_rng(0))
    assert fitted.settings["factors"] == 0  # 48 columns
    test = design.matrix[:50]
    assert np.isfinite(fitted.predict([str(fitted.user_ids[0])] * 50, test).mean).all()


def test_factors_that_do_not_settle_are_left_out_and_named() -> None:
    """Everybody rated the same 97 images, in 90 columns: variances of factors run off, those of the slopes do not."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((97, 90)) * np.sqrt(np.linspace(2, 0.05, 90))
    score = 500 + x @ rng.standard_normal(90) * 8 + rng.standard_normal((45, 1)) * 150
    score += rng.standard_normal((45, 90)) @ x.T * 4 + rng.standard_normal((1, 97)) * 120
    score = np.clip(np.round((score + rng.standard_normal((45, 97)) * 210) / 250) * 250, 0, 1000)
    images, users = np.array([f"i{k:02d}" for k in range(97)]), np.array([f"u{k:02d}" for k in range(45)])
    prompts = np.array([f"p{k // 5:02d}" for k in range(97)])
    r = Ratings(np.repeat(users, 97), np.tile(images, 45), np.tile(prompts, 45), score.ravel())
    design = Design(images, x, ("components",), (90,))
    with pytest.raises(EstimateError, match=r"variances ran off|did not converge"):
        EBSlopes(factors=4).fit(r, design, np.random.default_rng(0))
    fitted = SizedSlopes(ratings_a_column=1.0).fit(r, design, np.random.default_rng(0))
    assert (fitted.settings["factors"], fitted.settings["factors_tried"]) == (0, 4)
    plain = EBSlopes().fit(r, design, np.random.default_rng(0))
    np.testing.assert_allclose(
        fitted.predict(users[:1].tolist() * 97, x).mean, plain.predict(users[:1].tolist() * 97, x).mean
    )
