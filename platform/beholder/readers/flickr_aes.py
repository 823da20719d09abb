"""FLICKR-AES: Flickr photographs rated 1 to 5 by workers of a crowd platform, five of them an image.

Ren, Shen, Lin, Mech, Foran (2017), "Personalized Image Aesthetics", ICCV; photographs under Creative Commons licences,
no licence stated for the ratings.

Layout: `FLICKR-AES_image_labeled_by_each_worker.csv` with one header line and then worker, image and score by position
(in some copies with spaces before names, of files too); means in `FLICKR-AES_image_score.txt`; pictures in `40K/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from beholder.errors import TableError
from beholder.readers.assemble import assemble
from beholder.readers.base import Dataset, Note
from beholder.readers.columns import linear_scale, need_ids, refuse, ticks
from beholder.readers.folder import ReleaseFolder, ReleaseReader

if TYPE_CHECKING:
    import pandas as pd

RATINGS = ("FLICKR-AES_image_labeled_by_each_worker.csv", "image_labeled_by_each_worker.csv")
MEANS = "FLICKR-AES_image_score.txt"


@dataclass(frozen=True)
class FlickrAesReader(ReleaseReader):
    """Reader of the unpacked release."""

    name: ClassVar[str] = "flickr_aes"

    def read(self, folder: Path) -> Dataset:
        """Read all ratings; the release's own mean of an image is in `images.release_score`.

        Raises
        ------
        StoreError
            If the ratings or all pictures are missing.
        TableError
            Showing the first row that is not worker, image and a score from 1 to 5.
        """
        release = ReleaseFolder(folder, "FLICKR-AES")
        path = release.need(*RATINGS)
        rows = _positional(path, ",", skip_header=True)
        need_ids(rows, ("user_id", "file"), path)
        rows = ticks(rows, 1, 5, path)
        refuse(path, rows, rows["raw_score"].notna() & (rows["raw_score"] % 1 != 0), "score between levels", "1...5")
        notes = [Note("ratings read", len(rows))]
        rows["image_id"] = rows["file"].str.replace(r"\.\w+$", "", regex=True)
        means = release.find(MEANS)
        if means is not None:
            table = _positional(means, r"\s+", skip_header=False)
            score = table.drop_duplicates("file").set_index("file")["score"].astype("float64")
            rows["release_score"] = rows["file"].map(score)
        return assemble(
            release,
            self.name,
            rows,
            linear_scale(1, 5, 1),
            notes,
            image_columns=["release_score"],
            need_pictures=self.need_pictures,
        )


def _positional(path: Path, separator: str, *, skip_header: bool) -> pd.DataFrame:
    """Columns by position: worker, image, score; or image, score."""
    import pandas as pd

    names = ["user_id", "file", "score"] if skip_header else ["file", "score"]
    try:
        frame = pd.read_csv(
            path,
            sep=separator,
            header=None,
            dtype="str",
            skipinitialspace=True,
            keep_default_na=False,
            encoding="utf-8-sig",
        )
    except (ValueError, pd.errors.ParserError) as error:
        raise TableError(f"{path}: cannot be read ({str(error).strip().splitlines()[0]})", ", ".join(names)) from error
    if len(frame.columns) != len(names):
        row = frame.iloc[0].to_list()
        raise TableError(f"{path}: {len(frame.columns)} columns, first row {row}", f"{', '.join(names)} by position")
    frame.columns = pd.Index(names)
    frame = frame.apply(lambda column: column.str.strip())
    if skip_header and not frame["score"].iloc[0].replace(".", "", 1).isdigit():
        frame = frame.iloc[1:].reset_index(drop=True)
    return frame.assign(score=frame["score"].where(frame["score"] != ""))
