"""What a study looked like: how many people, prompts and votes, and which conditions met how often."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.trials import conditions_in

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class PairCount:
    """Main votes on one pair of conditions; `first_left` of them showed the first on the left."""

    first: str
    second: str
    n_votes: int
    n_ties: int
    first_left: int
    n_participants: int
    n_prompts: int


@dataclass(frozen=True)
class Design:
    """Counts of a study.

    Attributes
    ----------
    counts : tuple of (str, float)
        What is counted, and how many; in reading order.
    conditions : tuple of str
    pairs : tuple of PairCount
        Unordered pairs of conditions, alphabetically.
    """

    counts: tuple[tuple[str, float], ...]
    conditions: tuple[str, ...]
    pairs: tuple[PairCount, ...]


def main_votes(votes: pd.DataFrame) -> pd.DataFrame:
    """Votes of kind `main`; all where the table has no kinds."""
    return votes[votes["kind"] == "main"] if "kind" in votes else votes


def design_of(tables: Mapping[str, pd.DataFrame]) -> Design:
    """Count what the tables hold; tables that are missing count nothing."""
    counts: list[tuple[str, float]] = []
    conditions: tuple[str, ...] = ()
    pairs: tuple[PairCount, ...] = ()
    if "votes" in tables:
        votes = tables["votes"]
        main = main_votes(votes)
        each = main["participant_id"].value_counts()
        counts += [
            ("participants", main["participant_id"].nunique()),
            ("prompts", main["prompt_id"].nunique()),
            ("main votes", len(main)),
            ("ties among them", int((main["choice"] == "tie").sum())),
            ("main votes of a participant, median", float(each.median()) if len(each) else 0.0),
        ]
        if "kind" in votes:
            others = votes["kind"].astype("str").value_counts()
            counts += [(f"{kind} votes", int(n)) for kind, n in sorted(others.items()) if kind != "main" and n]
        alike = repeats_alike(votes)
        if alike is not None:
            counts.append((f"repeated trials answered as before (of {alike[1]})", alike[0]))
        conditions, pairs = tuple(conditions_in(votes)), _pairs(main)
    if "ratings" in tables:
        ratings = tables["ratings"]
        counts += [
            ("ratings", len(ratings)),
            ("raters", ratings["user_id"].nunique()),
            ("rated images", ratings["image_id"].nunique()),
        ]
    if "steered" in tables:
        steered = tables["steered"]
        counts += [
            ("steered images", len(steered)),
            ("users steered for", steered["user_id"].nunique()),
            ("runs of the search", steered["run"].nunique()),
        ]
    return Design(tuple((what, n) for what, n in counts), conditions, pairs)


def _pairs(main: pd.DataFrame) -> tuple[PairCount, ...]:
    import pandas as pd

    left, right = (main[f"{side}_condition"].astype("str").to_numpy(dtype=object) for side in ("left", "right"))
    if not len(main):
        return ()
    table = pd.DataFrame(
        {
            "first": np.minimum(left, right),
            "second": np.maximum(left, right),
            "first_left": left <= right,
            "tie": (main["choice"] == "tie").to_numpy(),
            "person": main["participant_id"].astype("str").to_numpy(dtype=object),
            "prompt": main["prompt_id"].astype("str").to_numpy(dtype=object),
        }
    )
    return tuple(
        PairCount(
            str(first),
            str(second),
            n_votes=len(pair),
            n_ties=int(pair["tie"].sum()),
            first_left=int(pair["first_left"].sum()),
            n_participants=int(pair["person"].nunique()),
            n_prompts=int(pair["prompt"].nunique()),
        )
        for (first, second), pair in table.groupby(["first", "second"], sort=True)
    )


def repeats_alike(votes: pd.DataFrame) -> tuple[int, int] | None:
    """Repeated trials answered as the first time (same condition, or tie again), and how many there are; None if none.

    Sides of a repeat are swapped, so conditions are compared, not sides.
    """
    if not {"kind", "repeat_of", "trial_id"} <= set(votes.columns):
        return None
    again = votes[votes["kind"] == "repeat"]
    chosen = np.where(
        votes["choice"] == "tie",
        "tie",
        np.where(
            votes["choice"] == "left", votes["left_condition"].astype("str"), votes["right_condition"].astype("str")
        ),
    )
    first = dict(zip(votes["trial_id"].astype("str"), chosen, strict=True))
    main_ids = set(main_votes(votes)["trial_id"].astype("str"))
    pairs = [
        (first[str(of)], first[str(own)])
        for of, own in zip(again["repeat_of"], again["trial_id"], strict=True)
        if str(of) in main_ids
    ]
    return (sum(a == b for a, b in pairs), len(pairs)) if pairs else None
