"""HPDv3 and HPDv3++: pairs of images of many generators, preferences of unnamed annotators.

Ma, Wu, Sun, Li (2025), "HPSv3", arXiv:2508.03789; hub `MizzenAI/HPDv3`, MIT. HPDv3++: hub `Junjun2333/HPDv3-PlusPlus`,
Apache-2.0, files `train_aes`, `train_tf`, `test_aes`, `test_tf`, `stage1_ref`.

Layout: JSON lists of `prompt`, `path1`, `path2`, `model1`, `model2`, `confidence`, `choice_dist`; `path1` is the
preferred image, so its place says nothing of a screen. No rater is named: everything is a preference. Where
`choice_dist` counts answers it is checked: rows in which `path2` got more are set aside, and a file in which that is
the rule is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from beholder.errors import StoreError, TableError
from beholder.readers.assemble import prompt_key
from beholder.readers.base import Note
from beholder.readers.columns import json_rows
from beholder.readers.comparisons import (
    NOT_STATED,
    PREFERENCE,
    Comparisons,
    image_table,
    no_votes,
    participants,
    pictures_of,
    prompt_table,
)  # fmt: skip
from beholder.readers.folder import ReleaseFolder

if TYPE_CHECKING:
    import pandas as pd

FIELDS = ("prompt", "path1", "path2")
MOST_AGAINST = 0.5
"""A larger share of rows whose answers contradict the order means that `path1` is not the preferred image."""


@dataclass(frozen=True)
class HpdV3Reader:
    """Reader of the JSON files and the unpacked pictures."""

    name: ClassVar[str] = "hpdv3"

    def read(self, folder: Path) -> Comparisons:
        """Read all pairs; the split is the file's name.

        Raises
        ------
        StoreError
            If no JSON file with pairs is there.
        TableError
            Showing the first row without prompt or path, or if `path1` is not the preferred image.
        """
        import pandas as pd

        release = ReleaseFolder(folder, "HPDv3")
        parts, notes = [], []
        for path in [*release.matching(".json"), *release.matching(".jsonl")]:
            raw = json_rows(path)
            if not any(isinstance(row, dict) and "path1" in row for row in raw[:3]):
                notes.append(Note(f"{path.name} holds no pairs and was left alone", len(raw)))
                continue
            parts.append(_table(path, raw))
            notes.append(Note(f"pairs read from {path.name}", len(raw)))
        if not parts:
            raise StoreError(f"no JSON file with pairs in {folder}", remedy="give the folder of HPDv3 in --data")
        rows = pd.concat(parts, ignore_index=True)
        against = (rows["answers_other"] > rows["answers_preferred"]).to_numpy()
        same = (rows["preferred_image_id"] == rows["other_image_id"]).to_numpy()
        reason = np.select([same, against], ["an image against itself", "answers favour the other image"], "")
        notes += [Note(f"pairs set aside: {why}", int((reason == why).sum())) for why in sorted({*reason} - {""})]
        copies = rows.duplicated().to_numpy() & (reason == "")
        notes.append(Note("pairs that repeat another one in everything, dropped", int(copies.sum())))
        kept = rows[(reason == "") & ~copies]
        sides = [(kept["preferred_image_id"], kept["other_image_id"])]
        named_images, of_images = _images(rows)
        images, met = pictures_of(release, named_images, sides)
        votes = no_votes()
        own = ["prompt", "preferred_file", "other_file"]
        return Comparisons(
            self.name,
            votes,
            kept.drop(columns=own).reset_index(drop=True),
            images,
            prompt_table(rows["prompt_id"], rows["prompt"]),
            participants(votes, self.name),
            rows[reason != ""].drop(columns=own).assign(reason=reason[reason != ""]).reset_index(drop=True),
            (*notes, *of_images, *met),
        )


def _table(path: Path, rows: Sequence[Any]) -> pd.DataFrame:
    """One file's pairs in our columns, unknown fields after them."""
    import pandas as pd

    for k, row in enumerate(rows):
        if not isinstance(row, dict) or any(not isinstance(row.get(f), str) or not row[f] for f in FIELDS):
            raise TableError(f"{path}: row {k + 1} is {str(row)[:160]}", f"an object with {', '.join(FIELDS)}")
    answers = np.array([_answers(row.get("choice_dist")) for row in rows])
    counted = ~np.isnan(answers[:, 0])
    against = answers[counted, 1] > answers[counted, 0]
    if counted.any() and against.mean() > MOST_AGAINST:
        k = int(np.flatnonzero(counted)[np.argmax(against)])
        raise TableError(
            f"{path}: choice_dist favours path2 in {int(against.sum())} of {int(counted.sum())} rows, "
            f"first row {k + 1} ({str(rows[k])[:160]})",
            "files whose path1 is the preferred image",
        )
    frame = pd.DataFrame(rows)
    known = {*FIELDS, "model1", "model2", "choice_dist"}
    extra = {
        f"{c}_original" if c in (*PREFERENCE, "dataset") else c: frame[c].map(_cell)
        for c in frame.columns
        if c not in known
    }
    ours = {
        "prompt_id": [prompt_key("hpdv3", row["prompt"]) for row in rows],
        "preferred_image_id": "hpdv3_" + frame["path1"],
        "other_image_id": "hpdv3_" + frame["path2"],
        "preferred_condition": _models(frame, "model1"),
        "other_condition": _models(frame, "model2"),
        "tied": counted & (answers[:, 0] == answers[:, 1]),
        "split": path.stem,
        "answers_preferred": answers[:, 0],
        "answers_other": answers[:, 1],
        "prompt": frame["prompt"],
        "preferred_file": frame["path1"],
        "other_file": frame["path2"],
        "dataset": "hpdv3",
    }
    return pd.DataFrame(ours | extra)


def _answers(distribution: Any) -> tuple[float, float]:
    """How many answers each image got, where the release says so."""
    numbers = isinstance(distribution, list) and all(isinstance(n, int | float) for n in distribution)
    if numbers and len(distribution) == 2:
        return float(distribution[0]), float(distribution[1])
    return np.nan, np.nan


def _cell(value: Any) -> Any:
    return str(value) if isinstance(value, list | dict) else value


def _models(frame: pd.DataFrame, column: str) -> pd.Series | str:
    return frame[column].fillna(NOT_STATED).astype("str") if column in frame.columns else NOT_STATED


def _images(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[Note]]:
    """One row an image; one that stands for several prompts has the first of them."""
    return image_table(
        [
            rows[[f"{s}_image_id", "prompt_id", f"{s}_condition", f"{s}_file"]].set_axis(
                ["image_id", "prompt_id", "generator", "file"], axis="columns"
            )
            for s in ("preferred", "other")
        ]
    )
