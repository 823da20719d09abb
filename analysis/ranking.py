"""Ranking of all conditions from votes with ties: the models of `analysis.davidson` applied to a table of votes.

The order effect (what the left side gains) is fitted when at least one pair was seen in both orders. A condition that
wins or loses everything has no finite strength: that is refused unless some pseudo-wins are asked for, and then a
warning says so. Whether one dimension is enough is tested against the model with a free difference for every pair.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.charts import interval_chart
from analysis.clusters import Floats, t_quantile, two_sided_p
from analysis.coded_votes import CodedVotes
from analysis.comparisons import Comparisons, comparisons
from analysis.davidson import TIE, Fit, Ties, choice_log_probabilities, fit_counts, strength_design
from analysis.dimension import PairFit, dimension_test, pair_fits
from analysis.errors import EstimateError
from analysis.existence import finite_counts, require_finite
from analysis.multiplicity import holm
from analysis.results import Population, Provenance, Result, p_text
from analysis.sandwich import Sandwich, two_way_sandwich
from analysis.tables import check_votes
from analysis.trials import estimand_for

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

ELO = 400 / math.log(10)
"""Elo points a unit of log strength: a display scale, nothing is estimated in it."""

MOST_FOR_DIFFERENCES = 30
"""Conditions up to which all pairwise differences are listed."""


@dataclass(frozen=True)
class Strength:
    """One condition: log strength relative to the reference; `se_model` ignores clusters (for comparison only)."""

    condition: str
    log_strength: float
    se: float
    ci_low: float
    ci_high: float
    se_model: float
    elo: float


@dataclass(frozen=True)
class Difference:
    """Log strength of `first` less that of `second`; `p_holm` over all pairs; descriptive unless it was planned.

    `win_probability` is that of `first` given no tie and no side.
    """

    first: str
    second: str
    log_ratio: float
    se: float
    ci_low: float
    ci_high: float
    t: float
    p: float
    p_holm: float
    win_probability: float


@dataclass(frozen=True, kw_only=True)
class Ranking(Result):
    """See `rank_conditions`.

    Attributes
    ----------
    conditions : tuple of Strength
        Strongest first; the reference has strength 0 and no error.
    differences : tuple of Difference
        All pairs, the stronger first (empty above 30 conditions).
    covariance : array (K, K)
        Two-way covariance of the log strengths, in the order of `conditions`.
    tie_parameter, tie_parameter_se : float or None
        nu (Davidson, 0 or more) or theta (Rao-Kupper, 1 or more); None without ties.
    order_effect, order_effect_se : float or None
        log gamma: what the left side adds to the log strength; None when it was not fitted.
    log_likelihood : float
        Of the votes (without pseudo-wins).
    dimension : mapping or None
        `statistic`, `df`, `df_error`, `design_effect`, `p` of the test that one strength a condition is enough; None
        when there are no more pairs than strengths.
    pairs : tuple of PairFit
        Observed and fitted win rate of every pair: where the model fails.
    """

    conditions: tuple[Strength, ...]
    differences: tuple[Difference, ...]
    covariance: Floats
    tie_parameter: float | None
    tie_parameter_se: float | None
    order_effect: float | None
    order_effect_se: float | None
    log_likelihood: float
    converged: bool
    steps: int
    reference: str
    ties: Ties
    df: int
    n_votes: int
    n_ties: int
    n_participants: int
    n_prompts: int
    confidence: float
    dimension: Mapping[str, float] | None
    pairs: tuple[PairFit, ...]

    def summary(self) -> str:
        """One paragraph for a results section."""
        name = {"davidson": "Davidson", "rao-kupper": "Rao-Kupper"}[self.ties]
        listed = "; ".join(
            f"{c.condition} {c.log_strength:.3f}"
            + ("" if c.condition == self.reference else f" [{c.ci_low:.3f}, {c.ci_high:.3f}]")
            for c in self.conditions
        )
        fits = ""
        if self.dimension is not None:
            worst = max(self.pairs, key=lambda pair: abs(pair.observed - pair.fitted))
            fits = (
                f" One strength a condition against one difference a pair: F({self.dimension['df']:.0f}, "
                f"{self.dimension['df_error']:.0f}) = {self.dimension['statistic']:.2f}, "
                f"{p_text(self.dimension['p'])}; worst pair {worst.first} over {worst.second} {worst.observed:.3f} "
                f"observed, {worst.fitted:.3f} fitted."
            )
        return (
            f"Log strengths relative to {self.reference} ({name} model of {self.n_votes} votes, {self.n_ties} ties; "
            f"{100 * self.confidence:g} % CI with clusters of {self.n_participants} participants and "
            f"{self.n_prompts} prompts, t with {self.df} df): {listed}.{fits} Estimand: {self.estimand.text}."
        )

    def to_frame(self) -> pd.DataFrame:
        """One row a condition."""
        import pandas as pd

        return pd.DataFrame([vars(c) for c in self.conditions])

    def tables(self) -> dict[str, pd.DataFrame]:
        """Strengths, their differences, and observed against fitted win rates of every pair."""
        import pandas as pd

        frames = {"result": self.to_frame(), "pairs": pd.DataFrame([vars(pair) for pair in self.pairs])}
        if self.differences:
            frames["differences"] = pd.DataFrame([vars(d) for d in self.differences])
        return frames

    def plot(self) -> alt.LayerChart:
        """Log strengths with their intervals, strongest first."""
        frame = self.to_frame().rename(columns={"log_strength": "estimate"})
        axis = f"log strength relative to {self.reference}"
        return interval_chart(frame, "condition", axis, "Strength of the conditions", 0.0)


def rank_conditions(
    votes: pd.DataFrame | CodedVotes,
    *,
    ties: Ties = "davidson",
    reference: str | None = None,
    order_effect: bool | None = None,
    pseudo_wins: float = 0.0,
    confidence: float = 0.95,
    population: Population | None = None,
    provenance: Provenance | None = None,
) -> Ranking:
    """Log strengths of all conditions, relative to one of them.

    Parameters
    ----------
    votes : DataFrame or CodedVotes
        See `analysis.tables`, `analysis.coded_votes`; main votes between two different conditions are used.
    ties : {"davidson", "rao-kupper"}
    reference : str, optional
        Condition with strength 0; the first in alphabetical order unless given.
    order_effect : bool, optional
        Fit what the left side gains. Default: when any pair was seen in both orders.
    pseudo_wins : float
        Wins added on each side of every pair where a condition wins or loses everything (0 refuses such votes).
    confidence : float
    population : Population, optional
        New people and new prompts unless given.
    provenance : Provenance, optional

    Raises
    ------
    EstimateError
        Conditions that no chain of votes connects, only ties, an infinite strength, fewer than two participants or
        prompts, no convergence.
    """
    if not isinstance(votes, CodedVotes):
        votes = check_votes(votes)
    population = population or Population()
    data = comparisons(votes)
    names = data.names
    reference = reference or names[0]
    if reference not in names:
        raise EstimateError(f"no condition {reference!r} in the votes", ", ".join(names), "name one of these")
    counts, warnings = finite_counts(data.counts, names, pseudo_wins)
    with_order = data.both_orders if order_effect is None else order_effect
    if not data.both_orders and order_effect is None:
        warnings += ("every pair was seen in one order only: a preference for a side cannot be told from strength",)
    fit = fit_counts(counts, strength_design(counts, names.index(reference), with_order), ties)
    require_finite(fit, counts)
    sandwich = _sandwich(fit, data, population)
    estimand, few = estimand_for(
        f"log strength of each condition relative to {reference}", population, data.n_people, data.n_items
    )
    strengths, differences, covariance = _strengths(fit, sandwich, names, names.index(reference), confidence)
    at, unit = len(names) - 1, np.eye(len(fit.parameters))
    tie = None if fit.tie is None else math.exp(fit.tie)
    return Ranking(
        estimand=estimand,
        exclusions=data.exclusions,
        warnings=few + warnings,
        provenance=provenance or Provenance.of({"votes": votes.path if isinstance(votes, CodedVotes) else votes}),
        conditions=strengths,
        differences=differences,
        covariance=covariance,
        tie_parameter=tie,
        tie_parameter_se=None if tie is None else tie * sandwich.se(unit[-1]),
        order_effect=float(fit.parameters[at]) if with_order else None,
        order_effect_se=sandwich.se(unit[at]) if with_order else None,
        log_likelihood=_log_likelihood(fit, data),
        converged=True,
        steps=fit.steps,
        reference=reference,
        ties=ties,
        df=sandwich.df,
        n_votes=data.exclusions.n_used,
        n_ties=int(data.counts.votes[:, TIE].sum()),
        n_participants=data.n_people,
        n_prompts=data.n_items,
        confidence=confidence,
        dimension=dimension_test(fit, counts, data, population),
        pairs=pair_fits(data, fit),
    )


def _sandwich(fit: Fit, data: Comparisons, population: Population) -> Sandwich:
    scores = fit.scores.reshape(-1, fit.scores.shape[-1])
    return two_way_sandwich(fit.information, scores, data.tables, population)


def _log_likelihood(fit: Fit, data: Comparisons) -> float:
    log_p = choice_log_probabilities(fit.differences, fit.tie, fit.ties)
    seen = data.counts.votes > 0  # without ties their log probability is -inf, and none was seen
    return float((data.counts.votes[seen] * log_p[seen]).sum())


def _strengths(
    fit: Fit, sandwich: Sandwich, names: tuple[str, ...], reference: int, confidence: float
) -> tuple[tuple[Strength, ...], tuple[Difference, ...], Floats]:
    """Strengths in descending order, their differences, and the covariance in the same order."""
    n_free = len(names) - 1
    pick = np.delete(np.eye(len(names)), reference, axis=1)  # strengths from the free parameters
    pick = np.column_stack([pick, np.zeros((len(names), len(fit.parameters) - n_free))])
    values = pick @ fit.parameters
    order = sorted(range(len(names)), key=lambda k: (-values[k], names[k]))
    quantile = t_quantile(0.5 + confidence / 2, sandwich.df)
    model = np.linalg.inv(fit.information)
    strengths = []
    for k in order:
        value, se = float(values[k]), sandwich.se(pick[k])
        ends = value - quantile * se, value + quantile * se
        strengths.append(Strength(names[k], value, se, *ends, math.sqrt(pick[k] @ model @ pick[k]), ELO * value))
    covariance = pick @ sandwich.covariance @ pick.T
    differences = _differences(values, pick, sandwich, names, order, quantile)
    return tuple(strengths), differences, covariance[np.ix_(order, order)]


def _differences(
    values: Floats, pick: Floats, sandwich: Sandwich, names: tuple[str, ...], order: list[int], quantile: float
) -> tuple[Difference, ...]:
    if len(names) > MOST_FOR_DIFFERENCES:
        return ()
    rows = []
    for at, i in enumerate(order):
        for j in order[at + 1 :]:
            value, se = float(values[i] - values[j]), sandwich.se(pick[i] - pick[j])
            rows.append((names[i], names[j], value, se, value / se, two_sided_p(value / se, sandwich.df)))
    adjusted = holm([row[-1] for row in rows])
    return tuple(
        Difference(i, j, d, se, d - quantile * se, d + quantile * se, t, p, p_holm, 1 / (1 + math.exp(-d)))
        for (i, j, d, se, t, p), p_holm in zip(rows, adjusted, strict=True)
    )
