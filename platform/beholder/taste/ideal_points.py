"""Ideal points: a person likes an image the more, the nearer it is to a point of their own.

After PAL, Chen et al. (2024), arXiv:2406.08469: images lie at A phi, with a metric A that all people share; a person's
ideal point is a mixture of K prototypes, p_u = P w_u with w_u on the simplex, and the expected rating falls with the
squared distance:

    y_ui = level_u - |A phi_i - p_u|^2 + e_ui = b_u - |A phi_i|^2 + 2 p_u' A phi_i + e_ui

so between people only a linear term differs, and the shared one is a bowl. The parameters maximise the likelihood, with
a weak Gaussian prior on A and P, by L-BFGS over A, P and the logarithms of the weights; levels are profiled out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.optimize import minimize

from beholder.errors import EstimateError, UserError
from beholder.taste.base import Floats, Indices, Ratings
from beholder.taste.features import Design
from beholder.taste.lore import WithinUser, assemble, first_tastes
from beholder.taste.people import People
from beholder.taste.simplex_taste import SimplexTaste


@dataclass(frozen=True)
class IdealPoints:
    """Ideal points that are mixtures of prototypes.

    Attributes
    ----------
    prototypes : int
        K.
    dimensions : int
        Rows of A: how many directions of the design distance is measured in.
    iterations : int
        Most steps of the optimiser; it is stopped there, for the fit is good long before it stands still.
    penalty : float
        Prior precision of each entry of A and P, scores having SD 1 within users.
    """

    prototypes: int = 6
    dimensions: int = 8
    iterations: int = 300
    penalty: float = 1.0

    name: ClassVar[str] = "ideal_points"

    def fit(
        self, ratings: Ratings, design: Design, rng: np.random.Generator, people: People | None = None
    ) -> SimplexTaste:
        """Fit metric, prototypes and weights; `rng` draws the first clusters of users, `people` is not used.

        Raises
        ------
        UserError
            For fewer than two prototypes or one dimension.
        EstimateError
            With fewer users than prototypes, or ratings that do not vary.
        """
        if self.prototypes < 2 or self.dimensions < 1:
            raise UserError(f"{self.prototypes} prototypes in {self.dimensions} dimensions", "2 or more in 1 or more")
        rows = design.rows(ratings.image_id)
        sums = WithinUser.of(ratings, rows)
        if len(sums.counts) < self.prototypes:
            raise EstimateError(f"{self.prototypes} prototypes of {len(sums.counts)} users", remedy="fewer prototypes")
        scale = float(np.sqrt(sums.squares.sum() / (sums.counts.sum() - len(sums.counts))))
        if scale <= 0:
            raise EstimateError("users' ratings do not vary", "ratings that differ", "leave the model out")
        users, who = np.unique(ratings.user_id, return_inverse=True)
        order = np.argsort(who, kind="stable")
        problem = _Distances(rows[order], (ratings.score - sums.means[who])[order] / scale, who[order],
                             self._shape(len(users), rows.shape[1]), self.penalty)  # fmt: skip
        found = minimize(problem.loss, self._start(sums, scale, rng), jac=True, method="L-BFGS-B",
                         options={"maxiter": self.iterations, "maxcor": 20})  # fmt: skip
        metric, points, weights = problem.split(found.x)
        n = sums.counts.sum()
        free = n - len(users) * self.prototypes - metric.size - points.size
        residuals = problem.residuals(metric, points, weights)[0]
        noise = max(scale**2 * float(residuals @ residuals) / max(free, 0.1 * n), 1e-9)
        basis = scale * 2 * metric.T @ points
        settings = {"prototypes": self.prototypes, "dimensions": len(metric), "steps": int(found.nit)}
        return assemble(self.name, ratings, design, basis, np.sqrt(scale) * metric, weights, noise, settings)

    def _shape(self, users: int, columns: int) -> tuple[int, int, int, int]:
        return min(self.dimensions, columns), columns, self.prototypes, users

    def _start(self, sums: WithinUser, scale: float, rng: np.random.Generator) -> Floats:
        """Leading directions of users' ridge coefficients as metric, clusters' centres as prototypes."""
        tastes, weights = first_tastes(sums, self.prototypes, rng)
        own = sums.ridges(5.0 * float(np.trace(sums.grams.sum(axis=0)) / sums.counts.sum())) / scale
        _, sizes, axes = np.linalg.svd(own, full_matrices=True)
        m = min(self.dimensions, own.shape[1])
        sizes = np.r_[sizes, np.zeros(max(0, m - len(sizes)))]
        metric = axes[:m] * np.sqrt(0.25 * sizes[:m, None] / np.sqrt(len(own)) + 0.01)
        points = np.linalg.lstsq(2 * metric.T, tastes / scale, rcond=None)[0]
        return np.concatenate([metric.ravel(), points.ravel(), np.log(weights).ravel()])


class _Distances:
    """The penalised sum of squares of ratings, less users' means, round squared distances; ratings sorted by user."""

    def __init__(
        self, rows: Floats, scores: Floats, who: Indices, shape: tuple[int, int, int, int], penalty: float
    ) -> None:
        self.rows, self.scores, self.who, self.shape, self.penalty = rows, scores, who, shape, penalty
        self.counts = np.bincount(who, minlength=shape[3])
        self.starts = np.r_[0, np.cumsum(self.counts)[:-1]]

    def split(self, x: Floats) -> tuple[Floats, Floats, Floats]:
        """A, shape (m, p), P, shape (m, K), and weights, shape (U, K)."""
        m, p, k, users = self.shape
        logits = x[m * (p + k) :].reshape(users, k)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return x[: m * p].reshape(m, p), x[m * p : m * (p + k)].reshape(m, k), weights / weights.sum(1, keepdims=True)

    def residuals(self, metric: Floats, points: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
        """Residuals, images' places and their users' ideal points, rating by rating."""
        places = self.rows @ metric.T
        ideal = (weights @ points.T)[self.who]
        value = np.einsum("nm,nm->n", places, 2 * ideal - places)
        means = np.add.reduceat(value, self.starts) / self.counts
        return self.scores - (value - means[self.who]), places, ideal

    def loss(self, x: Floats) -> tuple[float, Floats]:
        """Half the penalised sum of squares, and its gradient."""
        metric, points, weights = self.split(x)
        error, places, ideal = self.residuals(metric, points, weights)
        by_place = -2.0 * error[:, None] * (ideal - places)
        by_ideal = np.add.reduceat(-2.0 * error[:, None] * places, self.starts)
        by_weight = by_ideal @ points
        by_logit = weights * (by_weight - np.sum(weights * by_weight, axis=1, keepdims=True))
        gradient = np.concatenate([
            (by_place.T @ self.rows + self.penalty * metric).ravel(),
            (by_ideal.T @ weights + self.penalty * points).ravel(),
            by_logit.ravel(),
        ])  # fmt: skip
        shrink = self.penalty * (np.sum(metric**2) + np.sum(points**2))
        return 0.5 * (float(error @ error) + float(shrink)), gradient
