"""What a reader of a public data set gives: tidy tables, and a note on everything it changed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Note:
    """One thing a reader did to the raw data, or met in it.

    Attributes
    ----------
    what : str
        In words, with names.
    rows : int
        How many rows it touched.
    """

    what: str
    rows: int


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set as tidy tables (columns as in `analysis.tables`).

    Attributes
    ----------
    name : str
    ratings : pandas.DataFrame
        Scores in ticks 0...1000, every image at hand.
    images, prompts, users : pandas.DataFrame
        One row each; `images.path` is absolute.
    set_aside : pandas.DataFrame
        Rows like `ratings` that cannot be used for want of an image, with a column `reason`.
    scale : mapping
        How raw answers became ticks: `raw`, `ticks`, `formula`, `levels`.
    notes : tuple of Note
        Rows in = rows in `ratings` + rows in `set_aside` + rows that a note says were dropped.
    """

    name: str
    ratings: pd.DataFrame
    images: pd.DataFrame
    prompts: pd.DataFrame
    users: pd.DataFrame
    set_aside: pd.DataFrame
    scale: Mapping[str, Any]
    notes: tuple[Note, ...]


class Reader(Protocol):
    """Reads one public data set. Made with its settings; `read` has no others."""

    @property
    def name(self) -> str:
        """As in `--reader NAME`, and in the column `dataset`."""
        ...

    def read(self, folder: Path) -> Dataset:
        """Read the data set that lies in `folder`."""
        ...

    def variants(self) -> Mapping[str, Reader]:
        """Other selections of the same data set, by name, for sensitivity analyses."""
        ...


def settle_repeats(ratings: pd.DataFrame, order: str) -> tuple[pd.DataFrame, list[Note]]:
    """Exact copies of a row dropped; rows of one user and image that differ become occasions 1, 2, ...

    Parameters
    ----------
    ratings : DataFrame
        `user_id`, `image_id`, `order` and others.
    order : str
        The column that says which of two answers came first. It tells no rows apart and is left out of the result.

    Returns
    -------
    DataFrame
        Sorted by user, image and order, with `occasion`.
    list of Note
    """
    key, content = ["user_id", "image_id"], [c for c in ratings.columns if c != order]
    copies = ratings.duplicated(content)
    kept = ratings[~copies].sort_values([*key, order], kind="stable")
    occasion = kept.groupby(key).cumcount() + 1
    kept = kept.drop(columns=order).assign(occasion=occasion)
    return kept.reset_index(drop=True), [
        Note("rows that repeat another one in every answer, dropped", int(copies.sum())),
        Note("second ratings of an image that differ from the first in some answer, kept as occasion 2",
             int((occasion > 1).sum())),
    ]  # fmt: skip


def data_root() -> Path:
    """Where the public data sets lie: the environment variable `BEHOLDER_DATA`, else `../shared/data`."""
    return Path(os.environ.get("BEHOLDER_DATA", "../shared/data"))
