"""Built subjects: skyline, cottage."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from beholder.models.generators.scenes.canvas import Canvas, box
from beholder.models.generators.scenes.colour import oklab_from_hex, shifted
from beholder.models.generators.scenes.curves import bump, clip01, lerp, mix, opacities, ramp, smoothstep
from beholder.models.generators.scenes.landscape import birds, defocus, lamp, ridges, sky
from beholder.models.generators.scenes.terrain import bushes, crown, fleet, foliage, meadow, water

LAMPLIGHT = "#ffc65c"


def skyline(canvas: Canvas) -> None:
    """Three depths of towers with haze between them, mirrored in a river, lamps on the quay."""
    palette, busy, horizon = canvas.palette, canvas.level["busy"], 0.72
    sky(canvas, horizon)
    for depth in range(3):
        with canvas.painting_subject():
            _towers(canvas, depth, depth / 2, horizon)
        if depth < 2:
            defocus(canvas, 0.5)
            haze = smoothstep(horizon - 0.34, horizon, canvas.y) * (canvas.y < horizon)
            canvas.tint(
                haze, mix(palette.horizon, palette.light, 0.3), (0.26 - 0.10 * depth) * (1 - 0.4 * canvas.night)
            )
    water(canvas, horizon, 0.28)
    fleet(canvas, 0.75, 0.92, 10)
    dark = shifted(palette.near, -0.05)
    quay = np.full(canvas.size, 0.965, np.float32)
    meadow(canvas, quay, "quay", low=dark, flowers=0.7)
    canvas.fill(bump(canvas.y, 0.968, 0.007), dark)
    bushes(canvas, quay + 0.03, 9 * busy - 1, 0.022)
    posts = np.sort(0.5 + 0.13 * np.arange(-7, 8))
    shown = clip01(np.array([16 * busy - 1.5 * abs(k) for k in range(-7, 8)]))
    canvas.shapes([box(x - 0.003, 0.90, x + 0.003, 0.97) for x in posts[shown > 0].tolist()], dark, hand=False)
    for x, alpha in zip(posts.tolist(), shown.tolist(), strict=True):
        lamp(canvas, x, 0.895, 0.010 * alpha, alpha)
    birds(canvas, 0.20)


def _towers(canvas: Canvas, depth: int, nearness: float, foot: float) -> None:
    """One row of towers: bodies, shaded sides, spires and windows."""
    palette, level = canvas.palette, canvas.level
    haze = (1 - nearness) * (0.36 + 0.34 * level["soft"])
    colour = mix(mix(palette.far, mix(palette.middle, palette.near, 0.60), nearness), palette.horizon, min(0.9, haze))
    width, x, index = lerp(0.040, 0.082, nearness), -0.5, 0
    bodies, shades, spires, panes = [], [], [], []
    while x < 1.5:
        rng, index = canvas.rng(f"tower{depth}-{index}"), index + 1
        wide, gap = width * float(rng.uniform(0.6, 1.4)), float(rng.uniform(0.92, 1.30))
        tall, extra, style = rng.random(3).tolist()
        centre = math.exp(-(((x + wide / 2 - 0.5) / 0.30) ** 2))
        height = lerp(0.18, 0.04, nearness) + lerp(0.36, 0.20, nearness) * centre * (0.3 + 0.8 * tall) + 0.09 * extra
        top = foot - height
        bodies.append(_tower_outline(canvas, x, wide, top, foot, style))
        edge = x if canvas.side < 0 else x + 0.70 * wide
        shades.append(box(edge, top + 0.5 * wide, edge + 0.30 * wide, foot))
        if style > 1.05 - 0.75 * level["busy"] and centre > 0.30:
            spires.append(
                np.array(
                    [
                        (x + 0.44 * wide, top + 0.01),
                        (x + 0.5 * wide, top - 0.11 * centre),
                        (x + 0.56 * wide, top + 0.01),
                    ]
                )
            )
        panes += _windows(canvas, rng, x, wide, top, foot, nearness)
        x += wide * gap
    soft = 0.003 * level["soft"] * (1 - nearness)
    tones = 0.05 * np.sin(np.arange(len(bodies)) * 2.4)
    canvas.shapes(bodies, colour, tones=tones, hand=canvas.attributes.organic > 0.2, blur=soft)
    canvas.shapes(spires, colour, hand=False, blur=soft)
    canvas.shapes(shades, shifted(colour, -0.06), 0.8, hand=False)
    lit = mix(palette.light, oklab_from_hex(LAMPLIGHT), 0.55)
    day = shifted(mix(palette.light, palette.zenith, 0.45), -0.02)
    glass = mix(day, lit, ramp(-0.05, 0.45, canvas.night))
    canvas.shapes(panes, glass, (0.30 + 0.35 * nearness) * lerp(0.75, 1.35, canvas.night), hand=False, texture=0)


def _tower_outline(canvas: Canvas, x: float, wide: float, top: float, foot: float, style: float) -> np.ndarray:
    """A flat, stepped, gabled or, when organic, domed roof."""
    if style < canvas.level["organic"] - 0.35:
        arc = np.linspace(math.pi, 0, 9)
        dome = np.column_stack([x + wide / 2 + wide / 2 * np.cos(arc), top + 0.5 * wide - 0.5 * wide * np.sin(arc)])
        return np.vstack([[(x, foot)], dome, [(x + wide, foot)]])
    if style > 0.85:
        return np.array(
            [(x, foot), (x, top + 0.5 * wide), (x + wide / 2, top), (x + wide, top + 0.5 * wide), (x + wide, foot)]
        )
    if style > 0.5:
        inner, step = 0.22 * wide, 0.035
        return np.array(
            [
                (x, foot),
                (x, top + step),
                (x + inner, top + step),
                (x + inner, top),
                (x + wide - inner, top),
                (x + wide - inner, top + step),
                (x + wide, top + step),
                (x + wide, foot),
            ]
        )
    return np.array([(x, foot), (x, top), (x + wide, top), (x + wide, foot)])


def _windows(
    canvas: Canvas, rng: np.random.Generator, x: float, wide: float, top: float, foot: float, nearness: float
) -> list[np.ndarray]:
    pitch_x, pitch_y = 0.0135, 0.021
    columns, rows = max(1, int(0.68 * wide / pitch_x)), max(0, int((foot - top - 0.6 * wide - 0.02) / pitch_y))
    chance = rng.random((32, 12))[:rows, :columns]
    share = 0.02 + 0.62 * min(1.1, canvas.level["busy"]) + 0.10 * canvas.night
    lit = np.argwhere(chance < share)
    left, high = x + 0.16 * wide, top + 0.6 * wide
    w, h = 0.0062, 0.0095
    return [
        box(left + c * pitch_x, high + r * pitch_y, left + c * pitch_x + w, high + r * pitch_y + h)
        for r, c in lit.tolist()
    ]


def house(canvas: Canvas) -> None:
    """A cottage with a lit gable, path, garden and smoke; its windows glow at night."""
    palette, busy, side = canvas.palette, canvas.level["busy"], canvas.side
    sky(canvas, 0.64)
    ridges(canvas, 0.48, 0.66, 2 + 2.2 * busy)
    line = 0.70 + 0.02 * canvas.line("yard", 2) - 0.04 * bump(canvas.x[0], 0.5, 0.3)
    meadow(canvas, line)
    defocus(canvas)
    base, wide = 0.785, 0.165
    _garden_path(canvas, 0.5 - side * 0.35 * wide, base)
    back = np.array(
        [
            [0.5 + side * wide * 2.2, base - 1.0 * wide],
            [0.5 + side * wide * 2.6, base - 0.7 * wide],
            [0.5 + side * wide * 1.9, base - 0.6 * wide],
        ]
    )
    canvas.shapes(
        [
            np.array(
                [
                    (back[0, 0] - 0.010, base),
                    (back[0, 0] - 0.003, base - wide),
                    (back[0, 0] + 0.003, base - wide),
                    (back[0, 0] + 0.010, base),
                ]
            )
        ],
        palette.near,
    )
    crown(canvas, back, 0.62 * wide, foliage(canvas, 0.12), "back")
    canvas.shade(0.5 + side * 0.3 * wide, base + 0.01, 1.9 * wide, 0.016, 0.5)
    with canvas.painting_subject():
        _cottage(canvas, base, wide)
    _smoke(canvas, 0.5 + side * 1.13 * wide, base - 2.05 * wide)
    spots = np.array([-1.30, 1.62, -1.75, 0.85, -2.25, 2.3, 1.2, -2.7, 2.8]) * side * wide + 0.5
    shown = opacities(0.6 + 8.5 * busy, 9)
    for k in np.flatnonzero(shown > 0).tolist():
        size = wide * (0.24 + 0.06 * (k % 3)) * float(shown[k]) ** 0.5
        crown(
            canvas,
            np.array([[spots[k], base + 0.008 * k]]),
            size,
            foliage(canvas, 0.10 + 0.02 * k),
            f"bush{k}",
            0.72,
            16,
        )
    _fence(canvas)
    birds(canvas, 0.24)


class _Plan(NamedTuple):
    """Places on the house: u to the shaded side from its middle, v up from the ground, in half widths of the gable."""

    side: int
    base: float
    wide: float

    def at(self, u: float, v: float) -> tuple[float, float]:
        """World coordinates of a place."""
        return 0.5 + self.side * self.wide * u, self.base - self.wide * v

    def outline(self, *corners: tuple[float, float]) -> np.ndarray:
        """A polygon through places."""
        return np.array([self.at(u, v) for u, v in corners])

    def panel(self, u0: float, v0: float, u1: float, v1: float) -> np.ndarray:
        """A rectangle between two places."""
        return self.outline((u0, v0), (u1, v0), (u1, v1), (u0, v1))


def _cottage(canvas: Canvas, base: float, wide: float) -> None:
    """Gable and long side, two roof planes with their courses, chimney, then windows and door."""
    palette, plan = canvas.palette, _Plan(canvas.side, base, wide)
    eaves, peak = 0.95, 1.75
    wall, tile = mix(palette.second, palette.horizon, 0.15), mix(palette.accent, palette.near, 0.22)
    long_side = plan.outline((0.3, 0), (0.3, eaves), (1.5, eaves), (1.5, 0.01))
    canvas.shapes([long_side], shifted(wall, -0.13, 0, -0.004))
    gable = plan.outline((-1, 0), (-1, eaves), (-0.35, peak), (0.3, eaves), (0.3, 0))
    canvas.shapes([gable], wall, light=0.04)
    canvas.shapes([plan.panel(1.02, 1.45, 1.22, 2.05)], mix(palette.accent, palette.near, 0.55))
    front = plan.outline((-0.35, peak + 0.06), (1.02, peak), (1.66, eaves - 0.09), (0.36, eaves - 0.12))
    canvas.shapes([front], tile, light=-0.03)
    verge = plan.outline((-1.12, eaves - 0.15), (-0.35, peak + 0.08), (-0.27, peak + 0.04), (-1.02, eaves - 0.21))
    canvas.shapes([verge], shifted(tile, -0.09))
    courses = []
    for f in np.linspace(0.15, 0.9, 6).tolist():
        v, left, right = lerp(peak, eaves - 0.1, f), -0.35 + 0.71 * f, 1.02 + 0.64 * f
        courses.append(plan.panel(left, v, right, v - 0.022))
    canvas.shapes(courses, shifted(tile, -0.10), min(1.0, 0.15 + 0.6 * canvas.level["rough"]), hand=False)
    _windows_and_door(canvas, plan)


def _windows_and_door(canvas: Canvas, plan: _Plan) -> None:
    """Framed windows, dark by day and lit at night, and the door."""
    palette = canvas.palette
    windows = [
        (-0.84, 0.40, -0.58, 0.74),
        (0.58, 0.36, 0.84, 0.70),
        (1.06, 0.36, 1.32, 0.70),
        (-0.43, 0.98, -0.26, 1.24),
    ]
    glass = mix(
        mix(palette.zenith, palette.near, 0.45),
        mix(palette.light, oklab_from_hex(LAMPLIGHT), 0.45),
        ramp(0.1, 0.5, canvas.night),
    )
    canvas.shapes(
        [plan.panel(a - 0.035, b - 0.035, c + 0.035, e + 0.035) for a, b, c, e in windows],
        shifted(palette.second, 0.05),
        hand=False,
    )
    canvas.shapes([plan.panel(*w) for w in windows], glass, hand=False, texture=0, light=-0.05)
    bars = [plan.panel(a, (b + e) / 2 - 0.009, c, (b + e) / 2 + 0.009) for a, b, c, e in windows]
    bars += [plan.panel((a + c) / 2 - 0.009, b, (a + c) / 2 + 0.009, e) for a, b, c, e in windows[:3]]
    canvas.shapes(bars, palette.second, hand=False)
    canvas.shapes([plan.panel(-0.34, 0.0, 0.02, 0.60)], mix(palette.accent, palette.near, 0.45), light=0.03)
    canvas.shapes([plan.panel(-0.05, 0.28, -0.02, 0.31)], palette.light, 0.9, hand=False)
    for a, b, c, e in windows[:3]:
        x, y = plan.at((a + c) / 2, (b + e) / 2)
        canvas.glow(x, y, 0.075, palette.light, 0.55 * canvas.night)


def _garden_path(canvas: Canvas, x: float, y: float) -> None:
    t = np.linspace(0, 1, 24)
    middle = x - canvas.side * 0.32 * t**1.3 * (0.6 + 0.5 * np.sin(t * 4))
    half, down = 0.012 + 0.100 * t**1.4, y + (1.35 - y) * t
    outline = np.concatenate([np.column_stack([middle - half, down]), np.column_stack([middle + half, down])[::-1]])
    colour = mix(mix(canvas.palette.second, canvas.palette.middle, 0.42), canvas.palette.near, 0.3 * canvas.night)
    canvas.shapes([outline], colour, 0.88, texture=1.3)


def _smoke(canvas: Canvas, x: float, y: float) -> None:
    rise = clip01((y - canvas.y) / 0.38)
    curl = 0.022 * canvas.noise("cloud", 0.45, 0.6, "smoke")
    plume = bump(canvas.x, x + canvas.side * 0.24 * rise**1.4 + curl, 0.010 + 0.075 * rise)
    colour = mix(mix(canvas.palette.horizon, canvas.palette.second, 0.6), canvas.palette.far, 0.3 * canvas.night)
    canvas.tint(plume * smoothstep(0, 0.04, rise) * (1 - rise), colour, 0.58)


def _fence(canvas: Canvas) -> None:
    most, d = 44, canvas.side
    shown = opacities(most * 1.3 * (canvas.level["busy"] - 0.28), most)
    pickets, rails = [], []
    for i in np.flatnonzero(shown > 0).tolist():
        x, y, grow = 0.5 - d * 0.92 + d * 0.042 * i, 0.92 + 0.02 * math.sin(i * 0.4), float(shown[i])
        if abs(x - (0.5 - d * 0.22)) < 0.05:
            continue  # a gate where the path passes
        tall = 0.06 * grow
        pickets.append(
            np.array(
                [
                    (x - 0.006, y),
                    (x - 0.006, y - 0.85 * tall),
                    (x, y - tall),
                    (x + 0.006, y - 0.85 * tall),
                    (x + 0.006, y),
                ]
            )
        )
        rails.append(box(x - 0.021, y - 0.68 * tall, x + 0.022, y - 0.55 * tall))
    white = mix(canvas.palette.second, canvas.palette.middle, 0.12)
    canvas.shapes(rails, shifted(white, -0.05), 0.9, hand=False)
    canvas.shapes(pickets, white, 0.95, hand=False)
