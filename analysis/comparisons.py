"""A table of votes as counts of ordered pairs.

All that a model of strengths needs of a million votes are the counts of (left, right, choice) and, for the standard
errors, which of these kinds each vote is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.clusters import Ints, integer_codes
from analysis.coded_votes import CodedVotes
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
    used : bool array (rows of the table,) or None
        Which rows are such votes; None when all are.
    cell : int array (n,)
        3 x (row of `counts`) + choice of each vote.
    people, items : int array (n,)
        Participant and prompt codes. Like `cell` in small integers where they fit: moving bytes is what large tables
        cost.
    n_people, n_items : int
    tables : KindTables
        Votes of each kind by participant, by prompt and by both.
    exclusions : Exclusions
    """

    names: tuple[str, ...]
    counts: Counts
    used: np.ndarray | None
    cell: Ints
    people: Ints
    items: Ints
    n_people: int
    n_items: int
    tables: KindTables
    exclusions: Exclusions

    @property
    def rows(self) -> Ints:
        """Positions of the votes in the table (n,)."""
        return np.arange(len(self.cell)) if self.used is None else np.flatnonzero(self.used)

    @property
    def both_orders(self) -> bool:
        """Whether any pair was shown in both orders, so that a preference for a side can be told from strength."""
        forth = self.counts.left * len(self.names) + self.counts.right
        return bool(np.isin(self.counts.right * len(self.names) + self.counts.left, forth).any())


def comparisons(votes: pd.DataFrame | CodedVotes) -> Comparisons:
    """Code and count the main votes between two different conditions; a data frame has passed `check_votes`.

    Raises
    ------
    EstimateError
        No such vote, only ties, or conditions that no chain of votes connects.
    """
    left, right, choice = (_coded(votes, name) for name in ("left_condition", "right_condition", "choice"))
    kind = _kinds(left[0], right[0], choice[0], len(right[1]), len(choice[1]), len(left[1]))
    main = _main(votes)
    if main is not None:
        kind = kind[main]
    seen, place, n = _occurring(kind, len(left[1]) * len(right[1]) * len(choice[1]))
    names, counts, cell_of = _counts(seen, n, left[1], right[1], choice[1])
    n_main, n_used = len(kind), int(counts.votes.sum())
    if not n_used:
        raise EstimateError("no main vote between two conditions", "at least 2 participants and prompts")
    require_connected(counts, names)
    cell = cell_of[place]
    used = main
    if n_used < n_main:
        different = cell >= 0
        cell = cell[different]
        used = np.zeros(len(votes), dtype=bool)
        used[np.flatnonzero(main)[different] if main is not None else different] = True
    (people, n_people), (items, n_items) = (_clusters(votes, name, used) for name in ("participant_id", "prompt_id"))
    reasons = (("kind is not main", len(votes) - n_main), ("the same condition twice", n_main - n_used))
    exclusions = Exclusions(len(votes), n_used, tuple(r for r in reasons if r[1]), "votes")
    tables = KindTables.of(cell, 3 * len(counts.left), people, items, n_people, n_items)
    return Comparisons(tuple(names), counts, used, cell, people, items, n_people, n_items, tables, exclusions)


def _coded(votes: pd.DataFrame | CodedVotes, name: str) -> tuple[np.ndarray, list[str]]:
    """Codes and what they stand for, as text; a categorical column is coded already."""
    if isinstance(votes, CodedVotes):
        return votes.columns[name].codes, votes.columns[name].texts()
    import pandas as pd

    values = votes[name]
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values.cat.codes.to_numpy(), [str(x) for x in values.cat.categories]
    codes, labels = pd.factorize(values)
    return codes, [str(x) for x in labels]


def _main(votes: pd.DataFrame | CodedVotes) -> np.ndarray | None:
    """Which votes are main ones; None when all are."""
    if isinstance(votes, CodedVotes):
        return votes.main
    main = (votes["kind"] == "main").to_numpy() if "kind" in votes else None
    return None if main is None or main.all() else main


def _kinds(left: np.ndarray, right: np.ndarray, choice: np.ndarray, n_right: int, n_choice: int, n_left: int) -> Ints:
    """(left * n_right + right) * n_choice + choice of each vote, in the smallest integers that hold it."""
    kind = left.astype(np.promote_types(np.min_scalar_type(n_left * n_right * n_choice), np.int16))
    for codes, n in ((right, n_right), (choice, n_choice)):
        kind *= n
        kind += codes.astype(kind.dtype, copy=False)
    return kind


def _occurring(kind: Ints, size: int) -> tuple[Ints, Ints, Ints]:
    """Kinds, the place of each vote's kind among them, and how many votes each has (some may have none)."""
    if size <= 3_000_000:
        full = np.bincount(kind, minlength=size)
        return np.arange(size), kind, full
    seen, place, n = np.unique(kind, return_inverse=True, return_counts=True)
    return seen.astype(np.int64), place, n


def _counts(
    kinds: Ints, n: Ints, on_left: list[str], on_right: list[str], answers: list[str]
) -> tuple[list[str], Counts, Ints]:
    """Names, counts of ordered pairs of two different conditions, and the cell of each kind (-1: none)."""
    present = np.flatnonzero(n)
    pair, answer = np.divmod(kinds[present], len(answers))
    left = np.array(on_left, dtype=object)[pair // len(on_right)]
    right = np.array(on_right, dtype=object)[pair % len(on_right)]
    different = left != right
    names = sorted({*left[different], *right[different]})
    k, where = len(names), {name: at for at, name in enumerate(names)}
    codes = [where[a] * k + where[b] for a, b in zip(left[different], right[different], strict=True)]
    pairs, row = np.unique(np.array(codes, dtype=np.int64), return_inverse=True)
    choice = np.array([CHOICES.index(answers[at]) for at in answer[different]], dtype=np.int64)
    cell: Any = np.full(len(n), -1, dtype=np.int16 if 3 * len(pairs) < 2**15 else np.int32)
    cell[present[different]] = row * 3 + choice
    table = np.zeros((len(pairs), 3))
    table[row, choice] = n[present[different]]
    first, second = np.divmod(pairs, max(k, 1))
    return names, Counts(first, second, table, k), cell


def _clusters(votes: pd.DataFrame | CodedVotes, name: str, used: np.ndarray | None) -> tuple[Ints, int]:
    """As `integer_codes` of the used rows, without hashing what is coded already and has no unused category."""
    if isinstance(votes, CodedVotes):
        return votes.clusters(name, used)
    import pandas as pd

    values = votes[name] if used is None else votes[name][used]
    if isinstance(values.dtype, pd.CategoricalDtype):
        codes, n = values.cat.codes.to_numpy(), len(values.cat.categories)
        if codes.min() >= 0 and np.bincount(codes, minlength=n).all():
            return codes.astype(np.int32, copy=False), n
    codes, n = integer_codes(values)
    return codes.astype(np.int32), n
