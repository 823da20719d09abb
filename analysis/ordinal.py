"""Cumulative logit model of ordered answers with crossed random intercepts, by Laplace's approximation.

P(answer <= k) = logistic(theta_k - eta), eta = x'beta + u_user + w_image, u and w normal (McCullagh 1980; with random
effects Tutz & Hennevogl 1996, doi:10.1016/0167-9473(96)00004-7). The integral over u and w is approximated at their
joint mode; the larger of the two blocks of its Hessian is diagonal and is eliminated, so that 75,000 ratings of 200
users cost seconds. Maximum likelihood, not restricted.

Assumes proportional odds: a factor moves all thresholds alike, and users differ by a shift only. Laplace's spreads are
a little too small when a user or image has only a handful of answers. Wrong when users reach for different marks of
the slider (thresholds of their own), which a shift cannot say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit

from analysis.clusters import Floats, Ints
from analysis.errors import EstimateError

MAX_STEPS = 100
INNER = 1e-10
"""Largest change of a mode at which Newton's steps end."""

GRADIENT = 1e-6
"""Slope of the log likelihood per answer at which the outer search ends."""

FAR = 40.0
"""Stands for an infinite threshold: logistic(-40) is 4e-18."""

SMALLEST_SD = 1e-3
"""Spreads below count as this: the likelihood is flat there."""


@dataclass(frozen=True)
class OrdinalFit:
    """Maximum of the likelihood.

    Attributes
    ----------
    thresholds : Floats, shape (K - 1,)
    coefficients, se : Floats, shape (p,)
        On the logit; a positive one makes higher answers likelier. Errors from the curvature in all parameters.
    sds : Floats, shape (groups,)
        Spread of each random intercept.
    log_likelihood : float
    converged : bool
    n : int
    """

    thresholds: Floats
    coefficients: Floats
    se: Floats
    sds: Floats
    log_likelihood: float
    converged: bool
    n: int


class _Likelihood:
    """Laplace's log likelihood of one data set; remembers the last mode as the next start."""

    def __init__(self, answer: Ints, groups: Sequence[Ints], design: Floats) -> None:
        # the group with more levels comes last: its block is eliminated
        self.order = sorted(range(len(groups)), key=lambda g: int(groups[g].max()))
        self.groups = [groups[g] for g in self.order]
        self.sizes = [int(g.max()) + 1 for g in self.groups]
        self.answer, self.design = answer, design
        self.n_thresholds = int(answer.max())
        self.mode = [np.zeros(size) for size in self.sizes]
        if len(groups) == 2:  # where the users x images table is filled, row by row, as compressed sparse rows ask for
            key, self._cell = np.unique(self.groups[0] * self.sizes[1] + self.groups[1], return_inverse=True)
            self._columns = key % self.sizes[1]
            self._starts = np.searchsorted(key, self.sizes[1] * np.arange(self.sizes[0] + 1))

    def split(self, parameters: Floats) -> tuple[Floats, Floats, Floats]:
        """Thresholds, coefficients and spreads (in the order of `groups` as given) from the free parameters."""
        k, p = self.n_thresholds, self.design.shape[1]
        thresholds = np.cumsum(np.concatenate([parameters[:1], np.exp(parameters[1:k])]))
        return thresholds, parameters[k : k + p], np.maximum(np.exp(parameters[k + p :]), SMALLEST_SD)

    def __call__(self, parameters: Floats) -> float:
        thresholds, beta, spread = self.split(parameters)
        ends = np.concatenate([[-FAR], thresholds, [FAR]])
        low, high = ends[self.answer], ends[self.answer + 1]
        fixed = self.design @ beta if len(beta) else np.zeros(len(self.answer))
        sds = [float(spread[g]) for g in self.order]
        mode = [v.copy() for v in self.mode]
        value = self._penalised(low, high, fixed, mode, sds)
        for _ in range(MAX_STEPS):
            step, _ = self._newton(low, high, fixed, mode, sds)
            size = 1.0
            while True:  # the penalised likelihood is concave: halving always ends
                tried = [v + size * s for v, s in zip(mode, step, strict=True)]
                found = self._penalised(low, high, fixed, tried, sds)
                if found >= value - 1e-12 * abs(value) or size < 1e-8:
                    break
                size /= 2
            mode, value = tried, found
            if size * max(float(np.abs(s).max()) for s in step) < INNER:
                break
        self.mode = mode
        return value - 0.5 * self._newton(low, high, fixed, mode, sds)[1]

    def _eta(self, fixed: Floats, mode: list[Floats], sds: list[float]) -> Floats:
        eta = fixed
        for group, v, sd in zip(self.groups, mode, sds, strict=True):
            eta = eta + sd * v[group]
        return eta

    def _penalised(self, low: Floats, high: Floats, fixed: Floats, mode: list[Floats], sds: list[float]) -> float:
        eta = self._eta(fixed, mode, sds)
        a, b = high - eta, low - eta
        # F(a) - F(b) = F(a) F(-b) (1 - exp(b - a)): exact for far thresholds too
        log_p = -np.logaddexp(0, -a) - np.logaddexp(0, b) + np.log(-np.expm1(b - a))
        return float(log_p.sum()) - 0.5 * sum(float(v @ v) for v in mode)

    def _newton(
        self, low: Floats, high: Floats, fixed: Floats, mode: list[Floats], sds: list[float]
    ) -> tuple[list[Floats], float]:
        """Step to the mode, and the log determinant of the negative Hessian."""
        eta = self._eta(fixed, mode, sds)
        above, below = expit(high - eta), expit(low - eta)
        score, weight = above + below - 1, above * (1 - above) + below * (1 - below)
        parts = list(zip(self.groups, mode, sds, self.sizes, strict=True))
        gradient = [sd * np.bincount(group, score, size) - v for group, v, sd, size in parts]
        diagonal = [1 + sd * sd * np.bincount(group, weight, size) for group, _, sd, size in parts]
        if len(parts) == 1:
            return [gradient[0] / diagonal[0]], float(np.log(diagonal[0]).sum())
        cross = self._cross(weight, sds)
        reduced = -(cross.multiply(1 / diagonal[1]) @ cross.T).toarray()
        reduced[np.diag_indices_from(reduced)] += diagonal[0]
        root = cho_factor(reduced, lower=True)
        right = gradient[0] - cross @ (gradient[1] / diagonal[1])
        first = cho_solve(root, right)
        second = (gradient[1] - cross.T @ first) / diagonal[1]
        return [first, second], float(np.log(diagonal[1]).sum() + 2 * np.log(np.diag(root[0])).sum())

    def _cross(self, weight: Floats, sds: list[float]) -> Any:
        from scipy.sparse import csr_array

        filled = sds[0] * sds[1] * np.bincount(self._cell, weight)
        return csr_array((filled, self._columns, self._starts), shape=(self.sizes[0], self.sizes[1]))


def fit_ordinal(answer: npt.ArrayLike, groups: Sequence[Ints], design: npt.ArrayLike | None = None) -> OrdinalFit:
    """Fit the model.

    Parameters
    ----------
    answer : array_like, shape (n,)
        Codes 0 … K-1, every one in use.
    groups : sequence of one or two Ints, shape (n,)
        Codes 0 … G-1 of users and images.
    design : array_like, shape (n, p), optional
        Columns that move the answers, without intercept.

    Raises
    ------
    EstimateError
        Fewer than two answers in use, more than two groups, no convergence.
    """
    from scipy.optimize import minimize

    y = np.asarray(answer, dtype=np.int64)
    x = np.zeros((len(y), 0)) if design is None else np.asarray(design, dtype=np.float64)
    used = np.bincount(y) if len(y) else np.zeros(0)
    if len(used) < 2 or (used == 0).any() or not 1 <= len(groups) <= 2:
        raise EstimateError(
            f"answers {sorted(set(y.tolist()))}, {len(groups)} groups", "two answers or more, all in use; 1 or 2 groups"
        )
    likelihood = _Likelihood(y, groups, x)
    share = np.cumsum(used)[:-1] / len(y)
    cuts = np.log(share / (1 - share))
    start = np.concatenate([cuts[:1], np.log(np.diff(cuts)), np.zeros(x.shape[1]), np.zeros(len(groups))])
    found = minimize(lambda at: -likelihood(at) / len(y), start, method="BFGS", options={"gtol": GRADIENT})
    at = found.x
    log_likelihood = likelihood(at)
    slope = float(np.abs(found.jac).max())
    converged = bool(found.success or slope < 10 * GRADIENT)  # finite differences may end in rounding
    if not converged:
        raise EstimateError("the ordinal model did not converge", remedy="use fewer answers, or drop a factor")
    thresholds, beta, spread = likelihood.split(at)
    return OrdinalFit(thresholds, beta, _errors(likelihood, at, len(beta)), spread, log_likelihood, converged, len(y))


def _errors(likelihood: _Likelihood, at: Floats, n_beta: int) -> Floats:
    """Standard errors of the coefficients from central differences; a spread at its bound is held there."""
    k = likelihood.n_thresholds
    if not n_beta:
        return np.zeros(0)
    floor = math.log(SMALLEST_SD)
    free = [j for j in range(len(at)) if j < k + n_beta or at[j] > floor + 1]
    step = 1e-3 * np.maximum(1.0, np.abs(at))

    def value(*moves: tuple[int, float]) -> float:
        point = at.copy()
        for j, sign in moves:
            point[j] += sign * step[j]
        return likelihood(point)

    hessian = np.empty((len(free), len(free)))
    middle = likelihood(at)
    for a, j in enumerate(free):
        hessian[a, a] = (value((j, 1)) - 2 * middle + value((j, -1))) / step[j] ** 2
        for b, m in enumerate(free[:a]):
            corners = sum(s * t * value((j, s), (m, t)) for s in (1, -1) for t in (1, -1))
            hessian[a, b] = hessian[b, a] = corners / (4 * step[j] * step[m])
    variance = np.diag(np.linalg.inv(-hessian))[[free.index(k + b) for b in range(n_beta)]]
    return np.sqrt(np.where(variance > 0, variance, np.nan))
