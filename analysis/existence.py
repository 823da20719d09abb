"""Do votes have a finite ranking? Connected comparisons, chains of losses, and side effects that explain everything.

The strengths of a Bradley-Terry model have a finite maximum exactly when every condition is linked to every other by a
chain of wins (Ford 1957, Amer. Math. Monthly 64:28-33); a tie links both ways. With an order effect the votes must also
not be separable by strengths and side together (Albert & Anderson 1984, doi:10.1093/biomet/71.1.1).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.clusters import Floats, Ints
from analysis.davidson import LEFT, RIGHT, TIE, Counts, Fit
from analysis.errors import EstimateError

SUSPICIOUS_DIFFERENCE = 15.0
"""Difference of log strengths within a compared pair (one loss in three million votes) above which a fit is checked."""

REMEDY = "collect more votes, leave a condition out (--where), or add half a win each way (--pseudo-wins 0.5)"


def _reached(edges: np.ndarray, start: int) -> np.ndarray:
    """Nodes that directed edges (K, K) link from `start`, itself included; bool (K,)."""
    reached = np.zeros(len(edges), dtype=bool)
    reached[start] = True
    fresh = [start]
    while fresh:
        found = edges[fresh].any(axis=0) & ~reached
        reached |= found
        fresh = np.flatnonzero(found).tolist()
    return reached


def require_connected(counts: Counts, names: Sequence[str]) -> None:
    """Refuse conditions that no chain of votes links, and votes that are all ties."""
    edges = np.zeros((len(names), len(names)), dtype=bool)
    edges[counts.left, counts.right] = edges[counts.right, counts.left] = True
    linked = _reached(edges, 0)
    if not linked.all():
        raise EstimateError(
            f"no votes connect {_listed(names, linked)} with {_listed(names, ~linked)}",
            "conditions that are linked by comparisons",
            "rank the groups apart (--where)",
        )
    if counts.votes[:, TIE].sum() == counts.votes.sum():
        raise EstimateError("every vote is a tie", "some preferences", "no strengths can be told apart")


def unbeaten(counts: Counts, n_conditions: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Two groups (bool masks) of which the first never lost to, nor tied with, the second; None when there are none."""
    beats = np.zeros((n_conditions, n_conditions), dtype=bool)
    for side, winner, loser in ((LEFT, counts.left, counts.right), (RIGHT, counts.right, counts.left)):
        won = (counts.votes[:, side] + counts.votes[:, TIE]) > 0
        beats[winner[won], loser[won]] = True
    below = _reached(beats, 0)
    if not below.all():
        return ~below, below
    above = _reached(beats.T, 0)
    return None if above.all() else (above, ~above)


def finite_counts(counts: Counts, names: Sequence[str], pseudo_wins: float) -> tuple[Counts, tuple[str, ...]]:
    """Counts whose strengths are finite, and what the reader must be told.

    Where some group of conditions never loses to the others, `pseudo_wins` wins are added on each side of every ordered
    pair.

    Raises
    ------
    EstimateError
        Such a group, and `pseudo_wins` is 0; or `pseudo_wins` is negative.
    """
    if pseudo_wins < 0:
        raise EstimateError(f"{pseudo_wins:g} pseudo-wins", "0 or more")
    groups = unbeaten(counts, len(names))
    if groups is None:
        return counts, ()
    found = f"{_listed(names, groups[0])} never lost to {_listed(names, groups[1])}"
    if pseudo_wins == 0:
        raise EstimateError(f"an infinite estimate: {found}", "wins and losses that link all conditions", REMEDY)
    more = counts.votes + np.array([pseudo_wins, pseudo_wins, 0])
    warning = f"{found}, so {pseudo_wins:g} wins were added to each side of every pair; only by that is it finite"
    return Counts(counts.left, counts.right, more, counts.n_conditions), (warning,)


def require_finite(fit: Fit, counts: Counts) -> None:
    """Refuse a fit whose maximum lies at infinity because strengths and side together explain all votes.

    Newton's steps on such votes stop where nothing is left to gain, at differences near 20; only fits with a difference
    above 15 are examined, by a linear program.
    """
    if np.abs(fit.differences).max() > SUSPICIOUS_DIFFERENCE and separable(counts, fit.design):
        raise EstimateError(
            "an infinite estimate: strengths and the side shown explain every vote without exception",
            "votes that overlap",
            "collect more votes, fit no order effect, or add half a win each way (--pseudo-wins 0.5)",
        )


def separable(counts: Counts, design: Floats) -> bool:
    """Whether some direction of the parameters never lowers the likelihood of any vote and raises that of one.

    With d the change of a pair's utility difference and t >= 0 that of the tie parameter: a win of the left asks for
    d >= t, of the right for -d >= t, a tie for t >= |d|.
    """
    from scipy.optimize import linprog
    from scipy.sparse import csr_array, hstack, vstack

    def rows(seen: Ints, sign: float, tie: float) -> csr_array:
        return hstack([csr_array(sign * design[seen]), csr_array(np.full((len(seen), 1), tie))])

    left, right, tied = (np.flatnonzero(counts.votes[:, k]) for k in (LEFT, RIGHT, TIE))
    gains = vstack([rows(left, 1, -1), rows(right, -1, -1), rows(tied, 1, 1), rows(tied, -1, 1)]).tocsr()
    bounds = [(-1, 1)] * design.shape[1] + [(0, 1 if counts.has_ties else 0)]
    best = linprog(-np.asarray(gains.sum(axis=0)).ravel(), A_ub=-gains, b_ub=np.zeros(gains.shape[0]), bounds=bounds)
    return bool(best.fun < -1e-9)


def _listed(names: Sequence[str], chosen: np.ndarray) -> str:
    kept = [name for name, flag in zip(names, chosen, strict=True) if flag]
    return ", ".join(kept[:5]) + (f" and {len(kept) - 5} more" if len(kept) > 5 else "")
