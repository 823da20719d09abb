"""Any data set of rated images in CSV files, described by a mapping file (`beholder.readers.mapping`)."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from beholder.errors import StoreError, TableError
from beholder.readers.base import Dataset, Note, Reader, settle_repeats
from beholder.readers.mapping import CsvMapping, Source, load_mapping
from beholder.readers.pictures import image_facts

if TYPE_CHECKING:
    import pandas as pd

ID_COLUMNS = ("user_id", "image_id", "prompt_id")
MOST_LEVELS = 25
"""A scale of whole numbers with at most this many steps is one of levels, not a slider."""


@dataclass(frozen=True)
class CsvReader:
    """Reader of a folder of CSV files and images.

    Attributes
    ----------
    mapping : path
        The mapping file.
    """

    mapping: Path

    name: ClassVar[str] = "csv"

    def variants(self) -> Mapping[str, Reader]:
        """None: a mapping describes one selection."""
        return {}

    def read(self, folder: Path) -> Dataset:
        """Read the data set.

        Raises
        ------
        UserError
            If the mapping is wrong.
        StoreError
            If files are missing.
        TableError
            If columns are missing, scores lie off the scale, or an image has two prompts.
        """
        mapping = load_mapping(self.mapping)
        dataset = folder.resolve().name
        ratings = _read_csv(folder, mapping.ratings, "ratings", ("user_id", "image_id", "score"))
        notes = [Note("ratings read", len(ratings))]
        ratings = _ticks(ratings, mapping, folder / mapping.ratings.file).assign(dataset=dataset)
        if "occasion" not in ratings.columns:
            ratings, repeats = settle_repeats(ratings.assign(order_=np.arange(len(ratings))), "order_")
            notes += repeats
        described = None
        if mapping.images is not None:
            described = _read_csv(folder, mapping.images, "images", ("image_id",))
            if described["image_id"].duplicated().any():
                twice = described.loc[described["image_id"].duplicated(), "image_id"].iloc[0]
                raise TableError(f"{folder / mapping.images.file}: image {twice!r} twice", "one row an image")
        ratings, described, unnamed = _prompts(ratings, described)
        notes += unnamed
        images, missing = _images(folder, mapping, described)
        here = ratings["image_id"].isin(images["image_id"])
        if not here.any():
            wanted = folder / mapping.folder / mapping.pattern
            raise StoreError(f"no rated image is at {wanted}", "the files of the rated images", "mend images.pattern")
        if (~here).any():
            absent = ratings.loc[~here, "image_id"].unique()
            shown = ", ".join(sorted(absent)[:3]) + (", ..." if len(absent) > 3 else "")
            notes.append(
                Note(f"ratings of {len(absent)} images without a readable file, set aside: {shown}", sum(~here))
            )
        users = _users(folder, mapping, ratings).assign(dataset=dataset)
        aside = ratings[~here].assign(reason="image missing").reset_index(drop=True)
        prompts = images.drop_duplicates("prompt_id")[["prompt_id", *(["text"] if "text" in images else [])]]
        return Dataset(
            dataset,
            ratings[here].reset_index(drop=True),
            images.drop(columns=["text"], errors="ignore"),
            prompts.reset_index(drop=True),
            users,
            aside,
            _scale(mapping),
            tuple([*notes, *missing]),
        )


def _read_csv(folder: Path, source: Source, table: str, required: tuple[str, ...]) -> pd.DataFrame:
    """A file with its columns renamed; ids are text."""
    path = folder / source.file
    frame = _read(path, {source.columns.get(name, name) for name in ID_COLUMNS})
    absent = [theirs for theirs in source.columns.values() if theirs not in frame.columns]
    if absent:
        raise TableError(f"{path} has no column {', '.join(absent)}", ", ".join(map(str, frame.columns)))
    clashes = {
        ours: f"{ours}_original"
        for ours, theirs in source.columns.items()
        if ours != theirs and ours in frame.columns and ours not in source.columns.values()
    }
    theirs_to_ours = {theirs: ours for ours, theirs in source.columns.items()}
    frame = frame.rename(columns=clashes).rename(columns=theirs_to_ours)
    missing = [name for name in required if name not in frame.columns]
    if missing:
        there = ", ".join(map(str, frame.columns))
        raise TableError(f"{path} has no column for {', '.join(missing)}", there, f"name it in {table}.columns")
    for name in ID_COLUMNS:
        if name in frame.columns and frame[name].isna().any():
            row = int(frame[name].isna().to_numpy().argmax()) + 1
            raise TableError(f"{path}: {int(frame[name].isna().sum())} rows without {name}, first row {row}")
    return frame


def _read(path: Path, ids: set[str]) -> pd.DataFrame:
    """A CSV or TSV file; ids are text as written ("007", "NA")."""
    import pandas as pd

    if not path.is_file():
        raise StoreError(f"{path} is missing", remedy="give the folder in --data, and file names in the mapping")
    separator = "\t" if ".tsv" in path.suffixes else ","
    try:
        header = pd.read_csv(path, sep=separator, nrows=0).columns
        missing = {str(c): [""] if c in ids else ["", "NA", "NaN", "nan", "null", "None", "N/A"] for c in header}
        texts = {str(c): "str" for c in header if c in ids}
        return pd.read_csv(path, sep=separator, dtype=texts, keep_default_na=False, na_values=missing)
    except (ValueError, pd.errors.ParserError) as error:
        raise TableError(f"{path}: cannot be read ({str(error).strip().splitlines()[0]})", "a CSV file") from error


def _ticks(ratings: pd.DataFrame, mapping: CsvMapping, path: Path) -> pd.DataFrame:
    """Scores on the mapping's scale as ticks 0...1000."""
    import pandas as pd

    raw = pd.to_numeric(ratings["score"], errors="coerce").to_numpy(dtype=np.float64)
    bad = ~((raw >= mapping.low) & (raw <= mapping.high))
    if bad.any():
        row = int(bad.argmax())
        raise TableError(
            f"{path}: {int(bad.sum())} of {len(raw)} scores off the scale, first {ratings['score'].iloc[row]!r} in row "
            f"{row + 1}",
            f"{mapping.low:g}...{mapping.high:g}",
            "mend the rows, or state the scale in ratings.scale",
        )
    return ratings.assign(score=np.rint((raw - mapping.low) / (mapping.high - mapping.low) * 1000).astype(np.int64))


def _scale(mapping: CsvMapping) -> dict[str, Any]:
    low, high = mapping.low, mapping.high
    scale: dict[str, Any] = {"raw": [low, high], "ticks": [0, 1000]}
    scale["formula"] = f"round((score - {low:g}) / {high - low:g} * 1000)"
    if low == int(low) and high == int(high) and high - low < MOST_LEVELS:
        scale["levels"] = [round((k - low) / (high - low) * 1000) for k in range(int(low), int(high) + 1)]
    return scale


def _prompts(ratings: pd.DataFrame, described: pd.DataFrame | None) -> tuple[pd.DataFrame, pd.DataFrame, list[Note]]:
    """Ratings and images with one prompt an image: that of the images' file, else the ratings', else the image."""
    import pandas as pd

    rated = pd.DataFrame({"image_id": sorted(ratings["image_id"].unique())})
    notes: list[Note] = []
    images = rated if described is None else rated.merge(described, on="image_id", how="left")
    if "prompt_id" not in images.columns:
        if "prompt_id" in ratings.columns:
            pairs = ratings[["image_id", "prompt_id"]].drop_duplicates()
            twice = pairs["image_id"].duplicated()
            if twice.any():
                raise TableError(f"image {pairs.loc[twice, 'image_id'].iloc[0]!r} has two prompts", "one an image")
            images = images.merge(pairs, on="image_id")
        else:
            images = images.assign(prompt_id=images["image_id"])
            notes.append(Note("images without a prompt: each is its own", len(images)))
    nameless = images["prompt_id"].isna()
    if nameless.any():
        first = images.loc[nameless, "image_id"].iloc[0]
        raise TableError(f"{int(nameless.sum())} rated images without a row in the images' file, first {first!r}")
    prompt_of = images.set_index("image_id")["prompt_id"]
    return ratings.assign(prompt_id=ratings["image_id"].map(prompt_of)), images, notes


def _images(folder: Path, mapping: CsvMapping, described: pd.DataFrame) -> tuple[pd.DataFrame, list[Note]]:
    """One row a rated image whose file can be read."""
    import pandas as pd

    fields = [name for _, name, _, _ in string.Formatter().parse(mapping.pattern) if name]
    unknown = [name for name in fields if name not in described.columns]
    if unknown:
        raise TableError(f"images.pattern asks for {', '.join(unknown)}", ", ".join(map(str, described.columns)))
    rows, broken = [], []
    for row in described.to_dict("records"):
        path = folder / mapping.folder / mapping.pattern.format_map({name: row[name] for name in fields})
        if not path.is_file():
            continue
        facts = image_facts(path)
        if facts is None:
            broken.append(str(row["image_id"]))
        else:
            rows.append(row | facts)
    notes = [Note(f"image files that cannot be decoded: {', '.join(broken[:3])}", len(broken))] if broken else []
    frame = pd.DataFrame(rows, columns=[*described.columns, "path", "width", "height", "sha256", "dhash"])
    return frame.rename(columns={"prompt": "text"}), notes


def _users(folder: Path, mapping: CsvMapping, ratings: pd.DataFrame) -> pd.DataFrame:
    """Everybody who rated, with what the users' file says of them."""
    import pandas as pd

    users = pd.DataFrame({"user_id": sorted(ratings["user_id"].unique())})
    if mapping.users is None:
        return users
    known = _read_csv(folder, mapping.users, "users", ("user_id",))
    if known["user_id"].duplicated().any():
        twice = known.loc[known["user_id"].duplicated(), "user_id"].iloc[0]
        raise TableError(f"{folder / mapping.users.file}: user {twice!r} twice", "one row a user")
    return users.merge(known, on="user_id", how="left")
