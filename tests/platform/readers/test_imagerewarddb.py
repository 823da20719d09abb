"""ImageRewardDB in both layouts: ranks become preferences, nobody is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.tables import check_images
from beholder.errors import StoreError, TableError
from beholder.readers.imagerewarddb import ImageRewardReader


def image(prompt: str, name: str, rank: int | None, rating: int = 5, total: int = 3) -> dict[str, Any]:
    return {
        "prompt_id": prompt,
        "prompt": f"text of {prompt}",
        "classification": "People",
        "image_amount_in_total": total,
        "image_path": f"images/train/train_1/{name}.webp",
        "rank": rank,
        "overall_rating": rating,
        "image_text_alignment_rating": 4,
        "fidelity_rating": 6,
    }


ROWS = [
    image("000-1", "a", 1, 7),
    image("000-1", "b", 2),
    image("000-1", "c", 2, 4),
    image("000-2", "d", 1),
    image("000-2", "e", 3, 0),
    image("000-2", "f", 2),
    image("000-2", "f", 2),
]


@pytest.fixture
def folder(tmp_path: Path, draw) -> Path:
    """Two prompts; ties, a rating off the scale, a row twice, a picture that cannot be decoded."""
    part = tmp_path / "images" / "train" / "train_1"
    for k, name in enumerate("abcde"):
        draw(part / f"{name}.webp", k)
    (part / "f.webp").write_bytes(b"RIFF")
    (part / "train_1.json").write_text(json.dumps(ROWS))
    return tmp_path


def test_ranks_become_preferences_and_ties(folder: Path, noted) -> None:
    d = ImageRewardReader().read(folder)
    check_images(d.images)
    found = d.preferences.replace("imagerewarddb_", "", regex=True)
    assert found[["prompt_id", "preferred_image_id", "other_image_id", "tied"]].to_numpy().tolist() == [
        ["000-1", "a", "b", False],
        ["000-1", "a", "c", False],
        ["000-1", "b", "c", True],
        ["000-2", "d", "f", False],
    ]
    assert len(d.votes) == len(d.users) == 0
    assert set(d.preferences["split"]) == {"train"}
    assert noted(d, "pairs made from the ranks") == 4
    assert noted(d, "images set aside: rating off 1...7") == 1
    assert noted(d, "rows that repeat another one") == 1
    assert noted(d, "prompts with fewer images than their image_amount_in_total") == 1
    assert noted(d, "undecodable: imagerewarddb_f") == 1


def test_ratings_stay_with_the_images(folder: Path) -> None:
    d = ImageRewardReader().read(folder)
    images = d.images.set_index("image_id")
    answers = ["overall_rating", "alignment_rating", "fidelity_rating", "rank"]
    assert images.loc["imagerewarddb_a", answers].tolist() == [7, 4, 6, 1]
    assert images.loc["imagerewarddb_a", "category"] == "People"
    assert d.prompts["text"].tolist() == ["text of 000-1", "text of 000-2"]


def test_the_tables_of_metadata_are_read_where_there_are_no_lists(folder: Path) -> None:
    expected = ImageRewardReader().read(folder).preferences
    (folder / "images" / "train" / "train_1" / "train_1.json").unlink()
    pd.DataFrame(ROWS).to_parquet(folder / "metadata-train.parquet")
    pd.testing.assert_frame_equal(ImageRewardReader().read(folder).preferences, expected)


def test_what_cannot_be_understood_is_set_aside_or_refused(folder: Path) -> None:
    path = folder / "images" / "train" / "train_1" / "train_1.json"
    path.write_text(json.dumps([image("1", "a", None), image("1", "b", 1), image("2", "b", 2)]))
    assert ImageRewardReader().read(folder).set_aside["reason"].tolist() == [
        "no rank",
        "a second, other row of an image",
    ]
    path.write_text(json.dumps([image("1", "a", 1), image("", "b", 1)]))
    with pytest.raises(TableError, match="no prompt_id in 1 of 2 rows, first row 2"):
        ImageRewardReader().read(folder)
    path.unlink()
    with pytest.raises(StoreError, match="no JSON or metadata with ranks"):
        ImageRewardReader().read(folder)
