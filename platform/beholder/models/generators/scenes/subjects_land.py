"""Subjects of open land: mountain, tree, forest, desert. Each paints one scene, back to front."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from beholder.models.generators.scenes.canvas import Canvas
from beholder.models.generators.scenes.colour import blended, oklab_from_hex, shifted
from beholder.models.generators.scenes.curves import bump, clip01, fading, lerp, mix, opacities, ramp, smoothstep
from beholder.models.generators.scenes.landscape import WHITE, birds, defocus, ridges, sky, trees
from beholder.models.generators.scenes.terrain import bushes, crown, fleet, foliage, meadow, water


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
    shown = opacities(most * (0.28 + 0.66 * level["busy"]), most)
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
    normal = np.column_stack([along[:, 1], -along[:, 0]]) * half
    angle = math.atan2(normal[-1, 1], normal[-1, 0]) + np.linspace(0, -math.pi, 7)[1:-1] * -1
    end = path[-1] + half * np.column_stack([np.cos(angle), np.sin(angle)])
    if np.dot(end[2] - path[-1], along[-1]) < 0:
        angle = 2 * math.atan2(normal[-1, 1], normal[-1, 0]) - angle
        end = path[-1] + half * np.column_stack([np.cos(angle), np.sin(angle)])
    return np.vstack([path + normal, end, (path - normal)[::-1]])


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
