"""How the blind study was answered: sides, times, repeats, balance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.clusters import cluster_mean, integer_codes, t_quantile
from analysis.errors import EstimateError
from analysis.trials import rate_interval
from words import CONDITIONS


@dataclass(frozen=True)
class Share:
    """A share with its interval for new people and new prompts; NaN ends with the reason where there is none."""

    estimate: float
    ci_low: float
    ci_high: float
    n_votes: int
    n_participants: int
    n_prompts: int
    reason: str | None = None


def main_votes(votes: pd.DataFrame) -> pd.DataFrame:
    """Votes that count: repeats, catch and practice trials are left out."""
    return votes[votes["kind"] == "main"] if "kind" in votes else votes


def left_share(votes: pd.DataFrame, confidence: float = 0.95) -> Share:
    """How often the left picture was chosen, a tie counting one half, over main votes.

    Where every comparison is shown on both sides equally often, one half is what no preference for a side gives.
    """
    used = main_votes(votes)
    y = np.array(used["choice"].map({"left": 1.0, "tie": 0.5, "right": 0.0}), dtype=float)
    people, n_people = integer_codes(used["participant_id"])
    items, n_items = integer_codes(used["prompt_id"])
    sizes = len(used), n_people, n_items
    try:
        mean = cluster_mean(y, people, items)
    except EstimateError as error:
        return Share(float(y.mean()) if len(y) else np.nan, np.nan, np.nan, *sizes, str(error))
    return Share(mean.estimate, *rate_interval(mean, t_quantile(0.5 + confidence / 2, mean.df)), *sizes)


def sides(votes: pd.DataFrame) -> pd.DataFrame:
    """Each participant's main votes: participant, votes, left, tie, right (shares), left_share (a tie one half)."""
    used = main_votes(votes)
    shares = pd.crosstab(used["participant_id"], used["choice"], normalize="index")
    shares = shares.reindex(columns=["left", "tie", "right"], fill_value=0.0)
    frame = shares.assign(left_share=shares["left"] + shares["tie"] / 2, votes=used["participant_id"].value_counts())
    return frame.rename_axis("participant").reset_index().sort_values("left_share", ignore_index=True)


def focal_condition(votes: pd.DataFrame) -> str:
    """The condition that takes part in most comparisons: the one that the others are shown against."""
    used = main_votes(votes)
    return str(pd.concat([used["left_condition"], used["right_condition"]]).mode().iloc[0])


def focal_votes(votes: pd.DataFrame, focal: str) -> pd.DataFrame:
    """Main votes on `focal`: participant_id, prompt_id, against, win (1, ½, 0), focal_left."""
    used = main_votes(votes)
    left, right = used["left_condition"] == focal, used["right_condition"] == focal
    used = used[left ^ right]
    on_left = used["left_condition"] == focal
    against = used["right_condition"].where(on_left, used["left_condition"])
    win = np.where(used["choice"] == "tie", 0.5, ((used["choice"] == "left") == on_left).astype(float))
    return pd.DataFrame(
        {
            "participant_id": used["participant_id"],
            "prompt_id": used["prompt_id"],
            "against": against,
            "win": win,
            "focal_left": on_left,
        }
    ).reset_index(drop=True)


def rates_by(votes: pd.DataFrame, focal: str, unit: str) -> pd.DataFrame:
    """Win rate of `focal` by unit (`participant_id` or `prompt_id`) and comparison: unit, against, rate, votes."""
    groups = focal_votes(votes, focal).groupby([unit, "against"])["win"]
    frame = groups.agg(rate="mean", votes="size").reset_index().rename(columns={unit: "unit"})
    order = {name: k for k, name in enumerate(CONDITIONS)}
    return frame.sort_values(["against", "rate"], key=lambda c: c.map(order).fillna(9) if c.name == "against" else c)


def balance(votes: pd.DataFrame, focal: str) -> pd.DataFrame:
    """Is the design balanced? One row a comparison: against, votes, participants, prompts, focal_left (share)."""
    groups = focal_votes(votes, focal).groupby("against")
    frame = groups.agg(
        votes=("win", "size"),
        ties=("win", lambda w: int((w == 0.5).sum())),
        participants=("participant_id", "nunique"),
        prompts=("prompt_id", "nunique"),
        focal_left=("focal_left", "mean"),
    )
    return frame.reindex([c for c in CONDITIONS if c in frame.index] or frame.index).reset_index()


def times(votes: pd.DataFrame, bins: int = 30) -> pd.DataFrame:
    """Response times in bins of equal width on a log scale: from, to (seconds), votes, choice ("a side" or "tie")."""
    seconds = votes["response_ms"].to_numpy(dtype=float) / 1000
    usable = votes.assign(seconds=seconds)[seconds > 0]
    if usable.empty:
        return pd.DataFrame(columns=["from", "to", "votes", "choice"])
    low, high = usable["seconds"].min(), usable["seconds"].max()
    edges = np.geomspace(low, max(high, low * 1.01), bins + 1)
    edges[-1] = np.nextafter(edges[-1], np.inf)
    frames = []
    for name, rows in usable.groupby(usable["choice"].eq("tie").map({True: "tie", False: "a side"})):
        counts, _ = np.histogram(rows["seconds"], edges)
        frames.append(pd.DataFrame({"from": edges[:-1], "to": edges[1:], "votes": counts, "choice": name}))
    return pd.concat(frames, ignore_index=True)


def pace(votes: pd.DataFrame, step: int = 4) -> pd.DataFrame:
    """Do people get faster? Over blocks of `step` trials: order (middle), median, low, high (quartiles, s), votes."""
    block = (votes["order"] - 1) // step
    groups = votes.assign(block=block, seconds=votes["response_ms"] / 1000).groupby("block")["seconds"]
    frame = pd.DataFrame({"low": groups.quantile(0.25), "median": groups.median(), "high": groups.quantile(0.75)})
    middle = frame.index.to_numpy() * step + (step + 1) / 2
    return frame.assign(order=middle, votes=groups.size()).reset_index(drop=True)


def repeats(votes: pd.DataFrame) -> pd.DataFrame:
    """Trials seen again, sides swapped: trial_id, participant, first and again (image chosen, or "tie"), same."""
    columns = ["trial_id", "participant", "first", "again", "same"]
    if "repeat_of" not in votes or "trial_id" not in votes:
        return pd.DataFrame(columns=columns)
    chosen = np.select(
        [votes["choice"] == "left", votes["choice"] == "right"],
        [votes["left_image_id"].astype(object), votes["right_image_id"].astype(object)],
        "tie",
    )
    answers = pd.Series(chosen, index=votes["trial_id"])
    again = votes[votes["repeat_of"].notna() & votes["repeat_of"].isin(answers.index)]
    frame = pd.DataFrame(
        {
            "trial_id": again["trial_id"].to_numpy(),
            "participant": again["participant_id"].to_numpy(),
            "first": answers.loc[again["repeat_of"]].to_numpy(),
            "again": answers.loc[again["trial_id"]].to_numpy(),
        }
    )
    return frame.assign(same=frame["first"] == frame["again"])[columns]
