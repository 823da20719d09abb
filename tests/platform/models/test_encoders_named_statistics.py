"""The seven named numbers, on pictures whose values are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from beholder.errors import UserError
from beholder.models.named_statistics import NAMES, MeasureImages, named_statistics
from beholder.store import Store


def flat(colour: tuple[int, int, int], size: int = 64) -> np.ndarray:
    return np.full((size, size, 3), colour, dtype=np.uint8)


def test_flat_pictures() -> None:
    """Oklab of the primaries, as its author lists them: L .628, C .2577, h 29.23 for red, and so on."""
    for colour, lightness, chroma, hue in [
        ((255, 0, 0), 0.62796, 0.25768, 29.234),
        ((0, 255, 0), 0.86644, 0.29483, 142.495),
        ((0, 0, 255), 0.45201, 0.31321, 264.052),
    ]:
        found = named_statistics(flat(colour))
        assert tuple(found) == NAMES
        assert found["brightness"] == pytest.approx(lightness, abs=1e-3)
        assert found["saturation"] == pytest.approx(chroma, abs=1e-3)
        assert found["dominant_hue"] == pytest.approx(hue, abs=0.05)
        assert [found[name] for name in ("contrast", "edge_density", "entropy", "sharpness")] == pytest.approx(
            [0] * 4, abs=1e-6
        )
    grey = named_statistics(flat((128, 128, 128)))
    assert grey["dominant_hue"] is None
    assert grey["saturation"] == pytest.approx(0, abs=1e-4)


def test_half_black_half_white() -> None:
    image = flat((0, 0, 0))
    image[:, 32:] = 255
    found = named_statistics(image)
    assert found["brightness"] == pytest.approx(0.5, abs=1e-3)
    assert found["contrast"] == pytest.approx(0.5, abs=1e-3)
    assert found["edge_density"] == pytest.approx(1 / 63)
    assert found["entropy"] == pytest.approx(np.log(2) / np.log(32))  # two of 32 bins, equally full
    assert found["sharpness"] == pytest.approx(np.sqrt(2 / 62), abs=1e-3)  # a step of 1 in two of 62 inner columns
    assert found["dominant_hue"] is None


def test_the_dominant_hue_is_not_the_mean_of_two() -> None:
    image = flat((255, 0, 0))
    image[:, 40:] = (0, 0, 255)
    assert named_statistics(image)["dominant_hue"] == pytest.approx(29.234, abs=0.05)
    image[:, 16:] = (0, 0, 255)
    assert named_statistics(image)["dominant_hue"] == pytest.approx(264.052, abs=0.05)
    around = flat((230, 30, 110))  # on both sides of 360 degrees
    around[::2] = (230, 30, 60)
    ends = [named_statistics(flat((230, 30, blue)))["dominant_hue"] for blue in (110, 60)]
    middle = named_statistics(around)["dominant_hue"]
    assert middle is not None
    assert min(float(e or 0) for e in ends) <= middle <= max(float(e or 0) for e in ends)


def test_the_stage_measures_files(tmp_path: Path) -> None:
    store, stage = Store(tmp_path), MeasureImages()
    image = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    stage.setup(store)
    row = stage.process([{"image": "a", "_path": "a.png"}])[0]
    assert row == {"image": "a", **named_statistics(image)}
    json.dumps(row, allow_nan=False)
    with pytest.raises(UserError, match="at least 32 pixels"):
        named_statistics(image[:20])
