"""Prompt search under a reward: rewrite, draw, score, keep, repeat.

The loop follows the way of OPT2I (arXiv 2403.17804) and MILS (arXiv 2501.18096). All searches of a study go round by
round together (rewrite all, draw all, score all), so batches stay full however many people and prompts there are. A
search has no state of its own: with the same answers from rewriter, generator and judge it takes the same way, so after
a kill it is played again from the ledger.

Searches of one prompt and run may pool their candidates (`Settings.parents`): drawing an image costs a thousand times
what scoring it costs, so each search also looks at what was drawn for the others. The images of a study then grow with
prompts, runs and rounds and not with people. Every reward chooses from the same pictures, which is also the fair
comparison; the price is that what one search ends with depends on which others there are.

Seeds: image seeds belong to (prompt, round). They are fresh in every round, so an incumbent is never carried by the
luck of an old seed, and the same for all candidates, judges and runs, so that seed effects cancel in comparisons.
Rewriter seeds belong to (prompt, run, round) and the prompt that is rewritten: two runs differ in what is proposed, and
in nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from beholder.records import seed_of


class Search(NamedTuple):
    """One search: whose reward, which base prompt, which independent run."""

    judge: str
    prompt_id: str
    base: str
    run: int


class RewriteRequest(NamedTuple):
    """Ask for `n` rewrites of `prompt`, which grew out of `base`."""

    prompt: str
    base: str
    n: int
    seed: int


class ScoreRequest(NamedTuple):
    """Ask what `judge` gives to the image of `prompt` at `seed`."""

    judge: str
    prompt: str
    seed: int


class Scored(NamedTuple):
    """One candidate of one round: its mean score over the round's seeds, and whether it was kept."""

    search: Search
    round: int
    prompt: str
    score: float
    kept: bool


@dataclass(frozen=True, slots=True)
class Settings:
    """Size of a search.

    Attributes
    ----------
    rounds : int
    candidates : int
        Rewrites of a prompt in a round. Where several parents of a pool are rewritten they share this number.
    seeds : int
        Images of every candidate in a round.
    seed : int
        Of the whole study: image and rewriter seeds are derived from it.
    parents : int, optional
        Pool the candidates of all searches of one prompt and run: this many prompts, those that most searches hold,
        are rewritten in a round, and every search chooses among all that is drawn. Without it each search rewrites its
        own incumbent and looks at its own candidates only.
    """

    rounds: int
    candidates: int
    seeds: int
    seed: int
    parents: int | None = None


LOST = -np.inf
"""The score of an image that could not be made: its candidate is out, the search goes on."""
Rewrite = Callable[[Sequence[RewriteRequest]], Sequence[Sequence[str]]]
Score = Callable[[Sequence[ScoreRequest]], np.ndarray]


def image_seeds(settings: Settings, prompt_id: str, stage: int | str, count: int) -> list[int]:
    """Image seeds of a prompt in a round (a number) or in a named set, such as "heldout"; sets never meet."""
    return [seed_of("image", settings.seed, prompt_id, stage, k) for k in range(count)]


def run_searches(searches: Sequence[Search], rewrite: Rewrite, score: Score, settings: Settings) -> list[Scored]:
    """All candidates of all rounds, in order; the last kept one of a search is its result.

    Parameters
    ----------
    searches : sequence of Search
        Without doubles.
    rewrite, score : callables
        Answer all requests of a round at once; equal requests are asked once.
    settings : Settings
        Size and seed.

    Raises
    ------
    ValueError
        If a search is given twice, or a score is neither a finite number nor `LOST`: a search must not go on from an
        unknown score.
    """
    if len(set(searches)) != len(searches):
        raise ValueError("the same search was given twice")
    incumbents = {search: search.base for search in searches}
    trace: list[Scored] = []
    for number in range(settings.rounds):
        candidates = _propose(incumbents, rewrite, settings, number)
        means = _score(candidates, score, settings, number)
        for search, prompts in candidates.items():
            # the incumbent comes first, so it stays unless a candidate is strictly better
            best = prompts[int(np.argmax(means[search]))]
            trace += [
                Scored(search, number, prompt, float(mean), prompt == best)
                for prompt, mean in zip(prompts, means[search], strict=True)
            ]
            incumbents[search] = best
    return trace


def winners(trace: Sequence[Scored]) -> dict[Search, str]:
    """The prompt each search ended with."""
    return {row.search: row.prompt for row in trace if row.kept}


def _propose(
    incumbents: dict[Search, str], rewrite: Rewrite, settings: Settings, number: int
) -> dict[Search, list[str]]:
    """What each search chooses among: its incumbent first, then the others without doubles."""
    parents = _parents(incumbents, settings.parents)
    requests = {s: [_request(s, prompt, len(mine), settings, number) for prompt in mine] for s, mine in parents.items()}
    unique = list(dict.fromkeys(request for mine in requests.values() for request in mine))
    answers = dict(zip(unique, rewrite(unique), strict=True))
    held = _by_pool(incumbents) if settings.parents else {_pool(s): [] for s in incumbents}
    return {
        s: list(dict.fromkeys([incumbents[s], *held[_pool(s)], *(p for r in mine for p in answers[r])]))
        for s, mine in requests.items()
    }


def _pool(search: Search) -> tuple[str, str, int]:
    """Searches with the same answer may share candidates."""
    return search.prompt_id, search.base, search.run


def _by_pool(incumbents: dict[Search, str]) -> dict[tuple[str, str, int], list[str]]:
    """The different incumbents of each pool, those that most searches hold first."""
    counts: dict[tuple[str, str, int], Counter[str]] = {}
    for search, prompt in incumbents.items():
        counts.setdefault(_pool(search), Counter())[prompt] += 1
    return {pool: [prompt for prompt, _ in counter.most_common()] for pool, counter in counts.items()}


def _parents(incumbents: dict[Search, str], shared: int | None) -> dict[Search, list[str]]:
    """The prompts that are rewritten for each search."""
    if shared is None:
        return {search: [prompt] for search, prompt in incumbents.items()}
    held = _by_pool(incumbents)
    return {search: held[_pool(search)][:shared] for search in incumbents}


def _request(search: Search, prompt: str, parents: int, settings: Settings, number: int) -> RewriteRequest:
    seed = seed_of("rewrite", settings.seed, search.prompt_id, search.run, number, prompt)
    return RewriteRequest(prompt, search.base, max(1, settings.candidates // parents), seed)


def _score(
    candidates: dict[Search, list[str]], score: Score, settings: Settings, number: int
) -> dict[Search, np.ndarray]:
    """Mean score of each search's candidates over the seeds of the round."""
    requests = {
        (search, prompt): [
            ScoreRequest(search.judge, prompt, seed)
            for seed in image_seeds(settings, search.prompt_id, number, settings.seeds)
        ]
        for search, prompts in candidates.items()
        for prompt in prompts
    }
    unique = list(dict.fromkeys(request for group in requests.values() for request in group))
    values = np.asarray(score(unique), dtype=float)
    unknown = np.count_nonzero(~(np.isfinite(values) | (values == LOST)))
    if values.shape != (len(unique),) or unknown:
        raise ValueError(f"{unknown} of {len(unique)} scores, shape {values.shape}, are not finite numbers")
    known = dict(zip(unique, values, strict=True))
    return {
        search: np.array([np.mean([known[r] for r in requests[search, prompt]]) for prompt in prompts])
        for search, prompts in candidates.items()
    }
