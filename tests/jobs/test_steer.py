"""Steering as a job: honest seeds, tables that fit their readers, and the same result after any number of stops."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import steer
import steering_consistency
import train_taste
from analysis.tables import check_steered
from beholder.engine.progress import Advance, Quiet
from beholder.errors import EngineError
from beholder.prompts import bare, prompt_id
from beholder.steering.outcome import Heldout, Shot, require_all
from beholder.steering.reward import Reward, raw_features
from beholder.steering.search import image_seeds
from beholder.store import Store
from beholder.study.design import plan_trials
from pairwise_study import design_of

if TYPE_CHECKING:
    from conftest import TinyStudy

pytestmark = pytest.mark.models
TABLES = ("search_trace", "steered_images", "steered", "steering_gains", "steering_rewards")
PEOPLE = 4


@pytest.fixture(scope="module")
def trained(rated_study: TinyStudy, tmp_path_factory: pytest.TempPathFactory) -> TinyStudy:
    study = rated_study.copy(tmp_path_factory.mktemp("trained") / "store")
    context = study.context()
    context.save("trained", train_taste.fit_all(context), train_taste.INPUTS)
    return study


@pytest.fixture(scope="module")
def steered(trained: TinyStudy, tmp_path_factory: pytest.TempPathFactory) -> TinyStudy:
    study = trained.copy(tmp_path_factory.mktemp("steered") / "store")
    steer.run(study.context())
    return study


@pytest.fixture(scope="module")
def tables(steered: TinyStudy) -> dict[str, pd.DataFrame]:
    return {name: Store(steered.store).read_table(name) for name in TABLES}


def ok_rows(study: TinyStudy, stage: str) -> list[dict[str, Any]]:
    return [row for row in Store(study.store).ledger_rows(stage) if row["status"] == "ok"]


def test_the_tables_fit_those_who_read_them(steered: TinyStudy, tables: dict[str, pd.DataFrame]) -> None:
    plan, images = steered.context().plan, tables["steered_images"]
    people = sorted(images["source_user"].dropna().unique())
    assert len(people) == PEOPLE
    assert Counter(images["condition"]) == {"own": 12, "population": 3, "statistics": 3, "unoptimised": 3}
    trials = plan_trials(images, people, list(images["prompt_id"].unique()), design_of(plan), np.random.default_rng(1))
    assert set(trials["left_image_id"]) <= set(images["image_id"])
    assert all((steered.store / path).is_file() for path in images["path"])
    checked = check_steered(tables["steered"])
    assert len(checked) == PEOPLE * 3 * 2
    assert {len(v) for v in checked["embedding"]} == {12}


def test_what_is_shown_was_drawn_from_seeds_no_search_has_seen(
    steered: TinyStudy, tables: dict[str, pd.DataFrame]
) -> None:
    settings = steer.search_settings(steered.context().plan)
    searched = {
        seed
        for base in bare(3)
        for number in range(settings.rounds)
        for seed in image_seeds(settings, prompt_id(base), number, settings.seeds)
    }
    shown = pd.concat([tables["steered_images"], tables["steered"]])
    assert not searched & set(shown["seed"])
    assert len(shown[["prompt_id", "seed"]].drop_duplicates()) == 3, "one seed a prompt, for everybody and both runs"
    run_one = tables["steered"][tables["steered"]["run"] == 1].set_index(["user_id", "prompt_id"])["image_id"]
    own = tables["steered_images"][tables["steered_images"]["condition"] == "own"]
    assert dict(run_one) == dict(own.set_index(["source_user", "prompt_id"])["image_id"])


def test_gains_are_those_of_the_reward_on_the_pictures_in_the_ledger(
    steered: TinyStudy, tables: dict[str, pd.DataFrame]
) -> None:
    settings = steer.search_settings(steered.context().plan)
    reward = Reward.load(steered.store / "models" / "eb_slopes")
    image_of = {(row["prompt"], row["seed"]): row["key"][:16] for row in ok_rows(steered, "generate")}
    features = pd.DataFrame(ok_rows(steered, "embed")).rename(columns={"image": "image_id"}).drop_duplicates("image_id")
    bases = {prompt_id(base): base for base in bare(3)}

    def mean_reward(user: str, prompt: str, seeds: list[int]) -> float:
        wanted = [image_of[prompt, seed] for seed in seeds]
        raw = raw_features(features.set_index("image_id").loc[wanted].reset_index())
        return float(np.mean(reward.predict([user] * len(wanted), reward.design(raw)).mean))

    own = tables["steering_gains"][tables["steering_gains"]["condition"] == "own"]
    for row in own.itertuples():
        seeds = image_seeds(settings, row.prompt_id, "heldout", 2)
        after, before = (mean_reward(row.user_id, prompt, seeds) for prompt in (row.prompt, bases[row.prompt_id]))
        assert (row.heldout_score, row.base_score) == pytest.approx((after, before), abs=1e-9)
        assert row.gain == pytest.approx(after - before, abs=1e-9)
        assert row.optimism == pytest.approx(row.search_score - after, abs=1e-9)
    crossed = tables["steering_rewards"]
    assert len(crossed) == (PEOPLE + 2) * 3 * 2 * PEOPLE
    mine = crossed[crossed["user_id"] == crossed["judge_user"]].set_index(["user_id", "prompt_id", "run"])["gain"]
    assert mine.sort_index().equals(own.set_index(["user_id", "prompt_id", "run"])["gain"].sort_index())


def test_every_search_ends_with_the_best_of_its_last_round(tables: dict[str, pd.DataFrame]) -> None:
    trace = tables["search_trace"].fillna({"user_id": ""})
    who = ["condition", "user_id", "prompt_id", "run"]
    best = trace.groupby([*who, "round"])["score"].max()
    kept = trace[trace["kept"]].set_index([*who, "round"])["score"]
    assert kept.sort_index().equals(best.sort_index())
    ends = trace[trace["kept"] & (trace["round"] == 2)].set_index(who)["prompt"]
    assert dict(ends) == dict(tables["steering_gains"].fillna({"user_id": ""}).set_index(who)["prompt"])
    pools = trace.groupby(["prompt_id", "run", "round", "condition", "user_id"])["prompt"].agg(frozenset).reset_index()
    different = pools.drop_duplicates(["prompt_id", "run", "round", "prompt"])
    assert len(different) == 3 * 2 * 2, "all judges choose among the same pictures"


class StopAfter(Quiet):
    """Ctrl-C after so many batches."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    @contextmanager
    def stage(self, label: str, total: int, done: int, failed: int) -> Generator[Advance, None, None]:
        def advance(done: int, failed: int, *_: object) -> None:
            self.left -= 1
            if self.left <= 0:
                raise KeyboardInterrupt

        yield advance


def test_a_stopped_search_is_played_again_from_the_ledger(
    trained: TinyStudy, steered: TinyStudy, tmp_path: Path
) -> None:
    study = trained.copy(tmp_path / "store")
    for batches in (3, 9, 16):  # in the first rewrites, among the pictures of a round, among their features
        with pytest.raises(KeyboardInterrupt):
            steer.run(study.context(progress=StopAfter(batches)))
        assert not Store(study.store).has_table("steered_images")
    context = study.context()
    steer.run(context)
    unbroken = steered.context()
    assert {name: context.digest(name) for name in TABLES} == {name: unbroken.digest(name) for name in TABLES}
    for stage in ("rewrite", "generate", "embed"):
        keys = [row["key"] for row in ok_rows(study, stage)]
        assert len(keys) == len(set(keys)), "nothing is done twice"
        assert set(keys) == {row["key"] for row in ok_rows(steered, stage)}


def test_a_second_run_does_nothing(steered: TinyStudy) -> None:
    context = steered.context(progress=StopAfter(1))
    steer.run(context)
    assert context.counts == {"found": 1}
    assert context.digests == {name: context.digest(name) for name in ("trained", *TABLES)}


def test_consistency_of_the_job_is_the_definition(steered: TinyStudy, tables: dict[str, pd.DataFrame]) -> None:
    steering_consistency.run(steered.context())
    found = Store(steered.store).read_table("steering_consistency").iloc[0]
    z = {(r.user_id, r.prompt_id, r.run): np.array(r.embedding) for r in tables["steered"].itertuples()}
    users, prompts = sorted({u for u, _, _ in z}), sorted({p for _, p, _ in z})
    d = {}
    for (u, p, r), vector in z.items():
        away = vector - np.mean([z[v, p, r] for v in users], axis=0)
        length = np.linalg.norm(away)
        d[u, p, r] = away / length if length > 1e-9 else np.zeros_like(away)
    same, other = [], []
    for u, v, p, q in itertools.product(users, users, prompts, prompts):
        if p != q:
            (same if u == v else other).append(float(d[u, p, 1] @ d[v, q, 2]))
    assert found["t2"] == pytest.approx(np.mean(same) - np.mean(other), abs=1e-12)
    assert found["summary"].startswith(f"Images of {PEOPLE} users on 3 prompts in 2 runs")


def test_the_forecast_is_an_upper_bound(steered: TinyStudy, capsys: pytest.CaptureFixture[str]) -> None:
    assert steer.main(["--plan", str(steered.plan), "--store", str(steered.store), "--dry-run"]) == 0
    told = json.loads(capsys.readouterr().out)["would_make"]
    rated = len(Store(steered.store).read_table("images"))
    assert len(ok_rows(steered, "generate")) - rated <= told["search_images"] + told["heldout_images"]
    assert sum(len(row["prompts"]) for row in ok_rows(steered, "rewrite")) <= told["rewrites"]
    assert told["searches"] == (PEOPLE + 2) * 3 * 2


def test_more_people_than_the_model_knows_is_said_before_anything_is_drawn(
    trained: TinyStudy, study_copy: Callable[[], TinyStudy]
) -> None:
    judges = steer.Judges(Reward.load(trained.store / "models" / "eb_slopes"))
    plan = trained.context("rate.raters=20", "steer.raters=9").plan
    with pytest.raises(EngineError, match=r"steer.raters is 9, but eb_slopes knows only 8 people"):
        steer.people_of(plan, judges)


def test_a_picture_that_cannot_be_shown_stops_the_study() -> None:
    shots = [Shot("a cat", 1), Shot("a cat, at night", 1)]
    heldout = Heldout({"a": [1]}, {shots[0]: {}}, {})
    with pytest.raises(EngineError, match=r"1 held-out images could not be made, first 'a cat, at night' at seed 1"):
        require_all(shots, heldout.images)
