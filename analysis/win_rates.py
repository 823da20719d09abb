"""How often one condition is chosen: win rate with crossed clusters of participants and prompts.

The estimate is the mean of 1 (focal condition chosen), 0 and one half (tie) over trials; its variance is that of
`analysis.clusters` (Cameron, Gelbach & Miller 2011). A binomial test over trials, given as `naive` for comparison,
rejects true hypotheses in 12 to 63 % of studies once people and prompts differ as they usually do.

Assumes participants and prompts were drawn from larger populations, at least six of each, and sides were shown in
random order. Wrong when one participant supplies a large part of the trials (a warning says so), and when images of a
few users serve as opponents for everybody: then source users get clusters of their own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from analysis import charts
from analysis.clusters import dyadic_mean, effective_clusters, integer_codes, t_quantile, three_way_mean
from analysis.errors import EstimateError
from analysis.results import Population, Provenance, Result, p_text, percent
from analysis.tables import check_votes
from analysis.trials import FocalTrials, clustered, estimand_for, focal_trials, naive_test, rate_interval

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class WinRate(Result):
    """Win rate of one condition; see `win_rate`.

    Attributes
    ----------
    focal, against : str
        `against` is None for all other conditions together.
    estimate, ci_low, ci_high, se : float
        Share of wins, a tie counting one half.
    df, t, p : number
        Test of one half.
    n_votes, n_ties, n_participants, n_prompts : int
    naive : mapping
        `se`, `p` of the binomial over trials: for comparison only, never to be reported as the test.
    method : str
        Which clusters were used.
    effective_participants, effective_prompts : float
        Equally large clusters that would weigh the same.
    left_share : float
        Share of choices that fell on the left side, a tie counting one half: the side bias.
    side_adjusted : float
        Mean of the win rates on the left and on the right; NaN when the focal image was always on one side.
    net_benefit, cohens_h : float
        P(win) - P(loss); 2 asin sqrt(w) - pi/2.
    three_way, dyadic : mapping or None
        `se`, `df`, `t`, `p` with source users as third clusters, and with each person as one cluster whether judge or
        source; only for comparisons in which every trial shows an image made for another person.
    participants : DataFrame
        participant_id, n_votes, rate (not in the JSON).
    """

    focal: str
    against: str | None
    estimate: float
    ci_low: float
    ci_high: float
    se: float
    df: int
    t: float
    p: float
    n_votes: int
    n_ties: int
    n_participants: int
    n_prompts: int
    naive: Mapping[str, float]
    method: str
    confidence: float
    effective_participants: float
    effective_prompts: float
    left_share: float
    side_adjusted: float
    net_benefit: float
    cohens_h: float
    three_way: Mapping[str, float] | None
    dyadic: Mapping[str, float] | None
    participants: pd.DataFrame = field(metadata={"json": False}, compare=False, repr=False)

    def summary(self) -> str:
        """One paragraph for a methods or results section."""
        against = self.against or "the other conditions"
        return (
            f"{self.focal} was chosen over {against} in {percent(self.estimate)} of {self.n_votes} votes "
            f"({self.n_ties} ties counted one half; {100 * self.confidence:g} % CI {percent(self.ci_low)} to "
            f"{percent(self.ci_high)}; t({self.df}) = {self.t:.2f}, {p_text(self.p)}; {self.method} clusters of "
            f"{self.n_participants} participants and {self.n_prompts} prompts). Estimand: {self.estimand.text}. "
            f"Not a valid test, for comparison only: taking the votes as independent gives SE {self.naive['se']:.3f}, "
            f"{p_text(self.naive['p'])} instead of SE {self.se:.3f}, {p_text(self.p)}."
        )

    def to_frame(self) -> pd.DataFrame:
        """One row."""
        import pandas as pd

        names = ["focal", "against", "estimate", "ci_low", "ci_high", "se", "df", "t", "p"]
        names += ["n_votes", "n_ties", "n_participants", "n_prompts", "method"]
        row = {name: getattr(self, name) for name in names}
        return pd.DataFrame([row | {f"naive_{name}": value for name, value in self.naive.items()}])

    def tables(self) -> dict[str, pd.DataFrame]:
        """The estimate and the participants' own rates."""
        return {"result": self.to_frame(), "participants": self.participants}

    def plot(self) -> alt.LayerChart:
        """Each participant's win rate in order, with the overall estimate and its interval as a band."""
        import altair as alt
        import pandas as pd

        people = self.participants.sort_values(["rate", "participant_id"]).assign(
            rank=range(1, self.n_participants + 1)
        )
        overall = pd.DataFrame([{"low": self.ci_low, "high": self.ci_high, "rate": self.estimate, "null": 0.5}])
        axis = alt.Y(
            "rate:Q", title=f"{self.focal} chosen", axis=alt.Axis(format=".0%"), scale=alt.Scale(domain=[0, 1])
        )
        layers = alt.layer(
            alt.Chart(overall).mark_rect(color=charts.SOFT, opacity=0.45).encode(y="low:Q", y2="high:Q"),
            alt.Chart(overall).mark_rule(color=charts.INK, strokeWidth=2).encode(y="rate:Q"),
            alt.Chart(overall).mark_rule(color="#666", strokeDash=[4, 3]).encode(y="null:Q"),
            alt.Chart(people)
            .mark_circle(color=charts.ACCENT, opacity=0.8)
            .encode(
                x=alt.X("rank:Q", title="participants, in order"), y=axis, size=alt.Size("n_votes:Q", title="votes")
            ),
        )
        return charts.finish(layers, f"{self.focal} against {self.against or 'the others'}", 260)


def win_rate(
    votes: pd.DataFrame,
    focal: str,
    against: str | None = None,
    *,
    confidence: float = 0.95,
    population: Population | None = None,
    provenance: Provenance | None = None,
) -> WinRate:
    """Share of trials in which `focal` is chosen, with an interval for new people and new prompts.

    Parameters
    ----------
    votes : DataFrame
        See `analysis.tables`; rows whose `kind` is not `main` are counted and left out.
    focal : str
        Condition whose wins are counted.
    against : str, optional
        The other condition; without it every other condition counts as the opponent.
    confidence : float
    population : Population, optional
        New people and new prompts unless given.
    provenance : Provenance, optional
        Where the table came from; computed from its values when absent.

    Returns
    -------
    WinRate

    Raises
    ------
    TableError
        The table is not a votes table.
    EstimateError
        Unknown condition, fewer than two participants or prompts, or answers that do not vary.
    """
    votes = check_votes(votes)
    population = population or Population()
    trials = focal_trials(votes, focal, against)
    mean, warnings = clustered(trials, population)
    n_people, n_items = int(trials.people.max()) + 1, int(trials.items.max()) + 1
    quantity = f"probability that {focal} is chosen over {against or 'another condition'}, a tie counting one half"
    estimand, few = estimand_for(quantity, population, n_people, n_items)
    ci_low, ci_high = rate_interval(mean, t_quantile(0.5 + confidence / 2, mean.df))
    t, p = mean.test(0.5)
    naive_se, naive_p = naive_test(trials.y, mean.estimate)
    chose_left = np.where(trials.focal_left, trials.y, 1 - trials.y)
    return WinRate(
        estimand=estimand,
        exclusions=trials.exclusions,
        warnings=few + warnings,
        provenance=provenance or Provenance.of({"votes": votes}),
        focal=focal,
        against=against,
        estimate=mean.estimate,
        ci_low=ci_low,
        ci_high=ci_high,
        se=mean.se,
        df=mean.df,
        t=t,
        p=p,
        n_votes=mean.n,
        n_ties=int((trials.y == 0.5).sum()),
        n_participants=n_people,
        n_prompts=n_items,
        naive={"se": naive_se, "p": naive_p},
        method=mean.method,
        confidence=confidence,
        effective_participants=mean.effective[0],
        effective_prompts=effective_clusters(trials.items, n_items),
        left_share=float(chose_left.mean()),
        side_adjusted=_side_adjusted(trials),
        net_benefit=2 * mean.estimate - 1,
        cohens_h=2 * math.asin(math.sqrt(mean.estimate)) - math.pi / 2,
        three_way=_with_sources(trials, "three-way") if population == Population() else None,
        dyadic=_with_sources(trials, "dyadic") if population == Population() else None,
        participants=_by_participant(votes, trials),
    )


def _side_adjusted(trials: FocalTrials) -> float:
    left = trials.focal_left
    if left.all() or not left.any():
        return math.nan
    return float((trials.y[left].mean() + trials.y[~left].mean()) / 2)


def _with_sources(trials: FocalTrials, method: Literal["three-way", "dyadic"]) -> dict[str, float] | None:
    if trials.sources is None or trials.raters is None or not trials.all_sourced:
        return None
    try:
        if method == "dyadic":
            mean = dyadic_mean(trials.y, trials.raters, trials.sources, trials.items)
        else:
            mean = three_way_mean(trials.y, trials.people, trials.items, integer_codes(trials.sources)[0])
    except EstimateError:  # totals that cancel, or one source: the secondary test does not exist, the primary one does
        return None
    t, p = mean.test(0.5)
    return {"se": mean.se, "df": mean.df, "t": t, "p": p}


def _by_participant(votes: pd.DataFrame, trials: FocalTrials) -> pd.DataFrame:
    import pandas as pd

    counts = np.bincount(trials.people)
    first = np.empty(len(counts), dtype=np.int64)
    first[trials.people[::-1]] = trials.rows[::-1]
    frame = pd.DataFrame(
        {
            "participant_id": votes["participant_id"].iloc[first].astype("str").to_numpy(),
            "n_votes": counts,
            "rate": np.bincount(trials.people, trials.y) / counts,
        }
    )
    return frame.sort_values("participant_id", ignore_index=True)
