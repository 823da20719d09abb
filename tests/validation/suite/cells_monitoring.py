"""Studies looked at after every participant."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.special import expit, ndtr, stdtr

from analysis import monitor_votes, win_rate
from analysis.betting import asymptotic_sequence, log_capital
from analysis.errors import EstimateError
from suite.core import ALPHA, COVERAGE, SIZE, UNRECORDED, Cell, Naive, Row
from suite.draw_votes import balanced_shifts, logit_for, own_other_votes

LOOKS = np.arange(10, 201, 5)
"""Participants after which the naive tests look."""


@dataclass(frozen=True)
class Monitored(Cell):
    """Log odds: centre + participant (SD .5) + fixed effect of each of the prompts, the same in every study."""

    people: int
    items: int
    sd_items: float
    rate: float = 0.5
    least_power: float = 0.0

    section: str = field(default="Looking after every participant", init=False)
    modules: tuple[str, ...] = field(default=("monitor",), init=False)

    @property
    def design(self) -> str:
        return f"{self.people} people, {self.items} fixed prompts; SDs 0.5, {self.sd_items:g}"

    @property
    def truth(self) -> str:
        return f"win rate {self.rate:g} on these prompts"

    @property
    def rows(self) -> tuple[Row, ...]:
        planted = self.rate != 0.5
        low, high = (self.least_power, 1.0) if planted else (0.0, SIZE)
        naive = (Naive("binomial at every fifth", "binomial", True), Naive("t test at every fifth", "t_test", True))
        rows = [
            Row("`monitor_votes` stops; sequence covers at every look", "stopped", low, high, "covered", COVERAGE),
            Row("asymptotic sequence, from the twentieth on", "asymptotic", low, high, "asymptotic_covers", COVERAGE),
        ]
        if planted:
            return tuple(rows)
        rows[0] = Row(rows[0].test, "stopped", 0.0, high, "covered", COVERAGE, naive)
        return (*rows, Row("mean e-value after the last participant", mean="e_value", high=1.0))

    def replicate(self, rng: np.random.Generator) -> Mapping[str, float]:
        shifts = balanced_shifts(self.items, self.sd_items)
        centre = logit_for(self.rate, 0.5, tuple(shifts.tolist()))
        people, items = np.repeat(np.arange(self.people), self.items), np.tile(np.arange(self.items), self.people)
        chance = expit(centre + 0.5 * rng.standard_normal(self.people)[people] + shifts[items])
        won = rng.random(len(chance)) < chance
        found = monitor_votes(own_other_votes(people, items, won, rng), "own", "other", provenance=UNRECORDED)
        low, high = np.array(found.ci_low_path), np.array(found.ci_high_path)
        sharp = asymptotic_sequence(found.means, alpha=ALPHA, t_opt=60)
        sharp_low, sharp_high = sharp.low[19:], sharp.high[19:]
        binomial, t_test = _peeking(np.array(found.means), self.items)
        return {
            "stopped": found.decision == "stop",
            "covered": bool(((low <= self.rate) & (self.rate <= high)).all()),
            "asymptotic": bool(((sharp_low > 0.5) | (sharp_high < 0.5)).any()),
            "asymptotic_covers": bool(((sharp_low <= self.rate) & (self.rate <= sharp_high)).all()),
            "e_value": found.e_value,
            "binomial": binomial,
            "t_test": t_test,
        }


def _peeking(means: np.ndarray, items: int) -> tuple[bool, bool]:
    """Whether a binomial over votes, and a t test over participants, ever falls below .05 at the looks."""
    n = LOOKS[len(means) >= LOOKS]
    running, squares = (np.cumsum(x)[n - 1] / n for x in (means, means**2))
    binomial = 2 * ndtr(-np.abs(running - 0.5) / np.sqrt(0.25 / (n * items)))
    se = np.sqrt((squares - running**2) / (n - 1))
    return bool((binomial < ALPHA).any()), bool((2 * stdtr(n - 1, -np.abs(running - 0.5) / se) < ALPHA).any())


@dataclass(frozen=True)
class NewPrompts(Cell):
    """Every study draws its own prompts (SD .6): a hypothesis about new prompts, which monitoring does not test."""

    people: int
    items: int

    section: str = field(default="What monitoring is not for", init=False)
    modules: tuple[str, ...] = field(default=("monitor", "win_rates"), init=False)

    @property
    def design(self) -> str:
        return f"{self.people} people, {self.items} new prompts in every study; SDs 0.5, 0.6"

    @property
    def truth(self) -> str:
        return "win rate 0.5 over new prompts"

    @property
    def rows(self) -> tuple[Row, ...]:
        naive = Naive("`monitor_votes`, read for new prompts", "stopped", True)
        return (Row("`win_rate` at the end", "rejected", 0, SIZE, "covered", COVERAGE, (naive,)),)

    def replicate(self, rng: np.random.Generator) -> Mapping[str, float]:
        people, items = np.repeat(np.arange(self.people), self.items), np.tile(np.arange(self.items), self.people)
        eta = 0.5 * rng.standard_normal(self.people)[people] + 0.6 * rng.standard_normal(self.items)[items]
        votes = own_other_votes(people, items, rng.random(len(eta)) < expit(eta), rng)
        found = win_rate(votes, "own", "other", provenance=UNRECORDED)
        seen = monitor_votes(votes, "own", "other", provenance=UNRECORDED)
        return {
            "rejected": found.p < ALPHA,
            "covered": found.ci_low <= 0.5 <= found.ci_high,
            "stopped": seen.decision == "stop",
        }


@dataclass(frozen=True)
class MonitoredSources(Cell):
    """Own images against those of four fixed persons, or yoked with the next person; SD of general quality .6."""

    people: int
    items: int
    opponents: Literal["few", "yoked"]

    section: str = field(default="What monitoring is not for", init=False)
    modules: tuple[str, ...] = field(default=("monitor",), init=False)

    @property
    def design(self) -> str:
        kind = "opponents from 4 fixed persons" if self.opponents == "few" else "yoked with the neighbours"
        return f"{self.people} people, {self.items} fixed prompts; {kind}, SD of quality 0.6"

    @property
    def truth(self) -> str:
        return "own no better than other"

    @property
    def rows(self) -> tuple[Row, ...]:
        if self.opponents == "few":
            naive = Naive("betting on the means all the same", "stopped_anyway", True)
            return (Row("`monitor_votes` refuses", "refused", 1.0, 1.0, naive=(naive,)),)
        naive = Naive("binomial over votes, at the end", "binomial", False)
        return (Row("`monitor_votes` stops", "stopped", 0, SIZE, naive=(naive,)),)

    def replicate(self, rng: np.random.Generator) -> Mapping[str, float]:
        n, m = self.people, self.items
        people, items = np.repeat(np.arange(n), m), np.tile(np.arange(m), n)
        if self.opponents == "few":
            sources = n + rng.integers(4, size=n * m)
        else:  # even prompts with the next person, odd ones with the one before: each pair is judged from both sides
            forward = ((people % 2) ^ (items % 2)) == 0
            sources = (people + np.where(forward, 1, -1)) % n
        q = 0.6 * rng.standard_normal(n + 4)
        eta = 0.5 * rng.standard_normal(n)[people] + balanced_shifts(m, 0.3)[items] + q[people] - q[sources]
        won = rng.random(n * m) < expit(eta)
        votes = own_other_votes(people, items, won, rng, sources)
        means = np.bincount(people, won) / m
        values = {
            "stopped_anyway": bool(log_capital(means, alpha=ALPHA).max() >= math.log(1 / ALPHA)),
            "binomial": 2 * ndtr(-abs(won.mean() - 0.5) / math.sqrt(0.25 / (n * m))) < ALPHA,
        }
        try:
            seen = monitor_votes(votes, "own", "other", provenance=UNRECORDED)
        except EstimateError:
            return {**values, "refused": True}
        return {**values, "refused": False, "stopped": seen.decision == "stop"}


CELLS: tuple[Cell, ...] = (
    Monitored("monitoring, nothing there", 200, 18, 0.0),
    Monitored("monitoring, prompts differ", 200, 18, 0.6),
    Monitored("monitoring, planted .538", 200, 18, 0.3, rate=0.538, least_power=0.55),
    Monitored("monitoring, planted .559", 200, 18, 0.3, rate=0.559, least_power=0.95),
    NewPrompts("monitoring, new prompts", 200, 18),
    MonitoredSources("monitoring, opponents from four", 200, 18, "few"),
    MonitoredSources("monitoring, yoked", 200, 18, "yoked"),
)
