"""Colours of a scene: curated palettes blended along warmth, then moved by brightness, vividness and the seed."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from beholder.models.generators.scenes.attributes import Attributes
from beholder.models.generators.scenes.colour import oklab_from_hex

ROLES = ("zenith", "horizon", "light", "far", "middle", "near", "accent", "second")
CURATED = (  # warmth, then one colour for each role; warm skies keep a cool zenith, or they look like a filter
    (-1.00, "#173a72 #97c4e2 #eef6f6 #769fc6 #33628f #11304f #f2b53a #e6edf2"),
    (-0.68, "#27669f #cbe4ee #fff5dd #8cb3cd #417993 #163a4e #d8542f #f4efe6"),
    (-0.38, "#3f86ab #deeadf #fff4d6 #97beba #4b8a7d #1a4741 #e8684c #f6eedf"),
    (-0.08, "#3b8fca #f1efd6 #fff9df #9bc3b0 #5c9955 #24522f #e34c2a #fcf3e0"),
    (0.18, "#4747a8 #f4aeb4 #ffe2b4 #9382bd #5a4f97 #272052 #ffc14a #f8e4da"),
    (0.45, "#6388c9 #ffd2a8 #ffefca #cb9eae #936480 #402f50 #ef5d45 #fdebd8"),
    (0.72, "#6590ae #ffd684 #fff1c0 #d3a468 #a25f3b #43271f #b5304e #fdeed0"),
    (1.00, "#552d66 #ff9646 #ffdf80 #c35548 #7a2c45 #2f182d #ffcc5c #fbe3c8"),
)
REACH = 0.23
"""SD of a palette's weight along warmth, a little less than the gap between two."""
NIGHT_LIGHTNESS = np.array([0.46, 0.55, 0.97, 0.56, 0.62, 0.62, 0.82, 0.74])
"""What full night leaves of each role's lightness; `light` stays, so lamps and the moon shine."""


@dataclass(frozen=True, slots=True)
class Palette:
    """Eight Oklab colours by role, each of shape (3,)."""

    zenith: np.ndarray
    horizon: np.ndarray
    light: np.ndarray
    far: np.ndarray
    middle: np.ndarray
    near: np.ndarray
    accent: np.ndarray
    second: np.ndarray


@functools.cache
def _table() -> np.ndarray:
    return np.array([[oklab_from_hex(code) for code in codes.split()] for _, codes in CURATED], dtype=float)


def nightfall(bright: float) -> float:
    """How much of the night has fallen, 0 at bright >= .15 to 1 at bright <= -1.05, nearly even in between.

    A steep night makes one small step of brightness change the whole picture, so most of the ramp is a straight line.
    """
    t = min(1.0, max(0.0, (0.15 - bright) / 1.15))
    return 0.65 * t + 0.35 * t * t * (3 - 2 * t)


def palette_for(attributes: Attributes, rng: np.random.Generator) -> Palette:
    """Blend the palettes near the asked warmth and move the result.

    Only neighbours take part: averaging palettes with complementary colours gives grey. The seed prefers some of them
    and turns the hue a little.
    """
    warmth = np.array([warm for warm, _ in CURATED])
    near = np.exp(-(((warmth - 0.95 * attributes.warm) / REACH) ** 2) / 2)
    weight = near * np.exp(0.65 * rng.gumbel(size=len(warmth)))
    table = (_table() * (weight / weight.sum())[:, None, None]).sum(0)
    # Neighbours may still be half complementary: give back most of the chroma that averaging has cost.
    wanted = (np.hypot(_table()[..., 1], _table()[..., 2]) * (weight / weight.sum())[:, None]).sum(0)
    cost = np.minimum(1.7, wanted / np.maximum(np.hypot(table[:, 1], table[:, 2]), 1e-6))
    table[:, 1:] *= (1 + 0.6 * (cost - 1))[:, None]
    gamma = 0.85 if attributes.bright > 0 else 0.55
    table[:, 0] = table[:, 0] ** (2.0 ** (-gamma * attributes.bright))
    table[:, 0] *= 1.0 + (NIGHT_LIGHTNESS - 1.0) * nightfall(attributes.bright)
    angle = float(np.clip(rng.normal(0, 0.15), -0.12, 0.30))  # further back, gold skies turn green
    cos, sin = math.cos(angle), math.sin(angle)
    chroma = 1.30 * 2.0 ** (1.1 * attributes.vivid)
    a, b = table[:, 1].copy(), table[:, 2].copy()
    tint = attributes.warm * 2.0 ** (0.6 * attributes.vivid)
    table[:, 1] = (a * cos + b * sin) * chroma + 0.010 * tint
    table[:, 2] = (b * cos - a * sin) * chroma + 0.022 * tint
    return Palette(*table.astype(np.float32))
