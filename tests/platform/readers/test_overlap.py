"""Copies of pictures between sets: the hash against published values, the search against all pairs."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from beholder.errors import UserError
from beholder.readers import overlap as module
from beholder.readers.base import data_root
from beholder.readers.overlap import NEAR, hashes_of, near_pairs, overlap
from beholder.readers.pictures import content_facts, dhash

BITS = 64


def waves(k: int) -> Image.Image:
    """A picture of plane waves, the same on every machine."""
    y, x = np.mgrid[0:60, 0:80]
    return Image.fromarray(((k * x * x + 7 * y * (k + 3) + x * y) % 256).astype(np.uint8))


@pytest.mark.parametrize(
    ("k", "published"),
    [(1, "a933422c2451aca5"), (2, "d55694328da5b625"), (5, "9b18ecaad755d312"), (11, "1554d899e822ebb3")],
)
def test_the_hash_is_that_of_the_imagehash_library(k: int, published: str) -> None:
    """Values of `imagehash.dhash` 4.3.2 on the same pictures."""
    assert dhash(waves(k)) == published


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_search_finds_exactly_what_comparing_all_pairs_finds(data: st.DataObject) -> None:
    words = st.integers(0, 2**BITS - 1)
    bases = data.draw(st.lists(words, min_size=1, max_size=4))
    flips = st.lists(st.integers(0, BITS - 1), max_size=8)

    def near(base: int, bits: list[int]) -> int:
        for bit in bits:
            base ^= 1 << bit
        return base

    draw = st.lists(st.one_of(words, st.builds(near, st.sampled_from(bases), flips)), max_size=25)
    a, b = (np.array(data.draw(draw), dtype=np.uint64) for _ in range(2))
    most = data.draw(st.integers(0, 6))
    i, j, bits = near_pairs(a, b, most)
    expected = {
        (x, y): (int(u) ^ int(v)).bit_count()
        for x, u in enumerate(a)
        for y, v in enumerate(b)
        if (int(u) ^ int(v)).bit_count() <= most
    }
    assert dict(zip(zip(i.tolist(), j.tolist(), strict=True), bits.tolist(), strict=True)) == expected


def test_many_equal_hashes_are_compared_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 10)
    i, j, _ = near_pairs(np.full(7, 5, np.uint64), np.full(6, 5, np.uint64), 1)
    assert set(zip(i.tolist(), j.tolist(), strict=True)) == {(x, y) for x in range(7) for y in range(6)}


def test_pictures_of_one_colour_or_one_slope_match_nothing() -> None:
    plain = Image.new("L", (40, 40), 90)
    slope = Image.fromarray(np.tile(np.arange(40, dtype=np.uint8) * 6, (40, 1)))
    frame = pd.DataFrame({"image_id": ["plain", "slope", "none"], "dhash": [dhash(plain), dhash(slope), None]})
    assert [len(part) for part in hashes_of(frame)] == [0, 0]
    assert len(overlap(frame, frame, NEAR)) == 0


def test_a_number_of_bits_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(UserError, match="16 differing bits"):
        near_pairs(np.zeros(1, np.uint64), np.zeros(1, np.uint64), 16)


@pytest.mark.data
def test_copies_of_real_pictures_are_found_and_nothing_else() -> None:
    """The claim of the module's first lines, on a third of the pictures."""
    paths = sorted((data_root() / "avt_ai_images" / "images").glob("*.jpg"))[::3]
    if not paths:
        pytest.skip("no avt_ai_images under BEHOLDER_DATA")
    ours, copies = [], []
    for path in paths:
        with Image.open(path) as image:
            ours.append({"image_id": path.stem, "dhash": dhash(image)})
            for name, size in (("half", (image.width // 2, image.height // 2)), ("square", (224, 224))):
                content = io.BytesIO()
                image.resize(size).save(content, "JPEG", quality=60)
                facts = content_facts(content.getvalue())
                assert facts is not None
                copies.append({"image_id": f"{path.stem}:{name}", "dhash": facts["dhash"]})
    found = overlap(pd.DataFrame(ours), pd.DataFrame(copies), NEAR)
    right = found["image_id"] == found["other_image_id"].str.partition(":")[0]
    assert right.all()
    assert len(found) >= 2 * len(paths) - 1


def test_what_is_no_picture_has_no_facts(tmp_path: Path) -> None:
    assert content_facts(b"") is None
    assert content_facts(b"\x89PNG\r\n\x1a\n" + b"\0" * 40) is None
    good = io.BytesIO()
    waves(3).save(good, "PNG")
    assert content_facts(good.getvalue()[:-200]) is None
    facts = content_facts(good.getvalue())
    assert facts is not None
    assert (facts["width"], facts["height"]) == (80, 60)
