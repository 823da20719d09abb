"""A whole study redrawn in an instant: new people, prompts, models, images and votes, without drawing a picture.

A fast stand-in for one study of the demo, made to ask how often the analysis is right when it is repeated. Prompts,
rewrites and seeds are moves of the scene parameters; pixel measures come from the world's `PixelMap`; reward models are
the true taste seen through an error with a stated correlation. Votes are those of `simulate.votes`, trials those of
`study.design`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from beholder.models.generators.scenes.attributes import AXES, MEDIA, SEED_JITTER, SUBJECTS
from beholder.simulate.votes import answer, vote_probabilities
from beholder.simulate.world import Raters, World
from beholder.study.design import OTHER, StudyDesign, plan_trials

if TYPE_CHECKING:
    import pandas as pd

Estimate = Callable[["pd.DataFrame", str], tuple[float, float, float]]
"""Votes and the condition own is compared with -> estimate, lower and upper end of the interval."""


@dataclass(frozen=True)
class RedrawPlan:
    """Size of the study that is redrawn, and how good its models and its search are.

    Attributes
    ----------
    people, prompts : int
        About the demo's size.
    design : StudyDesign
        Its trials.
    candidates, phrases, push : int, int, float
        The search chooses among this many rewrites of a prompt with up to `phrases` phrases, each moving one axis by
        `push` before saturation. The first candidate is the prompt itself.
    medium_share : float
        Share of phrases that name a medium instead.
    bare_spread : float
        SD of the axes a bare prompt asks for, before saturation.
    private_accuracy : float
        Correlation of a personal model's private part with a person's private taste over reference scenes. With .45
        the whole model correlates .55 with the person's taste, as models of 30 ratings do on real features.
    population_accuracy, statistics_accuracy : float
        Correlation of the population model and of the statistics scorer with the shared taste.
    strangers : bool
        An A/A study: "own" images are chosen for strangers, one for each participant. Own and other are then equally
        good for everybody, though the images of different strangers are not.
    """

    people: int = 30
    prompts: int = 20
    design: StudyDesign = field(default_factory=lambda: StudyDesign(trials=30))
    candidates: int = 24
    phrases: int = 4
    push: float = 0.85
    medium_share: float = 0.12
    bare_spread: float = 0.25
    private_accuracy: float = 0.45
    population_accuracy: float = 0.7
    statistics_accuracy: float = 0.3
    strangers: bool = False


@dataclass(frozen=True, eq=False)
class Redrawn:
    """What is true in one redrawn study.

    Attributes
    ----------
    raters : Raters
        The people.
    picks : mapping of str to np.ndarray
        Chosen candidate by condition: own (people, prompts), every other condition (prompts,).
    utility : np.ndarray
        Everybody's true utility of every candidate as shown, shape (people, prompts, candidates).
    """

    raters: Raters
    picks: Mapping[str, np.ndarray]
    utility: np.ndarray


def redraw(world: World, plan: RedrawPlan, rng: np.random.Generator) -> Redrawn:
    """Draw people, prompts, rewrites and models, search, and give the true utilities of what is shown.

    Every model judges the candidates at one search seed. What is shown has another seed, common to the candidates of a
    prompt, so a lucky search seed is not carried into the study. Population model and statistics scorer belong to the
    world: they are the same in every study, as the interval's population (new people, new prompts) asks.
    """
    raters = world.draw_raters(plan.people, rng)
    asked, subject = _candidates(plan, rng)
    seen = _drawn(world, asked, subject, rng)
    share = world.settings.shared_share
    loved = (world.draw_raters(plan.people, rng) if plan.strangers else raters).parts(*seen)
    shared = loved.pop("shared")[0] / np.sqrt(share)
    private = np.sum(list(loved.values()), axis=0) / np.sqrt(1.0 - share)
    errors = _model_error(world.draw_raters(2, np.random.default_rng([world.seed, 37])), seen)
    population = _seen_through(shared, errors[0], plan.population_accuracy)
    personal = _seen_through(private, _model_error(world.draw_raters(plan.people, rng), seen), plan.private_accuracy)
    # Posterior means: each part counts as much as is known of it.
    known = np.sqrt(share) * plan.population_accuracy, np.sqrt(1.0 - share) * plan.private_accuracy
    scores = {
        "own": known[0] * population + known[1] * personal,
        "population": population,
        "statistics": _seen_through(shared, errors[1], plan.statistics_accuracy),
    }
    shape = (plan.prompts, plan.candidates)
    picks = {name: score.reshape(*score.shape[:-1], *shape).argmax(-1) for name, score in scores.items()}
    picks["unoptimised"] = np.zeros(plan.prompts, dtype=int)
    utility = raters.utility(*_drawn(world, asked, subject, rng)).reshape(plan.people, *shape)
    return Redrawn(raters, picks, utility)


def _candidates(plan: RedrawPlan, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Scenes the prompts and their rewrites ask for, (prompts, candidates, 12), and the prompts' subjects."""
    shape = (plan.prompts, plan.candidates, plan.phrases)
    used = np.arange(plan.phrases) < rng.integers(1, plan.phrases + 1, shape[:2])[..., None]
    used[:, 0] = False
    medium = used & (rng.random(shape) < plan.medium_share)
    steps = plan.push * rng.choice([-1.0, 1.0], shape) * (used & ~medium)
    pushes = rng.normal(0.0, plan.bare_spread, (plan.prompts, 1, len(AXES)))
    pushes = pushes + (steps[..., None] * np.eye(len(AXES))[rng.integers(len(AXES), size=shape)]).sum(2)
    named = (medium[..., None] * np.eye(len(MEDIA))[rng.integers(len(MEDIA), size=shape)]).sum(2)
    named[..., 0] += named.sum(-1) == 0  # a prompt that names no medium is a photo
    scene = np.concatenate([np.tanh(pushes), named / named.sum(-1, keepdims=True)], axis=-1)
    return scene, rng.integers(len(SUBJECTS), size=plan.prompts)


def _drawn(
    world: World, asked: np.ndarray, subject: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One picture of every candidate: scene, subject and pixel measures, images in rows; one seed for each prompt."""
    n_prompts, n_candidates = asked.shape[:2]
    scene = asked.copy()
    scene[..., : len(AXES)] += rng.normal(0.0, SEED_JITTER, (n_prompts, 1, len(AXES)))
    scene[..., : len(AXES)] = np.clip(scene[..., : len(AXES)], -1.2, 1.2)
    flat, codes = scene.reshape(n_prompts * n_candidates, -1), np.repeat(subject, n_candidates)
    return flat, codes, world.pixel_map.draw(flat, codes, rng)


def _model_error(phantoms: Raters, seen: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    """What a model wrongly believes, SD about 1: a taste that is nobody's, without the part no model could express.

    It is a taste and not white noise, since the same error meets a person on every prompt.
    """
    parts, settings = phantoms.parts(*seen), phantoms.world.settings
    visible = parts["private_linear"] + parts["nonlinear"] + parts["pixel"]
    return visible / np.sqrt((1.0 - settings.shared_share) * (1.0 - settings.invisible_share))


def _seen_through(truth: np.ndarray, error: np.ndarray, accuracy: float) -> np.ndarray:
    return accuracy * truth + np.sqrt(1.0 - accuracy**2) * error


def study_votes(study: Redrawn, plan: RedrawPlan, rng: np.random.Generator) -> pd.DataFrame:
    """The `votes` table of a redrawn study: its images are planned into trials and answered."""
    import pandas as pd

    prompts = [f"prompt_{k:02d}" for k in range(plan.prompts)]
    rows = []
    for condition, picks in study.picks.items():
        for who, picked in zip(study.raters.ids if picks.ndim == 2 else [None], np.atleast_2d(picks), strict=True):
            rows += [(condition, p, f"{p}/{pick}", who) for p, pick in zip(prompts, picked, strict=True)]
    images = pd.DataFrame(rows, columns=["condition", "prompt_id", "image_id", "source_user"])
    trials = plan_trials(images, study.raters.ids, prompts, plan.design, rng)
    names = [f"{p}/{k}" for p in prompts for k in range(plan.candidates)]
    return answer(trials, study.raters, study.utility.reshape(plan.people, -1), names, rng)[0]


def win_probabilities(study: Redrawn, against: str) -> np.ndarray:
    """Chance that a person prefers the own image, ties one half, sides even, by person and prompt.

    Against "other", the mean over the images of the next few people (at most ten), which is any other person's on
    average.
    """
    n = len(study.raters)
    chosen = study.picks["own"] if against == OTHER else study.picks[against]
    opponents = [np.roll(chosen, -k, axis=0) for k in range(1, min(n, 11))] if against == OTHER else [chosen[None]]
    own = np.take_along_axis(study.utility, study.picks["own"][..., None], 2)[..., 0]
    total = np.zeros_like(own)
    for pick in opponents:
        theirs = np.take_along_axis(study.utility, np.broadcast_to(pick, own.shape)[..., None], 2)[..., 0]
        for left, right, win in ((own, theirs, 0), (theirs, own, 2)):
            chances = vote_probabilities(left, right, study.raters.world.settings)
            total += (chances[..., win] + chances[..., 1] / 2) / (2 * len(opponents))
    return total


def true_win_rates(
    world: World, plan: RedrawPlan, rng: np.random.Generator, people: int = 100_000, block: int = 200
) -> dict[str, tuple[float, float]]:
    """Win rate of own against every condition over fresh people and prompts, with its Monte Carlo standard error.

    `people` are drawn in blocks of `block`, each with `plan.prompts` fresh prompts.
    """
    from dataclasses import replace

    larger, means = replace(plan, people=block), {name: list[float]() for name in plan.design.against}
    for _ in range(people // block):
        study = redraw(world, larger, rng)
        for name, values in means.items():
            values.append(float(win_probabilities(study, name).mean()))
    return {n: (float(np.mean(v)), float(np.std(v, ddof=1) / np.sqrt(len(v)))) for n, v in means.items()}


def coverage(
    world: World, plan: RedrawPlan, seeds: Iterable[int], truth: Mapping[str, float], estimate: Estimate
) -> pd.DataFrame:
    """How often the interval of an analysis holds the truth, and how often it leaves out one half.

    Parameters
    ----------
    world : World
        The world all studies are drawn from.
    plan : RedrawPlan
        The study.
    seeds : iterable of int
        One study each.
    truth : mapping of str to float
        True win rate by condition (`true_win_rates`).
    estimate : callable
        The analysis: votes and condition -> estimate, lower and upper end of a 95 % interval.

    Returns
    -------
    pd.DataFrame
        One row a condition: against, truth, mean_estimate, sd_estimate, half_width, covered, rejected, studies.
    """
    import pandas as pd

    rows = []
    for seed in seeds:
        rng = np.random.default_rng([seed, 41])
        votes = study_votes(redraw(world, plan, rng), plan, rng)
        rows += [(against, *estimate(votes, against)) for against in truth]
    table = pd.DataFrame(rows, columns=["against", "estimate", "low", "high"])
    real = table["against"].map(truth)
    table = table.assign(
        truth=real,
        covered=(table["low"] <= real) & (real <= table["high"]),
        rejected=(table["low"] > 0.5) | (table["high"] < 0.5),
        half_width=(table["high"] - table["low"]) / 2,
    )
    return table.groupby("against", sort=False, as_index=False).agg(
        truth=("truth", "first"),
        mean_estimate=("estimate", "mean"),
        sd_estimate=("estimate", "std"),
        half_width=("half_width", "mean"),
        covered=("covered", "mean"),
        rejected=("rejected", "mean"),
        studies=("estimate", "size"),
    )
