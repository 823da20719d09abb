"""HPDv2 with raters: rankings of generated images by known annotators, read as pairs.

Wu, Hao, Sun, Chen, Zhu, Zhao, Li (2023), "Human Preference Score v2", arXiv:2306.09341; hub `ymhao/HPDv2`, Apache-2.0,
and the pairs made from its test split, hub `aniketr/hpdv2-test-no-embeds`.

Layouts, either or both in one folder:

* pairs (Parquet or CSV): `user_id`, `prompt`, `image_left_id`, `image_right_id`, `pref` (1 left, -1 right),
  `ranking_id`;
* `test.json`: a list of `prompt`, `image_path` (list), `rank` (averaged, by index), `raw_annotations` (list of `rank`
  and `user_hash`); the lowest rank is the best. `train.json`: `prompt`, `image_path` or `file_path`, and
  `human_preference` (1 for the preferred image), nobody named: preferences.

Left and right are the order of the expansion. The pairs of one ranking are one act of one person: `ranking_id` names
it, and intervals should cluster by participant. Generators are not stated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from beholder.errors import StoreError, TableError
from beholder.readers.assemble import prompt_key
from beholder.readers.base import Note
from beholder.readers.columns import Aliases, json_rows, named, need_ids, plain, read_rows, refuse
from beholder.readers.comparisons import (
    NOT_STATED,
    PREFERENCE,
    Comparisons,
    image_table,
    no_preferences,
    no_votes,
    participants,
    pictures_of,
    prompt_table,
    settle_votes,
)  # fmt: skip
from beholder.readers.folder import ReleaseFolder

if TYPE_CHECKING:
    import pandas as pd

ALIASES: Aliases = {
    "user_id": ("user_id", "user_hash", "annotator_id"),
    "prompt": ("prompt", "caption"),
    "left": ("image_left_id", "left_image_id"),
    "right": ("image_right_id", "right_image_id"),
    "pref": ("pref", "preference", "label"),
    "ranking_id": ("ranking_id",),
}
REQUIRED = ("user_id", "prompt", "left", "right", "pref")
LISTS = ("image_path", "file_path", "image_paths")


@dataclass(frozen=True)
class HpdV2Reader:
    """Reader of both layouts; a folder with both must not hold the same rankings twice, which copies would show."""

    name: ClassVar[str] = "hpdv2"

    def read(self, folder: Path) -> Comparisons:
        """Read rankings and pairs of known people as votes, the others as preferences.

        Raises
        ------
        StoreError
            If neither layout is there.
        TableError
            Showing the first row that is no choice between two images, or whose lists differ in length.
        """
        import pandas as pd

        release = ReleaseFolder(folder, "HPDv2")
        pairs, notes = _pairs(release)
        for name in ("test.json", "train.json"):
            path = release.find(name)
            if path is not None:
                found, met = _rankings(path)
                pairs += found
                notes += met
        if not pairs:
            raise StoreError(f"neither pairs nor test.json in {folder}", remedy="give the folder of HPDv2 in --data")
        rows = pd.concat(pairs, ignore_index=True)
        rows["prompt_id"] = [prompt_key(self.name, text) for text in rows["prompt"].astype(str)]
        same = rows["left"] == rows["right"]
        if same.any():
            notes.append(Note("pairs set aside: an image against itself", int(same.sum())))
        kept = rows[~same]
        votes, preferences = _votes(kept[kept["user_id"].notna()]), _preferences(kept[kept["user_id"].isna()])
        if len(votes):
            votes, settled = settle_votes(votes)
            notes += settled
        sides = [(votes["left_image_id"], votes["right_image_id"])] if len(votes) else []
        sides += [(preferences["preferred_image_id"], preferences["other_image_id"])]
        named_images, of_images = _images(rows)
        images, met = pictures_of(release, named_images, sides)
        return Comparisons(
            self.name,
            votes,
            preferences,
            images,
            prompt_table(rows["prompt_id"], rows["prompt"]),
            participants(votes, self.name),
            rows[same].assign(reason="an image against itself").reset_index(drop=True),
            (*notes, *of_images, *met),
        )


def _pairs(release: ReleaseFolder) -> tuple[list[pd.DataFrame], list[Note]]:
    """The files of pairs: those that have the columns."""
    parts, notes = [], []
    for path in [*release.matching(".parquet"), *release.matching(".csv")]:
        raw, met = read_rows(path, [*ALIASES["user_id"], *ALIASES["left"], *ALIASES["right"], "ranking_id"])
        if not {plain("image_left_id"), plain("image_right_id")} <= {plain(c) for c in raw.columns}:
            notes.append(Note(f"{path.name} holds no pairs and was left alone", len(raw)))
            continue
        part = named(raw, ALIASES, REQUIRED, path)
        need_ids(part, ("user_id", "left", "right"), path)
        refuse(path, part, ~part["pref"].isin([1, -1]), "pref that is no choice", "1 for left, -1 for right")
        part = part.assign(split="test", trial_id=[f"{path.stem}:{k}" for k in range(len(part))])
        parts.append(part.assign(choice=np.where(part["pref"] == 1, "left", "right")).drop(columns="pref"))
        notes += [Note("pairs read", len(part)), *met]
    return parts, notes


def _rankings(path: Path) -> tuple[list[pd.DataFrame], list[Note]]:
    """All pairs of all rankings in a file, in the order of the lists."""
    import pandas as pd

    split = path.stem
    found: list[dict[str, Any]] = []
    rankings, agreement = 0, []
    for k, row in enumerate(json_rows(path)):
        images = next((row[name] for name in LISTS if isinstance(row, Mapping) and name in row), None)
        if images is None or "prompt" not in row:
            raise TableError(f"{path}: row {k + 1} is {str(row)[:160]}", "an object with prompt and image_path")
        for ranking_id, user, ranks in _acts(row, k, split):
            if len(ranks) != len(images):
                found_here = f"{len(ranks)} ranks for {len(images)} images ({str(row)[:120]})"
                raise TableError(f"{path}: row {k + 1} holds {found_here}", "one rank each")
            rankings += 1
            if user is not None and "rank" in row:
                agreement.append(float(np.dot(_centred(ranks), _centred(row["rank"]))))
            found += _expanded(row["prompt"], images, ranks, user, ranking_id)
    if agreement and np.mean(agreement) <= 0:
        raise TableError(f"{path}: the raters' ranks run against the averaged rank", "ranks by index of image_path")
    frame = pd.DataFrame(found).assign(split=split)
    frame["trial_id"] = [f"{split}:{k}" for k in range(len(frame))]
    read = Note(f"rankings read from {path.name}, each as all its pairs", rankings)
    return [frame], [read, Note("pairs read", len(frame))]


def _acts(row: Mapping[str, Any], k: int, split: str) -> Iterator[tuple[str, str | None, Sequence[float]]]:
    """Who ranked the images of a row, and how: each named rater, or else the unnamed preference."""
    if row.get("raw_annotations"):
        for n, act in enumerate(row["raw_annotations"]):
            yield f"{split}:{k}:{n}", str(act["user_hash"]), act["rank"]
    elif row.get("human_preference") is not None:
        yield f"{split}:{k}", None, [1 - p for p in row["human_preference"]]
    elif row.get("rank") is not None:
        yield f"{split}:{k}", None, row["rank"]


def _expanded(
    prompt: str, images: Sequence[str], ranks: Sequence[float], user: str | None, ranking_id: str
) -> Iterator[dict[str, Any]]:
    """Every pair of a ranking; the lower rank is preferred."""
    for a, b in combinations(range(len(images)), 2):
        choice = "tie" if ranks[a] == ranks[b] else "left" if ranks[a] < ranks[b] else "right"
        ids = {"left": images[a].rsplit(".", 1)[0], "right": images[b].rsplit(".", 1)[0]}
        files = {"left_file": images[a], "right_file": images[b]}
        yield ids | files | {"prompt": prompt, "user_id": user, "choice": choice, "ranking_id": ranking_id}


def _centred(ranks: Sequence[float]) -> np.ndarray:
    values = np.asarray(ranks, dtype=np.float64)
    return values - values.mean()


def _votes(rows: pd.DataFrame) -> pd.DataFrame:
    if not len(rows):
        return no_votes()
    taken = ["user_id", "left", "right", "left_file", "right_file", "prompt", "choice"]
    return rows.drop(columns=[c for c in taken if c in rows.columns]).assign(
        participant_id="hpdv2_" + rows["user_id"],
        left_condition=NOT_STATED,
        right_condition=NOT_STATED,
        choice=rows["choice"],
        left_image_id="hpdv2_" + rows["left"],
        right_image_id="hpdv2_" + rows["right"],
        side_known=False,
        dataset="hpdv2",
    )


def _preferences(rows: pd.DataFrame) -> pd.DataFrame:
    if not len(rows):
        return no_preferences()
    first = rows["choice"] != "right"
    return rows.assign(
        preferred_image_id="hpdv2_" + rows["left"].where(first, rows["right"]),
        other_image_id="hpdv2_" + rows["right"].where(first, rows["left"]),
        preferred_condition=NOT_STATED,
        other_condition=NOT_STATED,
        tied=rows["choice"] == "tie",
        dataset="hpdv2",
    )[[*PREFERENCE, "ranking_id", "dataset"]].reset_index(drop=True)


def _images(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[Note]]:
    """One row an image, with the file it may lie in."""
    import pandas as pd

    sides = []
    for side in ("left", "right"):
        file = rows[f"{side}_file"].fillna(rows[side]) if f"{side}_file" in rows.columns else rows[side]
        sides.append(pd.DataFrame({"image_id": "hpdv2_" + rows[side], "prompt_id": rows["prompt_id"], "file": file}))
    return image_table(sides)
