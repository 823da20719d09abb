"""Strengths from resampled participants (and prompts): a check of the intervals that the sandwich gives.

Whole participants are drawn with replacement; a participant drawn twice counts twice. A resample changes only the
counts of (left, right, choice), so all of them are fitted together by Newton's method on a batch of small tables
(`analysis.batched_fits`). With prompts drawn too (the pigeonhole bootstrap, Owen 2007, doi:10.1214/07-AOAS122) a vote
counts as often as its participant times as often as its prompt.

Participants alone speak for new people on these prompts. With both, intervals are conservative when effects of people
and prompts are small. Never resample votes: they are not independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from analysis.batched_fits import fit_batch
from analysis.clusters import Floats
from analysis.comparisons import Comparisons, comparisons
from analysis.davidson import Ties, fit_counts, strength_design
from analysis.errors import EstimateError
from analysis.existence import finite_counts, require_finite
from analysis.results import Population, Provenance, Result
from analysis.tables import check_votes
from analysis.trials import estimand_for

if TYPE_CHECKING:
    import pandas as pd

Over = Literal["participants", "participants-and-prompts"]

BATCH = 250
"""Resamples fitted together: bounds memory, changes no number."""


@dataclass(frozen=True)
class ResampledStrength:
    """Log strength relative to the reference: of all votes, and percentiles and SD of the resamples."""

    condition: str
    log_strength: float
    se: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True, kw_only=True)
class ResampledRanking(Result):
    """See `resample_ranking`.

    Attributes
    ----------
    conditions : tuple of ResampledStrength
        Strongest first.
    n_resamples, n_failed : int
        Asked for; and those without a finite fit, which are left out.
    """

    conditions: tuple[ResampledStrength, ...]
    reference: str
    ties: Ties
    over: Over
    n_resamples: int
    n_failed: int
    n_votes: int
    n_participants: int
    n_prompts: int
    confidence: float

    def summary(self) -> str:
        """One paragraph for a results section."""
        listed = "; ".join(
            f"{c.condition} {c.log_strength:.3f} [{c.ci_low:.3f}, {c.ci_high:.3f}]" for c in self.conditions
        )
        return (
            f"Log strengths relative to {self.reference} with {100 * self.confidence:g} % percentile intervals of "
            f"{self.n_resamples - self.n_failed} resamples of {self.over.replace('-', ' ')} ({self.n_votes} votes of "
            f"{self.n_participants} participants on {self.n_prompts} prompts): {listed}. "
            f"Estimand: {self.estimand.text}."
        )

    def to_frame(self) -> pd.DataFrame:
        """One row a condition."""
        import pandas as pd

        return pd.DataFrame([vars(c) for c in self.conditions])


def resample_ranking(
    votes: pd.DataFrame,
    *,
    rng: np.random.Generator,
    over: Over = "participants",
    n_resamples: int = 1000,
    ties: Ties = "davidson",
    reference: str | None = None,
    confidence: float = 0.95,
    provenance: Provenance | None = None,
) -> ResampledRanking:
    """Percentile intervals of all log strengths from resampled clusters.

    Parameters
    ----------
    votes : DataFrame
        See `analysis.tables`.
    rng : Generator
    over : {"participants", "participants-and-prompts"}
        What is drawn; the second costs a pass over all votes for each resample.
    n_resamples : int
    ties, reference, confidence, provenance
        As for `rank_conditions`; the order effect is fitted when any pair was seen in both orders.

    Raises
    ------
    EstimateError
        Whatever `rank_conditions` refuses, or more than one resample in ten without a finite fit.
    """
    votes = check_votes(votes)
    data = comparisons(votes)
    names = data.names
    reference = reference or names[0]
    if reference not in names:
        raise EstimateError(f"no condition {reference!r} in the votes", ", ".join(names), "name one of these")
    at = names.index(reference)
    finite_counts(data.counts, names, 0.0)
    fit = fit_counts(data.counts, strength_design(data.counts, at, data.both_orders), ties)
    require_finite(fit, data.counts)
    tables = _resampled(data, over, n_resamples, rng)
    batches = (tables[k : k + BATCH] for k in range(0, n_resamples, BATCH))
    fitted = np.concatenate([fit_batch(batch, fit.design, ties, fit.parameters) for batch in batches])
    usable = np.isfinite(fitted).all(axis=1)
    n_failed = int((~usable).sum())
    if n_failed > n_resamples / 10:
        raise EstimateError(
            f"{n_failed} of {n_resamples} resamples have no finite strengths",
            "conditions that win and lose in nearly all resamples",
            "collect votes from more participants",
        )
    draws = np.insert(fitted[usable, : len(names) - 1], at, 0.0, axis=1)
    values = np.insert(fit.parameters[: len(names) - 1], at, 0.0)
    ends = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    order = sorted(range(len(names)), key=lambda k: (-values[k], names[k]))
    population = Population("new", "new" if over == "participants-and-prompts" else "these")
    quantity = f"log strength of each condition relative to {reference}"
    estimand, few = estimand_for(quantity, population, data.n_people, data.n_items)
    failed = (f"{n_failed} resamples had no finite strengths and were left out",) if n_failed else ()
    return ResampledRanking(
        estimand=estimand,
        exclusions=data.exclusions,
        warnings=few + failed,
        provenance=provenance or Provenance.of({"votes": votes}),
        conditions=tuple(
            ResampledStrength(
                names[k], float(values[k]), float(draws[:, k].std(ddof=1)), float(ends[0, k]), float(ends[1, k])
            )
            for k in order
        ),
        reference=reference,
        ties=ties,
        over=over,
        n_resamples=n_resamples,
        n_failed=n_failed,
        n_votes=len(data.cell),
        n_participants=data.n_people,
        n_prompts=data.n_items,
        confidence=confidence,
    )


def _resampled(data: Comparisons, over: Over, n_resamples: int, rng: np.random.Generator) -> Floats:
    """Counts (resamples, ordered pairs, 3)."""
    n_kinds = 3 * len(data.counts.left)
    counts = np.empty((n_resamples, n_kinds))
    for start in range(0, n_resamples, BATCH):
        part = counts[start : start + BATCH]
        people = _multiplicities(data.n_people, rng, len(part))
        if over == "participants":
            part[:] = people @ data.tables.by_people
            continue
        items = _multiplicities(data.n_items, rng, len(part))
        for row, p, i in zip(part, people, items, strict=True):
            row[:] = np.bincount(data.cell, p[data.people] * i[data.items], n_kinds)
    return counts.reshape(n_resamples, -1, 3)


def _multiplicities(n: int, rng: np.random.Generator, n_resamples: int) -> Floats:
    """How often each of `n` clusters is drawn, (resamples, n)."""
    drawn = np.empty((n_resamples, n))
    for row in drawn:
        row[:] = np.bincount(rng.integers(0, n, n, dtype=np.int32), minlength=n)
    return drawn
