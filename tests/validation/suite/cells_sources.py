"""Own images against other people's: the person an image was made for is a third factor of the study."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.special import expit, ndtr

from analysis import cluster_mean, win_rate, yoked_effect
from suite.core import ALPHA, COVERAGE, SIZE, SIZE_DYADIC, UNRECORDED, Cell, Naive, Row
from suite.draw_votes import logit_for, own_other_votes

FEW = 4
"""Persons whose images are everybody's opponents in the worst design."""


@dataclass(frozen=True)
class Opponents(Cell):
    """Log odds: rater + prompt + general quality of the own image less that of the opponent's (SD `quality`)."""

    people: int
    items: int
    each: int
    opponents: Literal["balanced", "random", "few"]
    quality: float
    naive_fails: bool = True

    section: str = field(default="Own against other: whose image the opponent is", init=False)
    modules: tuple[str, ...] = field(default=("win_rates",), init=False)

    @property
    def design(self) -> str:
        kind = f"{FEW} fixed persons" if self.opponents == "few" else self.opponents
        sizes = f"{self.people} people, {self.items} prompts, {self.each} a cell"
        return f"{sizes}; opponents {kind}, SD of quality {self.quality:g}"

    @property
    def truth(self) -> str:
        return "own no better than other"

    @property
    def rows(self) -> tuple[Row, ...]:
        binomial = Naive("binomial over votes", "binomial", self.naive_fails)
        if self.opponents == "few":
            two_way = Naive("two-way clusters all the same", "two_way", True)
            return (
                Row(
                    "`win_rate`, three-way",
                    "rejected",
                    0,
                    SIZE,
                    "covered",
                    COVERAGE,
                    (two_way,),
                ),
                Row("… which it takes by itself", "three_way", 1.0, 1.0),
            )
        return (
            Row("`win_rate`, two-way", "rejected", 0, SIZE, "covered", COVERAGE, (binomial,)),
            Row("`win_rate`, dyadic beside it", "dyadic", 0, SIZE_DYADIC),
        )

    def replicate(self, rng: np.random.Generator) -> Mapping[str, float]:
        n, m = self.people, self.each
        people = np.repeat(np.arange(n), self.items * m)
        items = np.tile(np.repeat(np.arange(self.items), m), n)
        turn = np.tile(np.arange(self.items * m), n)
        if self.opponents == "few":
            sources = rng.integers(FEW, size=len(people))
            kept = sources != people
            people, items, sources = people[kept], items[kept], sources[kept]
        else:
            step = turn % (n - 1) if self.opponents == "balanced" else rng.integers(n - 1, size=len(people))
            sources = (people + 1 + step) % n
        q, u, w = self.quality * rng.standard_normal(n), 0.3 * rng.standard_normal(n), rng.standard_normal(self.items)
        chance = expit(u[people] + 0.3 * w[items] + q[people] - q[sources])
        won = rng.random(len(chance)) < chance
        votes = own_other_votes(people, items, won, rng, sources)
        found = win_rate(votes, "own", "other", provenance=UNRECORDED)
        two_way = cluster_mean(won.astype(float), people, items)
        return {
            "rejected": found.p < ALPHA,
            "covered": found.ci_low <= 0.5 <= found.ci_high,
            "binomial": found.naive["p"] < ALPHA,
            "dyadic": found.dyadic["p"] < ALPHA if found.dyadic else math.nan,
            "three_way": found.method == "three-way",
            "two_way": two_way.test(0.5)[1] < ALPHA,
        }


@dataclass(frozen=True)
class Yoked(Cell):
    """Persons p and p + 1, p + 2, … judge the same two images, one made for each of them, `partners` a person."""

    people: int
    items: int
    partners: int
    quality: float
    rate: float = 0.5

    section: str = field(default="Own against other: yoked pairs", init=False)
    modules: tuple[str, ...] = field(default=("yoked",), init=False)

    @property
    def design(self) -> str:
        sizes = f"{self.people} people, {self.items} prompts, {2 * self.partners} partners each"
        return f"{sizes}; SD of quality {self.quality:g}"

    @property
    def truth(self) -> str:
        return "no personal taste" if self.rate == 0.5 else f"own chosen in {self.rate:g}, effect {self.effect:.3f}"

    @property
    def effect(self) -> float:
        """P(u picks u's image) + P(v picks v's) - 1, given the rate of own choices."""
        return 2 * self.rate - 1

    @property
    def rows(self) -> tuple[Row, ...]:
        null = self.rate == 0.5
        naive = Naive("binomial over votes", "binomial", True)
        least = 1 - SIZE_DYADIC
        return (
            Row("`yoked_effect`, dyadic", "rejected", 0, SIZE_DYADIC if null else 1, "covered", least, (naive,) * null),
            Row("`win_rate`, two-way", "two_way", 0, SIZE if null else 1, "two_way_covers", COVERAGE),
        )

    def replicate(self, rng: np.random.Generator) -> Mapping[str, float]:
        n = self.people
        u, w = 0.3 * rng.standard_normal(n), 0.3 * rng.standard_normal(self.items)
        q = self.quality * rng.standard_normal(n)
        first = np.repeat(np.arange(n), self.partners * self.items)
        step = np.tile(np.repeat(np.arange(1, self.partners + 1), self.items), n)
        items = np.tile(np.arange(self.items), n * self.partners)
        second = (first + step) % n
        people, sources = np.concatenate([first, second]), np.concatenate([second, first])
        items = np.concatenate([items, items])
        order = np.argsort(people, kind="stable")
        people, sources, items = people[order], sources[order], items[order]
        centre = logit_for(self.rate, math.sqrt(2 * 0.3**2 + 2 * self.quality**2))
        chance = expit(centre + u[people] + w[items] + q[people] - q[sources])
        votes = own_other_votes(people, items, rng.random(len(chance)) < chance, rng, sources)
        found = yoked_effect(votes, provenance=UNRECORDED)
        rate = win_rate(votes, "own", "other", provenance=UNRECORDED)
        return {
            "rejected": found.p < ALPHA,
            "covered": found.ci_low <= self.effect <= found.ci_high,
            "two_way": rate.p < ALPHA,
            "two_way_covers": rate.ci_low <= self.rate <= rate.ci_high,
            "binomial": 2 * ndtr(-abs(rate.estimate - 0.5) / rate.naive["se"]) < ALPHA,
        }


CELLS: tuple[Cell, ...] = (
    Opponents("20 people, balanced opponents", 20, 20, 2, "balanced", 0.5),
    Opponents("20 people, random opponents", 20, 20, 2, "random", 0.5),
    Opponents("20 people, opponents from four", 20, 20, 1, "few", 0.5),
    Opponents("6 people, balanced opponents", 6, 18, 5, "balanced", 0.5),
    Opponents("60 people, random opponents", 60, 20, 1, "random", 0.5),
    Yoked("yoked, 20 people", 20, 20, 2, 0.5),
    Yoked("yoked, 60 people", 60, 20, 1, 0.5),
    Yoked("yoked, planted", 60, 20, 1, 0.5, rate=0.56),
)
