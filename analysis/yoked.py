"""Personalisation effect from yoked pairs: the same two images, one made for each of two people, judged by both.

For people u and v and one prompt, both see the image made for u and the image made for v. The effect
P(u picks u's) + P(v picks v's) - 1 is 0 when one image is simply better: whoever gains by it, the other loses as much.
Each matched pair of votes gives one value; a person's values share the person whichever side he is on, so clusters are
dyadic (`analysis.clusters.dyadic_mean`) crossed with prompts.

Assumes that both people judged under the same conditions. Wrong when pairs were matched after the fact by outcome.
Dyadic clusters: Aronow, Samii & Assenova 2015, doi:10.1093/pan/mpv018.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.clusters import dyadic_mean, integer_codes
from analysis.errors import EstimateError
from analysis.results import Exclusions, Population, Provenance, Result, p_text
from analysis.tables import check_votes
from analysis.trials import estimand_for, focal_trials

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class YokedEffect(Result):
    """See `yoked_effect`; `estimate` runs from -1 to 1, 0 is no personal taste, `n_pairs` counts matched votes."""

    estimate: float
    ci_low: float
    ci_high: float
    se: float
    df: int
    t: float
    p: float
    n_pairs: int
    n_votes: int
    n_participants: int
    n_prompts: int
    confidence: float

    def summary(self) -> str:
        """One paragraph for a results section."""
        return (
            f"The personalisation effect over {self.n_pairs} yoked pairs of votes is {self.estimate:.3f} "
            f"({100 * self.confidence:g} % CI {self.ci_low:.3f} to {self.ci_high:.3f}; t({self.df}) = {self.t:.2f}, "
            f"{p_text(self.p)}; dyadic clusters of {self.n_participants} people and {self.n_prompts} prompts). "
            f"Estimand: {self.estimand.text}."
        )

    def to_frame(self) -> pd.DataFrame:
        """One row."""
        import pandas as pd

        names = ["estimate", "ci_low", "ci_high", "se", "df", "t", "p", "n_pairs", "n_participants", "n_prompts"]
        return pd.DataFrame([{name: getattr(self, name) for name in names}])


def yoked_effect(
    votes: pd.DataFrame,
    own: str = "own",
    other: str = "other",
    *,
    confidence: float = 0.95,
    provenance: Provenance | None = None,
) -> YokedEffect:
    """Personalisation effect P(u picks u's image) + P(v picks v's image) - 1.

    Parameters
    ----------
    votes : DataFrame
        With `left_source_user` and `right_source_user`; image ids, where given, must be those of the same two images.
    own, other : str
        Conditions of the image made for the participant himself and for somebody else.
    confidence : float
    provenance : Provenance, optional

    Raises
    ------
    EstimateError
        No source users, no matched pair, fewer than two people or prompts, values that do not vary.
    """
    import pandas as pd

    votes = check_votes(votes)
    trials = focal_trials(votes, own, other)
    if trials.sources is None or trials.raters is None:
        remedy = "export left_source_user and right_source_user"
        raise EstimateError("the votes name no source users", "the person each image was made for", remedy)
    used = votes.iloc[trials.rows]
    table = pd.DataFrame({"y": trials.y, "rater": trials.raters, "source": trials.sources, "prompt": trials.items})
    table["images"] = _image_pair(used)
    table["low"], table["high"] = table[["rater", "source"]].min(axis=1), table[["rater", "source"]].max(axis=1)
    table = table[table["rater"] != table["source"]]
    key = ["low", "high", "prompt", "images"]
    cells = table.groupby([*key, "rater"], sort=True)["y"].agg(["mean", "size"]).reset_index()
    matched = cells.groupby(key, sort=True).agg(raters=("rater", "size"), y=("mean", "sum"), n=("size", "sum"))
    matched = matched[matched["raters"] == 2].reset_index()
    if not len(matched):
        raise EstimateError("no pair of images was judged by both people it was made for", remedy="yoke the design")
    low, high = matched["low"].to_numpy(), matched["high"].to_numpy()
    persons, n_people = integer_codes(np.concatenate([low, high]))
    items, n_items = integer_codes(matched["prompt"])
    mean = dyadic_mean(matched["y"].to_numpy() - 1.0, persons[: len(low)], persons[len(low) :], items)
    t, p = mean.test(0)
    low_end, high_end = mean.interval(confidence)
    n_votes = int(matched["n"].sum())
    alone = len(trials.y) - n_votes
    earlier = trials.exclusions
    reasons = (("no vote of the other person on the same pair", alone),) if alone else ()
    quantity = "probability that u picks the image made for u plus probability that v picks v's, less one"
    estimand, warnings = estimand_for(quantity, Population(), n_people, n_items)
    return YokedEffect(
        estimand=estimand,
        exclusions=Exclusions(earlier.n_used, n_votes, reasons, "votes").after(earlier),
        warnings=warnings,
        provenance=provenance or Provenance.of({"votes": votes}),
        estimate=mean.estimate,
        ci_low=low_end,
        ci_high=high_end,
        se=mean.se,
        df=mean.df,
        t=t,
        p=p,
        n_pairs=len(matched),
        n_votes=n_votes,
        n_participants=n_people,
        n_prompts=n_items,
        confidence=confidence,
    )


def _image_pair(used: pd.DataFrame) -> np.ndarray:
    """The two image ids in sorted order as one text; empty when the table names no images."""
    if "left_image_id" not in used or "right_image_id" not in used:
        return np.full(len(used), "", dtype=object)
    pairs = zip(used["left_image_id"].astype("str"), used["right_image_id"].astype("str"), strict=True)
    return np.array(["\x1f".join(sorted(pair)) for pair in pairs], dtype=object)
