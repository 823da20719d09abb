"""LoRe: a basis of a few linear rewards, and simplex weights on it for each person.

After Bose et al. (2025), arXiv:2504.14439, who fit it to choices; here to ratings, with a level for each user. Tastes
and weights take turns: ridge regression for the basis, with a penalty from its own size, and constrained least squares
for the weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from scipy.cluster.vq import kmeans2

from beholder.errors import EstimateError, UserError
from beholder.taste.base import Floats, Ratings
from beholder.taste.features import Design
from beholder.taste.people import People
from beholder.taste.population import user_offsets
from beholder.taste.simplex_taste import SimplexTaste, simplex_minimum


@dataclass(frozen=True, eq=False)
class WithinUser:
    """Sums of squares and products of ratings and design, less each user's means. p columns.

    Attributes
    ----------
    grams : array, shape (U, p, p)
    moments : array, shape (U, p)
    squares, counts : arrays, shape (U,)
    means, mean_rows : arrays, shapes (U,) and (U, p)
    """

    grams: Floats
    moments: Floats
    squares: Floats
    counts: Floats
    means: Floats
    mean_rows: Floats

    @classmethod
    def of(cls, ratings: Ratings, rows: Floats) -> WithinUser:
        """The sums, users in the order of `Ratings.users()`.

        Raises
        ------
        EstimateError
            With fewer than two users, or nobody who rated twice.
        """
        users, who = np.unique(ratings.user_id, return_inverse=True)
        if len(users) < 2 or len(ratings) <= len(users):
            raise EstimateError(
                f"{len(ratings)} ratings of {len(users)} users", "2 users or more, and repeats within users"
            )
        parts = []
        for u in range(len(users)):
            x, y = rows[who == u], ratings.score[who == u]
            dx, dy = x - x.mean(axis=0), y - y.mean()
            parts.append((dx.T @ dx, dx.T @ dy, dy @ dy, float(len(y)), y.mean(), x.mean(axis=0)))
        return cls(*(np.array([part[k] for part in parts]) for k in range(6)))

    def ridges(self, penalty: float) -> Floats:
        """Each user's ridge coefficients, drawn to those of all users together, shape (U, p)."""
        eye = penalty * np.eye(self.grams.shape[1])
        common = np.linalg.solve(self.grams.sum(axis=0) + eye, self.moments.sum(axis=0))
        left = self.moments - np.einsum("upq,q->up", self.grams, common)
        return np.asarray(common + np.linalg.solve(self.grams + eye, left[..., None])[..., 0])


@dataclass(frozen=True)
class LoRe:
    """A reward basis with simplex weights.

    Attributes
    ----------
    tastes : int
        B, rewards in the basis.
    rounds : int
        Turns of basis and weights, at most; they end where the error falls by less than 1e-6 of itself.
    """

    tastes: int = 6
    rounds: int = 200

    name: ClassVar[str] = "lore"

    def fit(
        self, ratings: Ratings, design: Design, rng: np.random.Generator, people: People | None = None
    ) -> SimplexTaste:
        """Fit basis and weights; `rng` draws the first clusters of users, `people` is not used.

        Raises
        ------
        UserError
            For fewer than two tastes.
        EstimateError
            With fewer users than tastes, or ratings that do not vary.
        """
        if self.tastes < 2:
            raise UserError(f"tastes={self.tastes}", "2 or more")
        rows = design.rows(ratings.image_id)
        sums = WithinUser.of(ratings, rows)
        if len(sums.counts) < self.tastes:
            raise EstimateError(f"{self.tastes} tastes of {len(sums.counts)} users", remedy="fewer tastes")
        if sums.squares.sum() <= 0:
            raise EstimateError("users' ratings do not vary", "ratings that differ", "leave the model out")
        basis, weights = first_tastes(sums, self.tastes, rng)
        basis, weights, noise, turns = alternate(sums, basis, weights, self.rounds)
        settings = {"tastes": self.tastes, "turns": turns}
        metric = np.zeros((0, rows.shape[1]))
        return assemble(self.name, ratings, design, basis, metric, weights, noise, settings)


def first_tastes(sums: WithinUser, tastes: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Centres of clusters of users' ridge coefficients, shape (p, B), and weights mostly on the own cluster's."""
    noise = float(sums.squares.sum() / sums.counts.sum())
    scale = float(np.trace(sums.grams.sum(axis=0)) / sums.counts.sum())
    ridges = sums.ridges(noise / (0.2 * noise / scale))
    centres, label = kmeans2(ridges, tastes, minit="++", rng=rng)
    weights = np.full((len(ridges), tastes), 0.3 / tastes)
    weights[np.arange(len(ridges)), label] += 0.7
    return centres.T, weights


def alternate(sums: WithinUser, basis: Floats, weights: Floats, rounds: int) -> tuple[Floats, Floats, float, int]:
    """Turns of basis and weights until the error stands still: basis, weights, noise variance, turns."""
    p, tastes = basis.shape
    error, noise = np.inf, float(sums.squares.sum() / sums.counts.sum())
    left = max(sums.counts.sum() - len(weights) * tastes - p * tastes, 0.1 * sums.counts.sum())
    for turn in range(1, rounds + 1):
        hessians = np.einsum("pk,upq,ql->ukl", basis, sums.grams, basis, optimize=True)
        weights = simplex_minimum(hessians, sums.moments @ basis, weights, 60)
        pairs = (weights[:, :, None] * weights[:, None, :]).reshape(len(weights), -1)
        blocks = (pairs.T @ sums.grams.reshape(len(weights), -1)).reshape(tastes, tastes, p, p)
        normal = blocks.transpose(0, 2, 1, 3).reshape(tastes * p, tastes * p)
        penalty = noise / max(float(np.mean(basis**2)), 1e-12)
        moment = (weights.T @ sums.moments).ravel()
        solved = np.linalg.solve(normal + penalty * np.eye(tastes * p), moment)
        basis = np.asarray(solved, dtype=np.float64).reshape(tastes, p).T
        own = weights @ basis.T
        fitted = np.einsum("up,upq,uq->", own, sums.grams, own, optimize=True)
        new = float(sums.squares.sum() - 2 * np.sum(own * sums.moments) + fitted)
        noise = max(new / left, 1e-9)
        if error - new < 1e-6 * new and turn > 5:
            return basis, weights, noise, turn
        error = new
    return basis, weights, noise, rounds


def assemble(
    name: str,
    ratings: Ratings,
    design: Design,
    basis: Floats,
    metric: Floats,
    weights: Floats,
    noise: float,
    settings: dict[str, int],
) -> SimplexTaste:
    """A model whose users are newcomers adapted to all their training ratings."""
    tastes = basis.shape[1]
    covariance = np.cov(weights.T) + 1e-4 * (np.eye(tastes) - 1.0 / tastes)
    empty = SimplexTaste(
        name,
        np.empty(0, dtype="<U1"),
        np.empty(0),
        np.empty((0, tastes)),
        np.empty((0, tastes + 1, tastes + 1)),
        basis,
        metric,
        0.0,
        0.0,
        weights.mean(axis=0),
        covariance,
        float(np.sqrt(noise)),
        (*design.block_names, "user"),
        settings,
    )
    users, who = np.unique(ratings.user_id, return_inverse=True)
    matrix = design.rows(ratings.image_id)
    fitted = np.einsum("np,np->n", matrix, (weights @ basis.T)[who]) + empty._common(matrix)
    offsets = user_offsets(ratings.score - fitted, who, len(users))
    spread = max(offsets.between, 1e-6 * noise)
    return replace(empty, level=offsets.grand, level_variance=spread).adapt(ratings, design)
