"""What stands behind every outdoor scene: sky, clouds, birds, hazy ridges with their trees and houses."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from beholder.models.generators.scenes.canvas import Canvas, box, ellipse
from beholder.models.generators.scenes.colour import blended, lively_mix, oklab_from_hex, shifted
from beholder.models.generators.scenes.curves import bump, clip01, fading, lerp, mix, opacities, smoothstep
from beholder.models.generators.scenes.noise import displaced

FIR = np.array(
    [(0.03, 0), (0.03, 0.08), (0.24, 0.06), (0.10, 0.30), (0.19, 0.27), (0.08, 0.50), (0.15, 0.47), (0.05, 0.70),
     (0.10, 0.67), (0, 1)]
)  # fmt: skip
"""Right half of a fir: (half width, height) from the foot to the tip."""
WHITE = np.array([0.97, 0.0, 0.004], np.float32)


def sky(canvas: Canvas, horizon: float) -> None:
    """Gradient, sun or moon with its glow, clouds, rays when soft, stars at night. `horizon` is a world height."""
    palette = canvas.palette
    rise = clip01((canvas.y + 0.12) / (horizon + 0.12) + 0.03 * canvas.noise("flow", 0.3))
    middle = lively_mix(palette.zenith, palette.horizon, 0.5)
    upper = blended(palette.zenith, middle, np.minimum(rise * 2, 1) ** 1.2)
    canvas.lab[:] = blended(upper, palette.horizon, np.maximum(rise * 2 - 1, 0) ** 1.1)
    if canvas.night > 0:
        _stars(canvas, horizon)
    _sun(canvas, horizon)
    _clouds(canvas, horizon)
    _rays(canvas)


def _stars(canvas: Canvas, horizon: float) -> None:
    count = 220
    scatter = canvas.spread("stars", count, 2)
    height = scatter[:, 1] * (horizon + 0.4) - 0.4
    radius = (0.0009 + 0.0022 * scatter[:, 2] ** 3)[:, None] / canvas.zoom**0.5
    corners = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])
    centres = np.column_stack([scatter[:, 0], height])
    shown = int(60 + 160 * min(1.0, canvas.level["busy"]))
    stars = (centres[:, None] + radius[:, None] * corners)[:shown]
    canvas.shapes(stars, canvas.palette.light, 0.95 * canvas.night**1.5, hand=False, texture=0)


def _sun(canvas: Canvas, horizon: float) -> None:
    light, (x, y) = canvas.palette.light, canvas.sun
    day, scale = 1 - canvas.night, canvas.zoom**-0.4  # the sun must not grow as fast as the subject
    canvas.glow(
        x,
        lerp(y, horizon, 0.55),
        0.70 * scale,
        light,
        0.46 * lerp(0.22, 1, day) * (1 + 0.5 * max(0.0, canvas.attributes.bright)),
        squash=0.8,
    )
    canvas.glow(x, y, 0.20 * scale, light, lerp(0.26, 0.55, day))
    disc = mix(light, np.array([1, 0, 0.01], np.float32), 0.35)
    soft = canvas.level["soft"]
    canvas.disc(x, y, 0.050 * scale, disc, 0.96 - 0.25 * min(1.0, soft), texture=0, blur=0.012 * soft)


def _clouds(canvas: Canvas, horizon: float) -> None:
    """Heaps lit from the sun's side with darker undersides; busy covers more sky, rough tears and darkens them."""
    palette, level = canvas.palette, canvas.level
    heap = canvas.noise("cloud", 0.50, 1.0) + (0.05 + 0.50 * level["rough"] ** 1.5) * canvas.noise(
        "land", 0.35, 0.7, "wisps"
    )
    height = (canvas.y + 0.1) / (horizon + 0.1)
    band = bump(height, 0.52, 0.34)
    threshold = 2.35 - 2.05 * level["busy"]
    density = smoothstep(threshold - 0.55, threshold + 0.75, heap + 0.5 * band) * smoothstep(1.0, 0.72, height)
    step = max(1, canvas.size // 36)
    towards_sun = displaced(heap, -canvas.side * step, step)
    lit = clip01(0.55 + 0.55 * (heap - towards_sun))
    bright = shifted(mix(palette.light, WHITE, 0.25), -0.32 * canvas.night)
    shadow = mix(lively_mix(palette.zenith, palette.horizon, 0.62), palette.far, 0.18 + 0.37 * min(1.0, level["rough"]))
    shadow = shifted(shadow, -0.02 - 0.10 * level["rough"] ** 1.5)
    warm_edge = mix(bright, palette.horizon, 0.80 * canvas.night)
    canvas.tint(density, blended(shadow, warm_edge, lit), 0.86)
    streak = smoothstep(0.5, 2.4, canvas.noise("cloud", 0.14, 0.8, "cirrus")) * smoothstep(0.75, 0.25, height)
    canvas.tint(streak, warm_edge, 0.10 + 0.28 * min(1.0, level["busy"]))


def _rays(canvas: Canvas) -> None:
    strength = 0.20 * max(0.0, canvas.level["soft"] - 0.4) * (1 - canvas.night)
    if strength <= 0:
        return
    across, down = canvas.x - canvas.sun[0], canvas.y - canvas.sun[1]
    angle = np.arctan2(down, across)
    turn = canvas.rng("rays").uniform(0, 6)
    beams = smoothstep(0.3, 0.9, 0.5 * np.sin(angle * 9 + turn) + 0.4 * np.sin(angle * 23 + 1))
    canvas.tint(beams * np.exp(-2.6 * np.hypot(across, down)), canvas.palette.light, strength)


def birds(canvas: Canvas, height: float) -> None:
    """A flock near a world height; a sparse scene has none."""
    rng = canvas.rng("birds")
    most = 36
    shown = opacities(38 * canvas.level["busy"] ** 1.8 - 1.5, most)
    x = 0.5 - canvas.side * rng.uniform(0.18, 0.40) + rng.normal(0, 0.12, most)
    y = height + rng.normal(0, 0.055, most)
    span = rng.uniform(0.010, 0.019, most) * shown**0.5
    wing = np.array(
        [(-1.5, -0.5), (-0.5, -0.55), (0, 0), (0.5, -0.55), (1.5, -0.5), (0.5, -0.28), (0, 0.3), (-0.5, -0.28)]
    )
    flock = np.column_stack([x, y])[:, None] + span[:, None, None] * wing
    colour = mix(canvas.palette.near, canvas.palette.zenith, 0.15)
    canvas.shapes(flock[shown > 0], colour, 0.85, hand=False, texture=0)


def ridges(canvas: Canvas, top: float, bottom: float, count: float, key: str = "ridge", amplitude: float = 0.07,
           bare: bool = False) -> None:  # fmt: skip
    """Hills from far to near between two world heights: hazy far, misty at the foot; that one gradient makes depth."""
    palette, soft = canvas.palette, canvas.level["soft"]
    steps = max(count, 1.0)
    for i, alpha in fading(steps):
        depth = min(0.97, (i + 0.5) / steps)
        middle = lerp(top, bottom, depth**1.15)
        line = middle - amplitude * lerp(1.15, 0.7, depth) * (0.5 + canvas.line(f"{key}{i}", lerp(2.4, 1.5, depth)))
        haze = float(np.clip((1 - depth) * (0.42 + 0.45 * soft), 0, 0.92))
        colour = lively_mix(mix(palette.far, palette.middle, depth), palette.horizon, haze)
        below = clip01((canvas.y - line[None]) / np.float32(0.10 + 0.08 * depth))
        mist = mix(colour, palette.horizon, 0.34 + 0.40 * min(1.0, soft))
        paint = blended(colour, mist, below**1.3 * np.float32(1 - 0.55 * depth))
        slope = np.gradient(line) * (canvas.size * canvas.zoom / 6 * -canvas.side)
        paint[0] += (0.06 * np.tanh(slope * 3))[None] * (1 - below) ** 2
        paint[0] += canvas.texture * lerp(0.4, 1.1, depth) * canvas.relief
        canvas.fill(canvas.under(line, 0.006 * soft * (1 - depth)), paint, alpha)
        if depth > 0.25 and not bare:
            _village(canvas, line, f"{key}village{i}", 0.011 + 0.012 * depth, alpha)
            _grove(canvas, line, f"{key}grove{i}", 0.022 + 0.030 * depth, shifted(colour, -0.05 - 0.06 * depth), alpha)


def _grove(canvas: Canvas, line: np.ndarray, key: str, height: float, colour: np.ndarray, alpha: float) -> None:
    most = 130
    scatter = canvas.spread(key, most, 1)
    shown = opacities(115 * canvas.density * canvas.level["busy"] ** 1.8 - 1.5, most)
    keep = shown > 0
    x = scatter[keep, 0]
    trees(
        canvas,
        x,
        canvas.height_at(line, x) + 0.005,
        height * (0.6 + 0.8 * scatter[keep, 1]) * shown[keep] ** 0.5,
        colour,
        alpha,
    )


def trees(
    canvas: Canvas,
    x: np.ndarray,
    foot: np.ndarray,
    height: np.ndarray,
    colour: np.ndarray,
    alpha: float = 1.0,
    *,
    firs: bool = False,
) -> None:
    """Small trees: firs, or round crowns in a share that grows with organic."""
    shapes = []
    outline = np.concatenate([FIR * (1, -1), FIR[::-1] * (-1, -1)])
    for k, (at, y, h) in enumerate(zip(x.tolist(), foot.tolist(), height.tolist(), strict=True)):
        if not firs and (k * 0.37) % 1 < canvas.level["organic"] - 0.25:
            shapes.append(ellipse(at, y - h * 0.62, h * 0.34, h * 0.38, 11))
            shapes.append(box(at - h * 0.04, y - h * 0.5, at + h * 0.04, y))
        else:
            shapes.append(np.array([at, y]) + outline * h)
    tones = 0.05 * np.sin(np.arange(len(shapes)) * 2.4)
    canvas.shapes(shapes, colour, alpha, hand=False, tones=tones)


def _village(canvas: Canvas, line: np.ndarray, key: str, size: float, alpha: float) -> None:
    """Small gabled houses with lit windows in a group on a ridge; only busy scenes have one."""
    palette, rng = canvas.palette, canvas.rng(key)
    most = 24
    spot, scatter = rng.random(), rng.random((most, 3))
    shown = opacities(34 * canvas.density * (canvas.level["busy"] - 0.40), most)
    walls, roofs, panes = [], [], []
    for (u, v, w), visible in zip(scatter.tolist(), shown.tolist(), strict=True):
        if visible <= 0:
            continue
        x, half = (spot + 0.6 * u) % 1.0, size * (0.7 + 0.5 * v) * visible**0.5
        broad = half * (0.8 + 0.7 * w)
        y = float(canvas.height_at(line, x)) + 0.012
        walls.append(
            [(x - broad, y), (x - broad, y - half), (x, y - 1.7 * half), (x + broad, y - half), (x + broad, y)]
        )
        roofs.append(
            [
                (x - 1.2 * broad, y - 0.95 * half),
                (x, y - 1.9 * half),
                (x + 1.2 * broad, y - 0.95 * half),
                (x, y - 1.5 * half),
            ]
        )
        panes.append(box(x - 0.3 * half, y - 0.8 * half, x + 0.2 * half, y - 0.3 * half))
    lamp = mix(palette.near, mix(palette.light, oklab_from_hex("#ffc65c"), 0.5), min(1.0, 2.2 * canvas.night))
    canvas.shapes([np.array(p) for p in walls], mix(palette.second, palette.horizon, 0.3), alpha, hand=False)
    canvas.shapes([np.array(p) for p in roofs], mix(palette.accent, palette.horizon, 0.25), alpha, hand=False)
    canvas.shapes(panes, lamp, alpha, hand=False, texture=0)


def defocus(canvas: Canvas, strength: float = 1.0) -> None:
    """Blur what has been painted so far the closer the camera is: the shallow focus of a near view."""
    near = max(0.0, canvas.attributes.close + 0.1)
    sigma = 1.5 * near * canvas.size / 256
    if near > 0:
        share = np.float32(min(1.0, near) * strength)
        for plane in canvas.lab:
            plane += share * (ndimage.gaussian_filter(plane, sigma, truncate=2.5) - plane)


def lamp(canvas: Canvas, x: float, y: float, radius: float, alpha: float = 1.0) -> None:
    """A light that counts at night."""
    light = canvas.palette.light
    canvas.glow(x, y, radius * 4, light, alpha * (0.12 + 0.5 * canvas.night))
    canvas.disc(x, y, radius * 0.5, mix(light, np.array([1, 0, 0.03], np.float32), 0.4), alpha, texture=0)
