"""Canaries through the engine: every worker's model is asked before it writes a row, whatever the batch size."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from beholder.models.canary import BATCHES, CanaryError, record
from beholder.models.checked_stage import Checked
from beholder.models.configured import EMBEDDED, configured
from beholder.models.entries import ImageEncoderEntry, PipelineEntry, ScorerEntry, TextEncoderEntry
from beholder.models.planned import (
    generator_settings,
    generator_stage,
    image_encoder_settings,
    image_encoder_stage,
    rewriter_stage,
    scorer_settings,
    scorer_stage,
    text_encoder_settings,
    text_encoder_stage,
)
from beholder.models.stages import EmbedImages, EmbedTexts, GenerateScenes, RewritePrompts
from beholder.records import pack, unpack
from beholder.store import Store

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
CACHE = Path(os.environ.get("BEHOLDER_MODELS", Path(__file__).parents[3] / "models"))
CPU: dict[str, Any] = {"device": "cpu", "dtype": "float32"}
KINDS = ("generator", "image encoder", "text encoder", "sentence encoder", "scorer")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tiny_encoders
    import tiny_pipelines

    root = tmp_path_factory.mktemp("checkpoints")
    tiny_pipelines.sdxl(root / "sdxl")
    tiny_encoders.clip(root / "clip")
    tiny_encoders.bert_sentences(root / "bert", {"pooling_mode_mean_tokens": True})
    return root


def model(kind: str, size: int, checkpoints: Path, cache: Path) -> tuple[Any, dict[str, Any], list[dict[str, Any]]]:
    """A model's stage at a batch size, its settings for recording, and items for it."""
    texts = [{"text": text} for text in ("a lake", "fog", "dunes")]
    pictures = [{"image": str(i), "_path": f"{i}.png"} for i in range(3)]
    where = str(cache)
    if kind == "generator":
        options = {"model": "sdxl", "checkpoint": str(checkpoints / "sdxl"), "steps": 1, "guidance": 2.0} | CPU
        drawn = PipelineEntry(**options)
        items = [{"prompt": t["text"], "seed": i} for i, t in enumerate(texts)]
        return generator_stage(drawn, 64, size, where), generator_settings(drawn, 64, size), items
    if kind == "image encoder":
        seen = ImageEncoderEntry(model="clip", checkpoint=str(checkpoints / "clip"), **CPU)
        return image_encoder_stage(seen, 224, size, where), image_encoder_settings(seen, size), pictures
    if kind == "scorer":
        scored = ScorerEntry(model="clip_similarity", checkpoint=str(checkpoints / "clip"), batch_size=size, **CPU)
        items = [p | {"prompt": t["text"]} for p, t in zip(pictures, texts, strict=True)]
        return scorer_stage(scored, where), scorer_settings(scored), items
    tower = kind == "text encoder"
    read = TextEncoderEntry(
        model="siglip2-text" if tower else "sentences", checkpoint=str(checkpoints / ("clip" if tower else "bert")),
        batch_size=size, **CPU,
    )  # fmt: skip
    return text_encoder_stage(read, where), text_encoder_settings(read), texts


def with_pictures(store: Store) -> Store:
    for i in range(3):
        Image.fromarray(np.full((32 + 8 * i, 40, 3), 70 * i, dtype=np.uint8)).save(store.path(f"{i}.png"))
    return store


@pytest.mark.parametrize("kind_of_model", KINDS)
def test_one_record_lets_all_batch_sizes_start_and_no_other_model(
    engine_of: Any, store: Store, checkpoints: Path, tmp_path: Path, kind_of_model: str
) -> None:
    with_pictures(store)
    stage, settings, items = model(kind_of_model, 4, checkpoints, tmp_path)
    with pytest.raises(CanaryError, match="is not recorded"):
        engine_of("inprocess").run(stage, items)
    assert not list(store.ledger_rows(stage.name))
    made = configured(settings)
    path = record(made.probe(None, True), tmp_path / "canary", lambda size: made.probe(size, True))
    assert set(json.loads(path.read_text())["batch_sizes"]) == {str(size) for size in BATCHES}
    for size in BATCHES:
        again, _, _ = model(kind_of_model, size, checkpoints, tmp_path)
        assert engine_of("inprocess").run(again, items).computed == 3
        assert again.verdict.status == ("same" if size == 4 else "agrees")
    content = json.loads(path.read_text())
    answers = unpack(content["answers"])
    content["answers"] = [pack(row) for row in answers + np.float32(8 + np.abs(answers).max())]
    path.write_text(json.dumps(content))
    other, _, _ = model(kind_of_model, 8, checkpoints, tmp_path)
    with pytest.raises(CanaryError, match="answers differently"):
        engine_of("inprocess", at=with_pictures(Store(tmp_path / "other"))).run(other, items)


@pytest.mark.ray
def test_a_worker_with_another_model_is_refused_by_name(
    ray_address: str, engine_of: Any, store: Store, checkpoints: Path, tmp_path: Path
) -> None:
    with_pictures(store)
    stage, settings, items = model("scorer", 4, checkpoints, tmp_path)
    made = configured(settings)
    path = record(made.probe(None, True), tmp_path / "canary")
    assert engine_of("ray").run(stage, items).computed == 3
    content = json.loads(path.read_text())
    content["answers"] = [pack(row + np.float32(0.5)) for row in unpack(content["answers"])]
    path.write_text(json.dumps(content))
    elsewhere = with_pictures(Store(tmp_path / "elsewhere"))
    with pytest.raises(CanaryError, match=r"clip_similarity answers differently: .*nothing it names has changed"):
        engine_of("ray", at=elsewhere).run(model("scorer", 4, checkpoints, tmp_path)[0], items)
    assert not list(elsewhere.ledger_rows(stage.name))


@pytest.mark.models
def test_embedded_models_of_old_plans_are_asked_too(engine_of: Any, store: Store) -> None:
    """At any input size: the loaded network answers as it was recorded."""
    if not all((CACHE / name).is_dir() for name in EMBEDDED) and os.environ.get("CI") != "true":
        pytest.skip(f"not all of {EMBEDDED} in {CACHE}")
    with_pictures(store)
    where = str(CACHE)
    stages = [
        generator_stage("scenes", 64, 2, where),
        image_encoder_stage("efficientnet_lite0", 96, 2, where),
        text_encoder_stage(None, where),
        rewriter_stage("smollm2", where),
    ]
    kinds = (GenerateScenes, EmbedImages, EmbedTexts, RewritePrompts)
    rewrite = {"prompt": "fog", "base": "fog", "n": 1, "seed": 1}
    items = [{"prompt": "fog", "seed": 1}, {"image": "1", "_path": "1.png"}, {"text": "fog"}, rewrite]
    for stage, kind, item in zip(stages, kinds, items, strict=True):
        assert isinstance(stage, Checked)
        assert isinstance(stage.stage, kind)
        assert engine_of("inprocess").run(stage, [item]).computed == 1
        assert stage.verdict is not None
        assert stage.verdict.status in ("same", "agrees")
