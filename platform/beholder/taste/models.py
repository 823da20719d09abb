"""The baselines every report needs: constant, user mean, population, population with user bias, per-user ridge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from beholder.errors import EstimateError
from beholder.taste.base import Floats, Ratings
from beholder.taste.features import Design
from beholder.taste.linear import Belief, LinearTaste
from beholder.taste.people import People
from beholder.taste.population import fit_head, user_offsets
from beholder.taste.splits import group_folds


def _still(mean: Floats) -> Belief:
    """A belief without doubt."""
    return Belief(mean, np.zeros((len(mean), len(mean))))


def _free_intercept(mean: Floats, variance: float) -> Belief:
    """A belief in which only the user's level is open."""
    covariance = np.zeros((len(mean), len(mean)))
    covariance[0, 0] = variance
    return Belief(mean, covariance)


def _assemble(
    name: str,
    ratings: Ratings,
    design: Design,
    population: Belief,
    newcomer: Belief,
    noise_sd: float,
    settings: Mapping[str, Any],
    inputs: tuple[str, ...],
) -> LinearTaste:
    """A model whose known users are newcomers adapted to all their training ratings."""
    q = len(population.mean)
    empty = LinearTaste(
        name,
        np.empty(0, dtype="<U1"),
        np.empty((0, q)),
        np.empty((0, q, q)),
        population,
        newcomer,
        noise_sd,
        settings=settings,
        inputs=inputs,
    )
    return empty.adapt(ratings, design)


@dataclass(frozen=True)
class Constant:
    """B0: the grand mean for everybody and everything."""

    name: ClassVar[str] = "constant"

    def fit(
        self, ratings: Ratings, design: Design, rng: np.random.Generator, people: People | None = None
    ) -> LinearTaste:
        """Learn the mean of all ratings; `rng` and `people` are not used."""
        mean = np.r_[ratings.score.mean(), np.zeros(design.matrix.shape[1])]
        noise = float(ratings.score.std())
        return _assemble(self.name, ratings, design, _still(mean), _still(mean), noise, {}, ())


@dataclass(frozen=True)
class UserMean:
    """B1: each user's shrunken mean, whatever the image: pairwise accuracy one half."""

    name: ClassVar[str] = "user_mean"

    def fit(
        self, ratings: Ratings, design: Design, rng: np.random.Generator, people: People | None = None
    ) -> LinearTaste:
        """Learn the users' levels; `rng` and `people` are not used."""
        users, who = np.unique(ratings.user_id, return_inverse=True)
        offsets = user_offsets(ratings.score, who, len(users))
        mean = np.r_[offsets.grand, np.zeros(design.matrix.shape[1])]
        newcomer = _free_intercept(mean, offsets.between)
        noise = float(np.sqrt(offsets.within))
        return _assemble(self.name, ratings, design, _still(mean), newcomer, noise, {}, ("user",))


@dataclass(frozen=True)
class Population:
    """B3: the population head; everybody likes the same. With `bias` (B4) users differ in level only."""

    bias: bool = False

    @property
    def name(self) -> str:
        """`population`, or `population_bias`."""
        return "population_bias" if self.bias else "population"

    def fit(
        self, ratings: Ratings, design: Design, rng: np.random.Generator, people: People | None = None
    ) -> LinearTaste:
        """Fit the head; `rng` draws the folds in which the penalty is chosen."""
        head = fit_head(ratings, design, rng)
        offsets = head.offsets
        if self.bias:
            newcomer, noise = _free_intercept(head.belief.mean, offsets.between), np.sqrt(offsets.within)
        else:
            newcomer, noise = _still(head.belief.mean), np.sqrt(offsets.within + offsets.between)
        settings = {"penalty": head.penalty, "penalty_at_edge": head.at_edge}
        inputs = (*design.block_names, *(("user",) if self.bias else ()))
        return _assemble(self.name, ratings, design, head.belief, newcomer, float(noise), settings, inputs)


@dataclass(frozen=True)
class UserRidge:
    """B5: the population head plus a ridge on each user's own residuals, one penalty for all users.

    The penalty is chosen by the ratings of prompts left out of both the head and the users' ridges.
    """

    ratios: tuple[float, ...] = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)
    """Penalties tried: noise variance over slope variance."""

    name: ClassVar[str] = "user_ridge"

    def fit(
        self, ratings: Ratings, design: Design, rng: np.random.Generator, people: People | None = None
    ) -> LinearTaste:
        """Fit head and penalty; `rng` draws the folds."""
        head = fit_head(ratings, design, rng)
        noise = head.offsets.within
        best = self._choose(ratings, design, head.crossfitted, head.offsets.between, noise, rng)
        covariance = self._covariance(design.matrix.shape[1], head.offsets.between, noise, best)
        newcomer = Belief(head.belief.mean, covariance)
        inputs = (*design.block_names, "user")
        settings = {"penalty": head.penalty, "ratio": best, "ratio_at_edge": best in (self.ratios[0], self.ratios[-1])}
        return _assemble(self.name, ratings, design, head.belief, newcomer, float(np.sqrt(noise)), settings, inputs)

    def _choose(
        self, ratings: Ratings, design: Design, m: Floats, between: float, noise: float, rng: np.random.Generator
    ) -> float:
        if noise <= 0:
            raise EstimateError("users' ratings do not vary", "ratings that differ", "leave the model out")
        rows, residual = design.rows(ratings.image_id), ratings.score - m
        folds = group_folds(ratings.prompt_id, min(5, len(np.unique(ratings.prompt_id))), rng)
        errors = np.zeros(len(self.ratios))
        for user in ratings.users():
            mine = np.flatnonzero(ratings.user_id == user)
            kernel = between + noise / np.array(self.ratios)[:, None, None] * (rows[mine] @ rows[mine].T)
            for fold in np.unique(folds[mine]):
                out = folds[mine] == fold
                marginal = kernel[:, ~out][:, :, ~out] + noise * np.eye(int(np.sum(~out)))
                weights = np.linalg.solve(marginal, residual[mine][~out][None, :, None])[..., 0]
                predicted = np.einsum("kot,kt->ko", kernel[:, out][:, :, ~out], weights)
                errors += np.sum((residual[mine][out] - predicted) ** 2, axis=1)
        return self.ratios[int(np.argmin(errors))]

    @staticmethod
    def _covariance(p: int, between: float, noise: float, ratio: float) -> Floats:
        return np.diag(np.r_[between, np.full(p, noise / ratio)])
