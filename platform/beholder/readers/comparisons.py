"""What a reader of compared pairs gives: votes where the rater is known, preferences where nobody is named.

A preference says which of two images was preferred and nothing of sides, so the order in which a release writes a pair
can never be read as the order on a screen. In votes, left and right are the order in the release, which `side_known`
says; `analysis` may use them as sides only where it is true.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from beholder.readers.assemble import one_each, with_pictures
from beholder.readers.base import Note
from beholder.readers.folder import ReleaseFolder

if TYPE_CHECKING:
    import pandas as pd

NOT_STATED = "not stated"
"""Condition of an image whose generator the release does not name."""
PREFERENCE = (
    "prompt_id", "preferred_image_id", "other_image_id", "preferred_condition", "other_condition", "tied", "split",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Comparisons:
    """A data set of compared pairs as tidy tables.

    Attributes
    ----------
    name : str
    votes : pandas.DataFrame
        One answer of one known person a row, columns as in `analysis.tables`; may be empty.
    preferences : pandas.DataFrame
        One pair a row without a person: `prompt_id`, `preferred_image_id`, `other_image_id`, `preferred_condition`,
        `other_condition`, `tied` (then which one is called preferred means nothing), `split`, and others; may be empty.
    images, prompts, users : pandas.DataFrame
        One row each; `images` holds those whose file is there.
    set_aside : pandas.DataFrame
        Rows that hold no usable answer, with a column `reason`.
    notes : tuple of Note
        Rows in = rows in `votes`, `preferences` and `set_aside` + rows that a note says were dropped.
    """

    name: str
    votes: pd.DataFrame
    preferences: pd.DataFrame
    images: pd.DataFrame
    prompts: pd.DataFrame
    users: pd.DataFrame
    set_aside: pd.DataFrame
    notes: tuple[Note, ...]


class ComparisonReader(Protocol):
    """Reads one public data set of compared pairs."""

    @property
    def name(self) -> str:
        """As in `--reader NAME`."""
        ...

    def read(self, folder: Path) -> Comparisons:
        """Read the data set that lies in `folder`."""
        ...


def settle_votes(votes: pd.DataFrame) -> tuple[pd.DataFrame, list[Note]]:
    """Exact copies dropped; a person's second answer to the same two images becomes a repeat of the first.

    Parameters
    ----------
    votes : DataFrame
        With `participant_id`, `left_image_id`, `right_image_id`, `choice`, and `trial_id` and `split`, which tell no
        rows apart (some releases hold a row in two splits; the first is kept).

    Returns
    -------
    DataFrame
        With `kind` (`main`, `repeat`) and `repeat_of`.
    list of Note
    """
    content = [c for c in votes.columns if c not in ("trial_id", "split")]
    copies = votes.duplicated(content)
    kept = votes[~copies].reset_index(drop=True)
    left, right = kept["left_image_id"], kept["right_image_id"]
    pair = kept[["participant_id"]].assign(a=left.where(left < right, right), b=right.where(left < right, left))
    again = pair.duplicated().to_numpy()
    first = kept.groupby([pair["participant_id"], pair["a"], pair["b"]])["trial_id"].transform("first")
    kept = kept.assign(kind=np.where(again, "repeat", "main"), repeat_of=first.where(again))
    return kept, [
        Note("votes that repeat another one in everything, dropped", int(copies.sum())),
        Note("votes on two images that the same person had judged before, kept as repeats", int(again.sum())),
    ]


def image_table(sides: Sequence[pd.DataFrame]) -> tuple[pd.DataFrame, list[Note]]:
    """One row an image, from all the places where a release names it (`image_id`, `prompt_id`, `file` and others)."""
    import pandas as pd

    everywhere = pd.concat(sides, ignore_index=True)
    return one_each(everywhere, "image_id", [c for c in everywhere.columns if c != "image_id"], "image")


def pictures_of(
    folder: ReleaseFolder, images: pd.DataFrame, pairs: Sequence[tuple[pd.Series, pd.Series]]
) -> tuple[pd.DataFrame, list[Note]]:
    """The images whose file is there, and how many pairs lack one (they are kept: their answers need no pictures).

    Parameters
    ----------
    folder : ReleaseFolder
    images : DataFrame
        `image_id`, `file` and others.
    pairs : sequence of two Series
        Image ids of the two sides, of votes and of preferences.
    """
    found, absent, notes = with_pictures(folder, images, required=False)
    lacking = sum(int((a.isin(absent) | b.isin(absent)).sum()) for a, b in pairs)
    if lacking:
        notes.append(Note("pairs of which an image is not there, kept", lacking))
    return found, notes


def participants(votes: pd.DataFrame, name: str) -> pd.DataFrame:
    """The people of the votes."""
    import pandas as pd

    return pd.DataFrame({"user_id": sorted(votes["participant_id"].unique())}, dtype="str").assign(dataset=name)


def no_votes() -> pd.DataFrame:
    """A table of votes without rows."""
    import pandas as pd

    columns = ["participant_id", "prompt_id", "left_condition", "right_condition", "choice", "trial_id"]
    return pd.DataFrame({c: pd.Series(dtype="str") for c in columns})


def no_preferences() -> pd.DataFrame:
    """A table of preferences without rows."""
    import pandas as pd

    return pd.DataFrame({c: pd.Series(dtype="bool" if c == "tied" else "str") for c in PREFERENCE})


def prompt_table(ids: pd.Series, texts: pd.Series) -> pd.DataFrame:
    """One row a prompt, with its text."""
    import pandas as pd

    table = pd.DataFrame({"prompt_id": ids, "text": texts}).drop_duplicates("prompt_id")
    return table.sort_values("prompt_id", ignore_index=True)
