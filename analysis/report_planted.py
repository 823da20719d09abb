"""What was planted in a simulated study beside what its analysis recovered.

Where people are simulated, the exact probability of every answer is known (`truth_votes`: trial_id, p_left, p_tie,
p_right). The planted win rate of a contrast is the mean over its trials of P(focal wins) + P(tie) / 2: what the votes
would show without the luck of the answers. The interval is for new people and new prompts, so it allows for more than
this luck and should hold the planted rate of its own study in more than its nominal share of studies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.clusters import t_quantile
from analysis.errors import EstimateError, TableError
from analysis.results import Estimand, Exclusions, Result, percent
from analysis.trials import clustered, focal_trials, rate_interval

if TYPE_CHECKING:
    import pandas as pd

    from analysis.report_sections import Material

COLUMNS = ("trial_id", "p_left", "p_tie", "p_right")


@dataclass(frozen=True)
class PlantedRate:
    """One contrast: the planted rate of this study's trials and the estimate from its votes."""

    focal: str
    against: str
    planted: float
    estimate: float
    ci_low: float
    ci_high: float
    inside: bool
    n_votes: int


@dataclass(frozen=True, kw_only=True)
class Planted(Result):
    """See the module; `rates` holds one row a planned contrast."""

    rates: tuple[PlantedRate, ...]
    confidence: float

    def summary(self) -> str:
        """One sentence a contrast."""
        lines = [
            f"{r.focal} over {r.against}: planted {percent(r.planted)}, recovered {percent(r.estimate)} "
            f"({100 * self.confidence:g} % CI {percent(r.ci_low)} to {percent(r.ci_high)}, "
            f"{'inside' if r.inside else 'outside'})."
            for r in self.rates
        ]
        return "\n".join([*lines, f"Estimand: {self.estimand.text}."])

    def to_frame(self) -> pd.DataFrame:
        """One row a contrast."""
        import pandas as pd

        return pd.DataFrame([vars(r) for r in self.rates])


def planted(material: Material, rng: np.random.Generator) -> Planted:
    """Planted and recovered win rates of every planned contrast; nothing here is random.

    Raises
    ------
    TableError
        `truth_votes` lacks a column, names a trial twice, or its probabilities do not add up to one.
    EstimateError
        Votes without `trial_id`, or trials without truth.
    """
    plan, votes = material.plan, material.tables["votes"]
    chances = _chances(votes, material.tables["truth_votes"])
    rates, n_used = [], 0
    for focal, against in plan.contrasts:
        trials = focal_trials(votes, focal, against)
        mean, _ = clustered(trials, plan.population)
        low, high = rate_interval(mean, t_quantile(0.5 + plan.confidence / 2, mean.df))
        shown = chances[trials.rows]
        true = float(np.mean(np.where(trials.focal_left, shown[:, 0], shown[:, 2]) + shown[:, 1] / 2))
        rates.append(PlantedRate(focal, against, true, mean.estimate, low, high, low <= true <= high, mean.n))
        n_used += mean.n
    left_out = len(votes) - n_used
    reasons = (("no planned contrast", left_out),) if left_out else ()
    return Planted(
        estimand=Estimand("win rate by the true probabilities of the answers in this study", "these", "these"),
        exclusions=Exclusions(len(votes), n_used, reasons, "votes"),
        provenance=material.provenance("votes", "truth_votes"),
        rates=tuple(rates),
        confidence=plan.confidence,
    )


def _chances(votes: pd.DataFrame, truth: pd.DataFrame) -> np.ndarray:
    """P(left), P(tie), P(right) of every vote, shape (n, 3), in the order of the votes."""
    missing = [name for name in COLUMNS if name not in truth.columns]
    if missing:
        raise TableError(f"truth_votes: no column {', '.join(missing)}", ", ".join(COLUMNS))
    if "trial_id" not in votes:
        raise EstimateError("the votes have no trial_id, so their true probabilities cannot be found")
    known = truth.set_index(truth["trial_id"].astype("str"))
    if known.index.has_duplicates:
        raise TableError("truth_votes: a trial_id appears twice", "one row a trial")
    chances = known[["p_left", "p_tie", "p_right"]].reindex(votes["trial_id"].astype("str")).to_numpy(dtype=float)
    if np.isnan(chances).any():
        raise EstimateError(f"{int(np.isnan(chances).any(axis=1).sum())} votes have no true probabilities")
    if np.abs(chances.sum(axis=1) - 1).max() > 1e-9:
        raise TableError("truth_votes: p_left + p_tie + p_right is not 1", "probabilities")
    return chances
