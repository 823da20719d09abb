"""Trials of one comparison as arrays, and the clusters that its design asks for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr

from analysis.clusters import (
    LARGEST_SHARE_OF_A_SOURCE,
    ClusterMean,
    Floats,
    Ints,
    cluster_mean,
    integer_codes,
    largest_source_share,
    three_way_mean,
)
from analysis.errors import EstimateError
from analysis.results import FEWEST_FOR_NEW, Drawn, Estimand, Exclusions, Population, percent

if TYPE_CHECKING:
    import pandas as pd

LARGE_SHARE = 0.2
"""A participant or prompt with more than this share of the trials is named in a warning."""

FEWEST_SOURCES = 10
"""Source users below which clusters of people and prompts are not trusted without a word, however balanced."""

LOGIT_BELOW, LOGIT_ABOVE = 0.1, 0.9
"""Outside these shares the interval is built on the logit."""


@dataclass(frozen=True)
class FocalTrials:
    """Trials of one comparison as arrays.

    Attributes
    ----------
    y : float array (n,)
        1 where the focal condition was chosen, 0 where the other, one half for a tie.
    rows : int array (n,)
        Positions of the trials in the votes table.
    people, items : int array (n,)
        Participant and prompt codes, 0 … G-1.
    focal_left : bool array (n,)
        Whether the focal image stood on the left.
    sources, raters : int array (n,) or None
        Codes, in one list of persons, of the other person for whom an image was made and of the participant;
        None where no image was made for another person.
    all_sourced : bool
        Whether every trial has such a source.
    exclusions : Exclusions
    """

    y: Floats
    rows: Ints
    people: Ints
    items: Ints
    focal_left: np.ndarray
    sources: Ints | None
    raters: Ints | None
    all_sourced: bool
    exclusions: Exclusions


def conditions_in(votes: pd.DataFrame) -> list[str]:
    """Every condition that a table of votes names."""
    import pandas as pd

    return sorted({*pd.unique(votes["left_condition"]), *pd.unique(votes["right_condition"])})


def focal_trials(votes: pd.DataFrame, focal: str, against: str | None = None) -> FocalTrials:
    """Select main trials that compare `focal` with `against` (or with anything else) and code them.

    `votes` has passed `check_votes`. Raises `EstimateError` for a condition that is not there or without trials.
    """
    known = conditions_in(votes)
    for name in (focal, against):
        if name is not None and name not in known:
            raise EstimateError(f"no condition {name!r} in the votes", ", ".join(known), "name one of these")
    if focal == against:
        raise EstimateError(f"{focal!r} against itself", "two different conditions")
    main = (votes["kind"] == "main").to_numpy() if "kind" in votes else np.ones(len(votes), dtype=bool)
    left, right = ((votes[f"{side}_condition"] == focal).to_numpy() for side in ("left", "right"))
    compared = left ^ right
    if against is not None:
        compared &= np.where(left, votes["right_condition"] == against, votes["left_condition"] == against)
    rows = np.flatnonzero(main & compared)
    if not len(rows):
        versus = against or "another condition"
        raise EstimateError(f"no main trial compares {focal!r} with {versus!r}", "at least 2 participants and prompts")
    reasons = [("kind is not main", int((~main).sum())), ("another comparison", int((main & ~compared).sum()))]
    used = votes.iloc[rows]
    choice = used["choice"].to_numpy()
    focal_left = left[rows]
    y = np.where(choice == "tie", 0.5, ((choice == "left") == focal_left).astype(float))
    sources, raters, all_sourced = _foreign_sources(used, focal_left)
    return FocalTrials(
        y=y,
        rows=rows,
        people=integer_codes(used["participant_id"])[0],
        items=integer_codes(used["prompt_id"])[0],
        focal_left=focal_left,
        sources=sources,
        raters=raters,
        all_sourced=all_sourced,
        exclusions=Exclusions(len(votes), len(rows), tuple(r for r in reasons if r[1]), "votes"),
    )


def _foreign_sources(used: pd.DataFrame, focal_left: np.ndarray) -> tuple[Ints | None, Ints | None, bool]:
    """The other person an image was made for: the opponent's source, or the focal one's where that is the foreigner."""
    import pandas as pd

    if "left_source_user" not in used or "right_source_user" not in used:
        return None, None, False
    sides = [used[f"{side}_source_user"].astype("str").to_numpy(dtype=object) for side in ("left", "right")]
    empty = [used[f"{side}_source_user"].isna().to_numpy() for side in ("left", "right")]
    rater = used["participant_id"].astype("str").to_numpy(dtype=object)
    opponent, focal = (np.where(focal_left == flag, sides[1], sides[0]) for flag in (True, False))
    no_opponent, no_focal = (np.where(focal_left == flag, empty[1], empty[0]) for flag in (True, False))
    from_opponent = ~no_opponent & (opponent != rater)
    from_focal = ~from_opponent & ~no_focal & (focal != rater)
    if not (from_opponent | from_focal).any():
        return None, None, False
    # a trial without a foreign source shares none: it stays with its own participant
    source = np.where(from_opponent, opponent, np.where(from_focal, focal, rater))
    codes, _ = pd.factorize(np.concatenate([rater, source]))
    codes = codes.astype(np.int64)
    return codes[len(rater) :], codes[: len(rater)], bool((from_opponent | from_focal).all())


def needs_source_clusters(trials: FocalTrials, population: Population) -> tuple[bool, tuple[str, ...]]:
    """Whether source users must be clusters of their own, and what the reader must be told.

    They must when one of them supplies more than twice an equal share 1/U of the trials of U people: clusters of people
    and prompts alone then reject true hypotheses in up to a fifth of studies. With balanced opponents those two are
    conservative, and the dyadic test is the sharper one beside them.
    """
    if trials.sources is None or trials.raters is None or population.people == "these":
        return False, ()
    foreign = trials.sources[trials.sources != trials.raters]
    n_sources = len(np.unique(foreign))
    share = largest_source_share(foreign, int(trials.people.max()) + 1) * len(foreign) / len(trials.people)
    if share > LARGEST_SHARE_OF_A_SOURCE:
        warning = (
            f"one source user supplies {share:.1f} times an equal share of the trials, so source users are "
            "clusters of their own; balance the opponents in the next study"
        )
        return True, (warning,)
    if n_sources < FEWEST_SOURCES:
        return False, (
            f"only {n_sources} source users: the result leans on their images; use {FEWEST_SOURCES} or more",
        )
    return False, ()


def clustered(trials: FocalTrials, population: Population) -> tuple[ClusterMean, tuple[str, ...]]:
    """Mean of `trials.y` with the clusters the design asks for, and what the reader must be told about them."""
    people, items = trials.people, trials.items
    with_sources, told = needs_source_clusters(trials, population)
    warnings = list(told)
    if with_sources and trials.sources is not None:
        source_codes = integer_codes(trials.sources)[0]
        if population.items == "new":
            mean = three_way_mean(trials.y, people, items, source_codes)
        else:
            mean = cluster_mean(trials.y, people, source_codes)
    else:
        mean = cluster_mean(trials.y, people, items, population)
    for name, codes in (("participant", people), ("prompt", items)):
        largest = np.bincount(codes).max() / len(codes)
        if largest > LARGE_SHARE and int(codes.max()) + 1 >= FEWEST_FOR_NEW:
            warnings.append(f"one {name} supplies {percent(largest)} of the votes: the interval leans on few {name}s")
    return mean, tuple(warnings)


def estimand_for(
    quantity: str, population: Population, n_people: int, n_items: int
) -> tuple[Estimand, tuple[str, ...]]:
    """The estimand; `new` becomes `these` where fewer than six clusters were seen, and a warning says so."""
    drawn: list[Drawn] = []
    warnings = []
    for asked, count, name in (
        (population.people, n_people, "participants"),
        (population.items, n_items, "prompts"),
    ):
        few = asked == "new" and count < FEWEST_FOR_NEW
        drawn.append("these" if few else asked)
        if few:
            noun = "people" if name == "participants" else name
            warnings.append(
                f"only {count} {name}: read the result for these {noun}; {FEWEST_FOR_NEW} or more are needed to speak "
                "for new ones"
            )
    return Estimand(quantity, *drawn), tuple(warnings)


def naive_test(y: Floats, estimate: float) -> tuple[float, float]:
    """SE and p of one half if votes were independent: shown beside the right test, never instead of it."""
    se = math.sqrt(float(np.mean((y - estimate) ** 2)) / len(y))
    return se, 2 * float(ndtr(-abs(estimate - 0.5) / se))


def rate_interval(mean: ClusterMean, quantile: float) -> tuple[float, float]:
    """Interval of a share at `quantile` standard errors.

    On the logit when the share lies outside .1 … .9, or when the plain interval would leave 0 … 1.
    """
    w, half = mean.estimate, quantile * mean.se
    if LOGIT_BELOW <= w <= LOGIT_ABOVE and half <= min(w, 1 - w):
        return w - half, w + half
    centre, half = math.log(w / (1 - w)), half / (w * (1 - w))
    low, high = (1 / (1 + math.exp(-(centre + sign * half))) for sign in (-1, 1))
    return low, high
