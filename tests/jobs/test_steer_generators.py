"""Steering with generators other than scenes: a pipeline and a service give prompts, pictures and rewards; only what
reads scenes needs them."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import embed
import generate
import pairwise_study
import steer
import train_taste
from beholder.errors import EngineError, PlanError, UserError
from beholder.models.checkpoints import Checkpoint
from beholder.models.computing import Computing
from beholder.models.encoders.towers import ImageEncoder, TowerSettings
from beholder.models.stages import read_image
from beholder.plans import load_plan
from beholder.runs import Context
from beholder.steering.reward import Reward, raw_features

if TYPE_CHECKING:
    from tests.jobs.conftest import TinyStudy

sys.path.insert(0, str(Path(__file__).parents[1] / "platform" / "models"))

pytestmark = pytest.mark.models
CPU = {"device": "cpu", "dtype": "float32", "not_recorded": "allow"}
SMALL = [
    "generate.prompts=6", "generate.seeds_per_prompt=2", "generate.calibration_prompts=12", "taste.models=[eb_slopes]",
    "study.trials=2", "study.conditions=[own,other]", "steer.raters=2", "steer.prompts=2", "steer.rounds=1",
    "steer.candidates=2", "steer.heldout_seeds=1",
]  # fmt: skip
EVERYBODY = ("search_trace", "steered_images", "steering_gains", "steering_rewards")


def setting(name: str, value: Any) -> str:
    return f"{name}={json.dumps(value)}"


def train_on_pictures(context: Context) -> None:
    """Draw and embed; four people rate, two by brightness and two by darkness; their reward is fitted."""
    generate.run(context)
    embed.run(context)
    images = context.store.read_table("images").query("role == 'rated'")
    light = np.array([read_image(context.store, path).mean() for path in images["path"]])
    standard, rng = (light - light.mean()) / light.std(), np.random.default_rng(2)
    people = [("ada", 1), ("ben", 1), ("cleo", -1), ("dan", -1)]
    ratings = [
        images[["image_id", "prompt_id"]].assign(
            user_id=name, score=np.clip(500 + 180 * sign * standard + rng.normal(0, 20, len(images)), 0, 1000).round()
        )
        for name, sign in people
    ]
    context.save("ratings", pd.concat(ratings, ignore_index=True).astype({"score": int}), ["images"])
    context.save("trained", train_taste.fit_all(context), train_taste.INPUTS)


@pytest.fixture(scope="module")
def pipeline(rated_study: TinyStudy, tmp_path_factory: pytest.TempPathFactory) -> tuple[TinyStudy, list[str], Path]:
    """A study of a tiny random FLUX, trained; its plan's settings, and a DINOv2 that no reward reads."""
    import tiny_encoders
    import tiny_pipelines

    root = tmp_path_factory.mktemp("pipeline")
    tiny_pipelines.flux(root / "flux")
    tiny_encoders.dinov2(root / "dinov2")
    flux = CPU | {"model": "diffusers", "checkpoint": str(root / "flux"), "steps": 1, "guidance": 3.0}
    settings = [*SMALL, setting("generate.generator", flux | {"options": {"max_sequence_length": 16}})]
    study = type(rated_study)(rated_study.plan, root / "store")
    context = study.context(*settings)
    with context.engine:
        train_on_pictures(context)
    return study, settings, root / "dinov2"


def test_a_pipeline_is_steered_and_described_by_an_encoder_of_its_own(
    pipeline: tuple[TinyStudy, list[str], Path],
) -> None:
    study, settings, dinov2 = pipeline
    other = setting("steer.embedding", CPU | {"model": "dinov2", "checkpoint": str(dinov2)})
    context = study.context(*settings, other)
    with context.engine:
        steer.run(context)
    tables = {name: context.store.read_table(name) for name in (*EVERYBODY, "steered")}
    images = tables["steered_images"]
    assert Counter(images["condition"]) == {"own": 4, "population": 2, "statistics": 2, "unoptimised": 2}
    assert set(images["generator"]) == {"flux"}
    steered = tables["steered"]
    assert len(steered) == 2 * 2 * 2
    encoder = ImageEncoder(
        TowerSettings(Checkpoint(str(dinov2)), Computing("cpu", "float32"), batch_size=8, normalise=True)
    )
    by_hand = encoder.encode([read_image(context.store, path) for path in steered["path"]])
    np.testing.assert_array_equal(np.stack(steered["embedding"].to_list()).astype(np.float32), by_hand)

    reward = Reward.load(study.store / "models" / "eb_slopes")
    features = pd.DataFrame([row for row in context.store.ledger_rows("embed") if "network" in row])
    known = features.rename(columns={"image": "image_id"}).drop_duplicates("image_id").set_index("image_id")
    for row in steered.itertuples():  # one held-out seed: the reward is that of the picture
        raw = raw_features(known.loc[[row.image_id]].reset_index())
        assert row.reward == pytest.approx(reward.predict([row.user_id], reward.design(raw)).mean[0], abs=1e-9)


def test_without_such_an_encoder_only_the_table_that_needs_one_is_missing(
    pipeline: tuple[TinyStudy, list[str], Path], tmp_path: Path
) -> None:
    study, settings, _ = pipeline
    copied = study.copy(tmp_path / "store")
    context = copied.context(*settings)
    with context.engine:
        steer.run(context)
    assert all(context.store.has_table(name) for name in EVERYBODY)
    assert "steered" not in context.digests
    simulated = copied.context(*settings)
    with simulated.engine, pytest.raises(EngineError, match="simulated people know the taste of scenes only"):
        pairwise_study.run(simulated)


def test_an_encoder_that_a_reward_reads_is_refused(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("name: s\n")
    with pytest.raises(PlanError, match=r"steer\.embedding is embed\.encoder, which the rewards read"):
        load_plan(plan, ["steer.embedding=efficientnet_lite0"])
    entry = CPU | {"model": "siglip2", "revision": "a" * 40}
    twice = [setting("embed.encoder", entry), setting("steer.embedding", entry | {"normalise": False})]
    with pytest.raises(PlanError, match="name another image encoder"):
        load_plan(plan, twice)
    assert load_plan(plan, twice[1:]).steer.embedding is not None
    with pytest.raises(PlanError, match=r"steer\.embedding is a file"):
        load_plan(plan, [setting("steer.embedding", {"file": "vectors.npz"})])


def test_a_service_is_steered_within_its_budget_and_paid_once_for_every_picture(
    rated_study: TinyStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The money ends in the search; with more of it the same search goes on, and no picture is asked for twice."""
    import hosted_server

    small = hosted_server.picture_of
    monkeypatch.setattr(hosted_server, "picture_of", lambda prompt: np.tile(small(prompt), (2, 2, 1)))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", hosted_server.KEY)
    with hosted_server.serve() as played:
        entry = {
            "service": "openai", "model": "painter", "price": 0.01, "per_minute": 1e6, "concurrency": 3,
            "address": played.address, "options": {"seed_field": "seed"},
        }  # fmt: skip
        study = type(rated_study)(rated_study.plan, tmp_path / "store")

        def context(budget: float) -> Context:
            return study.context(*SMALL, setting("generate.generator", entry | {"budget": budget}))

        rich = context(9.0)
        with rich.engine:
            train_on_pictures(rich)
        before = len(played.asked)
        poor = context((before + 7) / 100)
        with poor.engine, pytest.raises(UserError, match="is spent, the next picture costs"):
            steer.run(poor)
        assert len(played.asked) == before + 7
        again = context(9.0)
        with again.engine:
            steer.run(again)
    asked = Counter((request["body"]["prompt"], request["body"]["seed"]) for request in played.asked)
    assert set(asked.values()) == {1}
    drawn = [row for row in again.store.ledger_rows("generate") if row["path"] is not None]
    assert len(drawn) == len(asked)
    gains = again.store.read_table("steering_gains")
    assert np.isfinite(gains[["heldout_score", "base_score", "gain"]].to_numpy()).all()
