"""Is one strength a condition enough? Observed against fitted win rates of pairs, and a test of the two models.

The larger model gives every pair of conditions a difference of its own (with the same order effect and tie parameter);
twice the gain in log-likelihood is divided by the mean design effect of the extra parameters (Rao & Scott 1984,
doi:10.1214/aos/1176346391), since votes are clustered, and compared with F.

A small p says that preferences do not lie on one line (intransitive, or some pairs judged by another standard); a large
one says little when clusters are few.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import fdtrc

from analysis.clusters import Floats
from analysis.comparisons import Comparisons
from analysis.davidson import LEFT, RIGHT, TIE, Counts, Fit, choice_log_probabilities, fit_counts
from analysis.errors import EstimateError
from analysis.existence import require_finite
from analysis.results import Population
from analysis.sandwich import two_way_sandwich

MOST_PAIRS = 200
"""Unordered pairs up to which the larger model is fitted."""


@dataclass(frozen=True)
class PairFit:
    """One pair of conditions: votes, ties, and the observed and fitted win rate of the first (a tie one half)."""

    first: str
    second: str
    n_votes: int
    n_ties: int
    observed: float
    fitted: float


def pair_fits(data: Comparisons, fit: Fit) -> tuple[PairFit, ...]:
    """Observed and fitted win rates of each unordered pair, in alphabetical order."""
    counts = data.counts
    p = np.exp(choice_log_probabilities(fit.differences, fit.tie, fit.ties))
    n = counts.votes.sum(axis=1)
    pair, pairs = _unordered(counts)
    left_first = counts.left < counts.right
    half_ties = 0.5 * counts.votes[:, TIE]
    won = np.where(left_first, counts.votes[:, LEFT], counts.votes[:, RIGHT]) + half_ties
    expected = n * (np.where(left_first, p[:, LEFT], p[:, RIGHT]) + 0.5 * p[:, TIE])
    totals = [np.bincount(pair, x, len(pairs)) for x in (n, counts.votes[:, TIE], won, expected)]
    return tuple(
        PairFit(data.names[i], data.names[j], int(total), int(tied), won / total, expected / total)
        for (i, j), total, tied, won, expected in zip(pairs, *(x.tolist() for x in totals), strict=True)
    )


def _unordered(counts: Counts) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Number of the unordered pair of each ordered one, and the pairs."""
    low, high = np.minimum(counts.left, counts.right), np.maximum(counts.left, counts.right)
    keys, pair = np.unique(low * counts.n_conditions + high, return_inverse=True)
    return pair, [divmod(int(key), counts.n_conditions) for key in keys]


def dimension_test(fit: Fit, counts: Counts, data: Comparisons, population: Population) -> dict[str, float] | None:
    """Test of the fitted model within the one that has a difference for every pair.

    Parameters
    ----------
    fit : Fit
        The model with one strength a condition, fitted to `counts`.
    counts : Counts
    data : Comparisons
        The votes themselves, for the clusters.
    population : Population

    Returns
    -------
    dict or None
        `statistic` F, `df`, `df_error`, `design_effect`, `p`. None when the larger model is no larger, has more than
        200 pairs or no finite maximum, or every cluster fits exactly.
    """
    pair, pairs = _unordered(counts)
    n_extra = len(pairs) - (counts.n_conditions - 1)
    if n_extra <= 0 or len(pairs) > MOST_PAIRS:
        return None
    free = np.zeros((len(pair), len(pairs)))
    free[np.arange(len(pair)), pair] = np.where(counts.left < counts.right, 1.0, -1.0)
    order = fit.design[:, counts.n_conditions - 1 :]
    try:
        larger = fit_counts(counts, np.column_stack([free, order]), fit.ties)
        require_finite(larger, counts)
    except EstimateError:
        return None
    scores = larger.scores.reshape(-1, larger.scores.shape[-1])
    sandwich = two_way_sandwich(larger.information, scores, data.tables, population)
    restriction = _restrictions(pairs, counts.n_conditions, len(larger.parameters))
    model = restriction @ np.linalg.inv(larger.information) @ restriction.T
    robust = [restriction @ part @ restriction.T for part in sandwich.parts]
    design_effect = max(float(np.trace(np.linalg.solve(model, part))) for part in robust) / n_extra
    if design_effect <= 1e-9:
        return None
    statistic = max(2 * (larger.log_likelihood - fit.log_likelihood), 0.0) / design_effect / n_extra
    p = float(fdtrc(n_extra, sandwich.df, statistic))
    return {"statistic": statistic, "df": n_extra, "df_error": sandwich.df, "design_effect": design_effect, "p": p}


def _restrictions(pairs: list[tuple[int, int]], n_conditions: int, n_parameters: int) -> Floats:
    """Rows orthogonal to all differences of strengths: what must vanish on one dimension; shape (extra, parameters)."""
    differences = np.zeros((len(pairs), n_conditions))
    for row, (i, j) in enumerate(pairs):
        differences[row, i], differences[row, j] = 1, -1
    left, values, _ = np.linalg.svd(differences, full_matrices=True)
    rank = int((values > 1e-9).sum())
    kernel = left[:, rank:].T
    return np.column_stack([kernel, np.zeros((len(kernel), n_parameters - len(pairs)))])
