"""Mean over users of a per-user statistic, with an interval that holds for new users and new items.

Each user's number (an accuracy, a correlation) is computed on items that other users rated too, so an unlucky choice of
items moves all users together. The variance is that between users plus that between items, found from the influence
of every rating, less what is counted twice (Cameron, Gelbach and Miller 2011).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.clusters import Floats, Ints, cell_codes, integer_codes, t_quantile, two_sided_p
from analysis.errors import EstimateError
from analysis.results import FEWEST_FOR_NEW, Drawn, Estimand, Population


@dataclass(frozen=True)
class Crossing:
    """Which user and which item (image or prompt) each row belongs to, and its user x item cell.

    Attributes
    ----------
    user, item, cell : Ints, shape (n,)
        Codes from 0.
    n_users, n_items : int
    """

    user: Ints
    item: Ints
    cell: Ints
    n_users: int
    n_items: int


def crossing(user: Any, item: Any) -> Crossing:
    """Code the users and items of the rows (columns of any type), in order of appearance."""
    u, n_users = integer_codes(user)
    i, n_items = integer_codes(item)
    return Crossing(u, i, cell_codes(u, i, n_items)[0], n_users, n_items)


@dataclass(frozen=True)
class Interval:
    """An estimate with its t interval.

    Attributes
    ----------
    estimate, se, df, ci_low, ci_high : float
        All but the estimate are NaN with fewer than two clusters on a side the interval generalises to, and where
        nothing varies.
    p : float
        Two-sided, against the null value asked for; NaN where the interval is.
    """

    estimate: float
    se: float
    df: float
    ci_low: float
    ci_high: float
    p: float


@dataclass(frozen=True)
class MeanOverUsers(Interval):
    """Unweighted mean of a per-user number with its two-way interval.

    Attributes
    ----------
    n_users, n_items : int
        Users whose number is defined, and items they rated.
    v_user, v_item, v_cell : float
        Parts of the variance.
    """

    n_users: int
    n_items: int
    v_user: float
    v_item: float
    v_cell: float


def mean_over_users(
    value: npt.ArrayLike,
    influence: npt.ArrayLike,
    rows: Crossing,
    *,
    confidence: float = 0.95,
    null: float = 0.0,
    population: Population | None = None,
) -> MeanOverUsers:
    """Mean over users of a statistic that each of them computes on items from one pool.

    Parameters
    ----------
    value : array_like, shape (users,)
        A number a user; NaN = left out (count and report these).
    influence : array_like, shape (rows,)
        Influence of each row on its own user's value; sums to about 0 in each user.
    rows : Crossing
        User and item of each row.
    confidence : float
    null : float
        What `p` tests.
    population : Population, optional
        Default: new users and new items. With items held fixed V = V_user, df = U - 1; with users held fixed
        V = V_item, df = items - 1; with both fixed V = V_cell, df = cells - 1.

    Notes
    -----
    With D_u = (value_u - mean)/U and I_r = influence_r/U: V_user = U/(U-1) sum D_u^2, V_item = sum over items of
    (sum of its I_r)^2, V_cell = sum over cells likewise, V = max(V_user + V_item - V_cell, V_user, V_item),
    t with min(U, items) - 1 degrees of freedom.

    Assumes users and items sampled independently of each other. Wrong when a third factor is shared (one prompt behind
    several images: pass prompts as items), when one user or item carries most of the influence, and with fewer than
    about six users or items, where it is only an order of magnitude.
    """
    population = population or Population()
    found = np.asarray(value, dtype=np.float64)
    kept = np.isfinite(found)
    n_users = int(kept.sum())
    nan = math.nan
    if not n_users:
        return MeanOverUsers(nan, nan, nan, nan, nan, nan, 0, 0, nan, nan, nan)
    live = kept[rows.user]
    n_items, n_cells = (int(np.count_nonzero(np.bincount(codes[live]))) for codes in (rows.item, rows.cell))
    estimate = float(found[kept].mean())
    part = np.asarray(influence, dtype=np.float64)[live] / n_users
    v_item = _squared_sums(part, rows.item[live])
    v_cell = _squared_sums(part, rows.cell[live])
    spread = float((((found[kept] - estimate) / n_users) ** 2).sum())
    v_user = spread * n_users / (n_users - 1) if n_users > 1 else nan
    variance, df = chosen_variance(population, (v_user, v_item, v_cell), (n_users, n_items, n_cells))
    se = math.sqrt(variance) if df >= 1 and variance > 0 else nan
    tested = t_interval(estimate, se, df, confidence, null)
    return MeanOverUsers(estimate, se, df, *tested, n_users, n_items, v_user, v_item, v_cell)


def clustered_value(
    value: float,
    influence: npt.ArrayLike,
    clusterings: Sequence[Ints],
    *,
    confidence: float = 0.95,
    null: float = 0.0,
) -> Interval:
    """One statistic of items (not a mean over users) with an interval from nested clusters of these items.

    Parameters
    ----------
    value : float
    influence : array_like, shape (items,)
        Influence of each item on the value, sums to about 0.
    clusterings : sequence of Ints, each shape (items,)
        For instance images and the prompts they belong to. The largest variance counts, and the fewest clusters.

    Notes
    -----
    V = max over clusterings of G/(G-1) sum over clusters of (sum of influence)^2, t with the smallest G - 1.
    """
    part = np.asarray(influence, dtype=np.float64)
    counts = [len(np.unique(codes)) for codes in clusterings]
    if math.isnan(value) or min(counts) < 2:
        return Interval(value, math.nan, math.nan, math.nan, math.nan, math.nan)
    variance = max(g / (g - 1) * _squared_sums(part, codes) for g, codes in zip(counts, clusterings, strict=True))
    df, se = min(counts) - 1.0, math.sqrt(variance) if variance > 0 else math.nan
    return Interval(value, se, df, *t_interval(value, se, df, confidence, null))


def _squared_sums(part: Floats, codes: Ints) -> float:
    return float((np.bincount(codes, part) ** 2).sum())


def chosen_variance(
    population: Population, parts: tuple[float, float, float], counts: tuple[int, int, int]
) -> tuple[float, float]:
    """Variance and degrees of freedom for the population the statement is about.

    Parameters
    ----------
    population : Population
    parts : tuple of float
        Variance between users, between items, between cells.
    counts : tuple of int
        Number of users, items, cells.
    """
    v_user, v_item, v_cell = parts
    if population.people == "new" and population.items == "new":
        return max(v_user + v_item - v_cell, v_user, v_item), min(counts[:2]) - 1.0
    if population.people == "new":
        return v_user, counts[0] - 1.0
    return (v_item, counts[1] - 1.0) if population.items == "new" else (v_cell, counts[2] - 1.0)


def require_two(n_users: int, n_items: int, population: Population, items_noun: str) -> None:
    """Refuse one user or one item that would stand for others: nothing varies between clusters then.

    Raises
    ------
    EstimateError
        Fewer than two, unless `population` holds them fixed.
    """
    for asked, count, noun in ((population.people, n_users, "users"), (population.items, n_items, items_noun)):
        if asked == "new" and count < 2:
            raise EstimateError(f"{count} {noun} with enough ratings", "at least 2", f"collect ratings of more {noun}")


def estimand_for(
    quantity: str, population: Population, n_users: int, n_items: int, items_noun: str
) -> tuple[Estimand, tuple[str, ...]]:
    """Whom a result speaks for; "new" becomes "these" below six of a kind, with a warning."""
    warnings = []
    drawn: list[Drawn] = []
    for asked, count, noun in ((population.people, n_users, "users"), (population.items, n_items, items_noun)):
        few = asked == "new" and count < FEWEST_FOR_NEW
        drawn.append("these" if few else asked)
        if few:
            warnings.append(
                f"only {count} {noun}: read the result for these {noun}, {FEWEST_FOR_NEW} speak for new ones"
            )
    return Estimand(quantity, drawn[0], drawn[1], "users", items_noun), tuple(warnings)


def t_interval(
    estimate: float, se: float, df: float, confidence: float, null: float = 0.0
) -> tuple[float, float, float]:
    """Lower bound, upper bound and two-sided p of a t interval; all NaN when the standard error is NaN.

    Raises
    ------
    EstimateError
        Confidence outside (0, 1).
    """
    if not 0 < confidence < 1:
        raise EstimateError(f"confidence {confidence}", "between 0 and 1")
    if math.isnan(se):
        return math.nan, math.nan, math.nan
    reach = t_quantile(0.5 + confidence / 2, df) * se
    return estimate - reach, estimate + reach, two_sided_p((estimate - null) / se, df)
