"""What the tests of readers share: pictures that differ from each other, and counts in a reader's notes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Draw = Callable[..., Path]


@pytest.fixture
def draw() -> Draw:
    """Writes a picture of coarse noise; another seed is another picture."""

    def write(path: Path, seed: int, size: tuple[int, int] = (48, 40)) -> Path:
        coarse = np.random.default_rng(seed).integers(0, 256, (8, 9, 3), dtype=np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path)
        return path

    return write


@pytest.fixture
def noted() -> Callable[[Any, str], int]:
    """Rows of the one note that holds a text; fails where there is none or more than one."""

    def rows(dataset: Any, text: str) -> int:
        (found,) = [n.rows for n in dataset.notes if text in n.what]
        return int(found)

    return rows


@pytest.fixture
def accounted() -> Callable[[Any, int], None]:
    """Rows in = rows in the tables + rows that a note says were dropped."""

    def check(dataset: Any, rows_in: int) -> None:
        dropped = sum(n.rows for n in dataset.notes if n.what.endswith("dropped"))
        tables = [getattr(dataset, t) for t in ("ratings", "votes", "preferences", "set_aside") if hasattr(dataset, t)]
        assert sum(map(len, tables)) + dropped == rows_in

    return check
