"""A reward is the same after saving, whoever stands beside; judges say what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from beholder.errors import StoreError, TableError, UserError
from beholder.models.encoders.statistics import STATISTICS, image_statistics
from beholder.models.scorers.image_statistics import TERMS, StatisticsScorer, statistics_score
from beholder.records import pack, unpack
from beholder.steering.judges import POPULATION, Judges, condition_of, own, user_of
from beholder.steering.judges import STATISTICS as BY_STATISTICS
from beholder.steering.reward import EVERYBODY, Reward, folder_digest, pictures_of, raw_features
from beholder.taste.base import Ratings
from beholder.taste.designs import learn_design
from beholder.taste.eb_slopes import EBSlopes
from beholder.taste.features import Features

USERS = np.array(["ann", "bo", "cy", "di"])


def tables(count: int, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """`images`, `features` and `prompt_vectors` of `count` images, four a prompt."""
    ids = [f"image_{k:03d}" for k in range(count)]
    prompts = [f"prompt_{k // 4:02d}" for k in range(count)]
    network, statistics = rng.normal(size=(count, 10)), rng.normal(size=(count, len(STATISTICS)))
    packed = {"network": [pack(v) for v in network], "statistics": [pack(v) for v in statistics]}
    vectors = {name: pack(rng.normal(size=6)) for name in dict.fromkeys(prompts)}
    return (
        pd.DataFrame({"image_id": ids, "prompt_id": prompts}),
        pd.DataFrame({"image_id": ids, **packed}),
        pd.DataFrame({"prompt_id": list(vectors), "vector": list(vectors.values())}),
    )


@pytest.fixture(scope="module")
def reward() -> Reward:
    rng = np.random.default_rng(2)
    learned = learn_design(pictures_of(*tables(80, rng)), rng)
    liking = rng.normal(size=(4, learned.training.matrix.shape[1]))
    score = 500 + 40 * (liking @ learned.training.matrix.T) + rng.normal(0, 60, (4, 80))
    who, what = np.repeat(USERS, 80), np.tile(learned.training.image_ids, 4)
    ratings = Ratings(who, what, what, np.clip(np.rint(score.ravel()), 0, 1000))
    return Reward.of(EBSlopes().fit(ratings, learned.training, rng), learned)


@pytest.fixture(scope="module")
def new() -> Features:
    return raw_features(tables(23, np.random.default_rng(3))[1])


def test_a_saved_reward_answers_with_the_same_bits_in_any_company(
    reward: Reward, new: Features, tmp_path: Path
) -> None:
    digest = reward.save(tmp_path / "one")
    assert digest == reward.save(tmp_path / "two") == folder_digest(tmp_path / "two")
    loaded = Reward.load(tmp_path / "one")
    users = np.resize([*USERS, EVERYBODY], len(new.image_ids))
    together = loaded.predict(users, loaded.design(new))
    for k, user in enumerate(users):
        alone = reward.predict([user], reward.design(new.take(new.image_ids[[k]])))
        assert (alone.mean[0], alone.sd[0]) == (together.mean[k], together.sd[k])
    with pytest.raises(StoreError, match="holds no map"):
        Reward.load(tmp_path)


def test_the_mean_person_is_the_models_population(reward: Reward, new: Features) -> None:
    design = reward.design(new)
    asked = reward.predict([EVERYBODY] * len(new.image_ids), design)
    population = reward.model.predict_population(design.matrix)
    np.testing.assert_array_equal(asked.mean, population.mean)
    np.testing.assert_array_equal(asked.sd, population.sd)
    with pytest.raises(UserError, match="stranger"):
        reward.predict(["stranger"] * len(new.image_ids), design)


def test_judges_are_people_the_mean_person_and_statistics(reward: Reward, new: Features) -> None:
    names = [own("cy"), POPULATION, BY_STATISTICS, own("ann")]
    assert [user_of(name) for name in names] == ["cy", None, None, "ann"]
    assert [condition_of(name) for name in names] == ["own", "population", "statistics", "own"]
    table = Judges(reward).table(names, new)
    for row, user in zip(table[[0, 1, 3]], ("cy", EVERYBODY, "ann"), strict=True):
        np.testing.assert_array_equal(row, reward.predict([user] * len(row), reward.design(new)).mean)
    np.testing.assert_array_equal(table[2], statistics_score(new.blocks["statistics"]))
    found = reward.predict(["cy"] * len(new.image_ids), reward.design(new))
    np.testing.assert_allclose(Judges(reward, caution=1.5).scores(own("cy"), new), found.mean - 1.5 * found.sd)
    np.testing.assert_array_equal(Judges(reward, caution=1.5).scores(BY_STATISTICS, new), table[2])


def test_pictures_carry_the_vector_of_their_own_prompt() -> None:
    images, features, vectors = tables(12, np.random.default_rng(4))
    shuffled = images.sample(frac=1, random_state=1)
    found = pictures_of(shuffled, features, vectors)
    expected = dict(zip(vectors["prompt_id"], unpack(vectors["vector"]), strict=True))
    for image, prompt, text in zip(found.features.image_ids, found.prompt_ids, found.texts, strict=True):
        assert prompt == images.set_index("image_id").loc[image, "prompt_id"]
        np.testing.assert_array_equal(text, expected[prompt].astype(float))
    with pytest.raises(TableError, match="4 images without a prompt"):
        pictures_of(images.iloc[4:], features, vectors)
    with pytest.raises(TableError, match="without column statistics"):
        pictures_of(images, features.drop(columns="statistics"), vectors)


def test_the_statistics_scorer_rises_with_colour_contrast_and_detail_without_end() -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    rng = np.random.default_rng(1)
    pictures = {
        "grey": grey,
        "colour": np.broadcast_to(np.array([200, 90, 60], np.uint8), grey.shape),
        "contrast": np.repeat(np.linspace(0, 255, 64).astype(np.uint8), 64 * 3).reshape(64, 64, 3),
        "glaring noise": rng.integers(0, 256, grey.shape).astype(np.uint8),
    }
    scorer = StatisticsScorer()
    scores = dict(zip(pictures, scorer.score(list(pictures.values()), [""] * 4), strict=True))
    assert scores["grey"] < min(scores["colour"], scores["contrast"])
    assert scores["glaring noise"] == max(scores.values()) > 2
    row = image_statistics(pictures["colour"]).astype(float)
    by_hand = np.mean([(row[STATISTICS.index(name)] - typical) / sd for name, (typical, sd) in TERMS.items()])
    assert scores["colour"] == pytest.approx(by_hand, abs=1e-12)
    with pytest.raises(UserError, match="shape"):
        statistics_score(np.zeros((2, 5)))
