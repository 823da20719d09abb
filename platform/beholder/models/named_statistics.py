"""Seven plain numbers of a picture under their usual names, and the stage that measures every picture of a study.

They are cheap and say what a reward search drives pictures to: brighter, more glaring, busier. The longer list that
models learn from is `encoders.statistics`, whose definitions are used here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from beholder.models.encoders.statistics import STATISTICS, image_statistics, oklab
from beholder.models.interfaces import Needs
from beholder.models.stages import read_image
from beholder.store import Store

NAMES = ("brightness", "contrast", "saturation", "edge_density", "entropy", "sharpness", "dominant_hue")
"""Columns, in order."""
HUE_BINS = 36
GREY = 0.02
"""Oklab chroma under which a pixel has no hue to speak of."""
_SOURCES = {
    "brightness": "mean_l",
    "contrast": "sd_l",
    "saturation": "chroma_mean",
    "edge_density": "edge_density",
    "entropy": "lightness_entropy",
    "sharpness": "sharpness",
}


def named_statistics(rgb: np.ndarray) -> dict[str, float | None]:
    """Seven numbers of a picture.

    Parameters
    ----------
    rgb : np.ndarray
        sRGB picture, shape (height, width, 3), uint8, at least 32 pixels in each direction.

    Returns
    -------
    dict
        * `brightness`: mean Oklab lightness, 0 to 1; `contrast`: its standard deviation over pixels;
        * `saturation`: mean Oklab chroma, 0 for grey, about .3 for the purest colours;
        * `edge_density`: share of places where lightness steps by more than .05; `sharpness`: root mean square of the
          discrete Laplacian of lightness; `entropy`: of the histogram of lightness, as a share of its maximum;
        * `dominant_hue`: degrees from 0 to 360 in Oklab (29 is red, 142 green, 264 blue): the fullest of 36 sectors,
          pixels weighted by chroma and neighbouring sectors by a quarter, then the mean direction in and beside it.
          None where less than 1 % of the pixels have a hue.

    Raises
    ------
    UserError
        Another shape or type, or a picture that is too small.
    """
    vector = image_statistics(rgb)
    found: dict[str, float | None] = {
        name: float(vector[STATISTICS.index(source)]) for name, source in _SOURCES.items()
    }
    return found | {"dominant_hue": dominant_hue(oklab(rgb))}


def dominant_hue(lab: np.ndarray) -> float | None:
    """See `named_statistics`; `lab` is Oklab, shape (height, width, 3)."""
    a, b = lab[..., 1].ravel(), lab[..., 2].ravel()
    chroma = np.hypot(a, b)
    coloured = chroma > GREY
    if coloured.mean() < 0.01:
        return None
    a, b, chroma = a[coloured], b[coloured], chroma[coloured]
    sector = (np.arctan2(b, a) % (2 * math.pi) / (2 * math.pi) * HUE_BINS).astype(int) % HUE_BINS
    weight = np.bincount(sector, weights=chroma, minlength=HUE_BINS)
    smooth = weight + (np.roll(weight, 1) + np.roll(weight, -1)) / 4
    near = np.isin(sector, (np.argmax(smooth) + np.array([-1, 0, 1])) % HUE_BINS)
    return math.degrees(math.atan2(b[near].sum(), a[near].sum())) % 360


@dataclass
class MeasureImages:
    """`{image, _path}` -> the seven numbers. `image` names the content, `_path` says where it lies. No network."""

    batch_size: int = 16
    name: str = "measure"
    version: int = 1
    needs: Needs = field(default_factory=lambda: Needs(memory_gb=0.5))
    _store: Store | None = field(default=None, repr=False)

    def identity(self) -> Mapping[str, Any]:
        """Names of the numbers; pictures are measured alone, so the batch size does not matter."""
        return {"statistics": list(NAMES)}

    def setup(self, store: Store) -> None:
        """Nothing to load."""
        self._store = store

    def process(self, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """One row a picture."""
        if self._store is None:
            raise RuntimeError("setup was not called")
        return [{"image": item["image"], **named_statistics(read_image(self._store, item["_path"]))} for item in items]
