"""Pairs of images judged on two occasions: hits of several models on the same pairs, and linear combinations of them.

A pair of images counts for a user when his ratings differ on both occasions. A model's credit on it is 1, one half for
equal scores, or 0. Whatever is linear in the credits (an accuracy, the gain of one model over another, gain later less
theta times gain first) is a mean over pairs for each user, with the influence of every image on it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.clusters import Floats, Ints
from analysis.errors import EstimateError
from analysis.pairs import rows_by_group
from analysis.results import Population
from analysis.user_means import Crossing, Interval, MeanOverUsers, mean_over_users

MOST_IMAGES = 5000
"""Images of one user beyond which all pairs do not fit into memory."""


@dataclass(frozen=True)
class Credits:
    """Sums of credits over each row's pairs.

    Attributes
    ----------
    user : Ints, shape (n,)
        Codes 0 … U-1.
    usable : Ints, shape (n,)
        Pairs of the row's image that count.
    sums : Floats, shape (n, models, 2)
        Credit of each model over these pairs, on the first and on the later occasion.
    pairs : Ints, shape (U,)
        Pairs of each user.
    """

    user: Ints
    usable: Ints
    sums: Floats
    pairs: Ints

    def mean(self, weights: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Each user's mean over pairs of a linear combination of credits, and the rows' influence on it.

        Parameters
        ----------
        weights : array_like, shape (models, 2)

        Returns
        -------
        value : Floats, shape (U,)
            NaN without pairs.
        influence : Floats, shape (n,)
            sum over pairs of the row of (combination - value) / pairs of the user; sums to 0 in each user.
        """
        combined = np.tensordot(self.sums, np.asarray(weights, dtype=np.float64), axes=2)
        total = np.bincount(self.user, combined, len(self.pairs))
        value = np.divide(total, 2.0 * self.pairs, out=np.full(len(self.pairs), np.nan), where=self.pairs > 0)
        centred = combined - np.nan_to_num(value)[self.user] * self.usable
        return value, centred / np.maximum(self.pairs, 1)[self.user]


def credits_on_both(user: Ints, first: Ints, later: Ints, scores: Floats) -> Credits:
    """Count credits on pairs that are no ties on either occasion.

    Parameters
    ----------
    user : Ints, shape (n,)
        Codes 0 … U-1, rows in any order.
    first, later : Ints, shape (n,)
        Ratings in ticks.
    scores : Floats, shape (n, models)

    Raises
    ------
    EstimateError
        A user with more images than fit into memory as pairs.
    """
    n_users, n_models = int(user.max()) + 1, scores.shape[1]
    usable = np.zeros(len(user), dtype=np.int64)
    sums = np.zeros((len(user), n_models, 2))
    for rows in rows_by_group(user, n_users):
        if len(rows) > MOST_IMAGES:
            raise EstimateError(f"a user with {len(rows)} images", f"at most {MOST_IMAGES}", "select images (--where)")
        order = [_signs(values[rows]) for values in (first, later)]
        counted = (order[0] != 0) & (order[1] != 0)
        usable[rows] = counted.sum(axis=1)
        for m in range(n_models):
            guessed = _signs(scores[rows, m])
            for k in (0, 1):
                right = (guessed * order[k] * counted).sum(axis=1, dtype=np.int64)
                sums[rows, m, k] = (right + usable[rows]) / 2.0
    pairs = np.bincount(user, usable, n_users).astype(np.int64) // 2
    return Credits(user, usable, sums, pairs)


def _signs(values: npt.NDArray[np.generic]) -> npt.NDArray[np.int8]:
    """Sign of every difference (n, n): of ranks, so that scores of any size compare exactly."""
    rank = np.unique(values, return_inverse=True)[1]
    return np.sign(rank[:, None] - rank[None]).astype(np.int8)


@dataclass(frozen=True)
class Estimator:
    """Means over users of linear combinations of credits, with their two-way intervals.

    Attributes
    ----------
    credited : Credits
    rows : Crossing
        User and item (image or prompt) of each row.
    kept : bool array (U,)
        Users who count.
    confidence : float
    population : Population
    """

    credited: Credits
    rows: Crossing
    kept: npt.NDArray[np.bool_]
    confidence: float
    population: Population

    def weights(self, entries: Mapping[tuple[int, int], float]) -> Floats:
        """Weights (models, 2) from (model, occasion 0 or 1) -> weight."""
        found = np.zeros(self.credited.sums.shape[1:])
        for place, value in entries.items():
            found[place] = value
        return found

    def __call__(self, entries: Mapping[tuple[int, int], float], null: float = 0.0) -> MeanOverUsers:
        """Estimate one combination, given as for `weights`."""
        value, influence = self.credited.mean(self.weights(entries))
        value = np.where(self.kept, value, np.nan)
        return mean_over_users(
            value, influence, self.rows, confidence=self.confidence, null=null, population=self.population
        )


@dataclass(frozen=True)
class Kept:
    """Gain of a model `a` over a model `b` on both occasions, its change, and the share kept (NaN with a reason)."""

    first: Interval
    later: Interval
    change: Interval
    share: Interval
    reason: str | None
    n_users: int
    n_items: int


def kept_gain(estimate: Estimator, a: int, b: int) -> Kept:
    """Gains of model `a` over model `b` (columns of the credits), and the share G_2/G_1 by the delta method."""
    first, later = (estimate({(a, k): 1, (b, k): -1}) for k in (0, 1))
    change = estimate({(a, 1): 1, (b, 1): -1, (a, 0): -1, (b, 0): 1})
    nan, reason = math.nan, None
    share = Interval(nan, nan, nan, nan, nan, nan)
    if math.isnan(first.se):
        reason = "the first gain has no interval (too few users or images)"
    elif first.ci_low <= 0 <= first.ci_high:
        reason = "the interval of the first gain includes 0, so there is no gain of which a share could be kept"
    else:
        g, theta = first.estimate, later.estimate / first.estimate
        moved = estimate({(a, 1): 1 / g, (b, 1): -1 / g, (a, 0): -theta / g, (b, 0): theta / g})
        # its own mean is 0 by construction
        share = Interval(theta, moved.se, moved.df, moved.ci_low + theta, moved.ci_high + theta, nan)
    return Kept(first, later, change, share, reason, first.n_users, first.n_items)
