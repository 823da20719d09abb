"""Standard errors of means when trials share people and prompts: two-way, three-way and dyadic clusters.

A vote is not an independent observation: one person casts many, and each prompt is judged by many. With cluster totals
of the residuals the variance of a mean is found by inclusion and exclusion (Cameron, Gelbach & Miller 2011,
doi:10.1198/jbes.2010.07136). Two finite-sample repairs make it hold with few clusters: the larger of the combined
and the one-way variances, and a t distribution with the smaller number of clusters minus one.

Assumes that rows which share neither person nor prompt are independent, and that both were drawn from larger
populations. It is wrong when a third factor is shared (the people for whom the images were made: see
`three_way_mean` and `dyadic_mean`), when one person supplies a large part of all trials (see `effective_clusters`), and
says little below six clusters a side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

from analysis.errors import EstimateError
from analysis.results import Population

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LARGEST_SHARE_OF_A_SOURCE = 2.0
"""Most trials one source user may supply, in equal shares 1/U, before sources need clusters of their own."""


@dataclass(frozen=True)
class ClusterMean:
    """A mean with a standard error that respects clusters.

    Attributes
    ----------
    estimate, se, variance : float
    df : int
        Smallest number of sampled clusters minus one.
    n : int
        Rows.
    n_clusters : tuple of int
        Clusters of each factor (people, items[, sources]).
    effective : tuple of float
        Effective number of clusters of each factor, (sum n_g)^2 / sum n_g^2.
    variances : tuple of float
        One-way variances by factor, then the variance of cells for two factors: what the maximum was taken of.
    method : str
        `two-way`, `three-way`, `dyadic`, or the one-way name when one side is held fixed.
    """

    estimate: float
    se: float
    variance: float
    df: int
    n: int
    n_clusters: tuple[int, ...]
    effective: tuple[float, ...]
    variances: tuple[float, ...]
    method: str

    def interval(self, confidence: float) -> tuple[float, float]:
        """Symmetric t interval."""
        half = t_quantile(0.5 + confidence / 2, self.df) * self.se
        return self.estimate - half, self.estimate + half

    def test(self, null: float) -> tuple[float, float]:
        """Test statistic t and two-sided p of the hypothesis that the mean is `null`."""
        t = (self.estimate - null) / self.se
        return t, two_sided_p(t, self.df)


def t_quantile(probability: float, df: float) -> float:
    """Quantile of Student's t (scipy.special, so that scipy.stats stays unloaded)."""
    return float(stdtrit(df, probability))


def two_sided_p(t: float, df: float) -> float:
    """P(|T| >= |t|) of Student's t."""
    return float(2 * stdtr(df, -abs(t)))


def integer_codes(values: Any) -> tuple[Ints, int]:
    """Codes 0 … G-1 of any column and the number of distinct values G.

    Unused categories of a categorical column do not count. Missing values raise.
    """
    import pandas as pd

    codes, uniques = pd.factorize(values)
    if len(codes) and codes.min() < 0:
        missing = int((codes < 0).sum())
        raise EstimateError(f"{missing} rows have no cluster", "an id in every row", "fill or remove them")
    return codes.astype(np.int64, copy=False), len(uniques)


def cell_codes(first: Ints, second: Ints, n_second: int) -> tuple[Ints, int]:
    """Codes of the non-empty combinations of two codes, and how many there are."""
    key = first * n_second + second
    size = int(key.max()) + 1 if len(key) else 0
    if size <= max(1_000_000, 8 * len(key)):  # dense table: a counting sort instead of a comparison sort
        rank = np.cumsum(np.bincount(key, minlength=size) > 0) - 1
        return rank[key], int(rank[-1]) + 1
    unique, inverse = np.unique(key, return_inverse=True)
    return inverse.astype(np.int64, copy=False), len(unique)


def group_sums(values: Floats, codes: Ints, n_groups: int) -> Floats:
    """Sums of `values` (n,) or (n, k) by code, shape (n_groups,) or (n_groups, k)."""
    if values.ndim == 1:
        return np.bincount(codes, values, n_groups).astype(float, copy=False)
    return np.stack([np.bincount(codes, column, n_groups) for column in values.T], axis=1).astype(float, copy=False)


def effective_clusters(codes: Ints, n_groups: int) -> float:
    """(sum n_g)^2 / sum n_g^2: the number of equally large clusters that would weigh the same."""
    sizes = np.bincount(codes, minlength=n_groups).astype(float)
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def meat(scores: Floats, codes: Ints, n_groups: int) -> Floats:
    """G/(G-1) times the sum over clusters of s s', s the cluster's sum of `scores` (n, k); shape (k, k)."""
    if n_groups < 2:
        raise EstimateError("a single cluster", "at least 2", "a variance between clusters needs more of them")
    sums = group_sums(scores, codes, n_groups)
    return n_groups / (n_groups - 1) * (sums.T @ sums)


def two_way_meat(scores: Floats, first: Ints, second: Ints) -> tuple[Floats, Floats, Floats]:
    """Meat matrices (k, k) by people, by items and by cells, of per-row score vectors (n, k)."""
    n_first, n_second = int(first.max()) + 1, int(second.max()) + 1
    cells, n_cells = cell_codes(first, second, n_second)
    return meat(scores, first, n_first), meat(scores, second, n_second), meat(scores, cells, n_cells)


def _one_way(residuals: Floats, codes: Ints, n_groups: int) -> float:
    return float(meat(residuals[:, None], codes, n_groups)[0, 0]) / len(residuals) ** 2


def _require_clusters(counts: dict[str, int]) -> None:
    for name, count in counts.items():
        if count < 2:
            raise EstimateError(f"{count} {name}", "at least 2", f"collect data from more {name}")


def _residuals(y: Floats) -> tuple[float, Floats]:
    estimate = float(y.mean())
    if np.ptp(y) == 0:
        raise EstimateError(
            f"all {len(y)} values are {estimate:g}", "answers that vary", "no standard error exists; report the count"
        )
    return estimate, y - estimate


def _positive(variance: float, scale: float) -> float:
    if not variance > 1e-14 * scale:  # scale = the mean square of the residuals: below this it is rounding
        raise EstimateError(
            "every cluster has the same total, so the variance between clusters is zero",
            "totals that vary over people or prompts",
            "check that rows were not built to balance exactly; report the estimate without an interval",
        )
    return variance


def _finish(y: Floats, estimate: float, variance: float, df: int, parts: dict[str, Any]) -> ClusterMean:
    mean_square = float(np.mean((y - estimate) ** 2))
    variance = _positive(variance, mean_square / len(y))
    return ClusterMean(estimate=estimate, se=math.sqrt(variance), variance=variance, df=df, n=len(y), **parts)


def cluster_mean(y: Floats, people: Ints, items: Ints, population: Population | None = None) -> ClusterMean:
    """Mean of a per-row quantity with crossed clusters of people and items.

    Parameters
    ----------
    y : array (n,)
        Any per-trial quantity: 1, 0 or one half for a win, a difference, an influence value times n.
    people, items : int array (n,)
        Codes 0 … G-1 from `integer_codes`.
    population : Population, optional
        Default: new people and new items, V = max(V_p + V_i - V_pi, V_p, V_i), df = min(P, I) - 1. With people held
        fixed only items vary (V_i, df = I - 1), and the reverse; with both fixed the cells are the clusters, which is
        conservative because the differences between cells stay in the residuals.

    Raises
    ------
    EstimateError
        Fewer than 2 sampled clusters, constant values, or no variance between clusters.
    """
    population = population or Population()
    y = np.asarray(y, dtype=float)
    if not len(y):
        raise EstimateError("no rows", "at least 2 people and 2 prompts", "check the selection")
    n_people, n_items = int(people.max()) + 1, int(items.max()) + 1
    sampled = {"people": n_people} if population.people == "new" else {}
    sampled |= {"items": n_items} if population.items == "new" else {}
    _require_clusters(sampled)
    estimate, residuals = _residuals(y)
    cells, n_cells = cell_codes(people, items, n_items)
    v_people = _one_way(residuals, people, n_people) if n_people > 1 else math.nan
    v_items = _one_way(residuals, items, n_items) if n_items > 1 else math.nan
    v_cells = _one_way(residuals, cells, n_cells)
    if len(sampled) == 2:
        variance, df = max(v_people + v_items - v_cells, v_people, v_items), min(n_people, n_items) - 1
    elif sampled:
        variance, df = (v_people if "people" in sampled else v_items), next(iter(sampled.values())) - 1
    else:
        variance, df = v_cells, n_cells - 1
    parts = {
        "n_clusters": (n_people, n_items),
        "effective": (effective_clusters(people, n_people), effective_clusters(items, n_items)),
        "variances": (v_people, v_items, v_cells),
        "method": "two-way" if len(sampled) == 2 else " and ".join(sampled) or "cells",
    }
    return _finish(y, estimate, variance, df, parts)


def three_way_mean(y: Floats, people: Ints, items: Ints, sources: Ints) -> ClusterMean:
    """As `cluster_mean` with a third crossed factor, the users for whom the opposing images were made.

    V = max(inclusion-exclusion over the seven groupings, V_p, V_i, V_s), df = min(P, I, S) - 1.
    """
    y = np.asarray(y, dtype=float)
    factors = {"people": people, "items": items, "source users": sources}
    sizes = {name: int(codes.max()) + 1 for name, codes in factors.items()}
    _require_clusters(sizes)
    estimate, residuals = _residuals(y)
    (p, i, s), (n_p, n_i, n_s) = factors.values(), sizes.values()
    single = [_one_way(residuals, codes, n) for codes, n in zip((p, i, s), (n_p, n_i, n_s), strict=True)]
    pairs = [cell_codes(p, i, n_i), cell_codes(p, s, n_s), cell_codes(i, s, n_s)]
    triple = cell_codes(pairs[0][0], s, n_s)
    combined = sum(single) - sum(_one_way(residuals, *pair) for pair in pairs) + _one_way(residuals, *triple)
    parts = {
        "n_clusters": (n_p, n_i, n_s),
        "effective": tuple(effective_clusters(codes, sizes[name]) for name, codes in factors.items()),
        "variances": tuple(single),
        "method": "three-way",
    }
    return _finish(y, estimate, max(combined, *single), min(n_p, n_i, n_s) - 1, parts)


def dyadic_mean(y: Floats, people: Ints, sources: Ints, items: Ints) -> ClusterMean:
    """Mean with one person index: a trial belongs to the person who judged it *and* to the one it was made for.

    `people` and `sources` must be codes of one common list of persons. The person part is the sum over persons of the
    squared total of all rows that involve them, less the dyads counted twice. Sharper than `cluster_mean` when
    opponents are balanced; slightly liberal (.08 at nominal .05) with 20 people or fewer.
    """
    y = np.asarray(y, dtype=float)
    n_persons = int(max(people.max(), sources.max())) + 1
    n_items = int(items.max()) + 1
    _require_clusters({"people": n_persons, "items": n_items})
    estimate, residuals = _residuals(y)
    n = len(y)
    dyads, n_dyads = cell_codes(np.minimum(people, sources), np.maximum(people, sources), n_persons)
    ends = np.concatenate([people, sources])
    twice = np.concatenate([residuals, residuals])

    def squares(values: Floats, codes: Ints, n_groups: int) -> float:
        return float((np.bincount(codes, values, n_groups) ** 2).sum()) / n**2

    v_person = squares(twice, ends, n_persons) - squares(residuals, dyads, n_dyads)
    v_person *= n_persons / (n_persons - 1)
    v_items = _one_way(residuals, items, n_items)
    person_items = cell_codes(ends, np.concatenate([items, items]), n_items)
    v_cells = squares(twice, *person_items) - squares(residuals, *cell_codes(dyads, items, n_items))
    parts = {
        "n_clusters": (n_persons, n_items),
        "effective": (effective_clusters(ends, n_persons), effective_clusters(items, n_items)),
        "variances": (v_person, v_items, v_cells),
        "method": "dyadic",
    }
    variance = max(v_person + v_items - v_cells, v_person, v_items)
    return _finish(y, estimate, variance, min(n_persons, n_items) - 1, parts)


def largest_source_share(sources: Ints, n_people: int) -> float:
    """Largest share of trials that one source user supplies, in units of the equal share 1/U (U people).

    Above `LARGEST_SHARE_OF_A_SOURCE` clusters of people and prompts alone reject true hypotheses too often, and sources
    need clusters of their own.
    """
    counts = np.bincount(sources)
    return float(counts.max() / counts.sum() * n_people)
