"""Planned comparisons of conditions: win rates with Holm's correction and simultaneous intervals.

Holm's adjusted p values are for claims. The max-T intervals hold for all contrasts at once; with 20 to 40 clusters they
are slightly liberal (family-wise error .031 to .069 at .05), so they are for the picture. See `analysis.multiplicity`.

Assumes what each win rate assumes (`analysis.win_rates`): rows independent across people and prompts, both drawn at
random. Holm's correction needs nothing more (Holm 1979); the simultaneous intervals take the contrasts as jointly t
(Hothorn, Bretz & Westfall 2008, doi:10.1002/bimj.200810425). Wrong when contrasts are chosen after looking: then all
pairs must be counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.charts import interval_chart
from analysis.clusters import ClusterMean, Floats, cell_codes, integer_codes, meat, t_quantile, two_way_meat
from analysis.errors import EstimateError
from analysis.multiplicity import holm as holm
from analysis.multiplicity import max_t_quantile
from analysis.results import Exclusions, Population, Provenance, Result, p_text, percent
from analysis.tables import check_votes
from analysis.trials import FocalTrials, clustered, estimand_for, focal_trials, naive_test, rate_interval

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd


@dataclass(frozen=True)
class Contrast:
    """One planned contrast; the interval is its own, `simultaneous_*` hold for all contrasts together.

    `naive_*` take the votes as independent: for comparison only, no valid test.
    """

    focal: str
    against: str
    estimate: float
    ci_low: float
    ci_high: float
    simultaneous_low: float
    simultaneous_high: float
    se: float
    df: int
    t: float
    p: float
    p_holm: float
    n_votes: int
    n_ties: int
    n_participants: int
    n_prompts: int
    method: str
    naive_se: float
    naive_p: float


@dataclass(frozen=True, kw_only=True)
class Contrasts(Result):
    """See `planned_contrasts`.

    Attributes
    ----------
    contrasts : tuple of Contrast
    correlation : array (k, k)
        Of the estimates, from the two-way variance.
    simultaneous_quantile : float
        Standard errors to either side for the simultaneous intervals.
    """

    contrasts: tuple[Contrast, ...]
    correlation: Floats
    simultaneous_quantile: float
    confidence: float

    def summary(self) -> str:
        """One paragraph for a results section."""
        parts = [
            f"{c.focal} over {c.against} {percent(c.estimate)} ({100 * self.confidence:g} % CI {percent(c.ci_low)} to "
            f"{percent(c.ci_high)}, t({c.df}) = {c.t:.2f}, Holm-adjusted {p_text(c.p_holm)})"
            for c in self.contrasts
        ]
        return (
            f"{len(parts)} planned contrasts, two-sided, corrected by Holm: {'; '.join(parts)}. "
            f"Estimand: {self.estimand.text}. Not valid tests, for comparison only: taking votes as independent gives "
            f"{', '.join(p_text(c.naive_p) for c in self.contrasts)} before correction."
        )

    def to_frame(self) -> pd.DataFrame:
        """One row a contrast."""
        import pandas as pd

        return pd.DataFrame([vars(c) for c in self.contrasts])

    def plot(self) -> alt.LayerChart:
        """Estimates with their own intervals (thick) and the simultaneous ones (thin)."""
        frame = self.to_frame().rename(columns={"simultaneous_low": "outer_low", "simultaneous_high": "outer_high"})
        frame = frame.assign(contrast=frame["focal"] + " over " + frame["against"])
        return interval_chart(frame, "contrast", "win rate", "Planned contrasts", 0.5, percent=True)


def planned_contrasts(
    votes: pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    *,
    rng: np.random.Generator,
    confidence: float = 0.95,
    population: Population | None = None,
    provenance: Provenance | None = None,
) -> Contrasts:
    """Win rates of planned pairs of conditions, corrected for their number.

    Parameters
    ----------
    votes : DataFrame
        See `analysis.tables`; main votes only are used.
    pairs : sequence of (focal, against)
        All planned contrasts, each pair once.
    rng : Generator
        For the simultaneous quantile.
    confidence : float
    population : Population, optional
    provenance : Provenance, optional

    Raises
    ------
    EstimateError
        A pair twice, an unknown condition, or any contrast that `win_rate` refuses.
    """
    votes = check_votes(votes)
    population = population or Population()
    _require_distinct(pairs)
    trials = [focal_trials(votes, focal, against) for focal, against in pairs]
    fits = [clustered(one, population) for one in trials]
    means = [mean for mean, _ in fits]
    correlation = _correlation(votes, trials, means, population)
    df = min(mean.df for mean in means)
    quantile = max_t_quantile(correlation, df, confidence, rng)
    adjusted = holm([mean.test(0.5)[1] for mean in means])
    contrasts = tuple(
        _contrast(pair, one, mean, p_holm, confidence, quantile)
        for pair, one, mean, p_holm in zip(pairs, trials, means, adjusted, strict=True)
    )
    quantity = "probability that the first condition is chosen over the second, a tie counting one half"
    fewest = min(c.n_participants for c in contrasts), min(c.n_prompts for c in contrasts)
    estimand, few = estimand_for(quantity, population, *fewest)
    told = [f"{c.focal} over {c.against}: {w}" for c, (_, ws) in zip(contrasts, fits, strict=True) for w in ws]
    return Contrasts(
        estimand=estimand,
        exclusions=_exclusions(votes, trials),
        warnings=(*few, *told),
        provenance=provenance or Provenance.of({"votes": votes}),
        contrasts=contrasts,
        correlation=correlation,
        simultaneous_quantile=quantile,
        confidence=confidence,
    )


def _require_distinct(pairs: Sequence[tuple[str, str]]) -> None:
    if not pairs:
        raise EstimateError("no contrasts", "at least one focal:against")
    seen: set[frozenset[str]] = set()
    for focal, against in pairs:
        if frozenset((focal, against)) in seen:
            raise EstimateError(f"{focal}:{against} is planned twice", "each pair of conditions once", "drop one")
        seen.add(frozenset((focal, against)))


def _contrast(
    pair: tuple[str, str], trials: FocalTrials, mean: ClusterMean, p_holm: float, confidence: float, quantile: float
) -> Contrast:
    t, p = mean.test(0.5)
    ci_low, ci_high = rate_interval(mean, t_quantile(0.5 + confidence / 2, mean.df))
    outer_low, outer_high = rate_interval(mean, quantile)
    naive_se, naive_p = naive_test(trials.y, mean.estimate)
    return Contrast(
        focal=pair[0],
        against=pair[1],
        estimate=mean.estimate,
        ci_low=ci_low,
        ci_high=ci_high,
        simultaneous_low=outer_low,
        simultaneous_high=outer_high,
        se=mean.se,
        df=mean.df,
        t=t,
        p=p,
        p_holm=p_holm,
        n_votes=mean.n,
        n_ties=int((trials.y == 0.5).sum()),
        n_participants=int(trials.people.max()) + 1,
        n_prompts=int(trials.items.max()) + 1,
        method=mean.method,
        naive_se=naive_se,
        naive_p=naive_p,
    )


def _correlation(
    votes: pd.DataFrame, trials: Sequence[FocalTrials], means: Sequence[ClusterMean], population: Population
) -> Floats:
    """Correlation of the estimates: contrasts share people and prompts, never a vote."""
    rows = np.concatenate([one.rows for one in trials])
    used = votes.iloc[rows]
    scores = np.zeros((len(rows), len(trials)))
    start = 0
    for k, (one, mean) in enumerate(zip(trials, means, strict=True)):
        scores[start : start + mean.n, k] = (one.y - mean.estimate) / mean.n
        start += mean.n
    (people, n_people), (items, n_items) = (integer_codes(used[c]) for c in ("participant_id", "prompt_id"))
    if population.people == "new" and population.items == "new":
        by_people, by_items, by_cells = two_way_meat(scores, people, items)
        # the difference may be indefinite or have a zero on its diagonal; the sum of two meats never is
        values, vectors = np.linalg.eigh(by_people + by_items - by_cells)
        variance = (vectors * np.clip(values, 0, None)) @ vectors.T
        if (np.diag(variance) <= 1e-3 * np.diag(by_people + by_items)).any():
            variance = by_people + by_items
    elif population.people == "new":
        variance = meat(scores, people, n_people)
    elif population.items == "new":
        variance = meat(scores, items, n_items)
    else:
        variance = meat(scores, *cell_codes(people, items, n_items))
    scale = np.sqrt(np.diag(variance))
    return np.asarray(variance / np.outer(scale, scale))


def _exclusions(votes: pd.DataFrame, trials: Sequence[FocalTrials]) -> Exclusions:
    n_used = sum(len(one.rows) for one in trials)
    not_main = int((votes["kind"] != "main").sum()) if "kind" in votes else 0
    reasons = (("kind is not main", not_main), ("no planned contrast", len(votes) - not_main - n_used))
    return Exclusions(len(votes), n_used, tuple(r for r in reasons if r[1]), "votes")


def parse_contrasts(text: str) -> list[tuple[str, str]]:
    """Read `own:other,own:unoptimised`."""
    pairs = []
    for part in text.split(","):
        focal, colon, against = (x.strip() for x in part.partition(":"))
        if not (focal and colon and against):
            raise EstimateError(f"contrast {part!r}", "FOCAL:AGAINST,…", "write for instance own:other")
        pairs.append((focal, against))
    return pairs
