"""Subjects of open land: mountain and desert. Each paints one scene, back to front."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from beholder.models.generators.scenes.canvas import Canvas
from beholder.models.generators.scenes.colour import blended, oklab_from_hex, shifted
from beholder.models.generators.scenes.curves import clip01, fading, lerp, mix, opacities, ramp, smoothstep
from beholder.models.generators.scenes.landscape import WHITE, birds, defocus, ridges, sky, trees
from beholder.models.generators.scenes.terrain import fleet, meadow, water


def mountain(canvas: Canvas) -> None:
    """A snowy peak with lit and shaded faces above a lake, firs in front as a frame."""
    busy, horizon = canvas.level["busy"], 0.66
    sky(canvas, horizon)
    ridges(canvas, 0.52, 0.62, 1.5 + 1.5 * busy, amplitude=0.10, bare=True)
    flanks = ((-0.38, 0.31, 0.32), (0.33, 0.35, 0.30), (-0.72, 0.36, 0.30), (0.70, 0.33, 0.32))
    for i, alpha in list(fading(1.0 + 3.0 * busy))[::-1]:
        offset, top, half = flanks[i % 4]
        _peak(
            canvas,
            f"flank{i}",
            0.5 + canvas.side * offset,
            top,
            half,
            horizon,
            0.45 + 0.2 * canvas.level["soft"],
            alpha,
        )
    defocus(canvas, 0.7)
    with canvas.painting_subject():
        _peak(canvas, "peak", 0.5, 0.15, 0.46, horizon, 0.06 + 0.2 * canvas.level["soft"], 1.0)
    ridges(canvas, 0.632, 0.67, 1 + 1.3 * busy, "foot", 0.035)
    water(canvas, 0.70, 0.18)
    fleet(canvas, 0.72, 0.82)
    bank = 0.90 + 0.05 * canvas.line("bank", 2) - 0.09 * canvas.side * (canvas.x[0] - 0.5)
    meadow(canvas, bank, flowers=0.8)
    _frame_of_firs(canvas, bank)
    birds(canvas, 0.24)


def _peak(
    canvas: Canvas, key: str, centre: float, top: float, half: float, foot: float, distance: float, alpha: float
) -> None:
    """One mountain: a tent with a fractal edge, a noisy crest between light and shade, snow above a broken line."""
    palette, rough = canvas.palette, canvas.level["rough"]
    tent = 1 - np.abs(canvas.x[0] - centre) / half
    shoulder = canvas.rng(key + "shoulder").uniform(0.34, 0.50)
    for way in (-1, 1):
        tent = np.maximum(
            tent, 0.62 + 0.12 * way * canvas.side - np.abs(canvas.x[0] - centre - way * shoulder * half) / (0.8 * half)
        )
    jag = 0.30 * canvas.line(key, 5, 0.40 + 0.24 * rough)
    line = foot - (foot - top) * np.maximum(tent + jag * clip01(1.15 - np.abs(tent)), -0.1)
    down = clip01((canvas.y - line[None]) / np.float32(foot - top))
    ribs = canvas.line(key + "ribs", 3.2, 0.5, at=(canvas.x - centre) / (0.22 + 0.78 * down))
    sway = canvas.line(key + "crest", 7, 0.5, at=canvas.y[:, 0])[:, None]
    crest = centre + 0.10 * sway * clip01((canvas.y - top) * 4)
    fold = 0.55 * canvas.noise("land", 0.42, key=key) * (0.30 + 0.75 * rough) + 0.5 * canvas.noise(
        "cloud", 0.5, 0.3, key
    )
    edge = (crest - canvas.x) * canvas.side + 0.055 * fold + 0.17 * ribs * smoothstep(0.02, 0.4, down)
    lit = smoothstep(-0.03, 0.03, edge)
    rock = mix(mix(palette.far, palette.middle, 0.8), palette.horizon, distance)
    paint = np.broadcast_to(rock[:, None, None], canvas.lab.shape).copy()
    paint[0] += (0.17 * lit - 0.13) * (1 - 0.5 * distance) + canvas.texture * (0.8 * fold + 0.8 * canvas.relief)
    snowline = 0.27 + 0.32 * np.abs(canvas.line(key + "snow", 11, 0.55))[None] + 0.06 * fold
    snow = smoothstep(0.03, -0.03, down - snowline + 0.10 * canvas.attributes.warm - 0.10 * lit)
    shade_snow = mix(palette.zenith, palette.far, 0.5)
    white = mix(mix(WHITE, palette.light, 0.35), palette.horizon, 0.55 * canvas.night + 0.4 * distance)
    snow_paint = blended(white, mix(shade_snow, white, 0.15), 0.85 * (1 - lit))
    paint = blended(paint, snow_paint, snow * (0.76 + 0.20 * lit))
    paint[0] += (0.055 * ribs + 0.03 * fold) * smoothstep(0.0, 0.2, down)
    mist = mix(palette.horizon, palette.far, 0.3)
    paint = blended(
        paint,
        np.broadcast_to(mist[:, None, None], paint.shape),
        smoothstep(0.40, 1.05, down) * (0.35 + 0.45 * canvas.level["soft"]),
    )
    canvas.fill(canvas.under(line, 0.004 * canvas.level["soft"]), paint, alpha)


def _frame_of_firs(canvas: Canvas, bank: np.ndarray) -> None:
    most = 16
    rng = canvas.rng("frame")
    shown = opacities(2.5 + 13 * canvas.level["busy"], most)
    keep = shown > 0
    edge = np.where(np.arange(most) % 3 == 0, 0.47, -0.43) + rng.normal(0, 0.09, most)
    edge += np.sign(edge) * 0.03 * np.arange(most)
    x = (0.5 + canvas.side * edge)[keep]
    height = (0.22 + 0.16 * rng.random(most))[keep] * shown[keep] ** 0.5
    foot = canvas.height_at(bank, x) + 0.03
    trees(canvas, x, foot, height, shifted(canvas.palette.near, -0.03), firs=True)


def desert(canvas: Canvas) -> None:
    """Dunes lit by their slope, ripples, a tall cactus that stands dark against the light sand."""
    palette, busy = canvas.palette, canvas.level["busy"]
    sky(canvas, 0.6)
    ridges(canvas, 0.52, 0.58, 1 + 1.5 * busy, amplitude=0.08, bare=True)
    sand = shifted(mix(palette.light, palette.accent, 0.28), -0.06 - 0.16 * canvas.night)
    steps = 3 + 1.5 * busy
    for i, alpha in fading(steps):
        _dune(canvas, i, i / 3.5, sand, alpha)
    defocus(canvas)
    scatter = canvas.spread("cacti", 14, 3)
    shown = opacities(15 * (busy - 0.2), 14)
    order = np.argsort(scatter[:, 1], kind="stable")
    for k in order[shown[order] > 0].tolist():
        x, u, v, _ = scatter[k].tolist()
        _cactus(
            canvas,
            x,
            0.66 + 0.14 * u,
            (0.05 + 0.08 * u) * (0.8 + 0.5 * v) * float(shown[k]) ** 0.5,
            0.25 * (1 - u),
            f"cactus{k}",
        )
    with canvas.painting_subject():
        _cactus(canvas, 0.5, 0.86, 0.46, 0.0, "cactus")
    rocks = 0.90 + 0.02 * canvas.line("rocks", 3)
    _desert_stones(canvas, rocks)
    birds(canvas, 0.28)


def _dune(canvas: Canvas, index: int, nearness: float, sand: np.ndarray, alpha: float) -> None:
    palette, rough = canvas.palette, canvas.level["rough"]
    pixels = canvas.size * canvas.zoom
    line = lerp(0.60, 0.93, nearness) - lerp(0.05, 0.11, nearness) * canvas.line(
        f"dune{index}", lerp(1.8, 1.0, nearness), 0.10 + 0.26 * rough
    )
    edge = 0.18 * ndimage.gaussian_filter1d(canvas.line(f"edge{index}", 3, 0.3), pixels * 0.03)
    down = clip01((canvas.y - line[None]) / 0.20)
    slope = np.gradient(ndimage.gaussian_filter1d(line, pixels * 0.012)) * pixels
    lit = smoothstep(-0.10, 0.10, canvas.side * slope[None] + 0.5 * (down - 0.25) + edge[None] * down)
    shade = mix(mix(sand, palette.near, 0.46), palette.middle, 0.25)
    paint = blended(shade, sand, lit)
    far = mix(palette.horizon, palette.far, 0.15)
    paint = blended(
        paint,
        np.broadcast_to(far[:, None, None], paint.shape),
        np.full(1, (1 - min(1.0, nearness)) * (0.26 + 0.36 * canvas.level["soft"]), np.float32),
    )
    ripple = np.sin(
        (canvas.y * 110 + 9 * canvas.noise("flow", 0.5, key=f"ripple{index}") + 14 * canvas.x) * (1.6 - 0.8 * nearness)
    )
    paint[0] += (
        0.016 * ripple * nearness * (0.25 + 1.7 * rough) + 0.7 * canvas.texture * canvas.relief - 0.08 * down * nearness
    )
    canvas.fill(canvas.under(line, 0.004 * canvas.level["soft"]), paint, alpha)


def _cactus(canvas: Canvas, x: float, foot: float, height: float, distance: float, key: str) -> None:
    """A saguaro: ribbed stem with two raised arms and a cast shadow."""
    palette = canvas.palette
    green = mix(mix(palette.middle, oklab_from_hex("#33613f"), 0.55), palette.near, 0.35)
    green = mix(green, palette.horizon, distance)
    half = 0.078 * height
    flip = canvas.side if canvas.rng(key).random() < 0.5 else -canvas.side

    canvas.shade(x + canvas.side * 0.3 * height, foot, 0.40 * height, 0.03 * height + 0.003, 0.45)
    stem = np.array([(x, foot), (x, foot - 0.5 * height), (x, foot - height + half)])
    paths, widths = [stem], [half]
    for way, low, out, rise in ((flip, 0.40, 0.20, 0.32), (-flip, 0.54, 0.18, 0.22)):
        bend, elbow = foot - low * height, 0.10 * height
        turn = np.linspace(0, math.pi / 2, 6)
        curve = np.column_stack(
            [x + way * (out * height - elbow + elbow * np.sin(turn)), bend - elbow + elbow * np.cos(turn)]
        )
        paths.append(np.vstack([[(x, bend)], curve, [(x + way * out * height, bend - rise * height)]]))
        widths.append(0.74 * half)
    canvas.shapes([_thick(p, w) for p, w in zip(paths, widths, strict=True)], green, light=0.06)
    ribs = [
        _thick(p + np.array([e * w, 0]), 0.07 * w)
        for p, w in zip(paths, widths, strict=True)
        for e in (-0.55, 0.0, 0.50)
    ]
    canvas.shapes(ribs, shifted(green, 0.09, 0, 0.01), 0.65, hand=False)
    if height > 0.3 and canvas.level["busy"] > 0.4:
        tips = [(p[-1].tolist(), w) for p, w in zip(paths, widths, strict=True)]
        heads = [
            np.array([a, hi - w]) + np.array([(-0.5, 0), (-0.3, -0.6), (0, -0.8), (0.3, -0.6), (0.5, 0)]) * w
            for (a, hi), w in tips
        ]
        canvas.shapes(heads, palette.accent, ramp(0.4, 0.7, canvas.level["busy"]), hand=False)


def _thick(path: np.ndarray, half: float) -> np.ndarray:
    """Outline of a path drawn with a round-ended brush of half width `half`."""
    along = np.gradient(path, axis=0)
    along /= np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)[:, None]
    across = np.column_stack([along[:, 1], -along[:, 0]]) * half
    angle = np.linspace(0, math.pi, 7)[1:-1, None]
    end = path[-1] + np.cos(angle) * across[-1] + np.sin(angle) * along[-1] * half
    return np.vstack([path + across, end, (path - across)[::-1]])


def _desert_stones(canvas: Canvas, line: np.ndarray) -> None:
    palette, most = canvas.palette, 60
    scatter = canvas.spread("pebbles", most, 3)
    shown = opacities(most * (0.8 * canvas.level["rough"] + 0.7 * canvas.level["busy"] - 0.35), most)
    keep = shown > 0
    x, u, v, w = scatter[keep].T
    y = 0.70 + 0.40 * u
    radius = (0.004 + 0.018 * u) * (0.5 + v) * shown[keep] ** 0.5
    turn = np.arange(7) * (2 * math.pi / 7)
    jag = 1 + 0.25 * np.sin(turn[None] * 3 + 40 * w[:, None])
    stones = np.stack(
        [x[:, None] + radius[:, None] * jag * np.cos(turn), y[:, None] + 0.55 * radius[:, None] * jag * np.sin(turn)],
        -1,
    )
    order = np.argsort(y, kind="stable")
    canvas.shapes(stones[order], mix(palette.near, palette.middle, 0.5), 0.8, hand=False, tones=0.10 * (w[order] - 0.4))
