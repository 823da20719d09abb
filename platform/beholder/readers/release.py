"""The splits a release comes with: lists of images and people, and the training, context and test sides they make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from beholder.errors import EstimateError, UserError
from beholder.readers.base import Note
from beholder.readers.columns import named, read_rows
from beholder.readers.folder import ReleaseFolder

if TYPE_CHECKING:
    import pandas as pd

Positions = NDArray[np.intp]
IMAGE_NAMES = ("imageName", "image_filename", "image_name", "image", "filename", "file_name", "path")


@dataclass(frozen=True, eq=False)
class ReleaseSplit:
    """One of a release's own splits, without what would leak.

    Attributes
    ----------
    kind : `seen` or `unseen`
    part : str
        What it tests on: `val` or `test`.
    train, context, test : array of int
        Positions in the ratings. `context` is what may be shown of new users; empty for `seen`.
    notes : tuple of Note
        Test ratings left out, and why.
    """

    kind: Literal["seen", "unseen"]
    part: str
    train: Positions
    context: Positions
    test: Positions
    notes: tuple[Note, ...]


def release_split(ratings: pd.DataFrame, kind: Literal["seen", "unseen"], part: str = "test") -> ReleaseSplit:
    """The release's own split of a ratings table, as sides that share no image and no prompt.

    The release's `train` is the training side. `seen`: its `<part>_seen` (or `<part>`) ratings, of people who have
    training ratings. `unseen`: the people of `<part>_unseen`; their ratings of images of the training side may be
    shown, the others are tested. What a release tests although image or prompt is on the training side is left out and
    counted: a model that knows the crowd's answers to an image is not tested on it.

    Parameters
    ----------
    ratings : DataFrame
        With `user_id`, `image_id`, `prompt_id` and the column `split` of a reader.
    kind : `seen` or `unseen`
    part : str
        `val` or `test`.

    Raises
    ------
    UserError
        If the table has no such split.
    EstimateError
        If nothing is left to test.
    """
    if kind not in ("seen", "unseen"):
        raise UserError(f"split {kind!r}", "seen, unseen")
    splits = sorted(ratings["split"].dropna().unique()) if "split" in ratings.columns else []
    names = (f"{part}_seen", part) if kind == "seen" else (f"{part}_unseen",)
    name = next((n for n in names if n in splits), None)
    if name is None or "train" not in splits:
        raise UserError(f"no split train and {' or '.join(names)}", f"splits there: {', '.join(splits) or 'none'}")
    train = (ratings["split"] == "train").to_numpy()
    tested = (ratings["split"] == name).to_numpy()
    learnt = ratings[train]
    known_user = ratings["user_id"].isin(learnt["user_id"]).to_numpy()
    known_image = np.zeros(len(ratings), dtype=bool)
    for what in ("image_id", "prompt_id"):
        known_image |= ratings[what].isin(learnt[what]).to_numpy()
    right_person = known_user if kind == "seen" else ~known_user
    context = tested & right_person & known_image if kind == "unseen" else np.zeros(len(ratings), dtype=bool)
    test = tested & right_person & ~known_image
    wrong = "by people without a training rating" if kind == "seen" else "by people who are in training"
    left = {
        wrong: tested & ~right_person,
        "of images or prompts in training": tested & right_person & known_image & ~context,
    }
    notes = [Note(f"ratings of {name} {why}, left out", int(m.sum())) for why, m in left.items() if m.any()]
    if not test.any():
        counts = "; ".join(f"{n.what}: {n.rows}" for n in notes) or f"{int(context.sum())} of images in training"
        raise EstimateError(
            f"{name}: nothing to test ({counts})",
            "images outside training",
            "hold images out with seen_splits or unseen_splits",
        )
    sides = [np.flatnonzero(m) for m in (train, context, test)]
    return ReleaseSplit(kind, part, sides[0], sides[1], sides[2], tuple(notes))


def listed_images(release: ReleaseFolder, *names: str) -> frozenset[str] | None:
    """The images that a list or a table of the release names, by bare file name; None where it is not there."""
    path = release.find(*names)
    if path is None:
        return None
    if path.suffix.lower() == ".txt":
        values: Iterable[str] = path.read_text(encoding="utf-8-sig").split("\n")
    else:
        raw, _ = read_rows(path, IMAGE_NAMES)
        values = named(raw, {"image_name": IMAGE_NAMES}, ("image_name",), path)["image_name"].dropna()
    return frozenset(bare(v) for v in values if v.strip())


def bare(name: str) -> str:
    """A file's name without its folders."""
    return PurePosixPath(name.strip().replace("\\", "/")).name


def image_split(images: pd.Series, lists: Mapping[str, frozenset[str] | None]) -> tuple[pd.Series | None, list[Note]]:
    """The split of each image name, from lists of names; None where the release has no list.

    An image on two lists has no split, and is counted.
    """
    import pandas as pd

    present = {split: names for split, names in lists.items() if names is not None}
    if not present:
        return None, []
    found = images.map(bare)
    split = pd.Series(pd.NA, index=images.index, dtype="str")
    twice: set[str] = set()
    for name, members in present.items():
        twice |= {i for other, others in present.items() if other != name for i in members & others}
        split = split.mask(found.isin(members), name)
    split = split.mask(found.isin(twice), pd.NA)
    return split, [Note("images on two lists of the release's split, in none here", len(twice))] if twice else []


def user_folds(release: ReleaseFolder, users: pd.DataFrame) -> pd.DataFrame:
    """People with a column `fold_<k>` (train or test) for each list `TrainUserIDs_Fold<k>.txt` that is there."""
    for k in range(1, 5):
        path = release.find(f"TrainUserIDs_Fold{k}.txt")
        if path is not None:
            train = {line.strip().strip(",\"'") for line in path.read_text(encoding="utf-8-sig").splitlines()}
            users = users.assign(**{f"fold_{k}": np.where(users["user_id"].isin(train), "train", "test")})
    return users
