"""What an evaluation shows, in plain sentences: is personal taste visible in these ratings, and how sure is that?

The claim is fixed beforehand: the personal model beats both the population head and its own idea of the mean person,
in accuracy at the user level. Against the head alone a better estimate of shared taste would pass for personal
knowledge; against its own mean person alone, a poor estimate of shared taste would. The larger of the two p values
counts (an intersection-union test: Berger 1982, doi:10.1080/00401706.1982.10487790), then Holm over the splits. The
intervals are those of users and prompts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

PERSONAL = "eb_slopes"
CROWDS = {"population": "the population head", "eb_population": "the same model's mean person"}
SPLITS = {"seen": "known people, new images", "unseen": "new people after a few ratings, new images"}


@dataclass(frozen=True)
class Gain:
    """Accuracy of the personal model less that of a model that knows no persons, with the interval by prompt."""

    over: str
    estimate: float
    ci_low: float
    ci_high: float
    p: float


@dataclass(frozen=True)
class Verdict:
    """One split's answer.

    Attributes
    ----------
    split : str
    shown : bool
        Whether the personal model is better than all of `CROWDS`, with `p_holm` below one minus the confidence.
    worse : bool
        Whether a whole interval lies below 0.
    gains : tuple of Gain
    p_holm : float
    text : str
        In words.
    """

    split: str
    shown: bool
    worse: bool
    gains: tuple[Gain, ...]
    p_holm: float
    text: str


def verdicts(differences: pd.DataFrame, confidence: float) -> tuple[Verdict, ...]:
    """The planned comparison in every split; empty where the models it needs were not evaluated.

    Parameters
    ----------
    differences : DataFrame
        As `beholder.taste.report.EvaluationTables.differences`.
    confidence : float
    """
    from analysis.accuracy import holm

    mine = differences[(differences["a"] == PERSONAL) & (differences["level"] == "user")]
    found: dict[str, tuple[tuple[Gain, ...], int]] = {}
    for split in mine["split"].unique():
        rows = mine[mine["split"] == split].set_index("b")
        if set(CROWDS) <= set(rows.index):
            gains = tuple(_gain(crowd, rows.loc[crowd].to_dict()) for crowd in CROWDS)
            found[str(split)] = gains, int(rows.loc[list(CROWDS), "n_users"].min())
    joint = [max(_one_p(g) for g in gains) for gains, _ in found.values()]
    adjusted = holm(joint)
    return tuple(
        _verdict(split, gains, n_users, p, confidence)
        for (split, (gains, n_users)), p in zip(found.items(), adjusted, strict=True)
    )


def _gain(crowd: str, row: dict[Any, Any]) -> Gain:
    numbers = (float(row[name]) for name in ("estimate", "prompt_ci_low", "prompt_ci_high", "prompt_p"))
    return Gain(crowd, *numbers)


def _one_p(gain: Gain) -> float:
    """The p value, 1 for a loss or where the models do not differ at all."""
    return gain.p if gain.estimate > 0 and not math.isnan(gain.p) else 1.0


def _verdict(split: str, gains: tuple[Gain, ...], n_users: int, p: float, confidence: float) -> Verdict:
    shown, worse = p < 1 - confidence, any(g.ci_high < 0 for g in gains)
    level = f"{100 * confidence:g} % CI"
    each = " and by ".join(
        f"{_points(g.estimate)} points than {CROWDS[g.over]} ({level} {_points(g.ci_low)} to {_points(g.ci_high)})"
        for g in gains
    )
    facts = f"For {n_users} people, the share of pairs that {PERSONAL} orders right is larger by {each}; {_p(p)}."
    if shown:
        answer = "personal taste is shown."
    elif worse:
        answer = "the personal model is WORSE than one that knows no persons."
    else:
        largest = max((g.ci_high for g in gains if not math.isnan(g.ci_high)), default=math.nan)
        facts += f" A gain of up to {_points(largest)} points cannot be told from none here."
        answer = "personalisation is NOT shown."
    text = f"{split} ({SPLITS.get(split, split)}): {answer} {facts}"
    return Verdict(split, shown, worse and not shown, gains, p, text)


def identity_sentences(disagreement: pd.DataFrame, confidence: float) -> tuple[str, ...]:
    """What the personal model knows where two people disagree: a narrower question than the verdict's.

    The permutation of identities speaks of these people and these images, not of new prompts: it may find personal
    knowledge that is too little, or too bound to these prompts, to show in the share of all pairs.
    """
    rows = disagreement[(disagreement["model"] == PERSONAL) & (disagreement["margin"] == 0)]
    return tuple(
        f"{row['split']}: where two of these people disagree about two of these images, {PERSONAL} is right in "
        f"{100 * row['accuracy']:.1f} % ({100 * confidence:g} % CI {100 * row['ci_low']:.1f} to "
        f"{100 * row['ci_high']:.1f}; a model that knows no persons: 50), permutation of identities "
        + ("p < .001." if row["p_permutation"] < 0.001 else f"p = {row['p_permutation']:.3f}.")
        for row in rows.to_dict("records")
    )


def cautions(ratings: pd.DataFrame, ladder: pd.DataFrame) -> tuple[str, ...]:
    """What limits the numbers: how many people, prompts and answers there are, ties, repeats, what noise allows.

    Parameters
    ----------
    ratings : DataFrame
        Tidy, with `prompt_id` where it is known.
    ladder : DataFrame
        As `beholder.taste.report.EvaluationTables.ladder`.
    """
    n_users, n_images = ratings["user_id"].nunique(), ratings["image_id"].nunique()
    each = ratings.groupby("user_id").size()
    found = [
        f"{len(ratings)} ratings by {n_users} people of {n_images} images; ratings a person: {each.min()} to "
        f"{each.max()}, median {each.median():g}."
    ]
    if "prompt_id" in ratings.columns and ratings["prompt_id"].nunique() < n_images:
        n_prompts = ratings["prompt_id"].nunique()
        found.append(
            f"{n_prompts} prompts with {n_images / n_prompts:.1f} images each: new prompts are what is tested, so the "
            f"intervals of the verdict rest on {n_prompts} prompts, not on {n_images} images."
        )
    levels = ratings["score"].nunique()
    tied = tied_share(ratings)
    found.append(
        f"{levels} different answers; {100 * tied:.0f} % of a person's pairs are tied and left out. A difference of "
        "one step is often noise: look at the tie curve beside its constant-skill column."
    )
    own = ladder[ladder["level"] == "user"]
    if own["ceiling"].isna().all():
        reason = next(iter(own["ceiling_reason"].dropna()), "unknown")
        found.append(
            f"No noise ceiling ({reason}): private taste and noise cannot be told apart, and nobody knows how much of "
            "the distance to 100 % is noise."
        )
    else:
        ceiling = float(own["ceiling"].max())
        found.append(
            f"Noise ceiling: a model that knew everybody's taste would order {100 * ceiling:.1f} % right. Skill is the "
            "share of the way there from guessing."
        )
    return (*found, *_dishonest(own))


def _dishonest(own: pd.DataFrame) -> list[str]:
    """Models whose stated errors are too small or too large."""
    rows = own[own["sd_honest"] == "no"].to_dict("records")
    return [
        f"! {row['model']}, {row['split']}: errors are {'larger' if row['z_sd'] > 1 else 'smaller'} than it states "
        f"(SD of standardised errors {row['z_sd']:.2f}, {row['z_sd_low']:.2f} to {row['z_sd_high']:.2f}; "
        "honest: .9 to 1.1)."
        for row in rows
    ]


def tied_share(ratings: pd.DataFrame) -> float:
    """Mean over users of the share of their image pairs with equal ratings (first occasions)."""
    first = ratings.drop_duplicates(["user_id", "image_id"])
    shares = []
    for _, scores in first.groupby("user_id")["score"]:
        _, counts = np.unique(scores, return_counts=True)
        pairs = len(scores) * (len(scores) - 1) / 2
        if pairs:
            shares.append(float(np.sum(counts * (counts - 1)) / 2 / pairs))
    return float(np.mean(shares)) if shares else float("nan")


def _points(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:+.1f}"


def _p(p: float) -> str:
    return "p < .001 (Holm)" if p < 0.001 else f"p = {p:.3f} (Holm)"
