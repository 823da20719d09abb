"""LAPIS: paintings rated on a slider from 0 to 100 by people whose interest in art is known.

Maerten, Chen, De Winter, Bossens, Wagemans (2025), "LAPIS: a novel dataset for personalized image aesthetic
assessment", CVPR Workshops; access on request.

Layout: one row a rating in `annotation/LAPIS_PIAA.csv`, `LAPIS_individualratings_metaANDdemodata.csv` or
`Dataset_individualratings_metadata` (saved as CSV), with `image_filename`, `participant_id`, `response` or `rating`,
demographics and VAIAK items, artist, style and genre; pictures below the folder; image splits in `Train-`, `Val-` and
`TestImageSet.txt` or `LAPIS_GIAA_{Train,Val,Test}split.csv`. The release holds exact copies of rows (dropped) and true
second ratings (kept as occasions), and file names whose encoding was broken.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from beholder.readers.assemble import assemble, split_notes
from beholder.readers.base import Dataset, Note
from beholder.readers.columns import Aliases, linear_scale, named, need_ids, read_rows, ticks
from beholder.readers.folder import ReleaseFolder, ReleaseReader
from beholder.readers.release import bare, image_split, listed_images, user_folds

if TYPE_CHECKING:
    import pandas as pd

RATINGS = (
    "LAPIS_PIAA.csv",
    "LAPIS_individualratings_metaANDdemodata.csv",
    "Dataset_individualratings_metadata.csv",
    "Dataset_individualratings_metadata.xlsx",
)
ALIASES: Aliases = {
    "user_id": ("participant_id", "participant", "user_id"),
    "file": ("image_filename", "filename", "image_file"),
    "score": ("response", "rating", "score"),
    "release_image_id": ("image_id",),
    "age": ("age",),
    "gender": ("demo_gender", "gender"),
    "nationality": ("nationality",),
    "education": ("demo_edu", "education"),
    "colorblind": ("demo_colorblind", "colorblind"),
    "art_interest": ("Art Interest VAIAK", "art_interest"),
}
OF_PERSON = ("age", "gender", "nationality", "education", "colorblind", "art_interest")
OF_IMAGE = ("release_image_id", "artist", "title", "style", "genre", "4_styles", "2_styles")


@dataclass(frozen=True)
class LapisReader(ReleaseReader):
    """Reader of the unpacked release."""

    name: ClassVar[str] = "lapis"

    def read(self, folder: Path) -> Dataset:
        """Read all ratings; an image is known by its file name, `split` is the image lists' where they are there.

        Raises
        ------
        StoreError
            If the ratings or all pictures are missing.
        TableError
            Showing the first row without an id, or with an answer off 0...100.
        """
        release = ReleaseFolder(folder, "LAPIS")
        path = release.need(*RATINGS)
        raw, notes = read_rows(path, [*ALIASES["user_id"], *ALIASES["file"], *ALIASES["release_image_id"]])
        rows = named(raw, ALIASES, ("user_id", "file", "score"), path)
        need_ids(rows, ("user_id", "file"), path)
        notes = [Note("ratings read", len(rows)), *notes]
        rows = ticks(rows, 0, 100, path)
        rows["file"] = rows["file"].map(bare)
        rows["image_id"] = rows["file"].str.replace(r"\.\w+$", "", regex=True)
        rows, of_split = _with_split(release, rows)
        people = [c for c in rows.columns if c in OF_PERSON or "vaiak" in c.lower()]
        silent = int((rows.groupby("user_id")[people].count().sum(axis=1) == 0).sum()) if people else 0
        if silent:
            notes.append(Note("people who answered no question about themselves, kept", silent))
        users = user_folds(release, rows[["user_id"]].drop_duplicates())
        return assemble(
            release,
            self.name,
            rows,
            linear_scale(0, 100, None),
            [*notes, *of_split],
            image_columns=[c for c in OF_IMAGE if c in rows.columns],
            user_columns=people,
            users=users if len(users.columns) > 1 else None,
            need_pictures=self.need_pictures,
        )


def _with_split(release: ReleaseFolder, rows: pd.DataFrame) -> tuple[pd.DataFrame, list[Note]]:
    lists = {
        name.lower(): listed_images(release, f"{name}ImageSet.txt", f"LAPIS_GIAA_{name}split.csv")
        for name in ("Train", "Val", "Test")
    }
    split, notes = image_split(rows["file"], lists)
    if split is None:
        return rows, notes
    rows = rows.assign(split=split)
    return rows, [*notes, *split_notes(rows)]
