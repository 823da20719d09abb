"""The sweep over newcomers' ratings: nested contexts, its start, its choice, and what truth says of it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.pairs import user_accuracy
from beholder.errors import UserError
from beholder.taste.designs import Pictures, learn_design
from beholder.taste.models import UserRidge
from beholder.taste.newcomer_report import choice_table, choose, folds_of_users, levelled, sweep_table, user_scores
from beholder.taste.newcomers import Sweep, chosen_order, first_positions, predict_newcomers
from beholder.taste.splits import Split, unseen_splits

sys.path.insert(0, str(Path(__file__).parent))
from taste_worlds import World, make_world

SWEEP = Sweep((0, 5, 15), (1, 5))
PROMPT_FOLDS, USER_FOLDS = 2, 3


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(np.random.default_rng(8), n_users=30, n_images=160, n_rated=50, private=0.5, noise=0.2)


@pytest.fixture(scope="module")
def splits(world: World) -> list[Split]:
    r, most = world.ratings, max(SWEEP.shown)
    return unseen_splits(r, r.prompt_id, PROMPT_FOLDS, USER_FOLDS, most, np.random.default_rng(4))


@pytest.fixture(scope="module")
def folds(world: World, splits: list[Split]) -> list[pd.DataFrame]:
    r = world.ratings
    prompt = dict(zip(r.image_id.tolist(), r.prompt_id.tolist(), strict=True))
    names = world.features.image_ids
    pictures = Pictures(world.features, np.array([prompt.get(i, f"none-{i}") for i in names.tolist()]))
    found = []
    for k, split in enumerate(splits):
        other = pictures.take(~np.isin(pictures.prompt_ids, split.held_out))
        learned = learn_design(other, np.random.default_rng(1))
        found.append(predict_newcomers(split, pictures, learned, SWEEP, [4, k], UserRidge()))
    return found


@pytest.fixture(scope="module")
def tidy(world: World) -> pd.DataFrame:
    r = world.ratings
    return pd.DataFrame({"user_id": r.user_id, "image_id": r.image_id, "prompt_id": r.prompt_id, "score": r.score})


def test_without_a_rating_every_method_says_what_anybody_thinks(folds: list[pd.DataFrame]) -> None:
    for fold in folds:
        none = fold[fold["shown"] == 0]
        wide = none.pivot_table("fold_score", ["user_id", "image_id"], ["method", "neighbours"])
        assert wide.shape[1] == 6
        np.testing.assert_allclose(wide.to_numpy(), wide.iloc[:, [0]].to_numpy() * np.ones((1, 6)), rtol=1e-9)


def test_every_setting_predicts_every_test_rating_once(folds: list[pd.DataFrame], splits: list[Split]) -> None:
    for fold, split in zip(folds, splits, strict=True):
        sizes = fold.groupby(["method", "shown", "neighbours"]).size()
        assert set(sizes) == {len(split.test)}
        assert len(sizes) == 3 * (2 + 2 * 2)


def test_fewer_ratings_are_the_first_of_more(splits: list[Split]) -> None:
    context = splits[0].context_ratings
    five, fifteen = (set(first_positions(context, np.arange(len(context)), n).tolist()) for n in (5, 15))
    assert five < fifteen
    assert set(np.unique(context.user_id[sorted(five)], return_counts=True)[1].tolist()) == {5}


def test_images_are_chosen_without_a_look_at_the_answers(world: World, splits: list[Split]) -> None:
    split = splits[0]
    learned = learn_design(
        Pictures(world.features, np.array([f"none-{i}" for i in world.features.image_ids.tolist()])),
        np.random.default_rng(1),
    ).training
    fitted = UserRidge().fit(split.train_ratings, learned, np.random.default_rng(2))
    order = chosen_order(fitted, split, learned, 15)
    answers = world.ratings.score.copy()
    new = np.isin(world.ratings.user_id, split.test_ratings.user_id)
    answers[new] = np.random.default_rng(3).permutation(answers[new])
    r = world.ratings
    other = Split(
        "unseen",
        type(r)(r.user_id, r.image_id, r.prompt_id, answers),
        split.groups,
        split.train,
        split.context,
        split.test,
        split.held_out,
    )
    np.testing.assert_array_equal(chosen_order(fitted, other, learned, 15), order)
    assert not np.isin(order, split.test).any()
    assert not np.isin(order, split.train).any()


def test_more_ratings_tell_more_and_the_table_is_the_mean_over_users(
    folds: list[pd.DataFrame], tidy: pd.DataFrame
) -> None:
    predictions = levelled(folds)
    table = sweep_table(predictions, tidy, 0.95).set_index(["method", "shown", "neighbours"])
    posterior = table.loc["posterior", "accuracy"].to_numpy()
    assert posterior[0] < posterior[1] < posterior[2]
    assert posterior[2] > posterior[0] + 0.04
    one = predictions.query("method == 'posterior' and shown == 15").merge(tidy, on=["user_id", "image_id"])
    by_hand = [
        user_accuracy(g["score_y"].to_numpy(), g["score_x"].to_numpy()).accuracy for _, g in one.groupby("user_id")
    ]
    assert posterior[2] == pytest.approx(np.mean(by_hand), abs=1e-12)
    assert (table["ci_low"] < table["accuracy"]).all()
    squares = ((one["score_y"] - one["fold_score"]) / one["sd"]) ** 2
    assert table.loc[("posterior", 15, 0), "z_sd"] == pytest.approx(
        squares.groupby(one["user_id"]).mean().mean() ** 0.5
    )


def test_the_choice_for_a_fold_does_not_know_its_people(
    folds: list[pd.DataFrame], splits: list[Split], tidy: pd.DataFrame
) -> None:
    predictions, fold = levelled(folds), folds_of_users(splits)
    assert set(fold) == set(tidy["user_id"])
    assert set(fold.values()) == {0, 1, 2}
    scores = user_scores(predictions, tidy)
    before = choose(scores, fold, "neighbours")
    mine = scores["user_id"].map(fold) == 1
    spoilt = scores.assign(accuracy=np.where(mine, np.where(scores["shown"] == 5, 1.0, 0.0), scores["accuracy"]))
    after = choose(spoilt, fold, "neighbours")
    assert after[1] == before[1]
    assert after[0][0] == 5
    table = choice_table(predictions, tidy, fold, SWEEP, 0.95).set_index("a")
    row = table.loc["neighbours, as published"]
    wide = scores.pivot_table("accuracy", "user_id", ["method", "shown", "neighbours"])
    assert row["accuracy_a"] == pytest.approx(wide[("neighbours", 15, 5)].mean(), abs=1e-12)
    gap = (wide[("neighbours", 15, 5)] - wide[("posterior", 15, 0)]).mean()
    assert row["estimate"] == pytest.approx(gap, abs=1e-12)
    assert row["ci_low"] < row["estimate"] < row["ci_high"]


def test_an_impossible_sweep_is_refused() -> None:
    for shown, neighbours in (((1, 5), (1,)), ((0, 5, 5), (1,)), ((0,), ()), ((0,), (0, 1))):
        with pytest.raises(UserError):
            Sweep(shown, neighbours)
