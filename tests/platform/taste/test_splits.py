"""Splits that refuse to leak."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from beholder.errors import EstimateError
from beholder.taste.base import Ratings
from beholder.taste.features import FeatureMap, Features
from beholder.taste.leaks import LeakError, refuse_label_features
from beholder.taste.registry import taste_model
from beholder.taste.splits import (
    Split,
    group_folds,
    near_duplicate_groups,
    seen_splits,
    unseen_splits,
)

sys.path.insert(0, str(Path(__file__).parent))
from taste_worlds import World, make_world


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(np.random.default_rng(0), n_users=15, n_images=120, n_rated=40)


def test_seen_folds_test_everything_once(world: World) -> None:
    r = world.ratings
    splits = seen_splits(r, r.prompt_id, 5, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(np.concatenate([s.test for s in splits])), np.arange(len(r)))
    for s in splits:
        assert not set(s.train_ratings.prompt_id) & set(s.test_ratings.prompt_id)
        assert not set(s.train_ratings.image_id) & set(s.test_ratings.image_id)


def test_unseen_folds_test_everything_once_and_nest_their_contexts(world: World) -> None:
    r = world.ratings
    five, ten = (unseen_splits(r, r.prompt_id, 4, 3, n, np.random.default_rng(0), least_context=10) for n in (5, 10))
    np.testing.assert_array_equal(np.sort(np.concatenate([s.test for s in ten])), np.arange(len(r)))
    for small, large in zip(five, ten, strict=True):
        np.testing.assert_array_equal(small.test, large.test)
        assert set(small.context) <= set(large.context)
        assert len(small.context) == 5 * len(small.test_ratings.users())
        assert not set(large.train_ratings.user_id) & set(large.test_ratings.user_id)
        assert not set(large.context_ratings.image_id) & set(large.test_ratings.image_id)


def test_overlaps_are_refused(world: World) -> None:
    r = world.ratings
    none, first = np.empty(0, dtype=np.intp), r.prompt_id[:1]
    first_prompt = r.prompt_id == r.prompt_id[0]
    by_image = r.image_id == r.image_id[first_prompt][0]
    with pytest.raises(LeakError, match="prompts are in training and in test"):
        Split("seen", r, r.prompt_id, np.flatnonzero(~by_image), none, np.flatnonzero(by_image), first)
    half = np.arange(len(r)) % 2 == 0
    with pytest.raises(LeakError, match="images are in training and in test"):
        Split("seen", r, r.prompt_id, np.flatnonzero(half), none, np.flatnonzero(~half), r.prompt_id)
    user = r.user_id == r.user_id[0]
    with pytest.raises(LeakError, match="new users are in training"):
        Split("unseen", r, r.prompt_id, np.flatnonzero(~first_prompt), none, np.flatnonzero(first_prompt), first)
    too_many = np.append(first, r.prompt_id[~first_prompt][:1])
    with pytest.raises(LeakError, match="1 groups held out are in training"):
        Split("seen", r, r.prompt_id, np.flatnonzero(~first_prompt), none, np.flatnonzero(first_prompt), too_many)
    with pytest.raises(LeakError, match="tested and not held out"):
        Split("seen", r, r.prompt_id, np.flatnonzero(~first_prompt), none, np.flatnonzero(first_prompt), first[:0])
    with pytest.raises(LeakError, match="has no training rating"):
        Split(
            "seen",
            r,
            r.prompt_id,
            np.flatnonzero(~first_prompt & ~user),
            none,
            np.flatnonzero(first_prompt & user),
            first,
        )
    with pytest.raises(LeakError, match="new users are in training"):
        _context_of_a_trained_user(r, first_prompt)


def _context_of_a_trained_user(r: Ratings, first_prompt: np.ndarray) -> Split:
    a, b = np.unique(r.user_id[first_prompt])[:2]
    train = np.flatnonzero(~first_prompt & (r.user_id != a))
    context = np.flatnonzero(~first_prompt & (r.user_id == b))
    return Split(
        "unseen", r, r.prompt_id, train, context, np.flatnonzero(first_prompt & (r.user_id == a)), r.prompt_id[:1]
    )


def test_users_with_too_few_ratings_are_in_no_unseen_test(world: World) -> None:
    r = world.ratings
    groups = r.prompt_id
    poor = r.user_id == r.user_id[0]
    kept = ~poor | (np.cumsum(poor) <= 7)
    some = r.take(kept)
    splits = unseen_splits(some, groups[kept], 4, 3, 7, np.random.default_rng(0))
    tested = np.unique(np.concatenate([s.test_ratings.user_id for s in splits]))
    assert tested.tolist() == [u for u in some.users().tolist() if u != r.user_id[0]]
    assert any(r.user_id[0] in s.train_ratings.user_id for s in splits)
    with pytest.raises(EstimateError, match="no user has 200 ratings"):
        unseen_splits(some, groups[kept], 4, 3, 200, np.random.default_rng(0))


def test_context_of_test_images_is_refused(world: World) -> None:
    r = world.ratings
    s = unseen_splits(r, r.prompt_id, 4, 3, 5, np.random.default_rng(0))[0]
    with pytest.raises(LeakError, match="images are in training and in test"):
        Split("unseen", r, r.prompt_id, s.train, np.append(s.context, s.test[0]), s.test, s.held_out)


def test_near_duplicates_stay_together() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((6, 40))
    vectors[4] = vectors[1] + 0.01 * rng.standard_normal(40)
    ids = np.array(list("abcdef"))
    r = Ratings(np.repeat("u", 6), ids, np.array([f"p{i}" for i in range(6)]), np.full(6, 500.0))
    groups = near_duplicate_groups(r, Features(ids, {"network": vectors}), "network")
    assert groups.tolist() == ["p0", "p1", "p2", "p3", "p1", "p5"]
    none = np.empty(0, dtype=np.intp)
    with pytest.raises(LeakError, match="group"):
        Split("seen", r, groups, np.array([0, 1, 2, 3]), none, np.array([4, 5]), groups[4:])


def test_folds_are_even_and_whole() -> None:
    groups = np.repeat([f"g{i}" for i in range(20)], np.r_[np.full(18, 5), 20, 30])
    folds = group_folds(groups, 4, np.random.default_rng(2))
    assert all(len(np.unique(folds[groups == g])) == 1 for g in np.unique(groups))
    assert np.ptp(np.bincount(folds)) <= 5
    with pytest.raises(EstimateError, match="folds of 20 groups"):
        group_folds(groups, 21, np.random.default_rng(2))


def test_test_labels_reach_no_prediction(world: World) -> None:
    """The canary of future leaks: other answers in the test set, the same predictions to the bit."""
    r = world.ratings
    other = Ratings(r.user_id, r.image_id, r.prompt_id, 1000 - r.score)
    for kind in ("seen", "unseen"):
        means = []
        for changed in (False, True):
            s = (
                seen_splits(r, r.prompt_id, 4, np.random.default_rng(0))[0]
                if kind == "seen"
                else unseen_splits(r, r.prompt_id, 4, 3, 5, np.random.default_rng(0))[0]
            )
            scores = r.score.copy()
            scores[s.test] = other.score[s.test] if changed else r.score[s.test]
            s = replace(s, ratings=Ratings(r.user_id, r.image_id, r.prompt_id, scores))
            design = FeatureMap.fit(world.features.take(s.train_ratings.images())).transform(world.features)
            model = taste_model("eb_slopes").fit(s.train_ratings, design, np.random.default_rng(0))
            if len(s.context):
                model = model.adapt(s.context_ratings, design)
            means.append(model.predict(s.test_ratings.user_id, design.rows(s.test_ratings.image_id)).mean)
        np.testing.assert_array_equal(*means)


def test_a_feature_made_of_test_answers_is_refused(world: World) -> None:
    s = seen_splits(world.ratings, world.ratings.prompt_id, 5, np.random.default_rng(0))[0]
    test = s.test_ratings
    refuse_label_features(world.features, test)
    images, where = np.unique(test.image_id, return_inverse=True)
    _, who = np.unique(test.user_id, return_inverse=True)
    user_mean = np.bincount(who, test.score) / np.bincount(who)
    image_mean = np.bincount(where, test.score) / np.bincount(where)
    raters_mean = np.bincount(where, user_mean[who]) / np.bincount(where)
    for values in (image_mean, raters_mean):
        leak = np.zeros(len(world.features.image_ids))
        leak[np.searchsorted(world.features.image_ids, images)] = values
        spoilt = world.features.with_block("statistics", np.c_[world.features.blocks["statistics"], leak])
        with pytest.raises(LeakError, match="column 20 of block 'statistics'"):
            refuse_label_features(spoilt, test)


def test_an_outlier_in_a_sparse_column_is_no_leak() -> None:
    """One image rated by one generous person, and a column that is 0 but for this image."""
    rng = np.random.default_rng(4)
    ids = np.array([f"i{k:02d}" for k in range(20)])
    users, images = np.repeat([f"u{k}" for k in range(10)], 19), np.tile(ids[:19], 10)
    score = rng.integers(300, 400, 190).astype(float)
    r = Ratings(
        np.append(users, "generous"), np.append(images, ids[19]), np.append(images, ids[19]), np.append(score, 1000.0)
    )
    sparse = np.zeros((20, 1))
    sparse[19] = 3.0
    refuse_label_features(Features(ids, {"network": sparse}), r)
