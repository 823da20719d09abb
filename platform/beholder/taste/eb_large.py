"""The posterior of the crossed random-slopes model for thousands of images: no matrix over the images is ever made.

The exact solution (`beholder.taste.eb_likelihood`) costs the cube of the number of images. Here the posterior means are
the exact ones, found by conjugate gradients to a relative residual of 1e-7; covariances use one approximation. With
users' own slopes integrated out, the information about the image effects a is a matrix whose diagonal is a sum over an
image's raters and whose other entries are leverages of users' ratings on each other, small and of either sign. The
diagonal is used for it, as preconditioner of (shared slopes, a) taken together and for the variances of a; the
covariance of the shared slopes is then improved by one Galerkin step. Ghandwani, Ghosh, Hastie and Owen (2023),
arXiv:2307.12378, solve crossed random slopes in the same order of cost by backfitting.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.lapack import dpotrf, dpotri
from scipy.sparse import csr_array

from beholder.errors import EstimateError
from beholder.taste.base import Floats, Indices
from beholder.taste.eb_likelihood import Prior, Problem, Solution
from beholder.taste.linear import Belief

TOLERANCE, MOST_STEPS = 1e-7, 500


class Stacked:
    """A problem's ratings in one array, sorted by user, with what does not change with the prior.

    Attributes
    ----------
    x : array, shape (n, q)
        (1, phi) of each rating.
    y : array, shape (n,)
        Scores less their mean.
    level : float
        That mean.
    image, user : int arrays, shape (n,)
    parts : list of slice
        Each user's ratings.
    grams : array, shape (U, q, q)
        X'X of each user.
    groups : array, shape (U, 1 + G)
    distinct : list of bool
        Whether a user rated no image twice.
    """

    def __init__(self, problem: Problem) -> None:
        counts = [len(s) for s in problem.scores]
        ends = np.cumsum(counts).tolist()
        self.x = np.empty((ends[-1], 1 + problem.columns))
        self.x[:, 0] = 1.0
        np.concatenate(list(problem.rows), out=self.x[:, 1:])
        scores = np.concatenate(list(problem.scores))
        self.level = float(scores.mean())
        self.y: Floats = scores - self.level
        self.image: Indices = np.concatenate(list(problem.images))
        self.user: Indices = np.repeat(np.arange(len(counts)), counts)
        self.parts = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
        self.grams = np.stack([self.x[s].T @ self.x[s] for s in self.parts])
        self.groups = problem.membership
        self.n_images = problem.n_images
        self.distinct = [len(np.unique(i)) == len(i) for i in problem.images]
        self.starts = np.searchsorted(np.sort(self.image), np.arange(problem.n_images + 1))
        self.by_image = np.argsort(self.image, kind="stable")

    def sums_by_image(self, values: Floats, weights: Floats | None = None) -> Floats:
        """Sums of rows of `values`, shape (n, k), over each image's ratings, shape (I, k)."""
        data = np.ones(len(self.y)) if weights is None else weights[self.by_image]
        picks = csr_array((data, self.by_image, self.starts), shape=(self.n_images, len(self.y)))
        return np.asarray(picks @ values)


@dataclass(frozen=True, eq=False)
class Moments:
    """Posterior of all parts at a prior; s = (1 + G) q shared coefficients.

    Attributes
    ----------
    shared, effects : arrays, shapes (s,) and (I,)
        Means of the shared coefficients and the image effects.
    own : array, shape (U, q)
        Means of the users' departures from their groups' taste.
    residuals : array, shape (n,)
        Of the ratings from everything fitted.
    shared_covariance : array, shape (s, s)
    effect_variances : array, shape (I,)
    rest : array, shape (U, q, q)
        Covariances of users' departures at known shared coefficients.
    carry : array, shape (U, q, s)
        How users' departures answer to the shared coefficients.
    """

    shared: Floats
    effects: Floats
    own: Floats
    residuals: Floats
    shared_covariance: Floats
    effect_variances: Floats
    rest: Floats
    carry: Floats

    def departure_covariances(self) -> Floats:
        """Of users' departures, shape (U, q, q)."""
        return self.rest + self.carry @ self.shared_covariance @ self.carry.transpose(0, 2, 1)

    def departure_variances(self) -> Floats:
        """Their diagonals, shape (U, q)."""
        spread = np.einsum("uqs,uqs->uq", self.carry @ self.shared_covariance, self.carry)
        return np.asarray(np.einsum("uqq->uq", self.rest) + spread)

    def own_covariances(self, groups: Floats) -> Floats:
        """Of users' whole coefficients, shared and own together, shape (U, q, q)."""
        q = self.rest.shape[1]
        whole = self.carry.copy()
        for g in range(groups.shape[1]):
            whole[:, :, g * q : (g + 1) * q] += groups[:, g, None, None] * np.eye(q)
        return self.rest + whole @ self.shared_covariance @ whole.transpose(0, 2, 1)


def _inverses(matrices: Floats) -> Floats:
    """Inverses of positive definite matrices, shape (U, q, q), by Cholesky: half the time of the general ones."""
    out = np.empty_like(matrices)
    for into, matrix in zip(out, matrices, strict=True):
        factor, failed = dpotrf(matrix, lower=1, clean=1)
        if failed:
            raise EstimateError("a user's information is not positive definite", remedy="fewer columns")
        into[...] = dpotri(factor, lower=1, overwrite_c=1)[0]
    lower = np.tril(out, -1)
    return np.asarray(out + lower.transpose(0, 2, 1))


def _times(matrices: Floats, vectors: Floats) -> Floats:
    """Each matrix, shape (U, q, q), times its vector, shape (U, q)."""
    return np.asarray((matrices @ vectors[:, :, None])[:, :, 0])


class System:
    """The normal equations of (shared coefficients, image effects) with own slopes integrated out, at one prior."""

    def __init__(self, data: Stacked, prior: Prior) -> None:
        self.data, self.prior = data, prior
        own_inverse = self.own_inverse = np.linalg.inv(prior.own)
        noise = prior.noise[:, None, None]
        self.c = _inverses(own_inverse + data.grams / noise)
        self.noise = prior.noise[data.user]
        self.xc = np.empty_like(data.x)  # X C / noise
        for s, c, v in zip(data.parts, self.c, prior.noise, strict=True):
            np.matmul(data.x[s], c / v, out=self.xc[s])
        kept = (1.0 - np.einsum("nq,nq->n", self.xc, data.x)) / self.noise  # diagonal of K^-1
        self.kept = kept
        self.diagonal = np.bincount(data.image, kept, data.n_images) + 1.0 / prior.image
        # K^-1 X = X C own^-1 / noise; summed first, multiplied then: images are fewer than ratings.
        columns = [data.sums_by_image(self.xc, w) @ own_inverse for w in data.groups.T[:, data.user]]
        self.coupling = np.hstack(columns)  # between image effects and shared coefficients, (I, s)
        self.learnt = self.c @ (data.grams / noise)  # own slopes' response to a taste
        size = self.coupling.shape[1]
        pairs = (data.groups[:, :, None] * data.groups[:, None, :]).reshape(len(data.parts), -1)
        sums = (pairs.T @ self.learnt.reshape(len(data.parts), -1)).reshape(-1, *own_inverse.shape)
        g = data.groups.shape[1]
        among = (own_inverse @ sums).reshape(g, g, *own_inverse.shape).transpose(0, 2, 1, 3).reshape(size, size)
        self.shared = (among + among.T) / 2 + np.diag(1.0 / prior.shared)
        self.scaled = self.coupling / self.diagonal[:, None]
        self.schur = cho_factor(self.shared - self.coupling.T @ self.scaled, lower=True)

    def weigh(self, values: Floats) -> tuple[Floats, Floats]:
        """K^-1 v, shape (n,), and each user's X' K^-1 v, shape (U, q)."""
        data = self.data
        out, sums = np.empty_like(values), np.empty((len(data.parts), data.x.shape[1]))
        for u, s in enumerate(data.parts):
            out[s] = values[s] - self.xc[s] @ (data.x[s].T @ values[s])
            sums[u] = data.x[s].T @ out[s]
        return out / self.noise, sums / self.prior.noise[:, None]

    def fitted(self, shared: Floats, effects: Floats) -> Floats:
        """What shared coefficients and image effects say of each rating, shape (n,)."""
        data = self.data
        each = data.groups @ shared.reshape(data.groups.shape[1], -1)
        out = effects[data.image]
        for s, coefficients in zip(data.parts, each, strict=True):
            out[s] += data.x[s] @ coefficients
        return out

    def gather(self, values: Floats) -> Floats:
        """The two sides' sums of K^-1 v, one array (s + I,)."""
        weighted, sums = self.weigh(values)
        return np.r_[(self.data.groups.T @ sums).ravel(), np.bincount(self.data.image, weighted, self.data.n_images)]

    def apply(self, z: Floats) -> Floats:
        """The matrix of the system times `z`: `gather(fitted(z))` and the prior's part, in half the passes over X.

        With a user's fitted values v = X b + e, K^-1 v = (e + X (b - C X'v / noise)) / noise and X'v = X'X b + X'e.
        """
        data, size = self.data, len(self.shared)
        each = data.groups @ z[:size].reshape(data.groups.shape[1], -1)
        effects = z[size:][data.image]
        crossed = np.stack([effects[s] @ data.x[s] for s in data.parts])
        crossed += _times(data.grams, each)
        left = each - _times(self.c, crossed) / self.prior.noise[:, None]
        for s, coefficients in zip(data.parts, left, strict=True):
            effects[s] += data.x[s] @ coefficients
        # X' K^-1 v = own^-1 C X'v / noise, since X'X C / noise = 1 - own^-1 C.
        sums = (each - left) @ self.own_inverse
        among = np.r_[(data.groups.T @ sums).ravel(), np.bincount(data.image, effects / self.noise, data.n_images)]
        return among + np.r_[1.0 / self.prior.shared, np.full(data.n_images, 1.0 / self.prior.image)] * z

    def precondition(self, r: Floats) -> Floats:
        """Solve with the diagonal in place of the information about the image effects."""
        size = len(self.shared)
        shared = cho_solve(self.schur, r[:size] - self.scaled.T @ r[size:])
        return np.r_[shared, r[size:] / self.diagonal - self.scaled @ shared]

    def solve(self, start: Floats | None = None, tolerance: float = TOLERANCE) -> Floats:
        """Posterior means of (shared, effects) by preconditioned conjugate gradients.

        Raises
        ------
        EstimateError
            If they do not converge.
        """
        target = self.gather(self.data.y)
        z = np.zeros_like(target) if start is None else start.copy()
        r = target - self.apply(z) if start is not None else target.copy()
        goal = tolerance * np.linalg.norm(target)
        p = h = self.precondition(r)
        size = float(r @ h)
        for _ in range(MOST_STEPS):
            if np.linalg.norm(r) <= goal:
                return z
            ap = self.apply(p)
            step = size / float(p @ ap)
            z += step * p
            r -= step * ap
            h = self.precondition(r)
            size, before = float(r @ h), size
            p = h + size / before * p
        raise EstimateError(f"posterior means did not converge in {MOST_STEPS} steps", remedy="fewer columns")

    def information_times(self, columns: Floats) -> Floats:
        """The information about the image effects times `columns`, shape (I, k), prior included."""
        data, out = self.data, columns / self.prior.image
        for s, distinct, noise in zip(data.parts, data.distinct, self.prior.noise, strict=True):
            values = columns[data.image[s]]
            values -= self.xc[s] @ (data.x[s].T @ values)
            values /= noise
            if distinct:
                out[data.image[s]] += values
            else:
                np.add.at(out, data.image[s], values)
        return out

    def moments(self, z: Floats, sharpen: bool = True) -> Moments:
        """Means and covariances, from the solution of the system; without the Galerkin step if not to `sharpen`."""
        data, size = self.data, len(self.shared)
        residuals = data.y - self.fitted(z[:size], z[size:])
        own = np.stack([self.xc[s].T @ residuals[s] for s in data.parts])
        for s, w in zip(data.parts, own, strict=True):
            residuals[s] -= data.x[s] @ w
        precision = self.shared - self.coupling.T @ self.scaled
        if sharpen:
            precision += self.scaled.T @ (self.information_times(self.scaled) - self.diagonal[:, None] * self.scaled)
        shared = np.asarray(np.linalg.inv((precision + precision.T) / 2), dtype=np.float64)
        effects = 1.0 / self.diagonal + np.einsum("is,is->i", self.scaled @ shared, self.scaled)
        sds = np.sqrt(1.0 / self.diagonal)
        rest, carry = np.empty_like(self.c), np.empty((len(self.c), self.c.shape[1], size))
        for u, s in enumerate(data.parts):
            images = data.image[s]
            spread = sds[images, None] * self.xc[s]
            rest[u] = self.c[u] + spread.T @ spread
            carry[u] = self.xc[s].T @ self.scaled[images]
        for g, member in enumerate(data.groups.T):
            carry[:, :, g * data.x.shape[1] : (g + 1) * data.x.shape[1]] -= member[:, None, None] * self.learnt
        return Moments(z[:size].copy(), z[size:], own, residuals, shared, effects, rest, carry)


def approximate_solution(
    problem: Problem, prior: Prior, sharpen: bool = True, tolerance: float = TOLERANCE
) -> Solution:
    """Everybody's posterior, as `solve_prior` gives it, with the approximation this module is about.

    The likelihood is not computed (NaN).
    """
    data = Stacked(problem)
    system = System(data, prior)
    return as_solution(data, system.moments(system.solve(tolerance=tolerance), sharpen))


def as_solution(data: Stacked, m: Moments) -> Solution:
    """The moments in the form of the exact solution."""
    shared = m.shared.copy()
    shared[0] += data.level
    coefficients = data.groups @ shared.reshape(data.groups.shape[1], -1) + m.own
    own = tuple(Belief(b, (c + c.T) / 2) for b, c in zip(coefficients, m.own_covariances(data.groups), strict=True))
    return Solution(float("nan"), Belief(shared, m.shared_covariance), m.effects, m.effect_variances, own)
