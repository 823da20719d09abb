"""What drifts close to the viewer in a busy scene, whatever its subject."""

from __future__ import annotations

import math

import numpy as np

from beholder.models.generators.scenes.canvas import Canvas
from beholder.models.generators.scenes.curves import mix, opacities


def drifting_petals(canvas: Canvas) -> None:
    """Petals in the air, some near and some far; a sparse scene has none.

    They keep to the picture, not to the world, so that a near view can be as full of them as a wide one.
    """
    most, palette = 200, canvas.palette
    rng = canvas.rng("petals")
    places, turn, kind = rng.random((most, 2)), rng.uniform(0, math.pi, most), rng.random(most)
    nearness = rng.random(most) ** 2
    shown = opacities(most * 1.6 * (canvas.level["busy"] - 0.52), most)
    keep = shown > 0
    half = ((0.0040 + 0.0100 * nearness) * shown**0.5)[keep, None]
    along = np.column_stack([np.cos(turn), np.sin(turn)])[keep] * half
    across = np.column_stack([-along[:, 1], along[:, 0]]) * 0.45
    at = places[keep]
    petals = canvas.world(np.stack([at - along, at + across, at + along, at - across], 1))
    pale, tones = mix(palette.second, palette.light, 0.5), 0.10 * (kind[keep] - 0.5)
    canvas.shapes(
        petals, palette.accent, 0.85, hand=False, texture=0, tones=tones, other=pale, blends=(kind[keep] > 0.6) * 1.0
    )
