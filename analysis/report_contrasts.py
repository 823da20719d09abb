"""Questions that a report asks of every planned contrast beside its win rate: a model, and evidence at any time.

`logistic` is the crossed logistic model of `analysis.logistic` as a sensitivity analysis; `monitoring` the e-process
and confidence sequence of `analysis.monitor`, each contrast at its share of the error rate. A contrast for which the
number does not exist is listed with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.errors import EstimateError
from analysis.results import Exclusions, Result

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

    from analysis.report_sections import Material

MOST_VOTES_OF_A_MODEL = 20_000
"""Votes of one contrast beyond which a report does not fit the logistic model, which takes minutes then."""


@dataclass(frozen=True)
class Refused:
    """A contrast without the number, and why."""

    focal: str
    against: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class PerContrast(Result):
    """Results of one question for the planned contrasts, in the plan's order.

    Attributes
    ----------
    contrasts : tuple of Result
        Those that have one; each names its `focal` and `against`.
    refused : tuple of Refused
    shown : tuple of str
        Their fields that make a row of `to_frame`.
    """

    contrasts: tuple[Any, ...]
    refused: tuple[Refused, ...]
    shown: tuple[str, ...]

    def summary(self) -> str:
        """One paragraph a contrast."""
        missing = [f"{r.focal} over {r.against}: {r.reason}." for r in self.refused]
        return " ".join([*(result.summary() for result in self.contrasts), *missing])

    def to_frame(self) -> pd.DataFrame:
        """One row a contrast."""
        import pandas as pd

        return pd.DataFrame([{name: getattr(result, name) for name in self.shown} for result in self.contrasts])

    def plot(self) -> alt.Chart | alt.LayerChart | None:
        """The picture of the first contrast, which is the plan's primary one where it has a result."""
        chart: alt.Chart | alt.LayerChart | None = self.contrasts[0].plot()
        return chart


def _per_contrast(
    material: Material, ask: Callable[[str, str], Result], shown: tuple[str, ...], refusable: str
) -> PerContrast:
    """Ask for every planned contrast; `refusable` names the question where none has a result."""
    found: list[Any] = []
    refused = []
    for pair in material.plan.contrasts:
        try:
            found.append(ask(*pair))
        except EstimateError as error:
            refused.append(Refused(*pair, error.found))
    if not found:
        raise EstimateError("; ".join(f"{r.focal} over {r.against}: {r.reason}" for r in refused), refusable)
    told = dict.fromkeys(f"{r.focal} over {r.against}: {w}" for r in found for w in r.warnings)
    return PerContrast(
        estimand=found[0].estimand,
        exclusions=_together(found),
        warnings=(*told, *(f"{r.focal} over {r.against} has no number: {r.reason}" for r in refused)),
        provenance=material.provenance("votes"),
        contrasts=tuple(found),
        refused=tuple(refused),
        shown=shown,
    )


def _together(results: list[Any]) -> Exclusions:
    """Votes used by any contrast; each contrast's own exclusions are in its result."""
    n_in = results[0].exclusions.n_in
    n_used = sum(r.exclusions.n_used for r in results)
    reasons = (("in no contrast, or left out of it", n_in - n_used),) if n_used < n_in else ()
    return Exclusions(n_in, n_used, reasons, "votes") if n_used <= n_in else results[0].exclusions


def logistic(material: Material, rng: np.random.Generator) -> PerContrast:
    """The crossed logistic model of every planned contrast; see `analysis.logistic.crossed_logistic`."""
    from analysis.logistic import crossed_logistic
    from analysis.trials import focal_trials

    votes, plan = material.tables["votes"], material.plan

    def ask(focal: str, against: str) -> Result:
        n = len(focal_trials(votes, focal, against).y)
        if n > MOST_VOTES_OF_A_MODEL:
            raise EstimateError(f"{n} votes would take long; run the command logistic")
        provenance = material.provenance("votes")
        return crossed_logistic(votes, focal, against, confidence=plan.confidence, provenance=provenance)

    shown = ("focal", "against", "log_odds", "ci_low", "ci_high", "t", "df", "p", "p_likelihood_ratio", "win_rate")
    return _per_contrast(
        material, ask, (*shown, "sd_participant", "sd_prompt", "n_votes"), "votes that are no ties, both ways"
    )


def monitoring(material: Material, rng: np.random.Generator) -> PerContrast:
    """Evidence that holds however often one looked; see `analysis.monitor.monitor_votes`.

    Participants arrive in the order of the column `answered_at` where the votes have one, else of their rows.
    """
    from analysis.monitor import monitor_votes

    votes, plan = material.tables["votes"], material.plan
    arrival = "answered_at" if "answered_at" in votes else None

    def ask(focal: str, against: str) -> Result:
        return monitor_votes(
            votes,
            focal,
            against,
            alpha=1 - plan.confidence,
            planned=len(plan.contrasts),
            arrival=arrival,
            provenance=material.provenance("votes"),
        )

    shown = ("focal", "against", "estimate", "ci_low", "ci_high", "e_value", "decision", "stopped_at")
    return _per_contrast(material, ask, (*shown, "n_participants", "n_votes"), "participants with votes")
