"""What an evaluation shows, in plain sentences: is personal taste visible in these ratings, and how sure is that?

The claim is fixed beforehand: the personal model against the population head, accuracy at the user level, each split a
test, Holm over the splits. Where several images share a prompt the interval is that of users and prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

PERSONAL, CROWD = "eb_slopes", "population"
SPLITS = {"seen": "known people, new images", "unseen": "new people after a few ratings, new images"}


@dataclass(frozen=True)
class Verdict:
    """One split's answer.

    Attributes
    ----------
    split : str
    shown : bool
        Whether the personal model is better, with `p_holm` below one minus the confidence.
    worse : bool
        Whether the whole interval lies below 0.
    estimate, ci_low, ci_high, p_holm : float
    text : str
        The sentence.
    """

    split: str
    shown: bool
    worse: bool
    estimate: float
    ci_low: float
    ci_high: float
    p_holm: float
    text: str


def verdicts(
    differences: pd.DataFrame, confidence: float, *, personal: str = PERSONAL, crowd: str = CROWD
) -> tuple[Verdict, ...]:
    """The planned comparison in every split; empty where one of the two models was not evaluated.

    Parameters
    ----------
    differences : DataFrame
        As `beholder.taste.report.EvaluationTables.differences`.
    confidence : float
    personal, crowd : str
        Model ids.
    """
    from analysis.accuracy import holm

    mine = (differences["a"] == personal) & (differences["b"] == crowd) & (differences["level"] == "user")
    rows = differences[mine].to_dict("records")
    adjusted = holm([float(row["prompt_p"]) for row in rows])
    found = []
    for row, p in zip(rows, adjusted, strict=True):
        low, high = float(row["prompt_ci_low"]), float(row["prompt_ci_high"])
        estimate, shown = float(row["estimate"]), bool(p < 1 - confidence and row["estimate"] > 0)
        head = f"{row['split']} ({SPLITS.get(row['split'], row['split'])}): "
        tail = (
            f"{personal} orders {_points(estimate)} percentage points of pairs more right than {crowd} "
            f"({100 * confidence:g} % CI {_points(low)} to {_points(high)}; {_p(p)}; {row['n_users']} people)."
        )
        if shown:
            text = f"{head}personal taste is shown. {tail}"
        elif high < 0:
            text = f"{head}the personal model is WORSE than the population head. {tail}"
        else:
            text = (
                f"{head}personalisation is NOT shown. {tail} These data cannot tell a gain of up to {_points(high)} "
                "points from none."
            )
        found.append(Verdict(str(row["split"]), shown, high < 0, estimate, low, high, p, text))
    return tuple(found)


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
        found.append(f"Noise ceiling: a model that knew everybody's taste would order {100 * ceiling:.1f} % right.")
    return tuple(found)


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
    return f"{100 * value:+.1f}"


def _p(p: float) -> str:
    return "Holm p < .001" if p < 0.001 else f"Holm p = {p:.3f}"
