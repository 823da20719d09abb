"""EVA in its documented layout: fields between equals signs, years of birth under `age`, pictures twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from analysis.tables import check_images, check_ratings, check_users
from beholder.errors import TableError
from beholder.readers.eva import EvaReader

VOTES = """image_id=user_id=score=difficulty=visual=composition=quality=semantic=vote_time="1"="2"="3"="4"
100="E1"=7=3=3=3=3=2=11.5=1=0=0=1
200="E1"=0=3=1=1=1=2=4=0=0=1=0
100="C2"=10=4=4=4=4=4=7=0=1=0=0
300="C2"=5=2=2=2=2=2=9=0=1=0=0
"""
PEOPLE = """"id"="age"="region"="photographic_level_id"="gender_id"="eyecheck"
"E1"=1988=75=1=2=1,2
"C2"=12=FR=9=1=0
"E9"=1990=FR=3=1=0
"""


@pytest.fixture
def folder(tmp_path: Path, draw) -> Path:
    """Two of three people voted; each picture lies in two folders."""
    data = tmp_path / "eva-dataset-master" / "data"
    data.mkdir(parents=True)
    (data / "votes_filtered.csv").write_text(VOTES)
    (data / "users.csv").write_text(PEOPLE)
    (data / "image_content_category.csv").write_text('"image_id","category"\n"100","1"\n"200","5"\n"300","3"\n')
    images = tmp_path / "eva-dataset-master" / "images"
    for k, (name, category) in enumerate((("100", "1"), ("200", "5"), ("300", "3"))):
        path = draw(images / "EVA_together" / f"{name}.jpg", k)
        again = images / "EVA_category" / "EVA_category" / category / path.name
        again.parent.mkdir(parents=True)
        shutil.copy(path, again)
    return tmp_path


def test_tables_and_scale(folder: Path, accounted) -> None:
    d = EvaReader().read(folder)
    check_ratings(d.ratings)
    check_images(d.images)
    check_users(d.users)
    accounted(d, 4)
    assert d.ratings[["user_id", "image_id", "score", "response_ms"]].to_numpy().tolist() == [
        ["eva_C2", "eva_100", 1000, 7000],
        ["eva_C2", "eva_300", 500, 9000],
        ["eva_E1", "eva_100", 700, 11500],
        ["eva_E1", "eva_200", 0, 4000],
    ]
    assert d.ratings["chose_light_colour"].tolist() == [0, 0, 1, 0]
    assert d.images["category"].tolist() == ["animals", "still life", "human"]
    assert "EVA_category" in d.images["path"][0]  # the same bytes in two places: the first by name


def test_years_of_birth_are_no_ages_and_codes_become_words(folder: Path, noted) -> None:
    d = EvaReader().read(folder)
    assert "age" not in d.users.columns
    users = d.users.set_index("user_id")
    assert users.loc["eva_E1", ["birth_year", "gender", "photographic_level", "eyecheck"]].tolist() == [
        1988, "female", "beginner", "1,2",
    ]  # fmt: skip
    assert pd.isna(users.loc["eva_C2", "birth_year"])
    assert noted(d, "year of birth cannot be one") == 1
    assert noted(d, "photographic_level has no known code") == 1
    assert noted(d, "who rated nothing") == 1


def test_two_different_pictures_of_one_name_are_refused(folder: Path, draw) -> None:
    draw(folder / "eva-dataset-master" / "images" / "EVA_category" / "EVA_category" / "1" / "100.jpg", 77)
    with pytest.raises(TableError, match=r"'100.jpg' may be any of"):
        EvaReader().read(folder)


def test_what_cannot_be_understood_is_refused(folder: Path) -> None:
    path = folder / "eva-dataset-master" / "data" / "votes_filtered.csv"
    path.write_text(VOTES.replace('"C2"=10', '"C2"=11'))
    with pytest.raises(TableError, match="off the scale in 1 of 4 rows, first row 3"):
        EvaReader().read(folder)
    path.write_text(VOTES.replace("=", ","))
    with pytest.raises(TableError, match="no column for user_id"):
        EvaReader().read(folder)
    path.write_text(VOTES.split("\n", 1)[0] + "\n")
    with pytest.raises(TableError, match="no rows"):
        EvaReader().read(folder)
