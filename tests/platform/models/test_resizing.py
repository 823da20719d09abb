"""A stage that was brought to another batch size answers to the bit as one that was loaded at it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from beholder.engine.inprocess import InProcess
from beholder.engine.memory import resized
from beholder.engine.probe import probe
from beholder.errors import UserError
from beholder.models.checked_stage import Checked
from beholder.models.checkpoints import Checkpoint
from beholder.models.computing import Computing
from beholder.models.diffusers_stage import GenerateDiffusers
from beholder.models.encode_stages import EncodeImages, EncodeTexts
from beholder.models.encoders.sentences import SentenceSettings
from beholder.models.encoders.towers import TowerSettings
from beholder.models.generators.diffusers_pipeline import PipelineSettings
from beholder.models.interfaces import Needs
from beholder.models.score_stages import ScoreImages
from beholder.models.scorers import ScorerSettings
from beholder.records import canonical_json
from beholder.store import Store

sys.path.insert(0, str(Path(__file__).parent))

CPU, NEEDS = Computing("cpu", "float32"), Needs(memory_gb=1)
PROMPTS = ["a lake", "an old stone bridge over a river", "fog"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tiny_encoders
    import tiny_pipelines
    import torch
    from safetensors.torch import save_file

    root = tmp_path_factory.mktemp("resized")
    tiny_pipelines.sdxl(root / "sdxl")
    for kind in ("clip", "siglip", "dinov2"):
        getattr(tiny_encoders, kind)(root / kind)
    tiny_encoders.bert_sentences(root / "bert", {"pooling_mode_mean_tokens": True})
    torch.manual_seed(3)
    widths = [12, 1024, 128, 64, 16, 1]
    layers = {i: torch.nn.Linear(a, b) for i, a, b in zip((0, 2, 4, 6, 7), widths, widths[1:], strict=False)}
    (root / "head").mkdir()
    state = {f"layers.{i}.{n}": p.data for i, layer in layers.items() for n, p in layer.named_parameters()}
    save_file(state, root / "head" / "head.safetensors")
    return root


def diffusers(root: Path) -> GenerateDiffusers:
    settings = PipelineSettings(
        Checkpoint(str(root / "sdxl")), CPU, steps=1, guidance=3.0, width=32, height=32, batch_size=1,
        options={"negative_prompt": "red"},
    )  # fmt: skip
    return GenerateDiffusers(settings, NEEDS)


def images(root: Path) -> EncodeImages:
    return EncodeImages(TowerSettings(Checkpoint(str(root / "dinov2")), CPU, 1, normalise=True), NEEDS)


def texts(root: Path) -> EncodeTexts:
    return EncodeTexts(TowerSettings(Checkpoint(str(root / "siglip")), CPU, 1, normalise=False), NEEDS)


def sentences(root: Path) -> EncodeTexts:
    return EncodeTexts(SentenceSettings(Checkpoint(str(root / "bert")), CPU, batch_size=1), NEEDS)


def similarity(root: Path) -> ScoreImages:
    return ScoreImages(ScorerSettings("clip_similarity", Checkpoint(str(root / "clip")), CPU, 1), NEEDS)


def aesthetic(root: Path) -> ScoreImages:
    parts = {"head": Checkpoint(str(root / "head"))}
    return ScoreImages(ScorerSettings("laion_aesthetic", Checkpoint(str(root / "clip")), CPU, 1, parts), NEEDS)


MAKERS = (diffusers, images, texts, sentences, similarity, aesthetic)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store, rng = Store(tmp_path / "store"), np.random.default_rng(4)
    for i in range(3):
        picture = rng.integers(0, 256, (40 + 5 * i, 50, 3), dtype=np.uint8)
        Image.fromarray(picture).save(store.root / f"{i}.png")
    return store


def items() -> list[dict[str, Any]]:
    every = {"prompt": "", "text": "", "seed": 1}
    return [
        {**every, "image": str(i), "_path": f"{i}.png", "prompt": p, "text": p, "_key": f"{i}" * 64}
        for i, p in enumerate(PROMPTS)
    ]


@pytest.mark.parametrize("make", MAKERS)
def test_results_and_identity_are_those_of_the_new_size(root: Path, store: Store, make: Callable[[Path], Any]) -> None:
    stage = Checked(make(root), str(root / "cache"), allow_unrecorded=True)
    assert stage.resizable
    stage.setup(store)
    small = stage.process(items()[:1])
    stage.resize(3)
    loaded = resized(stage, 3)
    assert loaded is not None
    loaded.setup(store)
    assert stage.batch_size == loaded.batch_size == 3
    made = make(root)
    again = replace(made, settings=replace(made.settings, batch_size=3))
    assert canonical_json(stage.identity()) == canonical_json(loaded.identity()) == canonical_json(again.identity())
    assert stage.process(items()) == loaded.process(items())
    stage.resize(1)
    assert stage.process(items()[:1]) == small


@pytest.mark.parametrize("make", [images, diffusers])
def test_a_probe_loads_and_hashes_a_checkpoint_once_while_sizes_fit(
    root: Path, store: Store, make: Callable[[Path], Any]
) -> None:
    plain, loads, hashed = make(root), [], []

    class Counted(type(plain)):  # type: ignore[misc]
        def setup(self, store: Store) -> None:
            loads.append(self.batch_size)
            super().setup(store)

    class CountedCheckpoint(Checkpoint):
        def identity(self) -> dict[str, str]:
            hashed.append(self.model)
            return super().identity()

    checkpoint = CountedCheckpoint(plain.settings.checkpoint.model)
    stage = Checked(Counted(replace(plain.settings, checkpoint=checkpoint), NEEDS), str(root), allow_unrecorded=True)
    wanted = [{name: value for name, value in item.items() if name != "_key"} for item in items()]
    assert probe(InProcess(store), stage, wanted, 4) == 4
    assert (loads, len(hashed)) == ([1], 1)


def test_what_is_loaded_for_one_size_says_so(root: Path, store: Store) -> None:
    compiled = diffusers(root)
    compiled.settings = replace(compiled.settings, compile="default")
    assert not compiled.resizable
    assert not Checked(compiled, str(root)).resizable
    settings = ScorerSettings("hpsv3", Checkpoint(str(root / "clip")), CPU, 1)
    scorer = ScoreImages(settings, Needs(memory_gb=1, environment="hpsv3"))
    assert not scorer.resizable
    with pytest.raises(RuntimeError, match="setup was not called"):
        images(root).resize(2)
    stage = images(root)
    stage.setup(store)
    with pytest.raises(UserError, match="batch_size 0"):
        stage.resize(0)
