"""Filled polygons to antialiased coverage, with a tone and a blend of colours for each polygon."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from beholder.models.generators.scenes.curves import Field


class Coverage(NamedTuple):
    """What polygons leave on their box: cover, lightness relative to their colour, share of the other colour."""

    cover: Field
    tone: Field
    blend: Field


def rasterised(
    outlines: Sequence[np.ndarray],
    shape: tuple[int, int],
    tones: Sequence[float] | np.ndarray | None,
    blends: Sequence[float] | np.ndarray | None,
) -> Coverage:
    """Coverage, tone and blend of polygons in pixel coordinates, drawn at a multiple of the size and averaged."""
    width, height = int(shape[0]), int(shape[1])
    factor = 3 if width * height < 160 * 160 else 2
    flat = [(p * factor).ravel().tolist() for p in outlines]
    zero = np.zeros(1, np.float32)
    if tones is None and blends is None:
        mask = Image.new("L", (width * factor, height * factor))
        draw = ImageDraw.Draw(mask)
        for outline in flat:
            draw.polygon(outline, fill=255)
        return Coverage(np.asarray(mask.reduce(factor), np.float32) * np.float32(1 / 255), zero, zero)
    # One pass for all polygons: red is the cover, green the tone, blue the blend, each weighted by the cover.
    tone8 = np.full(len(flat), 128) if tones is None else np.clip(np.asarray(tones) * 255 + 128, 0, 255).astype(int)
    blend8 = np.zeros(len(flat), int) if blends is None else np.clip(np.asarray(blends) * 255, 0, 255).astype(int)
    sheet = Image.new("RGB", (width * factor, height * factor))
    draw = ImageDraw.Draw(sheet)
    for outline, tone, blend in zip(flat, tone8.tolist(), blend8.tolist(), strict=True):
        draw.polygon(outline, fill=(255, tone, blend))
    red, green, blue = np.asarray(sheet.reduce(factor), np.float32).transpose(2, 0, 1)
    cover = np.maximum(red, 1.0)
    lightness = np.where(red > 0, green / cover - np.float32(128 / 255), 0) if tones is not None else zero
    return Coverage(red * np.float32(1 / 255), lightness, blue / cover)
