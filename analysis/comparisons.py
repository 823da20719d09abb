"""A table of votes as counts of ordered pairs.

All that a model of strengths needs of a million votes are the counts of (left, right, choice) and, for the standard
errors, which of these kinds each vote is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.clusters import Floats, Ints, integer_codes
from analysis.davidson import Counts
from analysis.errors import EstimateError
from analysis.existence import require_connected
from analysis.results import Exclusions
from analysis.sandwich import KindTables
from analysis.tables import CHOICES

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Comparisons:
    """Main votes between two different conditions.

    Attributes
    ----------
    names : tuple of str
        Conditions in alphabetical order; codes are positions here.
    counts : Counts
        Ordered pairs that occur.
    rows : int array (n,)
        Positions of the votes in the table.
    cell : int array (n,)
        3 x (row of `counts`) + choice of each vote.
    people, items : int array (n,)
        Participant and prompt codes.
    n_people, n_items : int
    tables : KindTables
        Votes of each kind by participant, by prompt and by both.
    exclusions : Exclusions
    """

    names: tuple[str, ...]
    counts: Counts
    rows: Ints
    cell: Ints
    people: Ints
    items: Ints
    n_people: int
    n_items: int
    tables: KindTables
    exclusions: Exclusions

    @property
    def both_orders(self) -> bool:
        """Whether any pair was shown in both orders, so that a preference for a side can be told from strength."""
        forth = self.counts.left * len(self.names) + self.counts.right
        return bool(np.isin(self.counts.right * len(self.names) + self.counts.left, forth).any())


def comparisons(votes: pd.DataFrame) -> Comparisons:
    """Code and count the main votes between two different conditions; `votes` has passed `check_votes`.

    Raises
    ------
    EstimateError
        No such vote, only ties, or conditions that no chain of votes connects.
    """
    (left, on_left), (right, on_right) = (_coded(votes[f"{side}_condition"]) for side in ("left", "right"))
    choice, answers = _coded(votes["choice"])
    every = sorted({*on_left, *on_right})
    k = len(every)
    # left, right and choice in one number: the places are multiplied out in the lookups, not vote by vote
    key = _places(on_left, every, 3 * k)[left] + _places(on_right, every, 3)[right]
    key += _places(answers, list(CHOICES), 1)[choice]
    main = (votes["kind"] == "main").to_numpy() if "kind" in votes else None
    n_main = len(key) if main is None else int(main.sum())
    pairs, row, table = _count(key if main is None else key[main], k)
    different = pairs // k != pairs % k
    n_used = int(table[different].sum())
    if not n_used:
        raise EstimateError("no main vote between two conditions", "at least 2 participants and prompts")
    rows = np.arange(len(key)) if main is None else np.flatnonzero(main)
    cell = row * 3 + (key if main is None else key[main]) % 3
    if not different.all():
        kept = different[row]
        rows, cell = rows[kept], ((np.cumsum(different) - 1)[row] * 3 + cell % 3)[kept]
    names, counts = _named(pairs[different], table[different], every)
    require_connected(counts, names)
    ids = [votes[c] if n_used == len(votes) else votes[c].iloc[rows] for c in ("participant_id", "prompt_id")]
    (people, n_people), (items, n_items) = (_cluster_codes(values) for values in ids)
    reasons = (("kind is not main", len(key) - n_main), ("the same condition twice", n_main - n_used))
    exclusions = Exclusions(len(votes), n_used, tuple(r for r in reasons if r[1]), "votes")
    tables = KindTables.of(cell, 3 * len(counts.left), people, items, n_people, n_items)
    return Comparisons(tuple(names), counts, rows, cell, people, items, n_people, n_items, tables, exclusions)


def _coded(values: pd.Series) -> tuple[np.ndarray, list[str]]:
    """Codes and what they stand for, as text; a categorical column is coded already."""
    import pandas as pd

    if isinstance(values.dtype, pd.CategoricalDtype):
        return values.cat.codes.to_numpy(), [str(x) for x in values.cat.categories]
    codes, labels = pd.factorize(values)
    return codes, [str(x) for x in labels]


def _places(labels: list[str], names: list[str], times: int) -> Ints:
    """Position of each label in `names`, multiplied; every label that occurs is one of them."""
    where = {name: k for k, name in enumerate(names)}
    return np.array([where.get(label, 0) * times for label in labels], dtype=np.int64)


def _cluster_codes(values: pd.Series) -> tuple[Ints, int]:
    """As `integer_codes`, without hashing what is categorical and has no unused category."""
    import pandas as pd

    if isinstance(values.dtype, pd.CategoricalDtype):
        codes, n = values.cat.codes.to_numpy(), len(values.cat.categories)
        if codes.min() >= 0 and np.bincount(codes, minlength=n).all():
            return codes.astype(np.int64), n
    return integer_codes(values)


def _count(key: Ints, k: int) -> tuple[Ints, Ints, Floats]:
    """Ordered pairs that occur (left * k + right), each vote's row among them, and the counts of choices (pairs, 3)."""
    if k * k <= 1_000_000:
        full = np.bincount(key, minlength=3 * k * k).reshape(-1, 3)
        pairs = np.flatnonzero(full.sum(axis=1))
        row_of = np.zeros(k * k, dtype=np.int64)
        row_of[pairs] = np.arange(len(pairs))
        return pairs, np.repeat(row_of, 3)[key], full[pairs].astype(float)
    pairs, row = np.unique(key // 3, return_inverse=True)
    table = np.bincount(row * 3 + key % 3, minlength=3 * len(pairs)).reshape(-1, 3)
    return pairs, row, table.astype(float)


def _named(pairs: Ints, table: Floats, every: list[str]) -> tuple[list[str], Counts]:
    """Counts with codes of those conditions only that occur in them."""
    left, right = np.divmod(pairs, len(every))
    kept = np.unique(np.concatenate([left, right]))
    left, right = (np.searchsorted(kept, x) for x in (left, right))
    return [every[k] for k in kept], Counts(left, right, table, len(kept))
