"""One of each leak is planted for every registered pipeline, and none may pass."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.accuracy import accuracy
from beholder.taste.base import Ratings
from beholder.taste.designs import Pictures, learn_design
from beholder.taste.evaluate import CrossValidation, Folds, predict_fold
from beholder.taste.leaks import LeakError
from beholder.taste.people import People
from beholder.taste.registry import known_models, taste_model
from beholder.taste.splits import Split

sys.path.insert(0, str(Path(__file__).parent))
from taste_worlds import World, make_world

SLOW = ("mlp", "mlp_single", "stack", "fusion", "fusion_light")
PIPELINES = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in known_models()]
FOLDS = Folds(prompts=2, users=2, context=8)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(np.random.default_rng(11), n_users=20, n_images=60, n_rated=36)


def pictures_of(world: World) -> Pictures:
    return Pictures(world.features, np.array([f"p{k // 2:04d}" for k in range(60)]))


def predict(ratings: Ratings, pictures: Pictures, model: str, people: People | None = None) -> CrossValidation:
    folded = CrossValidation.of(ratings, pictures, FOLDS, 5, people)
    folded.predict(0, [taste_model(model)])
    return folded


def mean_of(keys: np.ndarray, values: np.ndarray) -> dict[str, float]:
    names, where = np.unique(keys, return_inverse=True)
    return dict(zip(names.tolist(), np.bincount(where, values) / np.bincount(where), strict=True))


def with_column(world: World, value: dict[str, float]) -> Pictures:
    """The pictures with one more statistic."""
    column = np.array([value.get(i, 500.0) for i in world.features.image_ids.tolist()])
    block = np.c_[world.features.blocks["statistics"], column]
    return replace(pictures_of(world), features=world.features.with_block("statistics", block))


@pytest.mark.parametrize("model", PIPELINES)
def test_shuffled_ratings_are_ordered_no_better_than_by_chance(world: World, model: str) -> None:
    r, rng = world.ratings, np.random.default_rng(12)
    score = r.score.copy()
    for user in r.users():
        mine = np.flatnonzero(r.user_id == user)
        score[mine] = rng.permutation(score[mine])
    shuffled = replace(r, score=score)
    folded = CrossValidation.of(shuffled, pictures_of(world), Folds(2, 2, 8, splits=("seen",)), 5)
    found = folded.tables([folded.predict(k, [taste_model(model)]) for k in range(len(folded.splits))])
    ids = {"user_id": r.user_id, "image_id": r.image_id, "score": score.astype(int)}
    for m in accuracy(found.predictions, pd.DataFrame(ids)).models:
        assert m.accuracy == 0.5 or abs(m.accuracy - 0.5) < 2.5 * m.se, m.model


@pytest.mark.parametrize("model", PIPELINES)
def test_predictions_do_not_know_the_test_ratings(world: World, model: str) -> None:
    """Whatever is answered in the test: the same predictions to the bit."""
    r, pictures = world.ratings, pictures_of(world)
    folded = CrossValidation.of(r, pictures, FOLDS, 5)
    seen, unseen = folded.splits[0], folded.splits[-1]
    assert (seen.kind, unseen.kind) == ("seen", "unseen")
    for number, split in ((0, seen), (len(folded.splits) - 1, unseen)):
        score = r.score.copy()
        score[split.test] = 1000 - score[split.test]
        changed = replace(split, ratings=replace(r, score=score))
        args = (pictures, folded.design(number), [taste_model(model)], [1])
        for old, new in zip(predict_fold(split, *args), predict_fold(changed, *args), strict=True):
            np.testing.assert_array_equal(old.score, new.score)
            np.testing.assert_array_equal(old.sd, new.sd)


@pytest.mark.parametrize("model", known_models())
def test_a_feature_that_carries_ratings_is_refused(world: World, model: str) -> None:
    leak = with_column(world, mean_of(world.ratings.image_id, world.ratings.score))
    with pytest.raises(LeakError, match="column 20 of block 'statistics'"):
        predict(world.ratings, leak, model)


@pytest.mark.parametrize("model", known_models())
def test_a_feature_that_carries_the_raters_means_is_refused(world: World, model: str) -> None:
    r = world.ratings
    test = CrossValidation.of(r, pictures_of(world), FOLDS, 5).splits[0].test_ratings
    own = mean_of(test.user_id, test.score)
    leak = with_column(world, mean_of(test.image_id, np.array([own[u] for u in test.user_id.tolist()])))
    with pytest.raises(LeakError, match="column 20 of block 'statistics'"):
        predict(r, leak, model)


@pytest.mark.parametrize("model", known_models())
@pytest.mark.parametrize("where", ["profiles", "demographics"])
def test_a_users_mean_test_rating_is_refused_in_what_is_told_of_people(world: World, model: str, where: str) -> None:
    test = CrossValidation.of(world.ratings, pictures_of(world), FOLDS, 5).splits[0].test_ratings
    mean = mean_of(test.user_id, test.score)
    users = world.ratings.users()
    told = np.array([mean[u] for u in users.tolist()])
    noise = np.random.default_rng(0).standard_normal((len(users), 3))
    people = People(users, profiles=np.c_[noise, told])
    if where == "demographics":
        people = People(users, {"generosity": told.astype(str)})
    with pytest.raises(LeakError, match="of people correlates 1"):
        predict(world.ratings, pictures_of(world), model, people)
    predict(world.ratings, pictures_of(world), "population", People(users, profiles=noise))


@pytest.mark.parametrize("model", known_models())
def test_a_test_image_in_training_is_refused(world: World, model: str) -> None:
    r, pictures = world.ratings, pictures_of(world)
    split = CrossValidation.of(r, pictures, FOLDS, 5).splits[0]
    with pytest.raises(LeakError, match="are in training and in test"):
        replace(split, train=np.append(split.train, split.test[0]), test=split.test[1:])
    everything = learn_design(pictures, np.random.default_rng(0))
    with pytest.raises(LeakError, match="learned on"):
        predict_fold(split, pictures, everything, [taste_model(model)], [0])


@pytest.mark.parametrize("model", known_models())
def test_a_near_duplicate_of_a_test_image_is_no_training_image(world: World, model: str) -> None:
    """The folds keep both on one side; a split and a design that do not are refused."""
    r, pictures, ids = world.ratings, pictures_of(world), world.features.image_ids
    network = world.features.blocks["network"].copy()
    network[40] = network[3]
    copied = replace(pictures, features=world.features.with_block("network", network))
    folded = CrossValidation.of(r, copied, FOLDS, 5)
    for split in folded.splits:
        sides = [{ids[3], ids[40]} & set(side.image_id.tolist()) for side in (split.train_ratings, split.test_ratings)]
        assert not (sides[0] and sides[1])
    naive = next(
        s for s in CrossValidation.of(r, pictures, FOLDS, 5).splits
        if (ids[3] in s.held_out_images) != (ids[40] in s.held_out_images)
    )  # fmt: skip
    with pytest.raises(LeakError, match="group"):
        Split(naive.kind, r, folded.groups, naive.train, naive.context, naive.test, naive.held_out)
    unaware = learn_design(pictures.take(~np.isin(pictures.prompt_ids, naive.held_out)), np.random.default_rng(0))
    inside = next(k for k, s in enumerate(folded.splits) if ids[3] in s.held_out_images)
    with pytest.raises(LeakError, match="learned on"):
        predict_fold(folded.splits[inside], folded.pictures, unaware, [taste_model(model)], [0])
