"""Subjects of trees: a single one in a meadow, and a forest."""

from __future__ import annotations

import math

import numpy as np

from beholder.models.generators.scenes.canvas import Canvas
from beholder.models.generators.scenes.colour import blended, oklab_from_hex, shifted
from beholder.models.generators.scenes.curves import bump, clip01, fading, lerp, mix, opacities, smoothstep
from beholder.models.generators.scenes.landscape import birds, defocus, ridges, sky
from beholder.models.generators.scenes.terrain import bushes, crown, foliage, meadow


def tree(canvas: Canvas) -> None:
    """An old tree on a rise in a meadow, with its shadow and falling leaves."""
    palette, busy = canvas.palette, canvas.level["busy"]
    sky(canvas, 0.66)
    ridges(canvas, 0.50, 0.68, 2 + 2.2 * busy)
    line = 0.76 - 0.07 * bump(canvas.x[0], 0.5, 0.4) + 0.02 * canvas.line("meadow", 2)
    meadow(canvas, line)
    defocus(canvas)
    base = float(canvas.height_at(line, 0.5)) + 0.015
    canvas.shade(0.5 + canvas.side * 0.10, base + 0.02, 0.24, 0.028, 0.62)
    rng = canvas.rng("limbs")
    limbs: list[np.ndarray] = []
    tips: list[tuple[float, float]] = []
    _branch((0.5, base), 1.57 + rng.normal(0, 0.06), 0.155, 0.042, 4, limbs, tips, rng)
    root = np.array([(0.462, base + 0.012), (0.481, base - 0.05), (0.519, base - 0.05), (0.538, base + 0.012)])
    bark = mix(palette.near, oklab_from_hex("#4a3628"), 0.40)
    with canvas.painting_subject():
        canvas.shapes([root, *limbs], bark, light=0.07)
        ends = np.array(tips)
        crown(canvas, ends[:: max(1, len(ends) // 13)], 0.094, foliage(canvas), "crown", clump=22)
    _falling_leaves(canvas, shifted(foliage(canvas), 0.06))
    bushes(canvas, line + 0.015, 16 * (busy - 0.5), 0.035)
    birds(canvas, 0.26)


def _branch(foot: tuple[float, float], angle: float, length: float, width: float, generations: int,
            limbs: list[np.ndarray], tips: list[tuple[float, float]], rng: np.random.Generator) -> None:  # fmt: skip
    """Grow a limb and its children; append outlines to `limbs` and the last ends to `tips`."""
    x, y = foot
    end_x, end_y = x + length * math.cos(angle), y - length * math.sin(angle)
    nx, ny = math.sin(angle) * width / 2, math.cos(angle) * width / 2
    limbs.append(
        np.array(
            [
                (x - nx, y - ny),
                (end_x - 0.66 * nx, end_y - 0.66 * ny),
                (end_x + 0.66 * nx, end_y + 0.66 * ny),
                (x + nx, y + ny),
            ]
        )
    )
    if generations == 0:
        tips.append((end_x, end_y))
        return
    for turn in (-0.50, 0.08, 0.48) if generations > 2 else (-0.50, 0.48):
        child, shorter = angle + turn + rng.normal(0, 0.15), length * rng.uniform(0.66, 0.82)
        _branch((end_x, end_y), child, shorter, 0.64 * width, generations - 1, limbs, tips, rng)


def _falling_leaves(canvas: Canvas, colour: np.ndarray) -> None:
    rng, most = canvas.rng("falling"), 40
    shown = opacities(46 * (canvas.level["busy"] - 0.12), most)
    places = np.column_stack([0.5 + canvas.side * 0.04 + rng.normal(0, 0.22, most), rng.uniform(0.42, 0.97, most)])
    leaf = np.array([(-0.006, 0), (0, -0.004), (0.006, 0), (0, 0.004)])
    leaves = places[:, None] + leaf * shown[:, None, None]
    canvas.shapes(leaves[shown > 0], colour, 0.9, hand=False)


def forest(canvas: Canvas) -> None:
    """Trunks in depth from haze to dark, a leafy roof, rays and a path through a clearing."""
    palette, level = canvas.palette, canvas.level
    sky(canvas, 0.8)
    canvas.tint(np.ones((1, 1), np.float32), palette.horizon, 0.38)
    sun_x = 0.5 - canvas.side * 0.12
    canvas.glow(sun_x, 0.40, 0.42, palette.light, 0.62 * (1 - 0.6 * canvas.night))
    depths = 4.0 + 1.8 * level["busy"]
    for i, alpha in fading(depths):
        nearness = min(1.0, i / (depths - 1))
        if nearness > 0.72:
            defocus(canvas, 0.8)
        with canvas.painting_subject(nearness > 0.55):
            _stand(canvas, i, nearness, alpha)
        if 0.15 < nearness < 0.9:
            _sunbeams(canvas, i, sun_x)
    _forest_path(canvas)
    line = 0.93 + 0.02 * canvas.line("fern", 2)
    meadow(canvas, line, "fern", shifted(palette.near, -0.05), flowers=0.7)


def _stand(canvas: Canvas, index: int, nearness: float, alpha: float) -> None:
    """One depth of the forest: canopy, trunks with branches, floor."""
    palette, level = canvas.palette, canvas.level
    haze = float(np.clip((1 - nearness) ** 1.2 * (0.60 + 0.36 * level["soft"]), 0, 0.95))
    colour = mix(mix(palette.far, palette.near, 0.25 + 0.75 * nearness), palette.horizon, haze)
    floor = lerp(0.62, 0.90, nearness) + 0.025 * canvas.line(f"floor{index}", 3)
    if nearness < 0.8:
        reach = 0.09 + 0.12 * (1 - nearness) + 0.07 * canvas.line(f"canopy{index}", 5, 0.5)
        leafy = 0.5 + 1.1 * (reach[None] - canvas.y) / 0.12 + 0.45 * canvas.noise("land", 0.42, key=f"canopy{index}")
        canvas.fill(
            smoothstep(0.30, 0.70, leafy), mix(colour, foliage(canvas, 0.1), 0.25 + 0.35 * nearness), 0.85 * alpha
        )
    most = int(lerp(40, 15, nearness))
    scatter = canvas.spread(f"trunks{index}", most, 4)
    shown = opacities(most * (0.27 + 0.69 * level["busy"]), most)
    width, gap = lerp(0.010, 0.042, nearness**1.5), 0.5
    shapes, tones = [], []
    for (x, u, v, w, q), visible in zip(scatter.tolist(), shown.tolist(), strict=True):
        # The clearing stays open so that the path and the light can be seen.
        if visible <= 0 or abs(x - gap) < 0.05 + 0.12 * nearness:
            continue
        half, lean = width * (0.6 + 0.7 * u) * visible, (v - 0.5) * 0.10 * (0.4 + level["organic"])
        foot = float(canvas.height_at(floor, x)) + 0.02
        shapes.append(
            np.array(
                [
                    (x - half, foot),
                    (x - 0.55 * half, foot - 0.08),
                    (x + lean - 0.4 * half, -0.5),
                    (x + lean + 0.4 * half, -0.5),
                    (x + 0.55 * half, foot - 0.08),
                    (x + half, foot),
                ]
            )
        )
        tones.append(0.06 * (q - 0.5))
        for b in range(int(4 * level["rough"] + 2 * nearness)):
            way, at = (1 if (w * 37 + b) % 2 < 1 else -1), 0.05 + (w * 7.3 + b * 0.37) % 1 * (foot - 0.28)
            out, stem = (0.03 + 0.06 * ((q * 5 + b * 0.61) % 1)) * (0.5 + nearness), x + lean * 0.5
            shapes.append(
                np.array([(stem, at), (stem + way * out, at - 0.7 * out), (stem, at + 0.006 + 0.006 * nearness)])
            )
            tones.append(0.0)
    canvas.shapes(shapes, colour, alpha, tones=tones, texture=1.6)
    ground = mix(palette.middle, palette.horizon, haze)
    paint = blended(colour, ground, 0.5 * clip01((canvas.y - floor[None]) / 0.12))
    paint[0] += nearness * (canvas.texture * 1.6 * canvas.relief + 0.02 * canvas.noise("blot", 0.35, 0.55))
    canvas.fill(canvas.under(floor, 0.01 * level["soft"] * (1 - nearness)), paint, alpha)


def _sunbeams(canvas: Canvas, index: int, sun_x: float) -> None:
    slant = (canvas.x - sun_x) / np.maximum(canvas.y + 0.30, 0.05)
    beams = smoothstep(0.1, 0.9, 0.6 * np.sin(slant * 14 + index) + 0.4 * np.sin(slant * 31 + 2 * index))
    fade = np.exp(-1.5 * np.maximum(canvas.y, 0)) * np.exp(-((slant / 0.9) ** 2))
    canvas.tint(beams * fade, canvas.palette.light, (0.10 + 0.20 * canvas.level["soft"]) * (1 - 0.5 * canvas.night))


def _forest_path(canvas: Canvas) -> None:
    palette = canvas.palette
    near = clip01((canvas.y - 0.64) / 0.36)
    half = (0.012 + 0.19 * near**1.6) * (1 + 0.12 * canvas.noise("land", 0.3, key="path"))
    middle = 0.5 + canvas.side * (0.10 * np.sin(near * 4.2) * (1 - 0.4 * near) - 0.02)
    inside = smoothstep(1.0, 0.85, np.abs(canvas.x - middle) / half)
    canvas.tint(
        inside * smoothstep(0.64, 0.70, canvas.y),
        mix(mix(palette.light, palette.middle, 0.55), palette.near, 0.4 * canvas.night),
        0.72,
    )
