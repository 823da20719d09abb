"""The CSV reader on small data sets in the documented layout, with the usual traps in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis.tables import check_images, check_ratings, check_users
from beholder.errors import StoreError, TableError, UserError
from beholder.readers.base import Dataset
from beholder.readers.registry import reader_of

MAPPING = """
ratings:
  file: ratings.csv
  columns: {user_id: rater, image_id: item, score: beauty, occasion: rep}
  scale: {min: 1, max: 7}
images:
  folder: images
  pattern: "{image_id}.jpg"
  columns: {image_id: item, prompt_id: scene, prompt: caption}
  file: images.csv
users:
  file: users.csv
  columns: {user_id: rater, age: years}
"""
RATINGS = """rater,item,beauty,rep,device
007,a,1,1,phone
007,b,7,1,phone
007,b,6,2,phone
8,a,4,1,desk
8,c,3,1,desk
8,gone,2,1,desk
"""
IMAGES = "item,scene,caption\na,s1,a barn at dusk\nb,s1,a barn at dusk\nc,s2,a harbour\ngone,s2,a harbour\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images of two prompts, a fourth one missing, two people, one repeat."""
    (tmp_path / "images").mkdir()
    for k, name in enumerate("abc"):
        Image.fromarray(np.full((8, 10, 3), 40 * k, np.uint8)).save(tmp_path / "images" / f"{name}.jpg")
    (tmp_path / "ratings.csv").write_text(RATINGS)
    (tmp_path / "images.csv").write_text(IMAGES)
    (tmp_path / "users.csv").write_text("rater,years\n007,31\n8,54\n9,20\n")
    (tmp_path / "mapping.yaml").write_text(MAPPING)
    return tmp_path


def read(folder: Path, old: str = "", new: str = "") -> Dataset:
    """The data set after replacing a piece of the mapping."""
    text = (folder / "mapping.yaml").read_text()
    assert old in text
    (folder / "mapping.yaml").write_text(text.replace(old, new))
    return reader_of("csv", folder / "mapping.yaml").read(folder)


def test_columns_scale_prompts_and_users(folder: Path) -> None:
    d = read(folder)
    check_ratings(d.ratings)
    check_images(d.images)
    check_users(d.users)
    assert d.ratings["user_id"].tolist() == ["007", "007", "007", "8", "8"]
    assert d.ratings["score"].tolist() == [0, 1000, 833, 500, 333]
    assert d.ratings["prompt_id"].tolist() == ["s1", "s1", "s1", "s1", "s2"]
    assert d.ratings["device"].tolist() == ["phone"] * 3 + ["desk"] * 2
    assert d.scale["levels"] == [0, 167, 333, 500, 667, 833, 1000]
    assert d.images[["image_id", "width", "height"]].to_numpy().tolist() == [["a", 10, 8], ["b", 10, 8], ["c", 10, 8]]
    assert d.prompts.to_numpy().tolist() == [["s1", "a barn at dusk"], ["s2", "a harbour"]]
    assert d.users[["user_id", "age"]].to_numpy().tolist() == [["007", 31], ["8", 54]]
    assert d.set_aside[["image_id", "reason"]].to_numpy().tolist() == [["gone", "image missing"]]


def test_repeats_without_an_occasion_column_are_settled_and_counted(folder: Path) -> None:
    frame = pd.read_csv(folder / "ratings.csv", dtype=str).drop(columns="rep")
    pd.concat([frame, frame.iloc[[0]]]).to_csv(folder / "ratings.csv", index=False)
    d = read(folder, ", occasion: rep")
    check_ratings(d.ratings)
    counted = {n.what: n.rows for n in d.notes}
    assert counted["rows that repeat another one in every answer, dropped"] == 1
    second = d.ratings[d.ratings["occasion"] == 2]
    assert second[["user_id", "image_id", "score"]].to_numpy().tolist() == [["007", "b", 833]]


def test_without_prompts_each_image_is_its_own_and_a_note_says_so(folder: Path) -> None:
    d = read(folder, "  columns: {image_id: item, prompt_id: scene, prompt: caption}\n  file: images.csv\n")
    assert (d.ratings["prompt_id"] == d.ratings["image_id"]).all()
    assert any("each is its own" in n.what for n in d.notes)


def test_undecodable_images_are_counted_and_their_ratings_set_aside(folder: Path) -> None:
    (folder / "images" / "b.jpg").write_bytes(b"no picture")
    d = read(folder)
    assert sorted(d.set_aside["image_id"]) == ["b", "b", "gone"]
    assert any("cannot be decoded: b" in n.what for n in d.notes)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("scale: {min: 1, max: 7}", "scale: {min: 1, max: 7, step: 1}", "unknown key 'ratings.scale.step'"),
        ("user_id: rater, image_id", "usr_id: rater, image_id", "did you mean 'user_id'"),
        ("users:", "user:", "unknown key 'user'"),
        ("min: 1, max: 7", "min: 7, max: 1", "min below max"),
        ("min: 1, max: 7", "min: 1, max: 5", "2 of 6"),
        ("beauty", "ugliness", "no column ugliness"),
        ("  file: images.csv\n", "", "images.columns without images.file"),
        ("{image_id}.jpg", "{artist}.jpg", "asks for artist"),
        ("{image_id}.jpg", "{image_id}.png", "no rated image is at"),
        ("ratings.csv", "answers.csv", "answers.csv is missing"),
        ("  folder: images\n", "", "images without folder"),
    ],
)
def test_mistakes_name_file_and_remedy(folder: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(folder, old, new)


def test_doubled_and_missing_rows_are_refused(folder: Path) -> None:
    (folder / "users.csv").write_text("rater,years\n8,1\n8,2\n")
    with pytest.raises(TableError, match="user '8' twice"):
        read(folder)
    (folder / "images.csv").write_text("item,scene,caption\na,s1,x\n")
    with pytest.raises(TableError, match="3 rated images without a row"):
        read(folder)


def test_readers_are_found_by_name(folder: Path) -> None:
    with pytest.raises(UserError, match="avt, csv"):
        reader_of("nobody")
    with pytest.raises(UserError, match="without a mapping"):
        reader_of("csv")
    with pytest.raises(UserError, match="with a mapping"):
        reader_of("avt", folder / "mapping.yaml")
    with pytest.raises(UserError, match="no mapping file"):
        reader_of("csv", folder / "none.yaml").read(folder)
    with pytest.raises(StoreError, match="missing"):
        reader_of("csv", folder / "mapping.yaml").read(folder / "images")
