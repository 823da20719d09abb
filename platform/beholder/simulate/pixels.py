"""What a simulated eye measures in the rendered pixels, in its own way: none of it is taken from an encoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beholder.models.generators.scenes.attributes import SUBJECTS

PIXEL_MEASURES = ("right_over_left", "centre_over_border", "hue_dispersion", "deep_shadow", "smoothness")
"""Names of the numbers `pixel_measures` returns, in order."""

GRID = 64
"""Every picture is averaged to GRID x GRID cells first, so that the measures hardly depend on its size."""


def pixel_measures(rgb: np.ndarray) -> np.ndarray:
    """Five measures of one picture.

    Parameters
    ----------
    rgb : np.ndarray
        8-bit sRGB, shape (height, width, 3), both sides at least 64.

    Returns
    -------
    np.ndarray
        Shape (5,): lightness of the right half minus the left; of the inner quarter minus the outer frame; 1 minus the
        length of the mean hue vector; soft share of cells darker than lightness .5; minus the log of the mean lightness
        step between neighbouring cells. Lightness is the cube root of luminance, in [0, 1].

    Raises
    ------
    ValueError
        If the array is not 8-bit RGB or is smaller than the grid.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or min(rgb.shape[:2]) < GRID:
        raise ValueError(f"expected uint8 RGB of at least {GRID} x {GRID}, got {rgb.dtype} {rgb.shape}")
    linear = _cells((rgb / 255.0) ** 2.2)
    lightness = np.cbrt(linear @ np.array([0.2126, 0.7152, 0.0722]))
    red, green, blue = np.moveaxis(np.cbrt(linear), -1, 0)
    hue = (red - green) + 1j * ((red + green) / 2 - blue)
    half, inner, frame = GRID // 2, slice(GRID // 4, 3 * GRID // 4), np.ones((GRID, GRID), bool)
    frame[GRID // 8 : -GRID // 8, GRID // 8 : -GRID // 8] = False
    steps = np.abs(np.diff(lightness, axis=0)).mean() + np.abs(np.diff(lightness, axis=1)).mean()
    return np.array(
        [
            lightness[:, half:].mean() - lightness[:, :half].mean(),
            lightness[inner, inner].mean() - lightness[frame].mean(),
            1.0 - np.abs(hue.sum()) / max(np.abs(hue).sum(), 1e-6),
            np.clip((0.50 - lightness) / 0.15, 0.0, 1.0).mean(),
            -np.log(steps + 1e-3),
        ]
    )


def _cells(image: np.ndarray) -> np.ndarray:
    """Mean over each cell of the grid, shape (GRID, GRID, 3)."""
    for axis in (0, 1):
        edges = np.linspace(0, image.shape[axis], GRID + 1).astype(int)
        image = np.add.reduceat(image, edges[:-1], axis=axis) / np.diff(edges).reshape((-1, 1) if axis else (-1, 1, 1))
    return image


@dataclass(frozen=True, eq=False)
class PixelMap:
    """Pixel measures as a linear-Gaussian function of the scene parameters: what pictures would show, without drawing.

    measures = level[subject] + scene @ slope + e, e ~ N(0, residual). A rough stand-in: the true relation bends.

    Attributes
    ----------
    level : np.ndarray
        Shape (12 subjects, 5).
    slope : np.ndarray
        Shape (12 scene parameters in their own units, 5).
    residual : np.ndarray
        Covariance of what the scene parameters leave open (layout, palette, noise), shape (5, 5).
    centre, spread : np.ndarray
        Mean and SD of the measures over rendered reference scenes, shape (5,). Taste works on standardised ones.
    """

    level: np.ndarray
    slope: np.ndarray
    residual: np.ndarray
    centre: np.ndarray
    spread: np.ndarray

    def draw(self, scene: np.ndarray, subject: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Measures for scenes (n, 12) with subject codes (n,), shape (n, 5)."""
        noise = rng.standard_normal((len(scene), len(self.centre))) @ np.linalg.cholesky(self.residual).T
        return self.level[subject] + scene @ self.slope + noise


def fit_pixel_map(scene: np.ndarray, subject: np.ndarray, measures: np.ndarray) -> PixelMap:
    """Least-squares `PixelMap` from rendered pictures: scenes (n, 12), subject codes (n,), measures (n, 5).

    The four media weights sum to one, so their common level goes to the subjects (minimum-norm solution).
    """
    design = np.hstack([np.eye(len(SUBJECTS))[subject], scene])
    coefficients = np.linalg.lstsq(design, measures, rcond=None)[0]
    left = measures - design @ coefficients
    residual = left.T @ left / (len(scene) - np.linalg.matrix_rank(design))
    level, slope = coefficients[: len(SUBJECTS)], coefficients[len(SUBJECTS) :]
    return PixelMap(level, slope, residual, measures.mean(0), measures.std(0))
