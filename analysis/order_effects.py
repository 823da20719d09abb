"""What the side, the place in the session and the last answer do to votes.

* The side: what the left gains, from a linear model of "left chosen" with a term for each condition, so that conditions
  shown more often on one side do not count as a side effect; two-way clusters.
* Fatigue: left share, tie rate and response time in the first and the last third of each participant's votes, and their
  difference with two-way clusters.
* Carry-over: whether a participant repeats (or avoids) the side just chosen: lag-one correlation within participants
  against all orders of the same answers, whose mean and variance are known (Wald & Wolfowitz 1943,
  doi:10.1214/aoms/1177731358).

Assumes sides were drawn at random for each trial. Wrong where they were fixed, or where prompts follow an order of
their own: then thirds differ by their prompts too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import erfc

from analysis.clusters import Floats, Ints, cluster_mean, t_quantile
from analysis.comparisons import Comparisons, comparisons
from analysis.davidson import LEFT, TIE
from analysis.errors import EstimateError
from analysis.results import Population, Provenance, Result, p_text
from analysis.tables import check_votes
from analysis.trials import estimand_for

if TYPE_CHECKING:
    import pandas as pd

FEWEST_FOR_THIRDS = 6
"""Votes a participant needs for thirds and carry-over to be looked at."""


@dataclass(frozen=True)
class Effect:
    """One quantity with its interval and test of zero."""

    name: str
    estimate: float
    se: float
    ci_low: float
    ci_high: float
    t: float
    p: float


@dataclass(frozen=True)
class Third:
    """Votes of one third of every participant's session; `median_ms` is NaN without response times."""

    third: int
    n_votes: int
    left_share: float
    tie_rate: float
    median_ms: float


@dataclass(frozen=True, kw_only=True)
class OrderEffects(Result):
    """See `session_effects`.

    Attributes
    ----------
    side : Effect
        Share of left choices less one half (a tie one half), at equal conditions.
    thirds : tuple of Third
        Empty without an `order` column.
    fatigue : tuple of Effect
        Last third less first: left share, tie rate, log response time (where recorded).
    carry_over : Effect or None
        Lag-one correlation of chosen sides within participants, less what shuffled answers give.
    """

    side: Effect
    thirds: tuple[Third, ...]
    fatigue: tuple[Effect, ...]
    carry_over: Effect | None
    n_votes: int
    n_participants: int
    n_prompts: int
    confidence: float

    def summary(self) -> str:
        """One paragraph for a methods section."""
        effects = [self.side, *self.fatigue, *([self.carry_over] if self.carry_over else [])]
        told = "; ".join(
            f"{e.name} {e.estimate:+.3f} [{e.ci_low:+.3f}, {e.ci_high:+.3f}], {p_text(e.p)}" for e in effects
        )
        return (
            f"Order effects in {self.n_votes} votes of {self.n_participants} participants on {self.n_prompts} prompts "
            f"({100 * self.confidence:g} % CI): {told}. Estimand: {self.estimand.text}."
        )

    def to_frame(self) -> pd.DataFrame:
        """One row an effect."""
        import pandas as pd

        effects = [self.side, *self.fatigue, *([self.carry_over] if self.carry_over else [])]
        return pd.DataFrame([vars(effect) for effect in effects])

    def tables(self) -> dict[str, pd.DataFrame]:
        """Effects, and the thirds of the sessions."""
        import pandas as pd

        return {"result": self.to_frame(), "thirds": pd.DataFrame([vars(third) for third in self.thirds])}


def session_effects(
    votes: pd.DataFrame, *, confidence: float = 0.95, provenance: Provenance | None = None
) -> OrderEffects:
    """Side bias, fatigue and carry-over of the main votes between two different conditions.

    Parameters
    ----------
    votes : DataFrame
        See `analysis.tables`; `order` (with `session`, where there are several) tells which vote came first.
    confidence : float
    provenance : Provenance, optional

    Raises
    ------
    EstimateError
        No pair shown in both orders, fewer than two participants or prompts, answers that do not vary.
    """
    votes = check_votes(votes)
    data = comparisons(votes)
    if not data.both_orders:
        raise EstimateError("every pair was shown in one order only", "pairs in both orders", "draw sides at random")
    choice, pair = data.cell % 3, data.cell // 3
    chose_left = np.where(choice == TIE, 0.5, (choice == LEFT).astype(float))
    side = _side(chose_left, data, pair, confidence)
    population = Population()
    quantity = "share of left choices less one half at equal conditions, and its change over a session"
    estimand, warnings = estimand_for(quantity, population, data.n_people, data.n_items)
    thirds: tuple[Third, ...] = ()
    fatigue: tuple[Effect, ...] = ()
    carry_over = None
    if "order" in votes:
        used = votes.iloc[data.rows]
        sequence = _sequence(used, data.people)
        third = _thirds(sequence, data.people, data.n_people)
        thirds, fatigue = _fatigue(used, chose_left, choice, third, data, confidence)
        carry_over = _carry_over(choice[sequence], data.people[sequence], data.n_people, confidence)
    else:
        warnings += ("no column order: fatigue and carry-over were not looked at",)
    return OrderEffects(
        estimand=estimand,
        exclusions=data.exclusions,
        warnings=warnings,
        provenance=provenance or Provenance.of({"votes": votes}),
        side=side,
        thirds=thirds,
        fatigue=fatigue,
        carry_over=carry_over,
        n_votes=len(choice),
        n_participants=data.n_people,
        n_prompts=data.n_items,
        confidence=confidence,
    )


def _effect(name: str, estimate: float, influence: Floats, people: Ints, items: Ints, confidence: float) -> Effect:
    """An estimate whose error is the mean of per-vote influence values."""
    mean = cluster_mean(estimate + influence, people.astype(np.int64), items.astype(np.int64))
    half = t_quantile(0.5 + confidence / 2, mean.df) * mean.se
    t, p = mean.test(0)
    return Effect(name, estimate, mean.se, estimate - half, estimate + half, t, p)


def _side(chose_left: Floats, data: Comparisons, pair: Ints, confidence: float) -> Effect:
    """Intercept of least squares of "left chosen less one half" on the conditions of both sides."""
    counts = data.counts
    m = len(counts.left)
    design = np.zeros((m, counts.n_conditions))
    design[np.arange(m), counts.left] = 1
    design[np.arange(m), counts.right] -= 1
    X = np.column_stack([np.ones(m), design[:, 1:]])
    n = counts.votes.sum(axis=1)
    cross = (X * n[:, None]).T @ X
    total = np.bincount(pair, chose_left - 0.5, m)
    inverse = np.linalg.inv(cross)
    beta = inverse @ (X.T @ total)
    residual = chose_left - 0.5 - (X @ beta)[pair]
    influence = len(chose_left) * (X @ inverse[:, 0])[pair] * residual
    return _effect("left chosen", float(beta[0]), influence, data.people, data.items, confidence)


def _sequence(used: pd.DataFrame, people: Ints) -> Ints:
    """Positions of the votes by participant and, within them, in the order they were given."""
    keys = [used["order"].to_numpy()]
    if "session" in used:
        keys.append(used["session"].to_numpy())
    return np.lexsort([*keys, people]).astype(np.int64)


def _thirds(sequence: Ints, people: Ints, n_people: int) -> Ints:
    """0, 1, 2 by place in the participant's own sequence; -1 for participants with too few votes."""
    size = np.bincount(people, minlength=n_people)
    start = np.concatenate([[0], np.cumsum(size)[:-1]])
    place = np.empty(len(people), dtype=np.int64)
    place[sequence] = np.arange(len(people)) - start[people[sequence]]
    return np.where(size[people] >= FEWEST_FOR_THIRDS, 3 * place // size[people], -1)


def _fatigue(
    used: pd.DataFrame, chose_left: Floats, choice: Ints, third: Ints, data: Comparisons, confidence: float
) -> tuple[tuple[Third, ...], tuple[Effect, ...]]:
    if not (third >= 0).any():
        return (), ()
    tie = (choice == TIE).astype(float)
    ms = used["response_ms"].to_numpy(dtype=float) if "response_ms" in used else np.full(len(tie), np.nan)
    timed = np.isfinite(ms) & (ms > 0)
    thirds = []
    for k in range(3):
        rows = third == k
        median = float(np.median(ms[rows & timed])) if (rows & timed).any() else math.nan
        thirds.append(Third(k + 1, int(rows.sum()), float(chose_left[rows].mean()), float(tie[rows].mean()), median))
    changes = [("left chosen, last third less first", chose_left, third >= 0)]
    changes.append(("ties, last third less first", tie, third >= 0))
    if timed.any():
        log_ms = np.log(np.where(timed, ms, 1.0))
        changes.append(("log response time, last third less first", log_ms, (third >= 0) & timed))
    effects = [_change(name, y, third, kept, data, confidence) for name, y, kept in changes]
    return tuple(thirds), tuple(e for e in effects if e is not None)


def _change(name: str, y: Floats, third: Ints, kept: np.ndarray, data: Comparisons, confidence: float) -> Effect | None:
    """Mean of the last third less that of the first; None where the answers do not vary."""
    first, last = kept & (third == 0), kept & (third == 2)
    if not first.any() or not last.any() or np.ptp(y[first | last]) == 0:
        return None
    ends = [float(y[rows].mean()) for rows in (first, last)]
    n = len(y)
    influence = n * (last * (y - ends[1]) / last.sum() - first * (y - ends[0]) / first.sum())
    return _effect(name, ends[1] - ends[0], influence, data.people, data.items, confidence)


def _carry_over(choice: Ints, people: Ints, n_people: int, confidence: float) -> Effect | None:
    """Lag-one correlation of sides within participants (votes in order), against shuffled answers; ties left out."""
    decided = choice != TIE
    person, left = people[decided], (choice[decided] == LEFT).astype(float)
    n = np.bincount(person, minlength=n_people).astype(float)
    usable = n >= FEWEST_FOR_THIRDS
    mean = np.bincount(person, left, n_people) / np.maximum(n, 1)
    d = left - mean[person]
    s2, s4 = (np.bincount(person, d**k, n_people) for k in (2, 4))
    usable &= s2 > 0
    if not usable.any():
        return None
    adjacent = person[1:] == person[:-1]
    observed = np.bincount(person[1:][adjacent], (d[1:] * d[:-1])[adjacent], n_people)[usable]
    n, s2, s4 = n[usable], s2[usable], s4[usable]
    expected = -s2 / n
    squares = (s2**2 - s4) / (n * (n - 1))
    chained = (2 * s4 - s2**2) / (n * (n - 1) * (n - 2))
    apart = (3 * s2**2 - 6 * s4) / (n * (n - 1) * (n - 2) * (n - 3))
    variance = (n - 1) * squares + 2 * (n - 2) * chained + (n - 2) * (n - 3) * apart - expected**2
    scale = float((s2 * (n - 1) / n).sum())
    estimate, se = float((observed - expected).sum()) / scale, math.sqrt(float(variance.sum())) / scale
    if se <= 0:
        return None
    z = estimate / se
    half = t_quantile(0.5 + confidence / 2, 1e9) * se
    p = float(erfc(abs(z) / math.sqrt(2)))
    return Effect("same side as before (correlation)", estimate, se, estimate - half, estimate + half, z, p)
