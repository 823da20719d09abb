"""Empirical-Bayes random slopes: everybody has an own linear taste, drawn round the population's.

The model is in `beholder.taste.eb_likelihood`. Choices, each made by held-out prediction on simulated people:

* One prior variance a block of the design, not a full covariance: with 50 people and 40 ratings each, 128 columns have
  8,256 covariances and 2,000 ratings to learn them from. The variances maximise the restricted likelihood, so nothing
  is tuned by hand or on validation data.
* An image effect: without it many ratings of few images look like strong evidence about the shared slopes.
* Shared and own slopes are estimated together. A column with the population head's own value, so that people may weigh
  the consensus, was tried with in-sample and with cross-fitted values: correlation with the true utility .50-.55
  without it, .48-.53 and .43-.54 with it (50 people, 30 or 45 ratings); it helped (.58 to .60) only with 140 ratings a
  person. It is left out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
from scipy.optimize import minimize

from beholder.errors import EstimateError
from beholder.taste.base import Floats, Indices, Ratings, Strings
from beholder.taste.eb_kernel import restricted_likelihood
from beholder.taste.eb_likelihood import Problem, Variances, own_covariance, solve
from beholder.taste.features import Design
from beholder.taste.linear import Belief, LinearTaste, with_intercept
from beholder.taste.people import People
from beholder.taste.population import user_offsets
from beholder.taste.splits import group_folds

SMALLEST, LARGEST = 1e-6, 1e2
"""Bounds of each component, as shares of the ratings' variance: at the lower one it is as good as 0."""


@dataclass(frozen=True)
class EBSlopes:
    """B6: empirical-Bayes random slopes.

    Attributes
    ----------
    variances : Variances, optional
        Taken as given; estimated if None.
    iterations : int
        Most steps of the optimiser; not converging raises.
    most_images : int
        Variances are estimated on a random subset of at most this many images (cost grows with its cube); the
        posterior always uses all ratings.
    """

    variances: Variances | None = None
    iterations: int = 200
    most_images: int = 400

    name: ClassVar[str] = "eb_slopes"

    def fit(
        self, ratings: Ratings, design: Design, rng: np.random.Generator, people: People | None = None
    ) -> LinearTaste:
        """Estimate the variances and everybody's posterior.

        Raises
        ------
        EstimateError
            With fewer than two users, or if the optimiser does not converge.
        """
        rows = design.rows(ratings.image_id)
        variances = self.variances
        if variances is None:
            part = _some_images(ratings, self.most_images, rng)
            variances = estimate_variances(_problem(ratings.take(part), rows[part], design)[0], self.iterations)
        problem, users, images = _problem(ratings, rows, design)
        solution = solve(problem, variances)
        settings = {
            "variances": asdict(variances),
            "log_likelihood": float(solution.log_likelihood),
            "shares": shares(problem, variances),
        }
        newcomer = solution.shared.covariance + own_covariance(problem, variances)
        spare = spare_variance(ratings, rows, design, variances, rng)
        return LinearTaste(
            self.name,
            users,
            np.stack([b.mean for b in solution.own]),
            np.stack([b.covariance for b in solution.own]),
            solution.shared,
            Belief(solution.shared.mean, newcomer),
            float(np.sqrt(variances.noise)),
            float(np.sqrt(variances.image)),
            float(np.sqrt(spare)),
            images,
            solution.image_effects,
            solution.image_variances,
            settings,
            (*design.block_names, "user"),
        )


def estimate_variances(problem: Problem, iterations: int = 200) -> Variances:
    """Restricted maximum likelihood of all variance components, on the log scale by L-BFGS.

    Raises
    ------
    EstimateError
        With fewer than two users, constant ratings, or no convergence.
    """
    if len(problem.scores) < 2:
        raise EstimateError(f"{len(problem.scores)} user", "at least 2", "personal taste needs people to compare")
    scores = np.concatenate(list(problem.scores))
    total = float(scores.var())
    if total == 0:
        raise EstimateError("all ratings are equal", "ratings that differ")
    start = np.log(_start(problem, scores).vector())
    centre = Problem(
        problem.rows,
        [s - scores.mean() for s in problem.scores],  # beta is flat: shifting changes nothing but rounding
        problem.images,
        problem.n_images,
        problem.blocks,
    )

    def objective(log_variances: Floats) -> tuple[float, Floats]:
        value, gradient = restricted_likelihood(centre, Variances.from_vector(np.exp(log_variances)))
        return -value, -gradient

    scale = _feature_variances(problem)
    unit = total / np.r_[np.ones(3), scale, scale]
    bounds = list(zip(np.log(unit * SMALLEST), np.log(unit * LARGEST), strict=True))
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds,
                     options={"maxiter": iterations, "ftol": 1e-8, "gtol": 1e-3})  # fmt: skip
    if not found.success:
        raise EstimateError(f"variances did not converge: {found.message}", remedy="raise iterations, or fewer columns")
    return Variances.from_vector(np.exp(found.x))


def spare_variance(
    ratings: Ratings, rows: Floats, design: Design, v: Variances, rng: np.random.Generator, n_folds: int = 3
) -> float:
    """By how much ratings of prompts left out scatter more than the model says, in squared ticks; 0 at least.

    Images of one prompt share more than the design knows of, which the likelihood of the training prompts takes for
    certainty. The means are not touched: an effect of prompts in the model, shared and own, makes the SDs honest too,
    but takes from the slopes what prompts differ in (accuracy .617 in place of .629 with 32 prompts to learn from).
    """
    folds = group_folds(ratings.prompt_id, min(n_folds, len(np.unique(ratings.prompt_id))), rng)
    excess = []
    for fold in range(int(folds.max()) + 1):
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        problem, users, _ = _problem(ratings.take(train), rows[train], design)
        beliefs = dict(zip(users.tolist(), solve(problem, v).own, strict=True))
        for user in np.intersect1d(users, ratings.user_id[test]).tolist():
            mine = test[ratings.user_id[test] == user]
            x, belief = with_intercept(rows[mine]), beliefs[user]
            expected = np.einsum("np,pq,nq->n", x, belief.covariance, x) + v.image + v.noise
            excess.append((ratings.score[mine] - x @ belief.mean) ** 2 - expected)
    return max(0.0, float(np.mean(np.concatenate(excess)))) if excess else 0.0


def shares(problem: Problem, v: Variances) -> dict[str, float]:
    """Share of the ratings' variance that each part explains, over the rated images."""
    scale = _feature_variances(problem)
    parts = {
        "user": v.user,
        "shared": float(np.dot(v.shared, scale)),
        "image": v.image,
        "own": float(np.dot(v.own, scale)),
        "noise": v.noise,
    }
    total = sum(parts.values())
    return {name: part / total for name, part in parts.items()}


def _start(problem: Problem, scores: Floats) -> Variances:
    """Half noise, a quarter shared, a fifth own, of the variance within users."""
    who = np.repeat(np.arange(len(problem.scores)), [len(s) for s in problem.scores])
    offsets = user_offsets(scores, who, len(problem.scores))
    within, scale = offsets.within, _feature_variances(problem) * len(problem.blocks)
    own, shared = 0.2 * within / scale, 0.15 * within / scale
    user = max(offsets.between, 0.01 * within)
    return Variances(0.5 * within, user, 0.1 * within, tuple(shared.tolist()), tuple(own.tolist()))


def _feature_variances(problem: Problem) -> Floats:
    """Total variance of each block's columns over the ratings."""
    rows = np.concatenate(list(problem.rows))
    return np.array([rows[:, block].var(axis=0).sum() for block in problem.blocks])


def _some_images(ratings: Ratings, most: int, rng: np.random.Generator) -> Indices:
    """Positions of the ratings of at most `most` images."""
    images = ratings.images()
    if len(images) <= most:
        return np.arange(len(ratings))
    return np.flatnonzero(np.isin(ratings.image_id, rng.choice(images, most, replace=False)))


def _problem(ratings: Ratings, rows: Floats, design: Design) -> tuple[Problem, Strings, Strings]:
    """Ratings grouped by user, with the sorted users and images."""
    users, who = np.unique(ratings.user_id, return_inverse=True)
    images, which = np.unique(ratings.image_id, return_inverse=True)
    positions = [np.flatnonzero(who == u) for u in range(len(users))]
    problem = Problem(
        [rows[i] for i in positions],
        [ratings.score[i] for i in positions],
        [which[i] for i in positions],
        len(images),
        design.slices(),
    )
    return problem, users, images
