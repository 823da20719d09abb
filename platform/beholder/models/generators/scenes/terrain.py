"""What lies in front: water, meadow, stones, grass and flowers, bushes and tree crowns."""

from __future__ import annotations

import math

import numpy as np

from beholder.models.generators.scenes.canvas import Canvas, box
from beholder.models.generators.scenes.colour import blended, oklab_from_hex, shifted
from beholder.models.generators.scenes.curves import Field, bump, clip01, lerp, mix, opacities, ramp, smoothstep

HEXAGON = np.array([(1, 0), (0.5, 0.87), (-0.5, 0.87), (-1, 0), (-0.5, -0.87), (0.5, -0.87)]) * (1, 0.8)


def water(canvas: Canvas, level: float, depth: float = 0.25) -> None:
    """Mirror everything above the world height `level`, torn sideways by waves that widen towards the viewer.

    `depth` is how much of the water's own colour covers the reflection at the far shore.
    """
    size, palette, row = canvas.size, canvas.palette, canvas.row(level)
    rows = size - row
    if rows < 2 or row < 2:
        return
    rough = canvas.level["rough"]
    nearness = np.clip((canvas.y[row:] - level) / (1 - level), 0, 1.6)
    wave = canvas.noise("fibre", 0.12, 0.55)[row:]
    tear = (0.002 + 0.048 * rough**1.5) * (0.15 + nearness) * (size * canvas.zoom) * wave
    mirrored = row - 1 - np.arange(rows)[:, None] * min(1.0, row / rows) + tear * np.float32(0.6)
    source_y = np.clip(mirrored, 0, row - 1).astype(int)
    source_x = np.clip(np.arange(size)[None] + tear, 0, size - 1).astype(int)
    own = shifted(mix(palette.middle, palette.zenith, 0.45), -0.06)
    canvas.subject[row:] = 0
    surface = canvas.lab[:, row:]
    surface[:] = blended(canvas.lab[:, source_y, source_x], own, np.minimum(depth + 0.32 * nearness, 0.8))
    surface[0] += (0.010 + 0.085 * rough**1.5) * wave * (0.4 + nearness) - 0.03
    _whitecaps(canvas, surface, wave, nearness, row)
    _glitter(canvas, surface, wave, nearness)
    canvas.tint(bump(canvas.y, level, 0.008), palette.horizon, 0.35 + 0.3 * min(1.0, canvas.level["soft"]))


def _whitecaps(canvas: Canvas, surface: Field, wave: Field, nearness: Field, row: int) -> None:
    patches = canvas.noise("land", 0.2, 0.5, "caps")[row:]
    # Torn patches first appear in a rough sea; their share follows the axis evenly.
    caps = smoothstep(0.9, 2.1, wave + 0.5 * patches + 1.0 * canvas.attributes.rough - 0.75) * (0.3 + 0.7 * nearness)
    foam = mix(canvas.palette.second, canvas.palette.horizon, 0.3)
    for plane, value in zip(surface, foam, strict=True):
        plane += np.minimum(caps * 0.8, 1) * (value - plane)


def _glitter(canvas: Canvas, surface: Field, wave: Field, nearness: Field) -> None:
    across = canvas.x - canvas.sun[0]
    path = np.exp(-((across / (0.05 + 0.12 * nearness)) ** 2))
    sparkle = smoothstep(0.5, 1.6, wave + 1.1 * path - 0.1) * np.exp(-((across / (0.10 + 0.10 * nearness)) ** 2))
    for plane, value in zip(surface, canvas.palette.light, strict=True):
        plane += 0.78 * sparkle * (value - plane)


def meadow(
    canvas: Canvas, line: np.ndarray, key: str = "meadow", low: np.ndarray | None = None, flowers: float = 1.0
) -> None:
    """Land below a line: light at the sun's foot, dark towards the viewer, stones when rough, growth when busy."""
    palette = canvas.palette
    low = mix(palette.near, palette.middle, 0.22) if low is None else low
    down = clip01((canvas.y - line[None]) / 0.42)
    paint = blended(mix(palette.middle, palette.near, 0.12), low, down**0.8)
    pool = 0.36 * np.exp(-5 * down) * bump(canvas.x, canvas.sun[0], 0.45) * (1 - 0.6 * canvas.night)
    paint = blended(paint, np.broadcast_to(palette.light[:, None, None], paint.shape), pool)
    paint[0] += 0.05 * np.exp(-14 * down) + 0.032 * canvas.noise("cloud", 0.3, 0.55, key)
    paint[0] += canvas.texture * (0.7 + 0.9 * down) * canvas.relief
    canvas.fill(canvas.under(line), paint)
    _stones(canvas, line, key, low)
    _growth(canvas, line, key, low, flowers)


def _ground_places(canvas: Canvas, line: np.ndarray, scatter: np.ndarray, nearness: np.ndarray) -> np.ndarray:
    """World heights between a line and the bottom of the farthest view, growing with nearness in [0, 1]."""
    top = canvas.height_at(line, scatter)
    return top + (1.04 - top) * nearness + 0.008


def _stones(canvas: Canvas, line: np.ndarray, key: str, low: np.ndarray) -> None:
    most = 40
    scatter = canvas.spread(key + "stones", most, 3)
    shown = opacities(most * (canvas.level["rough"] - 0.3) * 1.5, most)
    keep = shown > 0
    x, u, v, w = scatter[keep].T
    y = _ground_places(canvas, line, x, 0.08 + 0.95 * u)
    radius = (0.006 + 0.024 * u) * (0.6 + 0.8 * v) * shown[keep] ** 0.5
    order = np.argsort(y, kind="stable")
    turn = np.arange(9) * (2 * math.pi / 9)
    jag = 1 + 0.22 * np.sin(turn[None] * 3 + 40 * w[:, None]) + 0.12 * np.sin(turn[None] * 2 + 17 * v[:, None])
    bodies = np.stack(
        [x[:, None] + radius[:, None] * jag * np.cos(turn), y[:, None] + 0.62 * radius[:, None] * jag * np.sin(turn)],
        -1,
    )
    tops = np.stack(
        [x[:, None] - 0.16 * canvas.side * radius[:, None] + 0.68 * radius[:, None] * jag * np.cos(turn),
         y[:, None] - 0.16 * radius[:, None] + 0.38 * radius[:, None] * jag * np.sin(turn)], -1
    )  # fmt: skip
    pairs = np.stack([bodies, tops], 1)[order].reshape(-1, 9, 2)
    tones = np.tile([-0.08, 0.09], len(order)) + np.repeat(0.04 * (w - 0.5), 2)
    stone = mix(mix(canvas.palette.far, canvas.palette.second, 0.25), low, 0.50 + 0.2 * canvas.night)
    canvas.shapes(pairs, stone, 0.95, hand=False, tones=tones, texture=1.2)


def _growth(canvas: Canvas, line: np.ndarray, key: str, low: np.ndarray, flowers: float) -> None:
    """Grass blades and flowers, larger towards the viewer."""
    busy, palette = canvas.level["busy"], canvas.palette
    most = 900
    scatter = canvas.spread(key + "grass", most, 3)
    shown = opacities(canvas.density * (12 + 640 * busy**1.4), most)
    keep = shown > 0
    x, u, v, w = scatter[keep].T
    nearness = 0.04 + 0.96 * u**1.3
    order = np.argsort(nearness, kind="stable")
    x, v, w, nearness = x[order], v[order], w[order], nearness[order]
    y = _ground_places(canvas, line, x, nearness)
    height = (0.012 + 0.055 * nearness) * (0.5 + w) * shown[keep][order] ** 0.5
    lean = (v - 0.5) * height * 0.9 + canvas.side * height * 0.35 * max(0.0, canvas.attributes.rough)
    half = 0.0016 + 0.04 * height
    blades = np.stack(
        [np.stack([x - half, y], -1), np.stack([x + lean, y - height], -1), np.stack([x + half, y], -1)], 1
    )
    tones = 0.10 - 0.13 * nearness + 0.05 * (w - 0.5)
    canvas.shapes(blades, shifted(low, 0.02, 0, 0.012), 0.85, hand=False, tones=tones, texture=0)
    count = int(flowers * len(x) * 0.5 * ramp(-0.7, 0.6, canvas.attributes.busy))
    if count > 0:
        pick = np.sort(np.argsort(v, kind="stable")[:count])
        radius = (0.0022 + 0.0085 * nearness[pick])[:, None, None] * (0.7 + 0.6 * w[pick])[:, None, None]
        heads = np.stack([x[pick] + lean[pick], y[pick] - height[pick]], -1)[:, None] + radius * HEXAGON
        which = (np.arange(count) % 3 == 1).astype(float)
        canvas.shapes(heads, palette.accent, 0.92, hand=False, texture=0, other=palette.second, blends=which)


def foliage(canvas: Canvas, dark: float = 0.0, key: str = "leaf") -> np.ndarray:
    """A leaf colour: the season's green or blossom, gold and russet when warm, darker at night; shape (3,)."""
    palette, chance = canvas.palette, float(canvas.rng(key).random())
    season = oklab_from_hex(("#5d9a3e", "#2f7d55", "#83a63c", "#e698ae", "#6c9a47")[int(chance * 5)])
    autumn = oklab_from_hex(("#d8782d", "#c84a31", "#dfa336")[int(chance * 15) % 3])
    leaf = mix(palette.middle, mix(season, autumn, ramp(0.0, 0.7, canvas.attributes.warm)), 0.64)
    leaf[1:] *= 0.55 + 0.75 * canvas.level["vivid"]
    bright = float(leaf[0]) * 2 ** (0.4 * canvas.attributes.bright)
    leaf[0] = lerp(bright, float(palette.near[0]), min(1.0, 0.10 + 0.45 * canvas.night + dark))
    return leaf.astype(np.float32)


def crown(canvas: Canvas, centres: np.ndarray, radius: float, colour: np.ndarray, key: str, squash: float = 0.85,
          clump: float = 20.0, alpha: float = 1.0) -> None:  # fmt: skip
    """Leaves around each centre, shape (m, 2): ragged blobs, dark at the back, lit ones shifted towards the sun."""
    most = 34
    m, shown = len(centres), int(min(most, clump * (0.6 + 0.8 * canvas.level["busy"])))
    rng = canvas.rng(key)
    polar, spread = rng.random((m, most, 3))[:, :shown], rng.uniform(-1, 1, (m, most, 16))[:, :shown]
    edges = int(np.clip(round(5 + 9 * canvas.level["organic"]), 5, 14))
    turn = np.arange(edges) * (2 * math.pi / edges)
    rim = 1 + (0.06 + 0.30 * canvas.level["rough"]) * spread[..., :edges]
    far = np.sqrt(polar[..., 1]) * radius * 0.82
    x = centres[:, None, 0] + far * np.cos(polar[..., 0] * 2 * math.pi)
    y = centres[:, None, 1] + far * squash * np.sin(polar[..., 0] * 2 * math.pi)
    size = radius * (0.17 + 0.15 * polar[..., 2])
    middle_x, middle_y = centres.mean(0)
    reach = max(float(np.ptp(centres[:, 0])), 2 * radius)
    facing = clip01(0.5 + (-canvas.side * (x - middle_x) - 1.2 * (y - middle_y)) / (1.3 * reach))
    layers, tones = [], []
    for shift, scale, tone in ((0.0, 1.10, -0.11), (0.14, 0.85, 0.0), (0.30, 0.55, 0.09)):
        keep = slice(None) if shift < 0.3 else slice(0, int(shown * 0.7))
        at_x = (x - canvas.side * shift * size)[:, keep, None] + (scale * size)[:, keep, None] * np.cos(turn) * rim[
            :, keep
        ]
        at_y = (y - 1.1 * shift * size)[:, keep, None] + (scale * squash * size)[:, keep, None] * np.sin(turn) * rim[
            :, keep
        ]
        layers.append(np.stack([at_x, at_y], -1).reshape(-1, edges, 2))
        tones.append((tone + 0.14 * (facing[:, keep] - 0.5) + 0.04 * (polar[:, keep, 2] - 0.5)).ravel())
    sunny = shifted(mix(colour, canvas.palette.light, 0.20), 0.0, 0.0, 0.01)
    toned = np.concatenate(tones)
    canvas.shapes(
        np.concatenate(layers),
        colour,
        alpha,
        hand=False,
        tones=toned,
        texture=1.5,
        other=sunny,
        blends=np.clip(toned * 5, 0, 1),
    )


def bushes(canvas: Canvas, line: np.ndarray, count: float, size: float, key: str = "bush", most: int = 9) -> None:
    """Round bushes along a line."""
    scatter = canvas.spread(key, most, 2)
    shown = opacities(count, most)
    keep = shown > 0
    if keep.any():
        x = scatter[keep, 0]
        centres = np.column_stack([x, canvas.height_at(line, x) - 0.3 * size + 0.3 * size * scatter[keep, 1]])
        crown(canvas, centres, size, foliage(canvas, 0.18, key), key + "leaves", 0.75, 12)


def fleet(canvas: Canvas, top: float, bottom: float, most: int = 16) -> None:
    """Little sails between two world heights, smaller when farther; a sparse scene has none."""
    palette = canvas.palette
    scatter = canvas.spread("fleet", most, 3)
    shown = opacities(2.1 * most * canvas.density * (canvas.level["busy"] - 0.36), most)
    sails, hulls, blends, lines = [], [], [], []
    order = np.argsort(scatter[:, 1], kind="stable")
    for k in order.tolist():
        x, u, v, w = scatter[k].tolist()
        if shown[k] <= 0:
            continue
        y, h = lerp(top, bottom, u**1.4), lerp(0.030, 0.085, u) * (0.8 + 0.4 * v) * float(shown[k]) ** 0.5
        sails.append(np.array([(x - 0.02 * h, y - 0.06 * h), (x - 0.02 * h, y - h), (x + 0.42 * h, y - 0.1 * h)]))
        sails.append(
            np.array([(x - 0.06 * h, y - 0.12 * h), (x - 0.06 * h, y - 0.85 * h), (x - 0.36 * h, y - 0.12 * h)])
        )
        blends += [float(w > 0.4), float(w > 0.7)]
        hulls.append(
            np.array(
                [
                    (x - 0.42 * h, y - 0.07 * h),
                    (x + 0.48 * h, y - 0.07 * h),
                    (x + 0.34 * h, y + 0.07 * h),
                    (x - 0.30 * h, y + 0.07 * h),
                ]
            )
        )
        lines.append(box(x - 0.4 * h, y + 0.09 * h, x + 0.4 * h, y + 0.55 * h))
    canvas.shapes(lines, mix(palette.second, palette.middle, 0.4), 0.25, hand=False, texture=0, blur=0.004)
    canvas.shapes(sails, palette.second, 0.95, hand=False, texture=0, other=palette.accent, blends=blends)
    canvas.shapes(hulls, palette.near, 0.95, hand=False, texture=0)
