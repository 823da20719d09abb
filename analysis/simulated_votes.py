"""Votes drawn from a crossed logistic model, for power: who is shown what, and who answers how.

On the logit scale, participant p on prompt i favours the focal condition by delta + u_p + w_i + g_pi, and, where the
opponents were made for other people, by the general quality of the own image less that of the other, q_p - q_s. Answers
follow Davidson's ties: win : tie : loss = exp(eta/2) : nu : exp(-eta/2). With several planned contrasts the effects
belong to conditions, so contrasts that share the focal condition correlate .5.

delta and nu are set so that the *marginal* win rate (a tie one half) and tie rate are the ones asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy.optimize import brentq

from analysis.clusters import Floats, Ints
from analysis.errors import EstimateError

Opponents = Literal["common", "balanced", "random", "few", "yoked"]
"""Whose images the focal image meets: one for everybody; those of every other person equally often; of persons drawn at
random; of a few fixed persons; of a partner who judges the same pair."""

NODES = 61
"""Of the quadrature over people and prompts."""

FEWEST_TIES = 1e-9
"""Smaller tie rates are none."""


@dataclass(frozen=True)
class Design:
    """Who judges what.

    Attributes
    ----------
    participants, prompts : int
    trials : int
        Of each participant for each planned contrast, spread evenly over prompts.
    opponents : str
        See `Opponents`; concerns the first contrast.
    sources : int or None
        With "few" opponents: how many persons' images.
    drop_out : float
        Share of participants who leave after a random part of their trials; what they did is analysed.
    """

    participants: int
    prompts: int
    trials: int
    opponents: Opponents = "common"
    sources: int | None = None
    drop_out: float = 0.0

    def __post_init__(self) -> None:
        if min(self.participants, self.prompts) < 2 or self.trials < 1:
            found = f"{self.participants} participants, {self.prompts} prompts, {self.trials} trials"
            raise EstimateError(found, "2 participants and prompts, 1 trial, or more")
        if not 0 <= self.drop_out < 1:
            raise EstimateError(f"drop-out {self.drop_out}", "0 to below 1", "write .1 for 10 %")
        if (self.opponents == "few") != (self.sources is not None) or (self.sources or 2) < 2:
            raise EstimateError(f"{self.sources} sources with {self.opponents} opponents", "2 or more, only with few")
        if self.opponents == "yoked" and (self.trials % 2 or self.participants < 3):
            found = f"{self.trials} yoked trials of {self.participants} participants"
            raise EstimateError(found, "an even number, 3 participants or more", "each pair is judged from both sides")

    @property
    def expected_votes(self) -> float:
        """Votes of the first contrast, counting those who leave."""
        left_early = (self.trials - 1) / 2
        return self.participants * ((1 - self.drop_out) * self.trials + self.drop_out * left_early)


@dataclass(frozen=True)
class Effects:
    """How people answer; standard deviations on the logit scale.

    Attributes
    ----------
    win_rates : tuple of float
        Marginal win rate of the focal condition in each planned contrast, a tie one half.
    sd_participant, sd_prompt, sd_interaction : float
        Of u, w and g.
    sd_source : float
        Of the general quality q of the images made for a person.
    tie_rate : float
        Marginal share of ties.
    """

    win_rates: tuple[float, ...]
    sd_participant: float
    sd_prompt: float
    sd_interaction: float
    sd_source: float = 0.0
    tie_rate: float = 0.0

    def __post_init__(self) -> None:
        spreads = (self.sd_participant, self.sd_prompt, self.sd_interaction, self.sd_source)
        if not all(0 <= s < 10 for s in spreads):
            raise EstimateError(f"standard deviations {spreads}", "0 to below 10 on the logit scale")
        if not 0 <= self.tie_rate < 1:
            raise EstimateError(f"tie rate {self.tie_rate}", "0 to below 1", "write .1 for 10 %")
        half = self.tie_rate / 2
        if not self.win_rates or not all(half < w < 1 - half for w in self.win_rates):
            raise EstimateError(
                f"win rates {self.win_rates} with {self.tie_rate} ties", f"between {half:g} and {1 - half:g}"
            )


@lru_cache(maxsize=4)
def normal_nodes(n: int) -> tuple[Floats, Floats]:
    """Points and weights (n,) of the mean over a standard normal."""
    points, weights = np.polynomial.hermite_e.hermegauss(n)
    return points, weights / weights.sum()


def answer_probabilities(eta: Floats, nu: float) -> tuple[Floats, Floats]:
    """Probabilities of a win and of a tie at log odds `eta`, same shape."""
    up, down = np.exp(eta / 2), np.exp(-eta / 2)
    total = up + down + nu
    return up / total, nu / total


def calibrated(win_rate: float, tie_rate: float, sd: float) -> tuple[float, float]:
    """(delta, nu) that give the marginal win and tie rate when log odds are N(delta, sd^2)."""
    points, weights = normal_nodes(NODES)

    def centre(nu: float) -> float:
        def excess(delta: float) -> float:
            win, tie = answer_probabilities(delta + sd * points, nu)
            return float((weights * (win + tie / 2)).sum()) - win_rate

        return float(brentq(excess, -60, 60, xtol=1e-12))

    if tie_rate < FEWEST_TIES:
        return centre(0.0), 0.0

    def ties(log_nu: float) -> float:
        nu = math.exp(log_nu)
        return float((weights * answer_probabilities(centre(nu) + sd * points, nu)[1]).sum()) - tie_rate

    nu = math.exp(brentq(ties, -25, 25, xtol=1e-10))
    return centre(nu), nu


@dataclass(frozen=True)
class Shown:
    """Trials of one contrast: codes of participant, prompt and, where opponents were made for others, their person."""

    people: Ints
    items: Ints
    sources: Ints | None


def allocate(design: Design, rng: np.random.Generator) -> Shown:
    """Who is shown what in the first contrast when nobody leaves; prompts in a cycle, so that all are shown as often.

    Person codes of sources 0 … P-1 are the participants; "few" sources are persons P, P+1, … of their own.
    """
    n_people, m = design.participants, design.trials
    people = np.repeat(np.arange(n_people), m)
    turn = np.tile(np.arange(m), n_people)
    items = (people * m + turn) % design.prompts
    others = n_people - 1
    if design.opponents == "common":
        return Shown(people, items, None)
    if design.opponents == "balanced":
        return Shown(people, items, (people + 1 + turn % others) % n_people)
    if design.opponents == "random":
        return Shown(people, items, (people + 1 + rng.integers(others, size=len(people))) % n_people)
    if design.opponents == "few":
        return Shown(people, items, n_people + rng.integers(design.sources or 2, size=len(people)))
    return _yoked(n_people, m, design.prompts)


def _yoked(n_people: int, trials: int, prompts: int) -> Shown:
    """Person p meets p+1, p+2, … on prompts in a cycle; both judge the pair, so everybody judges an even number."""
    half = trials // 2
    first = np.repeat(np.arange(n_people), half)
    turn = np.tile(np.arange(half), n_people)
    second = (first + 1 + turn % max((n_people - 1) // 2, 1)) % n_people
    items = (first * half + turn) % prompts
    people, sources = np.concatenate([first, second]), np.concatenate([second, first])
    order = np.argsort(people, kind="stable")
    return Shown(people[order], np.concatenate([items, items])[order], sources[order])


def staying(design: Design, people: Ints, rng: np.random.Generator) -> np.ndarray:
    """Which trials are answered: those who leave do the first 0 … m-1 of theirs; bool, shape (n,)."""
    if design.drop_out == 0:
        return np.ones(len(people), dtype=bool)
    leaves = rng.random(design.participants) < design.drop_out
    done = np.where(leaves, rng.integers(design.trials, size=design.participants), design.trials)
    turn = np.arange(len(people)) - np.searchsorted(people, people)
    return np.asarray(turn < done[people])


def draw_scores(design: Design, effects: Effects, shown: Shown, rng: np.random.Generator) -> list[Floats]:
    """Win scores (1, one half, 0) of every trial, one array (n,) a planned contrast; sources concern the first only."""
    n_people, n_items = design.participants, design.prompts
    n_contrasts = len(effects.win_rates)
    spread = (effects.sd_participant, effects.sd_prompt, effects.sd_interaction)
    shapes = ((n_people,), (n_items,), (n_people, n_items))
    by_person, by_item, by_cell = (
        _condition_effects(shape, n_contrasts, sd, rng) for shape, sd in zip(shapes, spread, strict=True)
    )
    total = math.sqrt(sum(sd * sd for sd in spread))
    found = []
    for k, rate in enumerate(effects.win_rates):
        eta = by_person[k][shown.people] + by_item[k][shown.items] + by_cell[k][shown.people, shown.items]
        sd = total
        if k == 0 and shown.sources is not None:
            quality = effects.sd_source * rng.standard_normal(n_people + (design.sources or 0))
            eta = eta + quality[shown.people] - quality[shown.sources]
            sd = math.sqrt(total**2 + 2 * effects.sd_source**2)
        delta, nu = _cached_calibration(rate, effects.tie_rate, sd)
        win, tie = answer_probabilities(delta + eta, nu)
        drawn = rng.random(len(eta))
        found.append(np.where(drawn < win, 1.0, np.where(drawn < win + tie, 0.5, 0.0)))
    return found


_cached_calibration = lru_cache(maxsize=64)(calibrated)


def _condition_effects(shape: tuple[int, ...], n_contrasts: int, sd: float, rng: np.random.Generator) -> Floats:
    """Focal less other condition's effect for each contrast, each with standard deviation `sd`."""
    if n_contrasts == 1:
        return sd * rng.standard_normal((1, *shape))
    each = sd / math.sqrt(2) * rng.standard_normal((n_contrasts + 1, *shape))
    return each[0] - each[1:]
