"""Draw the embedded generator's contact sheet.

    python docs/contact_sheet.py docs/scenes.jpg

Every tile is painted from attributes, not from a prompt, so the sheet needs no text encoder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from beholder.models.generators.scenes.attributes import MEDIA, Attributes
from beholder.models.generators.scenes.render import paint_exact

Tile = tuple[str, str, str, dict[str, float], int]
TILES: tuple[Tile, ...] = (  # caption, subject, medium, axes, seed
    ("a mountain lake, crisp morning", "mountain", "photo", {"soft": -0.6, "warm": 0.2, "vivid": 0.3}, 40),
    ("a lighthouse at night, stormy sea", "lighthouse", "photo", {"bright": -0.8, "rough": 0.7, "warm": -0.6}, 11),
    ("an old tree, watercolour, blossom", "tree", "watercolour", {"warm": 0.2, "vivid": 0.3}, 8),
    ("a city at night, neon lights", "skyline", "photo", {"bright": -0.7, "vivid": 0.8, "busy": 0.6, "warm": 0.4}, 5),
    ("a sailing boat at sunset, oil", "boat", "oil", {"warm": 0.8, "vivid": 0.3}, 21),
    ("a cottage, ink drawing", "house", "ink", {"busy": 0.3, "warm": 0.2}, 9),
    ("flowers and fruit, dark, oil", "still_life", "oil", {"bright": -0.45, "warm": 0.4, "close": 0.4}, 3),
    ("a forest path, golden fog", "forest", "photo", {"soft": 0.6, "warm": 0.8}, 14),
    ("a windmill, vivid colours", "windmill", "photo", {"vivid": 0.8, "bright": 0.2, "warm": -0.1}, 25),
    ("a stone bridge, moonlit", "bridge", "photo", {"bright": -0.75, "warm": -0.4, "busy": 0.4}, 33),
    ("a desert, oil, warm light", "desert", "oil", {"warm": 0.7}, 17),
    ("hot air balloons, geometric", "balloon", "photo", {"organic": -0.8, "busy": 0.4, "vivid": 0.4}, 28),
    ("a mountain, autumn, oil", "mountain", "oil", {"warm": 0.9, "vivid": 0.4}, 6),
    ("a lighthouse, watercolour", "lighthouse", "watercolour", {"warm": -0.5, "bright": 0.3}, 18),
    ("a boat, pen and ink, rough sea", "boat", "ink", {"rough": 0.6, "bright": -0.2}, 31),
    ("a cottage, winter night", "house", "photo", {"bright": -0.7, "warm": -0.8}, 50),
    ("a bridge, watercolour, lush", "bridge", "watercolour", {"busy": 0.7, "bright": 0.2, "vivid": 0.3}, 12),
    ("a tree, swirling, oil", "tree", "oil", {"organic": 0.9, "vivid": 0.5}, 44),
    ("a skyline, far away, hazy", "skyline", "photo", {"close": -0.8, "soft": 0.35, "warm": 0.5}, 61),
    ("a balloon, close-up", "balloon", "watercolour", {"close": 0.8, "vivid": 0.4}, 39),
    ("a windmill, ink", "windmill", "ink", {"busy": 0.2, "vivid": 0.3}, 20),
    ("a desert at dusk", "desert", "photo", {"bright": -0.4, "warm": 0.3, "vivid": 0.5}, 22),
    ("a still life, minimal, bright", "still_life", "watercolour", {"busy": -0.6, "bright": 0.4}, 37),
    ("a forest, dark, rough, ink", "forest", "ink", {"bright": -0.3, "rough": 0.6}, 53),
)
COLUMNS, SIDE, MARGIN, CAPTION = 6, 256, 6, 18
PAPER, INK = (250, 248, 242), (50, 46, 42)


def picture_of(subject: str, medium: str, axes: dict[str, float], seed: int, size: int) -> Image.Image:
    """One tile's picture."""
    media = {name: float(name == medium) for name in MEDIA}
    return Image.fromarray(paint_exact(Attributes(subject=subject, **media, **axes), seed, size))


def contact_sheet(tiles: tuple[Tile, ...] = TILES, size: int = SIDE) -> Image.Image:
    """All tiles with their captions on one page."""
    rows = -(-len(tiles) // COLUMNS)
    page = Image.new("RGB", (MARGIN + COLUMNS * (size + MARGIN), MARGIN + rows * (size + MARGIN + CAPTION)), PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for index, (caption, subject, medium, axes, seed) in enumerate(tiles):
        left = MARGIN + index % COLUMNS * (size + MARGIN)
        top = MARGIN + index // COLUMNS * (size + MARGIN + CAPTION)
        page.paste(picture_of(subject, medium, axes, seed, size), (left, top))
        draw.text((left + 2, top + size + 2), caption, fill=INK, font=font)
    return page


def main(argv: list[str] | None = None) -> None:
    """Draw the sheet to the path given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, help="where to write the sheet; the ending sets the format")
    arguments = parser.parse_args(argv)
    contact_sheet().save(arguments.path, quality=74)


if __name__ == "__main__":
    main()
