"""The population head: ridge regression of user-centred ratings, penalty by cross-validation grouped by prompt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beholder.errors import EstimateError
from beholder.taste.base import Floats, Indices, Ratings
from beholder.taste.features import Design
from beholder.taste.linear import Belief
from beholder.taste.splits import group_folds

PENALTIES = np.logspace(-4, 4, 25)
"""Penalties tried, as multiples of the number of ratings (the design's columns have variance about 1)."""


@dataclass(frozen=True, eq=False)
class Offsets:
    """Users' rating levels.

    Attributes
    ----------
    grand : float
        Mean of the users' means.
    of_user : array, shape (U,)
        Departure of each user from `grand`, shrunken; in the order of `Ratings.users()`.
    between, within : float
        Variances of true levels and of ratings round them.
    """

    grand: float
    of_user: Floats
    between: float
    within: float


def user_offsets(values: Floats, who: Indices, n_users: int) -> Offsets:
    """Shrunken user means by one-way variance components (moments).

    Parameters
    ----------
    values : array, shape (n,)
    who : int array, shape (n,)
        The user of each value, 0...n_users-1, each at least once.

    Raises
    ------
    EstimateError
        With fewer than two users, or no user with two ratings: the components cannot be told apart.
    """
    counts = np.bincount(who, minlength=n_users)
    n = len(values)
    if n_users < 2 or n <= n_users:
        raise EstimateError(f"{n} ratings of {n_users} users", "2 users or more, and repeats within users")
    means = np.bincount(who, values, minlength=n_users) / counts
    within = float(np.sum((values - means[who]) ** 2) / (n - n_users))
    spread = float(counts @ (means - values.mean()) ** 2)
    effective = (n - np.sum(counts**2) / n) / (n_users - 1)
    between = max(0.0, (spread / (n_users - 1) - within) / float(effective))
    weight = counts * between / (counts * between + within) if within > 0 else np.full(n_users, float(between > 0))
    grand = float(means.mean())
    return Offsets(grand, weight * (means - grand), between, within)


@dataclass(frozen=True, eq=False)
class Head:
    """A fitted population head. q = 1 + p.

    Attributes
    ----------
    belief : Belief
        About (intercept, coefficients).
    penalty : float
        In absolute units: added to the diagonal of X'X.
    crossfitted : array, shape (n,)
        For each training rating, the head's value from folds without its prompt.
    offsets : Offsets
        Of the ratings less the cross-fitted values.
    at_edge : bool
        Whether the best penalty is the first or last tried.
    """

    belief: Belief
    penalty: float
    crossfitted: Floats
    offsets: Offsets
    at_edge: bool


def fit_head(ratings: Ratings, design: Design, rng: np.random.Generator, n_folds: int = 5) -> Head:
    """Fit the head.

    Parameters
    ----------
    ratings : Ratings
        Training ratings; their prompts are kept together in the folds.
    design : Design
    rng : numpy.random.Generator
        Draws the folds.
    n_folds : int
        At most; fewer where there are fewer prompts.

    Raises
    ------
    EstimateError
        With fewer than two prompts or two users.

    Notes
    -----
    Assumes taste linear in the design and equal noise. Targets are centred with shrunken user means; a user who
    happened to get good images looks generous, which the shrinkage only softens.
    """
    users, who = np.unique(ratings.user_id, return_inverse=True)
    first = user_offsets(ratings.score, who, len(users))
    y = ratings.score - first.grand - first.of_user[who]
    x = design.rows(ratings.image_id)
    folds = group_folds(ratings.prompt_id, min(n_folds, len(np.unique(ratings.prompt_id))), rng)
    held_out = np.empty((len(PENALTIES), len(y)))
    for fold in range(int(folds.max()) + 1):
        test = folds == fold
        held_out[:, test] = _path(x[~test], y[~test], x[test])
    best = int(np.argmin(np.mean((held_out - y) ** 2, axis=1)))
    penalty = float(PENALTIES[best] * len(y))
    crossfitted = held_out[best] + first.grand
    offsets = user_offsets(ratings.score - crossfitted, who, len(users))
    belief = _ridge(x, y + first.grand, penalty, offsets.within)
    return Head(belief, penalty, crossfitted, offsets, best in (0, len(PENALTIES) - 1))


def _path(x: Floats, y: Floats, new: Floats) -> Floats:
    """Ridge predictions at `new` for every penalty, shape (penalties, len(new)); the intercept is not penalised."""
    mean_x, mean_y = x.mean(axis=0), y.mean()
    centred = x - mean_x
    eigenvalues, vectors = np.linalg.eigh(centred.T @ centred)
    along = vectors.T @ (centred.T @ (y - mean_y))
    left = (new - mean_x) @ vectors
    return np.stack([mean_y + left @ (along / (np.maximum(eigenvalues, 0) + p * len(y))) for p in PENALTIES])


def _ridge(x: Floats, y: Floats, penalty: float, noise_variance: float) -> Belief:
    """Ridge coefficients with their posterior covariance; the intercept has a flat prior."""
    rows = np.hstack([np.ones((len(x), 1)), x])
    precision = rows.T @ rows
    precision[np.diag_indices_from(precision)] += np.r_[0.0, np.full(x.shape[1], penalty)]
    return Belief(np.linalg.solve(precision, rows.T @ y), noise_variance * np.linalg.inv(precision))
