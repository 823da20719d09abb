"""What is known of people before they have rated anything: demographics, a profile, the data set they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from beholder.errors import TableError
from beholder.taste.base import Floats, Strings

if TYPE_CHECKING:
    import pandas as pd

DEMOGRAPHICS = ("age", "gender", "nationality", "education", "art_interest")
"""The columns of a `users` table that are taken for demographics where nobody says which."""
SMALLEST_GROUP = 5
"""A group with fewer people is masked: what a model says of it would be about those few."""


@dataclass(frozen=True, eq=False)
class People:
    """People as arrays of one length, sorted by id.

    Attributes
    ----------
    user_ids : array of str, shape (n,)
        Each person once.
    demographics : mapping of arrays of str, each shape (n,)
        Categories by name; "" where a person did not say, or is masked.
    dataset : array of str, shape (n,)
        The data set each person belongs to, "" where there is but one.
    profiles : array, shape (n, d), optional
        Embedding of each person's profile text.
    """

    user_ids: Strings
    demographics: Mapping[str, Strings] = field(default_factory=dict)
    dataset: Strings = field(default_factory=lambda: np.empty(0, dtype="<U1"))
    profiles: Floats | None = None

    def __post_init__(self) -> None:
        n = len(self.user_ids)
        if not len(self.dataset):
            object.__setattr__(self, "dataset", np.full(n, "", dtype="<U1"))
        if np.any(self.user_ids[1:] <= self.user_ids[:-1]):
            raise TableError("people out of order, or one person twice", "one row a person, sorted by user_id")
        columns: dict[str, Floats | Strings] = {**self.demographics, "dataset": self.dataset}
        if self.profiles is not None:
            columns["profiles"] = self.profiles
        wrong = {name: len(column) for name, column in columns.items() if len(column) != n}
        if wrong:
            raise TableError(f"{n} people with columns of other lengths: {wrong}", "one entry a person")
        if self.profiles is not None and not np.all(np.isfinite(self.profiles)):
            raise TableError("gaps or infinities in the embeddings of profiles")

    def __len__(self) -> int:
        return len(self.user_ids)

    @classmethod
    def from_frame(cls, users: pd.DataFrame, demographics: Sequence[str] | None = None) -> People:
        """People of a `users` table; gaps become "".

        Parameters
        ----------
        users : DataFrame
            With `user_id`; `dataset` and the demographics where there are any.
        demographics : sequence of str, optional
            Columns to take, by default those of `DEMOGRAPHICS` that are there.

        Raises
        ------
        TableError
            For a missing column, or a person with two rows.
        """
        names = [c for c in DEMOGRAPHICS if c in users.columns] if demographics is None else list(demographics)
        missing = [c for c in ("user_id", *names) if c not in users.columns]
        if missing:
            raise TableError(f"users without column {', '.join(missing)}", f"columns there: {list(users.columns)}")
        frame = users.assign(user_id=users["user_id"].astype(str)).sort_values("user_id", kind="stable")

        def text(name: str) -> Strings:
            return frame[name].astype(object).where(frame[name].notna(), "").astype(str).to_numpy().astype(str)

        dataset = text("dataset") if "dataset" in frame.columns else np.full(len(frame), "", dtype="<U1")
        return cls(frame["user_id"].to_numpy().astype(str), {name: text(name) for name in names}, dataset)

    def of(self, user_ids: Sequence[str] | Strings) -> People:
        """These people, sorted, each once; who is not here is somebody of whom nothing is known."""
        wanted = np.unique(np.asarray(user_ids, dtype=str))
        if not len(self):
            return People(wanted, {name: np.full(len(wanted), "", dtype="<U1") for name in self.demographics})
        at = np.minimum(np.searchsorted(self.user_ids, wanted), len(self) - 1)
        known = self.user_ids[at] == wanted
        told = {name: np.where(known, column[at], "") for name, column in self.demographics.items()}
        profiles = None if self.profiles is None else np.where(known[:, None], self.profiles[at], 0.0)
        return People(wanted, told, np.where(known, self.dataset[at], ""), profiles)

    def masked(self, smallest: int = SMALLEST_GROUP) -> People:
        """The same people with every category of fewer than `smallest` of them put to "".

        Whoever belongs to one has no profile either: it may say the same. Which texts may become profiles at all is
        `beholder.taste.profiles.tellable`'s to say.
        """
        told, profiles = {}, self.profiles
        for name, column in self.demographics.items():
            groups, group, counts = np.unique(column, return_inverse=True, return_counts=True)
            told[name] = np.where(counts[group] >= smallest, groups[group], "")
            if profiles is not None:
                profiles = np.where(((column == "") | (told[name] != ""))[:, None], profiles, 0.0)
        return People(self.user_ids, told, self.dataset, profiles)
