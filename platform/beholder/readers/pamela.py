"""PAMELA: ratings of images by Flux 2 and Nano Banana on a continuous slider from 1 to 5.

Maerten, Verwiebe, Karthik, Prabhu, Wagemans, Bethge (2026), arXiv:2604.07427; hub `bethgelab/PAMELA`, CC BY 4.0.

Layout: `annotations/pamela_{train,val_seen,val_unseen,test_seen,test_unseen}.json`, each a list of objects with
`participant_id`, `image_id`, `image_path`, `original_score` and nested objects; pictures in `images/`. Read from the
public card and from scripts that read the release: the names of the person's fields are not documented, so every field
is kept, nested ones as `outer.inner`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from beholder.readers.assemble import assemble, split_notes
from beholder.readers.base import Dataset, Note
from beholder.readers.columns import Aliases, linear_scale, named, need_ids, read_rows, ticks
from beholder.readers.folder import ReleaseFolder, ReleaseReader

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("train", "val_seen", "val_unseen", "test_seen", "test_unseen")
CARD = {"train": 50_222, "val_seen": 6_551, "val_unseen": 926, "test_seen": 9_735, "test_unseen": 2_470}
"""Ratings of each split, as the dataset card states them."""
PEOPLE = "the card states 199, reports of the paper 205"

ALIASES: Aliases = {
    "user_id": ("participant_id", "user_id", "rater_id", "participant", "worker_id"),
    "image_id": ("image_id", "img_id", "stimulus_id"),
    "score": ("original_score", "score", "rating", "response"),
    "file": ("image_path", "image_filename", "file_name", "path", "image"),
    "prompt": ("image_metadata.prompt", "prompt", "image_prompt", "text_prompt", "image_metadata.text"),
    "group": ("image_metadata.group", "group"),
    "style": ("image_metadata.style", "style"),
    "type": ("image_metadata.type", "type"),
    "generator": ("image_metadata.generator", "image_metadata.model", "generator", "t2i_model", "model"),
    "seed": ("image_metadata.seed", "seed"),
    "response_ms": ("response_ms", "rt", "reaction_time"),
}
OF_PERSON = {
    "age": ("age", "age_years"),
    "gender": ("gender", "sex", "demo_gender"),
    "nationality": ("nationality", "country"),
    "education": ("education", "demo_edu", "education_level"),
    "art_interest": ("art_interest", "vaiak", "art_interest_vaiak"),
    "profile": ("profile", "profile_text", "self_description", "persona"),
}
PERSON = ("participant", "user", "rater", "demographics", "participant_metadata", "user_metadata", "participant_info")
"""Names that the object of the person may have."""
OF_IMAGE = ("prompt", "group", "style", "type", "generator", "seed")


@dataclass(frozen=True)
class PamelaReader(ReleaseReader):
    """Reader of the unpacked `PAMELA.zip`."""

    name: ClassVar[str] = "pamela"

    def read(self, folder: Path) -> Dataset:
        """Read all five splits, with the release's own split in `split`.

        Raises
        ------
        StoreError
            If no split or no picture is there.
        TableError
            Showing the first row without an id, or with an answer off 1...5.
        """
        release = ReleaseFolder(folder, "PAMELA")
        rows, notes = _read_splits(release)
        people = [c for c in rows.columns if c in OF_PERSON or c.partition(".")[0].lower() in PERSON]
        pictures = [c for c in rows.columns if c in OF_IMAGE or c.startswith("image_metadata.")]
        return assemble(
            release,
            self.name,
            rows,
            linear_scale(1, 5, None),
            [*notes, Note(f"people in the release ({PEOPLE})", rows["user_id"].nunique())],
            image_columns=pictures,
            user_columns=people,
            need_pictures=self.need_pictures,
        )


def _read_splits(release: ReleaseFolder) -> tuple[pd.DataFrame, list[Note]]:
    """The rows of all splits that are there."""
    import pandas as pd

    paths = {split: release.find(f"pamela_{split}.json", f"{split}.json") for split in SPLITS}
    if not any(paths.values()):
        release.need("pamela_train.json")
    parts, missing = [], []
    notes: list[Note] = []
    for split, path in paths.items():
        if path is None:
            missing.append(split)
            continue
        aliases = {**ALIASES, **_person_aliases()}
        raw, met = read_rows(path, [*ALIASES["user_id"], *ALIASES["image_id"]])
        rows = named(raw, aliases, ("user_id", "image_id", "score"), path)
        need_ids(rows, ("user_id", "image_id"), path)
        notes += met
        parts.append(ticks(rows, 1, 5, path).assign(split=split))
        if len(rows) != CARD[split]:
            notes.append(Note(f"rows of split {split}; the card states {CARD[split]}", len(rows)))
    rows = pd.concat(parts, ignore_index=True)
    rows["file"] = rows["image_id"] if "file" not in rows.columns else rows["file"].fillna(rows["image_id"])
    said = [c for c in OF_IMAGE if c in rows.columns]
    rows[said] = rows[said].replace("", None)
    if missing:
        notes.append(Note(f"splits that are not there: {', '.join(missing)}", len(missing)))
    return rows, [Note("ratings read", len(rows)), *notes, *split_notes(rows)]


def _person_aliases() -> dict[str, tuple[str, ...]]:
    """What is said of the person, at the top of a row or inside the person's object."""
    return {
        ours: (*theirs, *(f"{outer}.{inner}" for outer in PERSON for inner in theirs))
        for ours, theirs in OF_PERSON.items()
    }
