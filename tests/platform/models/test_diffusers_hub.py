"""A pipeline by hub id: fetched at its commit from a server that speaks the hub's protocol, then again without it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from beholder.models.checkpoints import Checkpoint
from beholder.models.computing import Computing
from beholder.models.generators.diffusers_pipeline import DiffusersGenerator, PipelineSettings

sys.path.insert(0, str(Path(__file__).parent))
from hub_server import COMMIT, serve_hub

DRAW = """
import hashlib, json, sys
from beholder.errors import UserError
from beholder.models.checkpoints import Checkpoint
from beholder.models.computing import Computing
from beholder.models.generators.diffusers_pipeline import DiffusersGenerator, PipelineSettings
model, revision, offline = sys.argv[1:4]
settings = PipelineSettings(Checkpoint(model, revision), Computing("cpu", "float32"), 2, 3.0, 32, 32, 1)
try:
    pixels = DiffusersGenerator(settings, offline=offline == "offline").generate(["a lake"], [7])[0].pixels
    print(hashlib.sha256(pixels.tobytes()).hexdigest())
except UserError as error:
    print(f"{type(error).__name__}: {error}")
"""


def draw(address: str, cache: Path, model: str, offline: bool = False) -> str:
    """Draw in a process of its own: the hub's client reads address and cache once."""
    variables = {**os.environ, "HF_HOME": str(cache), "HF_ENDPOINT": address, "HF_HUB_DISABLE_XET": "1"}
    variables |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "OMP_NUM_THREADS": "1", "no_proxy": "127.0.0.1"}
    variables.pop("HF_HUB_OFFLINE", None)
    arguments = [sys.executable, "-c", DRAW, model, COMMIT, "offline" if offline else ""]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=variables)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tiny_pipelines

    return tiny_pipelines.sdxl(tmp_path_factory.mktemp("hub") / "sdxl")


def test_a_hub_id_draws_what_the_folder_draws(folder: Path, tmp_path: Path) -> None:
    settings = PipelineSettings(Checkpoint(str(folder)), Computing("cpu", "float32"), 2, 3.0, 32, 32, 1)
    pixels = DiffusersGenerator(settings).generate(["a lake"], [7])[0].pixels
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    # What published repositories have beside: pickles, one big file, another number type, a picture, code nobody named.
    extras = {"sdxl_whole.safetensors": b"x" * 1000, "unet/diffusion_pytorch_model.bin": b"a pickle"}
    extras |= {"unet/diffusion_pytorch_model.fp16.safetensors": b"y" * 1000, "README.md": b"#", "sample.png": b"png"}
    extras |= {"setup.py": b"raise SystemExit(1)"}
    with serve_hub({"owner/sdxl": files | extras}) as hub:
        drawn = draw(hub.address, tmp_path, "owner/sdxl")
        assert drawn == hashlib.sha256(pixels.tobytes()).hexdigest()
        fetched = {path.split(f"/resolve/{COMMIT}/")[1] for path in hub.asked if "/resolve/" in path}
        assert not fetched & extras.keys()
        assert {name for name in files if name.endswith(".safetensors")} <= fetched
    assert draw("http://127.0.0.1:9", tmp_path, "owner/sdxl", offline=True) == drawn
    index = next((tmp_path / "hub").glob(f"models--owner--sdxl/snapshots/{COMMIT}/model_index.json"))
    assert json.loads(index.read_text())["_class_name"] == "StableDiffusionXLPipeline"
