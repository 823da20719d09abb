"""Media photo, watercolour and ink: from the finished scene to the look of its material. Picture to picture, Oklab."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from beholder.models.generators.scenes.canvas import Canvas
from beholder.models.generators.scenes.colour import blended
from beholder.models.generators.scenes.curves import Field, clip01, lerp, smoothstep
from beholder.models.generators.scenes.style import blurred


def photo(canvas: Canvas) -> Field:
    """Bloom of highlights, focus on the subject, film curve with tinted shadows, vignette, fine grain."""
    scale, palette = canvas.size / 256, canvas.palette
    picture = canvas.lab.copy()
    bright = smoothstep(0.74, 0.98, picture[0])
    bloom = ndimage.gaussian_filter(bright, 5 * scale, truncate=2.5)
    picture[0] += 0.07 * bloom * (1 - picture[0]) * 2
    for plane, value in zip(picture[1:], palette.light[1:], strict=True):
        plane += 0.16 * bloom * (value - plane)
    from_centre = np.hypot(canvas.screen_x - 0.5, (canvas.screen_y - 0.54) * 0.9)
    far = smoothstep(0.30, 0.75, from_centre) * (1 - canvas.subject)
    picture += (0.75 * far) * (blurred(picture, 1.4 * scale) - picture)
    lightness = picture[0]
    lightness += 0.45 * (smoothstep(-0.06, 1.06, lightness) - lightness)
    shadow = clip01(0.55 - lightness)
    picture[1] -= 0.010 * shadow
    picture[2] -= 0.030 * shadow
    lightness -= 0.15 * ((canvas.screen_x - 0.5) ** 2 + (canvas.screen_y - 0.5) ** 2)
    lightness += (0.003 + 0.010 * canvas.level["rough"] ** 1.5) * canvas.noise("grain", 1.0, key="film", fixed=True)
    return picture


def _from_border(canvas: Canvas) -> Field:
    """Distance to the nearest border, in sides of the picture."""
    x = np.minimum(canvas.screen_x, 1 - canvas.screen_x)
    return np.minimum(x, np.minimum(canvas.screen_y, 1 - canvas.screen_y))


def _shaken(canvas: Canvas, dx: Field, dy: Field) -> Field:
    """The picture displaced by fields in pixels; whole pixels are enough under paper grain."""
    n = canvas.size
    rows, columns = np.arange(n)[:, None], np.arange(n)[None]
    y = np.clip(np.rint(rows + dy), 0, n - 1).astype(int)
    x = np.clip(np.rint(columns + dx), 0, n - 1).astype(int)
    return canvas.lab[:, y, x]


def watercolour(canvas: Canvas) -> Field:
    """Bleeding outlines, flat washes with dark pigment rims, granulation, blooms and a ragged unpainted border."""
    scale, mark = canvas.size / 256, canvas.subject
    one = canvas.noise("flow", 0.9, key="bleed", fixed=True)
    two = canvas.noise("land", 0.9, key="bleed2", fixed=True)
    hold = scale * (1 - 0.6 * mark)
    wash = _shaken(canvas, (1.5 * one + 0.9 * two) * hold, (1.5 * two - 0.9 * one) * hold)
    wash = wash + (1 - 0.75 * mark) * (blurred(wash, 1.2 * scale) - wash)
    wash[0] += 0.18 * (wash[0] - wash[0].mean())
    steps = 7.0
    level = wash[0] * steps + 0.35 * canvas.noise("blot", 0.7, key="wash", fixed=True)
    whole = np.floor(level)
    flat = (whole + smoothstep(0.36, 0.64, level - whole)) / steps
    wash[0] += (0.58 - 0.34 * mark) * (flat - wash[0])
    blurry = ndimage.gaussian_filter(wash[0], 2.2 * scale, truncate=2.5)
    slope = np.hypot(ndimage.sobel(blurry, 0), ndimage.sobel(blurry, 1)) * (0.35 / 4 * scale)
    rim = np.clip(blurry - wash[0], 0, 0.12) + slope
    # The subject gets its own contour of pooled pigment.
    contour = np.hypot(ndimage.sobel(mark, 0), ndimage.sobel(mark, 1)) * (1 / 4)
    contour = ndimage.gaussian_filter(contour, 0.6 * scale, truncate=2.5)
    grain = 0.6 * canvas.noise("grain", 0.8, key="tooth", fixed=True) + 0.5 * canvas.noise(
        "fibre", 0.7, key="tooth", fixed=True
    )
    wash[0] = 1 - (1 - wash[0]) * 0.90 - 1.05 * rim - 0.10 * contour
    wash[0] += (0.016 + 0.040 * canvas.level["rough"] ** 1.5) * grain * (1.15 - wash[0])
    wash[0] += 0.024 * canvas.noise("blot", 0.6, key="bloom", fixed=True) * (1 - 0.6 * mark)
    wash[1:] *= 1.10 + 0.16 * canvas.noise("blot", 0.9, key="pigment", fixed=True)
    paper = np.array([0.968, 0.002, 0.016], np.float32)
    dry = smoothstep(0.55, 1.7, grain + 3.2 * (wash[0] - 0.72))
    wash = blended(wash, np.broadcast_to(paper[:, None, None], wash.shape), 0.20 * dry)
    inset = _from_border(canvas) + 0.006 * canvas.noise("land", 0.6, key="border", fixed=True) + 0.004 * one
    wash[0] -= 0.055 * np.exp(-(((inset - 0.036) / 0.008) ** 2))
    wash = blended(np.broadcast_to(paper[:, None, None], wash.shape), wash, smoothstep(0.020, 0.032, inset))
    wash[0] += 0.010 * grain
    return wash


def ink(canvas: Canvas) -> Field:
    """Pen and wash on cream paper: contours, hatching whose lines swell with darkness, a thin colour wash."""
    scale, level, mark = canvas.size / 256, canvas.level, canvas.subject
    one = canvas.noise("flow", 0.8, key="hand", fixed=True)
    two = canvas.noise("land", 0.5, key="hand2", fixed=True)
    drawn = _shaken(canvas, (1.1 * one + 0.5 * two) * scale, 1.1 * two * scale)
    lightness = ndimage.gaussian_filter(drawn[0], 0.7 * scale, truncate=2.5)
    sample = np.sort(lightness[::4, ::4], axis=None)
    low, high = float(sample[int(0.02 * len(sample))]), float(sample[int(0.97 * len(sample))])
    tone = clip01(1 - (lightness - low) / max(high - low, 0.25))
    tone = clip01(tone**1.2 - 0.16 * canvas.attributes.bright)
    edge = ndimage.gaussian_filter(lightness, 1.7 * scale, truncate=2.5) - ndimage.gaussian_filter(
        lightness, 0.5 * scale, truncate=2.5
    )
    # Contours are measured against the picture's own tone range, or pale scenes would lose them.
    start = 0.009 + 0.006 * level["rough"]
    contour = smoothstep(start, start + 0.030, edge * (0.85 / (high - low + 0.15)))
    outline = np.hypot(ndimage.sobel(mark, 0), ndimage.sobel(mark, 1)) * (1 / 4)
    contour = np.maximum(contour, 0.85 * smoothstep(0.25, 0.60, outline))
    paper = np.array(
        [0.955, 0.003 + 0.006 * canvas.attributes.warm, 0.026 + 0.014 * canvas.attributes.warm], np.float32
    )
    pen = np.array(
        [0.22, lerp(0.004, 0.022, min(1.0, level["warm"])), lerp(-0.020, 0.026, min(1.0, level["warm"]))], np.float32
    )
    wash = blurred(drawn[1:], 2.0 * scale)
    page = np.empty_like(canvas.lab)
    page[0] = (
        paper[0]
        - 0.46 * tone**1.15 * (0.55 + 0.35 * level["vivid"])
        + 0.03 * canvas.noise("blot", 0.7, key="wash", fixed=True)
    )
    page[1:] = paper[1:, None, None] + wash * (0.34 + 0.80 * level["vivid"]) * smoothstep(0, 0.45, tone)
    hatching = _hatching(canvas, tone * (1 - 0.25 * mark), one, two)
    for plane, value in zip(page, pen, strict=True):
        plane += 0.80 * hatching * (value - plane)
        plane += 0.92 * contour * (value - plane)
    inset = _from_border(canvas) + 0.007 * canvas.noise("land", 0.6, key="border", fixed=True)
    page = blended(np.broadcast_to(paper[:, None, None], page.shape), page, smoothstep(0.026, 0.040, inset))
    page[0] += 0.010 * canvas.noise("grain", 0.8, key="laid", fixed=True)
    return page


def _hatching(canvas: Canvas, tone: Field, one: Field, two: Field) -> Field:
    """Three directions of lines; each starts at a darker tone. Lines swell with the tone."""
    level = canvas.level
    pitch = 2 * np.pi * lerp(66, 50, min(1.0, level["rough"]))
    wave = (0.35 + 0.7 * level["organic"]) * 2 * one + 0.24 * two
    press = 0.10 * canvas.noise("fibre", 0.5, key="press", fixed=True)
    total: Field = np.zeros_like(tone)
    for across, down, start in ((0.62, 0.78, 0.44), (0.80, -0.60, 0.75), (0.05, 1.0, 0.92)):
        dark = clip01((tone - start) / (1 - start))
        thin = 1.0 - 0.88 * clip01(1.1 * dark + press)
        stroke = np.sin((canvas.screen_x * across + canvas.screen_y * down) * pitch + wave)
        line = clip01((stroke - thin + 0.22) / 0.44) * smoothstep(0, 0.10, dark)
        total = np.maximum(total, line)
    return total
