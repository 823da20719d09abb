"""From a release's rows to tidy tables, for all readers of ratings; each of them finds its files and names its columns.

What is said of an image or a person leaves the ratings, repeats become occasions, and every picture is looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from beholder.errors import StoreError, TableError
from beholder.readers.base import Dataset, Note, settle_repeats
from beholder.readers.folder import ReleaseFolder
from beholder.readers.pictures import look_at

if TYPE_CHECKING:
    import pandas as pd

FIRST = ("user_id", "image_id", "prompt_id", "score", "raw_score", "occasion", "split", "dataset")


def assemble(
    folder: ReleaseFolder,
    name: str,
    rows: pd.DataFrame,
    scale: Mapping[str, Any],
    notes: Sequence[Note],
    *,
    image_columns: Sequence[str] = (),
    user_columns: Sequence[str] = (),
    users: pd.DataFrame | None = None,
    need_pictures: bool = True,
) -> Dataset:
    """The tidy tables of a set of ratings.

    Parameters
    ----------
    folder : ReleaseFolder
    name : str
        Name of the data set; put before its ids, so that two sets cannot clash.
    rows : DataFrame
        One rating a row: `user_id`, `image_id`, `file` (what the release calls the image file), `score` in ticks or
        missing, and others, which are kept. With `prompt` (text) images of one prompt share its id; without, each
        image is its own prompt.
    scale : mapping
    notes : sequence of Note
        What the reader did so far; the first counts the rows read.
    image_columns, user_columns : sequence of str
        Columns of `rows` that say something of the image or of the person, where they are there.
    users : DataFrame, optional
        `user_id` and what else a file says of people.
    need_pictures : bool
        Without, nobody looks at pictures: every rating stays, and the images have no path.

    Raises
    ------
    StoreError
        If no rated image is there.
    TableError
        If an image goes by two file names.
    """
    rows = rows.reset_index(drop=True)
    rows = rows.assign(user_id=f"{name}_" + rows["user_id"], image_id=f"{name}_" + rows["image_id"], dataset=name)
    _refuse_two_files(rows)
    images, of_images = one_each(rows, "image_id", ["file", *image_columns], "image")
    people, of_people = one_each(rows, "user_id", list(user_columns), "person")
    rows = rows.drop(columns=[*images.columns.drop("image_id"), *people.columns.drop("user_id")])
    images, prompts = with_prompts(images, name)
    rows["prompt_id"] = rows["image_id"].map(images.set_index("image_id")["prompt_id"])

    unanswered = rows[rows["score"].isna()].assign(reason="no rating")
    answered = rows[rows["score"].notna()].astype({"score": np.int64})
    answered, repeats = settle_repeats(answered.assign(order_=np.arange(len(answered))), "order_")
    images, absent, seen = with_pictures(folder, images) if need_pictures else _without_pictures(images)
    reason = answered["image_id"].map(absent)
    here = reason.isna()
    people, known = _with_file(people, users, name)
    found = [*notes, *of_images, *of_people, *known, *repeats, *seen]
    if len(unanswered):
        found.append(Note("rows without a rating, set aside", len(unanswered)))
    for why in sorted(set(absent.values())):
        found.append(Note(f"ratings set aside: {why}", int((reason == why).sum())))
    return Dataset(
        name,
        _ordered(answered[here]),
        images,
        prompts[prompts["prompt_id"].isin(images["prompt_id"])].reset_index(drop=True),
        people.assign(dataset=name),
        _ordered(_stacked(answered[~here].assign(reason=reason[~here]), unanswered)),
        scale,
        tuple(found),
    )


def one_each(rows: pd.DataFrame, key: str, columns: Sequence[str], what: str) -> tuple[pd.DataFrame, list[Note]]:
    """One row for each `key`, with the first value that is there of every column; contradictions are counted."""
    here = [c for c in dict.fromkeys(columns) if c in rows.columns]
    grouped = rows[[key, *here]].groupby(key, sort=True)
    table = grouped.first().reset_index() if here else rows[[key]].drop_duplicates().sort_values(key, ignore_index=True)
    notes = []
    for column in here:
        contradicted = int(rows[[key, column]].dropna().drop_duplicates()[key].duplicated().sum())
        if contradicted:
            notes.append(Note(f"{column}: further values for the same {what}, left out", contradicted))
    return table, notes


def with_prompts(images: pd.DataFrame, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Images with `prompt_id`, and the prompts; images without a text are prompts of their own."""
    import pandas as pd

    if "prompt" not in images.columns:
        images = images.assign(prompt_id=images["image_id"])
        return images, pd.DataFrame({"prompt_id": images["image_id"]})
    keys = [
        image if pd.isna(text) else prompt_key(name, str(text))
        for image, text in zip(images["image_id"], images["prompt"], strict=True)
    ]
    images = images.assign(prompt_id=keys)
    prompts = images[["prompt_id", "prompt"]].rename(columns={"prompt": "text"}).drop_duplicates("prompt_id")
    return images.drop(columns="prompt"), prompts.sort_values("prompt_id", ignore_index=True)


def prompt_key(name: str, text: str) -> str:
    """The id of a prompt that a release gives as text only: its digest, after spaces at the ends are taken off."""
    return f"{name}_p{hashlib.sha256(text.strip().encode()).hexdigest()[:12]}"


def with_pictures(
    folder: ReleaseFolder, images: pd.DataFrame, *, required: bool = True
) -> tuple[pd.DataFrame, dict[str, str], list[Note]]:
    """Images whose file can be decoded, with facts about it; why the others are not there, by image; what was met.

    Parameters
    ----------
    images : DataFrame
        `image_id`, `file` and others.
    required : bool
        Whether it is an error that no image is there at all.
    """
    import pandas as pd

    paths = [folder.pictures.find(str(file)) for file in images["file"]]
    if required and not any(paths):
        raise StoreError(
            f"none of {len(paths)} rated images is in {folder.root} (first {images['file'].iloc[0]!r}; "
            f"{len(folder.pictures)} image files there)",
            "the pictures of the release in the folder or below it",
            "unpack the pictures there, or import with --no-pictures for the ratings alone",
        )
    facts = iter(look_at([path for path in paths if path is not None]))
    absent: dict[str, str] = {}
    rows: list[dict[str, Any]] = []
    for row, path in zip(images.drop(columns="file").to_dict("records"), paths, strict=True):
        seen = None if path is None else next(facts)
        if seen is None:
            absent[str(row["image_id"])] = "image missing" if path is None else "image undecodable"
        else:
            rows.append({str(k): v for k, v in row.items()} | seen)
    columns = [*images.columns.drop("file"), "path", "width", "height", "sha256", "dhash"]
    return pd.DataFrame(rows, columns=columns), absent, _of_pictures(rows, absent, len(folder.pictures.repaired))


def _without_pictures(images: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str], list[Note]]:
    """Images as the release describes them, unseen."""
    return images.drop(columns="file"), {}, [Note("images of which only the names are known", len(images))]


def _of_pictures(rows: Sequence[Mapping[str, Any]], absent: Mapping[str, str], repaired: int) -> list[Note]:
    notes = []
    for why in sorted(set(absent.values())):
        which = sorted(image for image, reason in absent.items() if reason == why)
        notes.append(Note(f"images left out, {why.removeprefix('image ')}: {shown(which)}", len(which)))
    if repaired:
        notes.append(Note("image files found only after repairing the encoding of their name", repaired))
    copies = len(rows) - len({row["sha256"] for row in rows})
    if copies:
        notes.append(Note("images with the same bytes as another image of the set", copies))
    return notes


def shown(names: Sequence[str], most: int = 3) -> str:
    """The first names of many, for a message."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def split_notes(ratings: pd.DataFrame) -> list[Note]:
    """Ratings and people of each of the release's splits, and who or what is on both sides of training."""
    notes = []
    for split, rows in ratings.groupby("split", sort=True):
        notes.append(Note(f"ratings in the release's split {split}, by {rows['user_id'].nunique()} people", len(rows)))
    train = ratings[ratings["split"] == "train"]
    for split, rows in ratings[ratings["split"] != "train"].groupby("split", sort=True):
        known = int(rows["user_id"].drop_duplicates().isin(train["user_id"]).sum())
        again = int(rows["image_id"].drop_duplicates().isin(train["image_id"]).sum())
        if known and str(split).endswith("unseen"):
            notes.append(Note(f"people of {split} who are in train", known))
        if again:
            notes.append(Note(f"images of {split} that are in train", again))
    loose = int(ratings["split"].isna().sum())
    if loose:
        notes.append(Note("ratings in none of the release's splits", loose))
    return notes


def _refuse_two_files(rows: pd.DataFrame) -> None:
    pairs = rows[["image_id", "file"]].drop_duplicates()
    twice = pairs[pairs["image_id"].duplicated(keep=False)]
    if len(twice):
        image = twice["image_id"].iloc[0]
        files = twice.loc[twice["image_id"] == image, "file"].astype(str)
        raise TableError(f"image {image!r} goes by {len(files)} file names ({shown(list(files))})", "one an image")


def _with_file(people: pd.DataFrame, users: pd.DataFrame | None, name: str) -> tuple[pd.DataFrame, list[Note]]:
    """Everybody who rated, with what the file of people says."""
    if users is None:
        return people, []
    users = users.assign(user_id=f"{name}_" + users["user_id"])
    twice = users["user_id"].duplicated()
    if twice.any():
        raise TableError(f"{name}: user {users.loc[twice, 'user_id'].iloc[0]!r} twice in the file of people", "once")
    notes = []
    unknown = int((~people["user_id"].isin(users["user_id"])).sum())
    idle = int((~users["user_id"].isin(people["user_id"])).sum())
    if unknown:
        notes.append(Note("raters who are not in the file of people, kept without data", unknown))
    if idle:
        notes.append(Note("people in the file of people who rated nothing, left out", idle))
    return people.merge(users, on="user_id", how="left"), notes


def _stacked(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    if not len(a) or not len(b):
        return (b if not len(a) else a).reset_index(drop=True)
    return pd.concat([a, b], ignore_index=True)


def _ordered(rows: pd.DataFrame) -> pd.DataFrame:
    first = [c for c in FIRST if c in rows.columns]
    return rows[[*first, *(c for c in rows.columns if c not in first)]].reset_index(drop=True)
