"""Scores of images: the numbers of the scorers themselves, in one table, by hand, on Ray and while drawing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import yaml

from beholder.engine.environment import worker_environment
from beholder.errors import UserError
from beholder.models.canary import CanaryError, record
from beholder.models.checkpoints import Checkpoint
from beholder.models.computing import Computing
from beholder.models.named_statistics import NAMES, named_statistics
from beholder.models.scorers import ScorerSettings, load_scorer, scorer_identity
from beholder.models.scorers.image_statistics import StatisticsScorer
from beholder.models.stages import read_image
from beholder.records import table_digest

if TYPE_CHECKING:
    from tests.jobs.conftest import TinyStudy

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "platform" / "models"))

MINE = """
def score(images, prompts, power):
    return [float(image.mean()) ** power + len(prompt) for image, prompt in zip(images, prompts)]
"""
SMALL = """
name: small
seed: 4
generate: {size: 64, prompts: 4, seeds_per_prompt: 2, calibration_prompts: 3}
embed: {size: 64}
"""
CPU = {"device": "cpu", "dtype": "float32"}
TABLES = ("prompts", "images", "features", "prompt_vectors", "image_statistics", "scores")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tiny_encoders

    return tiny_encoders.clip(tmp_path_factory.mktemp("checkpoints") / "clip")


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path / "mine.py"


def scorers(clip: Path, mine: Path, **clip_more: Any) -> list[Any]:
    network = {"model": "clip_similarity", "checkpoint": str(clip)} | CPU
    own = {"file": str(mine), "needs_prompt": True, "options": {"power": 0.5}}
    return ["statistics", network | {"name": "clip", "not_recorded": "allow"} | clip_more, own]


def setting(entries: list[Any]) -> str:
    return f"score.scorers={json.dumps(entries)}"


def test_the_table_holds_what_the_scorers_say(study_copy: Callable[[], TinyStudy], clip: Path, mine: Path) -> None:
    import score

    study = study_copy()
    context = study.context(setting(scorers(clip, mine)))
    with context.engine:
        score.run(context)
    table, images, prompts = (context.store.read_table(name) for name in ("scores", "images", "prompts"))
    assert list(table.columns) == ["image_id", "prompt_id", "scorer", "score"]
    assert len(table) == 3 * len(images)
    wide = table.pivot_table(index="image_id", columns="scorer", values="score").loc[images["image_id"]]
    pixels = [read_image(context.store, path) for path in images["path"]]
    texts = images["prompt_id"].map(dict(zip(prompts["prompt_id"], prompts["prompt"], strict=True))).tolist()
    np.testing.assert_array_equal(wide["statistics"], StatisticsScorer().score(pixels, texts))
    settings = ScorerSettings("clip_similarity", Checkpoint(str(clip)), Computing("cpu", "float32"), batch_size=4)
    np.testing.assert_array_equal(wide["clip"], load_scorer(settings).score(pixels, texts))
    by_hand = [float(p.mean()) ** 0.5 + len(t) for p, t in zip(pixels, texts, strict=True)]
    np.testing.assert_array_equal(wide["mine"], by_hand)
    assert (table["prompt_id"] == table["image_id"].map(images.set_index("image_id")["prompt_id"])).all()
    measured = context.store.read_table("image_statistics").set_index("image_id").loc[images["image_id"]]
    expected = pd.DataFrame([named_statistics(p) for p in pixels], columns=list(NAMES)).astype(float)
    np.testing.assert_array_equal(measured.to_numpy(), expected.to_numpy())
    again = study.context(setting(scorers(clip, mine)))
    with again.engine:
        score.run(again)
    assert again.counts["computed"] == 0
    assert again.digests == context.digests


def test_streaming_gives_what_the_jobs_give_one_after_the_other(
    study_copy: Callable[[], TinyStudy], clip: Path, mine: Path, tmp_path: Path
) -> None:
    import score

    study = study_copy()
    plain = study.context(setting(scorers(clip, mine)))
    with plain.engine:
        score.run(plain)
    expected = {name: table_digest(plain.store.read_table(name)) for name in TABLES}
    context = type(study)(study.plan, tmp_path / "streamed").context(setting(scorers(clip, mine)))
    with context.engine:
        score.stream(context)
    assert {name: table_digest(context.store.read_table(name)) for name in TABLES} == expected
    images = len(context.store.read_table("images"))
    assert context.counts["computed"] >= 6 * images  # drawn, embedded, measured, three scores; texts besides


@pytest.mark.ray
def test_streamed_on_ray_the_tables_are_those_of_one_process(clip: Path, mine: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(yaml.safe_dump(yaml.safe_load(SMALL) | {"score": {"scorers": scorers(clip, mine)}}))
    made = []
    for name, how in (("whole", ["--in-process"]), ("streamed", ["--workers", "2"])):
        store = tmp_path / name
        command = [sys.executable, "jobs/score.py", "--plan", str(plan), "--store", str(store), "--stream", *how]
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **worker_environment()}, capture_output=True, text=True, timeout=1200
        )
        assert done.returncode == 0, done.stderr[-3000:]
        made.append(json.loads(done.stdout.splitlines()[-1])["tables"])
    assert set(TABLES) <= set(made[0])
    assert made[0] == made[1]


def test_bad_images_are_set_aside(study_copy: Callable[[], TinyStudy], clip: Path, mine: Path) -> None:
    import score

    study = study_copy()
    context = study.context(setting(scorers(clip, mine)))
    images = context.store.read_table("images")
    (study.store / images["path"][2]).write_bytes(b"\x89PNG cut short")
    with context.engine:
        score.run(context)
    table = context.store.read_table("scores")
    assert len(table) == 3 * (len(images) - 1)
    assert images["image_id"][2] not in set(table["image_id"])
    assert context.counts["quarantined"] == 4


def test_imported_sets_are_scored_by_their_bytes(study_copy: Callable[[], TinyStudy], mine: Path) -> None:
    """Two ids for the same picture get one score; pictures without text are refused where a scorer reads it."""
    import score

    study = study_copy()
    context = study.context(setting(["statistics"]))
    images = context.store.read_table("images").head(3)[["image_id", "path", "sha256"]]
    images["image_id"] = ["a", "b", "c"]
    copy = images.iloc[[1]].assign(image_id="b again")
    context.save("other_images", pd.concat([images, copy]))
    with context.engine:
        score.run(context, "other")
    table = context.store.read_table("other_scores").set_index("image_id")["score"]
    assert list(table.index) == ["a", "b", "c", "b again"]
    assert table["b"] == table["b again"]
    assert len(set(table)) == 3
    assert context.store.has_table("other_image_statistics")
    needy = study.context(setting([{"file": str(mine), "needs_prompt": True, "options": {"power": 1}}]))
    with needy.engine, pytest.raises(UserError, match="4 of 4 images have no prompt; to do: leave out scorer mine"):
        score.run(needy, "other")


def test_a_scorer_nobody_recorded_is_refused_unless_the_plan_allows_it(
    study_copy: Callable[[], TinyStudy], clip: Path, mine: Path, tmp_path: Path
) -> None:
    import score

    study = study_copy()
    entries = scorers(clip, mine, not_recorded="refuse")
    context = study.context(setting(entries))
    context.models = str(tmp_path / "cache")
    with context.engine, pytest.raises(CanaryError, match=r"clip_similarity is not recorded; .*canary --record"):
        score.run(context)
    assert not list(context.store.ledger_rows("score_clip"))
    settings = ScorerSettings("clip_similarity", Checkpoint(str(clip)), Computing("cpu", "float32"), batch_size=4)
    from beholder.models.canary import scorer_probe

    record(scorer_probe("clip", load_scorer(settings), scorer_identity(settings)), tmp_path / "cache" / "canary")
    again = study.context(setting(entries))
    again.models = context.models
    with again.engine:
        score.run(again)
    assert "scores" in again.digests


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "the plan has no section score; to do: name scorers"),
        ({"score.scorers": ["statistic"]}, "no scorer 'statistic', did you mean 'statistics'"),
        ({"score.scorers": [{"file": "nowhere.py"}]}, "no scorer file"),
        (
            {"score.scorers": [{"model": "hpsv2", "checkpoint": "nowhere/at"} | CPU]},
            "revision None of nowhere/at",
        ),
        ({"score.scorers": ["own environment"]}, "run the scorer on Ray"),
        (
            {"score.scorers": [{"model": "pickscore", "revision": "0" * 40, "offline": True} | CPU]},
            "is not in the cache and the hub was not reached",
        ),
    ],
)
def test_mistakes_are_one_line(
    rated_study: TinyStudy, mine: Path, changes: dict[str, Any], message: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    import score

    (tmp_path / "small.lock").write_text("small==1.0\n")
    own = {"file": str(mine), "options": {"power": 1}, "environment": str(tmp_path / "small.lock")}
    changes = {k: [own] if v == ["own environment"] else v for k, v in changes.items()}
    settings = [part for k, v in changes.items() for part in ("--set", f"{k}={json.dumps(v)}")]
    where = ["--plan", str(rated_study.plan), "--store", str(rated_study.store), "--in-process"]
    assert score.main([*where, *settings]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in said
    assert len(said) < 600


def test_dry_run_counts(rated_study: TinyStudy, capsys: pytest.CaptureFixture[str]) -> None:
    import score

    where = ["--plan", str(rated_study.plan), "--store", str(rated_study.store), "--dry-run"]
    assert score.main([*where, "--set", 'score.scorers=["statistics"]']) == 0
    assert json.loads(capsys.readouterr().out)["would_make"] == {"images": 42, "scores": 42}
