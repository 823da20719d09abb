"""Model stages on both backends: pictures are the same bytes whatever the workers, order, resume and bad neighbours."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beholder.engine.inprocess import InProcess
from beholder.engine.progress import Quiet
from beholder.engine.run import Engine
from beholder.models.checkpoints import Checkpoint
from beholder.models.computing import Computing
from beholder.models.encode_stages import EncodeImages
from beholder.models.encoders.towers import TowerSettings
from beholder.models.entries import PipelineEntry
from beholder.models.generators.hosted import HostedSettings
from beholder.models.hosted_stage import GenerateHosted
from beholder.models.interfaces import Needs
from beholder.models.named_statistics import MeasureImages
from beholder.models.planned import generator_stage
from beholder.models.score_stages import ScoreImages
from beholder.models.scorers import ScorerSettings
from beholder.store import Store

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))

CPU = Computing("cpu", "float32")
CACHE = Path(os.environ.get("BEHOLDER_MODELS", Path(__file__).parents[3] / "models"))
FAMILIES = ("flux", "sdxl")
PROMPTS = ["a lake", "a stone bridge over a river", "fog \u202e\x00 🏔 山", "x", "pears on a table", "a mill", "dunes"]
GOOD = [{"prompt": prompt, "seed": 100 + i} for i, prompt in enumerate(PROMPTS)]
BAD: list[dict[str, Any]] = [{"prompt": "", "seed": 1}, {"prompt": "y" * 30_000, "seed": 2}]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tiny_encoders
    import tiny_pipelines

    root = tmp_path_factory.mktemp("checkpoints")
    for family in FAMILIES:
        getattr(tiny_pipelines, family)(root / family)
    tiny_encoders.clip(root / "clip")
    return root


def stage_of(folders: Path, family: str) -> Any:
    """The stage as a plan makes it, with its canary; every start of a worker asks it."""
    if family == "scenes":
        return generator_stage("scenes", 64, 3, str(CACHE))
    options = {"max_sequence_length": 16} if family == "flux" else {}
    entry = PipelineEntry(
        model="diffusers", checkpoint=str(folders / family), device="cpu", dtype="float32", steps=2, guidance=3.0,
        options=options, not_recorded="allow",
    )  # fmt: skip
    return generator_stage(entry, 64, 3, str(folders / "cache"))


@pytest.mark.parametrize(
    "family", [pytest.param("scenes", marks=pytest.mark.models), "flux", pytest.param("sdxl", marks=pytest.mark.slow)]
)
def test_pictures_do_not_depend_on_workers_order_resume_or_bad_rows(
    kind: str, engine_of: Any, folders: Path, family: str, tmp_path: Path
) -> None:
    if family == "scenes" and not (CACHE / "minilm").is_dir() and os.environ.get("CI") != "true":
        pytest.skip(f"no minilm in {CACHE}")
    whole = engine_of(kind, workers=2).run(stage_of(folders, family), GOOD)
    assert (whole.computed, whole.failed) == (7, 0)
    other = engine_of(kind, workers=1, at=Store(tmp_path / "other"), max_failed=1.0)
    bad = other.run(stage_of(folders, family), [GOOD[5], BAD[0], GOOD[2], BAD[1]])
    assert bad.failed == (0 if family == "scenes" else 2)  # scenes draw whatever they are told
    # Another engine reads the ledger as another process would; the worker, with its weights, stays.
    resumed = Engine(Store(tmp_path / "other"), other.backend, Quiet(), max_failed=1.0)
    again = resumed.run(stage_of(folders, family), GOOD[::-1])
    assert (again.done, again.computed) == (2, 5)
    assert again.digest == whole.digest
    files = sorted((tmp_path / "store" / "images").glob("*/*.png"))
    assert len(files) == 7
    for path in files:
        assert path.read_bytes() == (tmp_path / "other" / path.relative_to(tmp_path / "store")).read_bytes()


def test_pictures_are_encoded_scored_and_measured(engine_of: Any, folders: Path, store: Store) -> None:
    engine = engine_of("inprocess")
    made = engine.run(stage_of(folders, "sdxl"), GOOD).ok_rows()
    items = [{"image": row["key"], "prompt": row["prompt"], "_path": row["path"]} for row in made]
    checkpoint = Checkpoint(str(folders / "clip"))
    towers = TowerSettings(checkpoint, CPU, batch_size=4, normalise=True)
    score = ScoreImages(ScorerSettings("clip_similarity", checkpoint, CPU, batch_size=4), Needs(memory_gb=1))
    vectors = engine.run(EncodeImages(towers, Needs(memory_gb=1)), items)
    scores = engine.run(score, items)
    numbers = engine.run(MeasureImages(), items)
    for run in (vectors, scores, numbers):
        assert (run.computed, run.failed) == (7, 0)
    assert all(-1 <= row["score"] <= 1 for row in scores.ok_rows())
    (store.root / made[0]["path"]).write_bytes(b"\x89PNG cut short")  # a truncated file is one row's trouble
    other = ScoreImages(ScorerSettings("clip_similarity", checkpoint, CPU, batch_size=3), Needs(memory_gb=1))
    damaged = engine.run(other, items)
    assert [row["status"] for row in damaged.rows] == ["failed"] + ["ok"] * 6
    np.testing.assert_allclose(
        [row["score"] for row in damaged.ok_rows()], [row["score"] for row in scores.ok_rows()[1:]], atol=1e-5
    )


@pytest.fixture
def hosted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from hosted_server import KEY, serve

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serve() as played:
        yield played


def test_a_hosted_picture_is_paid_for_once(hosted: Any, tmp_path: Path) -> None:
    """One bad prompt among eight: the engine halves the batch to find it, and nobody else is asked for twice."""
    from hosted_server import Trouble

    hosted.by_prompt["bad"] = Trouble(400, {"error": {"code": "invalid_value", "message": "no"}})
    hosted.by_prompt["gore"] = Trouble(400, {"error": {"code": "moderation_blocked", "message": "no"}})
    store = Store(tmp_path / "store")
    settings = HostedSettings("openai", "painter", 0.04, 1e6, concurrency=8, address=hosted.address)
    items = [{"prompt": p, "seed": 1} for p in ["a", "b", "bad", "c", "gore", "d", "e", "f"]]
    with Engine(store, InProcess(store), Quiet(), max_failed=0.5, retries=0) as engine:
        run = engine.run(GenerateHosted(settings, budget=1.0), items)
    assert (run.computed, run.failed) == (7, 1)
    asked = [request["body"]["prompt"] for request in hosted.asked]
    assert sorted(p for p in asked if p != "bad") == ["a", "b", "c", "d", "e", "f", "gore"]
    rows = {row["item"]["prompt"]: row for row in run.rows}
    assert "invalid_value" in rows["bad"]["error"]
    assert rows["gore"]["refused"] == "moderation_blocked"
    assert sum(row["cost"] for row in run.ok_rows()) == pytest.approx(0.24)
    with Engine(store, InProcess(store), Quiet(), max_failed=0.5, retries=0) as engine:
        again = engine.run(GenerateHosted(settings, budget=1.0, spent=0.24), items)
    assert (again.done, again.computed) == (7, 0)
    assert len(hosted.asked) == len(asked)
