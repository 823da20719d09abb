"""Pick-a-Pic v2: pairs of generated images, judged by the people who wrote the prompts in a web application.

Kirstain, Polyak, Singer, Matiana, Penna, Levy (2023), "Pick-a-Pic", NeurIPS, arXiv:2305.01569; hub
`yuvalkirstain/pickapic_v2`, whose licence and card could not be read: look there before use.

Layout: Parquet files `<split>-00000-of-....parquet`, one pair a row: `caption`, `user_id`, `ranking_id`, `image_0_uid`,
`image_1_uid`, `model_0`, `model_1`, `label_0`, `label_1` (1 and 0, or a half each for a tie), `has_label`,
`are_different`, `created_at`, and the pictures as bytes in `jpg_0`, `jpg_1`. The application shows up to four images;
a row is a pair of them, so `ranking_id` names what was answered at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from beholder.errors import StoreError, TableError
from beholder.readers.assemble import prompt_key
from beholder.readers.base import Note
from beholder.readers.columns import Aliases, named, need_ids, read_rows, refuse
from beholder.readers.comparisons import (
    NOT_STATED,
    Comparisons,
    image_table,
    no_preferences,
    participants,
    pictures_of,
    prompt_table,
    settle_votes,
)  # fmt: skip
from beholder.readers.folder import ReleaseFolder

if TYPE_CHECKING:
    import pandas as pd

ALIASES: Aliases = {
    "user_id": ("user_id", "user"),
    "prompt": ("caption", "prompt"),
    "left": ("image_0_uid",),
    "right": ("image_1_uid",),
    "left_condition": ("model_0",),
    "right_condition": ("model_1",),
    "label_0": ("label_0",),
    "label_1": ("label_1",),
    "has_label": ("has_label",),
    "ranking_id": ("ranking_id",),
}
REQUIRED = ("user_id", "prompt", "left", "right", "label_0", "label_1")
AT_ONCE = 64
"""Rows whose pictures are in memory at once."""


@dataclass(frozen=True)
class PickAPicReader:
    """Reader of any part of the release.

    Attributes
    ----------
    pictures : path, optional
        Where the pictures in the Parquet files are written, one file each (what is there already is left alone).
        Without it only pictures that lie unpacked in the folder are known.
    """

    pictures: Path | None = None

    name: ClassVar[str] = "pickapic"

    def read(self, folder: Path) -> Comparisons:
        """Read all pairs with an answer as votes; the split is that of the file's name.

        Raises
        ------
        StoreError
            If no Parquet file is there.
        TableError
            Showing the first row without an id, or whose labels are neither a choice nor a tie.
        """
        release = ReleaseFolder(folder, "Pick-a-Pic v2")
        rows, notes = _read_files(release)
        labelled = rows["has_label"].to_numpy(dtype=bool)
        same = labelled & (rows["left"] == rows["right"])
        reason = np.select([~labelled, same], ["no answer", "an image against itself"], "")
        notes += [Note(f"pairs set aside: {why}", int((reason == why).sum())) for why in sorted({*reason} - {""})]
        votes, settled = settle_votes(_votes(rows[reason == ""]))
        images, of_images = _images(rows)
        if self.pictures is not None:
            written = _unpack(release, {*rows["left"], *rows["right"]}, self.pictures)
            notes.append(Note("pictures taken out of the Parquet files", written))
            release = ReleaseFolder(self.pictures, "Pick-a-Pic v2") if self.pictures.is_dir() else release
        sides = [(votes["left_image_id"], votes["right_image_id"])]
        seen, met = pictures_of(release, images, sides)
        return Comparisons(
            self.name,
            votes,
            no_preferences(),
            seen,
            prompt_table(rows["prompt_id"], rows["prompt"]),
            participants(votes, self.name),
            rows[reason != ""].assign(reason=reason[reason != ""]).reset_index(drop=True),
            (*notes, *settled, *of_images, *met),
        )


def _read_files(release: ReleaseFolder) -> tuple[pd.DataFrame, list[Note]]:
    """All rows, with ids of ours, in the order of the files' names."""
    import pandas as pd

    paths = release.matching(".parquet")
    if not paths:
        raise StoreError(f"no Parquet file in {release.root}", remedy="give the folder of Pick-a-Pic v2 in --data")
    parts = []
    notes: list[Note] = []
    for path in paths:
        raw, met = read_rows(path, ("user_id", "image_0_uid", "image_1_uid", "ranking_id"))
        part = named(raw, ALIASES, REQUIRED, path)
        stated = part["has_label"].fillna(False) if "has_label" in part.columns else part["label_0"].notna()
        part = part.assign(has_label=stated.astype(bool))
        need_ids(part, ("user_id", "left", "right"), path)
        _refuse_labels(path, part)
        split = path.name.partition("-")[0].partition(".")[0]
        parts.append(part.assign(split=split, trial_id=[f"{path.stem}:{k}" for k in range(len(part))]))
        notes += met
    rows = pd.concat(parts, ignore_index=True)
    rows["prompt_id"] = [prompt_key("pickapic", str(text)) for text in rows["prompt"].fillna("")]
    return rows, [Note("pairs read", len(rows)), *notes, *_of_splits(rows)]


def _of_splits(rows: pd.DataFrame) -> list[Note]:
    return [
        Note(f"pairs in the release's split {split}, by {part['user_id'].nunique()} people", len(part))
        for split, part in rows.groupby("split")
    ]


def _refuse_labels(path: Path, rows: pd.DataFrame) -> None:
    labels = rows[["label_0", "label_1"]].to_numpy(dtype=np.float64)
    known = np.isin(labels[:, 0], (0, 0.5, 1)) & (labels.sum(axis=1) == 1)
    problem = "labels that are neither a choice nor a tie"
    refuse(path, rows, rows["has_label"] & ~known, problem, "1 and 0, 0 and 1, or .5 and .5")


def _votes(rows: pd.DataFrame) -> pd.DataFrame:
    """Answered pairs as votes."""
    choice = np.select([rows["label_0"] == 1, rows["label_0"] == 0], ["left", "right"], "tie")
    votes = rows.drop(columns=["user_id", "left", "right", "label_0", "label_1", "has_label", "prompt"]).assign(
        participant_id="pickapic_" + rows["user_id"],
        left_image_id="pickapic_" + rows["left"],
        right_image_id="pickapic_" + rows["right"],
        choice=choice,
        side_known=False,
        dataset="pickapic",
    )
    for side in ("left_condition", "right_condition"):
        votes[side] = votes[side].fillna(NOT_STATED) if side in votes.columns else NOT_STATED
    first = ["participant_id", "prompt_id", "left_condition", "right_condition", "choice"]
    return votes[[*first, *(c for c in votes.columns if c not in first)]]


def _images(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[Note]]:
    """One row an image: its prompt, generator and file."""
    import pandas as pd

    sides = []
    for side in ("left", "right"):
        part = pd.DataFrame({"image_id": "pickapic_" + rows[side], "prompt_id": rows["prompt_id"]})
        generator = rows[f"{side}_condition"] if f"{side}_condition" in rows.columns else None
        sides.append(part.assign(generator=generator, file=rows[side] + ".jpg"))
    return image_table(sides)


def _unpack(release: ReleaseFolder, wanted: Iterable[str], target: Path) -> int:
    """Write the pictures inside the Parquet files, a few rows in memory at once. Returns how many were written."""
    import pyarrow.parquet as pq

    missing = {uid for uid in wanted if not (target / f"{uid}.jpg").exists()}
    if any("/" in uid or uid.startswith(".") for uid in missing):
        raise TableError("an image uid that is no file name", "uids of letters, digits and dashes")
    written = 0
    for path in release.matching(".parquet"):
        file = pq.ParquetFile(path)
        if not {"jpg_0", "jpg_1"} <= set(file.schema_arrow.names):
            continue
        columns = ["image_0_uid", "image_1_uid", "jpg_0", "jpg_1"]
        for batch in file.iter_batches(batch_size=AT_ONCE, columns=columns):
            for row in batch.to_pylist():
                for side in "01":
                    uid, content = str(row[f"image_{side}_uid"]), row[f"jpg_{side}"]
                    if content and uid in missing:
                        target.mkdir(parents=True, exist_ok=True)
                        temporary = target / f".{uid}.{os.getpid()}.tmp"
                        temporary.write_bytes(content)
                        os.replace(temporary, target / f"{uid}.jpg")
                        missing.discard(uid)
                        written += 1
    return written
