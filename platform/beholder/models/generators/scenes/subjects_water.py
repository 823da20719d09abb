"""Subjects at the water: lighthouse, sailing boat, stone bridge."""

from __future__ import annotations

import math

import numpy as np

from beholder.models.generators.scenes.canvas import Canvas, box
from beholder.models.generators.scenes.colour import blended, shifted
from beholder.models.generators.scenes.curves import Field, bump, clip01, fading, lerp, mix, opacities, ramp, smoothstep
from beholder.models.generators.scenes.landscape import birds, defocus, lamp, ridges, sky
from beholder.models.generators.scenes.noise import displaced
from beholder.models.generators.scenes.terrain import bushes, crown, fleet, foliage, meadow, water

FOAM = np.array([0.95, 0.0, 0.0], np.float32)


def lighthouse(canvas: Canvas) -> None:
    """A striped tower on a rock in the sea; its beams are strong at night."""
    busy, horizon = canvas.level["busy"], 0.66
    sky(canvas, horizon)
    ridges(canvas, 0.60, 0.65, 1 + 1.6 * busy, amplitude=0.05)
    water(canvas, horizon, 0.32)
    fleet(canvas, 0.68, 0.92)
    defocus(canvas)
    base = 0.71
    hill = clip01(np.abs(canvas.x[0] - 0.5 - canvas.side * 0.10) - 0.10) ** 1.3 * 1.25
    rock = base + 0.02 + hill + 0.055 * canvas.line("rock", 5, 0.35 + 0.35 * canvas.level["rough"])
    _beams(canvas, base - 0.45)
    with canvas.painting_subject():
        _tower(canvas, base, 0.43, 0.052)
    lamp(canvas, 0.5, base - 0.455, 0.02)
    _rock(canvas, rock, base, horizon)
    birds(canvas, 0.30)


def _beams(canvas: Canvas, y: float) -> None:
    across = canvas.x - 0.5
    for way in (-1, 1):
        spread = 1 - np.abs(canvas.y - y + 0.16 * across) / (0.006 + 0.14 * np.abs(across))
        beam = clip01(spread) * (across * way > 0) * np.exp(-2.0 * np.abs(across))
        canvas.tint(beam, canvas.palette.light, 0.05 + 0.62 * canvas.night)


def _tower(canvas: Canvas, base: float, height: float, half: float) -> None:
    palette = canvas.palette
    top = base - height

    def edge(y: float) -> float:
        return half * lerp(1.0, 0.62, (base - y) / height)

    def ring(low: float, high: float) -> np.ndarray:
        return np.array(
            [(0.5 - edge(low), low), (0.5 - edge(high), high), (0.5 + edge(high), high), (0.5 + edge(low), low)]
        )

    canvas.shapes([ring(base + 0.04, top)], palette.second, light=0.14)
    for i, alpha in fading(min(4.5, 2.2 + 2.4 * canvas.level["busy"])):
        low = base - height * (0.06 + 0.2 * i)
        canvas.shapes([ring(low, low - 0.1 * height)], palette.accent, 0.95 * alpha, light=0.14)
    g = edge(top)
    windows = [
        box(0.5 + q * 0.3 * g - 0.005, base - f * height - 0.020, 0.5 + q * 0.3 * g + 0.005, base - f * height)
        for f, q in ((0.20, 1), (0.48, -1), (0.74, 1))
    ]
    canvas.shapes(windows, mix(palette.near, palette.light, 0.9 * ramp(0.3, 0.8, canvas.night)), hand=False)
    canvas.shapes([box(0.5 - 1.5 * g, top - 0.012, 0.5 + 1.5 * g, top)], palette.near)
    posts = [
        box(0.5 + q * g - 0.0015, top - 0.032, 0.5 + q * g + 0.0015, top - 0.010) for q in np.linspace(-1.4, 1.4, 7)
    ]
    canvas.shapes([*posts, box(0.5 - 1.4 * g, top - 0.034, 0.5 + 1.4 * g, top - 0.031)], palette.near, 0.9, hand=False)
    canvas.shapes(
        [box(0.5 - 0.75 * g, top - 0.058, 0.5 + 0.75 * g, top - 0.012)],
        mix(palette.light, palette.accent, 0.15),
        texture=0,
    )
    canvas.shapes(
        [np.array([(0.5 - g, top - 0.057), (0.5, top - 0.105), (0.5 + g, top - 0.057)])], palette.accent, light=0.10
    )


def _rock(canvas: Canvas, rock: np.ndarray, base: float, horizon: float) -> None:
    """The craggy rock with a keeper's hut, tufts of grass and foam where it meets the water."""
    palette, side, rough = canvas.palette, canvas.side, canvas.level["rough"]
    crags = np.tanh(3 * canvas.noise("land", 0.38, 0.24, "rock"))
    paint = blended(mix(palette.middle, palette.near, 0.45), palette.near, smoothstep(0, 0.25, canvas.y - rock[None]))
    paint[0] += (0.02 + 0.05 * rough) * crags + 1.3 * canvas.texture * canvas.relief
    paint[0] += 0.10 * np.exp(-40 * clip01(canvas.y - rock[None]))
    canvas.fill(canvas.under(rock), paint)
    hut, wall = 0.5 + side * 0.135, shifted(palette.second, -0.05)
    with canvas.painting_subject():
        canvas.shapes([box(hut - 0.05, base - 0.03, hut + 0.05, base + 0.04)], wall, light=0.06)
        roof = np.array(
            [
                (hut - 0.062, base - 0.028),
                (hut - 0.03, base - 0.068),
                (hut + 0.03, base - 0.068),
                (hut + 0.062, base - 0.028),
            ]
        )
        canvas.shapes([roof], shifted(palette.accent, -0.08), light=0.05)
        pane = mix(palette.near, palette.light, 0.9 * ramp(0.25, 0.7, canvas.night))
        canvas.shapes(
            [
                box(hut - 0.030, base - 0.015, hut - 0.012, base + 0.008),
                box(hut + 0.012, base - 0.015, hut + 0.030, base + 0.008),
            ],
            pane,
            hand=False,
        )
    front = base + 0.035 + 0.8 * (rock - base) + 0.01 * canvas.line("front", 9)
    canvas.fill(canvas.under(front), np.concatenate([paint[:1] - 0.02, paint[1:]]))
    bushes(canvas, front + 0.01, 8 * (canvas.level["busy"] - 0.3), 0.020, most=8)
    ring = bump(canvas.y, np.minimum(rock, 1.2)[None] - 0.004, 0.006 + 0.014 * rough)
    torn = smoothstep(-0.9, 0.9, canvas.noise("land", 0.38, key="foam") + canvas.attributes.rough)
    foam = (
        ring * torn * smoothstep(horizon, horizon + 0.03, canvas.y) * smoothstep(base + 0.03, base + 0.07, rock)[None]
    )
    canvas.tint(foam, mix(FOAM, palette.horizon, 0.6 * canvas.night), 0.80)


def boat(canvas: Canvas) -> None:
    """A sailing boat with two bellied sails on open water, smaller ones behind when busy."""
    palette, busy, side, horizon = canvas.palette, canvas.level["busy"], canvas.side, 0.60
    sky(canvas, horizon)
    ridges(canvas, 0.53, 0.60, 1.2 + 1.8 * busy, amplitude=0.06)
    water(canvas, horizon, 0.28)
    fleet(canvas, 0.615, 0.68, 10)
    for i, alpha in enumerate(opacities(4.6 * busy - 0.9, 4)):
        x = 0.5 - side * (0.20 + 0.15 * i) if i % 2 == 0 else 0.5 + side * (0.20 + 0.06 * i)
        _sailing(canvas, x, 0.66 + 0.018 * (i % 3), 0.15 - 0.02 * i, float(alpha))
    defocus(canvas)
    canvas.glow(0.5, 0.58, 0.20, mix(palette.horizon, palette.light, 0.6), 0.25, squash=1.1)
    with canvas.painting_subject():
        _sailing(canvas, 0.5, 0.77, 0.40, 1.0)
    _spray(canvas, 0.5, 0.80, 0.2)
    birds(canvas, 0.26)


def _sailing(canvas: Canvas, x: float, y: float, h: float, alpha: float) -> None:
    palette, d = canvas.palette, -canvas.side
    lean, half, t = 0.07 * h * canvas.level["rough"] * d, 0.46 * h, np.linspace(0, 1, 14)
    keel = [(x + half * d * q, y + 0.11 * h * (1 - abs(q) ** 3)) for q in np.linspace(-0.8, 0.85, 9).tolist()]
    hull = np.array([(x - half * d, y - 0.03 * h), *keel, (x + 1.12 * half * d, y - 0.06 * h)])

    def sail(way: float, foot: float, belly: float, low: float, high: float) -> np.ndarray:
        fullness = belly * np.sin(t * math.pi) * h
        leech = np.column_stack(
            [x + lean * (1 - t) + way * (foot * h * t + fullness), y - high * h * (1 - t) - low * h * t]
        )
        return np.vstack([leech, [(x + 0.03 * way * h, y - low * h)]])

    canvas_colour, line = mix(palette.second, palette.light, 0.3), y + 0.06 * h
    mast = np.array(
        [
            (x - 0.008 * h, y),
            (x + lean - 0.006 * h, y - 1.04 * h),
            (x + lean + 0.006 * h, y - 1.04 * h),
            (x + 0.008 * h, y),
        ]
    )
    canvas.shapes([mast], palette.near, alpha, mirror=line, hand=False)
    canvas.shapes([sail(-d, 0.42, 0.07, 0.09, 1.0)], canvas_colour, alpha, light=0.07, texture=0.35, mirror=line)
    canvas.shapes(
        [sail(d, 0.46, -0.07, 0.06, 0.92)],
        mix(canvas_colour, palette.accent, 0.8),
        alpha,
        light=-0.07,
        texture=0.35,
        mirror=line,
    )
    if h > 0.3:
        seams = [
            box(x - d * 0.02 * h, y - f * h, x - d * (0.42 * (1 - f) + 0.05) * h, y - f * h + 0.004 * h)
            for f in (0.25, 0.42, 0.59, 0.76)
        ]
        canvas.shapes(seams, shifted(canvas_colour, -0.12), 0.2 + 0.5 * min(1.0, canvas.level["busy"]), hand=False)
        pennant = np.array(
            [(x + lean, y - 1.04 * h), (x + lean - d * 0.10 * h, y - 1.015 * h), (x + lean, y - 0.99 * h)]
        )
        canvas.shapes([pennant], palette.accent, alpha)
    canvas.shapes([hull], mix(palette.near, palette.accent, 0.15), alpha, light=0.06, mirror=line + 0.03 * h)
    stripe = np.array([hull[0], hull[-1], hull[-1] + (0, 0.024 * h), hull[0] + (0, 0.024 * h)])
    canvas.shapes([stripe], palette.second, alpha, hand=False)


def _spray(canvas: Canvas, x: float, y: float, half: float) -> None:
    wake = (
        bump(canvas.y, y + 0.018, 0.010)
        * bump(canvas.x, x, half)
        * (0.6 + 0.4 * canvas.noise("fibre", 0.12, 0.5, "wake"))
    )
    canvas.tint(clip01(wake), mix(canvas.palette.light, FOAM, 0.4), 0.25 + 0.45 * canvas.level["rough"])


def bridge(canvas: Canvas) -> None:
    """A stone bridge whose arches close to circles in the water."""
    palette, busy, side, horizon = canvas.palette, canvas.level["busy"], canvas.side, 0.67
    sky(canvas, horizon)
    ridges(canvas, 0.44, 0.64, 2 + 1.8 * busy, amplitude=0.09)
    # A veil of light behind the bridge keeps its outline apart from the hills.
    canvas.tint(
        smoothstep(0.36, 0.58, canvas.y) * smoothstep(0.80, 0.64, canvas.y),
        mix(palette.horizon, palette.light, 0.3),
        0.32,
    )
    defocus(canvas)
    deck = 0.47 - 0.055 * np.cos((canvas.x[0] - 0.5) * 2.6)
    with canvas.painting_subject():
        _stonework(canvas, deck, horizon)
        _parapet(canvas, deck)
    mark = canvas.subject.copy()
    water(canvas, horizon, 0.22)
    row = canvas.row(horizon)
    canvas.subject[row:] = (
        0.6 * mark[row - 1 - np.minimum(np.arange(canvas.size - row), row - 1)] if 0 < row < canvas.size else 0
    )
    fleet(canvas, 0.70, 0.90)
    away = canvas.x[0] if side < 0 else 1 - canvas.x[0]
    shore = 0.98 - 0.20 * smoothstep(0.26, -0.05, away) + 0.015 * canvas.line("shore", 4)
    meadow(canvas, shore, flowers=1.2)
    x = 0.5 + side * 0.50
    crown(
        canvas,
        np.array([[x, 0.55], [x + 0.06 * side, 0.60], [x - 0.05 * side, 0.63]]),
        0.13,
        foliage(canvas, 0.15),
        "shore",
    )
    canvas.shapes([np.array([(x - 0.014, 0.86), (x - 0.005, 0.6), (x + 0.005, 0.6), (x + 0.014, 0.86)])], palette.near)
    bushes(canvas, shore + 0.01, 7 * (busy - 0.2), 0.03)
    birds(canvas, 0.22)


def _stonework(canvas: Canvas, deck: np.ndarray, water_line: float) -> None:
    """The band of stone with its arches cut out, courses of brick and the shaded inside of each arch."""
    palette, rough, span = canvas.palette, canvas.level["rough"], 0.30
    holes: Field = np.zeros_like(canvas.lab[0])
    crown_y = deck + 0.055
    for k in range(-3, 4):
        u = (canvas.x - 0.5 - k * span) / (0.40 * span)
        round_arch = np.sqrt(clip01(1 - u * u))
        pointed = clip01(1.25 - 1.2 * np.abs(u))
        curve = mix(pointed, round_arch, ramp(-0.9, -0.1, canvas.attributes.organic))
        top = water_line - (water_line - crown_y[None]) * curve
        holes = np.maximum(holes, clip01((canvas.y - top) * (canvas.size * canvas.zoom) + 0.5) * (np.abs(u) < 1))
    course = (canvas.y - deck[None]) / 0.021
    row = np.floor(course)
    along = canvas.x / 0.042 + 0.5 * row
    joints = ((course % 1 < 0.14) | (along % 1 < 0.07)).astype(np.float32)
    stone = mix(mix(palette.second, palette.middle, 0.28), palette.near, 0.12)
    stone[1:] *= 0.45  # grey against the colours behind it, or hazy and one-coloured palettes swallow the bridge
    paint = np.broadcast_to(stone[:, None, None], canvas.lab.shape).copy()
    paint[0] += -0.055 * joints * (0.30 + rough) + 1.4 * canvas.texture * canvas.relief
    paint[0] += 0.03 * (0.5 + rough) * np.sin(row * 7.3 + np.floor(along) * 3.1) - 0.14 * clip01(
        (canvas.y - deck[None]) / 0.22
    )
    shift = int(canvas.side * canvas.size * canvas.zoom * 0.022)
    inside = displaced(holes, shift, 0) * (1 - holes)
    paint[0] -= 0.17 * inside
    canvas.fill(canvas.under(deck) * (canvas.y < water_line + 0.01) * (1 - holes), paint)
    canvas.fill(canvas.under(deck - 0.020) * (1 - canvas.under(deck + 0.006)), shifted(stone, 0.09))


def _parapet(canvas: Canvas, deck: np.ndarray) -> None:
    """Lamps along the bridge, more when busy, and people crossing it."""
    palette, busy = canvas.palette, canvas.level["busy"]
    for k, x in enumerate((0.5 + 0.12 * np.array([0, -1, 1, -2, 2, -3, 3, -4, 4, -5, 5, -6, 6])).tolist()):
        alpha = float(np.clip(17 * busy - 1 - k, 0, 1))
        y = float(canvas.height_at(deck, x)) - 0.018
        canvas.shapes([box(x - 0.0035, y - 0.06, x + 0.0035, y)], palette.near, alpha, hand=False)
        lamp(canvas, x, y - 0.065, 0.013, alpha)
    scatter = canvas.spread("walkers", 24, 2)
    shown = opacities(40 * (busy - 0.45), 24)
    keep = shown > 0
    x, size = scatter[keep, 0], (0.020 + 0.008 * scatter[keep, 1]) * shown[keep] ** 0.5
    body = np.array(
        [
            (-0.16, 0),
            (-0.18, -0.62),
            (-0.10, -0.72),
            (-0.14, -0.88),
            (0, -1),
            (0.14, -0.88),
            (0.10, -0.72),
            (0.18, -0.62),
            (0.16, 0),
        ]
    )
    feet = np.column_stack([x, canvas.height_at(deck, x) - 0.012])
    canvas.shapes(
        feet[:, None] + size[:, None, None] * body,
        palette.near,
        0.9,
        hand=False,
        other=palette.accent,
        blends=(scatter[keep, 1] > 0.6) * 0.8,
    )
