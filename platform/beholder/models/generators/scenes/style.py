"""Style before the medium: readable subject, soft or crisp, faceted or flowing, distance veil. Picture to picture."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import Delaunay

from beholder.models.generators.scenes.canvas import Canvas
from beholder.models.generators.scenes.curves import Field, clip01, smoothstep

FACET_POINTS = 900


def blurred(planes: Field, sigma: float) -> Field:
    """Gaussian blur of each plane."""
    return np.stack([ndimage.gaussian_filter(p, sigma, truncate=2.5) for p in planes])


def set_apart(canvas: Canvas, prefers_light: bool, wanted: float) -> None:
    """Move subject and surroundings apart in lightness until their means differ by about `wanted`.

    The direction is fixed by subject (a white tower is lighter, a tree darker than what is behind it), so the picture
    does not flip when an axis moves a little.
    """
    mark, lightness = canvas.subject, canvas.lab[0]
    if float(mark.mean()) < 1e-3:
        return
    spread = canvas.size * 0.065 * canvas.zoom**0.5
    near = ndimage.gaussian_filter(mark, spread, truncate=2.5)
    ring = clip01(near * 2.2) * (1 - mark)
    inside = float((lightness * mark).sum(dtype=np.float64) / mark.sum(dtype=np.float64))
    outside = float((lightness * ring).sum(dtype=np.float64) / max(ring.sum(dtype=np.float64), 1e-6))
    sign = 1.0 if prefers_light else -1.0
    lack = wanted - sign * (inside - outside)
    push = 0.5 * (lack + (lack * lack + 0.006) ** 0.5)  # a soft maximum with 0
    lightness += np.float32(sign * min(push, 0.32)) * (np.float32(0.42) * mark - np.float32(0.38) * ring)


def soften_or_sharpen(canvas: Canvas) -> None:
    """Blur and haze grow with soft above 0, local contrast with crispness below it; both start from nothing."""
    soft, scale = canvas.attributes.soft, canvas.size / 256
    if soft > 0:
        haze = smoothstep(0.15, 0.95, 1 - np.abs(canvas.screen_y - 0.62) * 1.7) * np.float32(0.50 * min(soft, 1.1))
        canvas.lab += np.float32(min(1.0, 1.1 * soft)) * (blurred(canvas.lab, 1.9 * scale) - canvas.lab)
        canvas.tint(haze, canvas.palette.horizon)
    elif soft < 0:
        canvas.lab += np.float32(-0.95 * soft) * (canvas.lab - blurred(canvas.lab, 1.3 * scale))


def breathe(picture: Field, soft: float, size: int) -> Field:
    """Soft or crisp once more, on the finished medium: strokes, rims and pen lines melt or stand out."""
    scale = size / 256
    if soft > 0:
        picture = picture + np.float32(0.75 * min(1.0, soft)) * (blurred(picture, 1.3 * scale) - picture)
        picture[0] += np.float32(0.16 * min(1.0, soft)) * (np.float32(0.74) - picture[0])
    elif soft < 0:
        picture = picture + np.float32(-0.45 * soft) * (picture - blurred(picture, 0.9 * scale))
    return picture


def weather(canvas: Canvas) -> None:
    """Rough brings out forms of a few pixels and large masses, smooth irons them out."""
    rough, scale = canvas.attributes.rough, canvas.size / 256
    lightness = canvas.lab[0]
    detail = lightness - ndimage.gaussian_filter(lightness, 4.0 * scale, truncate=2.5)
    lightness += np.float32(0.80 * rough if rough > 0 else 0.45 * rough) * np.clip(detail, -0.12, 0.12)


def veil(canvas: Canvas) -> None:
    """Air between the viewer and a distant scene: contrast falls towards the horizon's colour."""
    far = max(0.0, -canvas.attributes.close)
    canvas.tint(np.full((1, 1), 0.16 * far, np.float32), canvas.palette.horizon)


def facet_or_flow(canvas: Canvas) -> None:
    """Low organic breaks the picture into flat triangles, high organic lets it sway and stream."""
    if canvas.attributes.organic < 0:
        _facets(canvas)
    elif canvas.attributes.organic > 0:
        _flow(canvas)


def _facets(canvas: Canvas) -> None:
    """Delaunay triangles over points gathered on edges, each in its local colour; a grid would look like pixels."""
    n, rng = canvas.size, canvas.rng("facets")
    soft = blurred(canvas.lab, 1.4 * n / 256)
    edge = np.hypot(ndimage.sobel(soft[0], 0), ndimage.sobel(soft[0], 1)) * (1 + 2.0 * canvas.subject) + 0.004
    cumulated = np.cumsum(edge.ravel(), dtype=np.float64)
    pick = np.searchsorted(cumulated / cumulated[-1], rng.random(FACET_POINTS))
    gathered = np.column_stack([pick % n, pick // n]) / n + rng.normal(0, 0.004, (FACET_POINTS, 2))
    rim = np.linspace(-0.01, 1.01, 9)
    border = [
        np.column_stack(p)
        for p in ((rim, 0 * rim - 0.01), (rim, 0 * rim + 1.01), (0 * rim - 0.01, rim), (0 * rim + 1.01, rim))
    ]
    points = np.concatenate([gathered, rng.random((110, 2)), *border])
    triangles = points[Delaunay(points).simplices]
    middle = np.clip((triangles.mean(1) * n).astype(int), 0, n - 1)
    colours = soft[:, middle[:, 1], middle[:, 0]]
    sheet = Image.new("I", (2 * n, 2 * n))
    draw = ImageDraw.Draw(sheet)
    # Tones follow the place, not the triangle's number, so that a small change of the scene keeps them.
    colours[0] += (0.016 * np.sin(middle[:, 0] * (97.0 / n) + middle[:, 1] * (61.0 / n))).astype(np.float32)
    for k, corners in enumerate((triangles * 2 * n).reshape(len(triangles), 6).tolist()):
        draw.polygon(corners, fill=k)
    index = np.asarray(sheet)
    flat = colours[:, index].reshape(3, n, 2, n, 2).mean((2, 4))
    share = min(1.0, -canvas.attributes.organic / 0.95) ** 0.75
    canvas.lab += np.float32(share) * (0.94 - 0.22 * canvas.subject) * (flat - canvas.lab)


def _flow(canvas: Canvas) -> None:
    """Sway along a smooth field and smear along it, so that skies stream in bands."""
    n, organic = canvas.size, canvas.attributes.organic
    one, two = canvas.noise("flow", 0.55, key="sway"), canvas.noise("flow", 0.40, key="sway2")
    # A soft mask: a hard one would tear the picture along the subject's outline.
    kept = ndimage.gaussian_filter(canvas.subject, 7 * n / 256, truncate=2.5)
    calm = 1 - 0.5 * kept
    pixels = organic * n / 256 * calm
    rows, columns = np.arange(n, dtype=np.float32)[:, None], np.arange(n, dtype=np.float32)[None]
    at = [
        rows + (6.0 * two + 4.0 * np.sin(canvas.screen_x * 20 + 3 * one)) * pixels,
        columns + (8.0 * one + 4.4 * np.sin(canvas.screen_y * 22 + 3 * two)) * pixels,
    ]
    swayed = np.stack([ndimage.map_coordinates(p, at, order=1, mode="nearest") for p in canvas.lab])
    canvas.subject = ndimage.map_coordinates(canvas.subject, at, order=1, mode="nearest")
    # Line integral convolution with a few steps: streaks that follow the field's level lines.
    angle = 1.6 * one + 0.9 * two
    step_x, step_y = np.cos(angle) * (2.0 * n / 256), np.sin(angle) * (1.4 * n / 256)
    total = swayed.copy()
    for k in (-3, -2, -1, 1, 2, 3):
        y = np.clip(rows + k * step_y, 0, n - 1).astype(int)
        x = np.clip(columns + k * step_x, 0, n - 1).astype(int)
        total += swayed[:, y, x]
    smear = np.float32(min(1.0, organic)) * (1 - 0.8 * kept)
    canvas.lab = swayed + smear * (total * np.float32(1 / 7) - swayed)
    # Streaks must stay crisp, or swirling would look like soft focus.
    canvas.lab += np.float32(0.9 * min(1.0, organic)) * (canvas.lab - blurred(canvas.lab, 1.6 * n / 256))
    bands = np.sin(34 * canvas.screen_y + 5 * one + 3 * two) * smoothstep(0.80, 0.35, canvas.screen_y)
    canvas.lab[0] += np.float32(0.028 * organic) * bands * (1 - kept)
