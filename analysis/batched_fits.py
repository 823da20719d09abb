"""Newton's method for many small tables of votes at once: the models of `analysis.davidson`, batch first.

For resampled counts, which differ little from the counts they were drawn from: every fit begins at the fit of all votes
and needs three or four steps.
"""

from __future__ import annotations

import numpy as np

from analysis.clusters import Floats
from analysis.davidson import KERNELS, MAX_STEPS, TOLERANCE, Ties
from analysis.existence import SUSPICIOUS_DIFFERENCE

HALVINGS = 30


def fit_batch(votes: Floats, design: Floats, ties: Ties, start: Floats) -> Floats:
    """Maxima of the likelihood of many tables of counts.

    Parameters
    ----------
    votes : array (b, m, 3)
        Counts of left, right and tie of the ordered pairs; zeros are allowed.
    design : array (m, q)
        As for `analysis.davidson.fit_counts`.
    ties : {"davidson", "rao-kupper"}
    start : array (k,)
        Parameters at which every fit begins; k > q means that ties are modelled.

    Returns
    -------
    array (b, k)
        Rows of NaN where Newton's steps with halving find no finite maximum.
    """
    theta = np.tile(start, (len(votes), 1))
    positive_tie = ties == "rao-kupper" and len(start) > design.shape[1]
    done = np.zeros(len(votes), dtype=bool)
    active = np.arange(len(votes))
    value, gradient, information = _terms(theta, votes, design, ties)
    for _ in range(MAX_STEPS):
        move = _solve(information, gradient)
        gain = np.einsum("bi,bi->b", gradient, move)
        close = gain < 2 * np.maximum(TOLERANCE, 1e-14 * np.abs(value))
        theta[active[close]] += move[close]
        done[active[close]] = True
        going = ~close & np.isfinite(gain)
        active, move, value = active[going], move[going], value[going]
        if not len(active):
            break
        scale = np.ones((len(active), 1))
        for _ in range(HALVINGS):
            candidate = theta[active] + scale * move
            if positive_tie:  # a step across the bound is shortened to half the way there
                candidate[:, -1] = np.maximum(candidate[:, -1], theta[active, -1] / 2)
            new_value, gradient, information = _terms(candidate, votes[active], design, ties)
            worse = new_value < value - 1e-12 * np.abs(value)
            if not worse.any():
                break
            scale[worse] /= 2
        theta[active], value = candidate, new_value
    far = np.abs(theta[:, : design.shape[1]] @ design.T).max(axis=1) > SUSPICIOUS_DIFFERENCE
    theta[~done | far] = np.nan
    return theta


def _terms(theta: Floats, votes: Floats, design: Floats, ties: Ties) -> tuple[Floats, Floats, Floats]:
    """Log-likelihoods (b,), gradients (b, k) and informations (b, k, k)."""
    (b, m, _), q = votes.shape, design.shape[1]
    d = theta[:, :q] @ design.T
    if theta.shape[1] == q:  # no ties: the Bradley-Terry model
        log_p = -np.logaddexp(0, np.stack([-d, d], axis=2))
        p, n = np.exp(log_p[:, :, 0]), votes.sum(axis=2)
        gradient = (votes[:, :, 0] - n * p) @ design
        return (votes[:, :, :2] * log_p).sum(axis=(1, 2)), gradient, _cross(design, n * p * (1 - p))
    log_p, slope, curve = (x.reshape(b, m, *x.shape[1:]) for x in KERNELS[ties](d.ravel(), np.repeat(theta[:, -1], m)))
    first = np.einsum("bmc,bmci->bmi", votes, slope)
    second = -np.einsum("bmc,bmcij->bmij", votes, curve)
    gradient = np.concatenate([first[:, :, 0] @ design, first[:, :, 1].sum(axis=1, keepdims=True)], axis=1)
    information = np.empty((b, q + 1, q + 1))
    information[:, :q, :q] = _cross(design, second[:, :, 0, 0])
    information[:, :q, q] = information[:, q, :q] = second[:, :, 0, 1] @ design
    information[:, q, q] = second[:, :, 1, 1].sum(axis=1)
    return (votes * log_p).sum(axis=(1, 2)), gradient, information


def _cross(design: Floats, weight: Floats) -> Floats:
    """Design' diag(weight) design for each row of `weight` (b, m); shape (b, q, q)."""
    products = np.einsum("mi,mj->mij", design, design).reshape(len(design), -1)
    return (weight @ products).reshape(len(weight), design.shape[1], design.shape[1])


def _solve(information: Floats, gradient: Floats) -> Floats:
    """Newton's steps (b, k); NaN where the information is singular."""
    try:
        return np.asarray(np.linalg.solve(information, gradient[:, :, None])[:, :, 0])
    except np.linalg.LinAlgError:
        moves = np.full_like(gradient, np.nan)
        for k, (matrix, vector) in enumerate(zip(information, gradient, strict=True)):
            if np.linalg.matrix_rank(matrix) == len(vector):
                moves[k] = np.linalg.solve(matrix, vector)
        return moves
