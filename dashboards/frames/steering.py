"""What the search found for whom: pictures side by side, what rounds and held-out seeds gained, how its owner voted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.clusters import cluster_mean, integer_codes, t_quantile
from analysis.errors import EstimateError
from frames.study import focal_votes, main_votes
from words import CONDITIONS

SEARCH = ["condition", "user_id", "prompt_id", "run"]
"""Columns that name a search; `user_id` is missing where the search is for everybody."""


@dataclass(frozen=True)
class Shown:
    """One picture of a comparison: whose condition it is, the words it was made from, where it lies."""

    condition: str
    prompt: str
    path: str
    image_id: str


def people(images: pd.DataFrame) -> list[str]:
    """People for whom pictures were made."""
    return sorted(str(name) for name in images["source_user"].dropna().unique())


def prompts_of(images: pd.DataFrame) -> dict[str, str]:
    """Id and text of the prompts that searches began with."""
    bases = images.drop_duplicates("prompt_id").set_index("prompt_id")["base"]
    return {str(name): str(text) for name, text in bases.sort_values().items()}


def most_telling(images: pd.DataFrame) -> str:
    """The prompt for which people's own pictures differ most often; of equals the first."""
    own = images[images["condition"] == "own"]
    different = own.groupby("prompt_id", sort=True)["image_id"].nunique()
    return str(different.index[int(different.to_numpy().argmax())])


def with_another_picture(images: pd.DataFrame, person: str, prompt_id: str, others: list[str]) -> str:
    """The first of the others whose own picture is not the person's; the first where all are the same."""
    own = images[(images["condition"] == "own") & (images["prompt_id"] == prompt_id)].set_index("source_user")[
        "image_id"
    ]
    mine = own.get(person)
    return next((name for name in others if own.get(name) != mine), others[0])


def side_by_side(images: pd.DataFrame, person: str, other: str, prompt_id: str) -> list[Shown]:
    """The person's own picture, another's, and those for everybody, in the order of `CONDITIONS`.

    Conditions without a picture for this prompt are left out.
    """
    here = images[images["prompt_id"] == prompt_id]
    found = []
    for condition in CONDITIONS:
        whose = {"own": person, "other": other}.get(condition)
        rows = here[here["condition"] == ("own" if whose else condition)]
        if whose:
            rows = rows[rows["source_user"] == whose]
        found += [_shown(condition, row) for _, row in rows.head(1).iterrows()]
    return found


def own_runs(steered: pd.DataFrame, person: str, prompt_id: str) -> dict[int, Shown]:
    """A person's own picture of a prompt in every independent run."""
    rows = steered[(steered["user_id"] == person) & (steered["prompt_id"] == prompt_id)]
    rows = rows[rows["condition"] == "own"] if "condition" in rows else rows
    return {int(row["run"]): _shown("own", row) for _, row in rows.sort_values("run").iterrows()}


def _shown(condition: str, row: pd.Series) -> Shown:
    return Shown(condition, str(row["prompt"]), str(row["path"]), str(row["image_id"]))


def votes_on(votes: pd.DataFrame, person: str, other: str, prompt_id: str) -> dict[str, str]:
    """How the person voted on this prompt, by the condition that own was shown against: "own", "that" or "tie".

    A vote against somebody else's picture counts only where that somebody is `other`.
    """
    used = main_votes(votes)
    used = used[(used["participant_id"] == person) & (used["prompt_id"] == prompt_id)]
    for side in ("left", "right"):
        strangers = (used[f"{side}_condition"] == "other") & (used[f"{side}_source_user"] != other)
        used = used[~strangers]
    mine = focal_votes(used, "own")
    answers = mine["win"].map({1.0: "own", 0.5: "tie", 0.0: "that"})
    return dict(zip(mine["against"].astype(str), answers, strict=True))


def expected(rewards: pd.DataFrame, person: str, other: str, prompt_id: str, run: int) -> dict[str, float]:
    """What the person's model expects of each condition's picture beyond the bare prompt's, in ticks."""
    here = rewards[(rewards["judge_user"] == person) & (rewards["prompt_id"] == prompt_id) & (rewards["run"] == run)]
    found = {}
    for condition, user, gain in zip(here["condition"], here["user_id"], here["gain"], strict=True):
        if condition != "own":
            found[str(condition)] = float(gain)
        elif user in (person, other):
            found["own" if user == person else "other"] = float(gain)
    return found


def heldout(gains: pd.DataFrame, rewards: pd.DataFrame) -> pd.DataFrame:
    """What people's models expect at seeds that no search has seen, in ticks, for new people and new prompts.

    Returns
    -------
    DataFrame
        label, estimate, ci_low, ci_high (NaN with a `reason`), n_searches, n_participants, n_prompts: the own prompt
        over the bare one, and the own prompt over those that searches for the others ended with.
    """
    mine = gains[gains["condition"] == "own"]
    own = rewards[rewards["condition"] == "own"]
    is_mine = own["user_id"] == own["judge_user"]
    cell = ["judge_user", "prompt_id", "run"]
    others = own[~is_mine].groupby(cell)["gain"].mean().rename("others")
    gap = own[is_mine].join(others, on=cell).dropna(subset=["others"])
    return pd.DataFrame(
        [
            _mean("own prompt over the bare one", mine["gain"], mine["user_id"], mine["prompt_id"]),
            _mean("own prompt over others' own", gap["gain"] - gap["others"], gap["user_id"], gap["prompt_id"]),
        ]
    )


def _mean(
    label: str, values: pd.Series, users: pd.Series, prompts: pd.Series, confidence: float = 0.95
) -> dict[str, object]:
    row: dict[str, object] = {"label": label, "estimate": values.mean(), "ci_low": np.nan, "ci_high": np.nan}
    row |= {"n_searches": len(values), "n_participants": users.nunique(), "n_prompts": prompts.nunique()}
    try:
        mean = cluster_mean(np.array(values, dtype=float), integer_codes(users)[0], integer_codes(prompts)[0])
    except EstimateError as error:
        return row | {"reason": str(error)}
    half = t_quantile(0.5 + confidence / 2, mean.df) * mean.se
    return row | {"ci_low": mean.estimate - half, "ci_high": mean.estimate + half, "reason": None}


def promised(gains: pd.DataFrame) -> pd.DataFrame:
    """What searches promised and what held, by condition: condition, promised, held, optimism (means), searches.

    In the units of each condition's own judge; promised is the score of the last round less that of the bare prompt at
    held-out seeds.
    """
    frame = gains.assign(promised=gains["search_score"] - gains["base_score"])
    groups = frame.groupby("condition")
    table = groups.agg(
        promised=("promised", "mean"), held=("gain", "mean"), optimism=("optimism", "mean"), searches=("gain", "size")
    )
    return table.reindex([c for c in CONDITIONS if c in table.index]).reset_index()


def gains(trace: pd.DataFrame) -> pd.DataFrame:
    """What each round of each search gained: the kept score less that of the prompt the round began with.

    Both are scored on the same seeds of that round, which are fresh, so a lucky picture is not carried along. Still the
    kept one is the best of several: part of the gain is luck that does not come back.

    Returns
    -------
    DataFrame
        condition, user_id ("" for everybody), prompt_id, run, round, gain.
    """
    keys = [*SEARCH, "round"]
    named = trace.assign(user_id=trace["user_id"].fillna(""))
    before = named.drop_duplicates(keys)[[*keys, "score"]].rename(columns={"score": "before"})
    both = named[named["kept"]].merge(before, on=keys, validate="one_to_one")
    return both.assign(gain=both["score"] - both["before"])[[*keys, "gain"]]


def gain_by_round(rows: pd.DataFrame) -> pd.DataFrame:
    """`gains` over searches: condition, round, gain (mean), low, high (quartiles), searches."""
    groups = rows.groupby(["condition", "round"])["gain"]
    ends = {"low": groups.quantile(0.25), "high": groups.quantile(0.75)}
    frame = pd.DataFrame({"gain": groups.mean(), **ends, "searches": groups.size()}).reset_index()
    order = {name: k for k, name in enumerate(CONDITIONS)}
    rank = frame["condition"].map(lambda name: order.get(name, len(order)))
    return frame.loc[rank.sort_values(kind="stable").index].reset_index(drop=True)


def one_search(trace: pd.DataFrame, person: str, prompt_id: str, run: int) -> pd.DataFrame:
    """All candidates of a person's search: round, prompt, score, kept; those that could not be drawn are left out."""
    rows = trace[(trace["user_id"] == person) & (trace["prompt_id"] == prompt_id) & (trace["run"] == run)]
    return rows.dropna(subset=["score"])[["round", "prompt", "score", "kept"]]
