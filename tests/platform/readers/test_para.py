"""PARA in its documented layout: session folders, half points, a misspelt test list, a separate file of people."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.tables import check_images, check_ratings, check_users
from beholder.errors import StoreError, TableError
from beholder.readers.para import ParaReader
from beholder.readers.release import release_split

HEADER = (
    "sessionId,imageName,userId,aestheticScore,qualityScore,compositionScore,colorScore,dofScore,contentScore,lightScore,"
    "contentPreference,willingnessToShare,imgEmotion,difficultyOfJudgment,semantic"
)
ROWS = [
    "session1,iaa_pub1_.jpg,A1,1.0,2.1,3,3,3,3,3,4,2,calm,2,portrait",
    "session1,iaa_pub1_.jpg,A2,5.0,4.4,5,5,5,5,5,5,5,joy,1,portrait",
    "session2,iaa_pub2_.jpg,A1,3.5,3.3,3,3,3,3,3,3,3,calm,2,food",
    "session2,iaa_pub2_.jpg,007,2.5,3.3,3,3,3,3,3,3,3,calm,2,food",
    "session2,iaa_pub3_.jpg,A2,,3.3,3,3,3,3,3,3,3,calm,2,animal",
    "session9,iaa_pub1_.jpg,A2,2.0,3.3,3,3,3,3,3,3,3,calm,2,animal",
]
PEOPLE = """userId,age,gender,EducationalLevel,artExperience,photographyExperience,personality-E,personality-A
A1,30-34,female,junior_college,proficient,beginner,6,7
A2,22-25,male,university,competent,competent,4,5
A9,18-21,male,university,beginner,beginner,3,3
"""


@pytest.fixture
def folder(tmp_path: Path, draw) -> Path:
    """Three people (one unknown), four pictures, two of them with the same name in other sessions."""
    annotation = tmp_path / "annotation"
    annotation.mkdir()
    (annotation / "PARA-Images.csv").write_text("\n".join([HEADER, *ROWS]) + "\n")
    (annotation / "PARA-UserInfo.csv").write_text(PEOPLE)
    (annotation / "PARA-GiaaTrain.csv").write_text(
        "sessionId,imageName,aestheticScore_mean\nsession1,iaa_pub1_.jpg,3\n"
    )
    (annotation / "ARA-GiaaTest.csv").write_text("sessionId,imageName,aestheticScore_mean\nsession2,iaa_pub2_.jpg,3\n")
    (tmp_path / "userset").mkdir()
    (tmp_path / "userset" / "TrainUserIDs_Fold1.txt").write_text("A1\n007\n")
    for k, name in enumerate(("session1/iaa_pub1_", "session2/iaa_pub2_", "session2/iaa_pub3_", "session9/iaa_pub1_")):
        draw(tmp_path / "imgs" / f"{name}.jpg", k)
    return tmp_path


def test_tables_scale_and_sessions(folder: Path, noted, accounted) -> None:
    d = ParaReader().read(folder)
    check_ratings(d.ratings)
    check_images(d.images)
    check_users(d.users)
    accounted(d, len(ROWS))
    score = d.ratings.set_index(["user_id", "image_id"])["score"]
    assert score.to_dict() == {
        ("para_007", "para_session2_iaa_pub2_"): 375,
        ("para_A1", "para_session1_iaa_pub1_"): 0,
        ("para_A1", "para_session2_iaa_pub2_"): 625,
        ("para_A2", "para_session1_iaa_pub1_"): 1000,
        ("para_A2", "para_session9_iaa_pub1_"): 250,
    }
    assert d.scale["levels"] == [0, 125, 250, 375, 500, 625, 750, 875, 1000]
    paths = d.images.set_index("image_id")["path"]
    assert paths["para_session9_iaa_pub1_"].endswith("imgs/session9/iaa_pub1_.jpg")
    assert d.set_aside["reason"].tolist() == ["no rating"]
    assert noted(d, "without a rating") == 1
    assert set(d.ratings.columns) >= {"qualityScore", "contentPreference", "imgEmotion"}
    assert d.images.set_index("image_id").loc["para_session2_iaa_pub2_", "semantic"] == "food"


def test_people_with_and_without_data(folder: Path, noted) -> None:
    d = ParaReader().read(folder)
    users = d.users.set_index("user_id")
    assert users.loc["para_A1", ["age", "education", "art_experience", "fold_1"]].tolist() == [
        "30-34", "junior_college", "proficient", "train",
    ]  # fmt: skip
    assert users.loc["para_A2", "fold_1"] == "test"
    assert users.loc["para_A1", "personality-E"] == 6
    assert users["age"].isna()["para_007"]
    assert noted(d, "not in the file of people") == 1
    assert noted(d, "who rated nothing") == 1


def test_the_split_is_read_from_lists_of_images_whatever_they_are_called(folder: Path, noted) -> None:
    d = ParaReader().read(folder)
    assert d.ratings.groupby("split", dropna=False).size().to_dict() == {"train": 3, "test": 2}
    split = release_split(d.ratings, "seen")
    assert set(d.ratings.loc[split.test, "user_id"]) == {"para_A1"}
    assert split.notes[0].what == "ratings of test by people without a training rating, left out"
    assert split.notes[0].rows == 1
    assert noted(d, "in none of the release's splits") == 1  # iaa_pub3_, which has no score


def test_scores_between_half_points_are_kept_and_counted(folder: Path, noted) -> None:
    path = folder / "annotation" / "PARA-Images.csv"
    path.write_text(path.read_text().replace("A1,3.5", "A1,3.25"))
    d = ParaReader().read(folder)
    assert noted(d, "between the half points") == 1
    assert "levels" not in d.scale


def test_flat_picture_folders_and_upper_case_names_are_found(folder: Path, draw, noted) -> None:
    (folder / "imgs" / "session2" / "iaa_pub2_.jpg").unlink()
    draw(folder / "imgs" / "IAA_PUB2_.JPG", 1)
    d = ParaReader().read(folder)
    assert "para_session2_iaa_pub2_" in set(d.images["image_id"])
    assert noted(d, "repairing the encoding") == 1


def test_what_cannot_be_understood_is_refused(folder: Path) -> None:
    path = folder / "annotation" / "PARA-Images.csv"
    good = path.read_text()
    path.write_text(good.replace("A1,1.0", "A1,0.5"))
    with pytest.raises(TableError, match=r"off the scale in 1 of 6 rows, first row 1 \(session_id=session1"):
        ParaReader().read(folder)
    path.write_text(good.replace("aestheticScore", "beauty"))
    with pytest.raises(TableError, match="no column for score as aestheticScore"):
        ParaReader().read(folder)
    path.write_text(good.replace("userId", "user Id,userId").replace(",A1,", ",A1,B1,").replace(",A2,", ",A2,B2,"))
    with pytest.raises(TableError, match="two columns for user_id: user Id, userId"):
        ParaReader().read(folder)
    path.unlink()
    with pytest.raises(StoreError, match=r"no PARA-Images\.csv"):
        ParaReader().read(folder)


def test_without_any_picture_it_says_where_it_looked(folder: Path) -> None:
    for path in folder.rglob("*.jpg"):
        path.unlink()
    with pytest.raises(StoreError, match=r"none of 4 rated images .*; 0 image files there"):
        ParaReader().read(folder)
