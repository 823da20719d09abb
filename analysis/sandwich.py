"""Sandwich covariance of a model fitted to votes, with crossed clusters of participants and prompts.

H^-1 (M_p + M_i - M_pi) H^-1 with H the information and M the cluster sums of the votes' scores (Cameron, Gelbach &
Miller 2011, doi:10.1198/jbes.2010.07136), cut off to be positive semi-definite and never below either one-way variance;
use with t(min(P, I) - 1).

The score of a vote depends only on its ordered pair and its choice, so all sums go through small tables of counts: a
million votes cost one counting pass a grouping.

Assumes votes that share neither participant nor prompt are independent. Too narrow below six clusters a side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.clusters import Floats, Ints
from analysis.errors import EstimateError
from analysis.results import Population


@dataclass(frozen=True)
class Sandwich:
    """Covariances of the parameters (k, k): two-way (positive semi-definite) and by one grouping each.

    `by_people` or `by_items` is None where there is a single participant or prompt.
    """

    two_way: Floats | None
    by_people: Floats | None
    by_items: Floats | None
    by_cells: Floats
    n_people: int
    n_items: int
    n_cells: int
    population: Population

    @property
    def covariance(self) -> Floats:
        """The matrix that belongs to the population, before the larger one-way variance is taken."""
        return self.parts[0]

    @property
    def parts(self) -> list[Floats]:
        """The matrices of which a variance is the largest; with both sides sampled two-way and one-way."""
        people, items = self.population.people == "new", self.population.items == "new"
        if people and items:
            parts = [self.two_way, self.by_people, self.by_items]
        else:
            parts = [self.by_people if people else self.by_items if items else self.by_cells]
        return [part for part in parts if part is not None]

    @property
    def df(self) -> int:
        """Smallest number of sampled clusters less one."""
        sampled = [self.n_people] if self.population.people == "new" else []
        sampled += [self.n_items] if self.population.items == "new" else []
        return min(sampled or [self.n_cells]) - 1

    def variance(self, contrast: Floats) -> float:
        """Variance of `contrast @ parameters`: with both sides sampled, the largest of two-way and one-way."""
        return max(float(contrast @ v @ contrast) for v in self.parts)

    def se(self, contrast: Floats) -> float:
        """Square root of `variance`."""
        return float(np.sqrt(max(self.variance(contrast), 0.0)))


def two_way_sandwich(
    information: Floats, scores: Floats, cell: Ints, people: Ints, items: Ints, population: Population
) -> Sandwich:
    """Covariance of the parameters from cluster sums of the votes' scores.

    Parameters
    ----------
    information : array (k, k)
    scores : array (c, k)
        Score of one vote of each of c kinds.
    cell : int array (n,)
        Kind of each vote, 0 … c-1.
    people, items : int array (n,)
        Cluster codes.
    population : Population

    Raises
    ------
    EstimateError
        Fewer than 2 sampled clusters.
    """
    n_people, n_items = int(people.max()) + 1, int(items.max()) + 1
    for drawn, count, name in ((population.people, n_people, "participants"), (population.items, n_items, "prompts")):
        if drawn == "new" and count < 2:
            raise EstimateError(f"{count} {name}", "at least 2", f"collect votes from more {name}")
    bread = np.linalg.inv(information)
    meat_cells, n_cells = _pair_meat(scores, cell, people, items, n_items)
    by_cells = bread @ meat_cells @ bread
    by_people = bread @ _meat(scores, cell, people, n_people) @ bread if n_people > 1 else None
    by_items = bread @ _meat(scores, cell, items, n_items) @ bread if n_items > 1 else None
    two_way = None
    if by_people is not None and by_items is not None:
        values, vectors = np.linalg.eigh(by_people + by_items - by_cells)
        two_way = (vectors * np.clip(values, 0, None)) @ vectors.T
    return Sandwich(two_way, by_people, by_items, by_cells, n_people, n_items, n_cells, population)


def _meat(scores: Floats, cell: Ints, codes: Ints, n_groups: int) -> Floats:
    """Cluster sums through a table clusters x kinds of votes: one counting pass instead of one a parameter."""
    n_kinds = len(scores)
    key = codes * n_kinds + cell
    if n_groups * n_kinds <= 1_000_000 + 8 * len(cell):
        sums = np.bincount(key, minlength=n_groups * n_kinds).reshape(n_groups, n_kinds).astype(float) @ scores
    else:  # hundreds of conditions: most combinations never occur
        from scipy.sparse import csr_array

        kinds, counts = np.unique(key, return_counts=True)
        sums = csr_array((counts.astype(float), (kinds // n_kinds, kinds % n_kinds)), (n_groups, n_kinds)) @ scores
    return np.asarray(n_groups / (n_groups - 1) * (sums.T @ sums))


def _pair_meat(scores: Floats, cell: Ints, people: Ints, items: Ints, n_items: int) -> tuple[Floats, int]:
    """Meat by participant x prompt, and the number of such cells.

    Pair and kind are packed into one number and sorted, which keeps the kinds beside their pair without a second pass.
    Most pairs have one vote: their squares are counted, only the others are summed.
    """
    n_kinds = len(scores)
    packed = np.sort((people * n_items + items) * n_kinds + cell)
    pair = packed // n_kinds
    kind = packed - pair * n_kinds
    first = np.concatenate([[True], pair[1:] != pair[:-1]])
    n_pairs = int(np.count_nonzero(first))
    if n_pairs < 2:
        raise EstimateError("a single participant and prompt", "at least 2 of each")
    alone = first & np.concatenate([first[1:], [True]])
    total = (scores * np.bincount(kind[alone], minlength=n_kinds)[:, None]).T @ scores
    repeated = ~alone
    if repeated.any():
        starts = np.flatnonzero(first[repeated])
        sums = np.add.reduceat(scores[kind[repeated]], starts, axis=0)
        total = total + sums.T @ sums
    return np.asarray(n_pairs / (n_pairs - 1) * total), n_pairs
