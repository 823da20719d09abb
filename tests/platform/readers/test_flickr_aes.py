"""FLICKR-AES in its documented layout: columns by position, spaces before names."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.tables import check_images, check_ratings
from beholder.errors import TableError
from beholder.readers.flickr_aes import MEANS, RATINGS, FlickrAesReader

TEXT = """worker, imagePair, score
A1,farm1_1_a.jpg,1
A1, farm1_2_b.jpg,5
A2,farm1_1_a.jpg, 4
A2,farm1_2_b.jpg,4
A2,farm1_3_c.jpg,2
"""


@pytest.fixture
def folder(tmp_path: Path, draw) -> Path:
    """Two workers; the ratings' file and one picture have a leading space in their names."""
    (tmp_path / f" {RATINGS[0]}").write_text(TEXT)
    (tmp_path / MEANS).write_text("farm1_1_a.jpg 0.25\nfarm1_2_b.jpg 0.75\n")
    for k, name in enumerate(("farm1_1_a", "farm1_2_b", "farm1_3_c")):
        draw(tmp_path / "40K" / f"{name}.jpg", k)
    return tmp_path


def test_columns_are_read_by_position(folder: Path, noted, accounted) -> None:
    d = FlickrAesReader().read(folder)
    check_ratings(d.ratings)
    check_images(d.images)
    accounted(d, 5)
    assert d.ratings[["user_id", "image_id", "score"]].to_numpy().tolist() == [
        ["flickr_aes_A1", "flickr_aes_farm1_1_a", 0],
        ["flickr_aes_A1", "flickr_aes_farm1_2_b", 1000],
        ["flickr_aes_A2", "flickr_aes_farm1_1_a", 750],
        ["flickr_aes_A2", "flickr_aes_farm1_2_b", 750],
        ["flickr_aes_A2", "flickr_aes_farm1_3_c", 250],
    ]
    assert d.scale["levels"] == [0, 250, 500, 750, 1000]
    assert d.images["release_score"].tolist()[:2] == [0.25, 0.75]
    assert noted(d, "ratings read") == 5


def test_other_header_words_and_no_header_change_nothing(folder: Path) -> None:
    path = folder / f" {RATINGS[0]}"
    path.write_text(TEXT.replace("worker, imagePair, score", "who;what;how,x,y"))
    assert len(FlickrAesReader().read(folder).ratings) == 5
    path.write_text(TEXT.split("\n", 1)[1])
    assert len(FlickrAesReader().read(folder).ratings) == 5


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("A1,farm1_1_a.jpg,1", "A1,farm1_1_a.jpg,0", "off the scale in 1 of 5 rows, first row 1"),
        ("A1,farm1_1_a.jpg,1", "A1,farm1_1_a.jpg,2.5", "between levels in 1 of 5"),
        ("A1,farm1_1_a.jpg,1", "A1,farm1_1_a.jpg,good", "no number in 1 of 5"),
        ("A1,farm1_1_a.jpg,1", ",farm1_1_a.jpg,1", "no user_id in 1 of 5"),
        (TEXT, "a,b\n1,2\n", "2 columns"),
    ],
)
def test_what_cannot_be_understood_is_refused(folder: Path, old: str, new: str, message: str) -> None:
    (folder / f" {RATINGS[0]}").write_text(TEXT.replace(old, new))
    with pytest.raises(TableError, match=message):
        FlickrAesReader().read(folder)
