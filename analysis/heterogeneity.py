"""How much do people differ in how often they choose a condition? Spread of win rates with sampling noise taken out.

The variance of people's own win rates is estimated from mean squared differences of votes (see
`analysis.components.moment_components`): of the same prompt and other people less of the same cell, and so on, so that
neither the number of votes a person gave nor the prompts he saw enter. Its interval leaves out people in turn.

Assumes people and prompts add on the scale of the win rate, which is fair between .2 and .8. The share of people who
prefer the condition assumes in addition that their rates are normal. With few votes a person the spread is uncertain:
read the interval. Wrong when people saw prompts of their own choice, or when one of a pair's images was the same source
user's for everybody. Moment estimates of crossed effects: Gao & Owen 2017, doi:10.1214/17-EJS1236.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr

from analysis import charts
from analysis.clusters import Floats, Ints, t_quantile
from analysis.components import Components, moment_components
from analysis.errors import EstimateError
from analysis.results import Population, Provenance, Result, percent
from analysis.tables import check_votes
from analysis.trials import estimand_for, focal_trials

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

MOST_GROUPS = 100
"""Groups of people left out in turn for the interval; single people up to this number."""


@dataclass(frozen=True, kw_only=True)
class Heterogeneity(Result):
    """See `participant_spread`.

    Attributes
    ----------
    estimate : float
        Mean win rate over votes.
    v_participant, ci_low, ci_high : float
        Variance of people's win rates and its interval; unbiased, so it may come out below 0.
    sd_participant, sd_prompt, sd_within : float
        Spread of people, of prompts, and of votes beside both; 0 where the variance came out negative.
    share_above_half : float
        Share of people whose own win rate lies above one half.
    reliability : float
        Share of the variance of people's observed rates that is true spread, at the mean number of votes.
    participants : DataFrame
        participant_id, n_votes, rate, shrunken (towards the mean by its reliability); not in the JSON.
    """

    focal: str
    against: str | None
    estimate: float
    v_participant: float
    ci_low: float
    ci_high: float
    sd_participant: float
    sd_prompt: float
    sd_within: float
    share_above_half: float
    reliability: float
    n_votes: int
    n_participants: int
    n_prompts: int
    confidence: float
    participants: pd.DataFrame = field(metadata={"json": False}, compare=False, repr=False)

    def summary(self) -> str:
        """One paragraph for a results section."""
        sds = [math.sqrt(max(v, 0.0)) for v in (self.ci_low, self.ci_high)]
        return (
            f"The win rate of {self.focal} over {self.against or 'the other conditions'} differs between people with "
            f"an SD of {self.sd_participant:.3f} ({100 * self.confidence:g} % CI {sds[0]:.3f} to {sds[1]:.3f}) after "
            f"sampling noise is taken out, between prompts with {self.sd_prompt:.3f} ({self.n_votes} votes of "
            f"{self.n_participants} participants on {self.n_prompts} prompts); {percent(self.share_above_half)} of "
            f"people choose it more often than not. Estimand: {self.estimand.text}."
        )

    def to_frame(self) -> pd.DataFrame:
        """One row."""
        import pandas as pd

        left_out = ("estimand", "exclusions", "warnings", "provenance", "participants")
        return pd.DataFrame([{k: v for k, v in vars(self).items() if k not in left_out}])

    def tables(self) -> dict[str, pd.DataFrame]:
        """The spread, and people's own rates."""
        return {"result": self.to_frame(), "participants": self.participants}

    def plot(self) -> alt.LayerChart:
        """Observed rates (faint) and shrunken ones of all people, in order."""
        import altair as alt
        import pandas as pd

        people = self.participants.sort_values(["shrunken", "participant_id"]).assign(
            rank=range(1, self.n_participants + 1)
        )
        scale, x = alt.Scale(domain=[0, 1]), alt.X("rank:Q", title="participants, in order")
        axis = alt.Y("shrunken:Q", title=f"{self.focal} chosen", axis=alt.Axis(format=".0%"), scale=scale)
        layers = alt.layer(
            alt.Chart(pd.DataFrame({"null": [0.5]})).mark_rule(color="#666", strokeDash=[4, 3]).encode(y="null:Q"),
            alt.Chart(people).mark_circle(color=charts.SOFT, opacity=0.7).encode(x=x, y=alt.Y("rate:Q", scale=scale)),
            alt.Chart(people).mark_circle(color=charts.INK).encode(x=x, y=axis),
        )
        return charts.finish(layers, "Win rates of single people, observed and shrunken", 260)


def participant_spread(
    votes: pd.DataFrame,
    focal: str,
    against: str | None = None,
    *,
    confidence: float = 0.95,
    provenance: Provenance | None = None,
) -> Heterogeneity:
    """Spread of people's win rates beyond sampling noise.

    Parameters
    ----------
    votes : DataFrame
        See `analysis.tables`; main votes only are used.
    focal, against : str
        As for `win_rate`.
    confidence : float
    provenance : Provenance, optional

    Raises
    ------
    EstimateError
        Unknown condition, fewer than three people or two prompts, answers all alike, or no prompt judged by two people.
    """
    votes = check_votes(votes)
    trials = focal_trials(votes, focal, against)
    people, items, y = trials.people, trials.items, trials.y
    n_people, n_items = int(people.max()) + 1, int(items.max()) + 1
    if n_people < 3:
        raise EstimateError(f"{n_people} participants", "at least 3", "collect votes from more people")
    require_varied(y, n_items)
    parts = moment_components(y, people, items)
    low, high = _interval(y, people, items, parts.v_user, n_people, confidence)
    sd, mean = math.sqrt(max(parts.v_user, 0.0)), float(y.mean())
    estimand, few = estimand_for(
        f"spread of people's probability to choose {focal} over {against or 'another condition'}",
        Population(),
        n_people,
        n_items,
    )
    noise = max(parts.v_image, 0.0) + max(parts.v_within, 0.0)
    counts = np.bincount(people, minlength=n_people)
    own = max(parts.v_user, 0.0)
    return Heterogeneity(
        estimand=estimand,
        exclusions=trials.exclusions,
        warnings=few + (("people differ no more than by chance",) if parts.v_user <= 0 else ()),
        provenance=provenance or Provenance.of({"votes": votes}),
        focal=focal,
        against=against,
        estimate=mean,
        v_participant=parts.v_user,
        ci_low=low,
        ci_high=high,
        sd_participant=sd,
        sd_prompt=math.sqrt(max(parts.v_image, 0.0)),
        sd_within=math.sqrt(max(parts.v_within, 0.0)),
        share_above_half=float(ndtr((mean - 0.5) / sd)) if sd > 0 else float(np.sign(mean - 0.5) / 2 + 0.5),
        reliability=own / (own + noise / float(counts.mean())) if own + noise > 0 else math.nan,
        n_votes=len(y),
        n_participants=n_people,
        n_prompts=n_items,
        confidence=confidence,
        participants=_rates(votes["participant_id"].iloc[trials.rows], people, y, own, noise),
    )


def require_varied(y: Floats, n_prompts: int) -> None:
    """Refuse answers that are all alike, and a single prompt: they have no variance components."""
    if n_prompts < 2:
        raise EstimateError(f"{n_prompts} prompts", "at least 2", "collect votes on more prompts")
    if np.ptp(y) == 0:
        raise EstimateError(
            f"all {len(y)} values are {y[0]:g}", "answers that vary", "no spread exists; report the count"
        )


def _interval(
    y: Floats, people: Ints, items: Ints, whole: float, n_people: int, confidence: float
) -> tuple[float, float]:
    """Jackknife over people, in at most 100 groups by code."""
    n_groups = min(n_people, MOST_GROUPS)
    group = people % n_groups
    rests = np.array([_without(y, people, items, group != g).v_user for g in range(n_groups)])
    se = math.sqrt((n_groups - 1) / n_groups * float(((rests - rests.mean()) ** 2).sum()))
    half = t_quantile(0.5 + confidence / 2, n_groups - 1) * se
    return whole - half, whole + half


def _without(y: Floats, people: Ints, items: Ints, kept: np.ndarray) -> Components:
    return moment_components(y[kept], people[kept], items[kept])


def _rates(ids: pd.Series, people: Ints, y: Floats, own: float, noise: float) -> pd.DataFrame:
    import pandas as pd

    counts = np.bincount(people)
    rate = np.bincount(people, y) / counts
    weight = own / (own + noise / counts) if own + noise > 0 else np.zeros(len(counts))
    first = np.unique(people, return_index=True)[1]
    frame = pd.DataFrame(
        {
            "participant_id": ids.iloc[first].astype("str").to_numpy(),
            "n_votes": counts,
            "rate": rate,
            "shrunken": y.mean() + weight * (rate - y.mean()),
        }
    )
    return frame.sort_values("participant_id", ignore_index=True)
