"""LAPIS in its documented layouts: exact copies, true repeats, mixed encodings, people without data."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from analysis.tables import check_images, check_ratings, check_users
from beholder.errors import StoreError, TableError
from beholder.readers.lapis import LapisReader

HEADER = (
    "image_id,image_filename,participant_id,response,age,nationality,demo_gender,demo_edu,demo_colorblind,"
    "VAIAK1,VAIAK2,2VAIAK1,Art Interest VAIAK,artist,style,genre"
)
ANNA = "31,belgian,female,master,No,4,5,3,3.9"
NOBODY = ",,,,,,,,"
ROWS = [
    f"1,figurative/still-life.jpg,p1,80,{ANNA},Kees Verwey,Impressionism,still life",
    f"1,figurative/still-life.jpg,p1,80,{ANNA},Kees Verwey,Impressionism,still life",
    f"1,figurative/still-life.jpg,p1,64,{ANNA},Kees Verwey,Impressionism,still life",
    f"1,still-life.jpg,p2,0,{NOBODY},Kees Verwey,Impressionism,still life",
    f"2,andré-derain_boats.jpg,p1,100,{ANNA},André Derain,Fauvism,marina",
    f"2,andré-derain_boats.jpg,p2,33,{NOBODY},André Derain,Fauvism,marina",
    f"3,gone.jpg,p2,50,{NOBODY},Nobody,Realism,portrait",
]


@pytest.fixture
def folder(tmp_path: Path, draw) -> Path:
    """Two people, three images: one under its name, one under a name that an archive tool escaped, one missing."""
    annotation = tmp_path / "annotation"
    annotation.mkdir()
    (annotation / "LAPIS_PIAA.csv").write_bytes("\n".join([HEADER, *ROWS]).encode("latin-1"))
    (tmp_path / "imageset").mkdir()
    (tmp_path / "imageset" / "TrainImageSet.txt").write_text("still-life.jpg\n")
    (tmp_path / "imageset" / "TestImageSet.txt").write_text("images/andré-derain_boats.jpg\n")
    draw(tmp_path / "images" / "still-life.jpg", 1)
    draw(tmp_path / "images" / "andr#U00e9-derain_boats.jpg", 2)
    return tmp_path


def test_copies_are_dropped_and_true_repeats_kept(folder: Path, noted, accounted) -> None:
    d = LapisReader().read(folder)
    check_ratings(d.ratings)
    check_images(d.images)
    check_users(d.users)
    accounted(d, len(ROWS))
    assert noted(d, "rows that repeat another one") == 1
    assert noted(d, "kept as occasion 2") == 1
    own = d.ratings[(d.ratings["user_id"] == "lapis_p1") & (d.ratings["image_id"] == "lapis_still-life")]
    assert own[["score", "occasion"]].to_numpy().tolist() == [[800, 1], [640, 2]]
    assert d.scale["formula"] == "round((score - 0) / 100 * 1000)"


def test_an_index_column_does_not_hide_copies(folder: Path, noted) -> None:
    path = folder / "annotation" / "LAPIS_PIAA.csv"
    lines = path.read_bytes().decode("latin-1").splitlines()
    path.write_bytes("\n".join(f"{'' if k == 0 else k},{line}" for k, line in enumerate(lines)).encode("latin-1"))
    assert noted(LapisReader().read(folder), "rows that repeat another one") == 1


def test_folders_in_names_and_broken_encodings_are_repaired_and_counted(folder: Path, noted) -> None:
    d = LapisReader().read(folder)
    assert set(d.images["image_id"]) == {"lapis_still-life", "lapis_andré-derain_boats"}
    assert noted(d, "repairing the encoding") == 1
    assert noted(d, "LAPIS_PIAA.csv is not UTF-8") == 1
    assert noted(d, "images left out, missing: lapis_gone") == 1
    assert d.images.set_index("image_id").loc["lapis_andré-derain_boats", "artist"] == "André Derain"
    assert d.images["release_image_id"].tolist() == ["2", "1"]
    assert d.set_aside["reason"].tolist() == ["image missing"]


def test_names_that_were_decoded_wrongly_are_found_too(folder: Path, draw) -> None:
    (folder / "images" / "andr#U00e9-derain_boats.jpg").unlink()
    draw(folder / "images" / "andrÃ©-derain_boats.jpg", 2)
    assert len(LapisReader().read(folder).images) == 2


def test_a_repair_that_could_be_two_files_is_none(folder: Path, draw) -> None:
    draw(folder / "images" / "andr#U00e8-derain_boats.jpg", 3)
    assert set(LapisReader().read(folder).images["image_id"]) == {"lapis_still-life"}


def test_people_leave_the_ratings_and_silence_is_counted(folder: Path, noted) -> None:
    d = LapisReader().read(folder)
    users = d.users.set_index("user_id")
    assert users.loc["lapis_p1", ["age", "gender", "education", "art_interest", "VAIAK2"]].tolist() == [
        31, "female", "master", 3.9, 5,
    ]  # fmt: skip
    assert pd.isna(users.loc["lapis_p2", "age"])
    assert noted(d, "answered no question about themselves") == 1
    assert not {"age", "VAIAK1", "style"} & set(d.ratings.columns)


def test_the_image_lists_give_the_split(folder: Path) -> None:
    d = LapisReader().read(folder)
    assert d.ratings.groupby("split").size().to_dict() == {"test": 2, "train": 3}
    assert d.set_aside["split"].isna().all()


def test_the_other_names_of_file_and_score(folder: Path) -> None:
    path = folder / "annotation" / "LAPIS_PIAA.csv"
    text = path.read_bytes().decode("latin-1").replace(",response,", ",rating,")
    (folder / "annotation" / "LAPIS_individualratings_metaANDdemodata.csv").write_text(text)
    path.unlink()
    assert len(LapisReader().read(folder).ratings) == 5


def test_what_cannot_be_understood_is_refused(folder: Path) -> None:
    path = folder / "annotation" / "LAPIS_PIAA.csv"
    good = path.read_bytes()
    path.write_bytes(good.replace(b"p2,33", b"p2,133"))
    with pytest.raises(TableError, match=r"off the scale in 1 of 7 rows, first row 6 .*allowed: 0\.\.\.100"):
        LapisReader().read(folder)
    path.write_bytes(good.replace(b"p2,33", b",33"))
    with pytest.raises(TableError, match="no user_id in 1 of 7 rows, first row 6"):
        LapisReader().read(folder)
    path.unlink()
    (folder / "annotation" / "Dataset_individualratings_metadata.xlsx").write_bytes(b"PK")
    with pytest.raises(TableError, match="save it as CSV"):
        LapisReader().read(folder)
    with pytest.raises(StoreError, match="no folder"):
        LapisReader().read(folder / "nowhere")
