"""A table of votes as counts of ordered pairs.

All that a model of strengths needs of a million votes are the counts of (left, right, choice) and, for the standard
errors, which of these kinds each vote is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.clusters import Ints, integer_codes
from analysis.davidson import Counts
from analysis.errors import EstimateError
from analysis.existence import require_connected
from analysis.results import Exclusions
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
    present = [set(_labels(votes[f"{side}_condition"])) for side in ("left", "right")]
    names = sorted(present[0] | present[1])
    left, right = (_positions(votes[f"{side}_condition"], names) for side in ("left", "right"))
    same = left == right
    main = (votes["kind"] == "main").to_numpy() if "kind" in votes else np.ones(len(votes), dtype=bool)
    used = main & ~same
    n_used = int(np.count_nonzero(used))
    if not n_used:
        raise EstimateError("no main vote between two conditions", "at least 2 participants and prompts")
    reasons = (("kind is not main", int((~main).sum())), ("the same condition twice", int((main & same).sum())))
    exclusions = Exclusions(len(votes), n_used, tuple(r for r in reasons if r[1]), "votes")
    choice = _positions(votes["choice"], list(CHOICES))
    people, items = votes["participant_id"], votes["prompt_id"]
    if n_used < len(votes):
        left, right, choice, people, items = (x[used] for x in (left, right, choice, people, items))
        kept = np.unique(np.concatenate([left, right]))
        left, right = (np.searchsorted(kept, x) for x in (left, right))
        names = [names[k] for k in kept]
    counts, row = _count(left, right, choice, len(names))
    require_connected(counts, names)
    (people_codes, n_people), (item_codes, n_items) = integer_codes(people), integer_codes(items)
    cell = row * 3 + choice
    rows = np.flatnonzero(used)
    return Comparisons(tuple(names), counts, rows, cell, people_codes, item_codes, n_people, n_items, exclusions)


def _labels(values: pd.Series) -> list[str]:
    """Distinct values as text; of a categorical column those that occur."""
    import pandas as pd

    if isinstance(values.dtype, pd.CategoricalDtype):
        seen = np.bincount(values.cat.codes, minlength=len(values.cat.categories)) > 0
        return [str(x) for x in values.cat.categories[seen]]
    return [str(x) for x in pd.unique(values)]


def _positions(values: pd.Series, names: list[str]) -> Ints:
    """Positions in `names`; every value is one of them."""
    import pandas as pd

    if isinstance(values.dtype, pd.CategoricalDtype):
        codes, labels = values.cat.codes.to_numpy(), values.cat.categories
    else:
        codes, labels = pd.factorize(values)
    where = {name: k for k, name in enumerate(names)}
    return np.array([where.get(str(label), -1) for label in labels], dtype=np.int64)[codes]


def _count(left: Ints, right: Ints, choice: Ints, n_conditions: int) -> tuple[Counts, Ints]:
    """Counts of the ordered pairs that occur, and each vote's row among them."""
    pair = left * n_conditions + right
    if n_conditions**2 <= 1_000_000:
        seen = np.bincount(pair, minlength=n_conditions**2) > 0
        present, row = np.flatnonzero(seen), (np.cumsum(seen) - 1)[pair]
    else:
        present, row = np.unique(pair, return_inverse=True)
    table = np.bincount(row * 3 + choice, minlength=3 * len(present)).reshape(-1, 3).astype(float)
    return Counts(present // n_conditions, present % n_conditions, table, n_conditions), row
