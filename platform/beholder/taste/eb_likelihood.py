"""The crossed random-slopes model and its posterior: arrays in, arrays out.

    y_ui = beta + b_u + a_i + phi_i'(mu + w_u) + e_ui

with beta flat and everything else Gaussian round 0: b (user offset), a (what people agree on beyond phi), mu (shared
taste, one variance a block of phi's columns), w_u (own taste, one variance a block), e (noise). Users are independent
given (beta, mu, a), so the work is one small matrix a user and one of 1 + p + I columns.

`Prior` is the same model with more freedom: (b_u, w_u) have any covariance, each user an own noise variance, and groups
of people (of one gender, say) shared tastes of their own beside everybody's.

Method: restricted maximum likelihood, Harville (1977), doi:10.1080/01621459.1977.10480998.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from beholder.errors import EstimateError
from beholder.taste.base import Floats, Indices
from beholder.taste.linear import Belief


@dataclass(frozen=True)
class Variances:
    """Variance components, all in squared ticks (slopes: per squared unit of the design).

    Attributes
    ----------
    noise, user, image : float
        Of e, b and a.
    shared, own : tuple of float
        Of mu and w, one a block.
    """

    noise: float
    user: float
    image: float
    shared: tuple[float, ...]
    own: tuple[float, ...]

    def vector(self) -> Floats:
        """As one array: noise, user, image, shared..., own..."""
        return np.array([self.noise, self.user, self.image, *self.shared, *self.own])

    @classmethod
    def from_vector(cls, values: Floats) -> Variances:
        """The inverse of `vector`."""
        v = [float(x) for x in values]
        blocks = (len(v) - 3) // 2
        return cls(v[0], v[1], v[2], tuple(v[3 : 3 + blocks]), tuple(v[3 + blocks :]))


@dataclass(frozen=True, eq=False)
class Problem:
    """Ratings by user, with the design rows of the rated images.

    Attributes
    ----------
    rows : sequence of arrays, each shape (n_u, p)
    scores : sequence of arrays, each shape (n_u,)
    images : sequence of int arrays, each shape (n_u,)
        Which of `n_images` images.
    n_images : int
    blocks : tuple of slice
        Columns of each block.
    groups : array, shape (U, G), optional
        How far each user belongs to each group of people; none if left out.
    """

    rows: Sequence[Floats]
    scores: Sequence[Floats]
    images: Sequence[Indices]
    n_images: int
    blocks: tuple[slice, ...]
    groups: Floats | None = None

    @property
    def columns(self) -> int:
        """P."""
        return self.rows[0].shape[1]

    @cached_property
    def membership(self) -> Floats:
        """Everybody belongs to the first group, then `groups`; shape (U, 1 + G)."""
        everybody = np.ones((len(self.scores), 1))
        return everybody if self.groups is None else np.hstack([everybody, self.groups])

    @cached_property
    def grams(self) -> Floats:
        """`phi phi'` of each block over the images, shape (blocks, n_images, n_images)."""
        phi = np.zeros((self.n_images, self.columns))
        for rows, images in zip(self.rows, self.images, strict=True):
            phi[images] = rows
        return np.stack([phi[:, block] @ phi[:, block].T for block in self.blocks])

    @cached_property
    def places(self) -> list[tuple[Indices, Floats | None]]:
        """For each user the distinct images, and the 0/1 matrix (ratings x images) where some are rated twice."""
        found: list[tuple[Indices, Floats | None]] = []
        for images in self.images:
            distinct, at = np.unique(images, return_inverse=True)
            if len(distinct) == len(images):
                found.append((images, None))
            else:
                found.append((distinct, np.eye(len(distinct))[at]))
        return found


@dataclass(frozen=True, eq=False)
class Prior:
    """What the model assumes, in full. q = 1 + p.

    Attributes
    ----------
    noise : array, shape (U,)
        Noise variance of each user's ratings.
    image : float
        Variance of a.
    shared : array, shape ((1 + G) q,)
        Variances of (beta, mu), then of each group's departure from them; infinite for beta, which is flat.
    own : array, shape (q, q)
        Covariance of (b_u, w_u).
    """

    noise: Floats
    image: float
    shared: Floats
    own: Floats


@dataclass(frozen=True, eq=False)
class Solution:
    """Posterior at given variances. q = 1 + p.

    Attributes
    ----------
    log_likelihood : float
        Restricted (beta integrated out with density 1).
    shared : Belief
        About (beta, mu), and each group's departure from them.
    image_effects, image_variances : arrays, shape (I,)
        Posterior of a.
    own : tuple of Belief
        For each user about (beta + b, mu + w).
    """

    log_likelihood: float
    shared: Belief
    image_effects: Floats
    image_variances: Floats
    own: tuple[Belief, ...]


def own_covariance(problem: Problem, v: Variances) -> Floats:
    """Prior covariance of a user's departure from the mean person, shape (q, q)."""
    diagonal = np.zeros(1 + problem.columns)
    diagonal[0] = v.user
    for block, variance in zip(problem.blocks, v.own, strict=True):
        diagonal[1:][block] = variance
    return np.diag(diagonal)


def prior_of(problem: Problem, v: Variances) -> Prior:
    """The prior with the variances `v`: people of all groups share one taste."""
    if problem.groups is not None:
        raise EstimateError("variances of groups are not in `Variances`", remedy="give a prior, or no groups")
    shared = np.full(1 + problem.columns, np.inf)
    for block, variance in zip(problem.blocks, v.shared, strict=True):
        shared[1:][block] = variance
    return Prior(np.full(len(problem.scores), v.noise), v.image, shared, own_covariance(problem, v))


@dataclass(frozen=True, eq=False)
class _User:
    """What the second pass needs of a user: X = (1, phi), y, K^-1 X, its images, and the shared taste of its groups."""

    x: Floats
    y: Floats
    kx: Floats
    images: Indices
    groups: Floats


def solve(problem: Problem, v: Variances) -> Solution:
    """Everybody's posterior at the variances `v`; see `solve_prior`.

    For the likelihood alone, `beholder.taste.eb_kernel` is many times faster.
    """
    return solve_prior(problem, prior_of(problem, v))


def solve_prior(problem: Problem, prior: Prior) -> Solution:
    """Everybody's posterior.

    Cost: sum over users of n_u (n_u + q)^2, and ((1 + G) q + I)^3; where that is too much, see
    `beholder.taste.eb_large`.
    """
    q = 1 + problem.columns
    shared_size = q * problem.membership.shape[1]
    size = shared_size + problem.n_images
    users = []
    gram, moment = np.zeros((size, size)), np.zeros(size)
    log_det, quadratic = 0.0, 0.0
    everyone = zip(problem.rows, problem.scores, problem.images, problem.membership, prior.noise, strict=True)
    for f, y, images, member, noise in everyone:
        x = np.hstack([np.ones((len(y), 1)), f])
        k = x @ prior.own @ x.T
        k[np.diag_indices_from(k)] += noise
        factor = cho_factor(k, lower=True)
        log_det += 2 * float(np.sum(np.log(np.diag(factor[0]))))
        inverse = cho_solve(factor, np.eye(len(y)))
        user = _User(x, y, inverse @ x, images + shared_size, np.kron(member, np.eye(q)))
        ky = inverse @ y
        quadratic += float(y @ ky)
        gram[:shared_size, :shared_size] += user.groups.T @ (x.T @ user.kx) @ user.groups
        np.add.at(gram[:, :shared_size], user.images, user.kx @ user.groups)
        np.add.at(gram, (user.images[:, None], user.images[None, :]), inverse)
        moment[:shared_size] += user.groups.T @ (x.T @ ky)
        np.add.at(moment, user.images, ky)
        users.append(user)
    gram[:shared_size, shared_size:] = gram[shared_size:, :shared_size].T
    before = np.r_[prior.shared, np.full(problem.n_images, prior.image)]
    precision = gram + np.diag(1 / before)
    factor = cho_factor(precision, lower=True)
    joint = Belief(cho_solve(factor, moment), cho_solve(factor, np.eye(size)))
    log_det += 2 * float(np.sum(np.log(np.diag(factor[0])))) + float(np.sum(np.log(before[np.isfinite(before)])))
    n = sum(len(u.y) for u in users)
    value = -0.5 * (log_det + quadratic - float(joint.mean @ moment) + (n - 1) * np.log(2 * np.pi))
    own = tuple(_own_belief(u, prior.own, joint, shared_size) for u in users)
    shared = Belief(joint.mean[:shared_size], joint.covariance[:shared_size, :shared_size])
    return Solution(value, shared, joint.mean[shared_size:], np.diag(joint.covariance)[shared_size:].copy(), own)


def _own_belief(u: _User, covariance: Floats, joint: Belief, shared_size: int) -> Belief:
    """Belief about a user's whole coefficients, with what is uncertain about the shared part carried along."""
    columns = np.concatenate([np.arange(shared_size), u.images])
    gain = covariance @ u.kx.T  # D X' K^-1
    shared = u.groups @ joint.mean[:shared_size]
    mean = shared + gain @ (u.y - u.x @ shared - joint.mean[u.images])
    # own = shared + D X' K^-1 (y - X shared - a) + rest, and the rest is independent of (shared, a).
    carry = np.hstack([(np.eye(len(mean)) - gain @ u.x) @ u.groups, -gain])
    rest = covariance - gain @ (u.x @ covariance)
    whole = rest + carry @ joint.covariance[np.ix_(columns, columns)] @ carry.T
    return Belief(mean, (whole + whole.T) / 2)
