"""Diffusers pipelines of the real classes with tiny random weights, through the production loading."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beholder.errors import UserError, WeightsError
from beholder.models.checkpoints import Checkpoint, digest_of
from beholder.models.computing import Computing
from beholder.models.diffusers_stage import GenerateDiffusers
from beholder.models.generators.diffusers_pipeline import DiffusersGenerator, PipelineSettings
from beholder.models.interfaces import Needs
from beholder.store import Store

sys.path.insert(0, str(Path(__file__).parent))

FAMILIES = ("flux", "flux2", "flux2_dev", "sd3", "sdxl")
SHORT: dict[str, dict[str, Any]] = {
    "flux": {"max_sequence_length": 32},
    "flux2": {"max_sequence_length": 32, "text_encoder_out_layers": [1, 2, 3]},
    "flux2_dev": {"max_sequence_length": 256, "text_encoder_out_layers": [1, 2, 3]},
    "sd3": {"max_sequence_length": 32},
    "sdxl": {},
}
"""Options that keep the text encoders' work small."""
PROMPTS = ["a lake", "an old stone bridge over a river", "x", "red", "pears on a table", "fog", "a mill"]
SEEDS = [11, 12, 13, 14, 15, 16, 11]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tiny_pipelines

    root = tmp_path_factory.mktemp("pipelines")
    for family in FAMILIES:
        getattr(tiny_pipelines, family)(root / family)
    return root


def settings_for(folder: Path, **changed: Any) -> PipelineSettings:
    plain = PipelineSettings(
        Checkpoint(str(folder)), Computing("cpu", "float32"),
        steps=2, guidance=3.0, width=32, height=48, batch_size=3, options=SHORT.get(folder.name, {}),
    )  # fmt: skip
    return replace(plain, **changed)


@pytest.fixture(scope="module")
def generator_of(folders: Path) -> Callable[..., DiffusersGenerator]:
    made: dict[str, DiffusersGenerator] = {}

    def get(family: str, **changed: Any) -> DiffusersGenerator:
        name = f"{family} {sorted(changed.items())}"
        if name not in made:
            made[name] = DiffusersGenerator(settings_for(folders / family, **changed))
        return made[name]

    return get


def draw(generator: DiffusersGenerator, order: list[int]) -> dict[int, np.ndarray]:
    """Pictures of the numbered prompts, made in this order in batches of the generator's size."""
    found: dict[int, np.ndarray] = {}
    for start in range(0, len(order), generator.batch_size):
        batch = order[start : start + generator.batch_size]
        pictures = generator.generate([PROMPTS[i] for i in batch], [SEEDS[i] for i in batch])
        found |= {i: picture.pixels for i, picture in zip(batch, pictures, strict=True)}
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_bytes_depend_on_prompt_and_seed_alone(generator_of: Callable[..., DiffusersGenerator], family: str) -> None:
    generator = generator_of(family)
    first, again = draw(generator, [0, 1, 2, 3, 4, 5, 6]), draw(generator, [6, 3, 0, 5, 1, 4, 2])
    for i, picture in first.items():
        assert picture.shape == (48, 32, 3)
        assert picture.dtype == np.uint8
        assert picture.tobytes() == again[i].tobytes()
        assert picture.tobytes() == draw(generator, [i])[i].tobytes()
    assert len({picture.tobytes() for picture in first.values()}) == 7
    # Items 0 and 6 share their seed: only the text tells them apart, so the encoders are in use.
    assert first[0].tobytes() != first[6].tobytes()


@pytest.mark.parametrize("family", FAMILIES)
def test_noise_is_the_one_diffusers_draws_from_the_seed(
    generator_of: Callable[..., DiffusersGenerator], folders: Path, family: str
) -> None:
    """The same pipeline called by hand, in a process that draws other random numbers in between."""
    import torch
    from diffusers import DiffusionPipeline
    from transformers import Qwen2Tokenizer

    seeing = family == "flux2_dev"  # its processor needs torchvision; of it only the tokenizer is used
    by_hand = DiffusionPipeline.from_pretrained(folders / family, **({"tokenizer": None} if seeing else {}))
    if seeing:
        by_hand.register_modules(tokenizer=Qwen2Tokenizer.from_pretrained(folders / family / "tokenizer"))
    by_hand.set_progress_bar_config(disable=True)
    torch.rand(1000)
    noise = [torch.Generator("cpu").manual_seed(SEEDS[i]) for i in (2, 4, 5)]
    images = by_hand(
        prompt=[PROMPTS[i] for i in (2, 4, 5)], num_inference_steps=2, guidance_scale=3.0, width=32, height=48,
        generator=noise, **SHORT[family],
    ).images  # fmt: skip
    made = draw(generator_of(family), [5, 2, 4])
    for i, image in zip((2, 4, 5), images, strict=True):
        np.testing.assert_array_equal(made[i], np.asarray(image))


@pytest.mark.parametrize("family", FAMILIES)
def test_other_batch_sizes_move_a_pixel_by_one_step_at_most(
    generator_of: Callable[..., DiffusersGenerator], family: str
) -> None:
    """Sums are added up in another order, so a value next to a rounding edge may fall to its other side."""
    three = draw(generator_of(family), list(range(7)))
    for size in (1, 2, 7):
        other = draw(generator_of(family, batch_size=size), list(range(7)))
        for i in range(7):
            assert np.abs(three[i].astype(int) - other[i]).max() <= 1


def test_the_stage_stores_pictures_and_keys_hold_what_matters(folders: Path, tmp_path: Path) -> None:
    from PIL import Image

    store = Store(tmp_path / "store")
    stage = GenerateDiffusers(settings_for(folders / "flux"), Needs(memory_gb=1))
    stage.setup(store)
    rows = stage.process([{"prompt": "a lake", "seed": 5, "_key": "ab" * 32}])
    assert rows[0]["generator"] == "flux"
    assert (rows[0]["width"], rows[0]["height"], rows[0]["flagged"]) == (32, 48, None)
    with Image.open(store.path(rows[0]["path"])) as stored:
        expected = DiffusersGenerator(stage.settings).generate(["a lake"], [5])[0].pixels
        np.testing.assert_array_equal(np.asarray(stored), expected)
    copy = shutil.copytree(folders / "flux", tmp_path / "elsewhere" / "flux")
    moved = settings_for(copy)
    assert moved.identity() == stage.identity()
    changes: list[dict[str, Any]] = [
        {"steps": 3}, {"guidance": 2.0}, {"width": 48}, {"batch_size": 4}, {"options": {"max_sequence_length": 64}},
        {"compile": "default"}, {"computing": Computing("cpu", "bfloat16")},
        {"computing": Computing("cuda", "float32")},
    ]  # fmt: skip
    for change in changes:
        assert replace(moved, **change).identity() != moved.identity()
    (copy / "model_index.json").write_text((copy / "model_index.json").read_text() + " ")
    assert settings_for(copy).identity() != stage.identity()


def test_a_worker_with_other_weights_is_refused(folders: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folders / "flux", tmp_path / "flux")
    stage = GenerateDiffusers(settings_for(copy), Needs(memory_gb=1))
    assert stage.identity()["weights"] == digest_of(copy)
    config = copy / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace('"shift": 1.0', '"shift": 2.0'))
    with pytest.raises(WeightsError, match="on this worker has digest"):
        stage.setup(Store(tmp_path / "store"))


def test_pickles_and_code_are_refused(folders: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folders / "sdxl", tmp_path / "code")
    (copy / "unet" / "special.py").write_text("raise SystemExit('this must never run')")
    with pytest.raises(WeightsError, match=r"brings its own code \(unet/special\.py\)"):
        DiffusersGenerator(settings_for(copy))
    named = shutil.copytree(folders / "sdxl", tmp_path / "named")
    index = json.loads((named / "model_index.json").read_text())
    (named / "model_index.json").write_text(json.dumps(index | {"_class_name": ["mine", "MyPipeline"]}))
    with pytest.raises(WeightsError, match="brings its own code"):
        DiffusersGenerator(settings_for(named))
    pickled = shutil.copytree(folders / "sdxl", tmp_path / "pickled")
    for path in pickled.rglob("*.safetensors"):
        path.rename(path.with_suffix(".bin"))
    with pytest.raises(WeightsError, match=r"holds only .*\.bin; allowed: safetensors"):
        DiffusersGenerator(settings_for(pickled))
    one = shutil.copytree(folders / "sdxl", tmp_path / "one")
    unet = one / "unet" / "diffusion_pytorch_model.safetensors"
    unet.rename(unet.with_suffix(".bin"))
    with pytest.raises(WeightsError, match="cannot be loaded"):
        DiffusersGenerator(settings_for(one))


def test_settings_that_cannot_be_are_refused(folders: Path) -> None:
    flux = folders / "flux"
    for change, message in [
        ({"steps": 0}, "steps 0"),
        ({"options": {"generator": 1}}, "options"),
        ({"compile": "fast"}, "compile 'fast'"),
        ({"offload": "model"}, "on a CPU"),
    ]:
        with pytest.raises(UserError, match=message):
            settings_for(flux, **change)
    with pytest.raises(UserError, match="FluxPipeline takes no cfg"):
        DiffusersGenerator(settings_for(flux, options={"cfg": 3}))
    with pytest.raises(UserError, match="size 30 x 48; allowed: multiples of 4"):
        DiffusersGenerator(settings_for(flux, width=30))
    with pytest.raises(UserError, match="device 'tpu'"):
        Computing("tpu", "float32")  # type: ignore[arg-type]


def test_bad_prompts_and_values_are_errors_not_pictures(
    generator_of: Callable[..., DiffusersGenerator], folders: Path
) -> None:
    import torch

    generator = generator_of("sdxl")
    with pytest.raises(UserError, match="a prompt of 30000 characters"):
        generator.generate(["a" * 30_000], [1])
    with pytest.raises(UserError, match="4 prompts"):
        generator.generate(["a"] * 4, [1] * 4)
    broken = DiffusersGenerator(settings_for(folders / "sdxl"))
    with torch.no_grad():
        broken._pipeline.vae.decoder.conv_out.bias[0] = float("nan")
    with pytest.raises(ArithmeticError, match="not finite"):
        broken.generate(["a"], [1])


def test_options_and_types_reach_the_pipeline(generator_of: Callable[..., DiffusersGenerator]) -> None:
    plain = draw(generator_of("sdxl"), [0])[0]
    negative = draw(generator_of("sdxl", options={"negative_prompt": "fog"}), [0])[0]
    half = draw(generator_of("sdxl", computing=Computing("cpu", "bfloat16")), [0])[0]
    assert not np.array_equal(plain, negative)
    assert not np.array_equal(plain, half)
    assert np.abs(plain.astype(int) - half).mean() < 8  # the same picture, in coarser numbers
