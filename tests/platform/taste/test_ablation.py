"""What things add, on people whose taste follows from what is told of them; the gap against a paired difference."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.accuracy import accuracy
from analysis.levels import Rules, UserLevel
from analysis.matched import match
from beholder.taste.ablation import FULL, ablation_tables, gap, token_table, variants
from beholder.taste.designs import Pictures
from beholder.taste.evaluate import CrossValidation, FoldPrediction, Folds, masked_name
from beholder.taste.fold_stage import Allowed
from beholder.taste.fusion import SMALL, Fusion
from beholder.taste.networks import Training
from beholder.taste.people import People
from beholder.taste.registry import taste_model

sys.path.insert(0, str(Path(__file__).parent))
from taste_worlds import make_world

FOLDS = Folds(prompts=3, users=2, context=10)


@pytest.fixture(scope="module")
def study() -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    world = make_world(np.random.default_rng(8), n_users=24, n_images=120, n_rated=50)
    r = world.ratings
    pictures = Pictures(world.features, np.array([f"p{k // 2:04d}" for k in range(120)]))
    folded = CrossValidation.of(r, pictures, FOLDS, 3)
    model = [taste_model("eb_slopes")]
    folds = range(len(folded.splits))
    found = {
        FULL: folded.tables([folded.predict(k, model) for k in folds]).predictions,
        "no_user": folded.tables([folded.predict(k, model, personal=False) for k in folds]).predictions,
    }
    ids = {"user_id": r.user_id, "image_id": r.image_id, "prompt_id": r.prompt_id}
    return pd.DataFrame(ids | {"score": r.score.astype(int)}), found


def test_only_what_is_there_is_left_out() -> None:
    assert list(variants(others=True, text=True, demographics=True)) == [
        FULL, "no_others", "no_text", "no_demographics", "no_user",
    ]  # fmt: skip
    assert variants(others=False, text=False, demographics=False, profiles=True) == {
        FULL: Allowed(), "no_profiles": Allowed(profiles=False), "no_user": Allowed(user=False),
    }  # fmt: skip
    few = variants(others=False, text=False, demographics=False)
    assert few == {FULL: Allowed(), "no_user": Allowed(user=False)}


def test_own_ratings_add_what_the_personal_model_gains(study: tuple[pd.DataFrame, dict[str, pd.DataFrame]]) -> None:
    """Without them the personal model is its own mean person, so they add what the ladder calls its gain."""
    ratings, found = study
    tables = ablation_tables(found, ratings, 0.95)
    adds = tables["ablation_adds"].query("model == 'eb_slopes'").set_index("split")
    assert list(adds["variant"]) == ["no_user", "no_user"]
    for split in ("seen", "unseen"):
        both = found[FULL][found[FULL]["split"] == split]
        (d,) = accuracy(both, ratings).differences
        sign = 1 if d.a == "eb_slopes" else -1
        assert adds.loc[split, "estimate"] == pytest.approx(sign * d.estimate, abs=1e-12)
        assert adds.loc[split, "ci_low"] == pytest.approx(min(sign * d.ci_low, sign * d.ci_high), abs=1e-12)
        assert adds.loc[split, "p_holm"] == adds.loc[split, "p"]  # one variant is left out
        assert adds.loc[split, "ci_low"] > 0
    measured = tables["ablation"].set_index(["model", "variant", "split"])
    for m in accuracy(found[FULL], ratings).models:
        assert measured.loc[(m.model, FULL, m.split), "accuracy"] == m.accuracy


def test_the_gap_of_the_same_people_is_the_paired_difference(
    study: tuple[pd.DataFrame, dict[str, pd.DataFrame]],
) -> None:
    ratings, found = study
    own = found[FULL][found[FULL]["model"] == "eb_slopes"]
    (d,) = accuracy(own.assign(model=own["split"], split="all"), ratings).differences
    assert (d.a, d.b) == ("seen", "unseen")
    table = ablation_tables(found, ratings, 0.95)["ablation_gap"].set_index(["model", "variant"])
    row = table.loc[("eb_slopes", FULL)]
    np.testing.assert_allclose(
        row[["estimate", "ci_low", "ci_high", "p"]].to_numpy(float), [d.estimate, d.ci_low, d.ci_high, d.p], rtol=1e-9
    )
    assert row["estimate"] > 0
    assert row["n_images"] == ratings["image_id"].nunique()


def test_the_gap_of_different_people_covers() -> None:
    """Two groups of users, one scorer of equal skill for both: the gap is 0, and 95 % intervals find it."""
    rng, covered = np.random.default_rng(9), []
    for _ in range(120):
        images = rng.standard_normal(30)
        taste = images + 0.7 * rng.standard_normal((24, 30)) + rng.standard_normal((24, 1))
        user, image = np.divmod(np.arange(24 * 30), 30)
        ids = pd.DataFrame({"user_id": user, "image_id": image}).astype(str)
        ratings = ids.assign(score=np.clip(500 + 150 * taste.ravel(), 0, 1000).astype(int))
        score = images[image] + 0.8 * rng.standard_normal(30)[image]
        split = np.where(user < 12, "seen", "unseen")
        groups = match(ids.assign(model="m", score=score, split=split), ratings).groups
        levels = {g.split: UserLevel.of(g, Rules()) for g in groups}
        found = gap(levels["seen"], levels["unseen"], 0.95)
        covered.append(found.ci_low < 0 < found.ci_high)
    assert np.mean(covered) >= 0.9


def test_nothing_to_compare_is_empty(study: tuple[pd.DataFrame, dict[str, pd.DataFrame]]) -> None:
    ratings, found = study
    seen = found[FULL][(found[FULL]["split"] == "seen") & (found[FULL]["model"] == "eb_slopes")]
    tables = ablation_tables({FULL: seen}, ratings, 0.95)
    assert tables["ablation_adds"].empty
    assert tables["ablation_gap"].empty
    assert len(tables["ablation"]) == 1


def test_an_unknown_gap_is_nan(study: tuple[pd.DataFrame, dict[str, pd.DataFrame]]) -> None:
    ratings, found = study
    own = found[FULL][found[FULL]["model"] == "eb_slopes"]
    group = match(own, ratings).groups[0]
    level = UserLevel.of(group, Rules())
    nobody = replace(level, accuracy=np.full(len(level.accuracy), np.nan))
    assert np.isnan(gap(level, nobody, 0.95).estimate)


@pytest.fixture(scope="module")
def tokens() -> tuple[CrossValidation, list[list[FoldPrediction]], list[list[FoldPrediction]]]:
    """A small fusion predictor on a few folds, asked as it is and without each of its tokens."""
    world = make_world(np.random.default_rng(8), n_users=24, n_images=48, n_rated=20)
    prompts = np.array([f"p{k // 2:04d}" for k in range(48)])
    people = People(world.ratings.users(), {"gender": np.array(["f", "m"] * 12)})
    folded = CrossValidation.of(world.ratings, Pictures(world.features, prompts), FOLDS, 3, people)
    model = [Fusion(SMALL, Training(seeds=1, epochs=2, folds=4))]
    numbers = range(len(folded.splits))
    return (
        folded,
        [folded.predict(k, model) for k in numbers],
        [folded.predict(k, model, tokens=True) for k in numbers],
    )


def test_asking_for_tokens_changes_no_prediction(
    tokens: tuple[CrossValidation, list[list[FoldPrediction]], list[list[FoldPrediction]]],
) -> None:
    _, plain, asked = tokens
    for one, two in zip(plain, asked, strict=True):
        np.testing.assert_array_equal(one[0].score, two[0].score)
        assert [f.model for f in two] == [
            "fusion", *(masked_name("fusion", t) for t in ("nothing", "components", "user", "gender"))
        ]  # fmt: skip
        rated = np.isfinite(two[1].score)
        np.testing.assert_allclose(two[1].score[rated], two[0].score[rated], atol=1e-9)


def test_tokens_lose_what_a_comparison_of_models_says(
    tokens: tuple[CrossValidation, list[list[FoldPrediction]], list[list[FoldPrediction]]],
) -> None:
    folded, _, asked = tokens
    r = folded.ratings
    ids = {"user_id": r.user_id, "image_id": r.image_id, "prompt_id": r.prompt_id}
    ratings = pd.DataFrame(ids | {"score": r.score.astype(int)})
    predictions = folded.tables(asked).predictions
    table = token_table(predictions, ratings, 0.95).set_index(["split", "token"])
    assert list(table.loc["seen"].index) == ["components", "gender", "user"]
    whole = masked_name("fusion", "nothing")
    for (split, token), row in table.iterrows():
        masked = masked_name("fusion", token)
        two = predictions[(predictions["split"] == split) & predictions["model"].isin([whole, masked])]
        (d,) = accuracy(two, ratings).differences
        sign = 1 if d.a == whole else -1
        assert row["estimate"] == pytest.approx(sign * d.estimate, abs=1e-12)
        assert row["ci_low"] == pytest.approx(min(sign * d.ci_low, sign * d.ci_high), abs=1e-12)
        both = two.set_index(["user_id", "image_id", "model"])["fold_score"].unstack()  # noqa: PD010
        assert row["shift"] == pytest.approx(np.sqrt(((both[masked] - both[whole]) ** 2).mean()), rel=1e-9)
        score = ratings.set_index(["user_id", "image_id"])["score"].reindex(both.index)
        assert row["rmse"] == pytest.approx(np.sqrt(((both[masked] - score) ** 2).mean()), rel=1e-9)
    # Without the image all predictions of a person are one: half of the pairs.
    assert table.loc[("seen", "components"), "accuracy"] == pytest.approx(0.5)
    assert token_table(predictions[predictions["model"] == "fusion"], ratings, 0.95).empty
