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
* Factors, own noise and demographics are options, off by default: `docs/taste.md` says in figures where each helps.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np
from scipy.optimize import minimize

from beholder.errors import EstimateError, UserError
from beholder.taste.base import Floats, Indices, Ratings, Strings
from beholder.taste.eb_groups import Groups
from beholder.taste.eb_kernel import restricted_likelihood
from beholder.taste.eb_large import approximate_solution
from beholder.taste.eb_likelihood import Problem, Solution, Variances, prior_of, solve_prior
from beholder.taste.eb_moments import Estimate, Freedom, NoisePrior, estimate_prior, own_noise_of
from beholder.taste.eb_spare import FOLDS, held_out_prompts, spare_variance, without
from beholder.taste.features import Design
from beholder.taste.linear import Belief, LinearTaste, Told
from beholder.taste.people import People
from beholder.taste.population import user_offsets

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
    exact_images : int
        With more images than this, variances come from posterior moments on `sampled_images` of them, and the
        posterior from `beholder.taste.eb_large`.
    sampled_images : int
    demographics : bool
        Whether people of one group share a taste of their own: newcomers are then known by what they say of
        themselves before they rate.
    factors : int
        Directions in which people differ more than one variance a block says.
    own_noise : bool
        Whether people differ in how much their ratings scatter.
    """

    variances: Variances | None = None
    iterations: int = 200
    most_images: int = 400
    exact_images: int = 1000
    sampled_images: int = 1000
    demographics: bool = False
    factors: int = 0
    own_noise: bool = False

    name: ClassVar[str] = "eb_slopes"

    def fit(
        self, ratings: Ratings, design: Design, rng: np.random.Generator, people: People | None = None
    ) -> LinearTaste:
        """Estimate the variances and everybody's posterior; `people` is looked at for `demographics` only.

        Raises
        ------
        EstimateError
            With fewer than two users, if the optimiser does not converge, or if `demographics` are asked for and
            there are no groups.
        """
        self._check()
        problem, users, images, order = _problem(ratings, design)
        exact = len(images) <= self.exact_images
        groups = None
        if self.demographics:
            known = (People(users) if people is None else people).of(users)
            groups = Groups.learn(known)
            problem = replace(problem, groups=groups.membership(known))
        if self.variances is not None:
            estimate = _as_given(problem, self.variances)
        elif exact and not (groups or self.factors or self.own_noise):
            part = _some_images(ratings, self.most_images, rng)
            estimate = _as_given(problem, estimate_variances(_problem(ratings.take(part), design)[0], self.iterations))
        else:
            estimate = self._from_moments(problem, exact, rng)
        solution = (solve_prior if exact else approximate_solution)(problem, estimate.prior)
        most = len(design.refits) or FOLDS if exact else 1
        prompts = _codes(ratings.prompt_id)[1][order]
        parts = held_out_prompts(problem, images, prompts, design, most, rng)
        spare = spare_variance(parts, estimate.prior, exact)
        return self._taste(design, users, images, problem, estimate, solution, spare, groups)

    def _check(self) -> None:
        if self.variances is not None and (self.demographics or self.factors or self.own_noise):
            raise UserError(
                "variances given together with demographics, factors or own noise", remedy="let them be estimated"
            )
        if self.factors < 0:
            raise UserError(f"factors={self.factors}", "0 or more")

    def _from_moments(self, problem: Problem, exact: bool, rng: np.random.Generator) -> Estimate:
        """Variances by posterior moments: on a part of the images where there are very many."""
        part = problem if exact else with_images(problem, self.sampled_images, rng)
        if len(part.scores) < 2:
            raise EstimateError(f"{len(part.scores)} user", "at least 2", "personal taste needs people to compare")
        scores = np.concatenate(list(part.scores))
        if float(scores.var()) == 0:
            raise EstimateError("all ratings are equal", "ratings that differ")
        freedom = Freedom(self.factors, self.own_noise)
        found = estimate_prior(part, _start(part, scores), freedom, self.iterations)
        if not self.own_noise or part is problem:
            return found
        return replace(found, prior=own_noise_of(problem, found))

    def _taste(
        self,
        design: Design,
        users: Strings,
        images: Strings,
        problem: Problem,
        estimate: Estimate,
        solution: Solution,
        spare: float,
        groups: Groups | None,
    ) -> LinearTaste:
        variances = estimate.variances
        settings: dict[str, Any] = {"variances": asdict(variances), "shares": shares(problem, variances)}
        if np.isfinite(solution.log_likelihood):
            settings["log_likelihood"] = float(solution.log_likelihood)
        if estimate.steps:
            settings |= {
                "steps": estimate.steps,
                "factors": self.factors,
                "groups": 0 if groups is None else len(groups.shares),
            }
        told, population = None, solution.shared
        if groups is None:
            newcomer = Belief(population.mean, population.covariance + estimate.prior.own)
        else:
            told = Told(groups, solution.shared, estimate.prior.own)
            population, newcomer = told.average(), told.belief(groups.shares)
        own_noise = np.isfinite(estimate.noise.df)
        return LinearTaste(
            self.name,
            users,
            np.stack([b.mean for b in solution.own]),
            np.stack([b.covariance for b in solution.own]),
            population,
            newcomer,
            float(np.sqrt(variances.noise)),
            float(np.sqrt(variances.image)),
            float(np.sqrt(spare)),
            images,
            solution.image_effects,
            solution.image_variances,
            settings,
            (*design.block_names, "user", *(() if groups is None else ("demographics",))),
            np.sqrt(estimate.prior.noise) if own_noise else np.empty(0),
            estimate.noise.df,
            told,
        )


def _as_given(problem: Problem, v: Variances) -> Estimate:
    return Estimate(prior_of(problem, v), v, NoisePrior(v.noise, np.inf), 0)


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


def with_images(problem: Problem, most: int, rng: np.random.Generator) -> Problem:
    """The problem with the ratings of at most `most` images, drawn at random."""
    if problem.n_images <= most:
        return problem
    place = np.full(problem.n_images, -1)
    place[np.sort(rng.choice(problem.n_images, most, replace=False))] = np.arange(most)
    part = without(problem, [place[i] < 0 for i in problem.images])
    return replace(part, images=[place[i] for i in part.images], n_images=most)


def _problem(ratings: Ratings, design: Design) -> tuple[Problem, Strings, Strings, Indices]:
    """Ratings grouped by user, with the sorted users and images, and where the ratings stood before."""
    users, who = _codes(ratings.user_id)
    images, which = _codes(ratings.image_id)
    order = np.argsort(who, kind="stable")
    ends = np.cumsum(np.bincount(who, minlength=len(users)))[:-1]
    positions = np.split(order, ends)
    phi = design.rows(images)
    problem = Problem(
        [phi[which[i]] for i in positions],
        [ratings.score[i] for i in positions],
        [which[i] for i in positions],
        len(images),
        design.slices(),
    )
    return problem, users, images, order


def _codes(names: Strings) -> tuple[Strings, Indices]:
    """The distinct names, sorted, and each entry's place among them: `numpy.unique`, but faster on many strings."""
    listed = names.tolist()
    distinct = sorted(set(listed))
    place = {name: i for i, name in enumerate(distinct)}
    return np.array(distinct, dtype=str), np.fromiter((place[n] for n in listed), np.intp, len(listed))
