"""Seventy-eight plain numbers of a picture: colour, light, edges. No network, no learned constants.

They see what a network trained to name objects looks past: which colours, how bright, how fine-grained, where.
Colours are measured in Oklab (Björn Ottosson, 2020), where equal steps look equal: lightness 0 to 1, green-red and
blue-yellow about -.4 to .4.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from beholder.errors import UserError

GRID = 4
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
SCALES = (1, 2, 4, 8)
"""Pixels averaged, in each direction, before gradients are taken."""
EDGE = 0.05
"""Lightness step between neighbouring pixels from which a place counts as an edge."""
ENTROPY_BINS = 32
SMALLEST = 4 * SCALES[-1]

STATISTICS: tuple[str, ...] = (
    *(f"grid_{row}{column}_{channel}" for row in range(GRID) for column in range(GRID) for channel in "lab"),
    *(f"mean_{channel}" for channel in "lab"),
    *(f"sd_{channel}" for channel in "lab"),
    *(f"lightness_q{round(100 * q):02d}" for q in QUANTILES),
    "chroma_mean",
    "chroma_sd",
    "chroma_q95",
    *(f"gradient_{direction}_{scale}" for scale in SCALES for direction in ("x", "y")),
    "edge_density",
    "lightness_entropy",
    "sharpness",
    "hue_cos",
    "hue_sin",
    "centre_contrast",
)
"""Names of the numbers, in order."""


def image_statistics(rgb: np.ndarray) -> np.ndarray:
    """The numbers named by `STATISTICS`.

    Parameters
    ----------
    rgb : np.ndarray
        sRGB picture, shape (height, width, 3), uint8, at least 32 pixels in each direction.

    Returns
    -------
    np.ndarray
        Shape (78,), float32, always finite:

        * `grid_RC_l|a|b`: mean Oklab in each field of a 4 x 4 grid, rows from above;
        * `mean_*`, `sd_*`: over all pixels; `lightness_qPP`: quantiles of L; `chroma_*`: of sqrt(a^2 + b^2);
        * `gradient_x|y_S`: root mean square lightness step between neighbours, after averaging S x S pixels;
        * `edge_density`: share of places where L steps by more than .05 to the right or downwards;
        * `lightness_entropy`: of a histogram of L in 32 bins, as a share of its maximum;
        * `sharpness`: root mean square of the discrete Laplacian of L;
        * `hue_cos`, `hue_sin`: mean hue direction weighted by chroma, shortened where hues disagree; 0, 0 for grey;
        * `centre_contrast`: mean L of the four inner fields minus that of the twelve outer ones.

    Raises
    ------
    UserError
        Another shape or type, or a picture that is too small.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or min(rgb.shape[:2]) < SMALLEST:
        raise UserError(
            f"a picture of shape {rgb.shape} and type {rgb.dtype}",
            f"(height, width, 3), uint8, at least {SMALLEST} pixels high and wide",
        )
    lab = oklab(rgb)
    lightness = lab[..., 0]
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    fields = _grid_means(lab)
    inner = np.zeros((GRID, GRID), dtype=bool)
    inner[1:-1, 1:-1] = True
    numbers = [
        *fields.ravel(),
        *lab.mean(axis=(0, 1)),
        *lab.std(axis=(0, 1)),
        *np.quantile(lightness, QUANTILES),
        chroma.mean(),
        chroma.std(),
        np.quantile(chroma, 0.95),
        *(step for scale in SCALES for step in _steps(_reduced(lightness, scale))),
        _edge_density(lightness),
        _entropy(lightness),
        _sharpness(lightness),
        *_hue(lab, chroma),
        fields[inner, 0].mean() - fields[~inner, 0].mean(),
    ]
    return np.array(numbers, dtype=np.float32)


_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def oklab(rgb: np.ndarray) -> np.ndarray:
    """Oklab of sRGB: (..., 3) uint8 -> (..., 3) float64, lightness first."""
    level = np.arange(256) / 255
    linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    return np.asarray(np.cbrt(linear[rgb] @ _TO_LMS.T) @ _TO_LAB.T)


def _grid_means(lab: np.ndarray) -> np.ndarray:
    """Means in a 4 x 4 grid, (4, 4, 3); fields differ by at most a pixel where the size is no multiple of 4."""
    rows, columns = (np.linspace(0, size, GRID + 1).round().astype(int) for size in lab.shape[:2])
    return np.array(
        [
            [lab[top:bottom, left:right].mean(axis=(0, 1)) for left, right in pairwise(columns)]
            for top, bottom in pairwise(rows)
        ]
    )


def _reduced(lightness: np.ndarray, scale: int) -> np.ndarray:
    """Means of scale x scale pixels; a rest at the right and lower border is left out."""
    height, width = (size // scale for size in lightness.shape)
    blocks = lightness[: height * scale, : width * scale].reshape(height, scale, width, scale)
    return np.asarray(blocks.mean(axis=(1, 3)))


def _steps(lightness: np.ndarray) -> tuple[float, float]:
    """Root mean square step to the right, and downwards."""
    right, down = np.diff(lightness, axis=1), np.diff(lightness, axis=0)
    return float(np.sqrt(np.mean(right**2))), float(np.sqrt(np.mean(down**2)))


def _edge_density(lightness: np.ndarray) -> float:
    right = np.abs(np.diff(lightness, axis=1))[:-1]
    down = np.abs(np.diff(lightness, axis=0))[:, :-1]
    return float(np.mean(np.maximum(right, down) > EDGE))


def _entropy(lightness: np.ndarray) -> float:
    bins = np.clip((lightness * ENTROPY_BINS).astype(int), 0, ENTROPY_BINS - 1)
    shares = np.bincount(bins.ravel(), minlength=ENTROPY_BINS) / bins.size
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum() / np.log(ENTROPY_BINS))


def _sharpness(lightness: np.ndarray) -> float:
    inner = lightness[1:-1, 1:-1]
    around = lightness[:-2, 1:-1] + lightness[2:, 1:-1] + lightness[1:-1, :-2] + lightness[1:-1, 2:]
    return float(np.sqrt(np.mean((around - 4 * inner) ** 2)))


def _hue(lab: np.ndarray, chroma: np.ndarray) -> tuple[float, float]:
    """Sum of the colour vectors (a, b) over the sum of their lengths; 0, 0 where nothing has a colour."""
    total = chroma.sum()
    if total < 1e-4 * chroma.size:  # grey but for rounding
        return 0.0, 0.0
    return float(lab[..., 1].sum() / total), float(lab[..., 2].sum() / total)
