"""Oil: strokes laid coarse to fine along the forms, a relief lit from the sun's side, the weave showing through."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from beholder.models.generators.scenes.canvas import Canvas
from beholder.models.generators.scenes.colour import oklab_from_srgb, srgb8_from_oklab
from beholder.models.generators.scenes.curves import Field, clip01, smoothstep
from beholder.models.generators.scenes.style import blurred

LAYERS = ((8.5, 26.0, 560, 0.0), (4.4, 14.0, 1250, 0.25), (2.0, 7.5, 3000, 0.62))
"""Brushes at 256 pixels: width, half length, strokes tried, share of the picture too plain for them."""


def oil(canvas: Canvas) -> Field:
    """The scene in strokes; the finest brush is kept for details and the subject."""
    n, scale = canvas.size, canvas.size / 256
    source = canvas.lab
    coarse = ndimage.gaussian_filter(source[0], 2.5 * scale, truncate=2.5)
    direction = _directions(canvas, coarse)
    detail = ndimage.gaussian_filter(np.abs(source[0] - coarse), 1.2 * scale, truncate=2.5)
    detail = detail + 0.03 * ndimage.gaussian_filter(canvas.subject, 1.5 * scale, truncate=2.5)
    painting = Image.fromarray(srgb8_from_oklab(blurred(source, 2.0 * scale))).resize((2 * n, 2 * n))
    height = Image.new("L", painting.size, 110)
    for index, brush in enumerate(LAYERS):
        _lay(canvas, index, brush, direction, detail, ImageDraw.Draw(painting), ImageDraw.Draw(height))
    coded = np.asarray(painting.reduce(2), np.float32).transpose(2, 0, 1) * np.float32(1 / 255)
    picture = oklab_from_srgb(coded).astype(np.float32)
    # A thin veil of the drawing under the strokes holds the subject together.
    picture += (0.40 * canvas.subject) * (source - picture)
    picture[0] += _relief(canvas, height)
    weave = 2 * math.pi * 62
    picture[0] += 0.007 * np.sin(canvas.screen_x * weave) * np.sin(canvas.screen_y * weave)
    picture[0] += 0.35 * (smoothstep(-0.08, 1.06, picture[0]) - picture[0])
    return picture


def _directions(canvas: Canvas, lightness: Field) -> Field:
    """Stroke angle: along edges by the structure tensor, along flow noise where there is no edge; (n, n) radians."""
    scale = canvas.size / 256
    gx, gy = ndimage.sobel(lightness, 1), ndimage.sobel(lightness, 0)
    xx, yy, xy = (ndimage.gaussian_filter(v, 4 * scale, truncate=2.5) for v in (gx * gx, gy * gy, gx * gy))
    along = 0.5 * np.arctan2(2 * xy, xx - yy) + math.pi / 2
    weak = np.exp(-260 * np.hypot(xx - yy, 2 * xy))
    return along + weak * 0.9 * canvas.noise("flow", 0.7, key="strokes", fixed=True) + 0.12


def _lay(canvas: Canvas, index: int, brush: tuple[float, float, int, float], direction: Field, detail: Field,
         paint: ImageDraw.ImageDraw, height: ImageDraw.ImageDraw) -> None:  # fmt: skip
    """One brush: strokes of three points in the colour of the scene at their middle."""
    n, scale, rough = canvas.size, canvas.size / 256, canvas.level["rough"]
    width, length, count, plain = brush
    width *= scale * (0.78 + 0.5 * rough)
    length *= scale * (0.8 + 0.4 * canvas.level["organic"])
    rng = canvas.rng(f"brush{index}")
    place = rng.random((2, count))
    shade, bend = rng.normal(0, 0.012 + 0.026 * rough, count), rng.normal(0, 0.25, count)
    load, part = rng.integers(70, 200, count), rng.uniform(0.6, 1.2, count)
    x, y = (place * n).astype(int)
    if plain:
        ranked = np.sort(detail[::2, ::2], axis=None)
        keep = detail[y, x] > ranked[int(plain * len(ranked))]
        x, y, shade, bend, load, part = x[keep], y[keep], shade[keep], bend[keep], load[keep], part[keep]
    colour = blurred(canvas.lab, 0.22 * width)[:, y, x]
    colour[0] += shade * (1 - 0.5 * canvas.subject[y, x])
    colour[1:] *= 1.08
    codes = srgb8_from_oklab(colour[:, None].astype(np.float32))[0]
    reach = length * part * (1 - 0.35 * clip01(30 * detail[y, x])) * (1 - 0.35 * canvas.subject[y, x])
    angle = direction[y, x]
    back, ahead = angle - bend, angle + bend
    line = np.stack(
        [
            2 * x - np.cos(back) * reach,
            2 * y - np.sin(back) * reach,
            2 * x,
            2 * y,
            2 * x + np.cos(ahead) * reach,
            2 * y + np.sin(ahead) * reach,
        ],
        1,
    )
    broad, ridge = max(2, round(2 * width)), max(1, round(0.7 * width))
    for points, code, thickness in zip(line.tolist(), map(tuple, codes.tolist()), load.tolist(), strict=True):
        paint.line(points, code, broad, "curve")
        height.line(points, thickness, broad, "curve")
        height.line(points, min(255, thickness + 46), ridge)


def _relief(canvas: Canvas, height: Image.Image) -> Field:
    """Lightness of the paint's surface; kept low, since more looks like crumpled paper."""
    surface = np.asarray(height.reduce(2), np.float32) / 255 + 0.10 * canvas.noise(
        "fibre", 0.9, key="bristle", fixed=True
    )
    surface = ndimage.gaussian_filter(surface, 0.7 * canvas.size / 256, truncate=2.5)
    down = np.roll(surface, 1, 0) - np.roll(surface, -1, 0)
    across = canvas.side * (np.roll(surface, -1, 1) - np.roll(surface, 1, 1))
    gain = (0.035 + 0.13 * canvas.level["rough"]) * (1 - 0.4 * canvas.subject)
    return np.clip(0.8 * (down + across), -0.4, 0.4) * gain
