"""The embedded image encoder beside the package that its weights come from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from beholder.models import weights
from beholder.models.encoders.efficientnet import EfficientNetLite0

CACHE = Path(os.environ.get("BEHOLDER_MODELS", Path(__file__).parents[3] / "models"))
PACKAGE = "efficientnet-lite-pytorch==0.1.0"

pytestmark = pytest.mark.models

REFERENCE = """
import json, sys
import numpy as np, torch
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from safetensors.torch import load_file
torch.set_num_threads(1)
state = load_file(sys.argv[1])
network = EfficientNet.from_name("efficientnet-lite0").eval()
known = network.state_dict()
missing = sorted(known.keys() - state.keys() - {"_fc.weight", "_fc.bias"})
assert all(name.endswith("num_batches_tracked") for name in missing), missing
network.load_state_dict({**known, **state})
pictures, size = np.load(sys.argv[2]), int(sys.argv[3])
rows = []
for name in sorted(pictures.files):
    resized = Image.fromarray(pictures[name]).resize((size, size), Image.Resampling.BILINEAR)
    x = torch.from_numpy(np.asarray(resized).astype(np.float64) / 255)
    x = (x - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        found = network.extract_features(x.permute(2, 0, 1)[None].float())
    rows.append(found.mean(dim=(2, 3))[0].tolist())
print(json.dumps(rows))
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's code in a folder of its own, without what it asks for besides."""
    folder = tmp_path_factory.mktemp("package")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), PACKAGE]
    subprocess.run(pip, check=True, capture_output=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("size", [224, 96])
def test_features_are_those_of_the_package_on_the_same_weights(package: Path, tmp_path: Path, size: int) -> None:
    """Normalisation is folded and channels lie last here, so sums have another order."""
    if not weights.present("efficientnet_lite0", CACHE) and os.environ.get("CI") != "true":
        pytest.skip(f"no efficientnet_lite0 in {CACHE}")
    folder = weights.folder("efficientnet_lite0", CACHE)
    rng = np.random.default_rng(8)
    smooth = np.add.outer(np.arange(180), np.arange(250))[..., None] * [0.5, 0.3, 0.1]
    pictures = [rng.integers(0, 256, (300, 200, 3), dtype=np.uint8), smooth.astype(np.uint8)]
    np.savez(tmp_path / "pictures.npz", *pictures)
    done = subprocess.run(
        [sys.executable, "-c", REFERENCE, str(folder / "model.safetensors"), str(tmp_path / "pictures.npz"), str(size)],
        env={**os.environ, "PYTHONPATH": str(package)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    expected = np.array(json.loads(done.stdout))
    found = EfficientNetLite0(folder, size=size, batch_size=2).encode(pictures)
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())
