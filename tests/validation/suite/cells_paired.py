"""Win rates, planned contrasts and rankings in crossed studies of participants and prompts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.special import expit, ndtr

from analysis import planned_contrasts, rank_conditions, win_rate
from analysis.clusters import two_sided_p
from analysis.contrasts import Contrast
from suite.core import ALPHA, COVERAGE, SIZE, UNRECORDED, Cell, Naive, Row
from suite.draw_votes import condition_votes, logit_for, own_other_votes, true_strengths

CONDITIONS = ("other", "hpsv3", "own", "q-align", "unoptimised")
PLANNED = tuple(("own", name) for name in CONDITIONS if name != "own")


@dataclass(frozen=True)
class WinRates(Cell):
    """Log odds of choosing the focal condition: centre + participant + prompt + interaction; `trials` of each person.

    With fewer trials than prompts these go round the list of prompts; a multiple of it repeats every prompt.
    """

    people: int
    items: int
    trials: int
    sds: tuple[float, float, float]
    rate: float = 0.5
    least_power: float = 0.0
    naive_fails: bool = True

    section: str = field(default="Win rate, two-way clusters", init=False)
    modules: tuple[str, ...] = field(default=("win_rates",), init=False)

    @property
    def design(self) -> str:
        spread = ", ".join(f"{sd:g}" for sd in self.sds)
        return f"{self.people} people, {self.items} prompts, {self.trials} trials each; SDs {spread}"

    @property
    def truth(self) -> str:
        return f"win rate {self.rate:g}"

    @property
    def rows(self) -> tuple[Row, ...]:
        planted = self.rate != 0.5
        large = min(self.people, self.items) >= 20 and max(self.sds) > 0
        low, high = (self.least_power, 1.0) if planted else (0.02 if large else 0.0, SIZE)
        naive = (
            Naive("binomial over votes", "binomial_covers", self.naive_fails, "covers"),
            Naive("t over participants", "people_covers", False, "covers"),
        )
        if not planted:
            naive = (
                Naive("binomial over votes", "binomial", self.naive_fails),
                Naive("t over participants", "people", False),
            )
        return (Row("`win_rate`", "rejected", low, high, "covered", COVERAGE, naive),)

    def replicate(self, rng: np.random.Generator) -> Mapping[str, float]:
        by_person, by_item, by_cell = self.sds
        u, w = by_person * rng.standard_normal(self.people), by_item * rng.standard_normal(self.items)
        g = by_cell * rng.standard_normal((self.people, self.items))
        people = np.repeat(np.arange(self.people), self.trials)
        items = np.arange(self.people * self.trials) % self.items
        centre = logit_for(self.rate, math.hypot(*self.sds))
        chance = expit(centre + u[people] + w[items] + g[people, items])
        votes = own_other_votes(people, items, rng.random(len(chance)) < chance, rng)
        found = win_rate(votes, "own", "other", provenance=UNRECORDED)
        own_rates = found.participants["rate"].to_numpy()
        se = own_rates.std(ddof=1) / math.sqrt(self.people)

        def naive_p(null: float) -> tuple[bool, bool]:
            by_vote = 2 * ndtr(-abs(found.estimate - null) / found.naive["se"])
            return by_vote < ALPHA, two_sided_p((own_rates.mean() - null) / se, self.people - 1) < ALPHA

        binomial, by_people = naive_p(0.5)
        misses = naive_p(self.rate)
        return {
            "rejected": found.p < ALPHA,
            "covered": found.ci_low <= self.rate <= found.ci_high,
            "binomial": binomial,
            "people": by_people,
            "binomial_covers": not misses[0],
            "people_covers": not misses[1],
        }


@dataclass(frozen=True)
class Rankings(Cell):
    """Five conditions; utility = strength of the condition, plus its normal effects by participant, prompt and both."""

    people: int
    items: int
    share: float
    sds: tuple[float, float, float]
    own: float = 0.0
    nu: float = 0.35
    least_power: float = 0.0

    section: str = field(default="Five conditions: planned contrasts and ranking with ties", init=False)
    modules: tuple[str, ...] = field(default=("contrasts", "ranking"), init=False)

    @property
    def design(self) -> str:
        spread = ", ".join(f"{sd:g}" for sd in self.sds)
        votes = round(10 * self.share * self.people * self.items)
        return f"{self.people} people, {self.items} prompts, about {votes} votes; SDs {spread}"

    @property
    def truth(self) -> str:
        return "all equal" if not self.own else f"own {self.own:g} above the rest"

    @property
    def rows(self) -> tuple[Row, ...]:
        low, high = (self.least_power, 1.0) if self.own else (0.0, SIZE)
        null = not self.own
        return (
            Row(
                "`planned_contrasts`, 4 by Holm" if null else "`planned_contrasts`, own over other by Holm",
                "contrasts_rejected", low, high, "rate_covered", COVERAGE,
                (Naive("4 binomials, uncorrected", "binomials", True),) if null else (),
            ),
            Row(
                "`rank_conditions`, 10 pairs by Holm" if null else "`rank_conditions`, own over other by Holm",
                "pairs_rejected", low, high, "strength_covered", COVERAGE,
                (
                    *((Naive("4 z tests from the Hessian", "hessians", True),) if null else ()),
                    Naive("interval from the Hessian", "hessian_covers", True, "covers"),
                ),
            ),
            Row("`planned_contrasts`, 4 simultaneous intervals (max-T)", covers="all_covered"),
        )  # fmt: skip

    def replicate(self, rng: np.random.Generator) -> Mapping[str, float]:
        strength = np.array([self.own if name == "own" else 0.0 for name in CONDITIONS])
        shapes = (self.people, 1), (1, self.items), (self.people, self.items)
        effects = (sd * rng.standard_normal((*s, 5)) for sd, s in zip(self.sds, shapes, strict=True))
        votes = condition_votes(strength + sum(effects), self.share, self.nu, CONDITIONS, rng)
        limits, rates = true_strengths(tuple(strength.tolist()), self.nu, math.hypot(*self.sds))
        planned = planned_contrasts(votes, PLANNED, rng=rng, provenance=UNRECORDED).contrasts
        ranking = rank_conditions(votes, reference="other", provenance=UNRECORDED)
        at = CONDITIONS.index("own")
        own = next(s for s in ranking.conditions if s.condition == "own")
        first = next(c for c in planned if c.against == "other")
        own_other = next(d for d in ranking.differences if {d.first, d.second} == {"own", "other"})
        others = [s for s in ranking.conditions if s.condition != "other"]
        any_pair = any(d.p_holm < ALPHA for d in ranking.differences)
        any_planned = any(c.p_holm < ALPHA for c in planned)
        right_way = own_other.first == "own" and own_other.p_holm < ALPHA
        return {
            "contrasts_rejected": first.p_holm < ALPHA and first.estimate > 0.5 if self.own else any_planned,
            "pairs_rejected": right_way if self.own else any_pair,
            "rate_covered": first.ci_low <= rates[at, 0] <= first.ci_high,
            "strength_covered": own.ci_low <= limits[at] <= own.ci_high,
            "all_covered": all(
                c.simultaneous_low <= rates[at, CONDITIONS.index(c.against)] <= c.simultaneous_high for c in planned
            ),
            "binomials": any(_binomial_p(c) < ALPHA for c in planned),
            "hessians": any(2 * ndtr(-abs(s.log_strength) / s.se_model) < ALPHA for s in others),
            "hessian_covers": abs(own.log_strength - limits[at]) <= 1.959964 * own.se_model,
        }


def _binomial_p(contrast: Contrast) -> float:
    """Of one half, votes taken as independent; the mean square of scores 1, 1/2, 0 is the mean less a quarter tie."""
    mean = contrast.estimate
    variance = mean - contrast.n_ties / contrast.n_votes / 4 - mean**2
    return float(2 * ndtr(-abs(mean - 0.5) / math.sqrt(variance / contrast.n_votes)))


CELLS: tuple[Cell, ...] = (
    WinRates("no effects", 6, 18, 90, (0.0, 0.0, 0.0), naive_fails=False),
    WinRates("six people", 6, 18, 90, (0.3, 0.3, 0.3)),
    WinRates("six people, large effects", 6, 18, 90, (0.6, 0.6, 0.6)),
    WinRates("20 x 20", 20, 20, 20, (0.3, 0.3, 0.3)),
    WinRates("40 x 20, prompts differ more", 40, 20, 20, (0.3, 0.6, 0.3)),
    WinRates("100 x 20, large effects", 100, 20, 20, (0.6, 0.6, 0.6)),
    WinRates("200 x 40", 200, 40, 40, (0.3, 0.6, 0.3)),
    WinRates("planted .60", 40, 20, 20, (0.3, 0.6, 0.3), rate=0.6),
    WinRates("planted .539", 100, 40, 20, (0.2, 0.2, 0.2), rate=0.539, least_power=0.7),
    Rankings("ranking, six people", 6, 18, 1.0, (0.3, 0.3, 0.3)),
    Rankings("ranking, 20 x 20", 20, 20, 0.5, (0.3, 0.3, 0.3)),
    Rankings("ranking, 40 x 20", 40, 20, 0.3, (0.3, 0.3, 0.3)),
    Rankings("ranking, 100 x 40", 100, 40, 0.1, (0.5, 0.5, 0.3)),
    Rankings("ranking, planted", 100, 40, 0.1, (0.3, 0.3, 0.3), own=0.4),
)
