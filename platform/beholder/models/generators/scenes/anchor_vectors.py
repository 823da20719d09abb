"""The anchor phrases' sentence vectors, kept beside the code: encoding them anew takes a reader ten to twenty seconds.

    python -m beholder.models.generators.scenes.anchor_vectors FOLDER

writes them anew with the encoder in FOLDER, which is needed whenever the phrases or the encoder change.
"""

from __future__ import annotations

import argparse
import hashlib
import io
from importlib import resources
from pathlib import Path

import numpy as np

from beholder.models.generators.scenes.directions import TEMPLATE, Directions, Encode, fit_points, phrases

FILE = "anchor_vectors.npz"
STEP = 500.0
"""Vectors are stored as whole multiples of 1 / STEP, which moves a cosine by about .0006."""
PROBES = 3
AGREE = 0.01
"""Largest difference of a probe's numbers for the stored vectors to be this encoder's."""


def directions(encode: Encode) -> Directions:
    """Directions for `encode`: from the stored vectors if they are its own, else from a fresh encoding.

    Both give the same reading to about a thousandth, since fresh vectors are rounded like stored ones.
    """
    points = stored()
    if points is None or not _are_of(points, encode):
        points = rounded(encode([TEMPLATE.format(phrase) for phrase in phrases()]))
    return fit_points(points / STEP)


def rounded(vectors: np.ndarray) -> np.ndarray:
    """Unit vectors, shape (n, width), as int8 multiples of 1 / STEP."""
    return np.clip(np.rint(np.asarray(vectors, dtype=float) * STEP), -127, 127).astype(np.int8)


def stored() -> np.ndarray | None:
    """The stored vectors, int8, shape (n, width); None if they are of other phrases than the code's."""
    data = resources.files(__package__).joinpath(FILE).read_bytes()
    with np.load(io.BytesIO(data)) as file:
        return np.asarray(file["vectors"]) if str(file["phrases"]) == _digest() else None


def _are_of(points: np.ndarray, encode: Encode) -> bool:
    texts = phrases()
    rows = np.linspace(0, len(texts) - 1, PROBES).astype(int)
    fresh = np.asarray(encode([TEMPLATE.format(texts[row]) for row in rows]), dtype=float)
    return fresh.shape[1] == points.shape[1] and bool(np.abs(fresh - points[rows] / STEP).max() < AGREE)


def _digest() -> str:
    return hashlib.sha256("\n".join([TEMPLATE, *phrases()]).encode()).hexdigest()


def main(argv: list[str] | None = None) -> None:
    """Encode the phrases and replace the file."""
    from beholder.models.encoders.minilm import MiniLM

    parser = argparse.ArgumentParser(description="Write the anchor phrases' vectors anew.")
    parser.add_argument("folder", type=Path, help="transformers folder of all-MiniLM-L6-v2")
    encode = MiniLM(parser.parse_args(argv).folder).encode
    vectors = rounded(encode([TEMPLATE.format(phrase) for phrase in phrases()]))
    np.savez_compressed(Path(__file__).with_name(FILE), vectors=vectors, phrases=np.array(_digest()))


if __name__ == "__main__":
    main()
