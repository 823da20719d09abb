"""Cross-validated predictions on simulated people: what is found, what must not be found, and what may not leak."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.accuracy import accuracy
from analysis.disagreement import disagreement
from beholder.errors import TableError, UserError
from beholder.plans import Taste
from beholder.taste.base import Ratings
from beholder.taste.designs import Pictures, learn_design
from beholder.taste.evaluate import Evaluated, Folds, evaluate, make_splits, predict_fold, rungs
from beholder.taste.leaks import LeakError
from beholder.taste.registry import taste_model

sys.path.insert(0, str(Path(__file__).parent))
from taste_worlds import World, make_world

FOLDS = Folds(prompts=4, users=3, context=12)
MODELS = tuple(taste_model(name) for name in Taste().models)


def table(ratings: Ratings) -> pd.DataFrame:
    """Ratings as the tidy table that `analysis` reads."""
    ids = {"user_id": ratings.user_id, "image_id": ratings.image_id, "prompt_id": ratings.prompt_id}
    return pd.DataFrame(ids | {"score": ratings.score.astype(int)})


def pictures_of(world: World) -> Pictures:
    prompts = dict(zip(world.ratings.image_id.tolist(), world.ratings.prompt_id.tolist(), strict=True))
    return Pictures(world.features, np.array([prompts.get(i, f"of {i}") for i in world.features.image_ids.tolist()]))


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(np.random.default_rng(0), n_users=24, n_images=120, n_rated=50)


@pytest.fixture(scope="module")
def found(world: World) -> Evaluated:
    return evaluate(world.ratings, pictures_of(world), MODELS, FOLDS, np.random.default_rng(1))


def gain(
    predictions: pd.DataFrame, ratings: pd.DataFrame, split: str, over: str = "eb_population"
) -> tuple[float, float]:
    """Accuracy of the personal model less that of another, and its standard error."""
    pair = predictions[predictions["model"].isin(["eb_slopes", over]) & (predictions["split"] == split)]
    (d,) = accuracy(pair, ratings).differences
    sign = 1 if d.a == "eb_slopes" else -1
    return sign * d.estimate, d.se


@pytest.mark.parametrize("split", ["seen", "unseen"])
@pytest.mark.parametrize("over", ["population", "eb_population"])
def test_private_taste_is_found(world: World, found: Evaluated, split: str, over: str) -> None:
    """A third of the variance is own taste: the personal model must see it, in known and in new people."""
    estimate, se = gain(found.predictions, table(world.ratings), split, over)
    assert estimate > 2.5 * se


def test_nothing_personal_is_found_when_ratings_change_owners(world: World) -> None:
    """Each image's ratings are dealt out anew among the people who rated it: shared taste stays, persons vanish."""
    r, rng = world.ratings, np.random.default_rng(2)
    score = r.score.copy()
    for image in r.images():
        mine = np.flatnonzero(r.image_id == image)
        score[mine] = rng.permutation(score[mine])
    dealt = replace(r, score=score)
    models = [taste_model(name) for name in ("population", "eb_slopes")]
    found = evaluate(dealt, pictures_of(world), models, FOLDS, np.random.default_rng(1))
    for split in ("seen", "unseen"):
        estimate, se = gain(found.predictions, table(dealt), split)
        assert abs(estimate) < max(2 * se, 0.01)


def test_shuffled_test_ratings_leave_every_model_at_one_half(world: World, found: Evaluated) -> None:
    r, rng = world.ratings, np.random.default_rng(3)
    score = r.score.copy()
    for user in r.users():
        mine = np.flatnonzero(r.user_id == user)
        score[mine] = rng.permutation(score[mine])
    for m in accuracy(found.predictions, table(replace(r, score=score))).models:
        assert m.accuracy == 0.5 or abs(m.accuracy - 0.5) < 2.5 * m.se, (m.model, m.split)


def test_models_without_a_view_of_images_are_at_one_half_exactly(world: World, found: Evaluated) -> None:
    """What folds do to them is undone: unlevelled, a user's mean falls far below one half."""
    blind = found.predictions[found.predictions["model"].isin(["constant", "user_mean"])]
    ratings = table(world.ratings)
    for level in ("user", "population"):
        assert {m.accuracy for m in accuracy(blind, ratings, level=level).models} == {0.5}
    raw = blind.assign(score=blind["fold_score"])
    by_model = {(m.model, m.split): m.accuracy for m in accuracy(raw, ratings).models}
    assert by_model["user_mean", "seen"] < 0.47


def test_order_inside_a_fold_is_that_of_its_model(found: Evaluated) -> None:
    p = found.predictions[found.predictions["model"] == "eb_slopes"]
    shift = (p["score"] - p["fold_score"]).groupby([p["split"], p["user_id"], p["fold"]])
    assert (shift.max() - shift.min()).max() < 2e-6  # scores are kept to a millionth of a tick


def test_user_bias_changes_no_order_and_one_head_no_diverging_pair(world: World, found: Evaluated) -> None:
    own = {(m.model, m.split): m.accuracy for m in accuracy(found.predictions, table(world.ratings)).models}
    seen = found.dense[found.dense["split"] == "seen"]
    for split in ("seen", "unseen"):
        assert own["population", split] == pytest.approx(own["population_bias", split], abs=1e-6)
    for m in disagreement(seen, table(world.ratings), rng=np.random.default_rng(0), draws=99).models:
        if m.model in ("constant", "user_mean", "population", "population_bias", "eb_population"):
            assert (m.both, m.one, m.none) == pytest.approx((0, 1, 0), abs=1e-4)
        else:
            assert m.accuracy > 0.52
            assert m.p_permutation < 0.05


def test_dense_predictions_are_complete_and_hold_the_rated_ones(world: World, found: Evaluated) -> None:
    names = rungs([m.name for m in MODELS])
    assert set(found.dense["model"]) == set(names)
    for _, rows in found.dense.groupby(["split", "model"]):
        assert not rows.duplicated(["user_id", "image_id"]).any()
        assert len(rows) == rows["user_id"].nunique() * rows["image_id"].nunique() == 24 * len(world.ratings.images())
    assert len(found.predictions) == 2 * len(names) * len(world.ratings)
    both = found.predictions.merge(found.dense, on=["split", "model", "user_id", "image_id"], suffixes=("", "_dense"))
    assert len(both) == len(found.predictions)
    np.testing.assert_array_equal(both["score"], both["score_dense"])


def test_a_model_is_predicted_alike_whoever_else_is_evaluated(world: World, found: Evaluated) -> None:
    alone = evaluate(world.ratings, pictures_of(world), [taste_model("eb_slopes")], FOLDS, np.random.default_rng(1))
    among = found.predictions[found.predictions["model"].isin(["eb_slopes", "eb_population"])]
    pd.testing.assert_frame_equal(alone.predictions, among.reset_index(drop=True))


def test_new_people_are_known_by_their_context_alone(world: World) -> None:
    """Their other ratings, shown to nobody, may be anything; a context rating may not."""
    r, pictures = world.ratings, pictures_of(world)
    split = next(s for s in make_splits(r, r.prompt_id, FOLDS, 5) if s.kind == "unseen")
    learned = learn_design(pictures.take(~np.isin(pictures.prompt_ids, split.held_out)), np.random.default_rng(0))
    hidden = np.setdiff1d(np.arange(len(r)), np.concatenate([split.train, split.context]))
    assert set(r.user_id[hidden]) >= set(split.test_ratings.user_id)

    def scores(at: np.ndarray) -> np.ndarray:
        changed = r.score.copy()
        changed[at] = 1000 - changed[at]
        (_, personal) = predict_fold(
            replace(split, ratings=replace(r, score=changed)), pictures, learned, [taste_model("eb_slopes")], [0]
        )
        return personal.score

    np.testing.assert_array_equal(scores(hidden), scores(hidden[:0]))
    first = split.context[:1]
    differs = scores(first) != scores(first[:0])
    user = np.searchsorted(np.unique(split.test_ratings.user_id), r.user_id[first][0])
    assert differs[user].all()
    assert not np.delete(differs, user, axis=0).any()


def test_a_planted_leak_is_refused(world: World) -> None:
    """A column that holds what people will answer, for all images."""
    r = world.ratings
    images, where = np.unique(r.image_id, return_inverse=True)
    mean = dict(zip(images.tolist(), np.bincount(where, r.score) / np.bincount(where), strict=True))
    leak = np.array([mean.get(i, 500.0) for i in world.features.image_ids.tolist()])
    block = np.c_[world.features.blocks["statistics"], leak]
    spoilt = replace(pictures_of(world), features=world.features.with_block("statistics", block))
    with pytest.raises(LeakError, match="column 20 of block 'statistics'"):
        evaluate(r, spoilt, MODELS[:1], FOLDS, np.random.default_rng(1))
    told = replace(pictures_of(world), texts=np.c_[np.random.default_rng(0).standard_normal((len(leak), 3)), leak])
    with pytest.raises(LeakError, match="column 3 of block 'text'"):
        evaluate(r, told, MODELS[:1], FOLDS, np.random.default_rng(1))


def test_a_design_that_has_seen_the_test_images_is_refused(world: World) -> None:
    r, pictures = world.ratings, pictures_of(world)
    split = make_splits(r, r.prompt_id, FOLDS, 5)[0]
    everything = learn_design(pictures, np.random.default_rng(0))
    with pytest.raises(LeakError, match="learned on"):
        predict_fold(split, pictures, everything, MODELS[:1], [0])
    held_out = np.flatnonzero(np.isin(pictures.prompt_ids, split.held_out))
    one_too_many = np.union1d(np.flatnonzero(~np.isin(pictures.prompt_ids, split.held_out)), held_out[:1])
    with pytest.raises(LeakError, match="1 images that are to be tested"):
        predict_fold(
            split, pictures, learn_design(pictures.take(one_too_many), np.random.default_rng(0)), MODELS[:1], [0]
        )


def test_near_duplicates_of_two_prompts_share_a_fold(world: World) -> None:
    r = world.ratings
    images = world.features.image_ids
    a, b = (np.flatnonzero(images == r.image_id[r.prompt_id == p][0])[0] for p in np.unique(r.prompt_id)[[3, 30]])
    network = world.features.blocks["network"].copy()
    network[b] = network[a]
    copied = replace(pictures_of(world), features=world.features.with_block("network", network))
    found = evaluate(r, copied, MODELS[:1], FOLDS, np.random.default_rng(1))
    fold = found.predictions[found.predictions["split"] == "seen"].groupby("image_id")["fold"].first()
    assert fold[images[a]] == fold[images[b]]
    assert "1 prompts joined" in found.notes[0]


def test_people_with_too_little_are_counted(world: World) -> None:
    poor = world.ratings.user_id == world.ratings.user_id[0]
    some = world.ratings.take(~poor | (np.cumsum(poor) <= 9))
    found = evaluate(some, pictures_of(world), MODELS[:2], FOLDS, np.random.default_rng(1))
    assert "unseen: 1 users with fewer than 12 context ratings are not tested" in found.notes
    unseen = found.dense[found.dense["split"] == "unseen"]
    assert world.ratings.user_id[0] not in set(unseen["user_id"])


def test_mistakes_are_named(world: World) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(UserError, match="each once"):
        evaluate(world.ratings, pictures_of(world), [MODELS[0], MODELS[0]], FOLDS, rng)
    few = pictures_of(world).take(np.arange(50))
    with pytest.raises(TableError, match="have no features"):
        evaluate(world.ratings, few, MODELS[:1], FOLDS, rng)
    with pytest.raises(TableError, match="one entry an image"):
        Pictures(world.features, np.array(["p"]))
