"""Within-user Spearman and Pearson correlation with each image's influence.

Per user, then the mean over users; never pooled, because a model that knows only each user's mean would get a pooled
Spearman of .37 at 15 % user variance while ordering nothing inside any user. The interval is the two-way one of
`analysis.user_means.mean_over_users` on the influence functions below, not a jackknife.

Sources: Hampel 1974 (influence of Pearson's r); Croux and Dehon 2010 (influence of Spearman's rho).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from analysis.clusters import Floats, Ints
from analysis.errors import TableError
from analysis.pairs import rows_by_group

Kind = Literal["spearman", "pearson"]


@dataclass(frozen=True)
class Correlation:
    """One user's correlation.

    Attributes
    ----------
    r : float
        NaN when ratings or scores are constant or there are fewer than three rows.
    influence : Floats, shape (n,)
        First-order influence of each row, sums to 0; zeros where r is NaN.
    """

    r: float
    influence: Floats


def user_correlation(truth: npt.ArrayLike, score: npt.ArrayLike, kind: Kind = "spearman") -> Correlation:
    """Correlation of one user's ratings and scores.

    Parameters
    ----------
    truth, score : array_like, shape (n,)
    kind : str
        "spearman" (mid-ranks for ties) or "pearson".

    Notes
    -----
    Wrong as a first-order approximation for r near 1 and for fewer than about ten rows.
    """
    x, y = np.asarray(truth, dtype=np.float64), np.asarray(score, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise TableError(f"ratings of shape {x.shape}, scores of shape {y.shape}", "two vectors of one length")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise TableError("ratings or scores are NaN or infinite", "finite numbers")
    # constancy is decided on the numbers as given: after centring, rounding could leave a spurious spread
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Correlation(float("nan"), np.zeros(len(x)))
    if kind == "pearson":
        x, y = _scaled(x), _scaled(y)
        r = float(np.mean(x * y))
        moved = x * y
        spread_x, spread_y = x * x, y * y
    else:
        above_x, above_y = _Above(x), _Above(y)
        x, y = above_x.centred, above_y.centred
        size = float(np.sqrt(np.mean(x * x) * np.mean(y * y)))
        r = float(np.mean(x * y)) / size
        # a row moves the ranks of all others too: the means over the rows above it
        moved = (x * y + above_x.mean(y) + above_y.mean(x)) / size
        spread_x = (x * x + 2 * above_x.mean(x)) / np.mean(x * x)
        spread_y = (y * y + 2 * above_y.mean(y)) / np.mean(y * y)
    influence = moved - r * (spread_x + spread_y) / 2
    return Correlation(min(1.0, max(-1.0, r)), (influence - influence.mean()) / len(x))


def _scaled(values: Floats) -> Floats:
    centred = values - values.mean()
    return centred / np.sqrt(np.mean(centred * centred))


class _Above:
    """Mid-rank distribution function of a vector, and means of other vectors over the rows above each row."""

    def __init__(self, values: Floats) -> None:
        self._code = np.unique(values, return_inverse=True)[1]
        count = np.bincount(self._code)
        self.centred = ((np.cumsum(count) - count / 2.0) / len(values) - 0.5)[self._code]

    def mean(self, other: Floats) -> Floats:
        """(1/n) sum over rows j of (1 if j is above i, one half if level) times other_j."""
        level = np.bincount(self._code, other)
        return ((level.sum() - np.cumsum(level) + level / 2.0) / len(other))[self._code]


@dataclass(frozen=True)
class UserCorrelations:
    """Correlation of every user.

    Attributes
    ----------
    r : Floats, shape (users,)
        NaN where undefined.
    influence : Floats, shape (rows,)
    n_undefined : int
        Users with constant ratings or scores, or fewer than three rows.
    """

    r: Floats
    influence: Floats
    n_undefined: int


def correlation_by_user(
    user: npt.ArrayLike, truth: npt.ArrayLike, score: npt.ArrayLike, kind: Kind = "spearman"
) -> UserCorrelations:
    """Correlation inside every user; rows in any order, `user` holds codes 0 ... U-1."""
    who: Ints = np.asarray(user, dtype=np.int64)
    x, y = np.asarray(truth, dtype=np.float64), np.asarray(score, dtype=np.float64)
    n_users = int(who.max()) + 1 if len(who) else 0
    r, influence = np.full(n_users, np.nan), np.zeros(len(who))
    for u, rows in enumerate(rows_by_group(who, n_users)):
        found = user_correlation(x[rows], y[rows], kind)
        r[u], influence[rows] = found.r, found.influence
    return UserCorrelations(r, influence, int(np.isnan(r).sum()))


def fisher_mean(r: npt.ArrayLike) -> float:
    """Mean correlation through Fisher's z, a sensitivity beside the plain mean.

    Users with |r| = 1 have no finite z and, like undefined ones, are left out; NaN without any other user.
    """
    found = np.asarray(r, dtype=np.float64)
    inside = found[np.isfinite(found) & (np.abs(found) < 1)]
    return float(np.tanh(np.arctanh(inside).mean())) if len(inside) else float("nan")
