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
from typing import Any

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


DENSE = 64
"""Possible participant x prompt pairs a vote up to which pairs are counted in a table; beyond, all are sorted."""


@dataclass(frozen=True)
class KindTables:
    """How many votes of each kind (pair and choice) each participant, prompt and pair of both has: all that meats need.

    Attributes
    ----------
    by_people, by_items : array (G, kinds) or sparse array
    alone : array (kinds,)
        Votes that are the only one of their participant and prompt.
    repeated : int array (r,)
        Kinds of the other votes, those of one participant and prompt side by side.
    starts : int array
        Where each such group begins in `repeated`.
    n_cells : int
        Participant x prompt pairs that occur.
    """

    by_people: Any
    by_items: Any
    alone: Floats
    repeated: Ints
    starts: Ints
    n_cells: int

    @classmethod
    def of(cls, cell: Ints, n_kinds: int, people: Ints, items: Ints, n_people: int, n_items: int) -> KindTables:
        """Count votes; `cell` (n,) is the kind of each, `people` and `items` (n,) its clusters."""
        by_people, by_items = _table(people, cell, n_people, n_kinds), _table(items, cell, n_items, n_kinds)
        pair, kind = _joined(people, items, n_items), cell
        if n_people * n_items <= DENSE * len(pair):  # most votes are told to stand alone by counting, and not sorted
            most = int(np.bincount(people).max())  # no pair has more votes than this: bytes do for most studies
            size = np.zeros(n_people * n_items, np.min_scalar_type(most))
            np.add.at(size, pair, size.dtype.type(1))
            several = size[pair] > 1
            pair, kind = pair[several], cell[several]
        # pair and kind in one number: sorting it keeps the kinds beside their pair without a second pass
        packed = np.sort(_joined(pair, kind, n_kinds))
        pair = packed // n_kinds
        new = pair[1:] != pair[:-1]
        first, last = (np.concatenate(ends)[: len(pair)] for ends in (([True], new), (new, [True])))
        several = ~(first & last)
        repeated = (packed - pair * n_kinds)[several]
        starts = np.flatnonzero(first[several])
        total = np.asarray(by_items.sum(axis=0)).reshape(-1)
        alone: Floats = total - np.bincount(repeated, minlength=n_kinds)
        return cls(by_people, by_items, alone, repeated, starts, len(cell) - len(repeated) + len(starts))


def _joined(first: Ints, second: Ints, n_second: int) -> Ints:
    """First * n_second + second, as the machine's own integers: counting and indexing would turn others into them."""
    joined = np.multiply(first, n_second, dtype=np.int64)
    joined += second
    return joined


def _table(codes: Ints, cell: Ints, n_groups: int, n_kinds: int) -> Any:
    """Counts of groups x kinds, dense or (with hundreds of conditions, where most never occur) sparse."""
    key = _joined(codes, cell, n_kinds)
    if n_groups * n_kinds <= 1_000_000 + 8 * len(cell):
        return np.bincount(key, minlength=n_groups * n_kinds).reshape(n_groups, n_kinds).astype(float)
    from scipy.sparse import csr_array

    kinds, counts = np.unique(key, return_counts=True)
    return csr_array((counts.astype(float), (kinds // n_kinds, kinds % n_kinds)), (n_groups, n_kinds))


def two_way_sandwich(information: Floats, scores: Floats, tables: KindTables, population: Population) -> Sandwich:
    """Covariance of the parameters from cluster sums of the votes' scores.

    Parameters
    ----------
    information : array (k, k)
    scores : array (kinds, k)
        Score of one vote of each kind.
    tables : KindTables
    population : Population

    Raises
    ------
    EstimateError
        Fewer than 2 sampled clusters.
    """
    n_people, n_items = tables.by_people.shape[0], tables.by_items.shape[0]
    for drawn, count, name in ((population.people, n_people, "participants"), (population.items, n_items, "prompts")):
        if drawn == "new" and count < 2:
            raise EstimateError(f"{count} {name}", "at least 2", f"collect votes from more {name}")
    if tables.n_cells < 2:
        raise EstimateError("a single participant and prompt", "at least 2 of each")
    bread = np.linalg.inv(information)
    by_cells = bread @ _pair_meat(scores, tables) @ bread
    by_people = bread @ _meat(scores, tables.by_people) @ bread if n_people > 1 else None
    by_items = bread @ _meat(scores, tables.by_items) @ bread if n_items > 1 else None
    two_way = None
    if by_people is not None and by_items is not None:
        values, vectors = np.linalg.eigh(by_people + by_items - by_cells)
        two_way = (vectors * np.clip(values, 0, None)) @ vectors.T
    return Sandwich(two_way, by_people, by_items, by_cells, n_people, n_items, tables.n_cells, population)


def _meat(scores: Floats, table: Any) -> Floats:
    sums = table @ scores
    return np.asarray(len(sums) / (len(sums) - 1) * (sums.T @ sums))


def _pair_meat(scores: Floats, tables: KindTables) -> Floats:
    """Meat by participant x prompt: squares of votes that stand alone are counted, only the others are summed."""
    total = (scores * tables.alone[:, None]).T @ scores
    if len(tables.starts):
        sums = np.add.reduceat(scores[tables.repeated], tables.starts, axis=0)
        total = total + sums.T @ sums
    return np.asarray(tables.n_cells / (tables.n_cells - 1) * total)
