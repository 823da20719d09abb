"""Planning formula for win rates of crossed participants and prompts: standard error, power, and how many are needed.

SE^2 = sd_participant^2/(16 P) + sd_prompt^2/(16 I) + sd_interaction^2/(16 cells) + (1 - ties)/(4 n): a spread s on the
logit is about s/4 on the probability scale near one half. Power is that of a two-sided t test with min(P, I) - 1
degrees of freedom (noncentral t), so the detectable |w - 1/2| at 80 % is 2.8 SE with many clusters, 2.9 to 3.0 with
twenty.

An approximation for planning: it knows no source quality, and is a little off for win rates far from one half. Prompts
set a floor that no number of participants lowers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.special import gammaincinv, ndtr, ndtri

from analysis.clusters import Floats, t_quantile
from analysis.errors import EstimateError
from analysis.simulated_votes import Design, Effects

if TYPE_CHECKING:
    import pandas as pd

Dimension = Literal["participants", "prompts", "trials"]

NODES = 100
"""Of the quadrature over the estimated standard error."""

MOST = 1_000_000
"""Largest number tried when a number is sought."""


def planned_se(design: Design, effects: Effects) -> float:
    """Standard error of the first contrast's win rate by the formula above."""
    n = design.expected_votes
    cells = design.participants * min(design.trials, design.prompts)
    variance = (
        effects.sd_participant**2 / (16 * design.participants)
        + effects.sd_prompt**2 / (16 * design.prompts)
        + effects.sd_interaction**2 / (16 * cells)
        + (1 - effects.tie_rate) / (4 * n)
    )
    return math.sqrt(variance)


def power_at(shift: float, se: float, df: float, alpha: float = 0.05) -> float:
    """Power of a two-sided t test when the estimate lies `shift` from the hypothesis.

    E[Phi(ncp - c S) + Phi(-ncp - c S)] with S^2 = chi^2/df, the noncentral t written so that it stays finite.
    """
    scale, weights = _se_nodes(df)
    critical, ncp = t_quantile(1 - alpha / 2, df), abs(shift) / se
    return float((weights * (ndtr(ncp - critical * scale) + ndtr(-ncp - critical * scale))).sum())


@lru_cache(maxsize=1)
def _legendre() -> tuple[Floats, Floats]:
    points, weights = np.polynomial.legendre.leggauss(NODES)
    return points, weights


@lru_cache(maxsize=512)
def _se_nodes(df: float) -> tuple[Floats, Floats]:
    """Points of S = sqrt(chi^2/df) at Gauss-Legendre probabilities, and weights that sum to 1."""
    points, weights = _legendre()
    return np.sqrt(2 * gammaincinv(df / 2, (points + 1) / 2) / df), weights / 2


def formula_power(design: Design, effects: Effects, alpha: float = 0.05) -> float:
    """Power of the first contrast; with several planned contrasts at alpha divided by their number."""
    df = min(design.participants, design.prompts) - 1
    each = alpha / len(effects.win_rates)
    return power_at(effects.win_rates[0] - 0.5, planned_se(design, effects), df, each)


def detectable(design: Design, effects: Effects, power: float = 0.8, alpha: float = 0.05) -> float:
    """Smallest |win rate - 1/2| found with this power."""
    from scipy.optimize import brentq

    se, df = planned_se(design, effects), min(design.participants, design.prompts) - 1
    each = alpha / len(effects.win_rates)
    return float(brentq(lambda shift: power_at(shift, se, df, each) - power, 0.0, 100 * se))


def with_number(design: Design, dimension: Dimension, number: int) -> Design:
    """The design with another number of participants, prompts or trials (even when yoked)."""
    if dimension == "trials" and design.opponents == "yoked":
        number += number % 2
    sizes = {"participants": design.participants, "prompts": design.prompts, "trials": design.trials}
    sizes[dimension] = number
    return dataclasses.replace(
        design, participants=sizes["participants"], prompts=sizes["prompts"], trials=sizes["trials"]
    )


def needed(
    design: Design, effects: Effects, dimension: Dimension, power: float, alpha: float = 0.05, shift: float = 0.0
) -> int | None:
    """Smallest number that reaches `power` by the formula; None where no number does (the others set a floor).

    Parameters
    ----------
    dimension : {"participants", "prompts", "trials"}
        Which number is sought; the design's own value of it does not matter.
    shift : float
        Added to the formula's power on the probit scale: what simulation has shown it to be off.
    """
    if not 0 < power < 1:
        raise EstimateError(f"power {power}", "between 0 and 1", "write .8 for 80 %")

    def reached(number: int) -> bool:
        value = formula_power(with_number(design, dimension, number), effects, alpha)
        return bool(ndtr(ndtri(np.clip(value, 1e-15, 1 - 1e-15)) + shift) >= power)

    low = 1 if dimension == "trials" else 2 if design.opponents != "yoked" else 3
    if reached(low):
        return low
    if not reached(MOST):
        return None
    high = low
    while not reached(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


@dataclass(frozen=True)
class Costs:
    """What a study costs, in any currency: of each participant, of each vote, of each prompt (its images)."""

    participant: float = 0.0
    vote: float = 0.0
    prompt: float = 0.0

    def of(self, design: Design, n_contrasts: int = 1) -> float:
        """Cost of a design."""
        votes = design.expected_votes * n_contrasts
        return self.participant * design.participants + self.vote * votes + self.prompt * design.prompts


def planning_table(
    design: Design,
    effects: Effects,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    costs: Costs,
    factors: Mapping[Dimension, tuple[float, ...]] | None = None,
) -> pd.DataFrame:
    """Designs that reach `power` by the formula, cheapest first: other prompts and trials, the participants they need.

    Parameters
    ----------
    design, effects, alpha
        As in `power_by_simulation`.
    costs : Costs
    factors : mapping, optional
        By what the design's `prompts` and `trials` are multiplied; a half, one, two and four unless given.

    Returns
    -------
    DataFrame
        prompts, trials, participants, votes, cost, power; designs that cannot reach the power are absent.
    """
    import pandas as pd

    factors = factors or {"prompts": (0.5, 1, 2, 4), "trials": (0.5, 1, 2, 4)}
    rows = []
    for prompts in sorted({max(2, round(design.prompts * f)) for f in factors["prompts"]}):
        for trials in sorted({max(2, 2 * round(design.trials * f / 2)) for f in factors["trials"]}):
            tried = dataclasses.replace(design, prompts=prompts, trials=trials)
            participants = needed(tried, effects, "participants", power, alpha)
            if participants is None:
                continue
            tried = with_number(tried, "participants", participants)
            rows.append(
                {
                    "prompts": prompts,
                    "trials": trials,
                    "participants": participants,
                    "votes": round(tried.expected_votes * len(effects.win_rates)),
                    "cost": costs.of(tried, len(effects.win_rates)),
                    "power": formula_power(tried, effects, alpha),
                }
            )
    columns = ["prompts", "trials", "participants", "votes", "cost", "power"]
    return pd.DataFrame(rows, columns=columns).sort_values(["cost", "participants"], ignore_index=True)
