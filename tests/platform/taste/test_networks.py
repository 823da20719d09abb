"""Networks of taste: what they recover, what seeds fix, and newcomers."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from beholder.errors import EstimateError, TableError, UserError
from beholder.taste.base import Ratings
from beholder.taste.fusion import SMALL, Fusion, token_effects
from beholder.taste.fusion_network import FusionNetwork
from beholder.taste.mlp import MLP
from beholder.taste.mlp import TRAINING as MLP_TRAINING
from beholder.taste.network_taste import NetworkTaste
from beholder.taste.networks import Training
from beholder.taste.people import People
from beholder.taste.registry import load_model, save_model
from beholder.taste.training_set import training_set

sys.path.insert(0, str(Path(__file__).parent))
from worlds import PaperWorld, pairwise_accuracy, paper_world

QUICK = Training(seeds=2, epochs=8, folds=5, ranking=0.2, user_dropout=0.15, told_dropout=0.1)


@pytest.fixture(scope="module")
def world() -> PaperWorld:
    rng = np.random.default_rng(0)
    return paper_world("linear", rng, n_users=30, n_images=400, raters=10, dims=8, images_per_prompt=2, told=0.7)


@pytest.fixture(scope="module")
def fusion(world: PaperWorld) -> NetworkTaste:
    return Fusion(SMALL, QUICK).fit(world.training(), world.design, np.random.default_rng(1), world.people)


@pytest.fixture(scope="module")
def mlp(world: PaperWorld) -> NetworkTaste:
    return MLP(training=replace(MLP_TRAINING, seeds=2)).fit(world.training(), world.design, np.random.default_rng(1))


@pytest.mark.parametrize("name", ["mlp", "fusion"])
def test_networks_know_more_than_the_crowd(name: str, world: PaperWorld, request: pytest.FixtureRequest) -> None:
    model: NetworkTaste = request.getfixturevalue(name)
    test = world.test()
    rows = world.design.rows(test.image_id)
    found = model.predict(test.user_id, rows)
    crowd = model.predict_population(rows)
    assert pairwise_accuracy(found.mean, test) > pairwise_accuracy(crowd.mean, test) > 0.55
    z = (test.score - found.mean) / found.predictive_sd
    assert 0.9 < z.std() < 1.1
    assert model.inputs[:2] == ("components", "user")


def test_the_same_seed_gives_the_same_bits(world: PaperWorld, fusion: NetworkTaste) -> None:
    again = Fusion(SMALL, QUICK).fit(world.training(), world.design, np.random.default_rng(1), world.people)
    for mine, theirs in zip(fusion.members, again.members, strict=True):
        for name in mine:
            np.testing.assert_array_equal(mine[name], theirs[name])
    np.testing.assert_array_equal(fusion.known.embeddings, again.known.embeddings)


@pytest.mark.parametrize("name", ["mlp", "fusion"])
def test_an_image_has_one_reward_whatever_its_neighbours(
    name: str, world: PaperWorld, request: pytest.FixtureRequest
) -> None:
    model: NetworkTaste = request.getfixturevalue(name)
    users, rows = np.resize(model.user_ids, 300), world.design.matrix[:300]
    together = model.predict(users, rows)
    order = np.random.default_rng(1).permutation(300)
    mixed = model.predict(users[order], rows[order])
    np.testing.assert_array_equal(together.mean[order], mixed.mean)
    np.testing.assert_array_equal(together.sd[order], mixed.sd)
    alone = [model.predict([users[i]], rows[i : i + 1]).mean[0] for i in range(20)]
    assert len(model.predict([], rows[:0]).mean) == 0
    with pytest.raises(TableError, match="columns"):
        model.predict(users[:2], rows[:2, :-1])
    with pytest.raises(UserError, match="'stranger'"):
        model.predict(["stranger"], rows[:1])
    np.testing.assert_array_equal(together.mean[:20], alone)


def test_demographics_speak_for_those_who_rated_nothing(world: PaperWorld, fusion: NetworkTaste) -> None:
    """Seven tenths of the private taste belong to the group: knowing the group must help with new people."""
    test = world.new_test()
    rows = world.design.rows(test.image_id)
    nobody = fusion.adapt(test.take(np.arange(0)), world.design, world.people.of(world.new_users))
    told = pairwise_accuracy(nobody.predict_mean(test.user_id, rows), test)
    assert told > pairwise_accuracy(fusion.predict_population(rows).mean, test)


def test_without_the_user_token_people_of_one_group_agree(world: PaperWorld) -> None:
    training = replace(QUICK, user_dropout=1.0, seeds=1, epochs=2)
    model = Fusion(SMALL, training).fit(world.training(), world.design, np.random.default_rng(0), world.people)
    told = world.people.of(model.user_ids)
    groups = np.char.add(told.demographics["age"], told.demographics["gender"])
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    rows = world.design.matrix[:30]
    each = [model.predict_mean([user] * 30, rows) for user in model.user_ids.tolist()]
    centred = np.stack([mean - mean.mean() for mean in each])
    np.testing.assert_allclose(centred, centred[first[group]], atol=1e-9)
    assert np.ptp(centred[first], axis=0).max() > 1
    taught = model.adapt(world.context(15, np.random.default_rng(0)), world.design)
    assert np.isfinite(taught.predict([world.new_users[0]] * 30, rows).sd).all()


def test_ratings_of_a_newcomer_teach(world: PaperWorld, mlp: NetworkTaste) -> None:
    test = world.new_test()
    rows = world.design.rows(test.image_id)
    pool = world.context(100, np.random.default_rng(0))
    grown = mlp.adapt(pool, world.design)
    assert grown.user_ids.tolist() == sorted([*mlp.user_ids.tolist(), *pool.users().tolist()])
    found, crowd = grown.predict(test.user_id, rows), mlp.predict_population(rows).mean
    # Against what is true, not 157 ratings of it: people's own mean apart, the shift from the crowd is towards them.
    who = np.unique(test.user_id, return_inverse=True)[1]
    own, shift = (
        v - (np.bincount(who, v) / np.bincount(who))[who] for v in (world.truth(test) - crowd, found.mean - crowd)
    )
    assert own @ shift > 0
    assert np.mean((found.mean - world.truth(test)) ** 2) < np.mean((crowd - world.truth(test)) ** 2)
    few = mlp.adapt(world.context(3, np.random.default_rng(0)), world.design).predict(test.user_id, rows)
    assert few.sd.mean() > found.sd.mean()
    known = world.test()
    before, after = (m.predict_mean(known.user_id, world.design.rows(known.image_id)) for m in (mlp, grown))
    np.testing.assert_array_equal(before, after)


def test_token_effects_name_what_matters(world: PaperWorld, fusion: NetworkTaste) -> None:
    effects = {e.token: e for e in token_effects(fusion, world.test(), world.design)}
    assert list(effects) == ["nothing", "components", "user", "age", "gender"]
    assert effects["nothing"].shift == 0
    assert effects["components"].accuracy == 0.5
    assert effects["components"].rmse > effects["nothing"].rmse
    assert effects["components"].shift > effects["user"].shift > 0
    other = replace(world.design, block_names=("pixels",))
    with pytest.raises(UserError, match="pixels"):
        token_effects(fusion, world.test(), other)


def test_two_data_sets_keep_their_own_scales(world: PaperWorld, tmp_path: Path) -> None:
    """The same taste on two scales: predictions come back on each, and saved ones are the same."""
    r = world.training()
    second = np.isin(r.user_id, world.known_users[::2])
    squeezed = replace(r, score=np.where(second, np.round(700 + (r.score - 500) / 4), r.score))
    sets = np.where(np.isin(world.people.user_ids, world.known_users[::2]), "narrow", "wide")
    people = People(world.people.user_ids, world.people.demographics, sets, np.eye(len(sets))[:, :3])
    training = replace(QUICK, sampling={"narrow": 0.5, "wide": 1.5})
    model = Fusion(SMALL, training).fit(squeezed, world.design, np.random.default_rng(2), people)
    assert model.inputs == ("components", "user", "age", "gender", "profile", "dataset")
    rows = world.design.rows(r.image_id)
    found = model.predict_mean(r.user_id, rows)
    assert found[second].mean() == pytest.approx(700, abs=20)
    assert found[~second].mean() == pytest.approx(500, abs=40)
    assert 3 < found[~second].std() / found[second].std() < 5.5
    save_model(model, tmp_path / "m")
    np.testing.assert_array_equal(load_model(tmp_path / "m").predict_mean(r.user_id, rows), found)


def test_what_cannot_be_trained_on_is_refused(world: PaperWorld) -> None:
    r, rng = world.training(), np.random.default_rng(0)
    with pytest.raises(EstimateError, match="do not vary"):
        training_set(replace(r, score=np.full(len(r), 400.0)), world.design, rng, None, 5)
    with pytest.raises(EstimateError, match="2 users"):
        training_set(r.take(r.user_id == r.user_id[0]), world.design, rng, None, 5)
    with pytest.raises(EstimateError, match="at least 2"):
        training_set(replace(r, prompt_id=np.full(len(r), "one")), world.design, rng, None, 5)
    with pytest.raises(TableError, match="no row in the design"):
        training_set(replace(r, image_id=np.full(len(r), "unknown")), world.design, rng, None, 5)
    with pytest.raises(UserError, match="multiple of the heads"):
        FusionNetwork(width=30, heads=8)
    with pytest.raises(UserError, match="seeds = 0"):
        Training(seeds=0)
    with pytest.raises(UserError, match="data sets elsewhere"):
        Fusion(SMALL, replace(QUICK, sampling={"elsewhere": 2.0})).fit(r, world.design, rng)
    with pytest.raises(UserError, match="nothing to train on"):
        Fusion(SMALL, replace(QUICK, sampling={"": 0.0})).fit(r, world.design, rng)


def test_a_fold_that_stops_training_is_not_trained_on(world: PaperWorld) -> None:
    """Other ratings of the fold held out change nothing that is learned in the first epoch."""
    from beholder.taste.train_network import train_one

    data = training_set(world.training(), world.design, np.random.default_rng(0), None, 5)
    held_out = data.folds == 2
    changed = replace(data, target=np.where(held_out, -data.target, data.target))
    one = replace(QUICK, epochs=1)
    mine, theirs = (train_one(d, SMALL, one, (1, 2), 2) for d in (data, changed))
    np.testing.assert_array_equal(mine.parameters["users"], theirs.parameters["users"])
    np.testing.assert_allclose(mine.predicted, theirs.predicted, atol=1e-5)
    assert mine.losses != theirs.losses


def test_one_rating_of_one_person_moves_nobody_else(world: PaperWorld, mlp: NetworkTaste) -> None:
    context = world.context(5, np.random.default_rng(0))
    changed = Ratings(context.user_id, context.image_id, context.prompt_id, context.score.copy())
    changed.score[context.user_id == context.user_id[0]] = 0
    rows = world.design.matrix[:50]
    first, other = context.user_id[0], next(u for u in context.users().tolist() if u != context.user_id[0])
    before, after = (mlp.adapt(c, world.design) for c in (context, changed))
    assert np.all(after.predict_mean([first] * 50, rows) < before.predict_mean([first] * 50, rows))
    np.testing.assert_array_equal(before.predict_mean([other] * 50, rows), after.predict_mean([other] * 50, rows))


@pytest.mark.parametrize("tokens", [(1, 3), (3, 3), (5, 9)])
def test_attention_is_torchs_own(tokens: tuple[int, int]) -> None:
    import torch

    from beholder.taste.nets import attend

    generator = torch.Generator().manual_seed(0)
    asking, told = tokens
    q, k, v = (torch.randn(7, n, 16, generator=generator) for n in (asking, told, told))
    split = [x.reshape(7, -1, 4, 4).transpose(1, 2) for x in (q, k, v)]
    expected = torch.nn.functional.scaled_dot_product_attention(*split).transpose(1, 2).reshape(7, asking, 16)
    torch.testing.assert_close(attend(q, k, v, 4), expected)


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    import torch

    from beholder.taste.nets import Dropout

    kept = Dropout(0.2, torch.Generator().manual_seed(0)).keep((1000, 201), torch.zeros(1)).numpy()
    dropped, n = 51 / 256, kept.size
    assert np.mean(kept == 0) == pytest.approx(dropped, abs=4 * np.sqrt(dropped * (1 - dropped) / n))
    assert set(np.unique(kept)) == {np.float32(0), np.float32(256 / 205)}
    # Bytes of one number are as good as bytes of different ones.
    each = np.mean(kept.ravel()[: n // 8 * 8].reshape(-1, 8) == 0, axis=0)
    np.testing.assert_allclose(each, dropped, atol=5 * np.sqrt(dropped * (1 - dropped) / (n // 8)))
