"""Pick-a-Pic v2 in its documented layout: Parquet with pictures as bytes, ties as halves, rows without answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.tables import check_images, check_users, check_votes
from beholder.errors import StoreError, TableError
from beholder.readers.pickapic import PickAPicReader


@pytest.fixture
def pair(tmp_path: Path, draw):
    """One row of the release."""
    content = {uid: draw(tmp_path / "drawn" / f"{uid}.jpg", k).read_bytes() for k, uid in enumerate("abcd")}
    content["x"] = b"no picture"

    def row(user: int, left: str, right: str, labels: tuple[float, float], **more: Any) -> dict[str, Any]:
        return {
            "are_different": left != right,
            "best_image_uid": left if labels[0] == 1 else right,
            "caption": "a cat ",
            "created_at": "2023-05-01 10:00",
            "has_label": True,
            "image_0_uid": left,
            "image_1_uid": right,
            "jpg_0": content[left],
            "jpg_1": content[right],
            "label_0": labels[0],
            "label_1": labels[1],
            "model_0": "sdxl",
            "model_1": None if right == "d" else "dreamlike",
            "ranking_id": 7,
            "user_id": user,
            "num_example_per_prompt": 3,
            "__index_level_0__": user,
        } | more

    return row


@pytest.fixture
def folder(tmp_path: Path, pair) -> Path:
    """Four pairs of two people, one repeated with swapped images, one row in two splits, two unusable rows."""
    rows = [
        pair(1, "a", "b", (1.0, 0.0)),
        pair(1, "a", "c", (0.5, 0.5)),
        pair(1, "b", "a", (1.0, 0.0), created_at="2023-06-01 10:00", model_0="dreamlike", model_1="sdxl"),
        pair(2, "a", "b", (0.0, 1.0), caption="a cat"),
        pair(2, "x", "d", (0.0, 1.0), caption="a dog"),
        pair(2, "a", "b", (0.0, 0.0), has_label=False),
        pair(2, "c", "c", (1.0, 0.0)),
    ]
    data = tmp_path / "pickapic_v2" / "data"
    data.mkdir(parents=True)
    pd.DataFrame(rows).to_parquet(data / "test-00000-of-00002-ab.parquet")
    pd.DataFrame(rows[:1]).to_parquet(data / "test_unique-00000-of-00001-cd.parquet")
    return data


def test_votes_choices_and_repeats(folder: Path, noted, accounted) -> None:
    d = PickAPicReader().read(folder)
    votes = check_votes(d.votes)
    check_users(d.users)
    accounted(d, 8)
    assert votes[["participant_id", "left_image_id", "right_image_id", "choice", "kind"]].to_numpy().tolist() == [
        ["pickapic_1", "pickapic_a", "pickapic_b", "left", "main"],
        ["pickapic_1", "pickapic_a", "pickapic_c", "tie", "main"],
        ["pickapic_1", "pickapic_b", "pickapic_a", "left", "repeat"],
        ["pickapic_2", "pickapic_a", "pickapic_b", "right", "main"],
        ["pickapic_2", "pickapic_x", "pickapic_d", "right", "main"],
    ]
    assert votes["repeat_of"].tolist()[2] == votes["trial_id"][0]
    assert votes["right_condition"].tolist() == ["dreamlike", "dreamlike", "sdxl", "dreamlike", "not stated"]
    assert set(votes["split"]) == {"test"}
    assert not votes["side_known"].any()
    assert noted(d, "votes that repeat another one") == 1
    assert noted(d, "judged before, kept as repeats") == 1
    assert sorted(d.set_aside["reason"]) == ["an image against itself", "no answer"]
    assert noted(d, "split test_unique, by 1 people") == 1


def test_one_prompt_whatever_spaces_stand_round_it(folder: Path) -> None:
    d = PickAPicReader().read(folder)
    assert d.votes["prompt_id"].nunique() == len(d.prompts) == 2
    assert sorted(text.strip() for text in d.prompts["text"]) == ["a cat", "a dog"]


def test_pictures_are_taken_out_once(folder: Path, tmp_path: Path, noted) -> None:
    reader = PickAPicReader(tmp_path / "pictures")
    d = reader.read(folder)
    check_images(d.images)
    assert d.images["image_id"].tolist() == [f"pickapic_{uid}" for uid in "abcd"]
    assert d.images["generator"].tolist()[:2] == ["sdxl", "dreamlike"]
    assert noted(d, "taken out of the Parquet files") == 5
    assert noted(d, "images left out, undecodable: pickapic_x") == 1
    assert noted(d, "pairs of which an image is not there, kept") == 1
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "pictures").iterdir()}
    assert noted(reader.read(folder), "taken out of the Parquet files") == 0
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "pictures").iterdir()} == before


def test_without_a_place_for_pictures_the_votes_stay(folder: Path, noted) -> None:
    d = PickAPicReader().read(folder)
    assert len(d.images) == 0
    assert noted(d, "pairs of which an image is not there, kept") == 5


def test_what_cannot_be_understood_is_refused(folder: Path, pair) -> None:
    pd.DataFrame([pair(1, "a", "b", (1.0, 0.0)), pair(1, "a", "b", (1.0, 1.0))]).to_parquet(folder / "train-0.parquet")
    with pytest.raises(TableError, match=r"neither a choice nor a tie in 1 of 2 rows, first row 2 \(are_different"):
        PickAPicReader().read(folder)
    pd.DataFrame([pair(1, "a", "b", (1.0, 0.0))]).drop(columns="user_id").to_parquet(folder / "train-0.parquet")
    with pytest.raises(TableError, match="no column for user_id"):
        PickAPicReader().read(folder)
    with pytest.raises(StoreError, match="no Parquet file"):
        PickAPicReader().read(folder.parent.parent / "drawn")


def test_a_uid_that_leaves_the_folder_is_refused(folder: Path, pair, tmp_path: Path) -> None:
    row = pair(1, "a", "b", (1.0, 0.0)) | {"image_0_uid": "../../evil"}
    pd.DataFrame([row]).to_parquet(folder / "train-0.parquet")
    with pytest.raises(TableError, match="uid that is no file name"):
        PickAPicReader(tmp_path / "pictures").read(folder)
    assert not (tmp_path.parent / "evil.jpg").exists()
