"""The simulated raters against what was planned for them: variance shares, retest, slider, votes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from beholder.errors import UserError
from beholder.models.generators.scenes.attributes import AXES, MEDIA, SUBJECTS, Attributes
from beholder.simulate import (
    PARTS,
    Settings,
    World,
    answer,
    assign,
    pixel_measures,
    rate,
    reference_scenes,
    scene_arrays,
    slider,
    taste_truth,
    vote,
    vote_probabilities,
)
from beholder.simulate.pixels import fit_pixel_map
from beholder.simulate.ratings import ANCHORS

Images = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def world() -> World:
    return World(7, Settings())


def fresh_images(world: World, n: int, seed: int = 3) -> Images:
    rng = np.random.default_rng(seed)
    scene, subject = reference_scenes(n, rng, world.settings)
    return scene, subject, world.pixel_map.draw(scene, subject, rng)


# ---------------------------------------------------------------- the world


def test_utility_parts_have_their_planned_shares_on_images_the_world_was_not_scaled_on(world):
    """15,000 fresh images, 300 raters: the SD of a share is about .01, of its mean over raters far below."""
    parts = world.raters(300).parts(*fresh_images(world, 15_000))
    shares = {part: float(values.var(axis=1).mean()) for part, values in parts.items()}
    private = 1 - world.settings.shared_share
    assert shares["shared"] == pytest.approx(world.settings.shared_share, abs=0.01)
    for part, share in world.settings.private_shares.items():
        assert shares[part] == pytest.approx(private * share, abs=0.015)
    total = np.sum(list(parts.values()), axis=0)
    assert total.std(axis=1) == pytest.approx(1.0, abs=0.04)
    assert total.mean(axis=1) == pytest.approx(0.0, abs=0.05)


def test_private_taste_is_uncorrelated_with_shared_taste_and_between_raters(world):
    parts = world.raters(120).parts(*fresh_images(world, 15_000))
    private = np.sum([parts[part] for part in PARTS[1:]], axis=0)
    with_shared = np.corrcoef(np.vstack([parts["shared"][:1], private]))[0, 1:]
    assert np.abs(with_shared).max() < 0.05
    between = np.corrcoef(private)[np.triu_indices(120, 1)]
    # Two random linear tastes correlate by chance, and all ideal points bend the same way.
    assert abs(between.mean()) < 0.06


def test_a_world_follows_from_its_seed_and_a_rater_from_his_number(world):
    images = fresh_images(world, 50)
    first = world.raters(5)
    again = World(7, Settings()).raters(12)
    assert first.ids == ("rater_000", "rater_001", "rater_002", "rater_003", "rater_004")
    np.testing.assert_allclose(first.utility(*images), again.utility(*images)[:5], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(first.offset, again.offset[:5])
    assert not np.allclose(first.utility(*images), World(8, Settings()).raters(5).utility(*images))


def test_ideal_points_bend_downwards_on_bright_and_close(world):
    """Along one axis, everything else fixed, the nonlinear part is a parabola open below."""
    raters = world.raters(40)
    for axis in ("bright", "close"):
        scene = np.tile(Attributes().vector(), (5, 1))
        scene[:, AXES.index(axis)] = np.linspace(-0.8, 0.8, 5)
        pixels = np.tile(world.pixel_map.centre, (5, 1))
        values = raters.parts(scene, np.zeros(5, int), pixels)["nonlinear"]
        bends = np.diff(values, n=2, axis=1)
        assert (bends < 0).all()
        np.testing.assert_allclose(bends, bends[:, :1] * np.ones((1, 3)), rtol=1e-6)


def test_the_same_subject_in_another_medium_is_another_thing_to_a_rater(world):
    """Differences between media differ between subjects: no additive model of subject and medium explains them."""
    scene = np.array([Attributes(photo=float(m == "photo"), ink=float(m == "ink")).vector() for m in ("photo", "ink")])
    pixels = np.tile(world.pixel_map.centre, (2, 1))
    effects = []
    for code in range(len(SUBJECTS)):
        values = world.raters(40).parts(scene, np.full(2, code), pixels)["nonlinear"]
        effects.append(values[:, 1] - values[:, 0])
    assert np.std(effects, axis=0).min() > 0.1


def test_the_invisible_part_cannot_be_read_from_the_scene_by_a_quadratic_model(world):
    """Held-out R2 of least squares on all 12 parameters, their squares and products, with 12,000 images."""
    scene, subject, pixels = fresh_images(world, 16_000)
    target = world.raters(20).parts(scene, subject, pixels)["invisible"]
    rows, columns = np.triu_indices(scene.shape[1])
    design = np.hstack([np.ones((len(scene), 1)), scene, scene[:, rows] * scene[:, columns], pixels])
    half = 12_000
    weights = np.linalg.lstsq(design[:half], target[:, :half].T, rcond=None)[0]
    left = target[:, half:].T - design[half:] @ weights
    r2 = 1 - (left**2).sum(0) / ((target[:, half:].T - target[:, half:].mean(1)) ** 2).sum(0)
    assert r2.mean() < 0.02
    assert r2.max() < 0.06


def test_settings_that_do_not_add_up_and_arrays_that_do_not_agree_are_refused(world):
    with pytest.raises(ValueError, match="sum to 1"):
        Settings(pixel_share=0.3)
    scene, subject, pixels = fresh_images(world, 4)
    with pytest.raises(ValueError, match="do not agree"):
        world.raters(2).utility(scene, subject[:3], pixels)
    with pytest.raises(ValueError, match="finite"):
        world.raters(2).utility(scene * np.nan, subject, pixels)
    with pytest.raises(ValueError, match="at least one rater"):
        world.raters(0)


def test_scene_arrays_read_the_records_of_rendered_attributes():
    looks = [Attributes(warm=0.4, photo=0.0, oil=1.0, subject="boat").jittered(3), Attributes(subject="balloon")]
    scene, subject = scene_arrays([look.to_record() for look in looks])
    np.testing.assert_array_equal(scene, [look.vector() for look in looks])
    assert [SUBJECTS[code] for code in subject] == ["boat", "balloon"]
    assert scene.shape == (2, len(AXES + MEDIA))


# ---------------------------------------------------------------- the pixels


def test_pixel_measures_of_pictures_one_can_do_in_the_head():
    dark_left = np.zeros((128, 128, 3), np.uint8)
    dark_left[:, 64:] = 255
    balance, _, hue, shadow, _ = pixel_measures(dark_left)
    assert (balance, shadow) == pytest.approx((1.0, 0.5), abs=1e-3)
    assert hue == pytest.approx(1.0)  # grey has no hue to agree on
    framed = np.zeros((64, 64, 3), np.uint8)
    framed[8:-8, 8:-8] = 255
    assert pixel_measures(framed)[1] == pytest.approx(1.0, abs=1e-3)
    red = np.zeros((64, 96, 3), np.uint8)
    red[..., 0] = 200
    flat = pixel_measures(red)
    assert flat[[0, 1, 2]] == pytest.approx(0.0, abs=1e-6)
    assert flat[4] == pytest.approx(-np.log(1e-3))
    two = red.copy()
    two[:, 48:] = (0, 0, 200)
    assert pixel_measures(two)[2] > 0.2


def test_pixel_measures_hardly_depend_on_the_size():
    small = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    large = small.repeat(4, axis=0).repeat(4, axis=1)
    np.testing.assert_allclose(pixel_measures(small), pixel_measures(large), atol=1e-12)


@pytest.mark.parametrize("shape", [(32, 128, 3), (128, 128), (128, 128, 4)])
def test_pixel_measures_refuse_what_is_no_picture(shape):
    with pytest.raises(ValueError, match="expected uint8 RGB"):
        pixel_measures(np.zeros(shape, np.uint8))


def test_a_pixel_map_is_found_again_from_what_it_draws(world):
    truth = world.pixel_map
    scene, subject, _ = fresh_images(world, 20_000)
    found = fit_pixel_map(scene, subject, truth.draw(scene, subject, np.random.default_rng(1)))
    expected = truth.level[subject] + scene @ truth.slope
    np.testing.assert_allclose(found.level[subject] + scene @ found.slope, expected, atol=0.08 * truth.spread.max())
    np.testing.assert_allclose(found.residual, truth.residual, atol=0.05 * np.diag(truth.residual).max())


# ---------------------------------------------------------------- the slider


@pytest.mark.parametrize(("raters", "images", "per_image"), [(24, 120, 5), (7, 33, 3), (10, 13, 10), (5, 40, 1)])
def test_every_image_has_its_raters_and_every_rater_his_share(raters, images, per_image):
    shown = assign(raters, images, per_image, np.random.default_rng(0))
    assert (shown.sum(axis=0) == per_image).all()
    assert np.ptp(shown.sum(axis=1)) <= 1


def test_more_raters_per_image_than_raters_is_refused():
    with pytest.raises(UserError, match="4 raters per image of 3 raters"):
        assign(3, 10, 4, np.random.default_rng(0))


def test_heaping_at_the_anchors_is_as_set():
    """Share of answers on an anchor against the sum over ticks of the rounded, cut normal distribution."""
    settings = Settings(heaping=0.4, heap_reach=30, ticks_per_sd=200)
    n, sd = 200_000, 200 * np.sqrt(1 + settings.occasion_noise**2)
    utility = np.random.default_rng(1).standard_normal(n)
    score = slider(utility, np.zeros(n), np.ones(n), np.random.default_rng(2), settings)
    ticks = np.arange(0, 1001)
    upper = np.where(ticks == 1000, np.inf, ticks + 0.5)
    lower = np.where(ticks == 0, -np.inf, ticks - 0.5)
    chance = norm.cdf(upper, 500, sd) - norm.cdf(lower, 500, sd)
    gap = np.abs(ticks[:, None] - ANCHORS).min(1)
    expected = chance[gap == 0].sum() + 0.4 * chance[(gap > 0) & (gap <= 30)].sum()
    assert np.isin(score, ANCHORS).mean() == pytest.approx(expected, abs=3 * 0.5 / np.sqrt(n))
    assert score.min() >= 0
    assert score.max() <= 1000


def test_retest_correlation_is_as_planned():
    """Without slider habits, answers of two occasions correlate 1 / (1 + occasion_noise^2) over images."""
    settings = Settings(heaping=0.0, scale_cv=0.0, offset_spread=0.0, ticks_per_sd=100, repeat_share=1.0)
    world = World(3, settings)
    raters = world.raters(30)
    images = fresh_images(world, 400)
    ids = [f"i{k}" for k in range(400)]
    ratings = rate(raters, raters.utility(*images), np.ones((30, 400), bool), ids, ids, np.random.default_rng(5))
    wide = ratings.pivot_table(index=["user_id", "image_id"], columns="occasion", values="score")
    assert len(wide) == 30 * 400
    found = np.corrcoef(wide[1], wide[2])[0, 1]
    assert found == pytest.approx(1 / (1 + settings.occasion_noise**2), abs=0.015)
    assert (wide[1] - wide[2]).std() == pytest.approx(100 * settings.occasion_noise * np.sqrt(2), rel=0.03)


def test_the_ratings_table_holds_what_a_rating_study_leaves(world):
    raters = world.raters(12)
    images = fresh_images(world, 60)
    image_ids, prompt_ids = [f"i{k:02d}" for k in range(60)], [f"p{k // 4}" for k in range(60)]
    utility, shown = raters.utility(*images), assign(12, 60, 5, np.random.default_rng(1))
    ratings = rate(raters, utility, shown, image_ids, prompt_ids, np.random.default_rng(2))
    first, again = ratings[ratings["occasion"] == 1], ratings[ratings["occasion"] == 2]
    seen = pd.crosstab(first["user_id"], first["image_id"]).to_numpy()
    np.testing.assert_array_equal(seen, shown.astype(int))
    assert again.groupby("user_id").size().tolist() == [2] * 12  # a tenth of 25
    assert not again.duplicated(["user_id", "image_id"]).any()
    assert set(zip(again["user_id"], again["image_id"], strict=True)) <= set(
        zip(first["user_id"], first["image_id"], strict=True)
    )
    assert (again["session"] == 2).all()
    assert (first["session"] == 1).all()
    for _, mine in ratings.groupby("user_id"):
        assert mine["order"].tolist() == list(range(1, len(mine) + 1))
    assert ratings["score"].dtype.kind == "i"
    assert ratings["score"].between(0, 1000).all()
    assert ratings["start_position"].between(0, 1000).all()
    assert (ratings["response_ms"] > 0).all()
    assert dict(zip(ratings["image_id"], ratings["prompt_id"], strict=True))["i07"] == "p1"
    assert ratings.equals(rate(raters, utility, shown, image_ids, prompt_ids, np.random.default_rng(2)))
    assert not {"utility", *PARTS} & set(ratings.columns)


def test_truth_lies_beside_the_ratings(world):
    raters, images = world.raters(3), fresh_images(world, 5)
    truth = taste_truth(raters, raters.parts(*images), [f"i{k}" for k in range(5)])
    assert len(truth) == 15
    row = truth[(truth["user_id"] == "rater_002") & (truth["image_id"] == "i4")].iloc[0]
    assert row["utility"] == pytest.approx(raters.utility(*images)[2, 4])
    assert row[list(PARTS)].sum() == pytest.approx(row["utility"])


# ---------------------------------------------------------------- the votes


def test_vote_probabilities_agree_with_acting_the_vote_out():
    """Noise drawn on each image, differences compared with the tie width by hand."""
    settings = Settings(tie_width=0.3, left_bias=0.1, occasion_noise=0.5)
    rng, n = np.random.default_rng(4), 400_000
    for left, right in ((0.0, 0.0), (0.7, 0.1), (-1.2, 0.4)):
        felt = left + 0.1 - right + 0.5 * rng.standard_normal(n) - 0.5 * rng.standard_normal(n)
        acted = [(felt >= 0.3).mean(), (np.abs(felt) < 0.3).mean(), (felt <= -0.3).mean()]
        exact = vote_probabilities(np.array(left), np.array(right), settings)
        np.testing.assert_allclose(acted, exact, atol=4 * 0.5 / np.sqrt(n))
        answers = vote(np.full(n, left), np.full(n, right), rng, settings)
        shares = [(answers == name).mean() for name in ("left", "tie", "right")]
        np.testing.assert_allclose(shares, exact, atol=4 * 0.5 / np.sqrt(n))


def test_swapping_the_sides_mirrors_the_probabilities_when_there_is_no_bias():
    settings = replace(Settings(), left_bias=0.0)
    left, right = np.random.default_rng(0).standard_normal((2, 50))
    np.testing.assert_allclose(
        vote_probabilities(left, right, settings), vote_probabilities(right, left, settings)[:, ::-1], atol=1e-12
    )
    np.testing.assert_allclose(vote_probabilities(left, right, Settings()).sum(axis=1), 1.0)


def test_answers_follow_the_utilities_of_the_shown_images(world):
    raters = world.raters(2)
    utility = np.array([[9.0, 0.0, -9.0], [-9.0, 0.0, 9.0]])
    trials = pd.DataFrame(
        {
            "trial_id": ["t0", "t1", "t2"],
            "participant_id": ["rater_000", "rater_001", "rater_001"],
            "left_image_id": ["a", "a", "c"],
            "right_image_id": ["c", "c", "b"],
        }
    )
    votes, truth = answer(trials, raters, utility, ["a", "b", "c"], np.random.default_rng(0))
    assert votes["choice"].tolist() == ["left", "right", "left"]
    assert votes["trial_id"].tolist() == truth["trial_id"].tolist()
    assert truth["utility_left"].tolist() == [9.0, -9.0, 9.0]
    np.testing.assert_allclose(truth[["p_left", "p_tie", "p_right"]].sum(axis=1), 1.0)
    with pytest.raises(UserError, match=r"1 of 3 trials .* first t2"):
        answer(trials, raters, utility[:, :2], ["a", "c"], np.random.default_rng(0))
