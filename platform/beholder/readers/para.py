"""PARA: photographs rated by people whose age, education, art experience and personality are known.

Yang, Xu, Li, Qie, Li, Zhang, Guo (2022), "Personalized Image Aesthetics Assessment with Rich Attributes", CVPR;
research terms of the institute's site.

Layout: `annotation/PARA-Images.csv` (one rating a row), `annotation/PARA-UserInfo.csv`, `imgs/<sessionId>/<imageName>`,
the release's image split in `PARA-GiaaTrain.csv` and `PARA-GiaaTest.csv` (also met as `ARA-GiaaTest.csv`), and folds of
people in `TrainUserIDs_Fold1-4.txt` where they are there. The score is `aestheticScore`, 1...5 in halves; the other
answers are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from beholder.readers.assemble import assemble, split_notes
from beholder.readers.base import Dataset, Note
from beholder.readers.columns import Aliases, linear_scale, named, need_ids, read_rows, ticks
from beholder.readers.folder import ReleaseFolder, ReleaseReader
from beholder.readers.release import image_split, listed_images, user_folds

if TYPE_CHECKING:
    import pandas as pd

ALIASES: Aliases = {
    "user_id": ("userId", "user", "annotatorId"),
    "session_id": ("sessionId", "session"),
    "image_name": ("imageName", "image", "imageFile"),
    "score": ("aestheticScore", "aesthetic"),
    "semantic": ("semantic", "semanticLabel"),
}
PEOPLE: Aliases = {
    "user_id": ("userId", "user", "annotatorId"),
    "age": ("age", "ageRange"),
    "gender": ("gender", "sex"),
    "education": ("EducationalLevel", "education"),
    "art_experience": ("artExperience",),
    "photography_experience": ("photographyExperience",),
}


@dataclass(frozen=True)
class ParaReader(ReleaseReader):
    """Reader of the unpacked release."""

    name: ClassVar[str] = "para"

    def read(self, folder: Path) -> Dataset:
        """Read all ratings; `split` is train or test by image.

        Raises
        ------
        StoreError
            If the ratings or all pictures are missing.
        TableError
            Showing the first row without an id, or with an answer off 1...5.
        """
        release = ReleaseFolder(folder, "PARA")
        path = release.need("PARA-Images.csv")
        raw, notes = read_rows(path, [*ALIASES["user_id"], *ALIASES["session_id"], *ALIASES["image_name"]])
        rows = named(raw, ALIASES, ("user_id", "session_id", "image_name", "score"), path)
        need_ids(rows, ("user_id", "session_id", "image_name"), path)
        rows = ticks(rows, 1, 5, path)
        stem = rows["image_name"].str.replace(r"\.\w+$", "", regex=True)
        rows["image_id"] = rows["session_id"] + "_" + stem
        rows["file"] = "imgs/" + rows["session_id"] + "/" + rows["image_name"]
        uneven = int((rows["score"].notna() & (rows["score"] % 125 != 0)).sum())
        if uneven:
            notes.append(Note("ratings between the half points of the scale, kept", uneven))
        rows, of_split = self._with_split(release, rows)
        users, of_users = self._users(release)
        return assemble(
            release,
            self.name,
            rows.drop(columns=["image_name"]),
            linear_scale(1, 5, None if uneven else 0.5),
            [Note("ratings read", len(rows)), *notes, *of_split, *of_users],
            image_columns=["session_id", "semantic"],
            users=users,
            need_pictures=self.need_pictures,
        )

    def _with_split(self, release: ReleaseFolder, rows: pd.DataFrame) -> tuple[pd.DataFrame, list[Note]]:
        lists = {
            "train": listed_images(release, "PARA-GiaaTrain.csv"),
            "test": listed_images(release, "PARA-GiaaTest.csv", "ARA-GiaaTest.csv"),
        }
        split, notes = image_split(rows["image_name"], lists)
        if split is None:
            return rows, notes
        rows = rows.assign(split=split)
        return rows, [*notes, *split_notes(rows)]

    def _users(self, release: ReleaseFolder) -> tuple[pd.DataFrame | None, list[Note]]:
        path = release.find("PARA-UserInfo.csv")
        if path is None:
            return None, [Note("no PARA-UserInfo.csv: nothing is known of the people", 0)]
        raw, notes = read_rows(path, PEOPLE["user_id"])
        users = named(raw, PEOPLE, ("user_id",), path)
        need_ids(users, ("user_id",), path)
        return user_folds(release, users), notes
