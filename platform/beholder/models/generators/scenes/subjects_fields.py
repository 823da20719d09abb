"""Subjects over the fields: windmill, hot-air balloon."""

from __future__ import annotations

import math

import numpy as np

from beholder.models.generators.scenes.canvas import Canvas, box
from beholder.models.generators.scenes.colour import blended, oklab_from_hex
from beholder.models.generators.scenes.curves import clip01, mix, opacities, ramp, smoothstep
from beholder.models.generators.scenes.landscape import birds, defocus, ridges, sky
from beholder.models.generators.scenes.terrain import bushes, meadow


def windmill(canvas: Canvas) -> None:
    """A windmill in tulip fields whose rows run to one vanishing point."""
    busy, side, horizon = canvas.level["busy"], canvas.side, 0.58
    sky(canvas, horizon)
    ridges(canvas, 0.53, 0.58, 1.2 + 1.6 * busy, amplitude=0.035)
    _tulip_rows(canvas, horizon)
    for k, alpha in enumerate(opacities(4.5 * (busy - 0.42), 2)):
        _mill(canvas, 0.5 - side * (0.36 + 0.22 * k), 0.605, 0.10 - 0.025 * k, 0.35, f"far{k}", float(alpha))
    defocus(canvas)
    canvas.shade(0.5 + side * 0.12, 0.715, 0.17, 0.016, 0.55)
    with canvas.painting_subject():
        _mill(canvas, 0.5, 0.72, 0.40, 0.0, "blades", 1.0)
    bushes(canvas, np.full(canvas.size, 0.735, np.float32), 5 * (busy - 0.25), 0.022)
    birds(canvas, 0.22)


def _tulip_rows(canvas: Canvas, horizon: float) -> None:
    palette, busy = canvas.palette, min(1.1, canvas.level["busy"])
    vanishing = 0.5 - canvas.side * 0.12
    down = np.maximum((canvas.y - horizon) / (1 - horizon), 0)
    angle = (canvas.x - vanishing) / np.maximum(down, 0.012)
    bend = 4.5 * (angle + 0.25 * canvas.attributes.organic * np.sin(down * 5) * (1 - np.minimum(down, 1)))
    row = np.floor(bend + 0.5)
    inside = np.abs(bend - row) * 2
    colours = np.stack(
        [palette.accent, mix(palette.accent, palette.second, 0.6), mix(palette.middle, palette.accent, 0.25),
         mix(palette.light, palette.accent, 0.35), mix(palette.accent, palette.near, 0.25)], 1
    )  # fmt: skip
    # Sparse fields are mostly grass: the flower colour fades out with busy, row by row.
    flower = colours[:, (row.astype(int) * 7) % 5]
    grass = mix(palette.middle, palette.near, 0.30)
    fade = clip01(2.6 * busy - 0.25 * ((row * 3) % 4))
    paint = blended(np.broadcast_to(grass[:, None, None], flower.shape), flower, fade * smoothstep(0.90, 0.55, inside))
    paint = blended(
        paint,
        np.broadcast_to(palette.horizon[:, None, None], paint.shape),
        np.exp(-9 * down) * (0.5 + 0.35 * canvas.level["soft"]),
    )
    tufts = canvas.noise("grain", 0.45, key="tulips") * np.minimum(down, 1) ** 0.5
    paint[0] += 0.030 * tufts * (0.25 + 1.4 * busy) + canvas.texture * canvas.relief - 0.06 * np.minimum(down, 1)
    canvas.fill(canvas.under(np.full(canvas.size, horizon, np.float32)), paint)
    _tulip_heads(canvas, horizon)


def _tulip_heads(canvas: Canvas, horizon: float) -> None:
    palette, most = canvas.palette, 420
    scatter = canvas.spread("heads", most, 3)
    shown = opacities(most * 1.1 * canvas.level["busy"] ** 1.6, most)
    keep = shown > 0
    x, u, v, w = scatter[keep].T
    near = 0.12 + 1.05 * u**0.8
    y, size = horizon + (1 - horizon) * near, 0.012 * near * (0.6 + 0.8 * v) * shown[keep] ** 0.5
    order = np.argsort(y, kind="stable")
    cup = np.array([(-0.5, 0), (-0.62, -0.8), (-0.25, -0.55), (0, -1), (0.25, -0.55), (0.62, -0.8), (0.5, 0)])
    heads = np.column_stack([x, y])[order][:, None] + size[order][:, None, None] * cup
    canvas.shapes(
        heads,
        palette.accent,
        0.8,
        hand=False,
        texture=0,
        tones=0.14 * (w[order] - 0.45),
        other=palette.second,
        blends=(v[order] > 0.72) * 0.9,
    )


def _mill(canvas: Canvas, x: float, base: float, h: float, distance: float, key: str, alpha: float) -> None:
    palette = canvas.palette
    half, top = 0.215 * h, base - 0.78 * h
    body = mix(mix(palette.second, palette.near, 0.18), palette.horizon, distance)
    dark = mix(palette.near, palette.horizon, distance)
    canvas.shapes(
        [np.array([(x - half, base), (x - 0.55 * half, top), (x + 0.55 * half, top), (x + half, base)])],
        body,
        alpha,
        light=0.13,
    )
    canvas.shapes([box(x - 1.25 * half, base - 0.33 * h, x + 1.25 * half, base - 0.30 * h)], dark, alpha)
    arc = np.linspace(0, math.pi, 13 if canvas.attributes.organic > -0.3 else 4)
    cap = np.column_stack([x + 0.66 * half * np.cos(arc), top - 0.8 * half * np.sin(arc)])
    canvas.shapes([cap], mix(mix(palette.accent, palette.near, 0.5), palette.horizon, distance), alpha, light=0.10)
    openings = [box(x - 0.033 * h, base - 0.16 * h, x + 0.033 * h, base)]
    openings += [
        box(x + q * h - 0.022 * h, base - (f + 0.07) * h, x + q * h + 0.022 * h, base - f * h)
        for q, f in ((-0.06, 0.42), (0.06, 0.58))
    ]
    pane = mix(dark, palette.light, 0.85 * ramp(0.3, 0.8, canvas.night))
    canvas.shapes(openings, pane, alpha, hand=False)
    turn, hub = canvas.rng(key).uniform(0.3, 1.2), (x - canvas.side * 0.03 * h, top - 0.18 * half)
    bars, cloth = [], []
    for k in range(4):
        cos, sin = math.cos(turn + k * math.pi / 2), math.sin(turn + k * math.pi / 2)
        rotate = np.array([(cos, sin), (-sin, cos)]) * h

        def blade(u0: float, v0: float, u1: float, v1: float, rotate: np.ndarray = rotate) -> np.ndarray:
            # Four products instead of a matrix product: see colour.py.
            u, v = np.array([u0, u1, u1, u0]), np.array([v0, v0, v1, v1])
            return np.array(hub) + u[:, None] * rotate[0] + v[:, None] * rotate[1]

        bars += [blade(0, -0.012, 0.68, 0.010), blade(0.14, 0.105, 0.66, 0.120)]
        bars += [blade(u, 0.01, u + 0.012, 0.115) for u in np.linspace(0.14, 0.64, 7).tolist()]
        cloth.append(blade(0.14, 0.015, 0.65, 0.112))
    canvas.shapes(cloth, mix(palette.second, palette.horizon, distance), 0.88 * alpha, hand=False)
    canvas.shapes(bars, dark, 0.95 * alpha, hand=False)
    canvas.disc(*hub, 0.030 * h, mix(palette.accent, palette.horizon, distance), alpha)


def balloon(canvas: Canvas) -> None:
    """A striped hot-air balloon above hills, smaller and hazier ones behind it."""
    palette, busy, side = canvas.palette, canvas.level["busy"], canvas.side
    sky(canvas, 0.74)
    ridges(canvas, 0.62, 0.86, 3 + 2.2 * busy, amplitude=0.09)
    meadow(canvas, 0.93 + 0.02 * canvas.line("ridge", 2))
    pairs = [
        (palette.second, palette.accent),
        (mix(palette.accent, palette.zenith, 0.5), palette.second),
        (palette.accent, palette.light),
        (palette.middle, palette.second),
    ]
    rng, most = canvas.rng("others"), 9
    shift = rng.normal(0, 0.04, (most, 2))
    shown = opacities(10.5 * (busy - 0.16), most)
    spots = (
        (-0.20, 0.50),
        (-0.34, 0.26),
        (0.30, 0.52),
        (-0.44, 0.46),
        (0.24, 0.20),
        (-0.12, 0.16),
        (0.40, 0.36),
        (-0.55, 0.20),
        (0.52, 0.16),
    )
    for k in np.flatnonzero(shown > 0).tolist()[::-1]:
        far = min(0.62, 0.18 + 0.07 * k)
        one, two = (mix(c, palette.horizon, far) for c in pairs[k % 4])
        x, y = 0.5 + side * spots[k][0] + float(shift[k, 0]), spots[k][1] + float(shift[k, 1])
        _envelope(canvas, x, y, (0.064 - 0.0045 * k) * float(shown[k]) ** 0.5, one, two, far)
    birds(canvas, 0.48)
    defocus(canvas)
    with canvas.painting_subject():
        _envelope(canvas, 0.5, 0.345, 0.185, palette.accent, palette.second, 0.0)


def _envelope(canvas: Canvas, x: float, y: float, r: float, one: np.ndarray, two: np.ndarray, far: float) -> None:
    """The balloon's bag with gores at equal angles, ropes and basket."""
    palette = canvas.palette
    rope, wicker = (
        mix(palette.near, palette.horizon, far),
        mix(oklab_from_hex("#6b4524"), palette.near, 0.35 + 0.3 * far),
    )
    skirt = np.array(
        [
            (x - 0.82 * r, y + 0.54 * r),
            (x - 0.2 * r, y + 1.38 * r),
            (x + 0.2 * r, y + 1.38 * r),
            (x + 0.82 * r, y + 0.54 * r),
        ]
    )
    canvas.shapes([skirt], mix(one, palette.near, 0.22), light=0.13)
    gores = []
    for a, b in ((-0.78, -0.46), (-0.16, 0.16), (0.46, 0.78)):
        gores.append(
            np.array(
                [
                    (x + a * r, y + 0.56 * r),
                    (x + b * r, y + 0.56 * r),
                    (x + 0.24 * b * r, y + 1.38 * r),
                    (x + 0.24 * a * r, y + 1.38 * r),
                ]
            )
        )
    canvas.shapes(gores, mix(two, palette.near, 0.22), light=0.13, hand=False)
    canvas.sphere(x, y, r, one, squash=1.02, gores=two, gloss=0.4)
    ropes = []
    for e in (-0.18, -0.06, 0.06, 0.18):
        ropes.append(
            np.array(
                [
                    (x + e * r, y + 1.36 * r),
                    (x + 0.72 * e * r, y + 1.74 * r),
                    (x + 0.72 * e * r + 0.0024, y + 1.74 * r),
                    (x + e * r + 0.0024, y + 1.36 * r),
                ]
            )
        )
    canvas.shapes(ropes, rope, hand=False)
    basket = np.array(
        [
            (x - 0.14 * r, y + 1.72 * r),
            (x - 0.11 * r, y + 1.97 * r),
            (x + 0.11 * r, y + 1.97 * r),
            (x + 0.14 * r, y + 1.72 * r),
        ]
    )
    canvas.shapes([basket], wicker, light=0.06)
    canvas.glow(x, y + 0.9 * r, 1.1 * r, palette.light, 0.55 * canvas.night)
