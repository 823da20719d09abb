"""PAMELA in its documented layout: JSON lists, nested metadata, five splits, broken pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.tables import check_images, check_ratings, check_users
from beholder.errors import EstimateError, StoreError, TableError, UserError
from beholder.readers.pamela import PamelaReader
from beholder.readers.release import release_split


def rating(user: str, image: int, score: float | None, **more: Any) -> dict[str, Any]:
    art = image % 2 == 0
    return {
        "participant_id": user,
        "image_id": image,
        "image_path": f"./images/{image:04d}.png",
        "original_score": score,
        "prompt": f"prompt {image // 2}",
        "participant": {"age": 20 + len(user), "gender": "female", "vaiak_items": [1, 2]},
        "image_metadata": {
            "group": "food",
            "style": "Cubism" if art else None,
            "type": "Art" if art else "Photorealism",
        },
        "quality_flag": "ok",
    } | more


SPLITS = {
    "train": [rating("p1", 10, 1.0), rating("p1", 20, 5), rating("p2", 10, "3.25"), rating("p2", 21, 2.5)],
    "val_seen": [rating("p1", 30, 4.0), rating("p2", 99, 2.0)],
    "val_unseen": [rating("p10", 30, 1.5)],
    "test_seen": [rating("p1", 40, 2.0), rating("p2", 41, None), rating("p2", 40, 3.0), rating("p2", 40, 3.0)],
    "test_unseen": [rating("p11", 10, 4.0), rating("p11", 50, 2.0), rating("p11", 66, 3.0)],
}
ROWS = sum(map(len, SPLITS.values()))


@pytest.fixture
def folder(tmp_path: Path, draw) -> Path:
    """Two trained people, two new ones; image 99 is missing, 66 is no picture, one row twice, one answer empty."""
    for split, rows in SPLITS.items():
        write(tmp_path, split, rows)
    for image in (10, 20, 21, 30, 40, 41, 50):
        draw(tmp_path / "PAMELA" / "images" / f"{image:04d}.png", image)
    (tmp_path / "PAMELA" / "images" / "0066.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    return tmp_path


def write(folder: Path, split: str, rows: list[Any]) -> None:
    path = folder / "PAMELA" / "annotations" / f"pamela_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))


def test_tables_scale_and_splits(folder: Path, noted, accounted) -> None:
    d = PamelaReader().read(folder)
    check_ratings(d.ratings)
    check_images(d.images)
    check_users(d.users)
    accounted(d, ROWS)
    scores = d.ratings.set_index(["user_id", "image_id"])["score"]
    assert scores["pamela_p1", "pamela_10"] == 0
    assert scores["pamela_p1", "pamela_20"] == 1000
    assert scores["pamela_p2", "pamela_10"] == 562  # (3.25 - 1) / 4 of 1000 is 562.5, rounded to even
    assert d.ratings.set_index(["user_id", "image_id"])["raw_score"]["pamela_p2", "pamela_10"] == 3.25
    assert d.ratings["split"].value_counts().to_dict() == {
        "train": 4, "val_seen": 1, "val_unseen": 1, "test_seen": 2, "test_unseen": 2,
    }  # fmt: skip
    assert noted(d, "the card states 199, reports of the paper 205") == 4
    assert noted(d, "release's split test_unseen, by 1 people") == 3
    assert noted(d, "rows of split test_unseen; the card states 2470") == 3


def test_metadata_goes_to_images_and_people_and_unknown_fields_stay(folder: Path) -> None:
    d = PamelaReader().read(folder)
    images = d.images.set_index("image_id")
    assert images.loc["pamela_10", ["group", "style", "type"]].tolist() == ["food", "Cubism", "Art"]
    assert pd.isna(images.loc["pamela_21", "style"])
    users = d.users.set_index("user_id")
    assert users.loc["pamela_p11", "age"] == 23
    assert users.loc["pamela_p11", "participant.vaiak_items"] == "[1, 2]"
    assert set(d.ratings["quality_flag"]) == {"ok"}
    assert not {"group", "age", "prompt", "file"} & set(d.ratings.columns)


def test_images_of_one_prompt_share_its_id(folder: Path) -> None:
    d = PamelaReader().read(folder)
    prompt = d.images.set_index("image_id")["prompt_id"]
    assert prompt["pamela_20"] == prompt["pamela_21"] != prompt["pamela_30"]
    assert dict(zip(d.prompts["prompt_id"], d.prompts["text"], strict=True))[prompt["pamela_20"]] == "prompt 10"


def test_broken_pictures_empty_answers_and_copies_are_counted(folder: Path, noted) -> None:
    d = PamelaReader().read(folder)
    assert sorted(d.set_aside["reason"]) == ["image missing", "image undecodable", "no rating"]
    assert noted(d, "images left out, undecodable: pamela_66") == 1
    assert noted(d, "rows that repeat another one") == 1
    assert noted(d, "images of test_unseen that are in train") == 1


def test_the_releases_own_split_tests_new_images_only(folder: Path) -> None:
    ratings = PamelaReader().read(folder).ratings
    seen = release_split(ratings, "seen")
    assert set(ratings.loc[seen.test, "image_id"]) == {"pamela_40"}
    assert len(seen.context) == 0
    unseen = release_split(ratings, "unseen")
    assert ratings.loc[unseen.context, "image_id"].tolist() == ["pamela_10"]
    assert ratings.loc[unseen.test, "image_id"].tolist() == ["pamela_50"]
    assert not set(ratings.loc[unseen.train, "user_id"]) & set(ratings.loc[unseen.test, "user_id"])
    with pytest.raises(UserError, match="no split train and probe_unseen"):
        release_split(ratings, "unseen", "probe")


def test_a_release_that_tests_on_training_images_has_nothing_left_to_test(folder: Path) -> None:
    write(folder, "test_unseen", [rating("p11", 10, 4.0), rating("p11", 20, 4.0)])
    with pytest.raises(EstimateError, match="2 of images in training"):
        release_split(PamelaReader().read(folder).ratings, "unseen")


def test_other_names_of_the_fields_are_understood(folder: Path) -> None:
    renamed = {"participant_id": "Participant ID", "original_score": "Rating", "image_id": "imageId"}
    rows = [{renamed.get(k, k): v for k, v in row.items()} for row in SPLITS["train"]]
    write(folder, "train", rows)
    assert (PamelaReader().read(folder).ratings["split"] == "train").sum() == 4


def test_missing_splits_are_named_and_the_archive_is_pointed_at(folder: Path, noted) -> None:
    (folder / "PAMELA" / "annotations" / "pamela_val_seen.json").unlink()
    assert noted(PamelaReader().read(folder), "splits that are not there: val_seen") == 1
    empty = folder / "empty"
    empty.mkdir()
    (empty / "PAMELA.zip").write_bytes(b"")
    with pytest.raises(StoreError, match=r"unpack PAMELA\.zip"):
        PamelaReader().read(empty)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (rating("p1", 10, 5.5), r"score off the scale in 1 of 2 rows, first row 2 \(user_id=p1.*5.5"),
        (rating("p1", 10, "good"), "no number in 1 of 2 rows.*score=good"),
        (rating("", 10, 3), "no user_id in 1 of 2 rows"),
        ({"participant_id": "p1", "original_score": 2}, "no image_id in 1 of 2 rows"),
        ("text", "row 2 is 'text'"),
        (rating("p1", 10, 3, image_path="images/other.png"), "pamela_10' goes by 2 file names"),
    ],
)
def test_what_cannot_be_understood_is_refused_with_the_row(folder: Path, row: Any, message: str) -> None:
    write(folder, "train", [rating("p2", 10, 3.0), row])
    with pytest.raises(TableError, match=message):
        PamelaReader().read(folder)


def test_a_file_that_is_no_list_is_refused(folder: Path) -> None:
    (folder / "PAMELA" / "annotations" / "pamela_train.json").write_text('{"rows": []}')
    with pytest.raises(TableError, match="holds dict"):
        PamelaReader().read(folder)
    (folder / "PAMELA" / "annotations" / "pamela_train.json").write_text("[{")
    with pytest.raises(TableError, match="is no JSON"):
        PamelaReader().read(folder)
