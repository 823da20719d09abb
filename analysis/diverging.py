"""Diverging pairs as arrays: counts without listing them, a permutation table, an interval and the oracle's accuracy.

What they mean is told in `analysis.disagreement`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from analysis.clusters import Floats, Ints
from analysis.components import Components
from analysis.errors import TableError
from analysis.pairs import as_ticks
from analysis.results import Population
from analysis.user_means import chosen_variance, t_interval


@dataclass(frozen=True)
class Diverging:
    """Outcome of one model on all diverging pairs.

    Attributes
    ----------
    accuracy, both, one, none : float
        Shares of elements (pair of users times pair of images); accuracy = both + one/2. NaN without elements.
    n_elements : int
    weight : Floats, shape (users, images)
        Elements each user and image take part in, counted once for each.
    influence : Floats, shape (users, images)
        Influence of each rating on the accuracy; half the row and column sums are those of users and images.
    """

    accuracy: float
    both: float
    one: float
    none: float
    n_elements: int
    weight: Floats
    influence: Floats


def diverging_pairs(truth: npt.ArrayLike, score: npt.ArrayLike, rated: npt.ArrayLike, margin: int = 0) -> Diverging:
    """Count diverging pairs from the numbers of users on either side of each pair of images.

    Parameters
    ----------
    truth : array_like, shape (users, images)
        Ratings in ticks; anything where `rated` is false.
    score : array_like, shape (users, images)
        Scores, finite where `rated`.
    rated : array_like of bool, shape (users, images)
    margin : int
        Both users' ratings must differ by more than this.

    Notes
    -----
    With n+ and n- users on the sides of an image pair and c+ and c- of them predicted right, it adds n+ n- elements,
    c+ c- with both right and so on: O(raters x images^2), elements are never listed.
    """
    seen = np.asarray(rated, dtype=bool)
    y = as_ticks(np.where(seen, truth, 0))
    s = np.where(seen, np.asarray(score, dtype=np.float64), 0.0)
    if not np.isfinite(s).all() or margin < 0:
        raise TableError(f"margin {margin} or scores not finite", "margin of 0 or more, finite scores of all rated")
    right, weight = np.zeros(y.shape), np.zeros(y.shape)
    both = none = total = 0.0
    for a in range(y.shape[1] - 1):
        who = np.flatnonzero(seen[:, a])
        side = _sides(y, seen, who, a, margin)
        up, down = side > 0, side < 0
        n_up, n_down = up.sum(axis=0), down.sum(axis=0)
        credit = np.where(side != 0, (1 + np.sign(s[who, a, None] - s[who, a + 1 :]) * side) / 2, 0.0)
        c_up, c_down = (credit * up).sum(axis=0), (credit * down).sum(axis=0)
        ties = ((credit == 0.5) & up).sum(axis=0) * ((credit == 0.5) & down).sum(axis=0) / 4
        total += float((n_up * n_down).sum())
        both += float((c_up * c_down - ties).sum())
        none += float(((n_up - c_up) * (n_down - c_down) - ties).sum())
        opponents = up * n_down + down * n_up
        halves = (credit * opponents + up * c_down + down * c_up) / 2
        for table, part in ((right, halves), (weight, opponents)):
            table[who, a] += part.sum(axis=1)
            table[who, a + 1 :] += part
    if not total:
        nan = math.nan
        return Diverging(nan, nan, nan, nan, 0, weight, np.zeros(y.shape))
    accuracy = float(right.sum() / weight.sum())
    one = (total - both - none) / total
    return Diverging(accuracy, both / total, one, none / total, int(total), weight, (right - accuracy * weight) / total)


def _sides(y: Ints, seen: npt.NDArray[np.bool_], who: Ints, a: int, margin: int) -> npt.NDArray[np.int8]:
    """+1, -1 or 0: which of image a and each later one the raters of a prefer beyond the margin."""
    gap = y[who, a, None] - y[who, a + 1 :]
    return (np.sign(gap) * (seen[who, a + 1 :] & (np.abs(gap) > margin))).astype(np.int8)


def identity_table(truth: npt.ArrayLike, dense: npt.ArrayLike, rated: npt.ArrayLike, margin: int = 0) -> Floats:
    """How much of the accuracy user u would supply if scored as user v; shape (users, users).

    The accuracy under an assignment pi of profiles to users is sum over u of entry (u, pi(u)), so that a permutation
    test needs one matrix product a pair of images and no second look at the data.

    Parameters
    ----------
    truth, rated : array_like, shape (users, images)
    dense : array_like, shape (users, images)
        Finite scores of every user for every image.
    margin : int
    """
    seen = np.asarray(rated, dtype=bool)
    y = as_ticks(np.where(seen, truth, 0))
    s = np.asarray(dense, dtype=np.float64)
    if s.shape != y.shape or not np.isfinite(s).all():
        raise TableError("scores that do not cover every user and image", "dense predictions")
    table, total = np.zeros((len(y), len(y))), 0.0
    for a in range(y.shape[1] - 1):
        who = np.flatnonzero(seen[:, a])
        side = _sides(y, seen, who, a, margin)
        n_up, n_down = (side > 0).sum(axis=0), (side < 0).sum(axis=0)
        used = n_up * n_down > 0
        if not used.any():
            continue
        side, later = side[:, used].astype(np.float64), s[:, a + 1 :][:, used]
        opponents = np.where(side > 0, n_down[used], n_up[used]) * np.abs(side)
        table[who] += (opponents * side) @ np.sign(s[:, a, None] - later).T + opponents.sum(axis=1)[:, None]
        total += float((n_up * n_down).sum())
    return table / (4 * total) if total else np.full(table.shape, np.nan)


def permutation_p(table: Floats, rng: np.random.Generator, draws: int = 9999, strata: Ints | None = None) -> float:
    """One-sided p of accuracy no better than with profiles dealt to users at random: (1 + #{T* >= T}) / (1 + draws).

    Parameters
    ----------
    table : Floats, shape (users, users)
        From `identity_table`.
    rng : numpy.random.Generator
    draws : int
    strata : Ints, shape (users,), optional
        Profiles are dealt within these groups only.
    """
    n = len(table)
    groups = np.zeros(n, dtype=np.int64) if strata is None else strata
    dealt = np.tile(np.arange(n), (draws, 1))
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        dealt[:, members] = rng.permuted(np.tile(members, (draws, 1)), axis=1)
    observed = float(np.trace(table))
    drawn = table[np.arange(n), dealt].sum(axis=1)
    return (1 + int((drawn >= observed - 1e-12).sum())) / (1 + draws)


def two_way_interval(
    found: Diverging, rated: npt.ArrayLike, confidence: float, population: Population | None = None
) -> tuple[float, float, float, float, float]:
    """Standard error, df, bounds and p against one half, over users and images; NaN where nothing varies.

    V_user = U/(U-1) sum of squared user influences, V_image and V_cell likewise without the factor; then as in
    `analysis.user_means.mean_over_users`.
    """
    seen = np.asarray(rated, dtype=bool)
    n_users, n_images = int(seen.any(axis=1).sum()), int(seen.any(axis=0).sum())
    v_user = float((found.influence.sum(axis=1) ** 2).sum()) / 4 * n_users / max(n_users - 1, 1)
    v_image = float((found.influence.sum(axis=0) ** 2).sum()) / 4
    v_cell = float((found.influence**2).sum())
    counts = (n_users, n_images, int(seen.sum()))
    variance, df = chosen_variance(population or Population(), (v_user, v_image, v_cell), counts)
    # influences of a model without personal knowledge are 0 up to rounding: no interval rather than a tiny one
    se = math.sqrt(variance) if df >= 1 and variance > 1e-24 else math.nan
    return (se, df, *t_interval(found.accuracy, se, df, confidence, 0.5))


def oracle_accuracy(parts: Components, margin: int = 0) -> float:
    """Accuracy on diverging pairs of a model that knows everybody's true taste; NaN unless noise is known.

    Numerical integral over both users' rating differences beyond the margin, Gaussian, of the chance that the true
    difference of the first has the sign of the rated one.
    """
    if not parts.separable:
        return math.nan
    shared, private, noise = (max(v, 0.0) for v in (parts.v_image, parts.v_user_image, parts.v_error))
    taste, total = shared + private, shared + private + noise
    if not total > 0:
        return math.nan
    nodes, weights = np.polynomial.legendre.leggauss(96)
    x = margin + (nodes + 1) / 2 * 9 * math.sqrt(2 * total)
    mine, other = x[:, None], -x[None, :]
    r = shared / total
    if r >= 1:
        return math.nan
    log_density = -(mine**2 - 2 * r * mine * other + other**2) / (2 * (1 - r**2) * 2 * total)
    density = np.exp(log_density - log_density.max()) * weights[:, None] * weights[None, :]
    on_mine = (taste - r * shared) / (total * (1 - r**2))
    on_other = (shared - r * taste) / (total * (1 - r**2))
    left = 2 * (taste - on_mine * taste - on_other * shared)
    sure = ndtr((on_mine * mine + on_other * other) / math.sqrt(max(left, 1e-12 * total)))
    return float((density * sure).sum() / density.sum())
