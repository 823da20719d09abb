"""Attributes and a seed to a picture: paint the subject's scene, apply the style axes, then the media in use."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from beholder.models.generators.scenes import style
from beholder.models.generators.scenes.attributes import MEDIA, Attributes
from beholder.models.generators.scenes.canvas import Canvas
from beholder.models.generators.scenes.colour import srgb8_from_oklab
from beholder.models.generators.scenes.curves import Field
from beholder.models.generators.scenes.foreground import drifting_petals
from beholder.models.generators.scenes.media import ink, photo, watercolour
from beholder.models.generators.scenes.media_paint import oil
from beholder.models.generators.scenes.subjects_built import house, skyline
from beholder.models.generators.scenes.subjects_fields import balloon, windmill
from beholder.models.generators.scenes.subjects_indoor import still_life
from beholder.models.generators.scenes.subjects_land import desert, mountain
from beholder.models.generators.scenes.subjects_water import boat, bridge, lighthouse
from beholder.models.generators.scenes.subjects_woods import forest, tree

RENDER_VERSION = 2
"""Part of the key of every picture: raise it whenever the pixels of any picture change."""
MEDIUM_FLOOR = 0.18
"""A medium with no more than this weight is not drawn, so a prompt that names none gives a pure photo."""


class Scene(NamedTuple):
    """A painter, the height of its subject's middle, whether that stands light against dark, and by how much."""

    paint: Callable[[Canvas], None]
    focus_y: float
    prefers_light: bool
    apart: float = 0.17


SCENES = {
    "mountain": Scene(mountain, 0.42, True, 0.05),
    "lighthouse": Scene(lighthouse, 0.54, True),
    "tree": Scene(tree, 0.50, False),
    "skyline": Scene(skyline, 0.52, False),
    "boat": Scene(boat, 0.62, True),
    "house": Scene(house, 0.68, True),
    "still_life": Scene(still_life, 0.58, True),
    "forest": Scene(forest, 0.58, False),
    "windmill": Scene(windmill, 0.54, True),
    "bridge": Scene(bridge, 0.56, True, 0.27),
    "desert": Scene(desert, 0.64, False),
    "balloon": Scene(balloon, 0.44, True),
}
PAINTERS: dict[str, Callable[[Canvas], Field]] = {"photo": photo, "watercolour": watercolour, "oil": oil, "ink": ink}


def paint(attributes: Attributes, seed: int, size: int = 256) -> np.ndarray:
    """The picture of a prompt's attributes for one seed, which also moves every axis a little.

    Parameters
    ----------
    attributes
        The look asked for.
    seed
        Non-negative. Same attributes, seed and size: same bytes.
    size
        Side in pixels; the scene is the same at every size.

    Returns
    -------
    numpy.ndarray
        sRGB, shape (size, size, 3), uint8.

    Raises
    ------
    ValueError
        For a negative seed, a size below 32, or media weights that are all zero or not finite.
    """
    return paint_exact(attributes.jittered(seed), seed, size)


def paint_exact(attributes: Attributes, seed: int, size: int = 256) -> np.ndarray:
    """`paint` without moving the axes: what exactly these attributes look like."""
    if size < 32:
        raise ValueError(f"size {size} is too small to paint on: 32 pixels at least")
    shares = medium_shares(attributes)
    scene = SCENES[attributes.subject]
    canvas = Canvas(attributes, seed, size, scene.focus_y)
    scene.paint(canvas)
    drifting_petals(canvas)
    style.set_apart(canvas, scene.prefers_light, scene.apart)
    style.weather(canvas)
    style.veil(canvas)
    style.soften_or_sharpen(canvas)
    style.facet_or_flow(canvas)
    layers = [np.float32(share) * PAINTERS[medium](canvas) for medium, share in shares.items()]
    picture = style.breathe(np.stack(layers).sum(0), attributes.soft, size)
    return srgb8_from_oklab(picture)


def medium_shares(attributes: Attributes) -> dict[str, float]:
    """Mixing shares of the media in use, in the order of MEDIA, summing to 1.

    Raises
    ------
    ValueError
        When no medium has a finite positive weight.
    """
    weight = np.array([getattr(attributes, medium) for medium in MEDIA], dtype=float)
    if not np.isfinite(weight).all() or weight.max() <= 0:
        raise ValueError(f"media weights {weight.tolist()} must be finite and one of them positive")
    above = np.maximum(weight - MEDIUM_FLOOR, 0.0)
    if above.sum() == 0:
        above = (weight == weight.max()).astype(float)
    above /= above.sum()
    return {medium: float(share) for medium, share in zip(MEDIA, above, strict=True) if share > 0}
