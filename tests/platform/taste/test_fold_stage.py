"""Cross-validation as a stage: through a store and a ledger, folds give what they give in one call."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from beholder.engine.inprocess import InProcess
from beholder.engine.progress import Quiet
from beholder.engine.run import Engine, StageRun
from beholder.errors import StoreError, TableError
from beholder.records import pack, table_digest
from beholder.store import Store
from beholder.taste.base import Ratings
from beholder.taste.evaluate import CrossValidation, Evaluated, Folds, evaluate
from beholder.taste.fold_stage import (
    Allowed,
    PredictFold,
    SetTables,
    pack_predictions,
    pictures_from,
    read_predictions,
    unpack_predictions,
)
from beholder.taste.registry import taste_model

sys.path.insert(0, str(Path(__file__).parent))
from taste_worlds import make_world

FOLDS = Folds(prompts=3, users=2, context=8)
MODELS = ("user_mean", "population", "eb_slopes")
TABLES = ("ratings", "images", "features", "prompt_vectors")


def save(store: Store, name: str, frame: pd.DataFrame) -> str:
    digest = table_digest(frame)
    store.write_table(name, frame)
    store.write_record(f"table-{name}", {"digest": digest})
    return digest


def write_set(store: Store, seed: int, prefix: str = "", name: str = "") -> SetTables:
    """A small world's tables, with one person's gender told."""
    world = make_world(np.random.default_rng(seed), n_users=12, n_images=48, n_rated=30)
    r, images = world.ratings, world.features.image_ids
    prompts = np.array([f"p{k // 2:04d}" for k in range(len(images))])
    vectors = np.random.default_rng(seed).standard_normal((len(np.unique(prompts)), 6))
    blocks = {n: [pack(v) for v in b] for n, b in world.features.blocks.items()}
    frames = {
        "ratings": pd.DataFrame(
            {"user_id": r.user_id, "image_id": r.image_id, "prompt_id": r.prompt_id, "score": r.score.astype(int)}
        ),
        "images": pd.DataFrame({"image_id": images, "prompt_id": prompts}),
        "features": pd.DataFrame({"image_id": images} | blocks),
        "prompt_vectors": pd.DataFrame({"prompt_id": np.unique(prompts), "vector": [pack(v) for v in vectors]}),
        "users": pd.DataFrame({"user_id": r.users(), "gender": ["f", "m"] * 6}),
    }
    digests = tuple(save(store, prefix + table, frame) for table, frame in frames.items())
    return SetTables(name, *(prefix + table for table in TABLES), prefix + "users", digests)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def stage(store: Store) -> PredictFold:
    made = PredictFold((write_set(store, 1),), FOLDS, 7)
    made.setup(store)
    return made


def run(store: Store, stage: PredictFold, items: list[dict[str, object]]) -> StageRun:
    with Engine(store, InProcess(store), Quiet()) as engine:
        return engine.run(stage, items)


def collect(store: Store, stage: PredictFold, found: StageRun) -> Evaluated:
    folds: list[list[object]] = [[] for _ in stage.prepared().splits]
    for row in found.rows:
        folds[row["item"]["fold"]] += read_predictions(store, row)
    return stage.prepared().tables(folds)


def test_the_stage_gives_what_one_call_gives_to_the_bit(store: Store, stage: PredictFold) -> None:
    found = run(store, stage, stage.items(MODELS))
    assert found.failed == 0
    prepared = stage.prepared()
    models = [taste_model(name) for name in MODELS]
    straight = prepared.tables([prepared.predict(k, models) for k in range(len(prepared.splits))])
    staged = collect(store, stage, found)
    for name in ("predictions", "dense", "fits"):
        pd.testing.assert_frame_equal(getattr(staged, name), getattr(straight, name), check_exact=True)
    assert staged.notes == straight.notes


def test_evaluate_is_the_same_cross_validation(store: Store, stage: PredictFold) -> None:
    tables = [store.read_table(name) for name in TABLES]
    rng = np.random.default_rng(3)
    seed = int(np.random.default_rng(3).integers(2**62))
    ratings, pictures = Ratings.from_frame(tables[0]), pictures_from(*tables[1:])
    once = evaluate(ratings, pictures, [taste_model("population")], FOLDS, rng)
    folded = CrossValidation.of(ratings, pictures, FOLDS, seed)
    again = folded.tables([folded.predict(k, [taste_model("population")]) for k in range(len(folded.splits))])
    pd.testing.assert_frame_equal(once.predictions, again.predictions, check_exact=True)


def test_a_run_that_stopped_goes_on_and_another_model_costs_its_own_folds(store: Store, stage: PredictFold) -> None:
    items = stage.items(["population"])
    assert run(store, stage, items[:4]).computed == 4
    rest = run(store, stage, items)
    assert (rest.done, rest.computed) == (4, len(items) - 4)
    more = run(store, stage, stage.items(["population", "user_mean"]))
    assert (more.done, more.computed) == (len(items), len(items))


def test_packed_predictions_come_back_to_the_bit(stage: PredictFold) -> None:
    found = stage.prepared().predict(0, [taste_model("eb_slopes")])
    back = unpack_predictions(pack_predictions(found))
    assert [f.model for f in back] == ["eb_population", "eb_slopes"]
    for old, new in zip(found, back, strict=True):
        for name in ("users", "images", "score", "sd", "reference"):
            np.testing.assert_array_equal(getattr(old, name), getattr(new, name))
        assert (old.settings, old.inputs) == (new.settings, new.inputs)
        assert old.aligned == new.aligned


def test_a_file_that_changed_is_refused(store: Store, stage: PredictFold) -> None:
    row = run(store, stage, stage.items(["population"])[:1]).rows[0]
    store.write_file(row["path"], store.read(row["path"]) + b"x")
    with pytest.raises(StoreError, match="not what was written"):
        read_predictions(store, row)


def test_tables_written_anew_are_refused(store: Store) -> None:
    planned = write_set(store, 1)
    write_set(store, 2)
    with pytest.raises(StoreError, match="written anew"):
        PredictFold((planned,), FOLDS, 7).setup(store)


def test_what_a_model_may_not_use_does_not_reach_it(store: Store) -> None:
    stage = PredictFold((write_set(store, 1, "a_", "a"), write_set(store, 2, "b_", "b")), FOLDS, 7)
    stage.setup(store)
    full, alone = stage.prepared(), stage.prepared(Allowed(others=False))
    assert set(full.people.dataset) == {"a", "b"}
    assert {u.split(":")[0] for s in full.splits for u in s.train_ratings.users()} == {"a", "b"}
    assert {u.split(":")[0] for s in alone.splits for u in s.train_ratings.users()} == {"a"}
    assert all(u.startswith("a:") for s in full.splits for u in s.tested_users.tolist())
    for one, two in zip(full.splits, alone.splits, strict=True):
        np.testing.assert_array_equal(one.test, two.test)
        np.testing.assert_array_equal(one.held_out_images, two.held_out_images)
    assert stage.prepared(Allowed(text=False)).pictures.texts is None
    assert full.people.demographics.keys() == {"gender"}
    assert not stage.prepared(Allowed(demographics=False)).people.demographics


def test_profiles_are_told_apart_from_demographics_and_keep_older_keys(store: Store) -> None:
    planned = write_set(store, 1)
    users = store.read_table("users")["user_id"]
    vectors = np.random.default_rng(2).standard_normal((len(users), 4)).astype(np.float32)
    frame = pd.DataFrame({"user_id": users, "vector": [pack(v) for v in vectors]})
    digests = (*planned.digests, save(store, "profile_vectors", frame.iloc[1:]))
    stage = PredictFold((replace(planned, digests=digests, profiles="profile_vectors"),), FOLDS, 7)
    stage.setup(store)
    full = stage.prepared().people
    np.testing.assert_array_equal(full.profiles, np.vstack([np.zeros(4), vectors[1:]]))
    without = stage.prepared(Allowed(profiles=False)).people
    assert without.profiles is None
    assert without.demographics.keys() == {"gender"}
    alone = stage.prepared(Allowed(demographics=False)).people
    assert alone.profiles is not None
    assert not alone.demographics
    said = stage.items(["population"], Allowed())[0]["allowed"]
    assert said == {"others": True, "text": True, "demographics": True, "user": True}, "as before there were profiles"
    assert Allowed(**Allowed(profiles=False).said()) == Allowed(profiles=False)


def test_profiles_need_no_table_of_people(store: Store) -> None:
    planned = write_set(store, 1)
    users = store.read_table("users")["user_id"]
    frame = pd.DataFrame({"user_id": users, "vector": [pack(np.ones(3))] * len(users)})
    digests = (*planned.digests[:4], save(store, "profile_vectors", frame))
    stage = PredictFold((replace(planned, digests=digests, users=None, profiles="profile_vectors"),), FOLDS, 7)
    stage.setup(store)
    assert stage.prepared().people.user_ids.tolist() == sorted(users)
    assert stage.prepared(Allowed(profiles=False)).people.profiles is None


def test_without_own_ratings_everybody_is_alike(store: Store, stage: PredictFold) -> None:
    for number in (0, len(stage.prepared().splits) - 1):
        _, stranger = stage.prepared().predict(number, [taste_model("eb_slopes")], personal=False)
        _, known = stage.prepared().predict(number, [taste_model("eb_slopes")])
        assert np.ptp(stranger.score, axis=0).max() < 1e-9
        assert np.ptp(known.score, axis=0).max() > 1
        np.testing.assert_array_equal(stranger.users, known.users)


def test_two_sets_with_the_same_ids_are_refused(stage: PredictFold) -> None:
    folded = stage.prepared()
    with pytest.raises(TableError, match=r"user_ids are in both sets of ratings, first 'u000'"):
        CrossValidation.of(folded.ratings, folded.pictures, FOLDS, 1, others=folded.ratings)


def test_a_near_duplicate_in_another_set_is_not_trained_on(store: Store) -> None:
    stage = PredictFold((write_set(store, 1, "a_", "a"), write_set(store, 2, "b_", "b")), FOLDS, 7)
    stage.setup(store)
    folded = stage.prepared()
    copy, original = "b:i0000", "a:i0001"
    blocks = dict(folded.pictures.features.blocks)
    ids = folded.pictures.features.image_ids.tolist()
    network = blocks["network"].copy()
    network[ids.index(copy)] = network[ids.index(original)]
    pictures = replace(folded.pictures, features=folded.pictures.features.with_block("network", network))
    others = folded.splits[0].ratings.take(np.arange(len(folded.ratings), len(folded.splits[0].ratings)))
    again = CrossValidation.of(folded.ratings, pictures, FOLDS, 7, others=others)
    tested = [original in set(s.test_ratings.image_id) for s in again.splits]
    trained = [copy in set(s.train_ratings.image_id) for s in again.splits]
    assert any(tested)
    assert not any(t and u for t, u in zip(tested, trained, strict=True))
