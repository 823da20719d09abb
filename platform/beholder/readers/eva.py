"""EVA: photographs of AVA rated 0 to 10 with four attributes, by volunteers and workers.

Kang, Valenzise, Dufaux (2020), "EVA: An Explainable Visual Aesthetics Dataset", ATQAM/MAST; github
`kang-gnak/eva-dataset`, CC0 1.0 (the photographs belong to their authors).

Layout: `data/votes_filtered.csv` and `data/users.csv`, both with `=` between fields; pictures `<image_id>.jpg` in
`images/EVA_together/` or, once more, in `images/EVA_category/`; `data/image_content_category.csv`. The column `age` of
`users.csv` holds the year of birth, which stays `birth_year`: when people voted is not stated. Answers by checkbox have
the columns `1` to `4`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from beholder.readers.assemble import assemble
from beholder.readers.base import Dataset, Note
from beholder.readers.columns import Aliases, linear_scale, named, need_ids, read_rows, refuse, ticks
from beholder.readers.folder import ReleaseFolder, ReleaseReader

if TYPE_CHECKING:
    import pandas as pd

ALIASES: Aliases = {
    "user_id": ("user_id", "user"),
    "image_id": ("image_id", "image"),
    "score": ("score", "general_score"),
    "vote_time": ("vote_time",),
    "chose_light_colour": ("1",),
    "chose_composition_depth": ("2",),
    "chose_quality": ("3",),
    "chose_semantic": ("4",),
}
PEOPLE: Aliases = {
    "user_id": ("id", "user_id"),
    "birth_year": ("age", "birth_year"),
    "region": ("region", "region_id"),
    "photographic_level": ("photographic_level_id", "photographic_level"),
    "gender": ("gender_id", "gender"),
    "eyecheck": ("eyecheck",),
}
GENDERS = {"1": "male", "2": "female"}
LEVELS = {"0": "none", "1": "beginner", "2": "amateur", "3": "professional"}
BIRTH_YEARS = range(1900, 2021)
CATEGORIES = {
    "1": "animals",
    "2": "architectures and city scenes",
    "3": "human",
    "4": "natural and rural scenes",
    "5": "still life",
    "6": "other",
}


@dataclass(frozen=True)
class EvaReader(ReleaseReader):
    """Reader of the repository, with its pictures unpacked; reads the votes its authors filtered."""

    name: ClassVar[str] = "eva"

    def read(self, folder: Path) -> Dataset:
        """Read all filtered votes.

        Raises
        ------
        StoreError
            If the votes or all pictures are missing.
        TableError
            Showing the first row without an id, or with a score that is no whole number from 0 to 10.
        """
        release = ReleaseFolder(folder, "EVA")
        path = release.need("votes_filtered.csv")
        raw, notes = read_rows(path, [*ALIASES["user_id"], *ALIASES["image_id"]], "=")
        rows = named(raw, ALIASES, ("user_id", "image_id", "score"), path)
        need_ids(rows, ("user_id", "image_id"), path)
        rows = ticks(rows, 0, 10, path)
        refuse(path, rows, rows["raw_score"].notna() & (rows["raw_score"] % 1 != 0), "score between levels", "0...10")
        notes = [Note("ratings read", len(rows)), *notes]
        rows["file"] = rows["image_id"] + ".jpg"
        if "vote_time" in rows.columns:
            rows = rows.assign(response_ms=rows["vote_time"] * 1000).drop(columns="vote_time")
        rows["category"] = rows["image_id"].map(_categories(release))
        users, of_users = _users(release)
        return assemble(
            release,
            self.name,
            rows,
            linear_scale(0, 10, 1),
            [*notes, *of_users],
            image_columns=["category"],
            users=users,
            need_pictures=self.need_pictures,
        )


def _categories(release: ReleaseFolder) -> dict[str, str]:
    path = release.find("image_content_category.csv")
    if path is None:
        return {}
    raw, _ = read_rows(path, ("image_id", "id", "category", "image_content_category"))
    first, second = raw.columns[:2]
    return {str(i): CATEGORIES.get(str(c), str(c)) for i, c in zip(raw[first], raw[second], strict=True)}


def _users(release: ReleaseFolder) -> tuple[pd.DataFrame | None, list[Note]]:
    """People, with codes in words; what no code explains is missing and counted."""
    path = release.find("users.csv")
    if path is None:
        return None, [Note("no users.csv: nothing is known of the people", 0)]
    raw, notes = read_rows(path, [name for names in PEOPLE.values() for name in names], "=")
    users = named(raw, PEOPLE, ("user_id",), path)
    need_ids(users, ("user_id",), path)
    for column, words in (("gender", GENDERS), ("photographic_level", LEVELS)):
        if column in users.columns:
            coded = users[column].map(words)
            unknown = int((coded.isna() & users[column].notna()).sum())
            if unknown:
                notes.append(Note(f"people whose {column} has no known code, missing", unknown))
            users[column] = coded
    if "birth_year" in users.columns:
        import pandas as pd

        year = pd.to_numeric(users["birth_year"], errors="coerce")
        odd = users["birth_year"].notna() & ~year.isin(BIRTH_YEARS)
        if odd.any():
            notes.append(Note("people whose year of birth cannot be one, missing", int(odd.sum())))
        users["birth_year"] = year.where(~odd).astype("Int64")
    return users, notes
