"""What the search found for whom: pictures side by side, gains by round, and how its owner voted."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from frames.study import focal_votes, main_votes
from words import CONDITIONS

EVERYBODY = ("population", "statistics")
"""Judges that are no person."""


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


def prompts_of(images: pd.DataFrame, prompts: pd.DataFrame) -> dict[str, str]:
    """Id and text of the prompts that were steered."""
    texts = dict(zip(prompts["prompt_id"], prompts["prompt"], strict=True))
    return {name: texts.get(name, name) for name in sorted(images["prompt_id"].unique())}


def runs_of(images: pd.DataFrame, person: str) -> list[int]:
    """Independent searches that were made for a person."""
    own = images[images["source_user"] == person]
    return sorted(int(run) for run in own["run"].dropna().unique()) if "run" in own else []


def side_by_side(images: pd.DataFrame, person: str, other: str, prompt_id: str, run: int | None) -> list[Shown]:
    """The person's own picture, another's, and those for everybody, in the order of `CONDITIONS`.

    Conditions without a picture for this prompt are left out. Pictures for everybody that were made in one run only
    are shown beside any run.
    """
    here = images[images["prompt_id"] == prompt_id]
    found = []
    for condition in CONDITIONS:
        whose = {"own": person, "other": other}.get(condition)
        rows = here[here["condition"] == ("own" if whose else condition)]
        if whose:
            rows = rows[rows["source_user"] == whose]
        if run is not None and "run" in rows and (rows["run"] == run).any():
            rows = rows[rows["run"] == run]
        for row in rows.head(1).itertuples():
            found.append(Shown(condition, str(row.prompt), str(row.path), str(row.image_id)))
    return found


def votes_on(votes: pd.DataFrame, person: str, prompt_id: str) -> dict[str, str]:
    """How the person voted on this prompt, by the condition that own was shown against: "own", "that" or "tie"."""
    used = main_votes(votes)
    mine = focal_votes(used[(used["participant_id"] == person) & (used["prompt_id"] == prompt_id)], "own")
    answers = mine["win"].map({1.0: "own", 0.5: "tie", 0.0: "that"})
    return dict(zip(mine["against"].astype(str), answers, strict=True))


def judges_of(trace: pd.DataFrame) -> dict[str, str]:
    """Judges in the trace and what they are: people as "own models", the others by name."""
    return {str(name): str(name) if name in EVERYBODY else "own" for name in trace["judge"].unique()}


def gains(trace: pd.DataFrame) -> pd.DataFrame:
    """What each round of each search gained: the kept score less that of the prompt the round started from.

    Both are scored on the same seeds of that round, which are fresh, so a lucky picture is not carried along. Still the
    kept one is the best of several: part of the gain is luck that does not come back.

    Returns
    -------
    DataFrame
        judge, kind (own, or the judge's name), prompt_id, run, round, gain.
    """
    keys = ["judge", "prompt_id", "run", "round"]
    incumbent = trace.drop_duplicates(keys)[[*keys, "score"]].rename(columns={"score": "before"})
    kept = trace[trace["kept"]][[*keys, "score"]]
    both = kept.merge(incumbent, on=keys)
    kinds = judges_of(trace)
    return both.assign(gain=both["score"] - both["before"], kind=[kinds[str(name)] for name in both["judge"]])[
        ["judge", "kind", *keys[1:], "gain"]
    ]


def gain_by_round(rows: pd.DataFrame) -> pd.DataFrame:
    """`gains` over searches: kind, round (from 1), gain (mean), low, high (quartiles), searches."""
    groups = rows.groupby(["kind", "round"])["gain"]
    ends = {"low": groups.quantile(0.25), "high": groups.quantile(0.75)}
    frame = pd.DataFrame({"gain": groups.mean(), **ends, "searches": groups.size()})
    frame = frame.reset_index()
    return frame.assign(round=frame["round"] - frame["round"].min() + 1)


def one_search(trace: pd.DataFrame, judge: str, prompt_id: str, run: int) -> pd.DataFrame:
    """All candidates of one search: round (from 1), prompt, score, kept."""
    rows = trace[(trace["judge"] == judge) & (trace["prompt_id"] == prompt_id) & (trace["run"] == run)]
    return rows.assign(round=rows["round"] - trace["round"].min() + 1)[["round", "prompt", "score", "kept"]]
