"""Texts that people wrote of themselves: which may be told to a model, and embeddings that leave no trace of them.

A text is somebody's own. No row of a ledger, no message and no error holds one: rows have its digest, and tables the
embedding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from beholder.errors import EngineError, TableError
from beholder.taste.people import SMALLEST_GROUP, People

if TYPE_CHECKING:
    import pandas as pd

    from beholder.store import Store

PROFILE = "profile"
"""The column of a `users` table that holds the texts."""
SHARED = 0.5
"""From this share of texts that several people have on, texts are descriptions of groups, not people's own words."""


@dataclass(frozen=True, eq=False)
class Tellable:
    """Whose text may be told.

    Attributes
    ----------
    texts : mapping of str to str
        By `user_id`, sorted by it; without the texts that are withheld.
    withheld : int
        People whose text would tell of a group that is too small.
    silent : int
        People without a text.
    """

    texts: Mapping[str, str]
    withheld: int
    silent: int


def tellable(users: pd.DataFrame, smallest: int = SMALLEST_GROUP) -> Tellable:
    """The texts of a `users` table that may be told to models.

    Withheld are the texts of those who belong to a category of fewer than `smallest` people in any demographic: what is
    masked there may be said here. Where most texts are shared they describe groups of people, and those of fewer than
    `smallest` are withheld too; a text of one's own speaks for oneself.

    Parameters
    ----------
    users : DataFrame
        `user_id`, `profile` and the demographics there are.
    smallest : int

    Raises
    ------
    TableError
        Without a column `profile`, or a person with two rows.
    """
    if PROFILE not in users.columns:
        raise TableError(f"users without column {PROFILE}", f"columns there: {list(users.columns)}")
    people = People.from_frame(users)
    told, masked = people.demographics, people.masked(smallest).demographics
    small = np.zeros(len(people), dtype=bool)
    for name, column in told.items():
        small |= (column != "") & (masked[name] == "")
    frame = users.assign(user_id=users["user_id"].astype(str)).sort_values("user_id", kind="stable")
    texts = frame[PROFILE].astype(object).where(frame[PROFILE].notna(), "").astype(str).str.strip().to_numpy(dtype=str)
    there = texts != ""
    _, group, counts = np.unique(texts, return_inverse=True, return_counts=True)
    size = counts[group]
    if there.any() and np.mean(size[there] > 1) >= SHARED:
        small |= size < smallest
    kept = there & ~small
    by_user = dict(zip(people.user_ids[kept].tolist(), texts[kept].tolist(), strict=True))
    return Tellable(by_user, int(np.sum(there & small)), int(np.sum(~there)))


def digest_of(text: str) -> str:
    """What stands for a text in the ledger."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class EmbedProfiles:
    """`{profile, _text}` -> `profile`, `vector`: a text encoder's stage on texts that leave no trace.

    Attributes
    ----------
    encoder : stage
        `{text}` -> `vector`.
    """

    encoder: Any
    name: str = "embed_profile"
    version: int = field(init=False)
    batch_size: int = field(init=False)

    def __post_init__(self) -> None:
        self.version, self.batch_size = self.encoder.version, self.encoder.batch_size

    @property
    def needs(self) -> Any:
        """What the encoder asks of its worker."""
        return self.encoder.needs

    def identity(self) -> Mapping[str, Any]:
        """The encoder's."""
        identity: Mapping[str, Any] = self.encoder.identity()
        return {"of": self.encoder.name, **identity}

    def setup(self, store: Store) -> None:
        """Load the encoder."""
        self.encoder.setup(store)

    def process(self, items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """One vector a text.

        Raises
        ------
        TableError
            In place of an error that may repeat a text.
        """
        texts = [str(item["_text"]) for item in items]
        try:
            found = self.encoder.process([{"text": text} for text in texts])
        except (EngineError, MemoryError):
            raise
        except Exception as error:
            # What a GPU without memory says is left to the engine, which makes batches smaller.
            if isinstance(error, RuntimeError) and not any(text in str(error) for text in texts):
                raise
            raise TableError(f"a text of a person cannot be embedded ({type(error).__name__})") from None
        return [{"profile": i["profile"], "vector": row["vector"]} for i, row in zip(items, found, strict=True)]


def profile_items(told: Tellable) -> list[dict[str, Any]]:
    """Each text once, as the stage's item."""
    return [{"profile": digest_of(text), "_text": text} for text in dict.fromkeys(told.texts.values())]


def with_profiles(people: People, user_ids: Sequence[str], vectors: NDArray[Any]) -> People:
    """The same people with the embeddings of their texts; zeros where somebody has none.

    Parameters
    ----------
    people : People
    user_ids : sequence of str, shape (m,)
        Whose embeddings they are; each once. Strangers to `people` are left out.
    vectors : array, shape (m, d)

    Raises
    ------
    TableError
        For somebody with two embeddings.
    """
    ids = np.asarray(user_ids, dtype=str)
    if len(np.unique(ids)) != len(ids):
        raise TableError(f"{len(ids)} embeddings of the texts of {len(np.unique(ids))} people", "one a person")
    profiles = np.zeros((len(people), vectors.shape[1] if vectors.ndim == 2 else 0))
    known = np.isin(ids, people.user_ids)
    profiles[np.searchsorted(people.user_ids, ids[known])] = vectors[known]
    return People(people.user_ids, people.demographics, people.dataset, profiles)


def told_people(users: pd.DataFrame | None, texts: pd.DataFrame | None, dataset: str = "") -> People | None:
    """What may be told of people, small groups masked; None where nothing is told.

    Parameters
    ----------
    users : DataFrame, optional
        `user_id` and demographics.
    texts : DataFrame, optional
        `user_id` and `vector` (packed): embeddings of their texts. Without `users` these are the people.
    dataset : str
        The set they belong to, where there are several.
    """
    from beholder.records import unpack

    known = texts[["user_id"]] if users is None and texts is not None else users
    if known is None:
        return None
    people = People.from_frame(known.assign(dataset=dataset) if dataset else known)
    if texts is not None:
        people = with_profiles(people, texts["user_id"].astype(str).tolist(), unpack(texts["vector"]))
    return people.masked()
