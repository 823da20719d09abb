"""Spreads of people, prompts and their interaction from the votes of a pilot, for planning.

Variance components of the win scores (`analysis.components.moment_components`, unbiased, no distribution assumed) are
turned into standard deviations on the logit: the spread s for which a logistic rate with the pilot's mean has that
variance over people (or prompts). The interaction can be told from chance only where people judged a prompt more than
once; with one vote a cell it has no influence on the test either.

With 20 participants and 20 prompts the spreads are known to a third at best; plan for somewhat larger ones. Wrong when
the pilot's people, prompts or opponents are not those of the study. Moment estimates: Gao & Owen 2017,
doi:10.1214/17-EJS1236.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scipy.optimize import brentq

from analysis.components import moment_components
from analysis.errors import EstimateError
from analysis.heterogeneity import require_varied
from analysis.simulated_votes import NODES, Effects, answer_probabilities, calibrated, normal_nodes
from analysis.tables import check_votes
from analysis.trials import focal_trials

if TYPE_CHECKING:
    import pandas as pd

LARGEST_SD = 4.0


@dataclass(frozen=True)
class Pilot:
    """What a pilot says.

    Attributes
    ----------
    effects : Effects
        Spreads on the logit, win and tie rate of the pilot.
    n_votes, n_participants, n_prompts : int
    interaction_known : bool
        Whether people judged prompts more than once; else `sd_interaction` is 0.
    notes : tuple of str
        What to keep in mind.
    """

    effects: Effects
    n_votes: int
    n_participants: int
    n_prompts: int
    interaction_known: bool
    notes: tuple[str, ...]


def pilot_effects(votes: pd.DataFrame, focal: str, against: str | None = None) -> Pilot:
    """Estimate effects from a pilot's votes; negative variance estimates become 0 and are noted.

    Parameters
    ----------
    votes : DataFrame
        See `analysis.tables`; main votes only are used.
    focal, against : str
        Condition whose wins are counted, and the other one (every other when None).

    Raises
    ------
    EstimateError
        Unknown condition, no trials, fewer than two people or prompts, people who share no prompt, answers all alike.
    """
    trials = focal_trials(check_votes(votes), focal, against)
    n_people = int(trials.people.max()) + 1
    if n_people < 2:
        raise EstimateError(f"{n_people} participants in the pilot", "at least 2", "assume spreads of .2 to .6 instead")
    require_varied(trials.y, int(trials.items.max()) + 1)
    parts = moment_components(trials.y, trials.people, trials.items)
    rate, ties = float(trials.y.mean()), float((trials.y == 0.5).mean())
    names = {"sd_participant": parts.v_user, "sd_prompt": parts.v_image}
    if parts.separable:
        names["sd_interaction"] = parts.v_user_image
    else:
        names["sd_interaction"] = 0.0
    spreads = {name: logit_sd(v, rate, ties) for name, v in names.items()}
    notes = [f"{name} was estimated as 0 or less" for name, v in names.items() if v <= 0 and name != "sd_interaction"]
    if not parts.separable:
        notes.append(f"sd_interaction is unknown and set to 0: {parts.why_not_separable}")
    if min(parts.n_users, parts.n_images) < 20:
        notes.append(f"a pilot of {parts.n_users} participants and {parts.n_images} prompts leaves spreads uncertain")
    effects = Effects((rate,), **spreads, tie_rate=ties)
    return Pilot(effects, len(trials.y), parts.n_users, parts.n_images, parts.separable, tuple(notes))


def logit_sd(variance: float, win_rate: float, tie_rate: float = 0.0) -> float:
    """Spread on the logit whose win scores have this variance at this marginal rate; 0 for variances of 0 or less."""
    if variance <= 0:
        return 0.0
    points, weights = normal_nodes(NODES)

    def excess(sd: float) -> float:
        delta, nu = calibrated(win_rate, tie_rate, sd)
        win, tie = answer_probabilities(delta + sd * points, nu)
        return float((weights * (win + tie / 2 - win_rate) ** 2).sum()) - variance

    if excess(LARGEST_SD) < 0:
        return LARGEST_SD
    return float(brentq(excess, 0.0, LARGEST_SD, xtol=1e-6))
