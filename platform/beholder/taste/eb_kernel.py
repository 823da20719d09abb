"""The restricted likelihood of the crossed random-slopes model and its gradient, in the space of images.

The model of `beholder.taste.eb_likelihood`, with shared slopes and image effects taken together: g = phi mu + a is one
number an image, own slopes enter by their kernel. So nothing grows with the number of columns, and each step of an
optimiser costs the cube of the number of images plus that of each user's ratings.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.linalg import cho_factor, solve_triangular
from scipy.linalg.lapack import dpotri

from beholder.taste.base import Floats, Indices
from beholder.taste.eb_likelihood import Problem, Variances


@dataclass(frozen=True, eq=False)
class _User:
    """K^-1 of a user's ratings, K^-1 y, which images they are, and `Problem.places`."""

    inverse: Floats
    weighted: Floats
    images: Indices
    place: tuple[Indices, Floats | None]


@dataclass(frozen=True, eq=False)
class _Shared:
    """What the ratings say about g and beta together; I images.

    Attributes
    ----------
    information : array, shape (I, I)
        Sum over users of E' K^-1 E (E picks a rating's image).
    ones, moment : arrays, shape (I,)
        Sums of E' K^-1 1 and E' K^-1 y.
    covariance : array, shape (I, I)
        Of g at known beta.
    beta, precision : float
        Generalised least squares, and 1' V^-1 1.
    effects : array, shape (I,)
        Posterior mean of g.
    """

    information: Floats
    ones: Floats
    moment: Floats
    covariance: Floats
    beta: float
    precision: float
    effects: Floats


def restricted_likelihood(problem: Problem, v: Variances) -> tuple[float, Floats]:
    """Log restricted likelihood (beta integrated out with density 1), and its gradient by the log variances.

    Parameters
    ----------
    problem : Problem
    v : Variances
        All above 0.

    Returns
    -------
    float
    array
        In the order of `Variances.vector()`.
    """
    grams = problem.grams
    own = v.user + np.tensordot(v.own, grams, 1)
    prior = np.tensordot(v.shared, grams, 1)
    prior[np.diag_indices_from(prior)] += v.image
    users, log_det, quadratic, n = [], 0.0, 0.0, 0
    for y, images, place in zip(problem.scores, problem.images, problem.places, strict=True):
        k = own[images[:, None], images]
        k.flat[:: len(y) + 1] += v.noise
        factor, _ = cho_factor(k, lower=True, overwrite_a=True, check_finite=False)
        log_det += 2 * float(np.sum(np.log(np.diag(factor))))
        lower, _ = dpotri(factor, lower=True, overwrite_c=True)
        inverse = np.where(_lower(len(y)), lower, lower.T)
        weighted = inverse @ y
        quadratic += float(y @ weighted)
        users.append(_User(inverse, weighted, images, place))
        n += len(y)
    shared, more, explained = _shared_part(problem, users, prior)
    value = -0.5 * (log_det + more + quadratic - explained + (n - 1) * np.log(2 * np.pi))
    return value, _gradient(problem, v, users, shared)


def _shared_part(problem: Problem, users: list[_User], prior: Floats) -> tuple[_Shared, float, float]:
    """The shared part, what it adds to the log determinant, and the sum of squares that it and beta explain."""
    size = problem.n_images
    information, ones, moment = np.zeros((size, size)), np.zeros(size), np.zeros(size)
    count, total = 0.0, 0.0
    for u in users:
        sums = u.inverse.sum(axis=0)
        _add(information, u.place, u.inverse)
        np.add.at(ones, u.images, sums)
        np.add.at(moment, u.images, u.weighted)
        count += float(sums.sum())
        total += float(u.weighted.sum())
    root = np.linalg.cholesky(prior)
    inner = root.T @ information @ root
    inner[np.diag_indices_from(inner)] += 1.0
    factor = np.linalg.cholesky(inner)
    half = solve_triangular(factor, root.T, lower=True, check_finite=False)
    covariance = half.T @ half
    precision = count - float(ones @ covariance @ ones)
    of_one = total - float(ones @ covariance @ moment)
    beta = of_one / precision
    shared = _Shared(information, ones, moment, covariance, beta, precision, covariance @ (moment - beta * ones))
    log_det = 2 * float(np.sum(np.log(np.diag(factor)))) + float(np.log(precision))
    return shared, log_det, float(moment @ covariance @ moment) + beta * of_one


def _gradient(problem: Problem, v: Variances, users: list[_User], s: _Shared) -> Floats:
    """Of each component: half its size times (alpha' V_k alpha - tr P V_k), with alpha = P y.

    P is the inverse of the marginal covariance with beta projected out; V_k the derivative by the component.
    """
    grams, blocks = problem.grams, len(problem.blocks)
    fit, trace = np.zeros(3 + 2 * blocks), np.zeros(3 + 2 * blocks)
    rest = 1.0 - s.covariance @ s.ones
    uncertain = s.covariance + np.outer(rest, rest) / s.precision  # of beta + g
    fitted = s.beta + s.effects
    scattered = np.zeros_like(s.information)
    for u in users:
        alpha = u.weighted - u.inverse @ fitted[u.images]
        p = u.inverse - u.inverse @ uncertain[u.images[:, None], u.images] @ u.inverse
        fit[0] += alpha @ alpha
        trace[0] += np.trace(p)
        fit[1] += alpha.sum() ** 2
        trace[1] += p.sum()
        fit[3 + blocks :] += alpha @ grams[:, u.images[:, None], u.images] @ alpha
        _add(scattered, u.place, p)
    trace[3 + blocks :] = np.einsum("ij,bij->b", scattered, grams)
    pushed = s.moment - s.beta * s.ones - s.information @ s.effects  # E' alpha
    left = s.ones - s.information @ (s.covariance @ s.ones)
    middle = s.information - s.information @ s.covariance @ s.information - np.outer(left, left) / s.precision
    fit[2], trace[2] = pushed @ pushed, np.trace(middle)
    fit[3 : 3 + blocks] = np.einsum("i,bij,j->b", pushed, grams, pushed)
    trace[3 : 3 + blocks] = np.einsum("ij,bij->b", middle, grams)
    return 0.5 * v.vector() * (fit - trace)


def _add(target: Floats, place: tuple[Indices, Floats | None], values: Floats) -> None:
    """Add a user's matrix over ratings to one over images; ratings of the same image are summed."""
    images, repeats = place
    target[images[:, None], images] += values if repeats is None else repeats.T @ values @ repeats


@cache
def _lower(n: int) -> Floats:
    """Whether an entry of an n x n matrix lies on or below the diagonal."""
    return np.tri(n, dtype=bool)
