"""Participants of a running study in the order in which they were done, and what must hold before they are counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.clusters import LARGEST_SHARE_OF_A_SOURCE, Floats, Ints, largest_source_share
from analysis.errors import EstimateError, TableError
from analysis.trials import FocalTrials

if TYPE_CHECKING:
    import pandas as pd

LEAST_YOKED = 0.9
"""Share of trials, among those whose other person has voted, that this person must have judged too."""

LEAST_MIRRORED = 0.1
"""Share of all own-other trials that both persons must have judged before a look is possible."""

UNLIKELY = 0.001
"""A prompt list is called changed when a random one would look so with less than this probability."""


def last_vote(votes: pd.DataFrame, trials: FocalTrials, arrival: str | None) -> Floats:
    """When each participant's last vote came, shape (participants,), as any increasing number."""
    last = np.full(int(trials.people.max()) + 1, -np.inf)
    if arrival is None:
        np.maximum.at(last, trials.people, trials.rows)
        return last
    import pandas as pd

    if arrival not in votes:
        raise TableError(f"votes: no column {arrival!r} to order participants by", ", ".join(votes.columns))
    column = votes[arrival].iloc[trials.rows]
    if not pd.api.types.is_numeric_dtype(column):
        try:
            column = pd.to_datetime(column.astype("str"), utc=True, format="ISO8601")
        except ValueError as error:
            raise TableError(f"votes: {arrival}: {error}", "numbers or ISO 8601 times") from None
    if column.isna().any():
        raise TableError(f"votes: {int(column.isna().sum())} rows without {arrival}", "a time in every row")
    rank = np.unique(column.to_numpy(), return_inverse=True)[1].astype(np.float64)
    np.maximum.at(last, trials.people, rank)
    return last


def complete(trials: FocalTrials, last: Floats, votes_each: int | None) -> Ints:
    """Codes of complete participants in order of arrival."""
    order = np.argsort(last, kind="stable")
    if votes_each is None:
        return order.astype(np.int64)
    enough = np.bincount(trials.people)[order] >= votes_each
    if not enough.any():
        most = int(np.bincount(trials.people).max())
        raise EstimateError(
            f"no participant has {votes_each} votes in this comparison (most: {most})", "a number that people reach"
        )
    return order[enough].astype(np.int64)


def participant_names(votes: pd.DataFrame, trials: FocalTrials) -> np.ndarray:
    """Id of each participant code, shape (participants,)."""
    first = np.empty(int(trials.people.max()) + 1, dtype=np.int64)
    first[trials.people[::-1]] = trials.rows[::-1]
    return votes["participant_id"].iloc[first].astype("str").to_numpy(dtype=object)


def prompts_that_came_or_went(trials: FocalTrials, order: Ints) -> int:
    """Prompts all of whose participants lie in one half of the arrivals although they are too many for chance."""
    late = np.zeros(int(trials.people.max()) + 1, dtype=bool)
    late[order[len(order) // 2 :]] = True
    used = np.isin(trials.people, order)
    pairs = np.unique(np.stack([trials.items[used], trials.people[used]]), axis=1)
    n = np.bincount(pairs[0])
    n_late = np.bincount(pairs[0], late[pairs[1]])
    one_sided = ((n_late == 0) | (n_late == n)) & (n > 0)
    return int((one_sided & (2.0 * len(n) * 0.5**n < UNLIKELY)).sum())


def require_balanced_and_yoked(votes: pd.DataFrame, trials: FocalTrials) -> None:
    """Refuse own-other votes in which general quality of an image could pass for personal taste."""
    import pandas as pd

    if trials.sources is None or trials.raters is None:
        return
    foreign = trials.sources != trials.raters
    share = largest_source_share(trials.sources[foreign], int(trials.people.max()) + 1) * float(foreign.mean())
    if share > LARGEST_SHARE_OF_A_SOURCE:
        raise EstimateError(
            f"one person's images are the opponent {share:.1f} times as often as an equal share",
            f"at most {LARGEST_SHARE_OF_A_SOURCE:g} times",
            "wait until the study is over and use win-rates, which makes sources clusters of their own",
        )
    rater, source = trials.raters[foreign], trials.sources[foreign]
    table = pd.DataFrame({"low": np.minimum(rater, source), "high": np.maximum(rater, source), "rater": rater})
    table["prompt"] = trials.items[foreign]
    key = ["low", "high", "prompt"]
    if {"left_image_id", "right_image_id"} <= set(votes):
        used = votes.iloc[trials.rows[foreign]]
        sides = np.sort(used[["left_image_id", "right_image_id"]].astype("str").to_numpy(dtype=object), axis=1)
        table["first"], table["second"] = sides[:, 0], sides[:, 1]
        key += ["first", "second"]
    mirrored = (table.groupby(key)["rater"].transform("nunique") == 2).to_numpy()
    voted = np.isin(source, np.unique(rater))
    if mirrored.mean() < LEAST_MIRRORED or mirrored[voted].mean() < LEAST_YOKED:
        raise EstimateError(
            f"both persons have judged the same pair in {int(mirrored.sum())} of {len(mirrored)} own-other trials "
            f"({int(voted.sum())} of them with a person who has voted)",
            "yoked pairs: the two people whose images are shown both judge them",
            "wait for the partners' votes, or yoke the design and monitor other contrasts meanwhile",
        )
