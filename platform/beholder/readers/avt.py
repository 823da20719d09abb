"""AVT: appeal of AI-generated images, two studies on the same images with other people.

Goering, Ramachandra Rao, Merten, Raake (2023), doi:10.1109/ACCESS.2023.3267968, and their QoMEX 2023 paper; GPL-3.0.
Nothing links the people of the two studies: their ids stay apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from beholder.errors import StoreError, TableError, UserError
from beholder.readers.base import Dataset, Note, Reader, settle_repeats
from beholder.readers.pictures import image_facts

if TYPE_CHECKING:
    import pandas as pd

STUDIES = (1, 2)
PHOTOGRAPHS = "own"
"""The authors' name for their own photographs, among the generators."""
SCALE = {
    "raw": [1, 5],
    "ticks": [0, 1000],
    "formula": "(image_appeal - 1) * 250",
    "levels": [0, 250, 500, 750, 1000],
}


@dataclass(frozen=True)
class AvtReader:
    """Reader of `avt_ai_images`.

    Attributes
    ----------
    participants : `completed` or `all`
        Those who rated everything (the authors' own selection, primary), or everybody (as a sensitivity analysis).
    """

    participants: Literal["completed", "all"] = "completed"

    name: ClassVar[str] = "avt"

    def variants(self) -> Mapping[str, Reader]:
        """Everybody, also those who stopped early."""
        return {} if self.participants == "all" else {"all": AvtReader("all")}

    def read(self, folder: Path) -> Dataset:
        """Read ratings of appeal from both studies.

        Raises
        ------
        StoreError
            If files are missing.
        TableError
            If answers are not whole numbers from 1 to 5.
        """
        import pandas as pd

        if self.participants not in ("completed", "all"):
            raise UserError(f"participants {self.participants!r}", "completed, all")
        images, prompts = _read_images(folder), _read_prompts(folder)
        notes: list[Note] = []
        everyone = pd.concat([_read_study(folder, study) for study in STUDIES], ignore_index=True)
        notes.append(Note("ratings read from both studies", len(everyone)))
        users = everyone.groupby("user_id", sort=True)[["study", "completed", "dataset"]].first().reset_index()
        if self.participants == "completed":
            kept = everyone[everyone["completed"]]
            left = users.loc[~users["completed"], "user_id"].tolist()
            what = f"ratings of {len(left)} participants who did not complete their study dropped: {', '.join(left)}"
            notes.append(Note(what, len(everyone) - len(kept)))
            everyone, users = kept, users[users["completed"]].reset_index(drop=True)
        everyone, repeats = settle_repeats(everyone, "seq")
        here = everyone["image_id"].isin(images["image_id"])
        absent = ", ".join(sorted(everyone.loc[~here, "image_id"].unique()))
        notes += [*repeats, Note(f"ratings of an image that is not in the data set, set aside: {absent}", sum(~here))]
        notes.append(Note("photographs among the images, flagged in `photograph`", int(images["photograph"].sum())))
        aside = everyone[~here].assign(reason="image missing").reset_index(drop=True)
        ratings = everyone[here].reset_index(drop=True)
        return Dataset("avt", ratings, images, prompts, users, aside, SCALE, tuple(notes))


def _read_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    if not path.exists():
        raise StoreError(f"{path} is missing", remedy="give the folder avt_ai_images of the public data sets")
    return pd.read_csv(path)


def _read_study(folder: Path, study: int) -> pd.DataFrame:
    """One study's ratings in tidy columns; all answers are kept, appeal becomes the score."""
    raw = _read_csv(folder / f"ratings_study{study}.csv")
    bad = ~raw["image_appeal"].isin(range(1, 6))
    if bad.any():
        row = int(bad.to_numpy().argmax())
        raise TableError(f"study {study}: image_appeal {raw['image_appeal'].iloc[row]!r} in row {row + 1}", "1...5")
    prefix = f"study{study}_"
    ids = raw["user_id"].where(raw["user_id"].str.startswith(prefix), prefix + raw["user_id"])
    tidy = raw.drop(columns=["user_id", "item_id", "image_appeal"]).assign(
        user_id="avt_" + ids,
        image_id="avt_" + raw["item_id"],
        prompt_id="avt_" + raw["prompt_id"],
        score=(raw["image_appeal"] - 1) * 250,
        study=study,
        dataset="avt",
    )
    first = ["user_id", "image_id", "prompt_id", "score"]
    return tidy[first + [c for c in tidy.columns if c not in first]]


def _read_prompts(folder: Path) -> pd.DataFrame:
    raw = _read_csv(folder / "prompts.csv")
    return raw.rename(columns={"ID": "prompt_id", "prompts": "text"}).assign(prompt_id="avt_" + raw["ID"])


def _read_images(folder: Path) -> pd.DataFrame:
    """One row an image file, sorted by id."""
    import pandas as pd

    rows = []
    for path in sorted((folder / "images").glob("*.jpg")):
        generator, _, prompt = path.stem.rpartition("_")
        facts = image_facts(path)
        if facts is None:
            raise StoreError(f"{path} cannot be decoded", remedy="fetch the data set again")
        row = {"image_id": f"avt_{path.stem}", "prompt_id": f"avt_{prompt}", "generator": generator}
        rows.append(row | {"photograph": generator == PHOTOGRAPHS} | facts)
    if not rows:
        raise StoreError(f"no images in {folder / 'images'}", remedy="give the folder avt_ai_images")
    return pd.DataFrame(rows)
