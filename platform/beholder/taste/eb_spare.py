"""By how much ratings of new images scatter more than the slopes and their variances say: measured, not modelled.

Slopes are fitted on images that the design was learned from, and judged on others. Two things differ there, and the
likelihood of the training images sees neither:

* A design is learned from its training images, so it fits them: with 48 components of 90 images nearly every image has
  a direction to itself, and rows of new images are shorter (Lee, Zou and Wright 2010, doi:10.1214/10-AOS821). What is
  peculiar to an image then counts as taste where it was in training and is missed on a new one. The cure in Gaussian
  process regression with few basis functions is to put the lost variance back (Quinonero-Candela and Rasmussen 2005).
* Images of one prompt share more than the design knows of, which training prompts take for certainty.

Both show when prompts are left out of the design as well as of the ratings. Means stay as they are: effects of prompts
in the model, shared and own, make the SDs honest too, but take from the slopes what prompts differ in (accuracy .617 in
place of .629 with 32 prompts to learn from).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from beholder.taste.base import Floats, Indices, Strings
from beholder.taste.eb_large import approximate_solution
from beholder.taste.eb_likelihood import Prior, Problem, solve_prior
from beholder.taste.features import Design
from beholder.taste.linear import with_intercept
from beholder.taste.splits import group_folds

FOLDS = 3
ROUGH = 1e-5
"""Relative residual of posterior means that are judged by errors of ratings: hundredths of a tick."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A problem, and which of each user's ratings are left out of it: a sequence of masks, each shape (n_u,)."""

    problem: Problem
    masks: Sequence[NDArray[np.bool_]]


def held_out_prompts(
    problem: Problem,
    images: Strings,
    prompts: Indices,
    design: Design,
    most: int,
    rng: np.random.Generator,
) -> list[HeldOut]:
    """At most `most` ways to leave prompts out; by the design's refits where it has any, else on the design as it is.

    Parameters
    ----------
    problem : Problem
    images : array of str, shape (I,)
        Names of the problem's images.
    prompts : int array, shape (n,)
        The prompt of each rating, users one after the other.
    design : Design
    most : int
        Where there are many ratings, one says enough.
    rng : numpy.random.Generator
        Draws the folds where there are no refits.
    """
    if design.refits:
        found = []
        for refit in design.refits[:most]:
            rows, out = refit.design.rows(images), np.isin(images, refit.left_out)
            again = replace(problem, rows=[rows[i] for i in problem.images])
            found.append(HeldOut(again, [out[i] for i in problem.images]))
        return found
    folds = group_folds(prompts, min(FOLDS, len(np.unique(prompts))), rng)
    each = np.split(folds, np.cumsum([len(scores) for scores in problem.scores])[:-1])
    return [HeldOut(problem, [own == fold for own in each]) for fold in range(min(most, int(folds.max()) + 1))]


def spare_variance(parts: Sequence[HeldOut], prior: Prior, exact: bool) -> float:
    """Mean squared error on the ratings left out, less what the model expects of it, in squared ticks; 0 at least.

    Parameters
    ----------
    parts : sequence of HeldOut
    prior : Prior
        As estimated from all ratings.
    exact : bool
        Whether by the exact posterior.
    """
    excess = [one for part in parts for one in _excess(part, prior, exact)]
    every = np.concatenate(excess) if excess else np.empty(0)
    return max(0.0, float(every.mean())) if len(every) else 0.0


def _excess(part: HeldOut, prior: Prior, exact: bool) -> list[Floats]:
    """Of each rating left out, for users who have others."""
    train = without(part.problem, part.masks)
    if not any(len(scores) for scores in train.scores):
        return []
    if exact:
        solution = solve_prior(_rated_images(train), prior)
    else:
        solution = approximate_solution(train, prior, sharpen=False, tolerance=ROUGH)
    excess = []
    everyone = zip(part.masks, part.problem.rows, part.problem.scores, prior.noise, solution.own, strict=True)
    for mine, rows, scores, noise, belief in everyone:
        if np.any(mine) and not np.all(mine):
            x = with_intercept(rows[mine])
            expected = np.einsum("np,np->n", x @ belief.covariance, x) + prior.image + noise
            excess.append((scores[mine] - x @ belief.mean) ** 2 - expected)
    return excess


def without(problem: Problem, held: Sequence[NDArray[np.bool_]]) -> Problem:
    """The problem without the ratings held out; users and images stay, even those left with none."""
    kept = [~h for h in held]
    return replace(
        problem,
        rows=[r[k] for r, k in zip(problem.rows, kept, strict=True)],
        scores=[s[k] for s, k in zip(problem.scores, kept, strict=True)],
        images=[i[k] for i, k in zip(problem.images, kept, strict=True)],
    )


def _rated_images(problem: Problem) -> Problem:
    """The same problem over the images that are rated: the exact posterior costs the cube of their number."""
    rated = np.unique(np.concatenate(list(problem.images)))
    place = np.zeros(problem.n_images, dtype=np.intp)
    place[rated] = np.arange(len(rated))
    return replace(problem, images=[place[i] for i in problem.images], n_images=len(rated))
