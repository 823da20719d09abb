"""Draw the embedded generator's contact sheet: every caption is the prompt its picture was drawn from.

    python docs/contact_sheet.py docs/scenes.jpg

Needs the embedded models (`beholder models fetch embedded`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from beholder.models import weights
from beholder.models.encoders.minilm import MiniLM
from beholder.models.generators.scenes.reading import PromptReader
from beholder.models.generators.scenes.render import paint

Tile = tuple[str, int]
TILES: tuple[Tile, ...] = (  # prompt, seed
    ("a mountain lake, crisp autumn morning", 40),
    ("a lighthouse, late at night, a gale", 11),
    ("an old oak tree, watercolour, blossom", 8),
    ("a city at midnight, neon lights", 5),
    ("a sailing boat at sunset, oil painting", 21),
    ("a cottage, pen and ink, full of details", 9),
    ("fruit and flowers, chiaroscuro, oil", 3),
    ("a forest path, golden morning fog", 14),
    ("a windmill, a riot of colour", 25),
    ("a stone bridge, lit only by the moon", 33),
    ("desert dunes, late glow, oil on canvas", 17),
    ("hot air balloons, cubist, colourful", 28),
    ("a summit, October leaves, thick oil paint", 6),
    ("a lighthouse, watercolour, bright, cold", 18),
    ("a fishing boat, etching, choppy sea", 31),
    ("a farmhouse, snowbound, late at night", 50),
    ("an aqueduct, watercolour, lush", 12),
    ("a lone tree, like Van Gogh, swirling", 44),
    ("a skyline, far away, slightly hazy", 61),
    ("a balloon, up close, watercolour", 39),
    ("a mill among tulips, woodcut", 20),
    ("a cactus, dusk, not hazy", 22),
    ("a vase of roses, minimal, airy, aquarelle", 37),
    ("a pine forest, gloomy, rugged, ink", 53),
)
COLUMNS, SIDE, MARGIN, CAPTION = 6, 256, 6, 18
PAPER, INK = (250, 248, 242), (50, 46, 42)


def contact_sheet(reader: PromptReader, tiles: Sequence[Tile] = TILES, size: int = SIDE) -> Image.Image:
    """All tiles with their prompts on one page."""
    rows = -(-len(tiles) // COLUMNS)
    page = Image.new("RGB", (MARGIN + COLUMNS * (size + MARGIN), MARGIN + rows * (size + MARGIN + CAPTION)), PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for index, (prompt, seed) in enumerate(tiles):
        left = MARGIN + index % COLUMNS * (size + MARGIN)
        top = MARGIN + index // COLUMNS * (size + MARGIN + CAPTION)
        page.paste(Image.fromarray(paint(reader.read(prompt), seed, size)), (left, top))
        draw.text((left + 2, top + size + 2), prompt, fill=INK, font=font)
    return page


def main(argv: list[str] | None = None) -> None:
    """Draw the sheet to the path given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, help="where to write the sheet; the ending sets the format")
    parser.add_argument("--models", type=Path, help="model cache (default: BEHOLDER_MODELS, else ./models)")
    arguments = parser.parse_args(argv)
    reader = PromptReader(MiniLM(weights.folder("minilm", arguments.models)).encode)
    contact_sheet(reader).save(arguments.path, quality=74)


if __name__ == "__main__":
    main()
