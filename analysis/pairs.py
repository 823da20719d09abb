"""Pairs of images inside one user: counts with exact ties, and accuracy with influences at many margins.

A pair is usable when its two ratings differ by more than the margin; a model is right when it orders the pair
as the user did, and half right when its scores tie. Ratings are integer ticks, so that "differ by more than 100"
has one answer: in floats .8 - .7 > .1 is true and .3 - .2 > .1 is false.

Sources: Deutsch, Foster and Freitag 2023 ("Ties Matter", EMNLP) for the five counts and `acc_eq`; Kendall 1945 for
tau-b; Hajek 1968 for the projection of a pair statistic on its items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.clusters import Floats, Ints
from analysis.errors import EstimateError, TableError
from analysis.pair_sweep import compiled, sweep_pays, swept_curves

# An n x n table of signs is faster than the O(n log n) index up to about 400 items for one margin and 2,000 for fifty.
_DENSE_ITEMS, _DENSE_ITEMS_PER_MARGIN, _DENSE_MOST = 400, 30, 2000


def as_ticks(values: npt.ArrayLike, name: str = "ratings") -> Ints:
    """Ratings as 64-bit integers; refuses anything that is not a whole number.

    Parameters
    ----------
    values : array_like, shape (n,)
        Ticks, as integers or as floats without a fractional part.
    name : str
        How the message calls them.

    Raises
    ------
    TableError
        For fractions, NaN or infinities: a tie would then depend on rounding.
    """
    raw = np.asarray(values)
    if raw.dtype.kind in "iu":
        return raw.astype(np.int64)
    floats = raw.astype(np.float64)
    if not np.isfinite(floats).all() or (floats != np.rint(floats)).any():
        bad = floats[~(np.isfinite(floats) & (floats == np.rint(floats)))][0]
        raise TableError(f"{name} hold {bad!r}", "whole ticks", "map the scale to integer ticks when reading")
    return floats.astype(np.int64)


def as_scores(values: npt.ArrayLike, length: int) -> Floats:
    """Model scores as floats; refuses NaN, infinities and another length than the ratings'."""
    scores = np.asarray(values, dtype=np.float64)
    if scores.shape != (length,):
        raise TableError(f"{scores.shape} scores for {length} ratings", "one score a rating")
    if not np.isfinite(scores).all():
        raise TableError(f"{int((~np.isfinite(scores)).sum())} scores are NaN or infinite", "finite numbers")
    return scores


@dataclass(frozen=True)
class PairCounts:
    """Unordered pairs of one user, by what the ratings and the scores say.

    Attributes
    ----------
    concordant, discordant : int
        Both differ; same order, opposite order.
    tied_score : int
        Ratings differ by more than the margin, scores by no more than epsilon.
    tied_truth : int
        Ratings tie, scores differ.
    tied_both : int
    """

    concordant: int
    discordant: int
    tied_score: int
    tied_truth: int
    tied_both: int

    @property
    def total(self) -> int:
        """All pairs, n(n-1)/2."""
        return self.usable + self.tied_truth + self.tied_both

    @property
    def usable(self) -> int:
        """Pairs whose ratings differ by more than the margin."""
        return self.concordant + self.discordant + self.tied_score

    @property
    def acc_excl(self) -> float:
        """Share right among usable pairs, score ties one half; NaN without usable pairs."""
        return (self.concordant + 0.5 * self.tied_score) / self.usable if self.usable else float("nan")

    @property
    def acc_eq(self) -> float:
        """Share right among all pairs, where a tie predicted as a tie is right; NaN without pairs."""
        return (self.concordant + self.tied_both) / self.total if self.total else float("nan")

    @property
    def tau_b(self) -> float:
        """Kendall's tau-b; NaN when ratings or scores are all tied (never 0: nothing was measured)."""
        size = float(self.usable) * float(self.concordant + self.discordant + self.tied_truth)
        return (self.concordant - self.discordant) / size**0.5 if size > 0 else float("nan")

    @property
    def retained(self) -> float:
        """Share of all pairs that are usable; NaN without pairs."""
        return self.usable / self.total if self.total else float("nan")


class _RankIndex:
    """How many of the first p items have a rank below v, for many (p, v) at once: a wavelet matrix, O(log n) each."""

    def __init__(self, ranks: Ints, n_ranks: int) -> None:
        self._levels: list[tuple[int, Ints]] = []
        for shift in reversed(range(max(1, int(n_ranks).bit_length()))):
            zero = ((ranks >> shift) & 1) == 0
            self._levels.append((shift, np.concatenate((np.zeros(1, np.int64), np.cumsum(zero, dtype=np.int64)))))
            ranks = np.concatenate((ranks[zero], ranks[~zero]))

    def below(self, first: Ints, value: Ints) -> Ints:
        left, right = np.zeros_like(first), first
        found = np.zeros_like(first)
        for shift, zeros in self._levels:
            one = ((value >> shift) & 1) == 1
            zeros_left, zeros_right = zeros[left], zeros[right]
            found = found + np.where(one, zeros_right - zeros_left, 0)
            left = np.where(one, zeros[-1] + left - zeros_left, zeros_left)
            right = np.where(one, zeros[-1] + right - zeros_right, zeros_right)
        return found


def pair_counts(truth: npt.ArrayLike, score: npt.ArrayLike, margin: int = 0, epsilon: float = 0.0) -> PairCounts:
    """Count one user's pairs in O(n log n).

    Parameters
    ----------
    truth : array_like, shape (n,)
        Ratings in integer ticks.
    score : array_like, shape (n,)
        Model scores, any scale.
    margin : int
        Ratings tie when they differ by at most this many ticks.
    epsilon : float
        Scores tie when they differ by at most this much. Choose it on validation users, never on those it is used
        for (`calibrate_epsilon`).

    Raises
    ------
    TableError
        Ratings that are not whole ticks, scores that are not finite, negative margin or epsilon.
    """
    y = as_ticks(truth)
    s = as_scores(score, len(y))
    if margin < 0 or epsilon < 0:
        raise TableError(f"margin {margin}, epsilon {epsilon}", "0 or more")
    order = np.argsort(y, kind="stable")
    y, s = y[order], s[order]
    distinct, ranks = np.unique(s, return_inverse=True)
    low, high = _tie_window(distinct, s, epsilon)
    clearly_lower = np.searchsorted(y, y - margin, side="left")
    index = _RankIndex(ranks.astype(np.int64), len(distinct))
    concordant = int(index.below(clearly_lower, low).sum())
    tied_score = int(index.below(clearly_lower, high).sum()) - concordant
    usable = int(clearly_lower.sum())
    cumulated = np.concatenate((np.zeros(1, np.int64), np.cumsum(np.bincount(ranks, minlength=len(distinct)))))
    score_ties = (int((cumulated[high] - cumulated[low]).sum()) - len(y)) // 2
    tied_both = score_ties - tied_score
    tied_truth = len(y) * (len(y) - 1) // 2 - usable - tied_both
    return PairCounts(concordant, usable - concordant - tied_score, tied_score, tied_truth, tied_both)


def _tie_window(distinct: Floats, s: Floats, epsilon: float) -> tuple[Ints, Ints]:
    """First and past-the-last rank whose score ties with each of `s`, by the *difference* of the two floats.

    `s - epsilon` rounds, so a difference equal to epsilon (the usual case after calibration) may fall on the wrong
    side of the search; the loops move the bounds to where the subtraction itself puts them.
    """
    top = len(distinct) - 1
    low = np.searchsorted(distinct, s - epsilon, side="left")
    high = np.searchsorted(distinct, s + epsilon, side="right")
    while (step := (low > 0) & (s - distinct[np.maximum(low - 1, 0)] <= epsilon)).any():
        low = low - step
    while (step := s - distinct[np.minimum(low, top)] > epsilon).any():
        low = low + step
    while (step := (high <= top) & (distinct[np.minimum(high, top)] - s <= epsilon)).any():
        high = high + step
    while (step := distinct[np.maximum(high - 1, 0)] - s > epsilon).any():
        high = high - step
    return low, high


def calibrate_epsilon(
    users: list[tuple[npt.ArrayLike, npt.ArrayLike]], candidates: npt.ArrayLike, margin: int = 0
) -> float:
    """The score margin with the highest mean `acc_eq` over validation users; the smallest on equality.

    Parameters
    ----------
    users : list of (truth, score)
        Validation users only. Calibrating on the users reported is optimistic.
    candidates : array_like
        Score margins to try.
    margin : int
        Tie margin of the ratings, in ticks.
    """
    tried = np.unique(np.asarray(candidates, dtype=np.float64))
    if not len(users) or not len(tried):
        raise EstimateError(f"{len(users)} users and {len(tried)} candidates", "at least one of each")
    means = [np.mean([pair_counts(y, s, margin, float(e)).acc_eq for y, s in users]) for e in tried]
    return float(tried[int(np.argmax(means))])


def item_tallies(truth: Ints, score: Floats, margins: Ints) -> tuple[Ints, Ints]:
    """Per item and margin: usable pairs it is in, and right minus wrong among them.

    Parameters
    ----------
    truth : Ints, shape (n,)
    score : Floats, shape (n,)
    margins : Ints, shape (k,)

    Returns
    -------
    usable, net : Ints, shape (n, k)
        One sort and one table of signs serve all margins: O(n^2 + n k) for few items, O(n k log n) for many.
    """
    n = len(truth)
    order = np.argsort(truth, kind="stable")
    y = truth[order]
    rank = np.unique(score, return_inverse=True)[1].astype(np.int64)[order]
    low = np.searchsorted(y, y[:, None] - margins, side="left")
    high = np.searchsorted(y, y[:, None] + margins, side="right")
    if n <= min(_DENSE_ITEMS + _DENSE_ITEMS_PER_MARGIN * len(margins), _DENSE_MOST):
        signs = np.sign((rank[:, None] - rank[None, :]).astype(np.int16))
        running = np.zeros((n, n + 1), dtype=np.int16)
        np.cumsum(signs, axis=1, dtype=np.int16, out=running[:, 1:])
        rows = np.arange(n)[:, None]
        net = running[rows, low].astype(np.int64) - (running[:, n:] - running[rows, high])
    else:
        index = _RankIndex(rank, int(rank.max()) + 1)
        net = _prefix_sign(index, low, rank) - _prefix_sign(index, np.full_like(high, n), rank)
        net += _prefix_sign(index, high, rank)
    back = np.empty(n, dtype=np.int64)
    back[order] = np.arange(n)
    return (low + n - high)[back], net[back]


def _prefix_sign(index: _RankIndex, first: Ints, rank: Ints) -> Ints:
    """Sum of sign(own rank - rank) over the first items in order of truth, shape (n, k)."""
    own = np.broadcast_to(rank[:, None], first.shape)
    return index.below(first, own) + index.below(first, own + 1) - first


@dataclass(frozen=True)
class UserAccuracy:
    """One user's accuracy.

    Attributes
    ----------
    accuracy : float
        NaN without usable pairs.
    n_pairs : int
        Usable pairs.
    influence : Floats, shape (n,)
        What each image contributes to accuracy minus its expectation (Hajek projection); sums to 0.
    """

    accuracy: float
    n_pairs: int
    influence: Floats


def user_accuracy(truth: npt.ArrayLike, score: npt.ArrayLike, margin: int = 0) -> UserAccuracy:
    """Accuracy of one user's pairs, score ties one half, with each image's influence.

    Parameters
    ----------
    truth : array_like, shape (n,)
        Ratings in integer ticks.
    score : array_like, shape (n,)
    margin : int
        Pairs count when their ratings differ by more than this many ticks.
    """
    curves = accuracy_by_user(np.zeros(len(np.asarray(truth)), np.int64), truth, score, [margin])
    return UserAccuracy(float(curves.accuracy[0, 0]), int(curves.n_pairs[0, 0]), curves.influence[:, 0])


@dataclass(frozen=True)
class UserCurves:
    """Accuracy of every user at every margin.

    Attributes
    ----------
    accuracy : Floats, shape (users, margins)
        NaN without usable pairs.
    n_pairs : Ints, shape (users, margins)
    n_items : Ints, shape (users,)
    influence : Floats, shape (rows, margins)
        Influence of the row's image on its user's accuracy; 0 where that is NaN.
    """

    accuracy: Floats
    n_pairs: Ints
    n_items: Ints
    influence: Floats


def accuracy_by_user(
    user: npt.ArrayLike, truth: npt.ArrayLike, score: npt.ArrayLike, margins: npt.ArrayLike
) -> UserCurves:
    """Accuracy curves of many users, pairs never crossing users.

    Parameters
    ----------
    user : array_like, shape (n,)
        Codes 0 ... U-1, rows in any order.
    truth, score : array_like, shape (n,)
    margins : array_like, shape (k,)
        Integer ticks, 0 or more.

    Notes
    -----
    With v the usable pairs, c the credit of a pair (1, one half, 0), A the accuracy and M the number of usable pairs,
    the influence of image i is sum_j v_ij (c_ij - A) / M.
    """
    who = np.asarray(user, dtype=np.int64)
    y = as_ticks(truth)
    s = as_scores(score, len(y))
    cuts = as_ticks(margins, "margins")
    if cuts.ndim != 1 or not len(cuts) or (cuts < 0).any():
        raise TableError(f"margins {cuts.tolist()}", "one or more whole numbers, 0 or more")
    n_users = int(who.max()) + 1 if len(who) else 0
    if sweep_pays(y, len(cuts)):
        found = swept_curves(compiled(), rows_by_group(who, n_users), y, s, cuts)
        return UserCurves(found[0], found[1], np.bincount(who, minlength=n_users), found[2])
    accuracy = np.full((n_users, len(cuts)), np.nan)
    n_pairs = np.zeros((n_users, len(cuts)), dtype=np.int64)
    influence = np.zeros((len(y), len(cuts)))
    for u, rows in enumerate(rows_by_group(who, n_users)):
        if len(rows) < 2:
            continue
        usable, net = item_tallies(y[rows], s[rows], cuts)
        pairs = usable.sum(axis=0) // 2
        some = pairs > 0
        credit = (usable + net) / 2.0
        accuracy[u, some] = credit.sum(axis=0)[some] / (2.0 * pairs[some])
        n_pairs[u] = pairs
        influence[np.ix_(rows, some)] = (credit[:, some] - accuracy[u, some] * usable[:, some]) / pairs[some]
    return UserCurves(accuracy, n_pairs, np.bincount(who, minlength=n_users), influence)


def rows_by_group(codes: Ints, n_groups: int) -> list[Ints]:
    """Row numbers of each group, in the order of the rows."""
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.cumsum(np.bincount(codes, minlength=n_groups))[:-1]) if n_groups else []
