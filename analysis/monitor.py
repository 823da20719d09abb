"""Looking at a study while it runs, as often as one likes: an e-process and a confidence sequence over participants.

One participant gives one number, his mean win score (tie one half) on the study's prompts; the hypothesis is a mean of
one half. The study may stop the first time the e-value reaches 1/alpha, at 5 % false stops however often one looks;
a t test at every look stops falsely in 31 %, a binomial over trials in 66 % of studies.

The statement is about new people and *these* prompts. Assumes participants arrive in no order that matters, that each
one's votes are complete when he is counted, and that prompts stay the same. Wrong when prompts change on the way, when
the hypothesis is about new prompts (with prompt effects of .3 to .6 on the logit 15 to 41 % of studies of 200 people
stop falsely), and when images of a few people, good or bad, are everybody's opponents (22 to 36 %): such votes are
refused. After an early stop report the confidence sequence; a two-way interval beside it does not know of the stopping.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from analysis import charts
from analysis.arrivals import (
    complete,
    last_vote,
    participant_names,
    prompts_that_came_or_went,
    require_balanced_and_yoked,
)
from analysis.betting import asymptotic_sequence, betting_sequence, log_capital
from analysis.clusters import Ints
from analysis.errors import EstimateError
from analysis.results import Exclusions, Population, Provenance, Result, percent
from analysis.tables import check_votes
from analysis.trials import FocalTrials, clustered, estimand_for, focal_trials

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Monitoring(Result):
    """See `monitor_votes`.

    Attributes
    ----------
    focal, against : str
    e_value : float
        Capital after the last participant.
    path : tuple of float
        Capital after each participant, in order of arrival.
    decision : {"stop", "continue"}
        `stop` once the path has reached 1/alpha, even if it fell back.
    stopped_at : int or None
        Participants when it first did.
    estimate : float
        Mean over participants.
    ci_low, ci_high : float
        Confidence sequence after the last participant, level 1 - alpha_each; NaN when no single mean fits.
    ci_low_path, ci_high_path : tuple of float
        The sequence after each participant.
    alpha, alpha_each : float
        Level of the family and of this contrast.
    planned : int
        Contrasts in the family.
    asymptotic : mapping
        `ci_low`, `ci_high`, `t_opt`: narrower, holds for many participants; null before 20.
    two_way : mapping or None
        `estimate`, `ci_low`, `ci_high` for new people and new prompts, not adjusted for stopping.
    participants : tuple of str
        In order of arrival.
    n_participants, n_votes : int
    """

    focal: str
    against: str | None
    e_value: float
    path: tuple[float, ...]
    decision: str
    stopped_at: int | None
    estimate: float
    ci_low: float
    ci_high: float
    ci_low_path: tuple[float, ...]
    ci_high_path: tuple[float, ...]
    alpha: float
    alpha_each: float
    planned: int
    asymptotic: Mapping[str, float]
    two_way: Mapping[str, float | str] | None
    participants: tuple[str, ...]
    n_participants: int
    n_votes: int
    means: tuple[float, ...] = field(metadata={"json": False}, repr=False)

    def summary(self) -> str:
        """One paragraph for a results section."""
        against = self.against or "the other conditions"
        level = f"{100 * (1 - self.alpha_each):g} %"
        bound = f"1/alpha = {1 / self.alpha_each:g}"
        verdict = (
            f"it reached {bound} after {self.stopped_at} participants, so the study may stop"
            if self.decision == "stop"
            else f"it has not reached {bound}, so the study goes on"
        )
        return (
            f"After {self.n_participants} participants {self.focal} is chosen over {against} in "
            f"{percent(self.estimate)} (mean over participants; {level} confidence sequence {percent(self.ci_low)} to "
            f"{percent(self.ci_high)}, valid at any time). The e-value is {self.e_value:.3g}; {verdict}. "
            f"Estimand: {self.estimand.text}."
        )

    def to_frame(self) -> pd.DataFrame:
        """One row a participant, in order of arrival."""
        import pandas as pd

        columns = {
            "n": range(1, self.n_participants + 1),
            "participant_id": self.participants,
            "mean": self.means,
            "e_value": self.path,
            "ci_low": self.ci_low_path,
            "ci_high": self.ci_high_path,
        }
        return pd.DataFrame(columns)

    def plot(self) -> alt.LayerChart:
        """The confidence sequence over participants, with one half."""
        import altair as alt

        frame = self.to_frame().assign(running=np.cumsum(self.means) / np.arange(1, self.n_participants + 1))
        base = alt.Chart(frame).encode(x=alt.X("n:Q", title="participants"))
        axis = alt.Axis(format=".0%", title="win rate")
        band = base.mark_area(color=charts.SOFT, opacity=0.5).encode(y=alt.Y("ci_low:Q", axis=axis), y2="ci_high:Q")
        line = base.mark_line(color=charts.INK).encode(y=alt.Y("running:Q", axis=axis))
        half = alt.Chart(frame.head(1).assign(null=0.5)).mark_rule(strokeDash=[4, 3], color="#666").encode(y="null:Q")
        layers = [band, half, line]
        if self.stopped_at is not None:
            stop = alt.Chart(frame.iloc[[self.stopped_at - 1]]).mark_rule(color=charts.ACCENT).encode(x="n:Q")
            layers.append(stop)
        against = self.against or "the others"
        title = f"{self.focal} over {against}: {100 * (1 - self.alpha_each):g} % confidence sequence"
        return charts.finish(alt.layer(*layers), title, 260)


def monitor_votes(
    votes: pd.DataFrame,
    focal: str,
    against: str | None = None,
    *,
    alpha: float = 0.05,
    planned: int = 1,
    arrival: str | None = None,
    votes_each: int | None = None,
    t_opt: int = 60,
    provenance: Provenance | None = None,
) -> Monitoring:
    """Evidence against "chosen in one half of the trials", valid whenever one looks.

    Parameters
    ----------
    votes : DataFrame
        See `analysis.tables`; main votes only are used.
    focal, against : str
        Condition whose wins are counted, and the other one (every other when None).
    alpha : float
        Chance of a false stop over all planned contrasts.
    planned : int
        Planned contrasts; each gets alpha/planned.
    arrival : str, optional
        Column of times or numbers. Participants count in the order of their last vote by this column; without it in
        the order of their last row.
    votes_each : int, optional
        Votes of this comparison that a complete participant has given; those with fewer are waited for (counted as left
        out). Without it every participant of the table is taken as complete.
    t_opt : int
        Participants at which the asymptotic sequence is sharpest.
    provenance : Provenance, optional

    Notes
    -----
    `analysis.betting.log_capital` of the participants' means against one half. Own-other votes (images made for
    another person) must be yoked, and no person's images may be opponents in more than 2/U of the trials: yoked pairs
    give what general quality of an image adds to one person's mean to the other's as a loss.

    Raises
    ------
    EstimateError
        Unknown condition, fewer than two complete participants or two prompts, own-other votes that are not yoked or
        lean on few sources.
    TableError
        `arrival` is no column, or holds missing values.
    """
    if not 0 < alpha < 1 or planned < 1:
        raise EstimateError(f"alpha {alpha}, {planned} planned contrasts", "alpha from 0 to 1, one contrast or more")
    votes = check_votes(votes)
    trials = focal_trials(votes, focal, against)
    require_balanced_and_yoked(votes, trials)
    order = complete(trials, last_vote(votes, trials, arrival), votes_each)
    n_prompts = int(trials.items.max()) + 1
    for n, noun in ((len(order), "participants"), (n_prompts, "prompts")):
        if n < 2:
            raise EstimateError(f"{n} {noun}", "at least 2", f"wait for more {noun}")
    count = np.bincount(trials.people)
    means = (np.bincount(trials.people, trials.y) / count)[order]
    each = alpha / planned
    log_path = log_capital(means, alpha=each)
    sequence, sharp = betting_sequence(means, alpha=each), asymptotic_sequence(means, alpha=each, t_opt=t_opt)
    crossed = np.flatnonzero(log_path >= math.log(1 / each))
    path = tuple(np.exp(np.minimum(log_path, 700)).tolist())
    quantity = f"mean over participants of the share of trials in which {focal} is chosen, a tie counting one half"
    kept = np.isin(trials.people, order)
    estimand, few = estimand_for(quantity, Population(), len(order), n_prompts)
    return Monitoring(
        estimand=dataclasses.replace(estimand, items="these"),
        exclusions=_exclusions(trials, kept, votes_each),
        warnings=few + _warnings(votes, trials, order, count, arrival, float(sequence.low[-1])),
        provenance=provenance or Provenance.of({"votes": votes}),
        focal=focal,
        against=against,
        e_value=path[-1],
        path=path,
        decision="stop" if len(crossed) else "continue",
        stopped_at=int(crossed[0]) + 1 if len(crossed) else None,
        estimate=float(means.mean()),
        ci_low=float(sequence.low[-1]),
        ci_high=float(sequence.high[-1]),
        ci_low_path=tuple(sequence.low.tolist()),
        ci_high_path=tuple(sequence.high.tolist()),
        alpha=alpha,
        alpha_each=each,
        planned=planned,
        asymptotic={"ci_low": float(sharp.low[-1]), "ci_high": float(sharp.high[-1]), "t_opt": t_opt},
        two_way=_two_way(trials, 1 - each),
        participants=tuple(participant_names(votes, trials)[order].tolist()),
        n_participants=len(order),
        n_votes=int(count[order].sum()),
        means=tuple(means.tolist()),
    )


def _two_way(trials: FocalTrials, confidence: float) -> Mapping[str, float | str] | None:
    try:
        mean, _ = clustered(trials, Population())
    except EstimateError:
        return None
    low, high = mean.interval(confidence)
    note = "new people and new prompts; not adjusted for stopping"
    return {"estimate": mean.estimate, "ci_low": low, "ci_high": high, "note": note}


def _exclusions(trials: FocalTrials, kept: np.ndarray, votes_each: int | None) -> Exclusions:
    n_used = int(kept.sum())
    n_waiting = len(kept) - n_used
    reasons = ((f"participant with fewer than {votes_each} votes", n_waiting),) if n_waiting else ()
    return Exclusions(len(kept), n_used, reasons, trials.exclusions.unit).after(trials.exclusions)


def _warnings(
    votes: pd.DataFrame, trials: FocalTrials, order: Ints, count: Ints, arrival: str | None, low: float
) -> tuple[str, ...]:
    found = []
    if arrival is None:
        found.append("participants are taken in the order of their last row in the table")
    if not {"left_source_user", "right_source_user"} <= set(votes):
        found.append("no source users in the table: that opponents are balanced and yoked was not checked")
    fewest, most = int(count[order].min()), int(count[order].max())
    if fewest < most:
        found.append(f"participants gave {fewest} to {most} votes: each counts once, complete or not")
    changed = prompts_that_came_or_went(trials, order)
    if changed:
        found.append(
            f"{changed} prompts were shown to early or to late participants only: the list seems to have changed"
        )
    if math.isnan(low):
        found.append("no single win rate fits all participants: they or the prompts changed on the way")
    return tuple(found)
