"""Oklab, the space all painting is done in: conversion from hex codes and to eight-bit sRGB.

Pictures are planar: shape (3, height, width), planes L, a, b. Source of the constants: Björn Ottosson, "A perceptual
color space for image processing" (2020).
"""

from __future__ import annotations

import numpy as np

from beholder.models.generators.scenes.curves import Field

RGB_TO_LMS = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
LMS_TO_LAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)
LAB_TO_LMS = (
    (1.0, 0.3963377774, 0.2158037573),
    (1.0, -0.1055613458, -0.0638541728),
    (1.0, -0.0894841775, -1.2914855480),
)
LMS_TO_RGB = (
    (4.0767416621, -3.3077115913, 0.2309699292),
    (-1.2684380046, 2.6097574011, -0.3413193965),
    (-0.0041960863, -0.7034186147, 1.7076147010),
)
GAMUT_SLACK = 0.002
"""Linear RGB may leave [0, 1] by this much before its chroma is reduced (half an eight-bit step)."""


def _apply(matrix: tuple[tuple[float, ...], ...], planes: Field) -> Field:
    # Written out, not as a matrix product: BLAS may sum in another order with another number of threads.
    p, q, r = planes
    return np.stack([p * row[0] + q * row[1] + r * row[2] for row in matrix])


def oklab_from_linear(rgb: Field) -> Field:
    """Linear sRGB in [0, 1] to Oklab, shape (3, ...)."""
    return _apply(LMS_TO_LAB, np.cbrt(_apply(RGB_TO_LMS, rgb)))


def linear_from_oklab(lab: Field) -> Field:
    """Oklab to linear sRGB, not clipped, shape (3, ...)."""
    lms = _apply(LAB_TO_LMS, lab)
    return _apply(LMS_TO_RGB, lms * lms * lms)


def oklab_from_srgb(rgb: Field) -> Field:
    """Gamma-coded sRGB in [0, 1] to Oklab, shape (3, ...)."""
    return oklab_from_linear(np.where(rgb <= 0.04045, rgb / 12.92, ((np.maximum(rgb, 0.0) + 0.055) / 1.055) ** 2.4))


def oklab_from_hex(code: str) -> np.ndarray:
    """Oklab of '#rrggbb', shape (3,), float32."""
    rgb = np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)]) / 255.0
    return oklab_from_srgb(rgb).astype(np.float32)


def gamut_mapped(lab: Field) -> Field:
    """Linear RGB in [0, 1] of the nearest colour of the same lightness and hue: chroma shrinks, nothing else.

    Parameters
    ----------
    lab
        Oklab, shape (3, n).
    """
    lab = lab.copy()
    np.clip(lab[0], 0.02, 0.995, out=lab[0])
    rgb = linear_from_oklab(lab)
    outside = np.flatnonzero((rgb.min(0) < -GAMUT_SLACK) | (rgb.max(0) > 1 + GAMUT_SLACK))
    if len(outside):
        colour = lab[:, outside]
        keep, lose = np.zeros(len(outside), np.float32), np.ones(len(outside), np.float32)
        for _ in range(5):
            middle = (keep + lose) * np.float32(0.5)
            trial = linear_from_oklab(np.stack([colour[0], colour[1] * middle, colour[2] * middle]))
            inside = (trial.min(0) >= -GAMUT_SLACK) & (trial.max(0) <= 1 + GAMUT_SLACK)
            keep, lose = np.where(inside, middle, keep), np.where(inside, lose, middle)
        rgb[:, outside] = linear_from_oklab(np.stack([colour[0], colour[1] * keep, colour[2] * keep]))
    return np.clip(rgb, 0.0, 1.0)


def srgb8_from_oklab(lab: Field) -> np.ndarray:
    """Oklab planes (3, h, w) to a picture (h, w, 3) uint8."""
    rgb = gamut_mapped(lab.reshape(3, -1))
    coded = np.where(rgb <= 0.0031308, rgb * 12.92, 1.055 * rgb ** np.float32(1 / 2.4) - 0.055)
    return (coded * 255.0 + 0.5).astype(np.uint8).T.reshape(*lab.shape[1:], 3)


def shifted(colour: np.ndarray, lightness: float = 0.0, a: float = 0.0, b: float = 0.0) -> np.ndarray:
    """The colour moved in Oklab, shape (3,)."""
    return colour + np.array([lightness, a, b], np.float32)


def lively_mix(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """A mix that keeps most of its ends' chroma: complementary colours would meet in a dirty grey; shape (3,)."""
    middle = a + (b - a) * np.float32(t)
    wanted = float(np.hypot(a[1], a[2])) * (1 - t) + float(np.hypot(b[1], b[2])) * t
    chroma = max(float(np.hypot(middle[1], middle[2])), 1e-6)
    middle[1:] *= np.float32(1 + 0.5 * (min(2.2, wanted / chroma) - 1))
    return middle


def blended(low: np.ndarray, high: np.ndarray, t: Field) -> Field:
    """Colours from `low` to `high` along the field `t`: planes of shape (3, *t.shape).

    Both ends may be one colour, shape (3,), or planes.
    """
    return np.stack([lo + (hi - lo) * t for lo, hi in zip(low, high, strict=True)])
