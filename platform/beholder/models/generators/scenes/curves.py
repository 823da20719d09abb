"""Small mathematics of drawing: clamps, ramps, blends and counts that fade instead of popping."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

Field = np.ndarray
"""A float32 array over the picture, shape (n, n), or one that broadcasts to it."""


def clip01(x: Field) -> Field:
    """Clamp to [0, 1]."""
    return np.clip(x, 0.0, 1.0)


def smoothstep(low: float, high: float, x: Field) -> Field:
    """Cubic ramp from 0 at `low` to 1 at `high`; falls instead when low > high."""
    t = np.clip((x - low) * (1.0 / (high - low)), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def ramp(low: float, high: float, x: float) -> float:
    """`smoothstep` for one number."""
    t = min(1.0, max(0.0, (x - low) / (high - low)))
    return t * t * (3.0 - 2.0 * t)


def lerp(a: float, b: float, t: float) -> float:
    """The number a share `t` of the way from `a` to `b`."""
    return a + (b - a) * t


def mix(a: Field, b: Field, t: float) -> Field:
    """The same for colours and fields, staying in float32."""
    return a + (b - a) * np.float32(t)


def bump(x: Field, centre: float | Field, width: float | Field) -> Field:
    """Gaussian hill of height 1."""
    z = (x - centre) / width
    return np.exp(-z * z)


def fading(count: float) -> Iterator[tuple[int, float]]:
    """Indices below a real-valued count; the last one carries the fraction as its opacity."""
    for i in range(math.ceil(max(count, 0.0))):
        yield i, min(1.0, count - i)


def opacities(count: float, most: int) -> np.ndarray:
    """Opacity of each of `most` elements when a real-valued `count` of them is shown, shape (most,)."""
    return np.clip(count - np.arange(most), 0.0, 1.0)
