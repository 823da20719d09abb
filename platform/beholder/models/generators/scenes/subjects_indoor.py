"""The indoor subject: a still life with flowers and fruit by a window."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from beholder.models.generators.scenes.canvas import Canvas, box
from beholder.models.generators.scenes.colour import blended, oklab_from_hex, shifted
from beholder.models.generators.scenes.curves import bump, clip01, mix, opacities, ramp, smoothstep
from beholder.models.generators.scenes.landscape import defocus

TABLE = 0.70
"""World height of the table's far edge."""


def still_life(canvas: Canvas) -> None:
    """A vase of flowers and fruit on a cloth, lit from a window; more things, a curtain and pictures when busy."""
    side = canvas.side
    _wall(canvas)
    _pictures(canvas)
    _curtain(canvas)
    _table(canvas)
    defocus(canvas)
    palette = canvas.palette
    bottle = mix(palette.near, palette.middle, 0.45)
    with canvas.painting_subject():
        profile = (0.13, 0.14, 0.14, 0.13, 0.055, 0.045, 0.05)
        shown = ramp(0.10, 0.45, canvas.level["busy"])
        _turned(canvas, 0.5 - side * 0.23, TABLE + 0.055, 0.36, profile, bottle, shown)
        jug, profile = mix(palette.accent, palette.near, 0.35), (0.24, 0.34, 0.38, 0.34, 0.22, 0.20, 0.26)
        _turned(canvas, 0.5 + side * 0.27, TABLE + 0.05, 0.20, profile, jug, ramp(0.55, 0.95, canvas.level["busy"]))
        _bouquet(canvas, 0.5, TABLE + 0.05 - 0.28, 0.28)
        _turned(
            canvas,
            0.5,
            TABLE + 0.06,
            0.28,
            (0.20, 0.29, 0.34, 0.30, 0.20, 0.15, 0.19),
            mix(palette.second, palette.zenith, 0.35),
        )
        _fruit(canvas)


def _wall(canvas: Canvas) -> None:
    palette, d, busy = canvas.palette, canvas.side, canvas.level["busy"]
    wall = mix(mix(palette.far, palette.middle, 0.5), palette.near, 0.12 + 0.35 * canvas.night)
    canvas.lab[:] = wall[:, None, None]
    pattern = smoothstep(0.55, 0.95, np.sin(canvas.x * 46) * np.sin(canvas.y * 46)) + 0.7 * smoothstep(
        0.7, 0.9, np.sin(canvas.x * 23)
    )
    canvas.lab[0] += 0.05 * ramp(0.35, 1.0, busy) * pattern
    _window_light(canvas)
    canvas.lab[0] += 0.9 * canvas.texture * canvas.relief + 0.012 * canvas.noise("cloud", 0.5)
    canvas.lab[0] -= 0.10 * np.hypot(canvas.x - 0.5 + 0.2 * d, canvas.y - 0.4)


def _window_light(canvas: Canvas) -> None:
    """Light of a window with six panes, falling aslant on the wall from the sun's side."""
    palette, d = canvas.palette, canvas.side
    panes = []
    for column in range(2):
        for row in range(3):
            u = np.array([0.0, 1.0, 1.0, 0.0]) * 0.155 + 0.175 * column
            v = np.array([0.0, 0.0, 1.0, 1.0]) * 0.150 + 0.170 * row
            panes.append(np.column_stack([0.5 - d * 0.10 + d * (u - 0.20 + 0.12 * v), 0.02 + v + 0.50 * u]))
    warm = mix(palette.light, palette.horizon, 0.40)
    canvas.shapes(panes, warm, 0.55 * (1 - 0.6 * canvas.night), hand=False, blur=0.007, texture=0.6)
    canvas.glow(0.5 - 0.1 * d, 0.30, 0.45, warm, 0.28 * (1 - 0.5 * canvas.night))


def _pictures(canvas: Canvas) -> None:
    """Framed pictures on the wall of a busy room."""
    palette, d = canvas.palette, canvas.side
    shown = opacities(6.5 * (canvas.level["busy"] - 0.45), 3)
    for k in np.flatnonzero(shown > 0).tolist():
        x, y, w, h = ((0.36, 0.30, 0.075, 0.095), (0.58, 0.24, 0.055, 0.055), (-0.58, 0.28, 0.06, 0.08))[k]
        x, grow = 0.5 + d * x, float(shown[k]) ** 0.5
        w, h = w * grow, h * grow
        canvas.shapes([box(x - w, y - h, x + w, y + h)], mix(palette.near, palette.accent, 0.25), light=0.05)
        canvas.shapes(
            [box(x - 0.8 * w, y - 0.82 * h, x + 0.8 * w, y + 0.82 * h)],
            mix(palette.second, palette.horizon, 0.4),
            hand=False,
        )
        hill = np.array(
            [(-0.8, 0.82), (-0.8, 0.2), (-0.2, -0.3), (0.2, 0.15), (0.5, -0.1), (0.8, 0.3), (0.8, 0.82)]
        ) * (w, h)
        canvas.shapes([np.array([x, y]) + hill], mix(palette.zenith, palette.far, 0.5), hand=False)


def _curtain(canvas: Canvas) -> None:
    palette, d = canvas.palette, canvas.side
    inward = canvas.x if d > 0 else 1 - canvas.x
    hang = smoothstep(0.0, 0.03, 0.15 + 0.03 * np.sin(canvas.y * 5) - inward)
    folds = np.sin(27 * canvas.x + 2.4 * canvas.noise("flow", 0.5, 0.25, "drape"))
    cloth = mix(palette.accent, palette.near, 0.45)
    paint = np.broadcast_to(cloth[:, None, None], canvas.lab.shape).copy()
    paint[0] += 0.06 * folds + canvas.texture * canvas.relief
    canvas.fill(hang, paint, min(1.0, 1.7 * canvas.level["busy"]))


def _table(canvas: Canvas) -> None:
    palette, d = canvas.palette, canvas.side
    cloth = mix(mix(palette.second, palette.horizon, 0.35), palette.near, 0.38)
    paint = np.broadcast_to(cloth[:, None, None], canvas.lab.shape).copy()
    paint[0] += 0.12 * bump(canvas.x, 0.5 - 0.22 * d, 0.36) - 0.14 * clip01((canvas.y - TABLE) / 0.35)
    paint[0] += (0.004 + 0.5 * canvas.texture) * canvas.noise(
        "fibre", 0.08, 0.5, "weave"
    ) + 0.6 * canvas.texture * canvas.relief
    checks = smoothstep(0.86, 0.95, np.sin(canvas.x * 60)) + smoothstep(0.80, 0.95, np.sin(canvas.y * 90))
    paint = blended(
        paint,
        np.broadcast_to(palette.accent[:, None, None], paint.shape),
        0.35 * ramp(0.3, 0.9, canvas.level["busy"]) * clip01(checks),
    )
    fall = smoothstep(0.86, 0.95, canvas.y)
    paint[0] += 0.05 * np.sin(46 * canvas.x + 3 * canvas.line("folds", 4)[None]) * fall - 0.13 * smoothstep(
        0.86, 1.02, canvas.y
    )
    canvas.fill(canvas.under(np.full(canvas.size, TABLE, np.float32)), paint)
    canvas.tint(bump(canvas.y, TABLE, 0.006), palette.light, 0.30)


def _cast(canvas: Canvas, x: float, y: float, r: float, alpha: float = 1.0) -> None:
    canvas.shade(x + 0.9 * canvas.side * r, y, 1.5 * r, 0.33 * r, 0.62 * alpha)


def _turned(
    canvas: Canvas,
    x: float,
    y: float,
    height: float,
    radii: tuple[float, ...],
    colour: np.ndarray,
    alpha: float = 1.0,
) -> None:
    """A vessel turned on the wheel: its profile is given by radii from the foot to the lip, relative to the height."""
    if alpha <= 0:
        return
    d, v = canvas.side, np.linspace(0, 1, 24)
    radius = np.interp(v, np.linspace(0, 1, len(radii)), radii) * height
    if canvas.attributes.organic > -0.2:
        radius = ndimage.gaussian_filter1d(radius, 1.6, mode="nearest")
    _cast(canvas, x, y, float(radius.max()), alpha)
    up = y - v * height
    outline = np.concatenate([np.column_stack([x - radius, up]), np.column_stack([x + radius, up])[::-1]])
    canvas.shapes([outline], colour, alpha, light=0.15)
    shine = x - 0.5 * d * radius
    streak = np.concatenate([np.column_stack([shine - 0.007, up]), np.column_stack([shine + 0.007, up])[::-1]])[2:-2]
    canvas.shapes([streak], canvas.palette.light, 0.5 * alpha, blur=0.006, texture=0)


def _bouquet(canvas: Canvas, x: float, y: float, size: float) -> None:
    palette, rng, most = canvas.palette, canvas.rng("bouquet"), 26
    shown = opacities(3 + 20 * canvas.level["busy"], most)
    angle, length, heads = (
        rng.normal(1.57, 0.50, most),
        size * rng.uniform(0.50, 1.10, most),
        rng.uniform(0.036, 0.062, most),
    )
    at = np.column_stack([x + np.cos(angle) * length, y - 0.8 * np.sin(angle) * length])
    keep = np.flatnonzero(shown > 0)
    green = mix(palette.middle, oklab_from_hex("#3a5a2c"), 0.55)
    stems = [np.array([(x - 0.005, y + 0.01), at[k], (x + 0.005, y + 0.01)]) for k in keep]
    canvas.shapes(stems, green, hand=False)
    leaves = []
    for q in rng.uniform(0.2, 2.9, 12)[: 5 + int(7 * min(1.0, canvas.level["busy"]))].tolist():
        a, b = x + math.cos(q) * 0.55 * size, y - 0.02 - abs(math.sin(q)) * 0.35 * size
        leaves.append(
            np.array([(x, y + 0.01), (a + 0.02, b - 0.01), (a + 0.06 * math.cos(q), b - 0.035), (a - 0.01, b + 0.018)])
        )
    canvas.shapes(leaves, shifted(green, -0.04), tones=0.08 * np.sin(np.arange(len(leaves)) * 2.1), texture=1.5)
    order = keep[np.argsort(-length[keep], kind="stable")]
    for k in order.tolist():
        colour = (palette.accent, palette.second, mix(palette.accent, palette.light, 0.55))[k % 3]
        _flower(canvas, at[k], float(heads[k] * shown[k] ** 0.5), colour, k)


def _flower(canvas: Canvas, at: np.ndarray, radius: float, colour: np.ndarray, turn: int) -> None:
    """Three rings of petals, lighter inwards, and a dark eye."""
    count = 6 if canvas.attributes.organic < 0.2 else 9
    petals, tones = [], []
    for ring, tone in ((1.0, -0.08), (0.68, 0.02), (0.38, 0.09)):
        for k in range(count):
            q = k * 2 * math.pi / count + turn + ring
            angles = np.array([q + 0.9, q - 0.28, q, q + 0.28, q - 0.9])
            reach = ring * radius * np.array([0.32, 1.0, 1.12, 1.0, 0.32])
            petals.append(at + np.column_stack([np.cos(angles), np.sin(angles)]) * reach[:, None])
            tones.append(tone - 0.05 * math.sin(q) * -1 - 0.04 * canvas.side * math.cos(q))
    canvas.shapes(petals, colour, hand=False, tones=tones)
    canvas.disc(float(at[0]), float(at[1]), 0.2 * radius, mix(canvas.palette.light, canvas.palette.near, 0.4))


def _fruit(canvas: Canvas) -> None:
    palette, d = canvas.palette, canvas.side
    rng, most = canvas.rng("fruit"), 10
    shown = opacities(1.2 + 8.5 * canvas.level["busy"], most)
    places = (
        0.5
        + d * np.array([-0.10, 0.17, -0.33, 0.34, -0.21, 0.06, 0.45, -0.46, 0.25, -0.02])
        + 0.015 * rng.normal(size=most)
    )
    sizes = 0.052 * rng.uniform(0.85, 1.18, most)
    rows = TABLE + 0.09 + 0.05 * (np.arange(most) % 3) + 0.01 * rng.random(most)
    kinds = (palette.accent, mix(palette.accent, palette.light, 0.6), mix(palette.middle, palette.light, 0.35))
    keep = np.flatnonzero(shown > 0)
    for k in keep[np.argsort(rows[keep], kind="stable")].tolist():
        x, y, r = float(places[k]), float(rows[k]), float(sizes[k] * shown[k] ** 0.5)
        _cast(canvas, x, y, r)
        canvas.sphere(x, y - 0.8 * r, r, shifted(kinds[k % 3], -0.03), squash=0.94)
        canvas.shapes([box(x - 0.06 * r, y - 2.0 * r, x + 0.06 * r, y - 1.6 * r)], palette.near, 0.8, hand=False)
