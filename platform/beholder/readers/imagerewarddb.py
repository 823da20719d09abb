"""ImageRewardDB: images of DiffusionDB, ranked and rated by unnamed experts.

Xu, Liu, Wu, Tong, Li, Ding, Tang, Dong (2023), "ImageReward", arXiv:2304.05977; hub `THUDM/ImageRewardDB`, Apache-2.0.

Layout: `images/<split>/<split>_<k>/<split>_<k>.json` beside its pictures, or `metadata-<split>.parquet`: one image a
row with `prompt_id`, `prompt`, `classification`, `image_amount_in_total`, `image_path`, `rank` (1 is the best, ties
occur), `overall_rating` (1...7), `image_text_alignment_rating`, `fidelity_rating`. No rater is named, so the ratings
stay with the images, as `overall_rating` and so on, and the ranks become preferences: every pair of images of a prompt.
Rows whose rank or rating is off its scale are set aside; some pictures cannot be decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from beholder.errors import StoreError
from beholder.readers.base import Note
from beholder.readers.columns import Aliases, named, need_ids, plain, read_rows
from beholder.readers.comparisons import (
    NOT_STATED,
    Comparisons,
    no_preferences,
    no_votes,
    participants,
    pictures_of,
    prompt_table,
)  # fmt: skip
from beholder.readers.folder import ReleaseFolder

if TYPE_CHECKING:
    import pandas as pd

ALIASES: Aliases = {
    "prompt_id": ("prompt_id",),
    "prompt": ("prompt", "caption"),
    "file": ("image_path", "path"),
    "rank": ("rank", "ranking"),
    "overall_rating": ("overall_rating",),
    "alignment_rating": ("image_text_alignment_rating",),
    "fidelity_rating": ("fidelity_rating",),
    "category": ("classification", "category"),
    "group_size": ("image_amount_in_total",),
}
REQUIRED = ("prompt_id", "prompt", "file", "rank")
RATINGS = ("overall_rating", "alignment_rating", "fidelity_rating")
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class ImageRewardReader:
    """Reader of either layout; with both, the JSON files beside the pictures are read."""

    name: ClassVar[str] = "imagerewarddb"

    def read(self, folder: Path) -> Comparisons:
        """Read ranks as preferences between all images of a prompt.

        Raises
        ------
        StoreError
            If neither layout is there.
        TableError
            Showing the first row without prompt or image.
        """
        release = ReleaseFolder(folder, "ImageRewardDB")
        rows, notes = _rows(release)
        reason = _unusable(rows)
        notes += [Note(f"images set aside: {why}", int((reason == why).sum())) for why in sorted({*reason} - {""})]
        good = rows[reason == ""]
        if "group_size" in good.columns:
            groups = good.groupby("prompt_id")
            short = int((groups["file"].count() < groups["group_size"].max()).sum())
            notes.append(Note("prompts with fewer images than their image_amount_in_total", short))
        preferences = _preferences(good)
        notes.append(Note("pairs made from the ranks", len(preferences)))
        sides = [(preferences["preferred_image_id"], preferences["other_image_id"])]
        images, met = pictures_of(release, good.drop(columns=["prompt", "reason"], errors="ignore"), sides)
        votes = no_votes()
        return Comparisons(
            self.name,
            votes,
            preferences,
            images,
            prompt_table(rows["prompt_id"], rows["prompt"]),
            participants(votes, self.name),
            rows[reason != ""].assign(reason=reason[reason != ""]).reset_index(drop=True),
            (*notes, *met),
        )


def _rows(release: ReleaseFolder) -> tuple[pd.DataFrame, list[Note]]:
    """One image a row, exact copies dropped."""
    import pandas as pd

    parts = []
    notes: list[Note] = []
    lists, tables = ([p for p in release.matching(suffix) if _split(p)] for suffix in (".json", ".parquet"))
    for path in lists or tables:
        raw, met = read_rows(path, ("prompt_id",))
        if plain("rank") not in {plain(c) for c in raw.columns}:
            notes.append(Note(f"{path.name} holds no ranks and was left alone", len(raw)))
            continue
        part = named(raw, ALIASES, REQUIRED, path)
        need_ids(part, ("prompt_id", "file"), path)
        parts.append(part.assign(split=_split(path)))
        notes += met
    if not parts:
        raise StoreError(
            f"no JSON or metadata with ranks in {release.root}", remedy="give the folder of ImageRewardDB in --data"
        )
    rows = pd.concat(parts, ignore_index=True)
    notes = [Note("images read", len(rows)), *notes]
    rows["prompt_id"] = "imagerewarddb_" + rows["prompt_id"]
    rows["image_id"] = "imagerewarddb_" + rows["file"].str.replace(r"^.*/|\.\w+$", "", regex=True)
    copies = rows.duplicated()
    notes.append(Note("rows that repeat another one in everything, dropped", int(copies.sum())))
    return rows[~copies].reset_index(drop=True), notes


def _split(path: Path) -> str | None:
    """train, validation or test, by the file's name."""
    return next((s for s in SPLITS if path.stem.startswith((s, f"metadata-{s}"))), None)


def _unusable(rows: pd.DataFrame) -> np.ndarray:
    """Why a row cannot be used, or nothing."""
    import pandas as pd

    rank = pd.to_numeric(rows["rank"], errors="coerce")
    off = pd.Series(False, index=rows.index)
    for column in RATINGS:
        if column in rows.columns:
            off |= ~pd.to_numeric(rows[column], errors="coerce").between(1, 7)
    again = rows["image_id"].duplicated()
    return np.select([again, ~(rank >= 1), off], ["a second, other row of an image", "no rank", "rating off 1...7"], "")


def _preferences(rows: pd.DataFrame) -> pd.DataFrame:
    """Every two images of a prompt, the lower rank preferred."""
    import pandas as pd

    found = []
    for prompt_id, group in rows.groupby("prompt_id", sort=True):
        ranks, images, split = group["rank"].to_list(), group["image_id"].to_list(), group["split"].iloc[0]
        for a, b in combinations(range(len(group)), 2):
            first, second = (a, b) if ranks[a] <= ranks[b] else (b, a)
            found.append((prompt_id, images[first], images[second], ranks[a] == ranks[b], split))
    if not found:
        return no_preferences()
    columns = ["prompt_id", "preferred_image_id", "other_image_id", "tied", "split"]
    return pd.DataFrame(found, columns=columns).assign(
        preferred_condition=NOT_STATED, other_condition=NOT_STATED, dataset="imagerewarddb"
    )
