"""HPDv3 in its documented layout: the preferred image is always the first, and that is no side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from analysis.tables import check_images
from beholder.errors import StoreError, TableError
from beholder.readers.hpdv3 import HpdV3Reader


def pair(first: str, second: str, **more: Any) -> dict[str, Any]:
    return {
        "prompt": "a red door",
        "path1": f"images/{first}.jpg",
        "path2": f"images/{second}.jpg",
        "model1": "flux",
        "model2": "sd3",
        "confidence": 0.9,
        "choice_dist": [9, 1],
    } | more


ROWS = [
    pair("a", "b"),
    pair("a", "b"),
    pair("b", "c", choice_dist=None, confidence=None, model2=None),
    pair("c", "d", choice_dist=[5, 5]),
    pair("d", "a", choice_dist=[3, 7]),
    pair("e", "e"),
]


@pytest.fixture
def folder(tmp_path: Path, draw) -> Path:
    """Six rows: one twice, one contradicted by its answers, one of an image with itself; one picture missing."""
    (tmp_path / "train.json").write_text(json.dumps(ROWS))
    (tmp_path / "train_aes.jsonl").write_text(json.dumps(pair("a", "d", tag="x")))
    (tmp_path / "info.json").write_text(json.dumps([{"about": "nothing"}]))
    for k, name in enumerate("abce"):
        draw(tmp_path / "images" / f"{name}.jpg", k)
    return tmp_path


def test_pairs_become_preferences_without_sides(folder: Path, noted, accounted) -> None:
    d = HpdV3Reader().read(folder)
    accounted(d, len(ROWS) + 1)
    check_images(d.images)
    assert len(d.votes) == len(d.users) == 0
    assert not [c for c in d.preferences.columns if "left" in c or "right" in c or "path" in c]
    first = d.preferences.iloc[0]
    assert first["preferred_image_id"] == "hpdv3_images/a.jpg"
    assert first[["preferred_condition", "other_condition"]].tolist() == ["flux", "sd3"]
    assert first[["answers_preferred", "answers_other", "split"]].tolist() == [9, 1, "train"]
    assert d.preferences["tied"].tolist() == [False, False, True, False]
    assert d.preferences["other_condition"].tolist()[1] == "not stated"
    assert d.preferences["split"].tolist()[3] == "train_aes"
    assert noted(d, "pairs that repeat another one") == 1
    assert noted(d, "images left out, missing: hpdv3_images/d.jpg") == 1
    assert noted(d, "pairs of which an image is not there, kept") == 2
    assert noted(d, "info.json holds no pairs") == 1


def test_answers_that_favour_the_other_image_are_set_aside(folder: Path) -> None:
    d = HpdV3Reader().read(folder)
    assert sorted(d.set_aside["reason"]) == ["an image against itself", "answers favour the other image"]


def test_a_release_in_the_other_order_is_refused(folder: Path) -> None:
    (folder / "train.json").write_text(
        json.dumps([pair("a", "b", choice_dist=[1, 9]), pair("b", "c", choice_dist=None)])
    )
    with pytest.raises(TableError, match="choice_dist favours path2 in 1 of 1 rows, first row 1"):
        HpdV3Reader().read(folder)


def test_what_cannot_be_understood_is_refused(folder: Path) -> None:
    (folder / "train.json").write_text(json.dumps([pair("a", "b"), {"path1": "x", "prompt": "y"}]))
    with pytest.raises(TableError, match=r"row 2 is .*allowed: an object with prompt, path1, path2"):
        HpdV3Reader().read(folder)
    for name in ("train.json", "train_aes.jsonl"):
        (folder / name).unlink()
    with pytest.raises(StoreError, match="no JSON file with pairs"):
        HpdV3Reader().read(folder)
